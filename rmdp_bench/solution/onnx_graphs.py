"""Write ONNX graphs of policies node by node, in milliseconds and without torch.

`onnx_export` traces any module of torch, which takes seconds; a solver that knows its arithmetic
writes it down:

    graph = PolicyGraph(observation_size=4)
    scores = graph.add("MatMul", "observation", graph.constant(weight))
    graph.finish(graph.add("ArgMax", scores, axis=-1, keepdims=0), action_size=None)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPERATORS, _FORMAT = 20, 10
"""Versions of ONNX's operators and of its file, as torch's exporter writes them."""


class PolicyGraph:
    """A graph with the inputs of a policy, to which operators are added one by one.

    Its inputs are called "observation", float32 (E, d), and, where one graph holds all policies,
    "representative", int64 (E,).
    """

    def __init__(self, observation_size: int, *, shared: bool = False) -> None:
        """Begin a graph.

        Args:
            observation_size: d.
            shared: whether it holds all policies.
        """
        from onnx import TensorProto, helper

        rows: Any = ["rows", observation_size]
        self._inputs = [helper.make_tensor_value_info("observation", TensorProto.FLOAT, rows)]
        if shared:
            self._inputs.append(
                helper.make_tensor_value_info("representative", TensorProto.INT64, ["rows"])
            )
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, array: NDArray[Any] | float | list[int]) -> str:
        """Give the name of an array: of float32, or of int64 where it holds integers."""
        from onnx import numpy_helper

        values = np.asarray(array)
        dtype = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
        name = f"constant_{len(self._constants)}"
        self._constants.append(
            numpy_helper.from_array(np.ascontiguousarray(values, dtype).reshape(values.shape), name)
        )
        return name

    def add(self, operator: str, *inputs: str, **attributes: int) -> str:
        """Add one of ONNX's operators, and give the name of its output."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self._nodes)}"
        numbers: dict[str, Any] = attributes
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **numbers))
        return name

    def finish(self, action: str, action_size: int | None) -> bytes:
        """Give the model whose actions are an operator's output.

        Args:
            action: name of the output, (E, a) float32, or (E,) int64.
            action_size: a; None for integers.
        """
        from onnx import TensorProto, helper

        kind = TensorProto.INT64 if action_size is None else TensorProto.FLOAT
        shape: list[Any] = ["rows"] if action_size is None else ["rows", action_size]
        nodes = [*self._nodes, helper.make_node("Identity", [action], ["action"])]
        graph = helper.make_graph(
            nodes,
            "policy",
            self._inputs,
            [helper.make_tensor_value_info("action", kind, shape)],
            self._constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPERATORS)], ir_version=_FORMAT
        )
        return bytes(model.SerializeToString())
