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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from baselines.common.threads import one_thread
from baselines.offline.common.data import check_offline, load_data
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import scoped_solution
from baselines.offline.morel.learner import Learner, MorelConfig, train
from baselines.offline.morel.model import MemberRows, PessimisticModel, make_world
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.evaluation.prediction import N_FORCED
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import OfflineTask, Task


@dataclass(frozen=True)
class Config(MorelConfig):
    """The learner's settings, and for whom it learns."""

    scope: Literal["population", "agent"] = "population"
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
    """Refuses a task that is not offline or whose data does not fit.

    Raises:
        ValueError: says why.
    """
    check_offline(task, config)


def make_learner(task: OfflineTask, config: Config, seeds: Sequence[int], device: str) -> Learner:
    """Loads the data and sets all members up, seed after seed.

    Returns:
        A learner of len(seeds) members, or len(seeds) * len(task.eval_agents) for scope=agent.
    """
    agents = task.eval_agents
    horizon = min(config.horizon, task.max_episode_steps)
    world = make_world(task.env_id, n_discrete_actions(task), horizon)
    if config.scope == "population":
        data = load_data(task, config.n_agents)
        first, count, initial = torch.tensor([0]), data.starts[-1:], data.starts[None, :-1]
    else:
        data = load_data(task, max(agents) + 1)
        chosen = torch.tensor(agents)
        first, count = data.starts[chosen], data.starts.diff()[chosen]
        initial = first.unsqueeze(1)
    parts = (torch.cat([part] * len(seeds)).to(device) for part in (first, count, initial))
    rows = MemberRows(data.to(device), *parts)
    return Learner(rows, world, config, seeds)


@one_thread()
def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Learns models and policies of every seed, as one batch.

    Returns:
        One solution for each seed. Held-out agents are served with scope=population, by the one
        policy; a policy for one agent alone has no say about others.
    """
    learner = make_learner(task, config, seeds, device)
    train(learner, log)
    return solutions(task, learner)


def solutions(task: OfflineTask, learner: Learner) -> list[OfflineSolution]:
    """The policies as they are, one solution for each seed."""
    n_agents, n_members = len(task.eval_agents), len(learner.rows.first) // learner.n_seeds
    made = []
    for r in range(learner.n_seeds):
        members = range(r * n_members, (r + 1) * n_members)
        policies = [learner.actor.policy(member) for member in members]
        predict = _predictor(learner.model, members)
        made.append(dataclasses.replace(scoped_solution(policies, n_agents), predict=predict))
    return made


def _predictor(
    model: PessimisticModel, members: range
) -> Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]:
    """What the ensembles' means foresee, each step from the prediction before it."""

    @torch.no_grad()
    @one_thread()
    def predict(
        agent: int, observations: npt.NDArray[Any], actions: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        member = members[min(agent, len(members) - 1)]  # scope=population has one for all
        alone, device = model.alone(member), model.threshold.device
        state = torch.from_numpy(observations[:, N_FORCED].astype(np.float32)).to(device)
        moves = torch.from_numpy(actions[:, N_FORCED:]).to(device)
        foreseen = []
        for t in range(moves.shape[1]):
            state = alone.predict(state[None], moves[None, :, t])[0].mean(0)
            foreseen.append(state)
        predictions: npt.NDArray[Any] = torch.stack(foreseen, 1).cpu().numpy()
        return predictions

    return predict
