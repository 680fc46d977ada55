"""CaDM's networks: a dynamics model that reads an agent's hidden parameters off its last steps.

Lee, Seo, Lee, Lee, Shin, "Context-aware Dynamics Model for Generalization in Model-Based
Reinforcement Learning", ICML 2020 (arXiv 2005.06800); official code `younggyoseo/CaDM`.

A context encoder g maps the last H pairs of state difference and action to a context c. A forward
model f(s, a, c) predicts s' - s, a backward model b(s', a, c) predicts s - s'. One context serves
the transitions of the next M steps, so it can only hold what does not change on the way: the
agent's parameters. All has a leading axis of members (seeds times ensemble), see `networks`.

As in the official code: observations, continuous actions and differences are normalised by their
mean and standard deviation, discrete actions are one-hot; weights (not biases) have an L2 penalty
of their own in each layer; the backward model is deterministic for every kind of forward model.

Departures from the official code:
  - Differences in a history are divided by their standard deviation. The official code leaves them
    raw, which hides MountainCar's (about 0.001) beside actions of one.
  - A history at the beginning of an episode has its zeros first, so that the latest pair always has
    the same place; the official code has them last. No mask is given: a step that was never
    made has no action, all zeros, where a real discrete one is one-hot.
  - Parameters start as PyTorch's `nn.Linear` does (official: truncated normal, biases zero).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.offline.common.data import LoggedData, OfflineConfig
from baselines.offline.common.networks import (
    MemberMLP,
    action_features,
    member_generators,
    member_keys,
)
from baselines.offline.planning.planner import PlannerConfig

SMALLEST_SCALE = 1e-6
"""Bound of standard deviations from below: a constant coordinate is not blown up."""


@dataclass(frozen=True)
class ContextConfig(OfflineConfig, PlannerConfig):
    """Settings of the networks, of their training and of the planner."""

    n_updates: int = 20_000
    """Gradient updates. (Official code: about 75,000, in 20 rounds of collecting and fitting.)"""
    batch_size: int = 256
    """Transitions of an update, for each member. If it is a multiple of 64, a member's numbers on a
    CPU do not depend on who is trained beside it (torch rounds the rest of a vector otherwise)."""
    learning_rate: float = 1e-3
    """Adam's, at the start."""
    final_learning_rate: float = 1e-5
    """Adam's, at the end; geometric in between. (Official code: constant, but four times as many
    updates.)"""
    hidden_sizes: tuple[int, ...] = (200, 200, 200, 200)
    """Hidden layers of the forward and of the backward model (swish)."""
    weight_decays: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    """Penalty of each of their layers: half the sum of squared weights is multiplied by it."""
    encoder_sizes: tuple[int, ...] = (256, 128, 64)
    """Hidden layers of the context encoder (ReLU)."""
    encoder_weight_decays: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5)
    """Penalty of each of its layers."""
    context_size: int = 10
    """Numbers in a context."""
    history_length: int = 10
    """H: pairs of state difference and action from which a context is made."""
    future_length: int = 10
    """M: transitions that one context must explain."""
    backward_coefficient: float = 0.5
    """Weight of the backward loss."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range, and layers without a penalty."""
        OfflineConfig.__post_init__(self)
        PlannerConfig.__post_init__(self)
        check_range(self, 1, math.inf, "n_updates", "batch_size", "context_size")
        check_range(self, 1, 1000, "history_length", "future_length")
        check_range(self, 1e-12, 1.0, "learning_rate", "final_learning_rate")
        check_range(self, 0.0, math.inf, "backward_coefficient")
        for sizes, decays in (
            ("hidden_sizes", "weight_decays"),
            ("encoder_sizes", "encoder_weight_decays"),
        ):
            n_layers = len(getattr(self, sizes)) + 1
            if min(getattr(self, sizes), default=0) < 1:
                raise ValueError(f"{sizes} is {getattr(self, sizes)}; expected positive sizes")
            values = getattr(self, decays)
            if len(values) != n_layers or min(values) < 0 or math.isinf(max(values)):
                raise ValueError(f"{decays} is {values}; expected {n_layers} numbers from 0")


class ForwardHead(nn.Module, ABC):
    """What the outputs of the forward model mean."""

    @abstractmethod
    def n_outputs(self, observation_size: int) -> int:
        """Number of outputs o for observations of a size d."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss (K,) of outputs (K, B, o) for normalised differences (K, B, d)."""

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """Normalised differences (K, B, d) that are expected, from outputs (K, B, o)."""


@dataclass(frozen=True)
class Scales:
    """Means and standard deviations over the transitions of all agents.

    Attributes:
        observations: mean and standard deviation, (2, d).
        differences: those of next observation minus observation, (2, d).
        actions: (2, a); zeros and ones for discrete ones.
    """

    observations: Tensor
    differences: Tensor
    actions: Tensor

    @classmethod
    def from_data(cls, data: LoggedData, n_actions: int | None) -> Scales:
        """Those of logged data; `n_actions` is None where actions are continuous."""
        if n_actions is None:
            actions = _mean_and_scale(data.actions)
        else:
            zeros = torch.zeros(n_actions, device=data.actions.device)
            actions = torch.stack([zeros, zeros + 1])
        differences = data.next_observations - data.observations
        return cls(_mean_and_scale(data.observations), _mean_and_scale(differences), actions)


def _mean_and_scale(rows: Tensor) -> Tensor:
    exact = rows.double()
    scale = exact.std(0, correction=0).clamp_min(SMALLEST_SCALE)
    return torch.stack([exact.mean(0), scale]).float()


class ContextModel(nn.Module):
    """K members, each with an encoder, a forward and a backward model.

    Attributes:
        head: what the forward model's outputs mean.
        history_length: H.
    """

    def __init__(
        self,
        config: ContextConfig,
        scales: Scales,
        n_actions: int | None,
        head: ForwardHead,
        seeds: Sequence[int],
        ensemble_size: int,
    ) -> None:
        """Draw the parameters on the CPU; member r * ensemble_size + e is the e-th of seed r."""
        super().__init__()
        self.n_actions, self.head = n_actions, head
        self.history_length = config.history_length
        d, a = scales.observations.shape[1], scales.actions.shape[1]
        self.observation_size, self.action_size = d, a
        for name in Scales.__annotations__:
            self.register_buffer(f"{name}_scales", getattr(scales, name).cpu())
        self.observations_scales: Tensor
        self.differences_scales: Tensor
        self.actions_scales: Tensor

        keys = member_keys(seeds, ensemble_size)

        def network(
            purpose: int, sizes: list[int], activation: Callable[[Tensor], Tensor]
        ) -> MemberMLP:
            return MemberMLP(sizes, member_generators(keys, purpose), activation=activation)

        inputs = [d + a + config.context_size, *config.hidden_sizes]
        history = config.history_length * (d + a)
        self.encoder = network(
            streams.CaDM.ENCODER, [history, *config.encoder_sizes, config.context_size], torch.relu
        )
        self.forward_model = network(
            streams.CaDM.FORWARD_MODEL, [*inputs, head.n_outputs(d)], nn.functional.silu
        )
        self.backward_model = network(streams.CaDM.BACKWARD_MODEL, [*inputs, d], nn.functional.silu)

    @property
    def n_members(self) -> int:
        """K."""
        return len(self.encoder.weights[0])

    def pairs(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """What a history holds of a step: scaled difference and action, (..., d + a)."""
        differences = (next_observations - observations) / self.differences_scales[1]
        return torch.cat([differences, action_features(actions, self.n_actions)], -1)

    def encode(self, histories: Tensor) -> Tensor:
        """Contexts (K, B, c) of histories (K, B, H, d + a), the latest pair last."""
        contexts: Tensor = self.encoder(histories.flatten(2))
        return contexts

    def inputs(self, observations: Tensor, actions: Tensor, contexts: Tensor) -> Tensor:
        """Rows (K, B, d + a + c) of the forward or backward model.

        Args:
            observations: (K, B, d).
            actions: (K, B, ...), or (B, ...) where all members have the same.
            contexts: (K, B, c).
        """
        mean, scale = self.observations_scales
        action_mean, action_scale = self.actions_scales
        features = (action_features(actions, self.n_actions) - action_mean) / action_scale
        features = features.expand(*observations.shape[:-1], -1)
        return torch.cat([(observations - mean) / scale, features, contexts], -1)

    def predict(self, observations: Tensor, actions: Tensor, contexts: Tensor) -> Tensor:
        """Expected next observations (K, B, d); arguments as of `inputs`."""
        outputs = self.forward_model(self.inputs(observations, actions, contexts))
        mean, scale = self.differences_scales
        predictions: Tensor = observations + self.head.mean(outputs) * scale + mean
        return predictions

    def losses(
        self, histories: Tensor, observations: Tensor, actions: Tensor, next_observations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Forward and backward losses (K,) of rows (K, B, ...)."""
        contexts = self.encode(histories)
        mean, scale = self.differences_scales
        targets = (next_observations - observations - mean) / scale
        forward = self.forward_model(self.inputs(observations, actions, contexts))
        backward = self.backward_model(self.inputs(next_observations, actions, contexts))
        # The difference backwards is the negative: same scale, and the sign of its mean changes.
        return self.head.loss(forward, targets), ((backward + targets) ** 2).mean((1, 2))
