"""CQL: conservative Q-learning (Kumar, Zhou, Tucker, Levine 2020, arXiv 2006.04779).

The values of actions that the data do not have are pushed down, those of the data's up: CQL(H),
equation 4. Discrete: double Q-learning plus weight * (logsumexp Q - Q(a)). Continuous: on top of
soft actor-critic, with the logsumexp estimated from actions drawn uniformly, from the policy here
and from the policy at the next observation, each divided by its density.

Settings are those of the official code (aviralkumar2907/CQL): no Lagrange multiplier, and no
entropy in the backup. Choices:
  - A trajectory that the time limit cut goes on: only `terminated` stops the bootstrap.
  - Observations are standardised by the data's statistics (`normalize_observations`).
  - Discrete: Huber loss, networks, step size and soft target updates as in BCQ's official code,
    because the official ones are for images.
  - Continuous: the policy starts without 40,000 updates of behaviour cloning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.offline.common.data import check_offline
from baselines.offline.common.networks import MemberMLP, member_generators, two_values
from baselines.offline.common.optimization import MemberAdam, TargetNetwork, minimize
from baselines.offline.common.policies import (
    MemberPolicy,
    NetworkPolicy,
    Normalizer,
    ReplayLearner,
    ScopedConfig,
    solve_with_learner,
)
from baselines.offline.common.replay import LoggedBatch, RandomBlocks, Replay, normal_blocks
from baselines.offline.common.spaces import n_discrete_actions
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask, Task

_LOG_STD_BOUNDS = (-20.0, 2.0)
"""Of the policy's standard deviation before the hyperbolic tangent."""


@dataclass(frozen=True)
class Config(ScopedConfig):
    """Settings of both forms; `config_for` has those that continuous actions replace."""

    learning_rate: float = 3e-4
    """Adam's step size for the values."""
    hidden_dims: tuple[int, ...] = (256, 256)
    """Hidden layers of all networks."""
    target_rate: float = 0.005
    """Share of the distance that target networks move at each update."""
    conservative_weight: float = 1.0
    """Weight of the term that pushes values down; the paper's alpha."""
    policy_learning_rate: float = 1e-4
    """Continuous: Adam's step size for the policy and for the weight of its entropy."""
    n_samples: int = 10
    """Continuous: actions of each of the three kinds in the logsumexp."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        check_range(self, 1e-12, 1, "learning_rate", "policy_learning_rate", "target_rate")
        check_range(self, 0, math.inf, "conservative_weight")
        check_range(self, 1, math.inf, "n_samples")


CONTINUOUS_SETTINGS: dict[str, Any] = {
    "n_updates": 5_000,
    "batch_size": 256,
    "hidden_dims": (256, 256, 256),
    "conservative_weight": 5.0,
}
"""They replace the defaults where actions are continuous.

The paper makes 1,000,000 updates, hours on a GPU and days on a CPU: `--set n_updates=1000000`.
"""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**(CONTINUOUS_SETTINGS if n_discrete_actions(task) is None else {}))


check = check_offline


def make_learner(
    replay: Replay, config: Config, gamma: float, n_actions: int | None
) -> ReplayLearner:
    """The learner for these data; n_actions is None where actions are continuous."""
    if n_actions is None:
        return ContinuousCQL(replay, config, gamma)
    return DiscreteCQL(replay, config, gamma, n_actions)


class DiscreteCQL(ReplayLearner):
    """Discrete form: values of all members."""

    def __init__(self, replay: Replay, config: Config, gamma: float, n_actions: int) -> None:
        """Draw the networks from each member's generator."""
        super().__init__(replay, config.n_updates)
        self.config, self.gamma = config, gamma
        sizes = (replay.observation_size, *config.hidden_dims, n_actions)
        self.q = MemberMLP(
            sizes, member_generators(replay.keys, streams.Replay.INITIAL_PARAMETERS)
        ).to(replay.device)
        self._adam = MemberAdam(self.q, config.learning_rate)
        self._target = TargetNetwork(self._adam)
        self.parts = {"q": self._adam, "target": self._target}

    def update(self, n_done: int) -> dict[str, Tensor]:
        """Make one step of the values."""
        batch = self.replay.batch(n_done)
        values = self.q(batch.observations)
        own = values.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        value_loss = F.smooth_l1_loss(own, self.targets(batch), reduction="none").mean(-1)
        gap = (values.logsumexp(-1) - own).mean(-1)
        loss = value_loss + self.config.conservative_weight * gap
        minimize(loss.sum(), self._adam)
        self._target.follow(self.config.target_rate)
        return {"loss": loss, "value_loss": value_loss, "conservative_gap": gap}

    @torch.no_grad()
    def targets(self, batch: LoggedBatch) -> Tensor:
        """Values (M, B) of the double-Q target."""
        after = batch.next_observations
        best = self.q(after).argmax(-1, keepdim=True)
        values = self._target.network(after).gather(-1, best).squeeze(-1)
        targets: Tensor = batch.rewards + self.gamma * batch.continues * values
        return targets

    def policy(self, member: int) -> NetworkPolicy:
        """The action of the greatest value."""
        network = MemberPolicy(Normalizer(self.replay, member), self.q.member(member), None)
        return NetworkPolicy(network, self.replay.observation_size)


class _EntropyWeight(nn.Module):
    """Logarithm of the weight of the policy's entropy, (M, 1)."""

    def __init__(self, n_members: int) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.zeros(n_members, 1))


class ContinuousCQL(ReplayLearner):
    """Continuous form: a policy, two critics and the weight of the entropy of all members."""

    def __init__(self, replay: Replay, config: Config, gamma: float) -> None:
        """Draw the policy, then the critics, from each member's generator."""
        assert replay.action_size is not None
        super().__init__(replay, config.n_updates)
        self.config, self.gamma = config, gamma
        d, self.action_size = replay.observation_size, replay.action_size
        generators = member_generators(replay.keys, streams.Replay.INITIAL_PARAMETERS)
        twice = [generator for generator in generators for _ in range(2)]
        self.actor = MemberMLP((d, *config.hidden_dims, 2 * self.action_size), generators)
        self.critics = MemberMLP((d + self.action_size, *config.hidden_dims, 1), twice)
        self.entropy_weight = _EntropyWeight(len(replay.keys))
        device = replay.device
        self._actor_adam = MemberAdam(self.actor.to(device), config.policy_learning_rate)
        self._critics_adam = MemberAdam(self.critics.to(device), config.learning_rate)
        self._weight_adam = MemberAdam(self.entropy_weight.to(device), config.policy_learning_rate)
        self._target = TargetNetwork(self._critics_adam)
        self.parts = {
            "actor": self._actor_adam,
            "critics": self._critics_adam,
            "entropy_weight": self._weight_adam,
            "target": self._target,
        }
        # For the policy's own loss, the target, and both kinds of actions in the logsumexp.
        shape = (2 + 2 * config.n_samples, config.batch_size, self.action_size)
        self._noise = normal_blocks(replay.keys, streams.CQL.POLICY_NOISE, shape, device)
        uniform_shape = (16, config.n_samples, config.batch_size, self.action_size)

        def draw(member: int, generator: torch.Generator) -> Tensor:
            return 2 * torch.rand(uniform_shape, generator=generator, device=device) - 1

        self._uniform = RandomBlocks(replay.keys, streams.CQL.UNIFORM_ACTIONS, 16, draw, device)

    def update(self, n_done: int) -> dict[str, Tensor]:
        """Make one step of the entropy's weight, the policy and the critics."""
        batch, noise = self.replay.batch(n_done), self._noise.at(n_done)
        actions, log_density = self._act(batch.observations, noise[:, 0])
        # The weight moves to where the policy's entropy is -a.
        surplus = (log_density.detach() - self.action_size).mean(1)
        weight_loss = -self.entropy_weight.logarithm[:, 0] * surplus
        minimize(weight_loss.sum(), self._weight_adam)
        weight = self.entropy_weight.logarithm.detach().exp()
        values = two_values(self.critics, batch.observations, actions).amin(1)
        policy_loss = (weight * log_density - values).mean(1)
        minimize(policy_loss.sum(), self._actor_adam)
        own = two_values(self.critics, batch.observations, batch.actions)
        targets = self.targets(batch, noise[:, 1])
        value_loss = (own - targets.unsqueeze(1)).square().mean(2).sum(1)
        gap = self._gap(batch, own, noise[:, 2:], self._uniform.at(n_done))
        loss = value_loss + self.config.conservative_weight * gap
        minimize(loss.sum(), self._critics_adam)
        self._target.follow(self.config.target_rate)
        return {"loss": loss, "value_loss": value_loss, "policy_loss": policy_loss}

    @torch.no_grad()
    def targets(self, batch: LoggedBatch, noise: Tensor) -> Tensor:
        """Values (M, B): the smaller of both target critics for a new action, without entropy."""
        actions, _ = self._act(batch.next_observations, noise)
        values = two_values(self._target.network, batch.next_observations, actions).amin(1)
        targets: Tensor = batch.rewards + self.gamma * batch.continues * values
        return targets

    def _gap(self, batch: LoggedBatch, own: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """Log of the integral of exp Q over actions, estimated, minus Q of the data's: (M,).

        Args:
            batch: B transitions.
            own: (M, 2, B) values of the data's actions.
            noise: (M, 2 S, B, a) of the policy's actions.
            uniform: (M, S, B, a) actions.
        """
        n_samples = self.config.n_samples
        with torch.no_grad():
            here, after = (
                rows.unsqueeze(1).expand(-1, n_samples, -1, -1).flatten(1, 2)
                for rows in (batch.observations, batch.next_observations)
            )
            policy_rows = torch.cat((here, after), 1)
            drawn, log_density = self._act(policy_rows, noise.flatten(1, 2))
            actions = torch.cat((uniform.flatten(1, 2), drawn), 1)  # (M, 3 S B, a)
            uniform_density = torch.full_like(log_density[:, : here.shape[1]], math.log(0.5))
            densities = torch.cat((uniform_density * self.action_size, log_density), 1)
        values = two_values(self.critics, here.repeat(1, 3, 1), actions)
        weighted = (values - densities.unsqueeze(1)).unflatten(2, (3 * n_samples, -1))
        gap: Tensor = (weighted.logsumexp(2) - own).mean(2).sum(1)
        return gap

    def _act(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (M, B, a) and their log-densities (M, B) for standard normal noise."""
        mean, log_std = self.actor(observations).chunk(2, -1)
        log_std = log_std.clamp(*_LOG_STD_BOUNDS)
        before = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)**2), without cancellation where x is large.
        squashing = 2 * (math.log(2) - before - F.softplus(-2 * before))
        return before.tanh(), (normal - squashing).sum(-1)

    def policy(self, member: int) -> NetworkPolicy:
        """The hyperbolic tangent of the mean."""
        normalizer, actor = Normalizer(self.replay, member), self.actor.member(member)
        network = MemberPolicy(normalizer, actor, self.action_size)
        return NetworkPolicy(network, self.replay.observation_size)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train the policies of every seed, as one batch; one solution for each."""
    return solve_with_learner(task, config, seeds, device, log, make_learner)
