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
from typing import Any

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.offline.common.policies import NetworkPolicy
from baselines.offline.common.replay import MemberRows
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import Stages, TrainingStage, train
from baselines.offline.morel.learner import MorelConfig, NaturalGradientLearner
from baselines.offline.persim.ensembles import (
    EnsembleConfig,
    SimulatedAgents,
    check_factored,
    solve_in_simulators,
)
from baselines.offline.persim.model import model_settings
from baselines.offline.persim.simulated_worlds import SimulatedWorlds
from baselines.offline.planning.dynamics import objective_for
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import OfflineTask, Task

_NAMES = {
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


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Train the ensembles of all seeds as one batch, then the policies of all of them."""
    stages, settings = Stages(log), config.learner

    def make_policies(agents: SimulatedAgents, log: RunLog | TrainingStage) -> list[NetworkPolicy]:
        worlds = SimulatedWorlds(
            agents.simulators,
            agents.data,
            objective_for(task.env_id),
            pessimism=config.pessimism,
            halt_penalty=config.halt_penalty,
        )
        learner = NaturalGradientLearner(
            worlds,
            MemberRows.of_all(agents.data, len(agents.keys)),
            settings,
            n_discrete_actions(task),
            min(settings.horizon, task.max_episode_steps),
            agents.keys,
            streams.PerSim,
        )
        train(learner, log)
        return [learner.actor.policy(member) for member in range(len(agents.keys))]

    model_log, policy_log = stages.stage("model"), stages.stage("policy")
    return solve_in_simulators(task, config, seeds, device, model_log, policy_log, make_policies)
