"""MOReL: a pessimistic model of the world from logged data, and a policy planned in it.

Kidambi, Rajeswaran, Netrapalli, Joachims, "MOReL: Model-Based Offline Reinforcement Learning",
NeurIPS 2020 (arXiv 2005.05951), algorithm 1; settings of the official code `aravindr93/mjrl`,
projects/morel, example D4RL hopper-medium. Three stages:

  1. an ensemble of models and the region where they are trusted (`model`);
  2. behaviour cloning, from which the policy starts;
  3. natural policy gradient on rollouts in the model (`natural_policy_gradient`).

Nothing here knows of hidden dynamics. scope=population learns one model and one policy from all
trajectories, which serve everybody; scope=agent learns, for each test agent alone, from its one
trajectory. All members (seeds, times agents) are trained as one batch.

Rollouts start, half and half, at first observations of the data and at any observation of it
(`buffer_fraction`, the code's start_state=buffer; its examples use first observations only).
One agent has a single first observation, and in MountainCar no rollout from the start comes to the
goal by chance, while some of the data is near it.

The number of iterations is below the code's 500, and the models are trained for less, so that a
solver takes minutes on a CPU: see `SETTINGS`. The agents' rewards and ends are known functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from baselines.common.threads import one_thread
from baselines.offline.common.data import check_offline
from baselines.offline.common.policies import Scope, load_scoped, scoped_solutions
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import train
from baselines.offline.morel.learner import MorelConfig, MorelLearner
from baselines.offline.morel.model import MemberDynamics, PessimisticModel
from baselines.offline.planning.dynamics import check_reward, objective_for, predict
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import OfflineTask, Task


@dataclass(frozen=True)
class Config(MorelConfig):
    """The learner's settings, and for whom it learns."""

    scope: Scope = "population"
    """Whether one policy is learned from all data, or one for each test agent from its own."""


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "rmdp/CartPoleHet-n500-v0": {"iterations": 100},
    "rmdp/MountainCarHet-n500-v0": {"iterations": 60},
    "rmdp/HalfCheetahHet-n500-v0": {"iterations": 60},
    "rmdp/HalfCheetahHet-n500-v1": {"iterations": 60},
}
"""What an environment replaces."""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**SETTINGS.get(task.env_id, {}))


def check(task: Task, config: Config) -> None:
    """Refuse tasks without data or without a known reward, by a ValueError."""
    check_reward(task)
    check_offline(task, config)


def make_learner(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str
) -> MorelLearner:
    """Load the data and set all members up, seed after seed.

    Returns:
        A learner of len(seeds) members, or len(seeds) * len(task.eval_agents) for scope=agent.
    """
    rows, keys = load_scoped(task, config, config.scope, seeds)
    horizon = min(config.horizon, task.max_episode_steps)
    objective, n_actions = objective_for(task.env_id), n_discrete_actions(task)
    return MorelLearner(rows.to(device), objective, config, n_actions, horizon, keys)


@one_thread()
def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Learn models and policies of every seed, as one batch.

    Returns:
        One solution for each seed. Held-out agents are served with scope=population, by the one
        policy; a policy for one agent alone has no say about others.
    """
    learner = make_learner(task, config, seeds, device)
    train(learner, log)
    return solutions(task, learner)


def solutions(task: OfflineTask, learner: MorelLearner) -> list[OfflineSolution]:
    """The policies as they are, one solution for each seed."""
    n_members = len(learner.rows.ranges) // learner.n_seeds
    policies = [learner.actor.policy(member) for member in range(len(learner.rows.ranges))]
    made = scoped_solutions(policies, learner.n_seeds, len(task.eval_agents))
    return [
        dataclasses.replace(
            own, predict=_predictor(learner.model, range(r * n_members, (r + 1) * n_members))
        )
        for r, own in enumerate(made)
    ]


def _predictor(
    model: PessimisticModel, members: range
) -> Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]:
    """`OfflineSolution.predict` by the ensembles of a seed; scope=population has one for all."""
    return lambda agent, observations, actions: predict(
        MemberDynamics(model, members[min(agent, len(members) - 1)]), observations, actions
    )
