"""TABLES.md: quality of every task's rows, and cost per class of device."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from rmdp_bench.leaderboard import DEVICE_CLASSES
from rmdp_bench.leaderboard.columns import (
    COST_NOTES,
    COSTS,
    MAX_DEVICE_NAME,
    MEASURED,
    board_columns,
    board_notes,
    cost_cells,
    measured_cells,
    number,
    row_name,
    score_cells,
)
from rmdp_bench.leaderboard.reading import SubmittedRow, ranks
from rmdp_bench.tasks import Task, get_task

MAX_NAME = 200
"""Characters of a row's name: settings can be long."""
_HEAD = """# Tables

Written by `rmdp-bench leaderboard build` from [submissions](submissions); do not edit. The page
`site/index.html`, which `make site` builds, has the same rows with figures; open it in a browser.
[SUBMITTING.md](SUBMITTING.md) says how rows come here, how they are measured, and what the marks
mean.
"""


Anchors = Mapping[str, Mapping[str, float]]
"""Task -> name -> welfare in percent, as `anchors.find_anchors` gives it."""


def format_tables(by_task: Mapping[str, Sequence[SubmittedRow]], anchors: Anchors) -> str:
    """The whole file.

    Args:
        by_task: task id -> its rows, the best first.
        anchors: what was reached at best on each task.
    """
    filled = {get_task(task_id): rows for task_id, rows in by_task.items() if rows}
    parts = [_HEAD]
    for track, rows_of_track in (("online", "Online"), ("offline", "Offline")):
        own = {task: rows for task, rows in filled.items() if task.track == track}
        if own:
            computed = {name for task in own for name in anchors.get(task.id, {})}
            notes = board_notes(track, [*_columns(track), *computed])
            parts += [f"## {rows_of_track}: quality\n", _paragraph(notes)]
            parts += [_quality(task, rows, anchors.get(task.id, {})) for task, rows in own.items()]
    for device_class in dict.fromkeys(DEVICE_CLASSES.values()):
        costs = [
            _cost_row(row)
            for rows in filled.values()
            for row in rows
            if row.device_class == device_class
        ]
        if costs:
            parts.append(f"## Cost on {device_class}\n")
            parts.append(_paragraph({name: COST_NOTES[name] for name in COSTS}))
            parts.append(_table(["task", "solver", "from", "device", *COSTS], costs, n_left=4))
    return "\n".join(parts)


def _columns(track: str) -> list[str]:
    """Of tables of quality."""
    own = ["solver", "from", "mark", "division", "seeds", "transitions", "used"]
    return ["rank", *own, *MEASURED, *board_columns(track)]


def _paragraph(notes: Mapping[str, str]) -> str:
    """What columns mean, each sentence once."""
    return f"{' '.join(dict.fromkeys(notes.values()))}\n"


def _quality(task: Task, rows: Sequence[SubmittedRow], anchors: Mapping[str, float]) -> str:
    columns = _columns(task.track)
    measured: list[list[str]] = []
    others: list[list[str]] = []
    known = {} if task.ceiling is None else {"exact ceiling": task.ceiling}
    for name, welfare in (known | dict(anchors)).items():
        share = "–" if task.ceiling is None else f"{100 * welfare / task.ceiling:.1f} %"
        exact = dict.fromkeys(columns, "–") | {
            "solver": f"*{name}*",
            "from": "computed",
            "measured": number(welfare, 2),
            "of ceiling": share,
        }
        measured.append([exact[column] for column in columns])
    for row, rank in zip(rows, ranks(rows), strict=True):
        summary = row.summary
        cells = [
            "–" if rank is None else str(rank),
            _literal(row_name(summary)),
            row.submission.name,
            row.status,
            row.submission.division,
            str(len(summary.seeds)),
            number(summary.transitions or None, 0),
            number(summary.transitions_used, 0),
            *measured_cells(
                summary, row.score, row.claimed, None if row.mark is None else row.mark.interval
            ),
            *score_cells(summary)[1:],
        ]
        (others if rank is None else measured).append(cells)
    parts = [f"### {task.id}\n"]
    if measured:
        parts.append(_table(columns, measured, n_left=5))
    if others:
        parts.append("Not measured, and not ranked: what submitters say.\n")
        parts.append(_table(columns, others, n_left=5))
    return "\n".join(parts)


def _cost_row(row: SubmittedRow) -> list[str]:
    summary = row.summary
    device = _literal(summary.device_name[:MAX_DEVICE_NAME])
    names = [summary.task, _literal(row_name(summary)), row.submission.name, device]
    return [*names, *cost_cells(summary)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], n_left: int) -> str:
    """A table of GitHub's Markdown; after the first `n_left`, columns are numbers."""
    line = ["---"] * n_left + ["---:"] * (len(columns) - n_left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, line, *rows))


def _literal(text: str) -> str:
    """Text from strangers as a code span, in which Markdown and HTML mean nothing.

    What would end the span or the cell is replaced, and so is what does not print.
    """
    shown = text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}…"
    clean = shown.replace("`", "'").replace("|", "¦").replace("\\", "/")
    printable = "".join("�" if unicodedata.category(c)[0] == "C" else c for c in clean)
    return f"`{printable.strip() or '?'}`"
