"""Graphs that are written node by node."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from rmdp_bench.solution.onnx_graphs import PolicyGraph
from rmdp_bench.solution.onnx_rules import check_graph


def test_the_greatest_score_acts() -> None:
    weight = np.array([[1.0, -1.0], [0.0, 2.0]])
    graph = PolicyGraph(observation_size=2)
    scores = graph.add("MatMul", "observation", graph.constant(weight))
    data = graph.finish(graph.add("ArgMax", scores, axis=-1, keepdims=0), action_size=None)
    check_graph(data, "graph", shared=False)
    rows = np.array([[1, 0], [0, 1], [3, 2], [1, 2]], np.float32)
    (actions,) = onnxruntime.InferenceSession(data).run(None, {"observation": rows})
    assert actions.dtype == np.int64
    np.testing.assert_array_equal(actions, (rows @ weight).argmax(-1))


@pytest.mark.parametrize("n_rows", [0, 1, 7])
def test_one_graph_holds_all_policies(n_rows: int) -> None:
    moves = np.array([[0.5], [-0.25]])
    graph = PolicyGraph(observation_size=1, shared=True)
    own = graph.add("Gather", graph.constant(moves), "representative", axis=0)
    data = graph.finish(graph.add("Add", "observation", own), action_size=1)
    check_graph(data, "graph", shared=True)
    inputs: dict[str, np.ndarray] = {
        "observation": np.arange(n_rows, dtype=np.float32)[:, None],
        "representative": np.arange(n_rows) % 2,
    }
    (actions,) = onnxruntime.InferenceSession(data).run(None, inputs)
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(
        actions, inputs["observation"] + moves[inputs["representative"]].astype(np.float32)
    )
