"""What is done with a trained CaDM: planning, prediction, contexts of the agents in the data.

The context is made from the episode itself, so one policy serves every agent, known or new: nothing
is fitted to the scored agents, and the logged episodes of held-out agents are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common.threads import one_thread
from baselines.offline.cadm.model import ContextConfig, ContextModel, ForwardHead, Scales
from baselines.offline.cadm.training import ContextLearner, Histories
from baselines.offline.common.data import LoggedData, check_offline, load_data
from baselines.offline.common.networks import take_members
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import train
from baselines.offline.planning.dynamics import Dynamics, check_reward, predict
from baselines.offline.planning.planner import check_planner, make_policy
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OfflineTask, Task


class ContextDynamics(Dynamics):
    """The world of whoever lives in each environment: every member goes where it expects to.

    Attributes:
        contexts: (K, E, c) of each environment's last H steps; made once for each decision.
    """

    def __init__(self, model: ContextModel, per_member: int = 1) -> None:
        """Plan with all members of a model, each of which has `per_member` trajectories."""
        self.model = model
        self.device = model.observations_scales.device
        self.n_members = model.n_members * per_member
        rows = 256 if self.device.type == "cpu" else 2**17 // model.n_members
        self.chunk_rows = max(1, rows // per_member)
        self.begin(1, 0)

    def begin(self, n_envs: int, seed: int) -> None:
        """Begin E = n_envs new episodes, whose histories are zeros."""
        super().begin(n_envs, seed)
        model = self.model
        size = model.observation_size + model.action_size
        self.history = torch.zeros(n_envs, model.history_length, size, device=self.device)
        self._encode()

    @torch.no_grad()
    def observe(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> None:
        """Append the step of each environment (E, ...) to its history."""
        pairs = self.model.pairs(observations, actions, next_observations)
        self.history = torch.cat([self.history[:, 1:], pairs[:, None]], 1)
        self._encode()

    @torch.no_grad()
    def _encode(self) -> None:
        self.contexts = self.model.encode(self.history.expand(self.model.n_members, -1, -1, -1))

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Roll every member to where it expects to be."""
        return self.model.predict(states, actions, self.contexts[:, envs])


def member_models(model: ContextModel, n_seeds: int) -> list[ContextModel]:
    """One model for each seed, with its ensemble alone; nothing is shared with `model`."""
    size = model.n_members // n_seeds
    parts = [take_members(model, slice(r * size, (r + 1) * size)) for r in range(n_seeds)]
    return [part.requires_grad_(False).eval() for part in parts]


@torch.no_grad()
def mean_contexts(model: ContextModel, data: LoggedData) -> NDArray[np.float32]:
    """Mean context over each agent's trajectory, (n, K c), the members' side by side.

    Where the trajectory is longer than a history, contexts of incomplete histories do not count.
    """
    histories, factors = Histories(model, data), []
    for first, last in zip(data.starts[:-1].tolist(), data.starts[1:].tolist(), strict=True):
        skipped = model.history_length if last - first > model.history_length else 0
        rows = histories.before(torch.arange(first + skipped, last, device=data.starts.device))
        contexts = model.encode(rows.expand(model.n_members, -1, -1, -1))
        factors.append(contexts.mean(1).flatten())
    result: NDArray[np.float32] = torch.stack(factors).cpu().numpy()
    return result


def make_solution(
    model: ContextModel, data: LoggedData, policy: Policy, n_scored: int
) -> OfflineSolution:
    """One policy for everybody, with predictions of the mean and the agents' mean contexts.

    Args:
        model: of one seed.
        data: logged, on the model's device.
        policy: plans with this model.
        n_scored: agents whom the task scores.
    """

    def adapt(episodes: Sequence[Episode]) -> Solution:
        return Solution([policy], np.ones((len(episodes), 1)))

    def predict_observations(
        agent: int, observations: NDArray[Any], actions: NDArray[Any]
    ) -> NDArray[Any]:
        del agent  # the first steps tell who it is
        return predict(ContextDynamics(model), observations, actions)

    return OfflineSolution(
        [policy],
        np.ones((n_scored, 1)),
        adapt=adapt,
        predict=predict_observations,
        factors=mean_contexts(model, data),
    )


def check(task: Task, config: ContextConfig) -> None:
    """Refuse tasks without data, and sizes with which one cannot plan, by a ValueError."""
    check_reward(task)
    check_offline(task, config)
    check_planner(task.env_id, config)


def make_learner(
    task: OfflineTask,
    config: ContextConfig,
    seeds: Sequence[int],
    device: str,
    make_head: Callable[[int, int], ForwardHead],
    ensemble_size: int = 1,
) -> ContextLearner:
    """Load the data and set an ensemble of each seed up; arguments as of `solve_with`."""
    data = load_data(task, config.n_agents)
    n_actions = n_discrete_actions(task)
    head = make_head(len(seeds) * ensemble_size, data.observations.shape[1])
    scales = Scales.from_data(data, n_actions)
    model = ContextModel(config, scales, n_actions, head, seeds, ensemble_size).to(device)
    return ContextLearner(model, data.to(device), config, seeds, ensemble_size)


@one_thread()
def solve_with(
    task: OfflineTask,
    config: ContextConfig,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
    *,
    make_head: Callable[[int, int], ForwardHead],
    make_dynamics: Callable[[ContextModel], Dynamics],
    ensemble_size: int = 1,
) -> list[Solution]:
    """Train an ensemble for each seed, as one batch, and plans with it.

    Args:
        task: offline.
        config: of the networks, their training and the planner.
        seeds: R of them.
        device: "cpu" or "cuda".
        log: of the run.
        make_head: number of members K, size of observations -> what the forward model gives.
        make_dynamics: a seed's model -> what its planner rolls.
        ensemble_size: E, so that K = R E.

    Returns:
        One solution for each seed.
    """
    learner = make_learner(task, config, seeds, device, make_head, ensemble_size)
    train(learner, log)
    solutions: list[Solution] = []
    for seed, own in zip(seeds, member_models(learner.model, len(seeds)), strict=True):
        policy = make_policy(task.env_id, make_dynamics(own), config, seed=seed, agent=0)
        solutions.append(make_solution(own, learner.data, policy, len(task.eval_agents)))
    return solutions
