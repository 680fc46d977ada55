"""What the page's tables hold: a document for every task and for every row."""

from __future__ import annotations

from typing import Any

from rmdp_bench.leaderboard.reading import SubmittedRow
from rmdp_bench.leaderboard.rounding import rounded
from rmdp_bench.tasks import Task

MAX_DEVICE_NAME = 80
"""Characters that are shown of what a submission calls its device."""


def describe_task(task: Task) -> dict[str, Any]:
    """A task, ready for JSON; welfare in percent."""
    return {
        "id": task.id,
        "track": task.track,
        "environment": task.env_id.removeprefix("rmdp/"),
        "dataset": task.dataset_id,
        "agents": task.n_agents,
        "scored": task.n_agents if task.eval_agents is None else len(task.eval_agents),
        "k": task.n_representatives if task.track == "online" else None,
        "transitions": task.transitions or None,
        "episodes": task.n_eval_episodes,
        "ceiling": rounded(task.ceiling, 4),
    }


def describe_row(row: SubmittedRow, rank: int | None) -> dict[str, Any]:
    """What the tables show of a row, ready for JSON; in percent, hours and MiB.

    Args:
        row: of the board.
        rank: among the measured rows of its task; None: not measured.
    """
    summary, offline = row.summary, row.summary.offline or {}
    low, high = summary.interval or (None, None)
    ends = (None, None) if row.mark is None else row.mark.interval
    correlations = {
        name.removeprefix("factor_correlation_"): rounded(value, 3)
        for name, value in offline.items()
        if name.startswith("factor_correlation_")
    }
    return {
        "key": row.key,
        "task": summary.task,
        "submission": row.submission.name,
        "solver": summary.solver,
        "settings": summary.settings,
        "folder": row.solver,
        "mark": row.kind,
        "status": row.status,
        "rank": rank,
        "division": row.submission.division,
        "device": row.device_class,
        "deviceName": summary.device_name[:MAX_DEVICE_NAME],
        "onlineEvaluations": row.submission.n_online_evaluations,
        "seeds": len(summary.seeds),
        "transitions": summary.transitions or None,
        "measured": rounded(row.score, 3),
        "error": rounded(summary.standard_error, 3),
        "measuredLow": rounded(ends[0], 3),
        "measuredHigh": rounded(ends[1], 3),
        "claimed": rounded(row.claimed, 3),
        "welfare": rounded(row.claimed if row.score is None else row.score, 3),
        "reassigned": rounded(summary.reassigned_welfare, 3),
        "iqm": rounded(summary.interquartile_mean, 3),
        "low": rounded(low, 3),
        "high": rounded(high, 3),
        "share": rounded(summary.share_of_ceiling, 4),
        "worst": rounded(summary.worst_agent, 2),
        "tenth": rounded(summary.tenth_percentile, 2),
        "gini": rounded(summary.gini, 3),
        "nash": rounded(summary.nash_welfare, 2),
        "regret": rounded(summary.assignment_regret, 3),
        "meanReturn": rounded(offline.get("mean_return"), 2),
        "unseen": rounded(offline.get("unseen_welfare"), 2),
        "extrapolating": rounded(offline.get("extrapolating_welfare"), 2),
        "rmse": rounded(offline.get("rmse_mean"), 4),
        "r2": rounded(offline.get("r2_median"), 4),
        "r2Mean": rounded(offline.get("r2_mean"), 4),
        "correlations": correlations,
        "speed": rounded(summary.transitions_per_second, 1),
        "trainHours": rounded(summary.train_hours, 5),
        "wallHours": rounded(summary.wall_hours, 5),
        "scoringSeconds": rounded(offline.get("evaluation_seconds"), 1),
        "energy": rounded(summary.watt_hours, 2),
        "memory": rounded(summary.peak_memory_mib, 1),
    }
