"""Behaviour cloning: the policy that the data were collected with, as well as it can be told.

Discrete actions: cross entropy, acting with the likeliest. Continuous: mean squared error of a
network that ends in a hyperbolic tangent. The data's own return, which a clone is to be compared
with, is reported as "data_return": the mean over the test agents' trajectories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.offline.common.data import LoggedData, check_offline, load_data
from baselines.offline.common.networks import MemberMLP, member_generators
from baselines.offline.common.optimization import MemberAdam, minimize
from baselines.offline.common.policies import (
    MemberPolicy,
    NetworkPolicy,
    Normalizer,
    ReplayLearner,
    ScopedConfig,
    solve_with_learner,
)
from baselines.offline.common.replay import Replay
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask


@dataclass(frozen=True)
class Config(ScopedConfig):
    """Settings; BCQ's imitation network has the same."""

    n_updates: int = 20_000
    """Gradient steps."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    hidden_dims: tuple[int, ...] = (256, 256)
    """Hidden layers."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        check_range(self, 1e-12, 1, "learning_rate")


check = check_offline


def data_returns(data: LoggedData) -> Tensor:
    """Undiscounted return (n,) of each agent's trajectory."""
    returns = torch.zeros(data.n_agents, dtype=torch.float64, device=data.rewards.device)
    return returns.index_add(0, data.agents, data.rewards.double())


class Cloning(ReplayLearner):
    """Policies of all members."""

    def __init__(self, replay: Replay, config: Config, n_actions: int | None) -> None:
        """Draw the networks; n_actions is None where actions are continuous."""
        super().__init__(replay, config.n_updates)
        self.discrete = n_actions is not None
        n_outputs = n_actions or replay.action_size
        assert n_outputs is not None
        sizes = (replay.observation_size, *config.hidden_dims, n_outputs)
        self.network = MemberMLP(
            sizes, member_generators(replay.keys, streams.Replay.INITIAL_PARAMETERS)
        )
        self._adam = MemberAdam(self.network.to(replay.device), config.learning_rate)
        self.parts = {"policy": self._adam}

    def update(self, n_done: int) -> dict[str, Tensor]:
        """Make one step towards the actions of the data."""
        batch = self.replay.batch(n_done)
        outputs = self.network(batch.observations)
        if self.discrete:
            loss = F.cross_entropy(outputs.mT, batch.actions, reduction="none").mean(1)
        else:
            loss = (outputs.tanh() - batch.actions).square().mean((1, 2))
        minimize(loss.sum(), self._adam)
        return {"loss": loss}

    def policy(self, member: int) -> NetworkPolicy:
        """The likeliest action, or the mean."""
        normalizer, network = Normalizer(self.replay, member), self.network.member(member)
        size = None if self.discrete else self.replay.action_size
        policy = MemberPolicy(normalizer, network, size)
        return NetworkPolicy(policy, self.replay.observation_size)


def make_learner(
    replay: Replay, config: Config, gamma: float, n_actions: int | None
) -> ReplayLearner:
    """The learner for these data; n_actions is None where actions are continuous."""
    del gamma
    return Cloning(replay, config, n_actions)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train the policies of every seed, as one batch; one solution for each."""
    returns = data_returns(load_data(task, config.n_agents))
    mean_return = float(returns[list(task.eval_agents)].mean())
    solutions = solve_with_learner(task, config, seeds, device, log, make_learner)
    log.progress(
        config.n_updates, {"data_return": [mean_return] * len(seeds)}, total=config.n_updates
    )
    return solutions
