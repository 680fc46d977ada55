"""Stochastic policies of M members in training, and what a solution holds of them.

The latter act with numpy, are saved as one ONNX model, and are deterministic: the likeliest of
discrete actions, or the mean clipped to [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.offline.networks import MemberMLP
from baselines.onnx_export import export_module


class Actor(nn.Module):
    """M policies: softmax, or Normal with a standard deviation that does not depend on the state.

    Attributes:
        discrete: whether the outputs are logits; else they are means.
        log_std: (M, 1, a) parameter; None for softmax policies.
    """

    def __init__(
        self,
        mean: Tensor,
        scale: Tensor,
        n_outputs: int,
        hidden_sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        log_std: float | None = None,
        min_log_std: float = -1.0,
    ) -> None:
        """Draws the policies.

        Args:
            mean: (M, 1, d) subtracted from observations.
            scale: (M, 1, d) by which the difference is divided.
            n_outputs: number of actions, or their dimensions a.
            hidden_sizes: of the tanh layers.
            generators: M.
            log_std: initial one; None: actions are discrete.
            min_log_std: where it is kept from falling further.
        """
        super().__init__()
        sizes = (mean.shape[-1], *hidden_sizes, n_outputs)
        self.network = MemberMLP(sizes, generators, activation=torch.tanh).to(mean.device)
        self.mean, self.scale, self.min_log_std = mean, scale, min_log_std
        self.discrete = log_std is None
        self.log_std: nn.Parameter | None = None
        if log_std is not None:
            initial = torch.full((len(generators), 1, n_outputs), log_std, device=mean.device)
            self.log_std = nn.Parameter(initial)

    def forward(self, observations: Tensor) -> Tensor:
        """Logits or means (M, B, o) at observations (M, B, d)."""
        outputs: Tensor = self.network((observations - self.mean) / self.scale)
        return outputs

    def draw_noise(
        self, n_steps: int, n_paths: int, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Noise (n_steps, M, n_paths, o) for `act`, each member's from its own generator."""
        shape = (n_steps, n_paths, self.network.sizes[-1])
        if self.discrete:  # Gumbel's: the greatest sum with the logits is a softmax sample
            parts = [torch.empty(shape).exponential_(generator=g).log_().neg_() for g in generators]
        else:
            parts = [torch.empty(shape).normal_(generator=g) for g in generators]
        return torch.stack(parts, 1).to(self.mean.device)

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Samples (M, B), or (M, B, a) which may leave [-1, 1]; no noise: the likeliest."""
        outputs = self(observations)
        if self.log_std is None:
            actions: Tensor = (outputs + noise).argmax(-1)
            return actions
        drawn: Tensor = outputs + self.log_std.exp() * noise
        return drawn

    def log_probabilities(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(M, B) log-probabilities (densities) of actions."""
        outputs = self(observations)
        if self.log_std is None:
            logs = outputs.log_softmax(-1)
            chosen: Tensor = logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
            return chosen
        deviations = (actions - outputs) / self.log_std.exp()
        constant = self.log_std + 0.5 * math.log(2 * math.pi)
        densities: Tensor = -(0.5 * deviations.square() + constant).sum(-1)
        return densities

    def cloning_loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(M,) cross-entropy, or mean squared error, of logged actions."""
        if self.discrete:
            return -self.log_probabilities(observations, actions).mean(1)
        errors: Tensor = (self(observations) - actions).square().mean((1, 2))
        return errors


@dataclass(frozen=True)
class MemberPolicies:
    """k multilayer perceptrons with tanh between their layers, and how they read observations."""

    weights: tuple[npt.NDArray[np.float32], ...]
    """(k, i, o) of every layer."""
    biases: tuple[npt.NDArray[np.float32], ...]
    """(k, 1, o) of every layer."""
    mean: npt.NDArray[np.float32]
    """(k, 1, d) subtracted from observations."""
    scale: npt.NDArray[np.float32]
    """(k, 1, d) by which the difference is divided."""
    discrete: bool
    """Whether the outputs are logits."""

    @staticmethod
    def of(actor: Actor, members: Sequence[int]) -> MemberPolicies:
        """Copies of some members of an actor."""

        def copy(tensor: Tensor) -> npt.NDArray[np.float32]:
            chosen: npt.NDArray[np.float32] = tensor.detach()[list(members)].cpu().numpy().copy()
            return chosen

        network = actor.network
        return MemberPolicies(
            tuple(copy(weight) for weight in network.weights),
            tuple(copy(bias) for bias in network.biases),
            copy(actor.mean),
            copy(actor.scale),
            actor.discrete,
        )

    def policy(self, j: int) -> MemberPolicy:
        """Policy j."""
        return MemberPolicy(self, j)

    def export(self) -> bytes:
        """One ONNX model of all k, with the inputs that `Solution.export` names."""
        inputs = {
            "observation": torch.zeros(2, self.mean.shape[2]),
            "representative": torch.zeros(2, dtype=torch.int64),
        }
        return export_module(_ExportedPolicies(self), inputs)


@dataclass(frozen=True)
class MemberPolicy:
    """Policy j of some."""

    policies: MemberPolicies
    j: int

    def reset(self, n_envs: int) -> None:
        """Does nothing: the policy has no memory."""

    def act(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Actions (E, a) in [-1, 1], or (E,) for discrete ones, at observations (E, d)."""
        own = self.policies
        rows = (observations.astype(np.float32) - own.mean[self.j]) / own.scale[self.j]
        for layer, (weight, bias) in enumerate(zip(own.weights, own.biases, strict=True)):
            rows = (np.tanh(rows) if layer else rows) @ weight[self.j] + bias[self.j]
        actions: npt.NDArray[Any] = rows.argmax(-1) if own.discrete else rows.clip(-1.0, 1.0)
        return actions


class _ExportedPolicies(nn.Module):
    """`MemberPolicy.act` for rows of any policy, in torch for the exporter."""

    def __init__(self, policies: MemberPolicies) -> None:
        super().__init__()
        self.discrete, self.n_layers = policies.discrete, len(policies.weights)
        for layer in range(self.n_layers):
            self.register_buffer(f"weight{layer}", torch.from_numpy(policies.weights[layer]))
            self.register_buffer(f"bias{layer}", torch.from_numpy(policies.biases[layer]))
        self.register_buffer("mean", torch.from_numpy(policies.mean))
        self.register_buffer("scale", torch.from_numpy(policies.scale))

    def forward(self, observation: Tensor, representative: Tensor) -> Tensor:
        """Actions (E, a) or (E,) at observations (E, d) of policies (E,)."""
        own = {n: b.index_select(0, representative) for n, b in self.named_buffers()}
        rows = (observation.unsqueeze(1) - own["mean"]) / own["scale"]
        for layer in range(self.n_layers):
            rows = torch.tanh(rows) if layer else rows
            rows = rows @ own[f"weight{layer}"] + own[f"bias{layer}"]
        outputs = rows.squeeze(1)
        return outputs.argmax(-1) if self.discrete else outputs.clamp(-1.0, 1.0)
