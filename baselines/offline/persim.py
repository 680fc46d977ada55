"""PerSim: a simulator for each agent, learned from everybody's data, and planning in it.

Agarwal et al. 2021 (arXiv 2102.06961) and its code. One model of all agents (`factored`) is fitted
to all trajectories; with an agent's factors folded in, it is this agent's simulator (`simulators`),
and the agent's policy plans in it at every step (`planning`): every member of the ensemble rolls
each plan along a trajectory of its own.

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
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.offline.agent_factors import embed_agents, fit_factors, regress_factors
from baselines.offline.data import LoggedData, check_offline, load_data, to_tensors
from baselines.offline.dynamics import predict
from baselines.offline.factored import FactoredConfig, FactoredModel, model_settings
from baselines.offline.factored_training import Training, train
from baselines.offline.planning import (
    PlannerConfig,
    PlannerPolicy,
    make_policy,
    planner_settings,
)
from baselines.offline.simulators import PersonalSimulator
from baselines.offline.training import n_discrete_actions
from rmdp_bench import DynamicsPopulation, get_population
from rmdp_bench.datasets import Episode
from rmdp_bench.offline import OfflineSolution
from rmdp_bench.results import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class Config(FactoredConfig, PlannerConfig):
    """Settings of the model, of the planner, and of what is done for held-out agents."""

    heldout: Literal["trajectory", "parameters"] = "trajectory"
    """What the factors of agents who are not in the data follow from: their own logged trajectory,
    or (an oracle) their hidden parameters."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range.
        """
        FactoredConfig.__post_init__(self)
        PlannerConfig.__post_init__(self)


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**model_settings(task) | planner_settings(task))


def check(task: Task, config: Config) -> None:
    """Refuses tasks and data that this solver cannot learn from.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    check_offline(task, config)
    if n_discrete_actions(task) is not None and config.action_layers:
        raise ValueError(
            f"action_layers is {list(config.action_layers)}; expected [] for the discrete actions "
            f"of {task.env_id}"
        )


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Trains the ensembles of all seeds as one batch.

    Returns:
        One solution for each seed: a planner for each test agent.
    """
    if device == "cpu":
        torch.set_num_threads(1)  # members and plans are shared out over the cores instead
    data = load_data(task, config.n_agents).to(device)
    training = Training(config, data, n_discrete_actions(task), seeds, device)
    model = train(training, log).requires_grad_(False)
    return [
        Ensemble(task, config, seed, model, training.members(seed), training.losses).solution(data)
        for seed in seeds
    ]


class Ensemble:
    """The models of one seed, and the policies that plan with them."""

    def __init__(
        self,
        task: Task,
        config: Config,
        seed: int,
        model: FactoredModel,
        members: slice,
        losses: NDArray[np.float64],
    ) -> None:
        """Takes some members of a trained model, and the losses of all with which it ended."""
        self.task, self.config, self.seed = task, config, seed
        self.model, self.members, self.losses = model, members, losses

    def solution(self, data: LoggedData) -> OfflineSolution:
        """One planner for each test agent."""
        agents = list(self.task.eval_agents or ())
        simulators = self.simulators(self.model.agent_factors()[self.members, agents])
        return OfflineSolution(
            policies=self.policies(simulators, agents),
            assignment=np.eye(len(agents)),
            adapt=self.adapt,
            predict=lambda agent, observations, actions: predict(
                simulators[agent], observations, actions
            ),
            factors=embed_agents(self.model, self.members, data),
        )

    def simulators(self, factors: Tensor) -> list[PersonalSimulator]:
        """One for each of H agents with factors (m, H, r)."""
        return [PersonalSimulator(self.model, self.members, own) for own in factors.unbind(1)]

    def policies(
        self, simulators: Sequence[PersonalSimulator], agents: Sequence[int]
    ) -> list[PlannerPolicy]:
        """A planner for each simulator; agents give their random numbers."""
        return [
            make_policy(self.task.env_id, simulator, self.config, seed=self.seed, agent=agent)
            for simulator, agent in zip(simulators, agents, strict=True)
        ]

    def adapt(self, episodes: Sequence[Episode]) -> Solution:
        """Planners for agents who are not in the data, from one episode of each."""
        numbers = range(self.task.n_agents, self.task.n_agents + len(episodes))
        if self.config.heldout == "trajectory":
            data = to_tensors(episodes).to(str(self.model.scales["input_mean"].device))
            factors = fit_factors(self.model, self.members, self.losses, data)
        else:
            population = cast(DynamicsPopulation, get_population(self.task.env_id))
            wanted = [int(episode.metadata["agent"]) for episode in episodes]
            known = population.parameters[: self.config.n_agents]
            factors = regress_factors(
                self.model, self.members, known, population.parameters[wanted]
            )
        return Solution(self.policies(self.simulators(factors), numbers), np.eye(len(episodes)))
