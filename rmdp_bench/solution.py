"""Solutions: k policies and an assignment of the agents to them, in memory and in files.

A saved solution is a folder:

    policies.onnx                      one graph for all policies, or
    policy-0.onnx ... policy-<k-1>.onnx    one graph per policy
    assignment.npy                     (n, k) float64, rows on the simplex

ONNX inputs: "observation" float32 (E, d) and, in policies.onnx, "representative" int64 (E,).
Output: "action", float32 (E, a) or, for discrete actions, int64 (E,).  A graph gives the action of
the deterministic policy, already clipped to the action space, and treats every row on its own.

Files may come from strangers, so a graph is parsed and checked before it runs (see
`rmdp_bench.graphs`).  What was loaded can be saved again, pickled, copied and sent to processes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.files import parse_array, write_directory
from rmdp_bench.graphs import (
    MAX_GRAPH_BYTES,
    check_fits,
    check_graph,
    first_line,
    fix_representative,
    nudge_weights,
)

MAX_ASSIGNMENT_BYTES = 64 * 2**20
MAX_REPRESENTATIVES = 100_000
"""Of a saved solution, each of which becomes an object."""
Shape: TypeAlias = tuple[int | None, int | None]
_SHARED_GRAPH = "policies.onnx"
_ASSIGNMENT = "assignment.npy"


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

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take what a pickle or a copy holds; the assignment is read-only there too."""
        self.__dict__.update(state)
        self.assignment.setflags(write=False)

    @property
    def n_agents(self) -> int:
        """Number of agents n."""
        return len(self.assignment)

    @property
    def exportable(self) -> bool:
        """Whether `save_solution` can write it."""
        single = (isinstance(policy, _ExportablePolicy) for policy in self.policies)
        return self.export is not None or all(single)


class OpenGraph:
    """A checked graph in onnxruntime; a copy, in another process too, opens its bytes again."""

    def __init__(self, data: bytes, name: str) -> None:
        """Open a graph that `rmdp_bench.graphs.check_graph` allows.

        Args:
            data: the serialised model.
            name: what error messages call it.

        Raises:
            ValueError: onnxruntime refuses it.
        """
        self.data, self.name = data, name
        self.session = _load_session(data, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the bytes: a session cannot be pickled."""
        return OpenGraph, (self.data, self.name)


class OnnxPolicy:
    """A policy that runs an ONNX graph, on the CPU and in one thread; it can be pickled.

    Args:
        graph: of one policy, or of several who share it.
        representative: which policy of a shared graph; None if the graph holds one policy.
        name: what error messages call it.
    """

    def __init__(self, graph: OpenGraph, representative: int | None, name: str) -> None:
        """Keep the graph, which has no state of its own."""
        self._graph = graph
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
            actions: NDArray[Any] = self._graph.session.run(["action"], inputs)[0]
        except Exception as error:  # onnxruntime's errors have no common public base
            raise ValueError(
                f"{self._name} fails on observations {observations.shape}: {first_line(error)}"
            ) from error
        return actions

    def to_onnx(self) -> bytes:
        """The graph of this policy alone."""
        if self._representative is None:
            return self._graph.data
        return fix_representative(self._graph.data, self._representative)


def nudge_policies(
    policies: Sequence[Policy], size: float, rng: np.random.Generator
) -> list[Policy]:
    """Policies whose weights are changed a little, as rounding changes what follows from them.

    Args:
        policies: those that are not `OnnxPolicy` stay as they are.
        size: see `rmdp_bench.graphs.nudge_weights`.
        rng: draws the changes; policies that share a graph share them.
    """
    graphs: dict[int, OpenGraph] = {}
    nudged: list[Policy] = []
    for policy in policies:
        if isinstance(policy, OnnxPolicy):
            own = policy._graph
            if id(own) not in graphs:
                graphs[id(own)] = OpenGraph(nudge_weights(own.data, size, rng), own.name)
            policy = OnnxPolicy(graphs[id(own)], policy._representative, policy._name)
        nudged.append(policy)
    return nudged


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


def load_solution(directory: Path | str, shape: Shape = (None, None)) -> Solution:
    """Read a saved solution; its policies run in onnxruntime.

    Args:
        directory: of the solution.
        shape: (n, k) that its assignment must have; None: any number.

    Raises:
        ValueError: files are missing, damaged or not allowed; the message names the file.
    """
    assignment, graphs = _read_files(Path(directory), shape)
    n_representatives = assignment.shape[1]
    if _SHARED_GRAPH in graphs:
        shared = OpenGraph(graphs[_SHARED_GRAPH], _SHARED_GRAPH)
        names = [f"policy {j} of {_SHARED_GRAPH}" for j in range(n_representatives)]
        policies = [OnnxPolicy(shared, j, name) for j, name in enumerate(names)]
        return Solution(policies, assignment, partial(bytes, shared.data))
    policies = [OnnxPolicy(OpenGraph(graph, name), None, name) for name, graph in graphs.items()]
    return Solution(policies, assignment)


def check_saved_solution(
    directory: Path | str,
    n_observations: int,
    n_actions: int | None,
    shape: Shape = (None, None),
) -> NDArray[np.float64]:
    """Check a saved solution without running anything.

    Args:
        directory: of the solution.
        n_observations: length d of an observation.
        n_actions: length a of an action; None: discrete.
        shape: (n, k) that its assignment must have; None: any number.

    Returns:
        The assignment (n, k).

    Raises:
        ValueError: as in `load_solution`, or a graph is for other observations or actions.
    """
    assignment, graphs = _read_files(Path(directory), shape)
    for name, graph in graphs.items():
        check_fits(graph, f"{directory}/{name}", n_observations, n_actions)
    return assignment


def load_assignment(directory: Path | str, shape: Shape = (None, None)) -> NDArray[np.float64]:
    """The assignment (n, k) of a saved solution, whose policies are not looked at.

    Args:
        directory: of the solution.
        shape: that it must have; None: any number.

    Raises:
        ValueError: missing, damaged, of another shape, or a row is not on the simplex.
    """
    path = Path(directory) / _ASSIGNMENT
    data = _read_bytes(path, MAX_ASSIGNMENT_BYTES)
    array = parse_array(data, str(path), shape, max_values=MAX_ASSIGNMENT_BYTES // 8)
    if array.shape[1] > MAX_REPRESENTATIVES:
        raise ValueError(
            f"{path} has shape {array.shape}, at most {MAX_REPRESENTATIVES} columns are allowed"
        )
    try:
        return _checked_assignment(array, array.shape[1])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_files(directory: Path, shape: Shape) -> tuple[NDArray[np.float64], dict[str, bytes]]:
    """The checked assignment, and file name -> checked graph in the order of the policies."""
    assignment = load_assignment(directory, shape)
    n_representatives = assignment.shape[1]
    names = [f"policy-{j}.onnx" for j in range(n_representatives)]
    single = sorted(path.name for path in directory.glob("policy-*.onnx"))
    shared = (directory / _SHARED_GRAPH).is_file()
    if shared and not single:
        names = [_SHARED_GRAPH]
    elif shared or sorted(names) != single:
        found = ", ".join(([_SHARED_GRAPH] * shared + single)[:5]) or "no policies"
        raise ValueError(
            f"{directory} holds {found}, expected {_SHARED_GRAPH} or one policy-<j>.onnx for each "
            f"of the {n_representatives} columns of {_ASSIGNMENT}"
        )
    return assignment, {name: _read_graph(directory / name, shared=shared) for name in names}


def load_policy(path: Path | str) -> OnnxPolicy:
    """Read the file of one policy; it runs in onnxruntime.

    Raises:
        ValueError: the file is missing, damaged or not allowed (see module).
    """
    path = Path(path)
    graph = OpenGraph(_read_graph(path, shared=False), path.name)
    return OnnxPolicy(graph, None, path.name)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"{path}: {path.stat().st_size} bytes, at most {limit} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _read_graph(path: Path, *, shared: bool) -> bytes:
    """The bytes of a checked graph."""
    data = _read_bytes(path, MAX_GRAPH_BYTES)
    check_graph(data, str(path), shared=shared)
    return data


def _load_session(graph: bytes, name: str) -> Any:
    """Open a checked graph, from its bytes so that nothing else is read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common public base
        raise ValueError(f"onnxruntime refuses {name}: {first_line(error)}") from error


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
            f"the assignment of agent {agent} is {_some(assignment[agent])}, expected values >= 0 "
            f"with sum 1"
        )
    assignment.setflags(write=False)
    return assignment


def _some(values: NDArray[Any], at_most: int = 10) -> str:
    """Some values as text, of which there may be many."""
    text = ", ".join(map(str, values[:at_most].tolist()))
    return f"[{text}{', ...' if len(values) > at_most else ''}]"
