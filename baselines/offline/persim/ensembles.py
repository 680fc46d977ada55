"""Ensembles of factored models, one for each seed, as every solver that has them uses them.

`fit_ensembles` trains those of all seeds as one batch. An ensemble gives the simulators of agents,
those in the data and held-out ones, and what is reported about it: predictions and factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from baselines.offline.common.data import LoggedData, check_offline, to_tensors
from baselines.offline.common.networks import take_members
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import TrainingStage, train
from baselines.offline.persim.agent_factors import embed_agents, fit_factors, regress_factors
from baselines.offline.persim.model import FactoredConfig, FactoredModel
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.persim.training import FactoredLearner
from baselines.offline.planning.dynamics import predict
from rmdp_bench import DynamicsPopulation, get_population
from rmdp_bench.datasets import Episode
from rmdp_bench.offline import OfflineSolution
from rmdp_bench.results import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class EnsembleConfig(FactoredConfig):
    """Settings of the model, and of what is done for held-out agents."""

    heldout: Literal["trajectory", "parameters"] = "trajectory"
    """What the factors of agents who are not in the data follow from: their own logged trajectory,
    or (an oracle) their hidden parameters."""


def check_factored(task: Task, config: FactoredConfig) -> None:
    """Refuse tasks, data and layers that the model cannot learn with.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    check_offline(task, config)
    if n_discrete_actions(task) is not None and config.action_layers:
        raise ValueError(
            f"action_layers is {list(config.action_layers)}; expected [] for the discrete actions "
            f"of {task.env_id}"
        )


def fit_ensembles(
    task: Task,
    config: EnsembleConfig,
    data: LoggedData,
    seeds: Sequence[int],
    device: str,
    log: RunLog | TrainingStage,
) -> list[Ensemble]:
    """Train the ensembles of all seeds as one batch, from a checkpoint if there is one.

    Args:
        task: whose data they are.
        config: of the models.
        data: on the device.
        seeds: R of them.
        device: "cpu" or "cuda".
        log: has the checkpoints.

    Returns:
        R ensembles.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    learner = FactoredLearner(config, data, n_discrete_actions(task), seeds, device)
    train(learner, log)
    model, k = learner.model.requires_grad_(False), config.n_models
    ensembles = []
    for r in range(len(seeds)):
        members = slice(r * k, (r + 1) * k)
        own = take_members(model, members)
        ensembles.append(Ensemble(task, config, own, learner.losses[members].cpu().numpy()))
    return ensembles


class Ensemble:
    """The models of one seed."""

    def __init__(
        self,
        task: Task,
        config: EnsembleConfig,
        model: FactoredModel,
        losses: NDArray[np.float64],
    ) -> None:
        """Take a trained model, and the losses of its members with which it ended."""
        self.task, self.config, self.model, self.losses = task, config, model, losses

    def simulators(self) -> list[PersonalSimulator]:
        """One for each scored agent."""
        agents = list(self.task.eval_agents or ())
        return self._simulators(self.model.agent_factors()[:, agents])

    def heldout_simulators(self, episodes: Sequence[Episode]) -> list[PersonalSimulator]:
        """One for each agent who is not in the data, from one episode of each."""
        if self.config.heldout == "trajectory":
            data = to_tensors(episodes).to(str(self.model.scales["input_mean"].device))
            return self._simulators(fit_factors(self.model, self.losses, data))
        population = cast(DynamicsPopulation, get_population(self.task.env_id))
        wanted = [int(episode.metadata["agent"]) for episode in episodes]
        known = population.parameters[: self.config.n_agents]
        factors = regress_factors(self.model, known, population.parameters[wanted])
        return self._simulators(factors)

    def _simulators(self, factors: Tensor) -> list[PersonalSimulator]:
        """One for each of H agents with factors (M, H, r)."""
        compiled = self.config.compiled
        return [PersonalSimulator(self.model, own, compiled=compiled) for own in factors.unbind(1)]

    def factors(self, data: LoggedData) -> NDArray[Any] | None:
        """What it has learned about the agents in the data, (n, r); see `embed_agents`."""
        return embed_agents(self.model, data)


def predictor(
    simulators: Sequence[PersonalSimulator],
) -> Callable[[int, NDArray[Any], NDArray[Any]], NDArray[Any]]:
    """`OfflineSolution.predict` by the simulators of the scored agents."""
    return lambda agent, observations, actions: predict(simulators[agent], observations, actions)


def personal_solutions(
    seeds: Sequence[int],
    ensembles: Sequence[Ensemble],
    simulators: Sequence[Sequence[PersonalSimulator]],
    policies: Sequence[Policy],
    data: LoggedData,
    adapt: Callable[[int, Ensemble, Sequence[Episode]], Solution],
) -> list[OfflineSolution]:
    """Solutions of solvers that train a policy for each scored agent of each seed as one batch.

    Args:
        seeds: R.
        ensembles: of each seed.
        simulators: of each seed's scored agents.
        policies: those of the first seed's agents first.
        data: the log of all agents.
        adapt: gives a seed's policies of agents who are not in the data.
    """
    n_each = len(policies) // len(seeds)
    return [
        OfflineSolution(
            policies=policies[r * n_each : (r + 1) * n_each],
            assignment=np.eye(n_each),
            adapt=partial(adapt, seed, ensemble),
            predict=predictor(own),
            factors=ensemble.factors(data),
        )
        for r, (seed, ensemble, own) in enumerate(zip(seeds, ensembles, simulators, strict=True))
    ]
