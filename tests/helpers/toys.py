"""Small policies and graphs that several test files use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper


def make_graph(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: dict[str, tuple[int, list[Any]]] | None = None,
    outputs: dict[str, tuple[int, list[Any]]] | None = None,
    tensors: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = ("",),
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """A serialised model; by default from observation (E, d) to action (E, a)."""
    inputs = inputs or {"observation": (TensorProto.FLOAT, ["E", "d"])}
    outputs = outputs or {"action": (TensorProto.FLOAT, ["E", "a"])}
    graph = helper.make_graph(
        list(nodes),
        "policy",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        list(tensors),
    )
    model = helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid(domain, 18 if domain == "" else 1) for domain in domains
        ],
        functions=list(functions),
        ir_version=9,
    )
    return bytes(model.SerializeToString())


def constant(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(values, dtype), name)


def linear_graph(weights: NDArray[Any]) -> bytes:
    """action = clip(observation @ weights, -1, 1) for weights (d, a)."""
    return make_graph(
        [
            helper.make_node("MatMul", ["observation", "weights"], ["raw"]),
            helper.make_node("Clip", ["raw", "low", "high"], ["action"]),
        ],
        tensors=[constant("weights", weights), constant("low", -1.0), constant("high", 1.0)],
    )


def discrete_graph(actions: Sequence[int]) -> bytes:
    """A graph of all policies: representative j always takes actions[j]."""
    return make_graph(
        [
            helper.make_node("Gather", ["table", "representative"], ["wanted"]),
            helper.make_node("ReduceMax", ["observation", "axis"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
            helper.make_node("Add", ["wanted", "nothing"], ["action"]),
        ],
        inputs={
            "observation": (TensorProto.FLOAT, ["E", "d"]),
            "representative": (TensorProto.INT64, ["E"]),
        },
        outputs={"action": (TensorProto.INT64, ["E"])},
        tensors=[
            constant("table", actions, np.int64),
            constant("axis", [1], np.int64),
            constant("zero", 0, np.int64),
        ],
    )


class LinearPolicy:
    """clip(observation @ weights, -1, 1), in NumPy and in ONNX; rows independent of the batch."""

    def __init__(self, weights: NDArray[Any]) -> None:
        self.weights = np.asarray(weights, np.float32)

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        products = observations.astype(np.float32)[:, :, None] * self.weights
        actions: NDArray[Any] = np.clip(products.sum(axis=1), np.float32(-1.0), np.float32(1.0))
        return actions

    def to_onnx(self) -> bytes:
        return linear_graph(self.weights)


class ScriptedPolicy:
    """Plays a fixed list of discrete actions, the last one for ever; it has a memory."""

    def __init__(self, actions: Sequence[int]) -> None:
        self.actions = list(actions)
        self.step = 0

    def reset(self, n_envs: int) -> None:
        self.step = 0

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        action = self.actions[min(self.step, len(self.actions) - 1)]
        self.step += 1
        return np.full(len(observations), action, np.int64)
