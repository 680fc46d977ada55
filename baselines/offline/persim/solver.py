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

from baselines.offline.common.training import TrainingStage
from baselines.offline.persim.ensembles import (
    EnsembleConfig,
    SimulatedAgents,
    check_factored,
    solve_in_simulators,
)
from baselines.offline.persim.model import model_settings
from baselines.offline.planning.planner import (
    PlannerConfig,
    PlannerPolicy,
    check_planner,
    make_policy,
    planner_settings,
)
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import OfflineTask, Task


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
    """Refuse tasks, data and sizes that this solver cannot use, by a ValueError."""
    check_factored(task, config)
    check_planner(task.env_id, config)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Train the ensembles of all seeds as one batch; a planner for each test agent of each seed."""

    def make_policies(agents: SimulatedAgents, log: RunLog | TrainingStage) -> list[PlannerPolicy]:
        return [
            make_policy(task.env_id, simulator, config, seed=seed, agent=agent)
            for simulator, (seed, agent) in zip(agents.simulators, agents.keys, strict=True)
        ]

    return solve_in_simulators(task, config, seeds, device, log, log, make_policies)
