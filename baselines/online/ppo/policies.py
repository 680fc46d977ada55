"""The trained representatives as policies: acting with numpy, saved as one ONNX model.

Both act deterministically: the mean of a Normal policy, clipped to [-1, 1], or the likeliest
action of a discrete one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rmdp_bench.solution import Solution
from rmdp_bench.solution.onnx_export import export_module


@dataclass(frozen=True)
class Actors:
    """The actors of one seed's k representatives, and how they read observations (d,)."""

    hidden_weight: npt.NDArray[np.float32]
    """(d, h)"""
    hidden_bias: npt.NDArray[np.float32]
    """(1, h)"""
    head_weight: npt.NDArray[np.float32]
    """(k, h, o)"""
    head_bias: npt.NDArray[np.float32]
    """(k, 1, o)"""
    mean: npt.NDArray[np.float32]
    """(d,) subtracted from the observations."""
    scale: npt.NDArray[np.float32]
    """(d,) multiplied with the difference."""
    clip: float | None
    """Bound on the result; None where observations are taken as they are."""
    discrete: bool
    """Whether the outputs are logits."""
    second_weight: npt.NDArray[np.float32] | None = None
    """(h, h) of a second hidden layer, if there is one."""
    second_bias: npt.NDArray[np.float32] | None = None
    """(1, h)"""


@dataclass(frozen=True)
class RepresentativePolicy:
    """Representative j of `actors`."""

    actors: Actors
    j: int

    def reset(self, n_envs: int) -> None:
        """Does nothing: the policy has no memory."""

    def act(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Actions (E, a) in [-1, 1], or (E,) for discrete ones, at observations (E, d)."""
        actors = self.actors
        inputs = observations.astype(np.float32)
        if actors.clip is not None:
            inputs = ((inputs - actors.mean) * actors.scale).clip(-actors.clip, actors.clip)
        hidden = np.tanh(inputs @ actors.hidden_weight + actors.hidden_bias)
        if actors.second_weight is not None:
            hidden = np.tanh(hidden @ actors.second_weight + actors.second_bias)
        outputs: npt.NDArray[np.float32] = (
            hidden @ actors.head_weight[self.j] + actors.head_bias[self.j]
        )
        return outputs.argmax(-1) if actors.discrete else outputs.clip(-1.0, 1.0)


class _ExportedActors(nn.Module):
    """`RepresentativePolicy.act` for rows of any representative, in torch for the exporter."""

    def __init__(self, actors: Actors) -> None:
        super().__init__()
        self.actors = actors
        for name, array in vars(actors).items():
            if isinstance(array, np.ndarray):
                self.register_buffer(name, torch.from_numpy(array))

    def forward(self, observation: Tensor, representative: Tensor) -> Tensor:
        """Actions (E, a) or (E,) at observations (E, d) of representatives (E,)."""
        buffers = dict(self.named_buffers())
        inputs = observation
        if self.actors.clip is not None:
            inputs = (inputs - buffers["mean"]) * buffers["scale"]
            inputs = inputs.clamp(-self.actors.clip, self.actors.clip)
        hidden = torch.tanh(inputs @ buffers["hidden_weight"] + buffers["hidden_bias"])
        if self.actors.second_weight is not None:
            hidden = torch.tanh(hidden @ buffers["second_weight"] + buffers["second_bias"])
        weight = buffers["head_weight"].index_select(0, representative)
        bias = buffers["head_bias"].index_select(0, representative)
        outputs = (hidden.unsqueeze(1) @ weight + bias).squeeze(1)
        return outputs.argmax(-1) if self.actors.discrete else outputs.clamp(-1.0, 1.0)


def export_onnx(actors: Actors) -> bytes:
    """One ONNX model of all representatives, with the inputs that `Solution.export` names."""
    inputs = {
        "observation": torch.zeros(2, len(actors.mean)),
        "representative": torch.zeros(2, dtype=torch.int64),
    }
    return export_module(_ExportedActors(actors), inputs)


class _ExportedAlone(nn.Module):
    """The only representative, which no input needs to name."""

    def __init__(self, actors: Actors) -> None:
        super().__init__()
        self.actors = _ExportedActors(actors)

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (E, a) or (E,) at observations (E, d)."""
        first = torch.zeros_like(observation[:, 0], dtype=torch.int64)
        actions: Tensor = self.actors(observation, first)
        return actions


def export_alone(solution: Solution) -> bytes:
    """The ONNX model of the only policy of a learner's solution."""
    (policy,) = solution.policies
    assert isinstance(policy, RepresentativePolicy)
    inputs = {"observation": torch.zeros(2, len(policy.actors.mean))}
    return export_module(_ExportedAlone(policy.actors), inputs)


def make_solution(
    network: Mapping[str, npt.NDArray[np.float32]],
    mean: npt.NDArray[np.floating[Any]],
    scale: npt.NDArray[np.floating[Any]],
    clip: float | None,
    discrete: bool,
    assignment: npt.NDArray[np.float64],
) -> Solution:
    """A solution from one seed's actor parameters, as `HeadedNetwork.split` names them.

    Args:
        network: hidden_weight (1, d, h), hidden_bias (1, 1, h), head_weight (k, h, o),
            head_bias (k, 1, o), and hidden_weight_2 (1, h, h), hidden_bias_2 (1, 1, h) if any.
        mean: (d,) subtracted from observations.
        scale: (d,) multiplied with the difference.
        clip: bound on the result; None where observations are taken as they are.
        discrete: whether the outputs are logits.
        assignment: (n, k).
    """
    actors = Actors(
        hidden_weight=network["hidden_weight"][0],
        hidden_bias=network["hidden_bias"][0],
        head_weight=network["head_weight"],
        head_bias=network["head_bias"],
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        clip=clip,
        discrete=discrete,
        second_weight=network["hidden_weight_2"][0] if "hidden_weight_2" in network else None,
        second_bias=network["hidden_bias_2"][0] if "hidden_bias_2" in network else None,
    )
    policies = [RepresentativePolicy(actors, j) for j in range(len(actors.head_weight))]
    return Solution(policies, assignment, functools.partial(export_onnx, actors))
