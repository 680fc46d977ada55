"""What the page of one task shows beside its tables, ready for JSON.

Statistics are those of `rmdp_bench.scoring`; a run is a seed, and what is resampled are whole runs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import scoring
from rmdp_bench.leaderboard.reading import Array, SubmittedRow
from rmdp_bench.leaderboard.rounding import rounded, rounded_all
from rmdp_bench.population import TargetPopulation
from rmdp_bench.submission.format import without_nulls
from rmdp_bench.tasks import Task

N_THRESHOLDS = 51
N_COMPARED = 16
"""Best rows of a task that are compared pair by pair."""
MAX_CURVE_POINTS = 50
N_TARGET_BINS = 20
LEAST_NORMALISED, GREATEST_NORMALISED = -100.0, 200.0
"""Beyond them profiles of offline tasks are cut: a diverged policy would squeeze the others."""


def describe_details(task: Task, rows: Sequence[SubmittedRow]) -> dict[str, Any]:
    """Everything about the rows of one task that is not in the tables.

    Args:
        task: the task.
        rows: all its rows, the best first; at least one.

    Raises:
        ValueError: a curve or an assignment is damaged.
    """
    thresholds, bins = _thresholds(task, rows), _target_bins(task)
    return {
        "thresholds": rounded_all(thresholds, 2),
        "targets": None if bins is None else rounded_all(bins[0], 4),
        "improvement": _compare(rows[:N_COMPARED]),
        "rows": {row.key: _describe_row(row, thresholds) for row in rows},
    }


def _describe_row(row: SubmittedRow, thresholds: Array) -> dict[str, Any]:
    results = list(row.results.values())
    returns = np.array([result.agent_returns for result in results])  # (seeds, agents)
    low, high = scoring.performance_profile_interval(returns, thresholds)
    assignments = row.assignments() if row.task.track == "online" else []
    return {
        "scores": rounded_all(row.seed_scores, 3),
        "agents": rounded_all(returns.mean(axis=0), 1) if row.task.track == "offline" else None,
        "profile": rounded_all(scoring.performance_profile(returns, thresholds), 3),
        "profileLow": rounded_all(low, 3),
        "profileHigh": rounded_all(high, 3),
        "curve": _describe_curve(row),
        "groups": _describe_groups(assignments),
        "targets": _describe_targets(row.task, assignments),
        "about": _describe_origin(row),
    }


def _thresholds(task: Task, rows: Sequence[SubmittedRow]) -> Array:
    """Ascending returns, percent, over what agents of the task receive."""
    if task.track == "online":
        return np.linspace(0.0, 100.0, N_THRESHOLDS)
    returns = [
        value for row in rows for result in row.results.values() for value in result.agent_returns
    ]
    low = max(LEAST_NORMALISED, 10.0 * math.floor(min(0.0, *returns) / 10.0))
    high = min(GREATEST_NORMALISED, 10.0 * math.ceil(max(100.0, *returns) / 10.0))
    return np.linspace(low, high, N_THRESHOLDS)


def _compare(rows: Sequence[SubmittedRow]) -> dict[str, Any]:
    """Probability of improvement of each row over each other, with its interval."""
    scores = [np.array([[score] for score in row.seed_scores]) for row in rows]
    pairs = []
    for x, y in itertools.combinations(range(len(rows)), 2):
        probability = scoring.probability_of_improvement(scores[x], scores[y])
        interval = scoring.probability_of_improvement_interval(scores[x], scores[y])
        pairs.append([x, y, *rounded_all((probability, *interval), 3)])
    return {"keys": [row.key for row in rows], "pairs": pairs}


def _describe_curve(row: SubmittedRow) -> dict[str, Any] | None:
    """Mean and standard error over seeds at some points.

    None where no seed has a curve, or those of the seeds have no stretch in common.
    """
    curves = row.curves()
    first = max((transitions[0] for transitions, _ in curves), default=0.0)
    last = min((transitions[-1] for transitions, _ in curves), default=0.0)
    if not curves or first > last:
        return None
    points, welfare = scoring.align_curves(curves, f"{row.key} on {row.summary.task}")
    n_points = min(len(points), MAX_CURVE_POINTS)
    places = np.round(np.linspace(0, len(points) - 1, n_points)).astype(int)
    return {
        "transitions": rounded_all(points[places], 0),
        "mean": rounded_all(welfare[:, places].mean(axis=0), 2),
        "error": rounded_all(scoring.standard_error(welfare[:, places], axis=0), 2),
        "seeds": len(welfare),
    }


def _describe_groups(assignments: Sequence[Array]) -> dict[str, Any] | None:
    """Agents of each representative, the largest group first: mean and range over seeds."""
    if not assignments:
        return None
    sizes = np.sort([assignment.sum(axis=0) for assignment in assignments])[:, ::-1]
    return {
        "mean": rounded_all(sizes.mean(axis=0), 2),
        "low": rounded_all(sizes.min(axis=0), 2),
        "high": rounded_all(sizes.max(axis=0), 2),
        "seeds": len(sizes),
    }


@functools.cache
def _target_bins(task: Task) -> tuple[Array, NDArray[np.int64], Array] | None:
    """Edges of bins of the agents' targets, the bin of each agent, and the targets.

    None where preferences are not targets.
    """
    if task.track == "offline" or not isinstance(task.population, TargetPopulation):
        return None
    targets = task.population.targets
    edges = np.linspace(math.floor(targets.min()), math.ceil(targets.max()), N_TARGET_BINS + 1)
    return edges, np.digitize(targets, edges[1:-1]), targets


def _describe_targets(task: Task, assignments: Sequence[Array]) -> list[Any] | None:
    """For each representative of the lowest seed, agents by bin of their targets.

    Representatives are ordered by the mean target of their agents; those without agents are left
    out.
    """
    binned = _target_bins(task)
    if binned is None or not assignments:
        return None
    _, bins, targets = binned
    first = assignments[0]
    sizes = first.sum(axis=0)
    served = np.flatnonzero(sizes > 0.0)
    counts = np.zeros((N_TARGET_BINS, len(sizes)))
    np.add.at(counts, bins, first)
    means = np.round((targets @ first)[served] / sizes[served], 9)  # as on any other machine
    return [rounded_all(counts[:, j], 2) for j in served[np.argsort(means, kind="stable")]]


def _describe_origin(row: SubmittedRow) -> dict[str, Any]:
    """Who made it, with what, what the verifier found, and the files."""
    submission, mark = row.submission, row.mark
    results = list(row.results.values())
    return {
        "authors": submission.authors,
        "method": submission.method,
        "description": submission.description,
        "differences": submission.differences,
        "paper": submission.paper,
        "code": submission.code,
        "licence": submission.licence,
        "config": without_nulls(results[0].config),
        "revisions": [revision or "unknown" for revision in row.summary.git_revisions],
        "command": row.command,
        "measurement": None
        if mark is None
        else {
            "date": mark.date,
            "episodes": mark.n_episodes,
            "heldOutSeed": str(mark.held_out_seed),  # beyond what JavaScript's numbers hold
            "revision": mark.revision,
            "allowed": rounded(mark.allowed, 3),
            "seeds": [
                [seed.seed, *rounded_all((seed.claimed, seed.replayed, seed.measured), 3)]
                for seed in row.seed_marks
            ],
        },
        "files": {
            str(result.seed): row.files[directory] for directory, result in row.results.items()
        },
    }
