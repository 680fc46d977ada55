"""Solutions: k policies and an assignment of the agents to them, in memory and in files.

A saved solution is a folder:

    policies.onnx                      one graph for all policies, or
    policy-0.onnx ... policy-<k-1>.onnx    one graph per policy
    assignment.npy                     (n, k) float64, rows on the simplex

ONNX inputs: "observation" float32 (E, d) and, in policies.onnx, "representative" int64 (E,).
Output: "action", float32 (E, a) or, for discrete actions, int64 (E,).  A graph gives the action of
the deterministic policy, already clipped to the action space, and treats every row on its own.

Files may come from strangers, so a graph is parsed and checked before it runs: no external data, no
operators or functions of its own, nothing random or in training mode, 64 MiB at most.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.files import write_directory

if TYPE_CHECKING:
    import onnx

MAX_GRAPH_BYTES = 64 * 2**20
_SHARED_GRAPH = "policies.onnx"
_ASSIGNMENT = "assignment.npy"
_RANDOM_OPERATORS = {
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike", "Dropout"),
}
"""Dropout is one whatever its mode, which may be an input that is not known before it runs."""


class Policy(Protocol):
    """What evaluation needs of a policy; it acts on E parallel episodes at once."""

    def reset(self, n_envs: int) -> None:
        """Begin E = n_envs new episodes."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Deterministic actions (E, ...) for observations (E, d)."""


@runtime_checkable
class _ExportablePolicy(Protocol):
    def to_onnx(self) -> bytes: ...


@dataclass(frozen=True)
class Solution:
    """k policies and who is served by which.

    Attributes:
        policies: the k policies.
        assignment: (n, k) float64, read-only; row i is agent i's distribution over the policies.
        export: gives one ONNX graph for all policies (see the module).  Without it, each policy may
            have a method `to_onnx() -> bytes` that gives its own.

    Raises:
        ValueError: the assignment is not (n, k), or a row is not on the simplex (tolerance 1e-6).
    """

    policies: Sequence[Policy]
    assignment: NDArray[np.float64]
    export: Callable[[], bytes] | None = None

    def __post_init__(self) -> None:
        """Check the assignment and keep a read-only copy."""
        assignment = _checked_assignment(self.assignment, len(self.policies))
        object.__setattr__(self, "assignment", assignment)

    @property
    def n_agents(self) -> int:
        """Number of agents n."""
        return len(self.assignment)

    @property
    def exportable(self) -> bool:
        """Whether `save_solution` can write it."""
        single = (isinstance(policy, _ExportablePolicy) for policy in self.policies)
        return self.export is not None or all(single)


class OnnxPolicy:
    """A policy that runs an ONNX graph, on the CPU and in one thread.

    Args:
        session: an onnxruntime.InferenceSession of a checked graph.
        representative: which policy of a shared graph; None if the graph holds one policy.
        name: what error messages call it.
    """

    def __init__(self, session: Any, representative: int | None, name: str) -> None:
        """Keep the session; a graph has no state of its own."""
        self._session = session
        self._representative = representative
        self._name = name

    def reset(self, n_envs: int) -> None:
        """Nothing to reset: the graph has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions for observations (E, d), cast to float32.

        Raises:
            ValueError: the graph does not accept these observations.
        """
        inputs = {"observation": np.ascontiguousarray(observations, dtype=np.float32)}
        if self._representative is not None:
            inputs["representative"] = np.full(len(observations), self._representative, np.int64)
        try:
            actions: NDArray[Any] = self._session.run(["action"], inputs)[0]
        except Exception as error:  # onnxruntime's errors have no common public base
            raise ValueError(
                f"{self._name} fails on observations {observations.shape}: {_first_line(error)}"
            ) from error
        return actions


def save_solution(solution: Solution, directory: Path | str) -> None:
    """Write a solution as the folder `directory`, replacing it; atomic.

    Raises:
        ValueError: the solution cannot be exported, or what it exports is not allowed (see module).
    """
    if not solution.exportable:
        raise ValueError(
            "the solution cannot be saved: give Solution(export=...) or give every policy a method "
            "to_onnx() -> bytes (see rmdp_bench.solution)"
        )
    graphs: dict[str, bytes] = {}
    if solution.export is not None:
        graphs[_SHARED_GRAPH] = solution.export()
    else:
        for j, policy in enumerate(solution.policies):
            if isinstance(policy, _ExportablePolicy):
                graphs[f"policy-{j}.onnx"] = policy.to_onnx()
    for name, graph in graphs.items():
        check_graph(graph, name, shared=name == _SHARED_GRAPH)
    buffer = io.BytesIO()
    np.save(buffer, solution.assignment, allow_pickle=False)
    write_directory(Path(directory), graphs | {_ASSIGNMENT: buffer.getvalue()})


def load_solution(directory: Path | str) -> Solution:
    """Read a saved solution; its policies run in onnxruntime.

    Raises:
        ValueError: files are missing, damaged or not allowed; the message names the file.
    """
    directory = Path(directory)
    assignment = _read_assignment(directory / _ASSIGNMENT)
    n_representatives = assignment.shape[1] if assignment.ndim == 2 else 0
    single = sorted(path.name for path in directory.glob("policy-*.onnx"))
    shared = (directory / _SHARED_GRAPH).is_file()
    if shared and not single:
        session = _load_session(directory / _SHARED_GRAPH, shared=True)
        names = [f"policy {j} of {_SHARED_GRAPH}" for j in range(n_representatives)]
        policies = [OnnxPolicy(session, j, name) for j, name in enumerate(names)]
    else:
        names = [f"policy-{j}.onnx" for j in range(n_representatives)]
        if shared or sorted(names) != single:
            found = ", ".join([_SHARED_GRAPH] * shared + single) or "no policies"
            raise ValueError(
                f"{directory} holds {found}, expected {_SHARED_GRAPH} "
                f"or one policy-<j>.onnx for each of the {n_representatives} columns of "
                f"{_ASSIGNMENT}"
            )
        policies = [load_policy(directory / name) for name in names]
    try:
        return Solution(policies, assignment)
    except ValueError as error:
        raise ValueError(f"{directory / _ASSIGNMENT}: {error}") from error


def load_policy(path: Path | str) -> OnnxPolicy:
    """Read the file of one policy; it runs in onnxruntime.

    Raises:
        ValueError: the file is missing, damaged or not allowed (see module).
    """
    path = Path(path)
    return OnnxPolicy(_load_session(path, shared=False), None, path.name)


def check_graph(data: bytes, name: str, *, shared: bool) -> None:
    """Check an ONNX graph without running it.

    Args:
        data: the serialised model.
        name: what error messages call it.
        shared: whether it holds all policies and so has the input "representative".

    Raises:
        ValueError: not a valid model, or one of the module's rules is broken.
    """
    import onnx

    if not isinstance(data, bytes):
        raise ValueError(f"{name}: exported a {type(data).__name__}, expected bytes")
    if len(data) > MAX_GRAPH_BYTES:
        raise ValueError(f"{name}: {len(data)} bytes, at most {MAX_GRAPH_BYTES} are allowed")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's error type is private to it
        raise ValueError(f"{name} is not an ONNX model: {_first_line(error)}") from error
    if len(model.functions) > 0 or len(model.training_info) > 0:
        raise ValueError(f"{name}: functions and training graphs are not allowed; inline them")
    for graph in _graphs(model.graph):
        _check_tensors(graph, name)
        _check_operators(graph, name)
    _check_signature(model, name, shared)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"{name} is not a valid ONNX model: {_first_line(error)}") from error


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes (branches, loop bodies)."""
    pending = [graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending.extend(attribute.graphs)
                if attribute.HasField("g"):
                    pending.append(attribute.g)


def _check_tensors(graph: onnx.GraphProto, name: str) -> None:
    """No tensor may live outside the file."""
    tensors = list(graph.initializer)
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [*attribute.tensors, attribute.t]
            sparse += [*attribute.sparse_tensors, attribute.sparse_tensor]
    tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
    for tensor in tensors:
        if len(tensor.external_data) > 0 or tensor.data_location == tensor.EXTERNAL:
            raise ValueError(
                f"{name}: tensor {tensor.name!r} is external data; save it inside the file"
            )


def _check_operators(graph: onnx.GraphProto, name: str) -> None:
    """Standard, deterministic operators only."""
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"{name}: operator {node.domain}.{node.op_type} is not a standard ONNX operator"
            )
        if node.op_type in _RANDOM_OPERATORS:
            raise ValueError(
                f"{name}: operator {node.op_type} is random; a policy must be deterministic, "
                f"exported in evaluation mode"
            )
        if any(part.name == "training_mode" and part.i != 0 for part in node.attribute):
            raise ValueError(
                f"{name}: operator {node.op_type} is in training mode, expected evaluation mode"
            )


def _check_signature(model: onnx.ModelProto, name: str, shared: bool) -> None:
    """Names, types and ranks of inputs and output."""
    import onnx

    def describe(values: Sequence[onnx.ValueInfoProto]) -> dict[str, tuple[int, int]]:
        tensors = {value.name: value.type.tensor_type for value in values}
        return {key: (t.elem_type, len(t.shape.dim)) for key, t in tensors.items()}

    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = describe([value for value in model.graph.input if value.name not in initial])
    expected = {"observation": (float32, 2)} | ({"representative": (int64, 1)} if shared else {})
    if inputs != expected:
        wanted = "observation float32 (E, d)"
        wanted += " and representative int64 (E,)" if shared else ""
        raise ValueError(f"{name}: inputs are {_signature(inputs)}, expected {wanted}")
    outputs = describe(model.graph.output)
    if outputs not in ({"action": (float32, 2)}, {"action": (int64, 1)}):
        raise ValueError(
            f"{name}: outputs are {_signature(outputs)}, expected action float32 (E, a) or int64 "
            f"(E,)"
        )


def _signature(values: dict[str, tuple[int, int]]) -> str:
    import onnx

    kinds = {number: kind.lower() for kind, number in onnx.TensorProto.DataType.items()}
    return ", ".join(f"{key} {kinds[t]} of rank {rank}" for key, (t, rank) in values.items())


def _load_session(path: Path, *, shared: bool) -> Any:
    """Open a checked graph, from its bytes so that nothing else is read."""
    import onnxruntime

    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_GRAPH_BYTES else b"\0" * (MAX_GRAPH_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    check_graph(data, str(path), shared=shared)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common public base
        raise ValueError(f"onnxruntime refuses {path}: {_first_line(error)}") from error


def _read_assignment(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {_first_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is not a .npy file")
    return array


def _checked_assignment(values: Any, n_policies: int) -> NDArray[np.float64]:
    try:
        assignment = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the assignment is not an array of numbers: {error}") from error
    if assignment.ndim != 2 or 0 in assignment.shape or assignment.shape[1] != n_policies:
        raise ValueError(
            f"the assignment has shape {assignment.shape}, expected (n, k) with one column for "
            f"each of the {n_policies} policies"
        )
    on_simplex = (assignment >= 0.0).all(axis=1) & (abs(assignment.sum(axis=1) - 1.0) <= 1e-6)
    if not on_simplex.all():
        agent = int(np.argmin(on_simplex))
        raise ValueError(
            f"the assignment of agent {agent} is {assignment[agent].tolist()}, expected values "
            f">= 0 with sum 1"
        )
    assignment.setflags(write=False)
    return assignment


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
