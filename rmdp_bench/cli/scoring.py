"""`score`, `plot` and `leaderboard show`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmdp_bench.cli.output import (
    EMPTY,
    ExplainOption,
    JsonOption,
    number,
    print_json,
    print_table,
    warn,
    warn_skipped,
)
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, TaskFile, get_task
from rmdp_bench.terminal import fit_command, fit_terminal

if TYPE_CHECKING:
    from rmdp_bench.leaderboard import Table
    from rmdp_bench.runs.records import Result
    from rmdp_bench.runs.summary import Summary


class Format(StrEnum):
    """Of a figure's file."""

    png = "png"
    svg = "svg"
    pdf = "pdf"


Runs = Annotated[list[Path], typer.Argument(help="Folders with runs, at any depth.")]

_OPTIONAL = (
    *("transitions/s", "Nash", "Gini", "scoring s", "mean R2", "median R2"),
    *("unweighted risk", "10th pct.", "time above range"),
    *("IQM [95 %]", "regret", "transitions", "used", "worst agent", "extrapolating", "unseen"),
    *("new agents", "RMSE", "return", "seeds", "reassigned", "claimed", "of ceiling"),
    *("time below range", "time in range"),
    *("rank", "from", "mark"),
)
"""Columns of quality in the order in which narrower terminals do without them."""
_MORE = "--explain says more."
_OPTIONAL_COSTS = ("Wh/seed", "peak MiB", "device", "hours/seed", "training h", "from")


def score_command(runs: Runs, explain: ExplainOption = False, as_json: JsonOption = False) -> None:
    """Print a table over seeds of all results in some folders."""
    from rmdp_bench.runs import find_results
    from rmdp_bench.runs.summary import summarise
    from rmdp_bench.submission.packing import run_directories

    with run_directories(runs) as folders:
        results = find_results(folders)
    if as_json:
        tasks = _tasks_of(results)
        print_json([_document(own, tasks[own.task]) for own in summarise(results)])
    else:
        print_results(results, explain=explain)


def plot_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders with runs; ids of built datasets."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the figures.")],
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Of the files, png if not given; once for each."),
    ] = None,
) -> None:
    """Draw the figures of the paper for runs, and what is in datasets."""
    from rmdp_bench.cli.figures import draw_datasets, draw_figures
    from rmdp_bench.datasets import DATASETS
    from rmdp_bench.files import check_writable
    from rmdp_bench.runs import find_results
    from rmdp_bench.submission.packing import run_directories

    check_writable(out)
    entries = [entry for entry in DATASETS if entry.id in map(str, runs)]
    folders = [path for path in runs if str(path) not in {entry.id for entry in entries}]
    suffixes = list(dict.fromkeys(chosen.value for chosen in formats or [Format.png]))
    with run_directories(folders) as directories:
        results = find_results(directories) if directories else {}
        figures, missing = draw_figures(results, out, suffixes)
    paths = [*draw_datasets(entries, out, suffixes), *figures]
    for message in missing:
        warn(message)
    for path in paths:
        print(path)


def show_command(
    task: Annotated[str | None, typer.Option(help="Id of one task; else all with a row.")] = None,
    runs: Annotated[
        list[Path] | None, typer.Option(help="Show runs of this machine as well.")
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder that has submissions/.")] = Path(
        "leaderboards"
    ),
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print quality and cost of the submissions, with the exact ceiling as a row of its own."""
    from rmdp_bench.leaderboard import DEVICE_CLASSES, build_tables
    from rmdp_bench.runs import find_results
    from rmdp_bench.runs.summary import summarise
    from rmdp_bench.submission.packing import run_directories

    if root != Path("leaderboards") and not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    has_submissions = (root / "submissions").is_dir()
    packaged = root == Path("leaderboards") and not has_submissions
    skipped: dict[str, str] = {}
    with run_directories(runs or ()) as local:
        results = find_results(local)
        _check_shown(list(results.values()), task, runs or ())
        own = summarise(results)
        tables = build_tables(None if packaged else root, own, task, skipped.__setitem__)
    for name, reason in skipped.items():
        warn_skipped(name, reason)
    if packaged:
        warn(f"there is no {root / 'submissions'} here: the rows are those of this version's board")
    elif not has_submissions:
        warn(f"there are no submissions: {root / 'submissions'} does not exist")
    classes = list(dict.fromkeys(DEVICE_CLASSES.values()))
    if as_json:
        costs = {
            name: [entry.to_dict() for table in tables for entry in table.costs(name)]
            for name in classes
        }
        rows = [table.to_dict() for table in tables]
        print_json({"tasks": rows, "costs": costs, "skipped": skipped})
        return
    last = {table.task.track: table for table in tables}
    for table in tables:
        track = table.task.track
        computed = {name for own in tables if own.task.track == track for name in own.anchors}
        noted = computed if table is last[track] else None
        _print_quality(table, noted=noted, explain=explain)
        if all(entry.is_new for entry in table.entries):
            _print_nobody(table.task, root / "submissions")
    for name in classes:
        _print_costs(name, tables, explain=explain)
    if not tables:
        _print_nobody(None, root / "submissions")


def _check_shown(results: Sequence[Result], task: str | None, runs: Sequence[Path]) -> None:
    """Say which of the runs to show have no board.

    Raises:
        ValueError: no other runs are asked for.
    """
    tasks = dict.fromkeys(result.task for result in results)
    own = dict.fromkeys(result.task for result in results if result.custom is not None)
    if task in tasks.keys() - own.keys() or not tasks:
        return
    folders = " ".join(shlex.quote(str(path)) for path in runs)
    if task is not None and task not in own:
        get_task(task)  # of an unknown one that is what to say
        warn(f"no run in {folders} is of {task}")
        return
    shown = [task] if task is not None else list(own)
    text = (
        f"{', '.join(shown)}: a task of your own has no board; `rmdp-bench score {folders}` shows "
        "its runs"
    )
    if task is not None or len(own) == len(tasks):
        raise ValueError(text)
    if own:
        warn(text)


def print_results(
    results: Mapping[Path, Result], *, explain: bool = False, more: str = _MORE
) -> None:
    """One table per task, a row for each solver.

    What columns mean stands below the last table of each scale.
    """
    from rmdp_bench.leaderboard.columns import SCORES, row_name, score_cells
    from rmdp_bench.runs.summary import summarise

    summaries = summarise(results)
    known = _tasks_of(results)
    tasks = {summary.task: known[summary.task] for summary in summaries}
    last = {_scale(task): task_id for task_id, task in tasks.items()}
    for task_id, about in tasks.items():
        own = [summary for summary in summaries if summary.task == task_id]
        track = about.track
        columns = ["solver", "seeds", "transitions", "used", *SCORES[track], "transitions/s"]
        rows = [
            [
                row_name(summary),
                str(len(summary.seeds)),
                number(summary.transitions or None, 0),
                number(summary.transitions_used, 0),
                *score_cells(summary),
                number(summary.transitions_per_second, 0),
            ]
            for summary in own
        ]
        if track == "offline":
            columns, rows = columns[:2] + columns[4:-1], [row[:2] + row[4:-1] for row in rows]
        notes = _revisions(own)
        scores = _score_notes(about, columns) if last[_scale(about)] == task_id else {}
        more_columns = _more_columns(own)
        for name, (cells, text) in more_columns.items():
            columns.append(name)
            rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
            is_empty = all(cell in EMPTY for cell in cells)  # and left out: the note says why
            notes[f"no {name}" if is_empty else name] = text
        notes |= scores
        print_table(
            *(_title(about), columns, rows),
            optional=_OPTIONAL,
            notes=notes,
            more=more,
            explain=explain,
        )


def _tasks_of(results: Mapping[Path, Result]) -> dict[str, Task]:
    """Id -> task, of all records."""
    from rmdp_bench.runs.records import task_of

    return {result.task: task_of(result) for result in results.values()}


def _document(summary: Summary, task: Task) -> dict[str, Any]:
    """A row for JSON, with what tells tasks of one's own apart."""
    file = _file_of(task)
    own = {"n_agents": task.n_agents, "task_file": None if file is None else file.path}
    return summary.to_dict() | own


def _title(task: Task) -> str:
    """The id; of a task of one's own also what its id does not say."""
    if not isinstance(task, OnlineTask) or task.is_official:
        return task.id
    file = _file_of(task)
    source = "" if file is None else f", {Path(file.path).name}:{file.name}"
    return f"{task.id}: {task.n_agents} agents, k = {task.n_representatives}{source}"


def _file_of(task: Task) -> TaskFile | None:
    return task.file if isinstance(task, OnlineTask) else None


def _scale(task: Task) -> tuple[str, bool]:
    """What tasks whose columns mean the same have in common."""
    from rmdp_bench.evaluation.pairs import plays_pairs

    return task.track, task.has_common_scale if isinstance(task, OfflineTask) else plays_pairs(task)


def _score_notes(task: Task, columns: Sequence[str]) -> dict[str, str]:
    """What columns of `score` mean, where a task like this one is the last."""
    from rmdp_bench.evaluation.pairs import plays_pairs
    from rmdp_bench.leaderboard.columns import COMMON_SCALE_NOTE, HETEROGENEOUS_NOTE, NOTES

    notes = {name: text for name, text in NOTES[task.track].items() if name in columns}
    if plays_pairs(task):
        notes["welfare"] = HETEROGENEOUS_NOTE
    if isinstance(task, OfflineTask) and task.has_common_scale:
        notes["normalised"] += COMMON_SCALE_NOTE
    return notes


def _more_columns(own: Sequence[Summary]) -> dict[str, tuple[list[str], str]]:
    """Columns that only some tasks have: name -> a cell for each row, and what it means."""
    columns: dict[str, tuple[list[str], str]] = {}
    objective = own[0].objective
    if objective != "utilitarian":
        cells = [number(summary.objective_value, 2) for summary in own]
        note = f"{objective}: the task's objective, mean over seeds."
        if any(summary.objective_value is None for summary in own):
            note += " –: with a seed an agent's return is negative, where it has no meaning."
        columns[objective] = (cells, note)
    if any(summary.heldout is not None for summary in own):
        columns["new agents"] = (
            [_heldout_cell(summary) for summary in own],
            "new agents: welfare of as many others, drawn as the task's own were, each matched by "
            "half of the scoring episodes and scored on the rest; in brackets what it is above or "
            "below that of the task's own, matched so.",
        )
    titles = {measure: measure.replace("_", " ") for measure in own[0].measures or {}}
    for measure, title in titles.items():
        cells = [number((summary.measures or {}).get(measure), 3) for summary in own]
        columns[title] = (cells, f"{', '.join(titles.values())}: means over agents.")
    return columns


def _heldout_cell(summary: Summary) -> str:
    if summary.heldout is None:
        return "–"
    welfare, own = summary.heldout["welfare"], summary.heldout["own_welfare"]
    return f"{number(welfare, 2)} ({welfare - own:+.2f})"


def _print_quality(table: Table, *, noted: Iterable[str] | None, explain: bool) -> None:
    """Print a table; what its columns mean as well where the computed rows to explain are named."""
    from rmdp_bench.leaderboard.columns import (
        REPORTED,
        board_columns,
        board_notes,
        measured_cells,
        row_name,
        score_cells,
    )

    optional = [REPORTED.get(name, name) for name in _OPTIONAL]
    rows: list[list[str]] = []
    ceiling, scores = table.task.ceiling, ("measured", "claimed", *board_columns(table.task.track))
    known = {} if ceiling is None else {"exact ceiling": ceiling}
    for name, welfare in (known | dict(table.anchors)).items():
        exact = dict.fromkeys(scores, "–") | {"measured": number(welfare, 2)}
        if ceiling is not None:
            exact["of ceiling"] = f"{100 * welfare / ceiling:.1f} %"
        rows.append([name, "computed", *["–"] * 5, *exact.values()])
    n_exact = len(rows)
    for entry in table.entries:
        own = entry.summary
        transitions = [number(own.transitions or None, 0), number(own.transitions_used, 0)]
        rank = "–" if entry.rank is None else str(entry.rank)
        names = [row_name(own), entry.source, entry.mark or "–", rank]
        measured, _, claimed = measured_cells(own, entry.score, entry.claimed, None)
        cells = [measured, claimed, *score_cells(own)[1:]]
        rows.append([*names, str(len(own.seeds)), *transitions, *cells])
    columns = ["solver", "from", "mark", "rank", "seeds", "transitions", "used", *scores]
    if rows:
        print_table(
            f"{table.task.id}: quality",
            columns,
            rows,
            n_left=3,
            optional=optional,
            highlight=[n_exact + i for i, entry in enumerate(table.entries) if entry.is_new],
            notes=_revisions([entry.summary for entry in table.entries])
            | ({} if noted is None else board_notes(table.task.track, [*columns, *noted])),
            more=_MORE,
            explain=explain,
        )


def _print_nobody(task: Task | None, submissions: Path) -> None:
    """Say that a board has no submitted rows, and which command would change that."""
    from rmdp_bench.submission.packing import REQUIRED

    of = "" if task is None else f" of {task.id}"
    if task is not None and task.unranked is not None:
        line = f"Nobody can submit runs{of} yet: {task.unranked}."
        print(f"{fit_terminal(line, sys.stdout)}\n")
        return
    command = ["rmdp-bench submit RUNS", "--name NAME", f"--out {shlex.quote(str(submissions))}"]
    command += [f"{option} ..." for option in REQUIRED.values()]
    print(fit_terminal(f"Nobody has submitted runs{of} yet; this command would:", sys.stdout))
    print(f"{fit_command(command, sys.stdout)}\n")


def _print_costs(device_class: str, tables: Sequence[Table], *, explain: bool) -> None:
    from rmdp_bench.leaderboard.columns import COST_NOTES, COSTS, cost_cells, row_name

    entries = [entry for table in tables for entry in table.costs(device_class)]
    rows = [
        [
            entry.summary.task,
            row_name(entry.summary),
            entry.source,
            entry.summary.device_name,
            *cost_cells(entry.summary),
        ]
        for entry in entries
    ]
    if rows:
        columns = ["task", "solver", "from", "device", *COSTS]
        bold = [place for place, entry in enumerate(entries) if entry.is_new]
        title = f"Cost on {device_class}"
        print_table(
            *(title, columns, rows),
            n_left=4,
            optional=_OPTIONAL_COSTS,
            grouped=True,
            highlight=bold,
            notes=COST_NOTES if explain else {},
            explain=explain,
        )


def _revisions(summaries: Sequence[Summary]) -> dict[str, str]:
    """A sentence for every row whose seeds come from different revisions of the code."""
    from rmdp_bench.leaderboard.columns import row_name

    notes = {}
    for summary in summaries:
        if len(summary.git_revisions) > 1:
            names = ", ".join(_short(revision) for revision in summary.git_revisions)
            row = row_name(summary)
            notes[f"revisions of {row}"] = f"{row}: seeds of different revisions, {names}."
    return notes


def _short(revision: str | None) -> str:
    if revision is None:
        return "unknown"
    commit, dirty, _ = revision.partition("-dirty")
    return commit[:10] + dirty
