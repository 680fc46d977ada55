"""Ceilings: the greatest social welfare that k representatives can reach, exactly.

Social welfare is the mean return over agents, in percent of a perfect episode (see `scoring`).
Both functions take the maximum over all policies and all assignments.  Soft assignments do not
help: welfare is linear in each agent's row of the assignment, so that a vertex of the simplex is
as good.  What is left is to split the agents into k groups and to give each its best policy.

Of other objectives (`scoring.parse_objective`) there are the same exact values where policies are
known one by one (`best_of_candidates`: they are deterministic where nothing is random), and bounds
where a policy could divide its time between agents (`constant_speed_bound`).  None of these
objectives exceeds the mean, so that its ceiling bounds them all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench import scoring
from rmdp_bench.messages import shown
from rmdp_bench.population import TargetPopulation, is_on_line

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EPISODE_STEPS = 1000
"""Most steps H of an episode in the velocity environments."""

PLANAR_TABLE = "planar_targets_optimum.json"

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column change of Resource Gathering's actions 0 to 3: up, down, left, right."""


class ConstantSpeedOptimum(NamedTuple):
    """What `constant_speed_optimum` finds."""

    welfare: float
    """Upper bound of the social welfare, percent."""
    speeds: FloatArray
    """(k,) speeds that attain it, ascending, each an agent's target."""
    assignment: FloatArray
    """(n, k) zeros and ones: each agent at the speed nearest to its target."""


class Tour(NamedTuple):
    """One episode of Resource Gathering that ends at home."""

    actions: tuple[int, ...]
    """(T,) actions 0 to 3: up, down, left, right."""
    tiles: tuple[int, ...]
    """(T + 1,) tiles from home to home, row-major numbers 0 to 24."""


class ResourceGatheringOptimum(NamedTuple):
    """What `resource_gathering_optimum` returns."""

    welfare: float
    """Greatest social welfare, percent."""
    tours: tuple[Tour, ...]
    """k tours that attain it, one for each representative, shortest first."""
    assignment: FloatArray
    """(25, k) zeros and ones: each agent at the shortest tour that visits its tile."""
    worst_agent: float
    """The most that k tours, maybe others, give every agent, percent. A policy that mixes tours
    could give more than each of them; those that are scored act without noise, and so make one."""
    nash_welfare: float
    """Greatest geometric mean of (return + 1), minus 1, with the same restriction, percent."""


def constant_speed_optimum(
    population: TargetPopulation, n_representatives: int
) -> ConstantSpeedOptimum:
    r"""Best welfare of k representatives if each could hold one speed from the first step on.

    No policy does better, on any robot; none quite reaches it, because a robot starts at rest.
    With tent(x, y) = max(0, 1 - |x - y| / width), agent i earns peak * tent(target_i, v) at v.

    1. A constant speed is optimal.  Along any episode with speeds v_1 .. v_T, T <= H = 1000, the
       agents G of one representative earn sum_t R(v_t) <= H max_v R(v), where
       R(v) = peak * sum_{i in G} tent(target_i, v) >= 0.  The same holds for the expectation.
    2. A target is an optimal speed.  R is continuous, piecewise linear, not negative, and zero far
       out, so it has a greatest maximiser v*.  Its slope rises or stays to v* and falls after it:
       v* is a concave kink.  A tent is concave at its top and convex at its two feet, so the only
       concave kinks of R are targets of G.
    3. Recursion.  For a set of speeds every agent is best at a nearest one, for tent falls with
       the distance.  Let x_1 < .. < x_p be the distinct targets, w_l agents at x_l.  Between two
       chosen neighbours x_i < x_j the agents earn
       gain(i, j) = sum_{i < l < j} w_l max(tent(x_l, x_i), tent(x_l, x_j)),
       whatever the other speeds.  So the best total of the agents up to x_j, with x_j the last of
       q speeds, is
       best_1(j) = sum_{l <= j} w_l tent(x_l, x_j),
       best_q(j) = max_{i < j} best_{q-1}(i) + gain(i, j) + w_j,
       and the optimum is max_j best_k(j) + sum_{l > j} w_l tent(x_l, x_j).
       If k >= p, a speed for every target is perfect.
    4. The maximiser is monotone.  For a <= b < c <= d:
       gain(a, c) + gain(b, d) >= gain(a, d) + gain(b, c), agent by agent.  Strictly between b and
       c with A, B, C, D the tents to a, b, c, d: A <= B, C >= D, and the maximum is submodular,
       max(A, C) + max(B, D) >= max(A, D) + max(B, C).  Elsewhere an agent counts at most once on
       either side, and on the left with the same or a nearer alternative.  So the first
       maximising i never decreases with j, and a layer takes O(p log p) gains, each O(log p) by
       prefix sums.

    Time O(k p log^2 p), memory O(k p + n k).

    Args:
        population: n agents; targets in any order, with or without duplicates.
        n_representatives: k >= 1, also above n.

    Raises:
        ValueError: n_representatives is not an integer >= 1, or the population has no targets.
    """
    if not is_on_line(population):
        kind = type(population).__name__
        raise ValueError(f"population is a {kind}, expected a TargetPopulation on a line")
    k = _check_budget(n_representatives, None)
    positions, counts = np.unique(population.targets, return_counts=True)
    if k >= len(positions):
        chosen: IntArray = np.minimum(np.arange(k), len(positions) - 1)
    else:
        chosen = _best_positions(positions / population.width, counts.astype(np.float64), k)
    speeds = positions[chosen]
    nearest = _nearest(population.targets, positions[np.unique(chosen)])
    assignment = np.zeros((population.n_agents, k))
    assignment[np.arange(population.n_agents), nearest] = 1.0
    distance = np.abs(population.targets - speeds[nearest])
    per_step = population.peak * np.maximum(1.0 - distance / population.width, 0.0).mean()
    return ConstantSpeedOptimum(EPISODE_STEPS * float(per_step), speeds, assignment)


def _nearest(targets: FloatArray, speeds: FloatArray) -> IntArray:
    """(n,) index of the nearest of the distinct ascending speeds."""
    right = np.clip(np.searchsorted(speeds, targets), 1, max(len(speeds) - 1, 1))
    if len(speeds) == 1:
        return np.zeros(len(targets), dtype=np.int64)
    is_left = targets - speeds[right - 1] <= speeds[right] - targets
    nearest: IntArray = (right - is_left).astype(np.int64)
    return nearest


class _Gains:
    """Totals of tents over ranges of positions, by prefix sums; distances in widths."""

    def __init__(self, positions: FloatArray, counts: FloatArray) -> None:
        """Take p ascending positions and the number of agents at each."""
        self.positions = positions - positions.mean()  # smaller numbers in the prefix sums
        self.counts = counts
        self.prefix_counts = np.concatenate(([0.0], np.cumsum(counts)))
        self.prefix_sums = np.concatenate(([0.0], np.cumsum(counts * self.positions)))
        self.reach_left = np.searchsorted(self.positions, self.positions - 1.0, side="left")
        self.reach_right = np.searchsorted(self.positions, self.positions + 1.0, side="right")

    def left(self, j: IntArray, start: IntArray) -> FloatArray:
        """Sum of w_l tent(x_l, x_j) over start <= l < j."""
        first = np.maximum(start, self.reach_left[j])
        n_agents = self.prefix_counts[j] - self.prefix_counts[first]
        total = self.prefix_sums[j] - self.prefix_sums[first]
        gains: FloatArray = n_agents * (1.0 - self.positions[j]) + total
        return gains

    def right(self, i: IntArray, stop: IntArray) -> FloatArray:
        """Sum of w_l tent(x_l, x_i) over i < l < stop."""
        last = np.minimum(stop, self.reach_right[i])
        n_agents = self.prefix_counts[last] - self.prefix_counts[i + 1]
        total = self.prefix_sums[last] - self.prefix_sums[i + 1]
        gains: FloatArray = n_agents * (1.0 + self.positions[i]) - total
        return gains

    def between(self, i: IntArray, j: IntArray) -> FloatArray:
        """gain(i, j) of the docstring above, for i < j."""
        middle = (self.positions[i] + self.positions[j]) / 2.0
        split = np.clip(np.searchsorted(self.positions, middle, side="right"), i + 1, j)
        return self.right(i, split) + self.left(j, split)


def _best_positions(positions: FloatArray, counts: FloatArray, k: int) -> IntArray:
    """(k,) indices of the optimal speeds among p > k positions, given in widths."""
    gains = _Gains(positions, counts)
    p = len(positions)
    everything = np.arange(p)
    best = gains.left(everything, np.zeros(p, dtype=np.int64)) + counts
    came_from = np.zeros((k, p), dtype=np.int32)
    for layer in range(1, k):
        best, came_from[layer] = _next_layer(best, gains, layer)
    last = int(np.argmax(best + gains.right(everything, np.full(p, p))))
    chosen = [last]
    for layer in range(k - 1, 0, -1):
        chosen.append(int(came_from[layer, chosen[-1]]))
    return np.array(chosen[::-1], dtype=np.int64)


def _next_layer(previous: FloatArray, gains: _Gains, layer: int) -> tuple[FloatArray, IntArray]:
    """best_{layer+1} (p,) and its maximisers (p,), from best_layer.

    Rows j are solved in the order of a binary subdivision; the solved neighbours of a row enclose
    its maximiser.  Rows below `layer` have no room for that many speeds before them.
    """
    p = len(previous)
    best = np.full(p, -np.inf)
    argument = np.zeros(p, dtype=np.int64)
    stride = 1 << ((p - layer).bit_length() - 1)
    while stride >= 1:
        # Solved before this pass: every second stride, layer - 1 + 2 * stride * (1, 2, ...).
        rows = np.arange(layer + stride - 1, p, 2 * stride)
        below, above = rows - stride, rows + stride
        low = np.where(below >= layer, argument[np.maximum(below, 0)], layer - 1)
        high = np.where(above < p, argument[np.minimum(above, p - 1)], rows - 1)
        high = np.minimum(high, rows - 1)
        lengths = high - low + 1
        offsets = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        i = np.arange(lengths.sum()) + np.repeat(low - offsets, lengths)
        totals = previous[i] + gains.between(i, np.repeat(rows, lengths))
        greatest = np.maximum.reduceat(totals, offsets)
        hits = np.flatnonzero(totals == np.repeat(greatest, lengths))
        argument[rows] = i[hits[np.searchsorted(hits, offsets)]]
        best[rows] = greatest + gains.counts[rows]
        stride //= 2
    return best, argument


def constant_speed_bound(
    population: TargetPopulation, n_representatives: int, objective: str = "utilitarian"
) -> float:
    """No k policies have a greater objective value than this, percent; exact for utilitarian.

    Of the others, concave functions W of the returns, none exceeds the mean, and:

    1. A policy j spends the share q_j(v) of the 1000 steps at speed v, so that agent i receives at
       most V_ij = 1000 peak sum_v q_j(v) tent(target_i, v), under any assignment no more than
       min(1, sum_j V_ij / (1000 peak)) of a perfect episode: with Q = sum_j q_j, of mass k,
       x_i(Q) = min(1, sum_v Q(v) tent(target_i, v)).
    2. W(x(Q)) is concave in Q.  A linear function sum_i y_i tent(target_i, v) with y >= 0 has a
       maximum at a target (`constant_speed_optimum`, step 2), so that speeds at the targets are
       enough: for egalitarian a linear programme, whose dual is the bound; for the others ascent by
       Frank and Wolfe, whose duality gap is added to what it reaches.

    With k = 1 it is exact up to that gap, for robots that could change their speed at once.

    Args:
        population: n agents, n at most 2000 for other objectives than utilitarian.
        n_representatives: k >= 1.
        objective: see `scoring.parse_objective`.

    Raises:
        ValueError: as `constant_speed_optimum`, or an unknown objective.
    """
    utilitarian = constant_speed_optimum(population, n_representatives).welfare
    name, _ = scoring.parse_objective(objective)
    n = population.n_agents
    if name == "utilitarian" or n > MOST_AGENTS:
        return utilitarian
    whole = EPISODE_STEPS * population.peak
    speeds = np.unique(population.targets)
    tents = population.rewards(speeds[:, None]).T / population.peak  # (n, p)
    return min(utilitarian, _divided(tents, n_representatives, whole, objective))


MOST_AGENTS = 2000
"""Beyond which other objectives have the ceiling of the mean: the programmes would take long."""


def _divided(
    tents: FloatArray,
    k: int,
    whole: float,
    objective: str,
    most: Callable[[FloatArray], float] | None = None,
) -> float:
    """Bound what k policies reach that divide their time: max over Q of W(whole min(1, tents Q)).

    Q >= 0 has the mass k; W is another objective than the mean.

    Args:
        tents: (n, p) share of a perfect step that each agent receives at each of p velocities.
        k: number of representatives.
        whole: return of a perfect episode, percent.
        objective: see `scoring.parse_objective`.
        most: weights y (n,) >= 0 -> no velocity has more of sum_i y_i tent_i; None: none has more
            than the best of the p.
    """
    limit = most or (lambda weights: float((weights @ tents).max()))
    if scoring.parse_objective(objective)[0] == "egalitarian":
        return whole * _least_share(tents, float(k), limit)
    return _frank_wolfe(tents, float(k), whole, objective, limit)


def _least_share(tents: FloatArray, mass: float, most: Callable[[FloatArray], float]) -> float:
    """Max over Q of min_i min(1, (tents Q)_i), from above."""
    from scipy.optimize import linprog

    n, p = tents.shape
    # Variables Q (p,) and t: maximise t with t <= (tents Q)_i, t <= 1, sum Q = mass.
    result = linprog(
        np.append(np.zeros(p), -1.0),
        A_ub=np.hstack((-tents, np.ones((n, 1)))),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(p), 0.0)[None],
        b_eq=[mass],
        bounds=[(0.0, None)] * p + [(None, 1.0)],
    )
    # Any y >= 0 of sum 1 bounds it: min_i x_i <= sum_i y_i x_i <= mass max_v sum_i y_i tent_i(v).
    payments = np.maximum(-result.ineqlin.marginals, 0.0)
    if payments.sum() <= 0.0:
        return 1.0
    return min(1.0, mass * most(payments) / float(payments.sum()))


def _frank_wolfe(
    tents: FloatArray,
    mass: float,
    whole: float,
    objective: str,
    most: Callable[[FloatArray], float],
) -> float:
    """Bound of max over Q of W(whole min(1, tents Q)), W a power mean below the mean.

    The gap among the p velocities says when to end; `most` is asked once, at the least gap.
    """
    share = np.full(tents.shape[1], mass / tents.shape[1])
    bound, tangent = np.inf, (0.0, np.zeros(len(tents)))
    for step in range(N_ASCENT_STEPS):
        given = np.minimum(tents @ share, 1.0)
        value = scoring.objective_value(whole * given, objective)
        slope = _slopes(whole * given, objective) * whole * (tents @ share < 1.0)
        by_speed = slope @ tents
        best = int(by_speed.argmax())
        rest = value - float(by_speed @ share)
        if rest + mass * by_speed[best] < bound:
            bound, tangent = rest + mass * float(by_speed[best]), (rest, slope)
        if bound - value < 1e-3:
            break
        share *= 1.0 - 2.0 / (step + 2.0)
        share[best] += mass * 2.0 / (step + 2.0)
    return tangent[0] + mass * most(tangent[1])


N_ASCENT_STEPS = 3000


def _slopes(returns: FloatArray, objective: str) -> FloatArray:
    """DW / dV_i of nash or p_mean at returns (n,)."""
    _, power = scoring.parse_objective(objective)
    weights = scoring.objective_weights(returns, objective)  # in proportion to (1 + V_i)^(p - 1)
    value, exponent = 1.0 + scoring.objective_value(returns, objective), (power or 0.0) - 1.0
    logarithm = exponent * np.log1p(returns[0]) - exponent * np.log(value)
    slopes: FloatArray = weights / weights[0] * np.exp(logarithm) / len(returns)
    return slopes


_SECONDS = 600.0
"""Of a mixed-integer programme."""


def _proven(found: float, bound: float) -> float:
    """What was found, if nothing is better.

    Raises:
        RuntimeError: that was not decided in time.
    """
    if bound > found + 1e-6 * max(abs(found), 1.0):
        raise RuntimeError(f"{found} was found, {bound} is possible: not decided in time")
    return found


def best_of_candidates(
    values: ArrayLike, n_representatives: int, objective: str = "utilitarian"
) -> float:
    """Greatest objective value of k policies out of candidates, each agent at its best of them.

    An agent's best choice is the same for every objective, as all rise with every return.  Which k
    to choose is facility location with the entries as `scoring.utilities` has them; for egalitarian
    the greatest threshold that k candidates reach for everybody.  A mixed-integer programme (HiGHS,
    gap 0) decides.

    Args:
        values: (n, m) finite return of each agent under each candidate, percent.
        n_representatives: k, 1 to n; above m all candidates are chosen.
        objective: see `scoring.parse_objective`.

    Raises:
        ValueError: a value is not finite, or k or the objective is out of range.
        RuntimeError: HiGHS did not decide within ten minutes.
    """
    matrix = np.asarray(values, np.float64)
    k = min(_check_budget(n_representatives, None), matrix.shape[1])
    name, _ = scoring.parse_objective(objective)
    if not np.isfinite(matrix).all():
        raise ValueError("values are not all finite")
    # Here because of scipy, which takes a while to import.
    from rmdp_bench.facility_location import least_served, select

    if name == "egalitarian":
        return _proven(*least_served(matrix, k, seconds=_SECONDS))
    least = -np.inf
    if name == "p_mean":
        fairest = _proven(*least_served(matrix, k, seconds=_SECONDS))
        least = scoring.least_of_best(fairest, len(matrix), objective)
    gains = scoring.utilities(matrix, objective, least)
    gains = gains - gains.min(axis=1, keepdims=True)
    found = select(gains, k, max_variables=gains.size, seconds=_SECONDS)
    _proven(found.welfare, found.bound)
    best = matrix[:, found.chosen].max(axis=1)
    return scoring.objective_value(best if name == "utilitarian" else best.clip(0.0), objective)


def resource_gathering_optimum(n_representatives: int) -> ResourceGatheringOptimum:
    """Greatest welfare of k representatives in Resource Gathering, certified, from a stored table.

    The rule.  Home (row 4, column 2) counts as visited from the start.  The episode ends when a
    move ends at home; then the agents of the visited tiles earn 100 - T percent, T the steps taken.
    A move off the grid stays in place, so that moving down at home ends the episode at T = 1 with
    99 for the agent of the home tile and nothing for the others.  Hence k = 25 gives
    (sum over the other 24 tiles of (100 - 2 distance) + 99) / 25 = 93.56.  The paper's 93.6 is that
    number rounded, or the same sum with T = 0, 100 for the home tile's agent: both give 93.6.

    1. An episode is a closed tour.  The world is deterministic, so a policy, also a stochastic one,
       is a mixture of episodes, and the best of them is as good for its group.  An episode that
       earns anything touches home only at its start and end.
    2. Only undominated tours matter.  Let a tour visit S in T steps.  If another visits S' with
       S a subset of S' in T' <= T steps, every group earns at least as much with the other.  So
       keep the least T for each reachable S, and of the pairs (S, T) the undominated.  A move off
       the grid costs a step and visits nothing: it is useless but at home, the tour ({home}, 1).
       One tour visits all 25 tiles in 26 steps, so longer ones are dominated; the limit of 40
       steps never matters.  Breadth-first search over (tile, visited set) finds all.
    3. Choosing k tours is a facility location problem: tour j earns v[i, j] = 100 - T_j for each
       agent i of its tiles, and agents take their best chosen tour.  For any multipliers u (25,)
       no choice earns more than L(u) = sum_i u_i + the k greatest of
       rho_j = sum_i max(0, v[i, j] - u_i), the value if agent i is paid u_i and may then gain on
       every chosen tour.  A choice that contains a tour j below the k-th greatest earns at most
       L(u) - rho_(k) + rho_j.  Totals are integers, so that few tours can still improve on, or
       equal, the best choice known; on these a mixed-integer programme (HiGHS, gap 0) decides.
       The table stores u, in integers: the bound can be checked without any solver.

    `scripts/certify_resource_gathering.py` does this and writes the table.

    Args:
        n_representatives: k, 1 to 25.

    Raises:
        ValueError: k is not an integer from 1 to 25.
    """
    table = _resource_gathering_table()
    k = _check_budget(n_representatives, len(table["optima"]))
    optimum = table["optima"][k - 1]
    tours = tuple(_follow(actions) for actions in optimum["tours"])
    lengths = np.array([len(tour.actions) for tour in tours])
    visited = np.zeros((25, k), dtype=bool)
    for j, tour in enumerate(tours):
        visited[list(tour.tiles), j] = True
    assignment = np.zeros((25, k))
    best = np.where(visited, 100 - lengths, 0).argmax(axis=1)
    assignment[np.arange(25), best] = 1.0
    return ResourceGatheringOptimum(
        float(optimum["welfare"]),
        tours,
        assignment,
        float(optimum["worst_agent"]),
        float(optimum["nash_welfare"]),
    )


def planar_velocity_bound(
    population: TargetPopulation, n_representatives: int, objective: str = "utilitarian"
) -> float | None:
    """No k policies have a greater objective value, percent; None: it was not certified.

    A constant velocity is optimal, as on a line (`constant_speed_optimum`, step 1); where in the
    plane the best ones are has no such simple answer. `scripts/certify_planar_targets.py` bounds
    what they are worth, and finds velocities that are worth almost as much; the table holds both.
    Other objectives are bounded as on a line (`constant_speed_bound`): the programme is over the
    targets and a grid, and `greatest_gain` closes it over the whole plane.

    Args:
        population: n agents with targets (n, 2).
        n_representatives: k >= 1.
        objective: see `scoring.parse_objective`.

    Raises:
        ValueError: k is not an integer >= 1, or an unknown objective.
    """
    k = _check_budget(n_representatives, None)
    name, _ = scoring.parse_objective(objective)
    entry = planar_table().get(population.content_hash(), {}).get(str(k))
    if entry is None or name == "utilitarian":
        return None if entry is None else float(entry["bound"])
    nothing = np.zeros(population.n_agents)
    velocities = np.concatenate([population.targets, planar_grid(population)])
    bound = _divided(
        planar_rewards(population, velocities).T,
        k,
        EPISODE_STEPS * population.peak,
        objective,
        lambda weights: greatest_gain(population, nothing, weights=weights)[0],
    )
    return min(float(entry["bound"]), bound)


GRID_SPACING = 0.25
"""Of velocities in a plane, metres per second."""


def planar_grid(population: TargetPopulation) -> FloatArray:
    """Velocities (m, 2) of a grid over the disc that holds all targets (n, 2)."""
    bound = np.hypot(*population.targets.T).max() + GRID_SPACING
    line = np.arange(-bound, bound + GRID_SPACING, GRID_SPACING)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return np.asarray(grid[np.hypot(*grid.T) <= bound])


def planar_velocity_groups(population: TargetPopulation, n_representatives: int) -> IntArray:
    """Which of the table's k velocities is best for each agent, (n,).

    Raises:
        ValueError: k is not an integer >= 1, or the table has nothing for this population and k.
    """
    k = _check_budget(n_representatives, None)
    entry = planar_table().get(population.content_hash(), {}).get(str(k))
    if entry is None:
        raise ValueError(f"the best {k} velocities of this population are not known")
    groups: IntArray = planar_rewards(population, np.array(entry["velocities"])).argmax(axis=0)
    return groups


def planar_rewards(population: TargetPopulation, velocities: FloatArray) -> FloatArray:
    """What agents earn of a perfect step at each of m velocities (m, 2): (m, n), 0 to 1."""
    return np.asarray(population.rewards(velocities) / population.peak)


def greatest_gain(
    population: TargetPopulation,
    payments: FloatArray,
    tolerance: float = 2e-3,
    *,
    weights: FloatArray | None = None,
) -> tuple[float, FloatArray]:
    """Bound max over velocities v in the plane of sum_i y_i max(0, r_i(v) - u_i), r_i from 0 to 1.

    Squares are divided while one may be worth more than the best centre so far. A square is worth
    at most what every agent gains at the point of it that is nearest to its target.

    Args:
        population: n agents with targets (n, 2).
        payments: u (n,) >= 0.
        tolerance: by which the bound may be above the maximum, in agents of mean weight.
        weights: y (n,) >= 0; None: ones.

    Returns:
        The bound, and velocities (m, 2) within a thousandth of the best that was seen.
    """
    targets, width = population.targets, population.width
    counts = np.ones(len(targets)) if weights is None else weights
    tolerance *= float(counts.mean())
    low, high = targets.min(axis=0) - width, targets.max(axis=0) + width
    n_squares = 24
    half = float((high - low).max()) / n_squares / 2.0
    line = (2.0 * np.arange(n_squares) + 1.0) * half
    centres = np.stack(np.meshgrid(low[0] + line, low[1] + line), axis=-1).reshape(-1, 2)
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    best, good = -np.inf, []
    while len(centres):
        away = np.maximum(np.abs(centres[:, None] - targets) - half, 0.0)
        most = 1.0 - np.hypot(away[..., 0], away[..., 1]) / width
        upper = np.maximum(most - payments, 0.0) @ counts
        own = np.maximum(planar_rewards(population, centres) - payments, 0.0) @ counts
        best = max(best, float(own.max()))
        good.append(centres[own > 0.999 * best])
        half /= 2.0
        promising = centres[upper > best + tolerance]
        centres = (promising[:, None] + half * corners).reshape(-1, 2)
    return best + tolerance, np.concatenate(good)


@functools.cache
def planar_table() -> Any:
    """Hash of a population -> k -> bound, attained, velocities (k, 2) and payments (n,)."""
    file = resources.files("rmdp_bench") / "data" / PLANAR_TABLE
    return json.loads(file.read_text(encoding="utf-8"))


@functools.cache
def _resource_gathering_table() -> Any:
    """Read the stored table."""
    file = resources.files("rmdp_bench") / "data" / "resource_gathering_optimum.json"
    return json.loads(file.read_text(encoding="utf-8"))


def _follow(actions: Sequence[int]) -> Tour:
    """Tiles along the actions, from home."""
    row, column = 4, 2
    tiles = [5 * row + column]
    for action in actions:
        row = min(max(row + MOVES[action][0], 0), 4)
        column = min(max(column + MOVES[action][1], 0), 4)
        tiles.append(5 * row + column)
    return Tour(tuple(actions), tuple(tiles))


def _check_budget(value: Any, greatest: int | None) -> int:
    """Check a number of representatives."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < 1 or (greatest is not None and value > greatest):
        expected = ">= 1" if greatest is None else f"from 1 to {greatest}"
        raise ValueError(f"n_representatives is {shown(value)}, expected an integer {expected}")
    return int(value)
