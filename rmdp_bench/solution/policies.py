"""Policies, and solutions: k policies and an assignment of the agents to them, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.population import Population
from rmdp_bench.scoring import greedy_assignment
from rmdp_bench.solution.onnx_rules import (
    first_line,
    fix_representative,
    nudge_weights,
)


class Policy(Protocol):
    """What evaluation needs of a policy; it acts on E parallel episodes at once."""

    def reset(self, n_envs: int) -> None:
        """Begin E = n_envs new episodes."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Deterministic actions (E, ...) for observations (E, d)."""


class HasReturns(Protocol):
    """What matching new agents needs of an evaluation."""

    def returns_of(self, population: Population) -> NDArray[np.float64]:
        """(n, k, E) of the agents in its episodes."""


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

    def assign(self, population: Population, *, evaluation: HasReturns) -> Solution:
        """Match agents who were not there with the policies, without playing them again.

        Args:
            population: n agents, for the outcomes of the world.
            evaluation: of these policies, from `evaluate`.

        Returns:
            The same policies, with an assignment (n, k) of every agent to the one that serves it
            best on average over the evaluation's episodes (equation 6 of the paper).

        Raises:
            ValueError: the evaluation is of another number of policies, or of other outcomes.
        """
        returns = evaluation.returns_of(population)
        if returns.shape[1] != len(self.policies):
            raise ValueError(
                f"evaluation is of {returns.shape[1]} policies, expected one of these "
                f"{len(self.policies)}"
            )
        assignment = greedy_assignment(returns.mean(axis=2))
        return Solution(self.policies, assignment, self.export)

    def assign_like(
        self,
        features: ArrayLike,
        *,
        known_features: ArrayLike,
        known_returns: ArrayLike,
        n_neighbours: int = 10,
    ) -> Solution:
        """Match agents who differ in dynamics and were not there with the policies.

        An agent's return under a policy is foreseen as the mean of those of the known agents who
        are most like it: nearest in the features, of which each counts by its standard deviation.

        Args:
            features: (m, p) of new agents: a profile, or what a record says.
            known_features: (n, p) the same of n agents.
            known_returns: (n, k) what these have under each policy, as `roll_out_pairs` tells.
            n_neighbours: 1 to n.

        Returns:
            The same policies, with an assignment (m, k) of each new agent to one.

        Raises:
            ValueError: arrays of other shapes, or not finite; names which.
        """
        new, known = (
            _checked_matrix("features", features),
            _checked_matrix("known_features", known_features),
        )
        returns = _checked_matrix("known_returns", known_returns)
        n, k = len(known), len(self.policies)
        if returns.shape != (n, k) or new.shape[1] != known.shape[1]:
            raise ValueError(
                f"features, known_features and known_returns are {new.shape}, {known.shape} and "
                f"{returns.shape}, expected (m, p), (n, p) and (n, {k})"
            )
        if not 1 <= n_neighbours <= n:
            raise ValueError(f"n_neighbours is {n_neighbours}, expected 1 to {n}")
        scale = known.std(axis=0) + 1e-12
        distances = (((new[:, np.newaxis] - known) / scale) ** 2).sum(axis=2)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbours]
        return Solution(
            self.policies, greedy_assignment(returns[nearest].mean(axis=1)), self.export
        )

    @property
    def exportable(self) -> bool:
        """Whether `save_solution` can write it."""
        single = (isinstance(policy, _ExportablePolicy) for policy in self.policies)
        return self.export is not None or all(single)


def _checked_matrix(name: str, given: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(given, np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise ValueError(f"{name} has shape {matrix.shape}, expected rows of finite numbers")
    return matrix


class OpenGraph:
    """A checked graph in onnxruntime; a copy, in another process too, opens its bytes again."""

    def __init__(self, data: bytes, name: str) -> None:
        """Open a graph that `rmdp_bench.solution.onnx_rules.check_graph` allows.

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
        size: see `rmdp_bench.solution.onnx_rules.nudge_weights`.
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
