"""Ensembles of factored models, one for each seed, as every solver that has them uses them.

`fit_ensembles` trains those of all seeds as one batch. An ensemble gives the simulators of agents,
those in the data and held-out ones; `solve_in_simulators` is what all these solvers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from baselines.common.threads import one_thread
from baselines.offline.common.data import LoggedData, check_offline, load_data, to_tensors
from baselines.offline.common.networks import MemberKey, take_members
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import TrainingStage, train
from baselines.offline.persim.agent_factors import embed_agents, fit_factors, regress_factors
from baselines.offline.persim.model import FactoredConfig, FactoredModel
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.persim.training import FactoredLearner
from baselines.offline.planning.dynamics import check_reward, predict
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OfflineTask, Task


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
    check_reward(task)
    check_offline(task, config)
    if n_discrete_actions(task) is not None and config.action_layers:
        raise ValueError(
            f"action_layers is {list(config.action_layers)}; expected [] for the discrete actions "
            f"of {task.env_id}"
        )


def fit_ensembles(
    task: OfflineTask,
    config: EnsembleConfig,
    data: LoggedData,
    seeds: Sequence[int],
    device: str,
    log: RunLog | TrainingStage,
) -> list[Ensemble]:
    """Train the ensembles of all R seeds as one batch on data that are on the device."""
    learner = FactoredLearner(config, data, n_discrete_actions(task), seeds, device)
    train(learner, log)
    model, k = learner.model.requires_grad_(False), config.n_models
    ensembles = []
    for r in range(len(seeds)):
        members = slice(r * k, (r + 1) * k)
        own = take_members(model, members)
        ensembles.append(Ensemble(task, config, own, learner.losses[members].cpu().numpy()))
    return ensembles


@dataclass(frozen=True)
class Ensemble:
    """The trained models of one seed, and the losses (M,) with which they ended."""

    task: OfflineTask
    config: EnsembleConfig
    model: FactoredModel
    losses: NDArray[np.float64]

    def simulators(self) -> list[PersonalSimulator]:
        """One for each scored agent."""
        agents = list(self.task.eval_agents)
        return self._simulators(self.model.agent_factors()[:, agents])

    def heldout_simulators(self, episodes: Sequence[Episode]) -> list[PersonalSimulator]:
        """One for each agent who is not in the data, from one episode of each."""
        if self.config.heldout == "trajectory":
            data = to_tensors(episodes).to(str(self.model.scales["input_mean"].device))
            return self._simulators(fit_factors(self.model, self.losses, data))
        population = self.task.hidden_population
        wanted = [int(episode.metadata["agent"]) for episode in episodes]
        known = population.parameters[: self.config.n_agents]
        factors = regress_factors(self.model, known, population.parameters[wanted])
        return self._simulators(factors)

    def _simulators(self, factors: Tensor) -> list[PersonalSimulator]:
        """One for each of H agents with factors (M, H, r)."""
        compiled = self.config.compiled
        return [PersonalSimulator(self.model, own, compiled=compiled) for own in factors.unbind(1)]


def predictor(
    simulators: Sequence[PersonalSimulator],
) -> Callable[[int, NDArray[Any], NDArray[Any]], NDArray[Any]]:
    """`OfflineSolution.predict` by the simulators of the scored agents."""
    return lambda agent, observations, actions: predict(simulators[agent], observations, actions)


@dataclass(frozen=True)
class SimulatedAgents:
    """M agents for whom policies are made.

    Attributes:
        data: the log of all agents.
        own: the logged trajectory of each of the M.
        simulators: of each.
        keys: (seed, number of the agent) of each, from which random numbers follow.
    """

    data: LoggedData
    own: Sequence[LoggedData]
    simulators: Sequence[PersonalSimulator]
    keys: Sequence[MemberKey]


@one_thread()
def solve_in_simulators(
    task: OfflineTask,
    config: EnsembleConfig,
    seeds: Sequence[int],
    device: str,
    model_log: RunLog | TrainingStage,
    policy_log: RunLog | TrainingStage,
    make_policies: Callable[[SimulatedAgents, RunLog | TrainingStage], Sequence[Policy]],
) -> list[OfflineSolution]:
    """Train the ensembles of all seeds as one batch, and make a policy for each scored agent.

    Policies of held-out agents are made in the same way when they are asked for, in a simulator
    from one episode of each; they leave no checkpoint.

    Returns:
        One solution for each seed.
    """
    data = load_data(task, config.n_agents).to(device)
    ensembles = fit_ensembles(task, config, data, seeds, device, model_log)
    simulators, agents = [one.simulators() for one in ensembles], task.eval_agents
    own = [data.trajectory(agent) for agent in agents] * len(seeds)
    together = [one for of_seed in simulators for one in of_seed]
    keys = [(seed, agent) for seed in seeds for agent in agents]
    policies = make_policies(SimulatedAgents(data, own, together, keys), policy_log)

    @one_thread()
    def adapt(seed: int, ensemble: Ensemble, episodes: Sequence[Episode]) -> Solution:
        numbers, logged = range(len(episodes)), to_tensors(episodes)
        others = SimulatedAgents(
            data,
            [logged.trajectory(index) for index in numbers],
            ensemble.heldout_simulators(episodes),
            [(seed, task.n_agents + index) for index in numbers],
        )
        made = make_policies(others, RunLog(task, [seed]))
        return Solution(made, np.eye(len(episodes)))

    k = len(agents)
    return [
        OfflineSolution(
            policies=policies[r * k : (r + 1) * k],
            assignment=np.eye(k),
            adapt=partial(adapt, seed, ensemble),
            predict=predictor(own_simulators),
            factors=embed_agents(ensemble.model, data),
        )
        for r, (seed, ensemble, own_simulators) in enumerate(
            zip(seeds, ensembles, simulators, strict=True)
        )
    ]
