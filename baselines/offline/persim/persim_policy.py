"""A policy for each agent, trained in the agent's own simulator: PerSim without a planner.

The model of all agents is trained as in `persim` (`ensembles`; Agarwal et al. 2021, arXiv
2102.06961). A network for each scored agent then learns in the agent's simulator what `persim`
plans at every step, so that acting costs microseconds. All agents of all seeds are one batch:

  1. Behaviour cloning of the whole log, from which every policy starts.
  2. The natural policy gradient of `morel` (`natural_policy_gradient`), on roll-outs that branch
     off the log: half of them begin at first observations, half at any observation of anybody's.

Choices of ours:
  - A path keeps to one member of the ensemble; where members contradict each other by more than
    anywhere in the log, it ends in HALT, as in MOReL (`simulated_worlds`).
  - Rewards are the known function of the transition, and so is what ends a path.
  - With discrete actions a path is as long as an episode, as the gradient's paths are worth nothing
    after their end: the flag of MountainCar is beyond what a short one sees. With continuous ones
    (no end, a reward at every step) they are short.
  - Held-out agents get a simulator from their own logged trajectory, as in `persim`, and a policy
    trained in it in the same way; it is trained when asked for, and leaves no checkpoint.

The settings are those of `morel` on CartPole; nothing was tuned. Four evaluations were made, with
seed 100 on the kind `pure-eps20`, 10 episodes for each test agent:
  - CartPole: the cloned policies, before any iteration, have 200 of 200 for all five, so that this
    task says nothing about the iterations.
  - MountainCar, models of 25 epochs: the cloned policies have -44.1, -49.9, -65.7, -122.3 and
    -261.4; after three iterations -44.1, -49.9, -411.5, -121.1 and -255.0; after six -44.1, -69.9,
    -86.7, -101.4 and -333.2: steps this early do not yet help. How later ones go on is not known.
    An iteration took 2.2 CPU seconds for one seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.offline.common.data import LoggedData, load_data
from baselines.offline.common.networks import MemberKey
from baselines.offline.common.replay import MemberRows
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import Stages, train
from baselines.offline.morel.learner import MorelConfig, NaturalGradientLearner
from baselines.offline.persim.ensembles import (
    Ensemble,
    EnsembleConfig,
    check_factored,
    fit_ensembles,
    personal_solutions,
)
from baselines.offline.persim.model import model_settings
from baselines.offline.persim.simulated_worlds import SimulatedWorlds
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.planning.dynamics import objective_for
from rmdp_bench.datasets import Episode
from rmdp_bench.offline import OfflineSolution
from rmdp_bench.results import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task

_NAMES = {
    "pessimism": "pessimism",
    "halt_penalty": "halt_penalty",
    "cloning_updates": "cloning_updates",
    "policy_hidden_size": "policy_hidden_size",
    "iterations": "iterations",
    "n_paths": "n_paths",
    "horizon": "path_length",
    "buffer_fraction": "buffer_fraction",
    "gamma": "discount",
    "step_size": "step_size",
}
"""Settings of MOReL's learner, and what they are called beside those of the model."""


@dataclass(frozen=True)
class Config(EnsembleConfig):
    """Settings of the model, and of the policies that learn in it."""

    pessimism: float = 1.0
    """A pair of observation and action is unknown where members disagree by more than the largest
    disagreement over the log, divided by this."""
    halt_penalty: float = 1.0
    """How far the reward of HALT is below the lowest of the log."""
    cloning_updates: int = 1000
    """Gradient steps of behaviour cloning, each with 256 transitions of anybody's."""
    policy_hidden_size: int = 64
    """Width of a policy's two hidden layers."""
    iterations: int = 100
    """Steps of the natural policy gradient."""
    n_paths: int = 50
    """Paths of each agent in an iteration, shared out evenly among the ensemble's members."""
    path_length: int = 500
    """Steps of a path; the task's limit of an episode where that is shorter."""
    buffer_fraction: float = 0.5
    """Share of the paths that begin at any observation of the log, not at a first one."""
    discount: float = 0.999
    """Of rewards in the simulator."""
    step_size: float = 0.02
    """Twice the KL divergence of a step."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        check_range(self, 1, math.inf, "policy_hidden_size", "n_paths", "path_length")
        check_range(self, 0, math.inf, "cloning_updates", "iterations")
        check_range(self, 1e-12, math.inf, "pessimism")
        check_range(self, 0.0, math.inf, "halt_penalty")
        check_range(self, 0.0, 1.0, "buffer_fraction", "discount")
        check_range(self, 1e-12, 1.0, "step_size")

    @property
    def learner(self) -> MorelConfig:
        """The learner's settings; those of MOReL's own model are not used."""
        return MorelConfig(**{name: getattr(self, own) for name, own in _NAMES.items()})


_CONTINUOUS: dict[str, Any] = {"path_length": 50}


def config_for(task: Task) -> Config:
    """Settings for a task."""
    own = _CONTINUOUS if n_discrete_actions(task) is None else {}
    return Config(**model_settings(task) | own)


check = check_factored


def make_learner(
    task: Task,
    config: Config,
    data: LoggedData,
    simulators: Sequence[PersonalSimulator],
    keys: Sequence[MemberKey],
) -> NaturalGradientLearner:
    """M policies, each in a simulator that stays as it is.

    Args:
        task: gives actions, rewards and ends.
        config: the settings.
        data: the log of all agents, in which paths begin.
        simulators: M, the first seed's first.
        keys: (seed, number of the agent) of each, from which the random numbers follow.
    """
    own = config.learner
    return NaturalGradientLearner(
        SimulatedWorlds(
            simulators,
            data,
            objective_for(task.env_id),
            pessimism=own.pessimism,
            halt_penalty=own.halt_penalty,
        ),
        MemberRows.of_all(data, len(simulators)),
        own,
        n_discrete_actions(task),
        min(own.horizon, task.max_episode_steps),
        keys,
        streams.PerSim,
    )


@one_thread()
def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Train the ensembles of all seeds as one batch, then the policies of all of them.

    Returns:
        One solution for each seed: a policy for each test agent.
    """
    data = load_data(task, config.n_agents).to(device)
    stages, agents = Stages(log), task.eval_agents or ()
    ensembles = fit_ensembles(task, config, data, seeds, device, stages.stage("model"))
    simulators = [ensemble.simulators() for ensemble in ensembles]
    keys = [(seed, agent) for seed in seeds for agent in agents]
    together = [one for own in simulators for one in own]
    learner = make_learner(task, config, data, together, keys)
    train(learner, stages.stage("policy"))
    policies = [learner.actor.policy(m) for m in range(len(keys))]
    return personal_solutions(
        seeds, ensembles, simulators, policies, data, partial(adapt, task, config, data)
    )


@one_thread()
def adapt(
    task: Task,
    config: Config,
    data: LoggedData,
    seed: int,
    ensemble: Ensemble,
    episodes: Sequence[Episode],
) -> Solution:
    """Policies of agents who are not in the data, from one episode of each."""
    simulators = ensemble.heldout_simulators(episodes)
    keys = [(seed, task.n_agents + index) for index in range(len(episodes))]
    learner = make_learner(task, config, data, simulators, keys)
    train(learner, RunLog(task, [seed]))
    policies = [learner.actor.policy(member) for member in range(len(episodes))]
    return Solution(policies, np.eye(len(episodes)))
