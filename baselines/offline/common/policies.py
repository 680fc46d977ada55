"""Policies from logged data, for the whole population or for one agent each.

Members are all policies of all seeds: one for each seed (scope "population"), or one for each seed
and scored agent (scope "agent"). They are trained as one batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.offline.common.data import OfflineConfig, load_data
from baselines.offline.common.networks import MemberKey, MemberMLP, as_array, member_keys
from baselines.offline.common.replay import MemberRows, Replay
from baselines.offline.common.spaces import ActionScale, action_scale, n_discrete_actions
from baselines.offline.common.training import MemberLearner, train
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.solution.onnx_graphs import PolicyGraph
from rmdp_bench.tasks import OfflineTask

Scope = Literal["population", "agent"]
N_REPORTS = 200
"""How often losses are reported in a run."""


@dataclass(frozen=True)
class ScopedConfig(OfflineConfig):
    """Settings of solvers that learn one policy for all agents, or one for each."""

    scope: Scope = "population"
    """population: one policy from everybody's data; agent: one for each test agent, from its own
    trajectory."""
    n_updates: int = 30_000
    """Gradient steps."""
    batch_size: int = 64
    """Transitions in a gradient step."""
    normalize_observations: bool = True
    """Whether observations are standardised by the mean and standard deviation of the data."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        check_range(self, 1, math.inf, "n_updates", "batch_size")


class PolicyNetwork(nn.Module, ABC):
    """A network that acts, and states what it does once more for its file.

    Attributes:
        action_size: a; None where actions are discrete.
    """

    action_size: int | None

    @abstractmethod
    def forward(self, observation: Tensor) -> Tensor:
        """Actions (E, a) in [-1, 1], or (E,) int64 for discrete ones, at observations (E, d)."""

    @abstractmethod
    def write(self, graph: PolicyGraph, observation: str) -> str:
        """Add the same to a graph, and give the name of the actions."""


class NetworkPolicy:
    """A deterministic policy that is one network, and saves itself as ONNX."""

    def __init__(self, network: PolicyNetwork, observation_size: int) -> None:
        """Wrap a network; d is the observation's size."""
        self.network, self.observation_size = network, observation_size

    def reset(self, n_envs: int) -> None:
        """Begin episodes; the policy has no memory."""

    @one_thread()
    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E, a) float32, or (E,) int64 for discrete ones, at observations (E, d)."""
        with torch.no_grad():
            actions = self.network(torch.from_numpy(np.asarray(observations, np.float32)))
        array: NDArray[Any] = actions.numpy()
        return array

    def to_onnx(self) -> bytes:
        """The network as an ONNX model."""
        graph = PolicyGraph(self.observation_size)
        return graph.finish(self.network.write(graph, "observation"), self.network.action_size)


class Normalizer(nn.Module):
    """Standardise one member's observations as `Replay` did."""

    mean: Tensor
    inverse_scale: Tensor

    def __init__(self, replay: Replay, member: int) -> None:
        """Copy the member's mean and scale."""
        super().__init__()
        self.register_buffer("mean", replay.mean[member].clone())
        self.register_buffer("inverse_scale", replay.inverse_scale[member].clone())

    def forward(self, observations: Tensor) -> Tensor:
        """Normalised observations (E, d)."""
        return (observations - self.mean) * self.inverse_scale

    def write(self, graph: PolicyGraph, observations: str) -> str:
        """Add the same to a graph."""
        difference = graph.add("Sub", observations, graph.constant(as_array(self.mean)))
        return graph.add("Mul", difference, graph.constant(as_array(self.inverse_scale)))


class MemberPolicy(PolicyNetwork):
    """One member's network on normalised observations.

    It takes the action of the greatest output, or the hyperbolic tangent of the first outputs.
    """

    def __init__(self, normalizer: Normalizer, network: MemberMLP, action_size: int | None) -> None:
        """Take one member's own; action_size is None where actions are discrete."""
        super().__init__()
        self.normalizer, self.network, self.action_size = normalizer, network, action_size

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (E, a), or (E,), at observations (E, d)."""
        outputs: Tensor = self.network(self.normalizer(observation).unsqueeze(0)).squeeze(0)
        if self.action_size is None:
            return outputs.argmax(-1)
        return outputs[:, : self.action_size].tanh()

    def write(self, graph: PolicyGraph, observation: str) -> str:
        """Add the same to a graph."""
        outputs = self.network.write(graph, self.normalizer.write(graph, observation))
        if self.action_size is None:
            return graph.add("ArgMax", outputs, axis=-1, keepdims=0)
        ends = (graph.constant([number]) for number in (0, self.action_size, -1))
        return graph.add("Tanh", graph.add("Slice", outputs, *ends))


class _InUnits(PolicyNetwork):
    """A network that acts in [-1, 1], and what that is in a world's units."""

    low: Tensor
    width: Tensor

    def __init__(self, network: PolicyNetwork, scale: ActionScale) -> None:
        super().__init__()
        self.network, self.action_size, self.power = network, network.action_size, scale.power
        self.register_buffer("low", torch.from_numpy(scale.low))
        self.register_buffer("width", torch.from_numpy(scale.width))

    def forward(self, observation: Tensor) -> Tensor:
        share = (self.network(observation) * 0.5 + 0.5).clip(0.0, 1.0)
        shares = share
        for _ in range(self.power - 1):
            shares = shares * share
        actions: Tensor = shares * self.width + self.low
        return actions

    def write(self, graph: PolicyGraph, observation: str) -> str:
        half = graph.constant(0.5)
        halved = graph.add("Mul", self.network.write(graph, observation), half)
        moved = graph.add("Add", halved, half)
        share = graph.add("Clip", moved, graph.constant(0.0), graph.constant(1.0))
        shares = share
        for _ in range(self.power - 1):
            shares = graph.add("Mul", shares, share)
        scaled = graph.add("Mul", shares, graph.constant(as_array(self.width)))
        return graph.add("Add", scaled, graph.constant(as_array(self.low)))


def in_units_of(env_id: str, policies: Sequence[NetworkPolicy]) -> list[NetworkPolicy]:
    """Policies that act in an environment's units, of those that act in [-1, 1]."""
    scale = action_scale(env_id)
    if scale is None:
        return list(policies)
    return [NetworkPolicy(_InUnits(p.network, scale), p.observation_size) for p in policies]


class ReplayLearner(MemberLearner):
    """Policies of M members that learn from mini-batches of the log."""

    def __init__(self, replay: Replay, n_updates: int) -> None:
        """Take the data, whose keys tell the seeds."""
        self.replay, self.total = replay, n_updates
        self.n_seeds = len({seed for seed, _ in replay.keys})

    @abstractmethod
    def update(self, n_done: int) -> dict[str, Tensor]:
        """Make one update, after n_done others; gives losses (M,) by name."""

    @abstractmethod
    def policy(self, member: int) -> NetworkPolicy:
        """A member's policy as it is; later updates do not change it."""

    def advance(self) -> dict[str, Tensor]:
        """Make one update; about `N_REPORTS` in a run are reported."""
        losses = self.update(self.done)
        self.done += 1
        is_reported = self.done % max(1, self.total // N_REPORTS) == 0 or self.done == self.total
        return losses if is_reported else {}


def load_scoped(
    task: OfflineTask, config: OfflineConfig, scope: Scope, seeds: Sequence[int]
) -> tuple[MemberRows, list[MemberKey]]:
    """Load what the members of all seeds learn from, and give their keys."""
    agents = task.eval_agents
    if scope == "agent":
        data = load_data(task, max(agents) + 1)
        rows = MemberRows.of_agents(data, [*agents] * len(seeds))
    else:
        rows = MemberRows.of_all(load_data(task, config.n_agents), len(seeds))
    return rows, member_keys(seeds, len(rows.ranges) // len(seeds))


LearnerFactory: TypeAlias = Callable[[Replay, Any, float, int | None], ReplayLearner]
"""From mini-batches, settings, gamma and the number of discrete actions (None: continuous ones)."""


def load_learner(
    task: OfflineTask,
    config: ScopedConfig,
    seeds: Sequence[int],
    device: str,
    make_learner: LearnerFactory,
) -> ReplayLearner:
    """Load the data and set up one member for each seed, or for each seed and scored agent."""
    rows, keys = load_scoped(task, config, config.scope, seeds)
    normalize = config.normalize_observations
    replay = Replay(rows, keys, config.batch_size, device, normalize=normalize)
    return make_learner(replay, config, task.gamma, n_discrete_actions(task))


@one_thread()
def solve_with_learner(
    task: OfflineTask,
    config: ScopedConfig,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
    make_learner: LearnerFactory,
) -> list[Solution]:
    """Load the data, train one member for each seed or each seed and agent, and hand out.

    Returns:
        An `OfflineSolution` for each seed.
    """
    learner = load_learner(task, config, seeds, device, make_learner)
    train(learner, log)
    policies = [learner.policy(member) for member in range(len(learner.replay.keys))]
    policies = in_units_of(task.env_id, policies)
    return [*scoped_solutions(policies, len(seeds), len(task.eval_agents))]


def scoped_solutions(
    policies: Sequence[NetworkPolicy], n_seeds: int, n_agents: int
) -> list[OfflineSolution]:
    """One policy for all scored agents, held-out ones too, or one for each scored agent.

    Args:
        policies: one for each seed, or n_agents of each; the first seed's first.
        n_seeds: R, solutions that are made.
        n_agents: number of scored agents.
    """
    k = len(policies) // n_seeds
    of_seeds = [policies[r * k : (r + 1) * k] for r in range(n_seeds)]
    if k > 1:
        return [OfflineSolution(own, np.eye(n_agents)) for own in of_seeds]

    def solution(own: Sequence[NetworkPolicy]) -> OfflineSolution:
        def adapt(episodes: Sequence[Episode]) -> Solution:
            return Solution(own, np.ones((len(episodes), 1)))

        return OfflineSolution(own, np.ones((n_agents, 1)), adapt=adapt)

    return [solution(own) for own in of_seeds]
