"""Conditions frozen into policies: acting with numpy, saved as one ONNX model.

With its condition fixed, what a conditioned actor reads of it is a constant: it goes into the
first layer's bias, and is all in which the policies differ. They act deterministically: the mean
of a Normal policy, clipped to [-1, 1], or the likeliest action of a discrete one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rmdp_bench import Solution
from rmdp_bench.solution.onnx_export import export_module

FloatArray = npt.NDArray[np.float32]
_BUFFERS = (
    *("weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3"),
    *("mean", "scale"),
)


@dataclass(frozen=True)
class FrozenActor:
    """One actor under k conditions, and how it reads observations (d,)."""

    weight_1: FloatArray
    """(d, h)"""
    bias_1: FloatArray
    """(k, h) one for each condition."""
    weight_2: FloatArray
    """(h, h)"""
    bias_2: FloatArray
    """(h,)"""
    weight_3: FloatArray
    """(h, o)"""
    bias_3: FloatArray
    """(o,)"""
    mean: FloatArray
    """(d,) subtracted from the observations."""
    scale: FloatArray
    """(d,) multiplied with the difference."""
    clip: float | None
    """Bound on the result; None where observations are taken as they are."""
    discrete: bool
    """Whether the outputs are logits."""

    def act(self, observations: npt.NDArray[Any], biases: FloatArray) -> npt.NDArray[Any]:
        """Actions (E, a), or (E,) for discrete ones, with the first layer's biases (E, h)."""
        inputs = observations.astype(np.float32)
        if self.clip is not None:
            inputs = ((inputs - self.mean) * self.scale).clip(-self.clip, self.clip)
        hidden = np.tanh(inputs @ self.weight_1 + biases)
        hidden = np.tanh(hidden @ self.weight_2 + self.bias_2)
        outputs: FloatArray = hidden @ self.weight_3 + self.bias_3
        return outputs.argmax(-1) if self.discrete else outputs.clip(-1.0, 1.0)


@dataclass(frozen=True)
class FrozenPolicy:
    """`actor` under condition j."""

    actor: FrozenActor
    j: int

    def reset(self, n_envs: int) -> None:
        """Does nothing: the policy has no memory."""

    def act(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Actions (E, a) in [-1, 1], or (E,) for discrete ones, at observations (E, d)."""
        return self.actor.act(observations, self.actor.bias_1[[self.j]])


class _ExportedActor(nn.Module):
    """`FrozenActor.act` in torch for the exporter."""

    def __init__(self, actor: FrozenActor) -> None:
        super().__init__()
        self.actor = actor
        for name in _BUFFERS:
            self.register_buffer(name, torch.from_numpy(getattr(actor, name)))

    def forward(self, observation: Tensor, representative: Tensor) -> Tensor:
        """Actions (E, a) or (E,) at observations (E, d) of representatives (E,)."""
        b = dict(self.named_buffers())
        inputs = observation
        if self.actor.clip is not None:
            inputs = (inputs - b["mean"]) * b["scale"]
            inputs = inputs.clamp(-self.actor.clip, self.actor.clip)
        bias = b["bias_1"].index_select(0, representative)
        hidden = torch.tanh(inputs @ b["weight_1"] + bias)
        hidden = torch.tanh(hidden @ b["weight_2"] + b["bias_2"])
        outputs = hidden @ b["weight_3"] + b["bias_3"]
        return outputs.argmax(-1) if self.actor.discrete else outputs.clamp(-1.0, 1.0)


def export_onnx(actor: FrozenActor) -> bytes:
    """One ONNX model of all conditions, with the inputs that `Solution.export` names."""
    inputs = {
        "observation": torch.zeros(2, len(actor.mean)),
        "representative": torch.zeros(2, dtype=torch.int64),
    }
    return export_module(_ExportedActor(actor), inputs)


def make_solution(actor: FrozenActor, assignment: npt.NDArray[np.float64]) -> Solution:
    """A policy for each condition, with the assignment (n, k)."""
    policies = [FrozenPolicy(actor, j) for j in range(len(actor.bias_1))]
    return Solution(policies, assignment, functools.partial(export_onnx, actor))
