"""BCQ, batch-constrained Q-learning: values and actions stay where the data are.

Discrete (Fujimoto, Conti, Ghavamzadeh, Pineau 2019, arXiv 1910.01708): an imitation network G
estimates the policy of the data, and only actions with G(a | s) / max G(. | s) > threshold are
considered, when acting and in the double-Q target. Continuous (Fujimoto, Meger, Precup 2019, arXiv
1812.02900, algorithm 1): a variational autoencoder proposes actions like those of the data, an
actor perturbs them a little, and two critics choose.

Settings are those of the official code (sfujim/BCQ). Choices:
  - The likeliest action is allowed whatever the threshold (with the code's >, none is at 1).
  - A trajectory that the time limit cut goes on: only `terminated` stops the bootstrap.
  - Observations are standardised by the data's statistics (`normalize_observations`).
  - A continuous policy considers the proposals of the same 100 latents, drawn once, in every state;
    the code draws them anew. So the policy is deterministic, as a saved one has to be.
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
from baselines.offline.common.networks import (
    MemberMLP,
    as_array,
    member_generators,
    two_values,
)
from baselines.offline.common.optimization import MemberAdam, TargetNetwork, minimize
from baselines.offline.common.policies import (
    NetworkPolicy,
    Normalizer,
    PolicyNetwork,
    ReplayLearner,
    ScopedConfig,
    solve_with_learner,
)
from baselines.offline.common.replay import LoggedBatch, Replay, normal_blocks
from baselines.offline.common.spaces import n_discrete_actions
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.solution.onnx_graphs import PolicyGraph
from rmdp_bench.tasks import OfflineTask, Task

_LATENT_BOUND = 0.5
"""Bound on latents from the prior, so that proposals are likely ones."""
_LOG_STD_BOUNDS = (-4.0, 15.0)
"""Of the encoder's standard deviation."""


@dataclass(frozen=True)
class Config(ScopedConfig):
    """Settings of both forms; `bcq_settings` has those that continuous actions replace."""

    learning_rate: float = 3e-4
    """Adam's step size, of all networks."""
    hidden_dims: tuple[int, ...] = (256, 256)
    """Hidden layers of the value and imitation networks, or of actor and critics."""
    target_rate: float = 0.005
    """Share of the distance that target networks move at each update."""
    threshold: float = 0.3
    """Discrete: actions less likely than this share of the likeliest one's are left out."""
    logit_penalty: float = 0.01
    """Discrete: weight of the mean squared logit of the imitation network."""
    autoencoder_hidden_dims: tuple[int, ...] = (750, 750)
    """Continuous: hidden layers of encoder and decoder."""
    perturbation: float = 0.05
    """Continuous: most that the actor adds to a proposed action."""
    minimum_weight: float = 0.75
    """Continuous: weight of the smaller of the two target values; the larger has the rest."""
    n_target_samples: int = 10
    """Continuous: proposals of which the target takes the best."""
    n_action_samples: int = 100
    """Continuous: proposals of which the policy takes the best."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        check_range(self, 1e-12, 1, "learning_rate", "target_rate")
        check_range(self, 0, 1, "threshold", "minimum_weight", "perturbation")
        check_range(self, 0, math.inf, "logit_penalty")
        check_range(self, 1, math.inf, "n_target_samples", "n_action_samples")


CONTINUOUS_SETTINGS: dict[str, Any] = {
    "n_updates": 20_000,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "hidden_dims": (400, 300),
}
"""They replace the defaults where actions are continuous.

The paper makes 1,000,000 updates, hours on a GPU and many on a CPU: `--set n_updates=1000000`.
"""


def bcq_settings(task: Task) -> dict[str, Any]:
    """Settings that a task replaces, by name of the field."""
    return CONTINUOUS_SETTINGS if n_discrete_actions(task) is None else {}


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**bcq_settings(task))


check = check_offline


def make_learner(
    replay: Replay, config: Config, gamma: float, n_actions: int | None
) -> ReplayLearner:
    """The learner for these data; n_actions is None where actions are continuous."""
    if n_actions is None:
        return ContinuousBCQ(replay, config, gamma)
    return DiscreteBCQ(replay, config, gamma, n_actions)


class DiscreteBCQ(ReplayLearner):
    """Discrete form: values Q and imitation G of all members."""

    def __init__(self, replay: Replay, config: Config, gamma: float, n_actions: int) -> None:
        """Draw the networks, first Q, then G, from each member's generator."""
        super().__init__(replay, config.n_updates)
        self.config, self.gamma = config, gamma
        sizes = (replay.observation_size, *config.hidden_dims, n_actions)
        generators = member_generators(replay.keys, streams.Replay.INITIAL_PARAMETERS)
        self.q = MemberMLP(sizes, generators).to(replay.device)
        self.imitation = MemberMLP(sizes, generators).to(replay.device)
        self._q_adam = MemberAdam(self.q, config.learning_rate)
        self._imitation_adam = MemberAdam(self.imitation, config.learning_rate)
        self._target = TargetNetwork(self._q_adam)
        self.parts = {
            "q": self._q_adam,
            "imitation": self._imitation_adam,
            "target": self._target,
        }

    def update(self, n_done: int) -> dict[str, Tensor]:
        """Make one step of both networks; equations 4 and 5 of arXiv 1910.01708."""
        batch = self.replay.batch(n_done)
        chosen = batch.actions.unsqueeze(-1)
        values = self.q(batch.observations).gather(-1, chosen).squeeze(-1)
        value_loss = F.smooth_l1_loss(values, self.targets(batch), reduction="none").mean(-1)
        logits = self.imitation(batch.observations)
        log_likelihood = logits.log_softmax(-1).gather(-1, chosen).squeeze(-1).mean(-1)
        penalty = self.config.logit_penalty * logits.square().mean((1, 2))
        loss = value_loss - log_likelihood + penalty
        minimize(loss.sum(), self._q_adam, self._imitation_adam)
        self._target.follow(self.config.target_rate)
        return {"loss": loss, "value_loss": value_loss, "imitation_loss": -log_likelihood}

    @torch.no_grad()
    def targets(self, batch: LoggedBatch) -> Tensor:
        """Values (M, B) of the double-Q target: Q chooses among allowed actions, a copy judges."""
        after = batch.next_observations
        best = _best_allowed(self.q(after), self.imitation(after), self.config.threshold)
        values = self._target.network(after).gather(-1, best.unsqueeze(-1)).squeeze(-1)
        targets: Tensor = batch.rewards + self.gamma * batch.continues * values
        return targets

    def policy(self, member: int) -> NetworkPolicy:
        """The best allowed action."""
        network = _DiscreteNetwork(
            Normalizer(self.replay, member),
            self.q.member(member),
            self.imitation.member(member),
            self.config.threshold,
        )
        return NetworkPolicy(network, self.replay.observation_size)


def _best_allowed(values: Tensor, logits: Tensor, threshold: float) -> Tensor:
    """Actions (...) of the greatest values (..., A) among those that the data support."""
    share = (logits - logits.amax(-1, keepdim=True)).exp()
    return torch.where(share >= threshold, values, -torch.inf).argmax(-1)


class _DiscreteNetwork(PolicyNetwork):
    action_size = None

    def __init__(
        self, normalizer: Normalizer, q: MemberMLP, imitation: MemberMLP, threshold: float
    ) -> None:
        super().__init__()
        self.normalizer, self.q, self.imitation = normalizer, q, imitation
        self.threshold = threshold

    def forward(self, observation: Tensor) -> Tensor:
        rows = self.normalizer(observation).unsqueeze(0)
        return _best_allowed(self.q(rows), self.imitation(rows), self.threshold).squeeze(0)

    def write(self, graph: PolicyGraph, observation: str) -> str:
        rows = self.normalizer.write(graph, observation)
        values, logits = self.q.write(graph, rows), self.imitation.write(graph, rows)
        greatest = graph.add("ReduceMax", logits, graph.constant([-1]))
        share = graph.add("Exp", graph.add("Sub", logits, greatest))
        allowed = graph.add("GreaterOrEqual", share, graph.constant(self.threshold))
        values = graph.add("Where", allowed, values, graph.constant(-math.inf))
        return graph.add("ArgMax", values, axis=-1, keepdims=0)


class ContinuousBCQ(ReplayLearner):
    """Continuous form: autoencoder, actor and two critics of all members."""

    def __init__(self, replay: Replay, config: Config, gamma: float) -> None:
        """Draw the networks from each member's generator, in the order in which they stand."""
        assert replay.action_size is not None
        super().__init__(replay, config.n_updates)
        self.config, self.gamma = config, gamma
        d, a = replay.observation_size, replay.action_size
        self.latent_size = 2 * a
        generators = member_generators(replay.keys, streams.Replay.INITIAL_PARAMETERS)
        twice = [generator for generator in generators for _ in range(2)]
        hidden, wide = config.hidden_dims, config.autoencoder_hidden_dims
        self.encoder = MemberMLP((d + a, *wide, 2 * self.latent_size), generators)
        self.decoder = MemberMLP((d + self.latent_size, *wide, a), generators)
        self.actor = MemberMLP((d + a, *hidden, a), generators)
        self.critics = MemberMLP((d + a, *hidden, 1), twice)
        self._encoder_adam, self._decoder_adam, self._actor_adam, self._critics_adam = (
            MemberAdam(network.to(replay.device), config.learning_rate)
            for network in (self.encoder, self.decoder, self.actor, self.critics)
        )
        self._target_actor = TargetNetwork(self._actor_adam)
        self._target_critics = TargetNetwork(self._critics_adam)
        self.parts = {
            "encoder": self._encoder_adam,
            "decoder": self._decoder_adam,
            "actor": self._actor_adam,
            "critics": self._critics_adam,
            "target_actor": self._target_actor,
            "target_critics": self._target_critics,
        }
        n, latent, device = config.batch_size, self.latent_size, replay.device
        self._latent_noise = normal_blocks(
            replay.keys, streams.BCQ.LATENT_NOISE, (n, latent), device
        )
        self._actor_noise = normal_blocks(replay.keys, streams.BCQ.ACTOR_NOISE, (n, latent), device)
        self._target_noise = normal_blocks(
            replay.keys, streams.BCQ.TARGET_NOISE, (n * config.n_target_samples, latent), device
        )

    def update(self, n_done: int) -> dict[str, Tensor]:
        """Make one step of the autoencoder, the critics and the actor, in this order."""
        batch = self.replay.batch(n_done)
        autoencoder_loss = self._autoencoder_loss(batch, self._latent_noise.at(n_done))
        minimize(autoencoder_loss.sum(), self._encoder_adam, self._decoder_adam)
        targets = self.targets(batch, self._target_noise.at(n_done))
        values = two_values(self.critics, batch.observations, batch.actions)
        value_loss = (values - targets.unsqueeze(1)).square().mean(2).sum(1)
        minimize(value_loss.sum(), self._critics_adam)
        with torch.no_grad():
            latents = self._actor_noise.at(n_done).clamp(-_LATENT_BOUND, _LATENT_BOUND)
            proposals = _decode(self.decoder, batch.observations, latents)
        actions = self._perturb(self.actor, batch.observations, proposals)
        actor_loss = -two_values(self.critics, batch.observations, actions)[:, 0].mean(1)
        minimize(actor_loss.sum(), self._actor_adam)
        self._target_actor.follow(self.config.target_rate)
        self._target_critics.follow(self.config.target_rate)
        return {"loss": value_loss, "imitation_loss": autoencoder_loss, "actor_loss": actor_loss}

    def _autoencoder_loss(self, batch: LoggedBatch, noise: Tensor) -> Tensor:
        """Squared error of the decoded action plus half the divergence from the prior, (M,)."""
        encoded = self.encoder(torch.cat((batch.observations, batch.actions), -1))
        mean, log_std = encoded.chunk(2, -1)
        log_std = log_std.clamp(*_LOG_STD_BOUNDS)
        std = log_std.exp()
        decoded = _decode(self.decoder, batch.observations, mean + std * noise)
        divergence = -0.5 * (1 + 2 * log_std - mean.square() - std.square()).mean((1, 2))
        loss: Tensor = (decoded - batch.actions).square().mean((1, 2)) + 0.5 * divergence
        return loss

    @torch.no_grad()
    def targets(self, batch: LoggedBatch, noise: Tensor) -> Tensor:
        """Values (M, B) of the best of some proposals, by both target critics."""
        config = self.config
        after = batch.next_observations.repeat_interleave(config.n_target_samples, 1)
        latents = noise.clamp(-_LATENT_BOUND, _LATENT_BOUND)
        proposals = _decode(self.decoder, after, latents)
        actions = self._perturb(self._target_actor.network, after, proposals)
        values = two_values(self._target_critics.network, after, actions)
        weight = config.minimum_weight
        mixed = weight * values.amin(1) + (1 - weight) * values.amax(1)
        best = mixed.unflatten(1, (-1, config.n_target_samples)).amax(2)
        targets: Tensor = batch.rewards + self.gamma * batch.continues * best
        return targets

    def _perturb(self, actor: nn.Module, observations: Tensor, actions: Tensor) -> Tensor:
        return _perturbed(actor, observations, actions, self.config.perturbation)

    def policy(self, member: int) -> NetworkPolicy:
        """The proposal, perturbed, that the first critic likes best."""
        (generator,) = member_generators([self.replay.keys[member]], streams.BCQ.POLICY_NOISE)
        shape = (self.config.n_action_samples, self.latent_size)
        network = _ContinuousNetwork(
            Normalizer(self.replay, member),
            self.decoder.member(member),
            self.actor.member(member),
            self.critics.member(2 * member),
            torch.randn(shape, generator=generator).clamp(-_LATENT_BOUND, _LATENT_BOUND),
            self.config.perturbation,
        )
        return NetworkPolicy(network, self.replay.observation_size)


def _decode(decoder: nn.Module, observations: Tensor, latents: Tensor) -> Tensor:
    actions: Tensor = decoder(torch.cat((observations, latents), -1)).tanh()
    return actions


def _perturbed(actor: nn.Module, observations: Tensor, actions: Tensor, bound: float) -> Tensor:
    change = actor(torch.cat((observations, actions), -1)).tanh()
    moved: Tensor = (actions + bound * change).clamp(-1.0, 1.0)
    return moved


class _ContinuousNetwork(PolicyNetwork):
    latents: Tensor

    def __init__(
        self,
        normalizer: Normalizer,
        decoder: MemberMLP,
        actor: MemberMLP,
        critic: MemberMLP,
        latents: Tensor,
        perturbation: float,
    ) -> None:
        super().__init__()
        self.normalizer, self.decoder, self.actor = normalizer, decoder, actor
        self.critic, self.perturbation = critic, perturbation
        self.action_size = decoder.sizes[-1]
        self.register_buffer("latents", latents)

    def forward(self, observation: Tensor) -> Tensor:
        latents = self.latents  # (S, l)
        n_rows, n_samples = observation.shape[0], latents.shape[0]
        rows = self.normalizer(observation).unsqueeze(1).expand(-1, n_samples, -1)  # (E, S, d)
        rows = rows.reshape(1, n_rows * n_samples, rows.shape[-1])
        latents = latents.unsqueeze(0).expand(n_rows, -1, -1)
        latents = latents.reshape(1, n_rows * n_samples, latents.shape[-1])
        proposals = _decode(self.decoder, rows, latents)
        actions = _perturbed(self.actor, rows, proposals, self.perturbation)
        values = self.critic(torch.cat((rows, actions), -1)).reshape(n_rows, n_samples)
        best = values.argmax(1)[:, None, None].expand(-1, 1, actions.shape[-1])
        return actions.reshape(n_rows, n_samples, actions.shape[-1]).gather(1, best).squeeze(1)

    def write(self, graph: PolicyGraph, observation: str) -> str:
        n_samples, latent_size = self.latents.shape
        n_rows = graph.add("Shape", observation, start=0, end=1)

        def expand(rows: str, *rest: int) -> str:
            shape = graph.add("Concat", n_rows, graph.constant([*rest]), axis=0)
            return graph.add("Expand", rows, shape)

        def both(left: str, right: str) -> str:
            return graph.add("Concat", left, right, axis=-1)

        rows = self.normalizer.write(graph, observation)
        rows = graph.add("Unsqueeze", rows, graph.constant([1]))
        rows = expand(rows, n_samples, 1)  # (E, S, d)
        latents = expand(graph.constant(as_array(self.latents)), n_samples, latent_size)
        proposals = graph.add("Tanh", self.decoder.write(graph, both(rows, latents)))
        change = graph.add("Tanh", self.actor.write(graph, both(rows, proposals)))
        change = graph.add("Mul", change, graph.constant(self.perturbation))
        moved = graph.add("Add", proposals, change)
        actions = graph.add("Clip", moved, graph.constant(-1.0), graph.constant(1.0))
        values = self.critic.write(graph, both(rows, actions))  # (E, S, 1)
        best = graph.add("ArgMax", values, axis=1, keepdims=0)  # (E, 1)
        return graph.add("GatherND", actions, best, batch_dims=1)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train the policies of every seed, as one batch; one solution for each."""
    return solve_with_learner(task, config, seeds, device, log, make_learner)
