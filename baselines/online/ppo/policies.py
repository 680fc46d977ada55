"""Trained actors as policies: acting with numpy, saved as one ONNX model.

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

from baselines.common.statistics import RunningStatistics
from rmdp_bench.solution import Solution
from rmdp_bench.solution.onnx_graphs import PolicyGraph

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Actors:
    """k actors of one seed, and how they read observations (d,).

    They differ in their heads, or, if they are one conditioned actor under k conditions, in the
    first layer's bias, into which what is read of a fixed condition goes.
    """

    hidden_weight: FloatArray
    """(d, h)"""
    hidden_bias: FloatArray
    """(1, h), or (k, h) if conditioned."""
    head_weight: FloatArray
    """(k, h, o), or (1, h, o) if conditioned."""
    head_bias: FloatArray
    """(k, 1, o), or (1, 1, o) if conditioned."""
    mean: FloatArray
    """(d,) subtracted from the observations."""
    scale: FloatArray
    """(d,) multiplied with the difference."""
    clip: float | None
    """Bound on the result; None where observations are taken as they are."""
    discrete: bool
    """Whether the outputs are logits."""
    second_weight: FloatArray | None = None
    """(h, h) of a second hidden layer, if there is one."""
    second_bias: FloatArray | None = None
    """(1, h)"""
    conditioned: bool = False

    @classmethod
    def from_network(
        cls,
        network: Mapping[str, FloatArray],
        statistics: RunningStatistics,
        seed: int,
        clip: float | None,
        **kind: bool,
    ) -> Actors:
        """The actors of one seed.

        Args:
            network: parameters of the seed, as `HeadedNetwork.split` has them.
            statistics: of the observations.
            seed: which of theirs.
            clip: bound on standardised observations; None where they are taken as they are.
            kind: `discrete` and `conditioned`.
        """
        return cls(
            hidden_weight=network["hidden_weight"][0],
            hidden_bias=network["hidden_bias"][0],
            head_weight=network["head_weight"],
            head_bias=network["head_bias"],
            mean=statistics.mean[seed].astype(np.float32),
            scale=statistics.scale()[seed].astype(np.float32),
            clip=clip,
            second_weight=network["hidden_weight_2"][0] if "hidden_weight_2" in network else None,
            second_bias=network["hidden_bias_2"][0] if "hidden_bias_2" in network else None,
            **kind,
        )

    @property
    def n_policies(self) -> int:
        """K."""
        return len(self.hidden_bias if self.conditioned else self.head_weight)

    def act(
        self, observations: npt.NDArray[Any], hidden_bias: FloatArray, head: int
    ) -> npt.NDArray[Any]:
        """Actions (E, a), or (E,) for discrete ones, with a head and biases (E, h) or (1, h)."""
        inputs = observations.astype(np.float32)
        if self.clip is not None:
            inputs = ((inputs - self.mean) * self.scale).clip(-self.clip, self.clip)
        hidden = np.tanh(inputs @ self.hidden_weight + hidden_bias)
        if self.second_weight is not None:
            hidden = np.tanh(hidden @ self.second_weight + self.second_bias)
        outputs: FloatArray = hidden @ self.head_weight[head] + self.head_bias[head]
        return outputs.argmax(-1) if self.discrete else outputs.clip(-1.0, 1.0)


@dataclass(frozen=True)
class ActorPolicy:
    """Number j of `actors`."""

    actors: Actors
    j: int

    def reset(self, n_envs: int) -> None:
        """Forget nothing: there is no memory."""

    def act(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Actions (E, a) in [-1, 1], or (E,) for discrete ones, at observations (E, d)."""
        if self.actors.conditioned:
            return self.actors.act(observations, self.actors.hidden_bias[[self.j]], 0)
        return self.actors.act(observations, self.actors.hidden_bias, self.j)


def export_onnx(actors: Actors) -> bytes:
    """One ONNX model of all policies, with the inputs that `Solution.export` names."""
    return _export(actors, "representative")


def export_alone(solution: Solution) -> bytes:
    """The ONNX model of the only policy of a learner's solution."""
    (policy,) = solution.policies
    assert isinstance(policy, ActorPolicy)
    return _export(policy.actors, None)


def _export(actors: Actors, representative: str | None) -> bytes:
    """`ActorPolicy.act` as a graph.

    Args:
        actors: whose.
        representative: the input that names each row's policy; None where there is only one.
    """
    graph = PolicyGraph(len(actors.mean), shared=representative is not None)

    def of_row(array: FloatArray) -> str:
        """An entry (K, ...) of each row's policy, or the first for all."""
        if representative is None:
            return graph.constant(array[0])
        return graph.add("Gather", graph.constant(array), representative, axis=0)

    rows = "observation"
    if actors.clip is not None:
        difference = graph.add("Sub", rows, graph.constant(actors.mean))
        rows = graph.add("Mul", difference, graph.constant(actors.scale))
        rows = graph.add("Clip", rows, graph.constant(-actors.clip), graph.constant(actors.clip))
    bias = actors.hidden_bias
    hidden_bias = of_row(bias) if actors.conditioned else graph.constant(bias)
    rows = graph.add("MatMul", rows, graph.constant(actors.hidden_weight))
    rows = graph.add("Tanh", graph.add("Add", rows, hidden_bias))
    if actors.second_weight is not None and actors.second_bias is not None:
        rows = graph.add("MatMul", rows, graph.constant(actors.second_weight))
        rows = graph.add("Tanh", graph.add("Add", rows, graph.constant(actors.second_bias)))
    if actors.conditioned or representative is None:
        rows = graph.add("MatMul", rows, graph.constant(actors.head_weight[0]))
        rows = graph.add("Add", rows, graph.constant(actors.head_bias[0]))
    else:
        middle = graph.constant([1])
        rows = graph.add("MatMul", graph.add("Unsqueeze", rows, middle), of_row(actors.head_weight))
        rows = graph.add("Squeeze", graph.add("Add", rows, of_row(actors.head_bias)), middle)
    if actors.discrete:
        return graph.finish(graph.add("ArgMax", rows, axis=-1, keepdims=0), None)
    rows = graph.add("Clip", rows, graph.constant(-1.0), graph.constant(1.0))
    return graph.finish(rows, actors.head_weight.shape[-1])


def make_solution(actors: Actors, assignment: npt.NDArray[np.float64]) -> Solution:
    """A policy for each of the actors, with the assignment (n, k)."""
    policies = [ActorPolicy(actors, j) for j in range(actors.n_policies)]
    return Solution(policies, assignment, functools.partial(export_onnx, actors))
