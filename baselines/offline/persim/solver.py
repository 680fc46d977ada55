"""PerSim: a simulator for each agent, learned from everybody's data, and planning in it.

Agarwal et al. 2021 (arXiv 2102.06961) and its code. One model of all agents (`model`) is fitted to
all trajectories; with an agent's factors folded in, it is this agent's simulator (`simulator`), and
the agent's policy plans in it at every step (`planning.planner`): every member of the ensemble
rolls each plan along a trajectory of its own.

Choices where paper and code leave one, or differ:
  - As in the code, u and w are linear layers with a bias, and a pass has a smaller last mini-batch.
  - Held-out agents get the factors that explain their own logged trajectory best, with a ridge
    (`agent_factors.fit_factors`); `--set heldout=parameters` is an oracle, which reads the factors
    off the hidden parameters by a regression over the agents in the data.
  - The reported factors are the ensemble's, put into comparable coordinates
    (`agent_factors.embed_agents`); the paper's figure shows one member's.

The step size is halved once in a run, as in the code, so the models end with some noise. Where
force and gravity nearly balance (MountainCar, agent 2) that costs returns; with
`--set halving_epochs=50` there is less of it. Measured on pure data, one seed, 200 plans, 5
episodes: -143 instead of -326 for that agent (-166 with the true dynamics), the others much the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.common.threads import one_thread
from baselines.offline.common.data import load_data
from baselines.offline.persim.ensembles import (
    Ensemble,
    EnsembleConfig,
    check_factored,
    fit_ensembles,
    predictor,
)
from baselines.offline.persim.model import model_settings
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.planning.planner import (
    PlannerConfig,
    PlannerPolicy,
    check_planner,
    make_policy,
    planner_settings,
)
from rmdp_bench.datasets import Episode
from rmdp_bench.offline import OfflineSolution
from rmdp_bench.results import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class Config(EnsembleConfig, PlannerConfig):
    """Settings of the model and of the planner."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        EnsembleConfig.__post_init__(self)
        PlannerConfig.__post_init__(self)


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**model_settings(task) | planner_settings(task))


def check(task: Task, config: Config) -> None:
    """Refuse tasks and data that this solver cannot learn from.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    check_factored(task, config)
    check_planner(task.env_id, config)


@one_thread()
def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Train the ensembles of all seeds as one batch.

    Returns:
        One solution for each seed: a planner for each test agent.
    """
    data = load_data(task, config.n_agents).to(device)
    ensembles = fit_ensembles(task, config, data, seeds, device, log)
    solutions = []
    for seed, ensemble in zip(seeds, ensembles, strict=True):
        simulators = ensemble.simulators()
        planners = Planners(task, config, seed, ensemble)
        agents = task.eval_agents or ()
        solutions.append(
            OfflineSolution(
                policies=planners.policies(simulators, agents),
                assignment=np.eye(len(agents)),
                adapt=planners.adapt,
                predict=predictor(simulators),
                factors=ensemble.factors(data),
            )
        )
    return solutions


@dataclass(frozen=True)
class Planners:
    """The policies of one seed, which plan in the simulators of its ensemble."""

    task: Task
    config: Config
    seed: int
    ensemble: Ensemble

    def policies(
        self, simulators: Sequence[PersonalSimulator], agents: Sequence[int]
    ) -> list[PlannerPolicy]:
        """A planner for each simulator; agents give their random numbers."""
        return [
            make_policy(self.task.env_id, simulator, self.config, seed=self.seed, agent=agent)
            for simulator, agent in zip(simulators, agents, strict=True)
        ]

    @one_thread()
    def adapt(self, episodes: Sequence[Episode]) -> Solution:
        """Planners for agents who are not in the data, from one episode of each."""
        numbers = range(self.task.n_agents, self.task.n_agents + len(episodes))
        simulators = self.ensemble.heldout_simulators(episodes)
        return Solution(self.policies(simulators, numbers), np.eye(len(episodes)))
