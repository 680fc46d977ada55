"""Which k candidates to keep, so that the agents are served best: facility location.

    maximise  sum_i max_{j in chosen} welfare[i, j]      over sets `chosen` of k candidates

For any multipliers u (n,) no choice exceeds the Lagrangian bound

    L(u) = sum_i u_i + (the k greatest of  sum_i max(0, welfare[i, j] - u_i)  over j),

the value if agent i were paid u_i and could then gain on every chosen candidate (Cornuejols,
Fisher & Nemhauser 1977). `select` starts with a greedy choice improved by swaps and, on a line,
with the choice of a dynamic programme; it drops candidates that serve nobody better than another
one does, lowers L(u) by subgradient steps, and drops the candidates that no better choice can
contain. A mixed-integer programme (HiGHS) decides among the rest, if it is not too large. The
result says how far the optimum can be away; zero where it is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.intp]

N_SUBGRADIENT_STEPS = 300


class Selection(NamedTuple):
    """What `select` finds."""

    chosen: IntArray
    """(k,) candidates, ascending."""
    welfare: float
    """Mean over agents of the best chosen candidate's entry."""
    bound: float
    """No choice of k has a greater welfare; equal to `welfare` where it is proven optimal."""


def select(
    welfare: FloatArray,
    n_chosen: int,
    *,
    on_a_line: bool = False,
    max_variables: int = 200_000,
    seconds: float = 60.0,
) -> Selection:
    """Choose candidates (columns) for agents (rows), exactly where the problem is small enough.

    Args:
        welfare: (n, m) finite entries, none negative.
        n_chosen: k, 1 to m.
        on_a_line: whether the candidates are in an order in which an agent's welfare tends to rise
            up to its best one and to fall after it. It changes how fast the optimum is found, not
            what is found.
        max_variables: greatest number of agent-candidate pairs in the mixed-integer programme;
            above it the greedy choice with swaps is kept.
        seconds: limit of the programme; an unfinished one still gives a bound.

    Raises:
        ValueError: n_chosen is out of range, or an entry is negative or not finite.
    """
    welfare = np.asarray(welfare, dtype=np.float64)
    n, m = welfare.shape
    if not 1 <= n_chosen <= m:
        raise ValueError(f"n_chosen is {n_chosen}, expected 1 to {m}, the number of candidates")
    if not (welfare >= 0).all() or np.isinf(welfare).any():
        raise ValueError("welfare has an entry that is negative or not finite, expected [0, inf)")
    undominated = _undominated(welfare, n_chosen)
    chosen, total, bound = _search(
        welfare[:, undominated], n_chosen, on_a_line, max_variables, seconds
    )
    return Selection(np.sort(undominated[chosen]), total / n, max(bound, total) / n)


def select_fairest(
    welfare: FloatArray, n_chosen: int, *, max_variables: int = 200_000, seconds: float = 60.0
) -> Selection:
    """Choose candidates so that the agent served worst is served best.

    The greatest entry t for which k candidates give every agent t or more is found by bisection,
    each question a covering of all agents by few columns, and among choices that give t the mean is
    greatest.

    Args:
        welfare: (n, m) finite entries.
        n_chosen: k, 1 to m.
        max_variables: as for `select`.
        seconds: limit of each question, and of the choice among what gives t.

    Returns:
        The choice; its welfare is t, and the bound is of t.

    Raises:
        ValueError: n_chosen is out of range.
    """
    level, bound = least_served(welfare, n_chosen, seconds=seconds)
    gains = welfare - welfare.min()
    reached = (welfare >= level) * (len(welfare) * gains.max() + 1.0)
    chosen = select(reached + gains, n_chosen, max_variables=max_variables, seconds=seconds).chosen
    return Selection(chosen, level, bound)


def least_served(
    welfare: FloatArray, n_chosen: int, *, seconds: float = 60.0
) -> tuple[float, float]:
    """Find the greatest entry that k candidates give every agent, or more.

    Args:
        welfare: (n, m) finite entries.
        n_chosen: k, 1 to m.
        seconds: limit of each question of the bisection.

    Returns:
        That entry, and a bound of it: equal where it is proven.
    """
    levels = np.unique(welfare)
    low, high = 0, len(levels) - 1  # the least level is reached by anything
    possible = high  # all greater levels are known to be impossible
    while low < high:
        middle = (low + high + 1) // 2
        fewest, least = _cover(welfare >= levels[middle], n_chosen, seconds)
        if fewest <= n_chosen:
            low = middle
        else:
            if least > n_chosen:
                possible = min(possible, middle - 1)
            high = middle - 1
    return float(levels[low]), float(levels[max(possible, low)])


def _cover(reached: npt.NDArray[np.bool_], n_chosen: int, seconds: float) -> tuple[int, float]:
    """How many columns that together reach every row were found, and how few can do it.

    Args:
        reached: (n, m) which rows each column reaches.
        n_chosen: how many are enough; the search may end there.
        seconds: limit of the programme.

    Returns:
        The number found, n + 1 if none were; a bound that no cover is below.
    """
    n, _ = reached.shape
    if not reached.any(axis=1).all():
        return n + 1, np.inf
    greedy, missing = 0, np.ones(n, bool)
    while missing.any():
        missing &= ~reached[:, reached[missing].sum(axis=0).argmax()]
        greedy += 1
    if greedy <= n_chosen:
        return greedy, 1.0
    columns = _undominated(reached.astype(np.float64), 1)
    result = milp(
        np.ones(len(columns)),
        integrality=np.ones(len(columns)),
        bounds=Bounds(0.0, 1.0),
        constraints=LinearConstraint(reached[:, columns].astype(np.float64), 1.0, np.inf),
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    dual = getattr(result, "mip_dual_bound", None)
    found = greedy if result.x is None else round(result.fun)
    return min(found, greedy), 1.0 if dual is None else float(np.ceil(dual - 1e-6))


def _search(
    welfare: FloatArray, n_chosen: int, on_a_line: bool, max_variables: int, seconds: float
) -> tuple[IntArray, float, float]:
    """What `select` finds: columns, their total over agents, and the bound of that."""

    def total_of(columns: IntArray) -> float:
        return float(welfare[:, columns].max(1).sum())

    starts = [local_search(welfare, n_chosen)]
    if on_a_line:
        starts.append(best_on_a_line(welfare, n_chosen))
    chosen = max(starts, key=total_of)
    total = total_of(chosen)
    bound, gains = _lagrangian_bound(welfare, n_chosen, total)
    tolerance = 1e-9 * max(total, 1.0)
    if bound - total > tolerance:
        # With a candidate below the k-th greatest gain, the bound falls by the difference.
        threshold = -np.partition(-gains, n_chosen - 1)[n_chosen - 1]
        kept = np.flatnonzero(bound - np.maximum(threshold - gains, 0.0) > total + tolerance)
        kept = np.union1d(kept, chosen)
        useful = welfare[:, kept]
        if np.count_nonzero(useful) <= max_variables:
            found, bound = _integer_programme(useful, n_chosen, seconds)
            if found is not None and total_of(kept[found]) > total:
                chosen, total = kept[found], total_of(kept[found])
            bound = total if bound - total <= 1e-6 * max(total, 1.0) else bound
    return chosen, total, bound


def _undominated(welfare: FloatArray, n_chosen: int) -> IntArray:
    """Columns, ascending, without those that are nowhere above another one; at least k."""
    n, m = welfare.shape
    order = np.argsort(-welfare.sum(0), kind="stable")  # a column is dominated by one before it
    columns, kept = np.ascontiguousarray(welfare[:, order].T), np.zeros(m, bool)
    best = np.empty_like(columns)
    n_kept = 0
    for j, column in enumerate(columns):
        if not (best[:n_kept] >= column).all(1).any():
            best[n_kept], kept[j] = column, True
            n_kept += 1
    kept[np.flatnonzero(~kept)[: max(n_chosen - n_kept, 0)]] = True
    return np.sort(order[kept])


def best_on_a_line(welfare: FloatArray, n_chosen: int) -> IntArray:
    """Best k columns if each agent may only use the two next to its own best column.

    They are the optimum if every row rises up to its greatest entry and falls after it, and it
    takes O(n m^2 + k m^2) then. With q chosen columns, the last of them j,

        best_1(j) = sum of welfare[i, j] over agents i whose best column is at most j,
        best_q(j) = max_{c < j} best_{q-1}(c) + gain(c, j),

    where gain(c, j) sums the greater of welfare[i, c] and welfare[i, j] over agents whose best
    column is after c and at most j; agents beyond the last column use it.

    Returns:
        (k,) columns, ascending.
    """
    n, m = welfare.shape
    peaks = welfare.argmax(1)
    gain, first, last = np.zeros((m, m)), np.zeros(m), np.zeros(m)
    for row, peak in zip(welfare, peaks, strict=True):
        gain[:peak, peak:] += np.maximum(row[:peak, None], row[peak:])
        first[peak:] += row[peak:]
        last[:peak] += row[:peak]
    gain[np.tril_indices(m)] = -np.inf
    best, before = first, []
    for _ in range(n_chosen - 1):
        totals = best[:, None] + gain
        before.append(totals.argmax(0))
        best = totals.max(0)
    chosen = [int((best + last).argmax())]
    for links in reversed(before):
        chosen.append(int(links[chosen[-1]]))
    return np.array(chosen[::-1], dtype=np.intp)


def local_search(welfare: FloatArray, n_chosen: int, start: Sequence[int] = ()) -> IntArray:
    """Greedy choice of k columns, then swaps of one column as long as one gains: (k,).

    Args:
        welfare: (n, m)
        n_chosen: k, 1 to m.
        start: columns to begin with, at most k.
    """
    chosen = [int(column) for column in start]
    served = welfare[:, chosen].max(1, initial=0.0)
    for _ in range(n_chosen - len(chosen)):
        totals = np.maximum(welfare, served[:, None]).sum(0)
        totals[chosen] = -np.inf
        chosen.append(int(totals.argmax()))
        served = np.maximum(served, welfare[:, chosen[-1]])
    total, improved = served.sum(), True
    while improved:
        improved = False
        for place in range(n_chosen):
            others = chosen[:place] + chosen[place + 1 :]
            served = welfare[:, others].max(1, initial=0.0)
            totals = np.maximum(welfare, served[:, None]).sum(0)
            totals[others] = -np.inf
            best = int(totals.argmax())
            if totals[best] > total * (1 + 1e-12) + 1e-12:
                chosen[place], total, improved = best, totals[best], True
    return np.array(chosen, dtype=np.intp)


def _lagrangian_bound(welfare: FloatArray, n_chosen: int, total: float) -> tuple[float, FloatArray]:
    """Least bound found by subgradient steps towards `total`, and the columns' gains (m,) there."""
    multipliers = np.sort(welfare, axis=1)[:, -min(n_chosen + 1, welfare.shape[1])]
    best, best_gains, step, stalled = np.inf, np.zeros(welfare.shape[1]), 1.0, 0
    for _ in range(N_SUBGRADIENT_STEPS):
        excess = welfare - multipliers[:, None]
        gains = np.maximum(excess, 0.0).sum(0)
        open_columns = np.argpartition(gains, -n_chosen)[-n_chosen:]
        bound = multipliers.sum() + gains[open_columns].sum()
        if bound < best - 1e-9 * max(total, 1.0):
            best, best_gains, stalled = bound, gains, 0
        else:
            stalled += 1
            if stalled >= 10:
                step, stalled = step / 2, 0
        slope = 1.0 - (excess[:, open_columns] > 0).sum(1)
        size = float(slope @ slope)
        if size == 0 or best - total <= 1e-9 * max(total, 1.0):
            break
        multipliers = multipliers - step * (bound - total) / size * slope
        multipliers = np.maximum(multipliers, 0.0)
    return best, best_gains


def _integer_programme(
    welfare: FloatArray, n_chosen: int, seconds: float
) -> tuple[IntArray | None, float]:
    """HiGHS: the best k columns, if any were found in time, and a bound of the total."""
    n, m = welfare.shape
    agents, columns = np.nonzero(welfare)
    p = len(agents)
    # Variables: z_j whether column j is chosen, then y_ij the share of agent i that j serves.
    pairs = m + np.arange(p)
    cost = np.concatenate([np.zeros(m), -welfare[agents, columns]])
    ones = np.ones(p)
    serve_once = sp.csr_array((ones, (agents, pairs)), shape=(n, m + p))
    rows = np.concatenate([np.arange(p), np.arange(p)])
    entries = np.concatenate([ones, -ones])
    only_chosen = sp.csr_array((entries, (rows, np.concatenate([pairs, columns]))), (p, m + p))
    budget = sp.csr_array((np.ones(m), (np.zeros(m, int), np.arange(m))), shape=(1, m + p))
    result = milp(
        cost,
        integrality=np.concatenate([np.ones(m), np.zeros(p)]),
        bounds=Bounds(0.0, 1.0),
        constraints=[
            LinearConstraint(serve_once, -np.inf, 1.0),
            LinearConstraint(only_chosen, -np.inf, 0.0),
            LinearConstraint(budget, n_chosen, n_chosen),
        ],
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    dual = getattr(result, "mip_dual_bound", None)
    bound = np.inf if dual is None else -float(dual)
    if result.x is None:
        return None, bound
    return np.argsort(-result.x[:m], kind="stable")[:n_chosen], bound
