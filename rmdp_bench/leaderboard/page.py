"""`leaderboards/TABLES.md` and `leaderboards/site`, from the submissions.

    site/index.html                               with the addresses of documents and repository
    site/style.css  *.js  vendor/                 as in rmdp_bench/data/site, unchanged
    site/data.js                                  all tasks and rows, for the tables
    site/tasks/TASK.js                            what the page of a task shows beside them

Data are JavaScript files that call a function with one JSON value, because a page that is opened as
a file may load scripts and nothing else.  The same submissions give the same bytes: rows have an
order, numbers are rounded, and nothing tells the time or the machine.
"""

from __future__ import annotations

import functools
import html
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import scoring
from rmdp_bench.files import check_writable, write_directory, write_text
from rmdp_bench.leaderboard import make_entries
from rmdp_bench.leaderboard.anchors import find_anchors
from rmdp_bench.leaderboard.columns import MAX_DEVICE_NAME, rounded, rounded_all
from rmdp_bench.leaderboard.markdown import format_tables
from rmdp_bench.leaderboard.policies import address_of, write_index
from rmdp_bench.leaderboard.reading import BROKEN, Array, SubmittedRow, ranks, read_rows, reason_of
from rmdp_bench.leaderboard.snapshot import write_snapshot
from rmdp_bench.population import is_on_line
from rmdp_bench.runs.settings import describe_solvers
from rmdp_bench.runs.solver_loading import kind_of
from rmdp_bench.submission.schema import without_nulls
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, list_tasks

TABLES_FILE = "TABLES.md"
SITE_FOLDER = "site"
DATA_FILE = "data.js"
INDEX_FILE = "index.html"
TEMPLATE = Path(str(files("rmdp_bench"))) / "data" / "site"
OWN_ROOT = TEMPLATE.parents[2] / "leaderboards"
"""Of the suite's board, in a clone."""
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""What means something to HTML or ends a line of JavaScript; within JSON it is in strings only."""


@dataclass(frozen=True)
class Built:
    """What was written.

    Attributes:
        tables: the Markdown file.
        site: the folder of the page; `index.html` in it opens without a server.
        n_submissions: with at least one row.
        n_tasks: with at least one row.
        n_rows: of all tasks.
        skipped: name of each broken submission, which is left out -> the reason.
        packaged: files of the package that were written, see `build_site`.
    """

    tables: Path
    site: Path
    n_submissions: int
    n_tasks: int
    n_rows: int
    skipped: dict[str, str]
    packaged: tuple[Path, ...] = ()


def build_site(root: Path, out: Path | None = None) -> Built:
    """Write the tables and the page of all submissions below a folder.

    A broken submission is left out, and in nobody's way.  In a clone the rows of the suite's board
    and the index of their policies are also written into the package (`snapshot`, `policies`),
    unless one of them is broken.

    Args:
        root: the folder that has `submissions`.
        out: where to write; None: beside them, where the page's links to raw records lead to.

    Raises:
        ValueError: there is no such folder, or none that can be written to, marks.json or
            suite.json is damaged, or `site` is a folder of something else; nothing is written then.
    """
    if not (root / "submissions").is_dir():
        raise ValueError(f"there is no folder {root / 'submissions'}; --root names its parent")
    out = root if out is None else out
    check_writable(out)
    site = out / SITE_FOLDER
    if site.is_dir() and any(site.iterdir()) and not (site / DATA_FILE).is_file():
        raise ValueError(f"{site} is not a page of the leaderboard; move it away")
    skipped: dict[str, str] = {}
    rows = read_rows(root, skipped.__setitem__)
    try:
        contents, tables, anchors = _make_files(rows)
    except BROKEN:
        # Curves and assignments are read with the page; which one it was, each alone shows.
        for name in sorted({row.submission.name for row in rows}):
            try:
                _make_files([row for row in rows if row.submission.name == name])
            except BROKEN as error:
                skipped[name] = reason_of(error)
        rows = [row for row in rows if row.submission.name not in skipped]
        contents, tables, anchors = _make_files(rows)
    write_directory(site, contents)
    write_text(out / TABLES_FILE, tables)
    packaged: tuple[Path, ...] = ()
    if out.resolve() == OWN_ROOT and not skipped:
        stored = write_snapshot(make_entries(rows), root, anchors=anchors)
        packaged = (stored, write_index(rows))
    return Built(
        tables=out / TABLES_FILE,
        site=site,
        n_submissions=len({row.submission.name for row in rows}),
        n_tasks=len({row.summary.task for row in rows}),
        n_rows=len(rows),
        skipped=dict(sorted(skipped.items())),
        packaged=packaged,
    )


def _make_files(
    rows: Sequence[SubmittedRow],
) -> tuple[dict[str, bytes], str, dict[str, dict[str, float]]]:
    """The files of the page, the tables, and the anchors of the tasks."""
    anchors = find_anchors(rows)
    by_task = {
        task.id: [row for row in rows if row.summary.task == task.id] for task in list_tasks()
    }
    contents = {
        path.relative_to(TEMPLATE).as_posix(): path.read_bytes()
        for path in sorted(TEMPLATE.rglob("*"))
        if path.is_file()
    }
    contents[INDEX_FILE] = _with_addresses(contents[INDEX_FILE].decode()).encode()
    contents[DATA_FILE] = _board_script(by_task, anchors)
    for task in list_tasks():
        if by_task[task.id]:
            details = describe_details(task, by_task[task.id])
            contents[f"tasks/{task.id}.js"] = _task_script(task.id, details)
    return contents, format_tables(by_task, anchors), anchors


def _board_script(
    by_task: Mapping[str, Sequence[SubmittedRow]], anchors: Mapping[str, Mapping[str, float]]
) -> bytes:
    """data.js, a line for each task and row, so that a change of one is a change of a line."""
    tasks = [_json(describe_task(task, anchors.get(task.id, {}))) for task in list_tasks()]
    rows = [
        _json(describe_row(row, rank))
        for own in by_task.values()
        for row, rank in zip(own, ranks(own), strict=True)
    ]
    lists = (
        f'"{name}":[\n' + ",\n".join(lines) + "\n]"
        for name, lines in (("tasks", tasks), ("rows", rows))
    )
    about = f'"solvers":{_json(_describe_solvers())},"documents":{_json(address_of("Homepage"))}'
    return f"receiveBoard({{{','.join(lists)},{about}}});\n".encode()


def _with_addresses(page: str) -> str:
    """Fill in where the documents and the repository are."""
    for place, name in (("$HOMEPAGE", "Homepage"), ("$REPOSITORY", "Repository")):
        page = page.replace(place, html.escape(address_of(name)))
    return page


def _describe_solvers() -> dict[str, dict[str, str]]:
    """Name -> a line about each solver of the suite, and its page below the documents."""
    return {
        name: {
            "text": text.rstrip("."),
            "page": f"generated/solvers/{kind_of(name)}/{name}.html",
        }
        for name, text in describe_solvers().items()
        if text
    }


def _task_script(task_id: str, details: dict[str, Any]) -> bytes:
    """tasks/TASK.js, a line for each row."""
    own = dict(details)
    rows = ",\n".join(f"{_json(key)}:{_json(row)}" for key, row in own.pop("rows").items())
    return f"receiveTask({_json(task_id)},{_json(own)},{{\n{rows}\n}});\n".encode()


def _json(value: Any) -> str:
    """JSON that is also safe inside HTML and JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED)


def describe_task(task: Task, anchors: Mapping[str, float]) -> dict[str, Any]:
    """A task, with what was reached at best on it, ready for JSON; welfare in percent."""
    return {
        "id": task.id,
        "track": task.track,
        "environment": task.env_id.removeprefix("rmdp/"),
        "dataset": task.dataset_id if isinstance(task, OfflineTask) else None,
        "agents": task.n_agents,
        "scored": task.n_agents if isinstance(task, OnlineTask) else len(task.eval_agents),
        "k": task.n_representatives if isinstance(task, OnlineTask) else None,
        "transitions": task.transitions or None,
        "episodes": task.n_eval_episodes,
        "scale": task.scale,
        "ceiling": rounded(task.ceiling, 4),
        "anchors": {name: rounded(welfare, 3) for name, welfare in anchors.items()},
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
    returns = np.array([result.agent_returns for result in row.results])  # (seeds, agents)
    low, high = scoring.performance_profile_interval(returns, thresholds)
    is_online = isinstance(row.task, OnlineTask)
    assignments = row.assignments() if is_online else []
    return {
        "scores": rounded_all(row.seed_scores, 3),
        "agents": None if is_online else rounded_all(returns.mean(axis=0), 1),
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
    if isinstance(task, OnlineTask):
        return np.linspace(0.0, 100.0, N_THRESHOLDS)
    returns = [value for row in rows for result in row.results for value in result.agent_returns]
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
    if isinstance(task, OfflineTask) or task.heterogeneous or not is_on_line(task.population):
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
    return {
        "authors": submission.authors,
        "method": submission.method,
        "description": submission.description,
        "differences": submission.differences,
        "paper": submission.paper,
        "code": submission.code,
        "licence": submission.licence,
        "config": without_nulls(row.results[0].config),
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
        "files": row.file_names,
    }
