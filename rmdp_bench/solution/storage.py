"""Solutions in files.

A saved solution is a folder:

    policies.onnx                      one graph for all policies, or
    policy-0.onnx ... policy-<k-1>.onnx    one graph per policy
    assignment.npy                     (n, k) float64, rows on the simplex

ONNX inputs: "observation" float32 (E, d) and, in policies.onnx, "representative" int64 (E,).
Output: "action", float32 (E, a) or, for discrete actions, int64 (E,).  A graph gives the action of
the deterministic policy, already clipped to the action space, and treats every row on its own.

Files may come from strangers, so a graph is parsed and checked before it runs (see `onnx_rules`).
What was loaded can be saved again, pickled, copied and sent to processes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.files import parse_array, write_directory
from rmdp_bench.solution.onnx_rules import (
    MAX_GRAPH_BYTES,
    check_fits,
    check_graph,
)
from rmdp_bench.solution.policies import (
    OnnxPolicy,
    OpenGraph,
    Solution,
    _checked_assignment,
    _ExportablePolicy,
)

MAX_ASSIGNMENT_BYTES = 64 * 2**20
MAX_REPRESENTATIVES = 100_000
"""Of a saved solution, each of which becomes an object."""
Shape: TypeAlias = tuple[int | None, int | None]
SOLUTION_FOLDER = "solution"
"""In a run directory."""
_SHARED_GRAPH = "policies.onnx"
_ASSIGNMENT = "assignment.npy"


def save_solution(solution: Solution, directory: Path | str) -> None:
    """Write a solution as the folder `directory`, replacing it; atomic.

    Raises:
        ValueError: the solution cannot be exported, or what it exports is not allowed (see module).
    """
    if not solution.exportable:
        raise ValueError(
            "the solution cannot be saved: give every policy a method to_onnx() that gives its "
            "ONNX graph as bytes, or Solution(export=...) for one graph of all policies"
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
        directory: of the solution, or of the finished run that has it, OUT/TASK/SOLVER/seed-S.
        shape: (n, k) that its assignment must have; None: any number.

    Raises:
        ValueError: files are missing, damaged or not allowed; the message names the file.
    """
    folder = Path(directory)
    if not (folder / _ASSIGNMENT).exists() and (folder / SOLUTION_FOLDER / _ASSIGNMENT).exists():
        folder = folder / SOLUTION_FOLDER
    elif not (folder / _ASSIGNMENT).exists():
        raise ValueError(
            f"{folder} has no {_ASSIGNMENT}, expected the folder of a saved solution, or of a "
            "finished run with one, such as runs/TASK/SOLVER/seed-0"
        )
    return parse_solution(read_saved_solution(folder), str(folder), shape)


def read_saved_solution(directory: Path) -> dict[str, bytes]:
    """The files of a saved solution, not checked: name -> bytes.

    Raises:
        ValueError: one is missing or too large.
    """
    names = sorted(path.name for path in directory.glob("polic*.onnx"))
    graphs = {name: _read_bytes(directory / name, MAX_GRAPH_BYTES) for name in names}
    return graphs | {_ASSIGNMENT: _read_bytes(directory / _ASSIGNMENT, MAX_ASSIGNMENT_BYTES)}


def parse_solution(files: Mapping[str, bytes], name: str, shape: Shape = (None, None)) -> Solution:
    """A solution from the files of its folder; see `load_solution`.

    Args:
        files: name -> bytes.
        name: what messages call the folder.
        shape: (n, k) that its assignment must have; None: any number.

    Raises:
        ValueError: files are missing, damaged or not allowed.
    """
    assignment, graphs = _check_files(files, name, shape)
    n_representatives = assignment.shape[1]
    if _SHARED_GRAPH in graphs:
        shared = OpenGraph(graphs[_SHARED_GRAPH], _SHARED_GRAPH)
        names = [f"policy {j} of {_SHARED_GRAPH}" for j in range(n_representatives)]
        policies = [OnnxPolicy(shared, j, name) for j, name in enumerate(names)]
        return Solution(policies, assignment, partial(bytes, shared.data))
    policies = [OnnxPolicy(OpenGraph(graph, name), None, name) for name, graph in graphs.items()]
    return Solution(policies, assignment)


def check_saved_solution(
    files: Mapping[str, bytes],
    name: str,
    n_observations: int,
    n_actions: int | None,
    shape: Shape = (None, None),
) -> NDArray[np.float64]:
    """Check the files of a saved solution without running anything.

    Args:
        files: name -> bytes.
        name: what messages call their folder.
        n_observations: length d of an observation.
        n_actions: length a of an action; None: discrete.
        shape: (n, k) that its assignment must have; None: any number.

    Returns:
        The assignment (n, k).

    Raises:
        ValueError: as in `parse_solution`, or a graph is for other observations or actions.
    """
    assignment, graphs = _check_files(files, name, shape)
    for graph_name, graph in graphs.items():
        check_fits(graph, f"{name}/{graph_name}", n_observations, n_actions)
    return assignment


def _parse_assignment(data: bytes, name: str, shape: Shape) -> NDArray[np.float64]:
    array = parse_array(data, name, shape, max_values=MAX_ASSIGNMENT_BYTES // 8)
    if array.shape[1] > MAX_REPRESENTATIVES:
        raise ValueError(
            f"{name} has shape {array.shape}, at most {MAX_REPRESENTATIVES} columns are allowed"
        )
    try:
        return _checked_assignment(array, array.shape[1])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _check_files(
    files: Mapping[str, bytes], name: str, shape: Shape
) -> tuple[NDArray[np.float64], dict[str, bytes]]:
    """The checked assignment, and file name -> checked graph in the order of the policies."""
    if _ASSIGNMENT not in files:
        raise ValueError(f"{name} has no {_ASSIGNMENT}")
    assignment = _parse_assignment(files[_ASSIGNMENT], f"{name}/{_ASSIGNMENT}", shape)
    n_representatives = assignment.shape[1]
    names = [f"policy-{j}.onnx" for j in range(n_representatives)]
    single = sorted(file for file in files if file.startswith("policy-"))
    shared = _SHARED_GRAPH in files
    if shared and not single:
        names = [_SHARED_GRAPH]
    elif shared or sorted(names) != single:
        found = ", ".join(([_SHARED_GRAPH] * shared + single)[:5]) or "no policies"
        raise ValueError(
            f"{name} holds {found}, expected {_SHARED_GRAPH} or one policy-<j>.onnx for each "
            f"of the {n_representatives} columns of {_ASSIGNMENT}"
        )
    for graph in names:
        check_graph(files[graph], f"{name}/{graph}", shared=shared)
    return assignment, {graph: files[graph] for graph in names}


def load_policy(path: Path | str) -> OnnxPolicy:
    """Read the file of one policy; it runs in onnxruntime.

    Raises:
        ValueError: the file is missing, damaged or not allowed (see module).
    """
    path = Path(path)
    data = _read_bytes(path, MAX_GRAPH_BYTES)
    check_graph(data, str(path), shared=False)
    return OnnxPolicy(OpenGraph(data, path.name), None, path.name)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"{path}: {path.stat().st_size} bytes, at most {limit} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
