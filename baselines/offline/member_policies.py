"""Policies of M members as what a solution holds: acting with numpy, saved as one ONNX model.

They act deterministically: the likeliest of discrete actions, or the mean clipped to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.offline.policy_gradient import Actor
from baselines.onnx_export import export_module


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
