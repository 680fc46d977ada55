"""Solutions: what is accepted, and what is read back from files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rmdp_bench.solution import Solution, load_policy, load_solution, save_solution, storage
from rmdp_bench.solution.onnx_rules import check_graph, nudge_weights
from tests.helpers.toys import (
    LinearPolicy,
    ScriptedPolicy,
    constant,
    discrete_graph,
    linear_graph,
    make_graph,
)

WEIGHTS = np.random.default_rng(0).normal(size=(2, 4, 3))
ASSIGNMENT = np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])


def test_single_graphs_round_trip(tmp_path: Path) -> None:
    policies = [LinearPolicy(weights) for weights in WEIGHTS]
    save_solution(Solution(policies, ASSIGNMENT), tmp_path / "solution")
    loaded = load_solution(tmp_path / "solution")
    names = sorted(path.name for path in (tmp_path / "solution").iterdir())
    assert names == ["assignment.npy", "policy-0.onnx", "policy-1.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["solution"]
    np.testing.assert_array_equal(loaded.assignment, ASSIGNMENT)
    observations = np.random.default_rng(1).normal(size=(7, 4))
    for policy, original in zip(loaded.policies, policies, strict=True):
        policy.reset(7)
        np.testing.assert_allclose(policy.act(observations), original.act(observations), atol=1e-6)


def test_one_policy_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(discrete_graph([3]))  # a graph for several
    with pytest.raises(ValueError, match="policy.onnx: inputs are .*expected observation float32"):
        load_policy(path)
    path.write_bytes(linear_graph(WEIGHTS[0])[:-9])
    with pytest.raises(ValueError, match="policy.onnx is not"):
        load_policy(path)
    path.write_bytes(linear_graph(WEIGHTS[0]))
    observations = np.random.default_rng(1).normal(size=(7, 4))
    expected = LinearPolicy(WEIGHTS[0]).act(observations)
    np.testing.assert_allclose(load_policy(path).act(observations), expected, atol=1e-6)


def test_shared_graph_round_trip(tmp_path: Path) -> None:
    solution = Solution([ScriptedPolicy([3]), ScriptedPolicy([1])], ASSIGNMENT)
    exported = Solution(solution.policies, ASSIGNMENT, export=lambda: discrete_graph([3, 1]))
    save_solution(exported, tmp_path / "solution")
    assert sorted(path.name for path in (tmp_path / "solution").iterdir()) == [
        "assignment.npy",
        "policies.onnx",
    ]
    loaded = load_solution(tmp_path / "solution")
    for policy, action in zip(loaded.policies, [3, 1], strict=True):
        actions = policy.act(np.zeros((5, 27), np.float32))
        assert actions.dtype == np.int64
        assert actions.tolist() == [action] * 5


def test_saving_again_replaces_everything(tmp_path: Path) -> None:
    directory = tmp_path / "solution"
    save_solution(Solution([LinearPolicy(w) for w in WEIGHTS], ASSIGNMENT), directory)
    one = Solution([ScriptedPolicy([2])], np.ones((3, 1)), export=lambda: discrete_graph([2]))
    save_solution(one, directory)
    assert sorted(path.name for path in directory.iterdir()) == ["assignment.npy", "policies.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["solution"]


def test_solution_that_cannot_be_exported(tmp_path: Path) -> None:
    solution = Solution([ScriptedPolicy([0])], np.ones((3, 1)))
    assert not solution.exportable
    with pytest.raises(ValueError, match="to_onnx"):
        save_solution(solution, tmp_path / "solution")
    assert list(tmp_path.iterdir()) == []


def test_refused_export_leaves_the_old_solution(tmp_path: Path) -> None:
    directory = tmp_path / "solution"
    save_solution(Solution([LinearPolicy(w) for w in WEIGHTS], ASSIGNMENT), directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    broken = Solution([ScriptedPolicy([0])], np.ones((3, 1)), export=lambda: b"no graph")
    with pytest.raises(ValueError, match="not an ONNX model"):
        save_solution(broken, directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\)"),
        ([[1.0]], r"shape \(1, 1\)"),
        ([[0.5, 0.5], [1.5, -0.5]], "agent 1"),
        ([[0.5, 0.4]], "agent 0"),
        ([[np.nan, 1.0]], "agent 0"),
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        ([["a", "b"]], "not an array of numbers"),
    ],
)
def test_wrong_assignment(assignment: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Solution([ScriptedPolicy([0]), ScriptedPolicy([1])], assignment)


def test_assignment_is_a_read_only_copy() -> None:
    values = ASSIGNMENT.copy()
    solution = Solution([ScriptedPolicy([0]), ScriptedPolicy([1])], values)
    values[0] = [0.0, 1.0]
    np.testing.assert_array_equal(solution.assignment, ASSIGNMENT)
    with pytest.raises(ValueError, match="read-only"):
        solution.assignment[0, 0] = 0.0


def _external() -> onnx.TensorProto:
    tensor = constant("weights", WEIGHTS[0])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    return tensor


def _identity(op_type: str = "Identity", domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, ["observation"], ["action"], domain=domain, **attributes)


def _hidden_in_branch(node: onnx.NodeProto) -> bytes:
    output = helper.make_tensor_value_info("action", TensorProto.FLOAT, ["E", "a"])
    branch = helper.make_graph([node], "branch", [], [output])
    choice = helper.make_node("If", ["flag"], ["action"], then_branch=branch, else_branch=branch)
    return make_graph([choice], tensors=[constant("flag", True, np.bool_)])


FUNCTION = helper.make_function(
    "own", "Same", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])],
    [helper.make_opsetid("", 18)],
)  # fmt: skip
FLOAT_MATRIX = (TensorProto.FLOAT, ["E", "d"])
REFUSED = {
    "empty": (b"", "inputs are"),
    "text": (b"\xff\xfenot a graph", "not an ONNX model"),
    "external data": (
        make_graph(
            [helper.make_node("MatMul", ["observation", "weights"], ["action"])],
            tensors=[_external()],
        ),
        "external data",
    ),
    "external constant": (
        make_graph(
            [
                helper.make_node("Constant", [], ["weights"], value=_external()),
                helper.make_node("MatMul", ["observation", "weights"], ["action"]),
            ]
        ),
        "external data",
    ),
    "foreign operator": (
        make_graph([_identity("Same", domain="com.microsoft")], domains=["", "com.microsoft"]),
        "com.microsoft.Same is not a standard",
    ),
    "foreign operator in a branch": (
        _hidden_in_branch(_identity("Same", domain="own")),
        "own.Same is not a standard",
    ),
    "function": (
        make_graph([_identity("Same", domain="own")], domains=["", "own"], functions=[FUNCTION]),
        "functions",
    ),
    "random": (make_graph([_identity("RandomNormalLike")]), "RandomNormalLike is random"),
    "dropout": (
        make_graph(
            [helper.make_node("Dropout", ["observation", "ratio", "training"], ["action"])],
            tensors=[constant("ratio", 0.5), constant("training", True, np.bool_)],
        ),
        "Dropout is random",
    ),
    "dropout in a branch": (_hidden_in_branch(_identity("Dropout")), "Dropout is random"),
    "training mode": (
        make_graph(
            [
                helper.make_node(
                    "BatchNormalization",
                    ["observation", "one", "zero", "zero", "one"],
                    ["action", "mean", "variance"],
                    training_mode=1,
                )
            ],
            tensors=[constant("one", [1.0]), constant("zero", [0.0])],
        ),
        "BatchNormalization is in training mode",
    ),
    "unknown operator": (make_graph([_identity("NoSuchOperator")]), "not a valid ONNX model"),
    "wrong input name": (
        make_graph(
            [helper.make_node("Identity", ["state"], ["action"])], inputs={"state": FLOAT_MATRIX}
        ),
        "inputs are state float of rank 2, expected observation",
    ),
    "input of rank 3": (
        make_graph([_identity()], inputs={"observation": (TensorProto.FLOAT, ["E", "d", 1])}),
        "observation float of rank 3",
    ),
    "double input": (
        make_graph(
            [_identity("Cast", to=TensorProto.FLOAT)],
            inputs={"observation": (TensorProto.DOUBLE, ["E", "d"])},
        ),
        "observation double of rank 2",
    ),
    "two outputs": (
        make_graph(
            [_identity(), helper.make_node("Identity", ["observation"], ["value"])],
            outputs={"action": FLOAT_MATRIX, "value": FLOAT_MATRIX},
        ),
        "outputs are",
    ),
    "output of rank 1": (
        make_graph([_identity()], outputs={"action": (TensorProto.FLOAT, ["E"])}),
        "outputs are action float of rank 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_graph(case: str, tmp_path: Path) -> None:
    data, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        check_graph(data, "policy-0.onnx", shared=False)
    (tmp_path / "policy-0.onnx").write_bytes(data)
    np.save(tmp_path / "assignment.npy", np.ones((3, 1)))
    with pytest.raises(ValueError, match=re.escape(message)):
        load_solution(tmp_path)


def test_too_large_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_solution(Solution([LinearPolicy(WEIGHTS[0])], np.ones((3, 1))), tmp_path / "solution")
    monkeypatch.setattr(storage, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100"):
        load_solution(tmp_path / "solution")


def test_shared_graph_needs_the_representative() -> None:
    with pytest.raises(ValueError, match="expected observation .* and representative"):
        check_graph(linear_graph(WEIGHTS[0]), "policies.onnx", shared=True)
    with pytest.raises(ValueError, match="representative int64 of rank 1, expected"):
        check_graph(discrete_graph([0]), "policy-0.onnx", shared=False)


def _remove_policy(directory: Path) -> None:
    (directory / "policy-1.onnx").unlink()


def _remove_assignment(directory: Path) -> None:
    (directory / "assignment.npy").unlink()


def _pickle_assignment(directory: Path) -> None:
    np.save(directory / "assignment.npy", np.array([[{}]], dtype=object), allow_pickle=True)


def _break_assignment(directory: Path) -> None:
    np.save(directory / "assignment.npy", np.ones((3, 2)))


def _scalar_assignment(directory: Path) -> None:
    np.save(directory / "assignment.npy", np.float64(1.0))


def _add_policy(directory: Path) -> None:
    (directory / "policy-2.onnx").write_bytes(linear_graph(WEIGHTS[0]))


def _add_shared(directory: Path) -> None:
    (directory / "policies.onnx").write_bytes(discrete_graph([0, 1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove_policy, "holds policy-0.onnx, expected"),
        (_remove_assignment, "has no assignment.npy"),
        (_pickle_assignment, "cannot read"),
        (_break_assignment, "agent 0"),
        (_scalar_assignment, "expected"),
        (_add_policy, "for each of the 2 columns"),
        (_add_shared, "expected policies.onnx or one"),
    ],
)
def test_damaged_folder(damage: Any, message: str, tmp_path: Path) -> None:
    directory = tmp_path / "solution"
    save_solution(Solution([LinearPolicy(w) for w in WEIGHTS], ASSIGNMENT), directory)
    damage(directory)
    with pytest.raises(ValueError, match=message):
        load_solution(directory)


def test_wrong_observation_width(tmp_path: Path) -> None:
    save_solution(Solution([LinearPolicy(WEIGHTS[0])], np.ones((3, 1))), tmp_path / "solution")
    policy = load_solution(tmp_path / "solution").policies[0]
    with pytest.raises(ValueError, match=r"policy-0.onnx fails on observations \(2, 9\)"):
        policy.act(np.zeros((2, 9)))


def test_nudged_weights_are_those_of_layers() -> None:
    """Also where they are constants, in branches and short; bounds, steps and masks stay."""
    values = np.array([0.5, 1.0, -3.0, 0.0, np.inf, 1e-3])
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["deep"], value=constant("deep", values))],
        "inner",
        [],
        [helper.make_tensor_value_info("deep", TensorProto.FLOAT, [6])],
    )
    nodes = [
        helper.make_node("Constant", [], ["shallow"], value=constant("shallow", values)),
        helper.make_node("If", ["flag"], ["branch"], then_branch=inner, else_branch=inner),
    ]
    tensors = [
        constant("single", values),
        constant("short", values, np.float16),
        constant("whole", [2, 3], np.int64),
        constant("flag", True, np.bool_),
    ]
    data = make_graph(nodes, tensors=tensors)

    def read(data: bytes) -> list[NDArray[Any]]:
        graph = onnx.load_model_from_string(data).graph
        deep = graph.node[1].attribute[0].g.node[0].attribute[0].t
        shallow = graph.node[0].attribute[0].t
        return [onnx.numpy_helper.to_array(t) for t in (*graph.initializer, shallow, deep)]

    before, after = read(data), read(nudge_weights(data, 1e-5, np.random.default_rng(0)))
    single, short, whole, flag, shallow, deep = after
    for own, other, share in (
        *((part, before[0], 1e-5) for part in (single, shallow, deep)),
        (short, before[1], 8e-3),
    ):
        assert (own == other).tolist() == [False, True, True, True, True, False]
        np.testing.assert_allclose(own, other, rtol=2 * share)
        assert own.dtype == other.dtype
    np.testing.assert_array_equal(whole, before[2])
    np.testing.assert_array_equal(flag, before[3])
    again = read(nudge_weights(data, 1e-5, np.random.default_rng(0)))
    np.testing.assert_array_equal(single, again[0])
