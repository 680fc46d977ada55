"""Networks with a leading axis of members: an ensemble, several agents or several seeds at once.

Member m has parameters of its own and sees rows of its own, so that M networks are one batched
matrix product each layer, without a loop over members. The loss of all is the sum of their losses:
no member's gradient depends on another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmdp_bench.solution.onnx_graphs import PolicyGraph

Activation = Callable[[Tensor], Tensor]
_OPERATORS: dict[str, Activation] = {"Relu": torch.relu, "Tanh": torch.tanh}
"""Names that ONNX has for activations."""
AnyModule = TypeVar("AnyModule", bound=nn.Module)
MemberKey = tuple[int, int]
"""Seed of the run, and the member's index among that seed's."""


class MemberMLP(nn.Module):
    """M multilayer perceptrons of one shape.

    Parameters are `weights[l]` (M, i, o) and `biases[l]` (M, 1, o), drawn as PyTorch's `nn.Linear`
    draws them: uniform within 1 / sqrt(i).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        activation: Activation = torch.relu,
    ) -> None:
        """Draw the parameters, each member's from its own generator.

        Args:
            sizes: of the layers, inputs first, outputs last.
            generators: one for each member, of the CPU; M is their number.
            activation: between layers, not after the last.
        """
        super().__init__()
        self.sizes, self.activation = tuple(sizes), activation
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_inputs, n_outputs in zip(sizes[:-1], sizes[1:], strict=True):
            bound = n_inputs**-0.5
            weight = torch.empty(len(generators), n_inputs, n_outputs)
            bias = torch.empty(len(generators), 1, n_outputs)
            for m, generator in enumerate(generators):
                weight[m].uniform_(-bound, bound, generator=generator)
                bias[m].uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs (M, B, o) at rows (M, B, i)."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = torch.baddbmm(bias, rows, weight)
            if layer < last:
                rows = self.activation(rows)
        return rows

    def write(self, graph: PolicyGraph, rows: str) -> str:
        """Add the layers of a member alone (M = 1) to a graph: outputs (..., o) at (..., i)."""
        (operator,) = [name for name, own in _OPERATORS.items() if own is self.activation]
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = graph.add("MatMul", rows, graph.constant(as_array(weight[0])))
            rows = graph.add("Add", rows, graph.constant(as_array(bias[0, 0])))
            if layer < last:
                rows = graph.add(operator, rows)
        return rows

    def member(self, m: int) -> MemberMLP:
        """A copy of member m alone, on the CPU."""
        return take_members(self, slice(m, m + 1)).cpu()


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Give a tensor's numbers, wherever it is."""
    return np.asarray(tensor.detach().cpu().numpy())


def take_members(module: AnyModule, members: slice) -> AnyModule:
    """A copy of a module with some members alone: those rows of all its parameters."""
    rows: dict[int, Any] = {  # what the copy has in their place, so that no other row is copied
        id(parameter): nn.Parameter(parameter.detach()[members].clone(), parameter.requires_grad)
        for parameter in module.parameters()
    }
    return copy.deepcopy(module, rows)


def two_values(critics: nn.Module, observations: Tensor, actions: Tensor) -> Tensor:
    """Values (M, 2, B) of both critics of each member; they are members 2m and 2m + 1."""
    rows = torch.cat((observations, actions), -1).repeat_interleave(2, 0)
    values: Tensor = critics(rows).squeeze(-1).unflatten(0, (-1, 2))
    return values


def action_features(actions: Tensor, n_actions: int | None) -> Tensor:
    """One-hot (..., n_actions) of discrete actions (...), or the vectors (..., a) as they are."""
    if n_actions is None:
        return actions
    return nn.functional.one_hot(actions, n_actions).float()


def member_keys(seeds: Sequence[int], n_members: int) -> list[MemberKey]:
    """Keys of n_members of each seed, the first seed's first."""
    return [(seed, m) for seed in seeds for m in range(n_members)]


def member_generators(keys: Sequence[MemberKey], purpose: int) -> list[torch.Generator]:
    """Generators of the CPU, one for each member, which no other seed has for them.

    Args:
        keys: seeds from 0 to 2**31 - 1, indices below 2**16.
        purpose: 0 to 63: what they are for, of `streams`.
    """
    numbers = [(seed * 64 + purpose) * 65536 + m for seed, m in keys]
    # A generator of the CPU starts from 32 bits; those above are mixed in, times an odd constant.
    mixed = [(number ^ (number >> 32) * 0x9E3779B1) % 2**32 for number in numbers]
    return [torch.Generator().manual_seed(number) for number in mixed]
