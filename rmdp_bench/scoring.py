"""Scores: pure functions of arrays.

**Social welfare is the mean over agents** of their returns, everywhere in this package.  (Equation
2 of Ivanov & Ben-Porat, 2024, is the sum; the mean does not grow with n, and with returns in
percent of a perfect episode it is the number in the paper's figures.)

Of one solution, from its welfare matrix V (n, k) in percent, V[i, j] the mean return of agent i
under the policy of representative j, and its assignment (n, k):
`agent_returns`, then `social_welfare`, `worst_agent`, `tenth_percentile`, `gini`, `nash_welfare`,
`share_of_ceiling`; beside it `reassigned_welfare`, that of `greedy_assignment`, and
`assignment_regret`, the difference.  What a task maximises may be another welfare function
(`objective_value`), with the utilities and the slopes that learning by it needs.

Over seeds and tasks, from scores (runs,) or (runs, tasks): `mean`, `standard_error`,
`interquartile_mean`, `stratified_bootstrap_interval`, `performance_profile` and
`probability_of_improvement` with their intervals, after Agarwal et al. (2021), "Deep Reinforcement
Learning at the Edge of the Statistical Precipice"; and `align_curves` for scores during training.

Every function raises ValueError for an empty array, a wrong shape, or values that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.messages import shown

FloatArray = NDArray[np.float64]


def agent_returns(welfare_matrix: ArrayLike, assignment: ArrayLike) -> FloatArray:
    """Return of every agent under its own, possibly soft, assignment.

    sum_j assignment[i, j] * welfare_matrix[i, j]: the inner sum of the paper's equation 2.

    Args:
        welfare_matrix: (n, k), percent.
        assignment: (n, k), every row on the simplex.

    Returns:
        (n,), percent.

    Raises:
        ValueError: also if a row of the assignment is negative somewhere or does not sum to 1.
    """
    matrix = _array(welfare_matrix, "welfare_matrix", 2)
    weights = _array(assignment, "assignment", 2)
    if matrix.shape != weights.shape:
        raise ValueError(
            f"assignment has shape {weights.shape}, expected that of welfare_matrix, {matrix.shape}"
        )
    off_simplex = (weights < 0.0).any(axis=1) | (np.abs(weights.sum(axis=1) - 1.0) > 1e-6)
    if off_simplex.any():
        agent = int(off_simplex.argmax())
        raise ValueError(
            f"assignment of agent {agent} is {weights[agent].tolist()}, expected numbers >= 0 that "
            f"sum to 1"
        )
    returns: FloatArray = (weights * matrix).sum(axis=1)
    return returns


def social_welfare(returns: ArrayLike) -> float:
    """Utilitarian social welfare: the mean over agents, in the unit of the returns (n,)."""
    return float(_array(returns, "returns", 1).mean())


def worst_agent(returns: ArrayLike) -> float:
    """Egalitarian welfare: the least of the returns (n,)."""
    return float(_array(returns, "returns", 1).min())


def tenth_percentile(returns: ArrayLike) -> float:
    """10th percentile of the returns (n,), linear between order statistics (NumPy's default)."""
    return float(np.percentile(_array(returns, "returns", 1), 10.0))


def gini(returns: ArrayLike) -> float:
    """Gini coefficient of the returns (n,): 0 for equal ones, (n - 1) / n if one agent has all.

    sum_ij |x_i - x_j| / (2 n sum_i x_i), computed from the sorted returns (Sen, 1973).  If all are
    zero, they are equal: 0.

    Raises:
        ValueError: also if a return is negative, where the coefficient has no meaning.
    """
    values = np.sort(_not_negative(returns, "gini"))
    if values[-1] == 0.0:
        return 0.0
    values = values / values[-1]  # neither overflow nor denormal numbers below
    n = len(values)
    ranks = 2.0 * np.arange(1, n + 1) - n - 1.0
    return max(0.0, float((ranks * values).sum() / (n * values.sum())))


def nash_welfare(returns: ArrayLike) -> float:
    """Nash welfare: geometric mean of (return + 1), minus 1, in the unit of the returns (n,).

    The shift keeps one agent with nothing from deciding alone.

    Raises:
        ValueError: also if a return is negative.
    """
    return float(np.expm1(np.log1p(_not_negative(returns, "Nash welfare")).mean()))


SMOOTHING = 5.0
"""Percent over which the worst agent is smoothed in learning: see `utilities`."""


def parse_objective(objective: str) -> tuple[str, float | None]:
    """Name and exponent of a welfare function.

    Args:
        objective: "utilitarian" (the mean), "egalitarian" (the least return), "nash" (the geometric
            mean of returns + 1, minus 1) or "p_mean=P", the power mean of returns + 1 with the
            exponent P, minus 1: P = 1 is utilitarian, towards 0 nash, towards -inf egalitarian.

    Returns:
        The name, and P of a p_mean, else None.

    Raises:
        ValueError: anything else, or a P that is 0, above 1 or below -100.
    """
    name, equals, text = str(objective).partition("=")
    if not equals and name in ("utilitarian", "egalitarian", "nash"):
        return name, None
    try:
        power = float(text) if name == "p_mean" else np.nan
    except ValueError:
        power = np.nan
    if not (-100.0 <= power <= 1.0 and power != 0.0):
        raise ValueError(
            f"objective is {shown(objective)}, expected utilitarian, egalitarian, nash, or "
            "p_mean=P with a P from -100 to 1, not 0, such as p_mean=-1"
        )
    return name, power


def objective_value(returns: ArrayLike, objective: str) -> float:
    """Welfare of the returns (n,) by an objective, in their unit; see `parse_objective`.

    Power means of fairness: Moulin (2003), "Fair Division and Collective Welfare"; portfolios of
    policies for all p <= 1: Kim, Bullins et al. (2025), "Navigating the Social Welfare Frontier:
    Portfolios for Multi-objective Reinforcement Learning".  At least the smallest return and at
    most the mean.

    Raises:
        ValueError: an unknown objective, or a negative return with nash or p_mean.
    """
    name, power = parse_objective(objective)
    if name == "utilitarian":
        return social_welfare(returns)
    if name == "egalitarian":
        return worst_agent(returns)
    if name == "nash":
        return nash_welfare(returns)
    assert power is not None
    values = 1.0 + _not_negative(returns, "p_mean")
    least = values.min()  # nothing overflows relative to it, as power <= 1
    return float(least * ((values / least) ** power).mean() ** (1.0 / power) - 1.0)


def least_of_best(fairest: float, n_agents: int, objective: str) -> float:
    """No agent has less than this where a p_mean of P < 0 is greatest; -inf for other objectives.

    The choice with the best worst agent, who has t there, has a power mean of at least t. So the
    best choice has sum_i (1 + V_i)^P <= n (1 + t)^P, and so each (1 + V_i)^P.

    Args:
        fairest: t, percent.
        n_agents: n.
        objective: see `parse_objective`.
    """
    _, power = parse_objective(objective)
    if power is None or power > 0.0:
        return -np.inf
    return float((1.0 + max(fairest, 0.0)) * n_agents ** (1.0 / power) - 1.0)


def utilities(returns: ArrayLike, objective: str, least: float = -np.inf) -> FloatArray:
    """What each agent adds to a welfare function that is a sum over agents: increasing, 0 at 0.

    A choice that maximises their sum maximises the objective, but for egalitarian, of which the sum
    is smooth: -T log sum_i exp(-V_i / T), with T of `SMOOTHING`, is at most T log n below the worst
    return, and its derivatives are those of the sum of -exp(-V_i / T), normalised (smooth set
    scalarisation: Lin, Liu, Zhang, Liu, Wang, Zhang, 2024, "Few for Many: Tchebycheff Set
    Scalarization for Many-Objective Optimization").  Negative returns, which are passing in
    training, count as 0 with all but utilitarian.

    Args:
        returns: any shape, percent.
        objective: see `parse_objective`.
        least: what is below is taken for this much, where no best choice has less
            (`least_of_best`): differences above it would be lost to rounding beside those below.

    Returns:
        The same shape; 100 at 100, so that thresholds in percent keep their size, and 0 at `least`
        if that is above 0.
    """
    values = np.asarray(returns, dtype=np.float64)
    name, power = parse_objective(objective)
    if name == "utilitarian":
        return values

    floor = max(least, 0.0)

    def utility(value: FloatArray) -> FloatArray:
        if name == "egalitarian":
            return np.asarray(-np.expm1(-value / SMOOTHING))
        if name == "nash":
            return np.log1p(value)
        assert power is not None
        return np.asarray((((1.0 + value) / (1.0 + floor)) ** power - 1.0) / power)

    zero, whole = (utility(np.array(value)) for value in (floor, max(100.0, floor + 1.0)))
    scaled: FloatArray = (utility(np.maximum(values, floor)) - zero) * (100.0 / (whole - zero))
    return scaled


def objective_weights(returns: ArrayLike, objective: str) -> FloatArray:
    """Slopes dW / dV_i of a welfare function, relative to their mean over the agents.

    Args:
        returns: (..., n) V, percent; negative ones count as 0.
        objective: see `parse_objective`; egalitarian is smoothed as in `utilities`.

    Returns:
        (..., n) positive, of mean 1; all 1 for utilitarian.
    """
    values = np.maximum(np.asarray(returns, dtype=np.float64), 0.0)
    name, power = parse_objective(objective)
    if name == "utilitarian":
        return np.ones_like(values)
    if name == "egalitarian":
        logarithms = -values / SMOOTHING
    else:
        logarithms = ((0.0 if power is None else power) - 1.0) * np.log1p(values)
    slopes = np.exp(logarithms - logarithms.max(axis=-1, keepdims=True))
    weights: FloatArray = slopes / slopes.mean(axis=-1, keepdims=True)
    return weights


def share_of_ceiling(welfare: float, ceiling: float) -> float:
    """Welfare as a share of the exact ceiling for the population and k (see `ceilings`), 0 to 1.

    Raises:
        ValueError: also if the ceiling is not positive.
    """
    if not np.isfinite(welfare):
        raise ValueError(f"welfare is {shown(welfare)}, expected a finite number")
    if not (np.isfinite(ceiling) and ceiling > 0.0):
        raise ValueError(f"ceiling is {shown(ceiling)}, expected a finite number > 0")
    return float(welfare / ceiling)


def greedy_assignment(welfare_matrix: ArrayLike) -> FloatArray:
    """Every agent at its best representative (equation 6 of the paper), at the first if several.

    Args:
        welfare_matrix: (n, k).

    Returns:
        (n, k) zeros and ones.
    """
    matrix = _array(welfare_matrix, "welfare_matrix", 2)
    assignment = np.zeros_like(matrix)
    assignment[np.arange(len(matrix)), matrix.argmax(axis=1)] = 1.0
    return assignment


def reassigned_welfare(welfare_matrix: ArrayLike) -> float:
    """Social welfare after a last E-step on this matrix (equation 6 of the paper), percent.

    Each agent receives its best representative's return: what the policies are worth, whatever
    assignment they were trained with. It sees the scoring episodes, which flatters it by noise.

    Args:
        welfare_matrix: (n, k).
    """
    return social_welfare(_array(welfare_matrix, "welfare_matrix", 2).max(axis=1))


def assignment_regret(welfare_matrix: ArrayLike, assignment: ArrayLike) -> float:
    """Social welfare that the greedy assignment on the same matrix would add, percent; >= 0.

    The greedy assignment sees the scoring episodes, so that a small regret is noise.
    """
    welfare = social_welfare(agent_returns(welfare_matrix, assignment))
    return max(0.0, reassigned_welfare(welfare_matrix) - welfare)


def mean(scores: ArrayLike, axis: int | None = None) -> Any:
    """Mean of scores, over all runs and tasks (a float) or along an axis (an array)."""
    values = _array(scores, "scores")
    return values.mean(axis=axis) if axis is not None else float(values.mean())


def standard_error(scores: ArrayLike, axis: int | None = None) -> Any:
    """Standard error of the mean of scores (runs,): the bars in the paper's figures.

    Standard deviation with the divisor runs - 1, over sqrt(runs).  NaN for a single run: nothing is
    known about the spread, and 0 would claim certainty.  With an axis, that of the runs, an array.
    """
    from scipy import stats  # takes longer to load than all else here

    values = _array(scores, "scores", 1 if axis is None else None)
    error = stats.sem(values, axis=axis or 0) if values.shape[axis or 0] > 1 else None
    if axis is not None:
        return np.full_like(values.mean(axis=axis), np.nan) if error is None else error
    return float("nan") if error is None else float(error)


def interquartile_mean(scores: ArrayLike, axis: int | None = None) -> Any:
    """Mean of the middle half of scores, over all runs and tasks (a float) or along an axis.

    A quarter of the number of scores, rounded down, is cut at either end: fewer than four scores
    are all kept.  As in rliable (Agarwal et al., 2021), scipy's 25 % trimmed mean.
    """
    from scipy import stats  # takes longer to load than all else here

    values = _array(scores, "scores")
    trimmed = stats.trim_mean(values, 0.25, axis=axis)
    return trimmed if axis is not None else float(trimmed)


def stratified_bootstrap_interval(
    scores: ArrayLike,
    *,
    statistic: Callable[..., Any] = interquartile_mean,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int | np.random.Generator = 0,
) -> tuple[float, float]:
    """Confidence interval of an aggregate score by the stratified percentile bootstrap.

    The runs of each task are resampled on their own, with replacement (Agarwal et al., 2021).

    Args:
        scores: (runs, tasks).
        statistic: `interquartile_mean`, `mean`, or another function of (array, axis).
        confidence: between 0 and 1.
        n_resamples: >= 1.
        seed: an integer >= 0, the same interval each time; or a generator, which is used up.

    Returns:
        Low and high end; both NaN for a single run, whose spread is unknown.

    Raises:
        ValueError: also if confidence or n_resamples is out of range.
    """
    from scipy import stats  # takes longer to load than all else here

    values = _array(scores, "scores", 2)
    _check_bootstrap(confidence, n_resamples)
    if len(values) == 1:
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        tuple(values.T),  # scipy resamples several samples independently: one for each task
        lambda *tasks, axis: statistic(np.concatenate(tasks, axis=axis), axis=axis),
        n_resamples=n_resamples,
        batch=max(1, 2_000_000 // values.size),
        vectorized=True,
        paired=False,
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def probability_of_improvement(scores_x: ArrayLike, scores_y: ArrayLike) -> float:
    """Chance that a run of solver X beats a run of solver Y, averaged over tasks.

    For each task the share of the pairs of runs with X > Y, ties one half: the Mann-Whitney U
    statistic over its maximum (Agarwal et al., 2021).

    Args:
        scores_x: (runs of X, tasks).
        scores_y: (runs of Y, tasks), the same tasks in the same order.

    Returns:
        0 to 1; 0.5 for solvers that are alike.
    """
    x, y = _array(scores_x, "scores_x", 2), _array(scores_y, "scores_y", 2)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"scores_x and scores_y have {x.shape[1]} and {y.shape[1]} tasks, expected the same"
        )
    wins = np.sign(x[:, np.newaxis] - y[np.newaxis])  # (runs of X, runs of Y, tasks)
    return float((wins.mean() + 1.0) / 2.0)


def probability_of_improvement_interval(
    scores_x: ArrayLike,
    scores_y: ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `probability_of_improvement`.

    Whole runs are resampled, those of X and of Y on their own: scores of one run on several tasks,
    or of its agents, belong together.  (Agarwal et al., 2021, resample each task on its own.)

    Args:
        scores_x: (runs of X, tasks).
        scores_y: (runs of Y, tasks), the same tasks in the same order.
        confidence: between 0 and 1.
        n_resamples: >= 1.
        seed: an integer >= 0; the same gives the same interval.

    Returns:
        Low and high end, 0 to 1; both NaN if X or Y has a single run.

    Raises:
        ValueError: also if confidence or n_resamples is out of range.
    """
    probability_of_improvement(scores_x, scores_y)  # checks the shapes
    x, y = _array(scores_x, "scores_x", 2), _array(scores_y, "scores_y", 2)
    rng = np.random.default_rng(seed)
    weights_x = _resampled_weights(len(x), confidence, n_resamples, rng)
    weights_y = _resampled_weights(len(y), confidence, n_resamples, rng)
    if min(len(x), len(y)) == 1:
        return float("nan"), float("nan")
    wins = np.sign(x[:, np.newaxis] - y[np.newaxis]).mean(axis=2)  # (runs of X, runs of Y)
    resampled = (np.einsum("bx,xy,by->b", weights_x, wins, weights_y, optimize=True) + 1.0) / 2.0
    low, high = _percentile_interval(resampled, confidence)
    return float(low), float(high)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> FloatArray:
    """Share of the scores above each threshold (Agarwal et al., 2021: run-score distribution).

    Args:
        scores: (runs, tasks); or (runs, agents), for the share of agents who receive more.
        thresholds: (T,).

    Returns:
        (T,), 0 to 1.
    """
    values, levels = _array(scores, "scores", 2), _array(thresholds, "thresholds", 1)
    profile: FloatArray = (values[:, :, np.newaxis] > levels).mean(axis=(0, 1))
    return profile


def performance_profile_interval(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2_000,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Pointwise percentile bootstrap interval of `performance_profile`, whole runs resampled.

    Args:
        scores: (runs, tasks) or (runs, agents).
        thresholds: (T,).
        confidence: between 0 and 1.
        n_resamples: >= 1.
        seed: an integer >= 0; the same gives the same interval.

    Returns:
        Low and high ends, (T,) each; all NaN for a single run.

    Raises:
        ValueError: also if confidence or n_resamples is out of range.
    """
    values, levels = _array(scores, "scores", 2), _array(thresholds, "thresholds", 1)
    rng = np.random.default_rng(seed)
    weights = _resampled_weights(len(values), confidence, n_resamples, rng)
    if len(values) == 1:
        return np.full(len(levels), np.nan), np.full(len(levels), np.nan)
    of_runs = (values[:, :, np.newaxis] > levels).mean(axis=1)  # (runs, T)
    return _percentile_interval(weights @ of_runs, confidence)


def align_curves(
    curves: Sequence[tuple[ArrayLike, ArrayLike]], name: str
) -> tuple[FloatArray, FloatArray]:
    """Bring learning curves to the points that all of them cover, linearly between their own.

    Args:
        curves: for each run (transitions (T,), scores (T,)); lengths may differ.
        name: what messages call them.

    Returns:
        Transitions (P,), and the scores of each run there, (runs, P).

    Raises:
        ValueError: also if transitions do not increase, or the curves have no stretch in common.
    """
    if not curves:
        raise ValueError(f"the curves of {name} are empty, expected one for each run")
    pairs = [(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)) for x, y in curves]
    for transitions, scores in pairs:
        if transitions.ndim != 1 or not transitions.size or transitions.shape != scores.shape:
            raise ValueError(
                f"a curve of {name} has shapes {transitions.shape} and {scores.shape}, "
                "expected (T,) twice, not empty"
            )
        if not np.isfinite(scores).all() or not (np.diff(transitions) > 0.0).all():
            raise ValueError(
                f"a curve of {name} has welfare that is not finite or transitions that do not "
                "increase"
            )
    first = max(transitions[0] for transitions, _ in pairs)
    last = min(transitions[-1] for transitions, _ in pairs)
    if first > last:
        raise ValueError(f"the curves of {name} have no stretch of transitions in common")
    points = np.unique(np.concatenate([transitions for transitions, _ in pairs]))
    points = points[(points >= first) & (points <= last)]
    return points, np.stack([np.interp(points, x, y) for x, y in pairs])


def _resampled_weights(
    n_runs: int, confidence: float, n_resamples: int, rng: np.random.Generator
) -> FloatArray:
    """(n_resamples, n_runs) share of each run in a sample of n_runs with replacement."""
    _check_bootstrap(confidence, n_resamples)
    drawn = rng.integers(n_runs, size=(n_resamples, n_runs))
    places = drawn + n_runs * np.arange(n_resamples)[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=n_resamples * n_runs)
    return counts.reshape(n_resamples, n_runs) / n_runs


def _percentile_interval(resampled: FloatArray, confidence: float) -> tuple[Any, Any]:
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(resampled, [tail, 100.0 - tail], axis=0)
    return low, high


def _check_bootstrap(confidence: float, n_resamples: int) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {shown(confidence)}, expected a number between 0 and 1")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {shown(n_resamples)}, expected an integer >= 1")


def _array(values: ArrayLike, name: str, n_axes: int | None = None) -> FloatArray:
    """Check a finite, non-empty array of numbers."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected an array of numbers ({error})") from error
    if array.ndim == 0 or array.size == 0 or n_axes not in (None, array.ndim):
        expected = {1: "(n,)", 2: "a matrix"}.get(n_axes or 0, "at least one axis")
        raise ValueError(f"{name} has shape {array.shape}, expected {expected}, not empty")
    if not np.isfinite(array).all():
        index = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name}{list(index)} is {array[index]}, expected finite numbers")
    return array


ROUNDING = 1e-9
"""Percent below 0 that sums of rewards which cancel come to: a return of 0, up to rounding."""


def _not_negative(returns: ArrayLike, score: str) -> FloatArray:
    """Check returns (n,) of which none is negative, but for rounding."""
    values = _array(returns, "returns", 1)
    if (values < -ROUNDING).any():
        agent = int((values < -ROUNDING).argmax())
        raise ValueError(
            f"returns[{agent}] is {values[agent]}, but {score} is defined for returns >= 0 only"
        )
    return np.maximum(values, 0.0)
