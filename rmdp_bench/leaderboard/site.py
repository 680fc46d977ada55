"""`leaderboards/TABLES.md` and `leaderboards/site`, from the submissions.

    site/index.html  style.css  *.js  vendor/     as in rmdp_bench/data/site, unchanged
    site/data.js                                  all tasks and rows, for the tables
    site/tasks/TASK.js                            what the page of a task shows beside them

Data are JavaScript files that call a function with one JSON value, because a page that is opened as
a file may load scripts and nothing else.  The same submissions give the same bytes: rows have an
order, numbers are rounded, and nothing tells the time or the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rmdp_bench.files import write_directory, write_text
from rmdp_bench.leaderboard import make_entries
from rmdp_bench.leaderboard.details import describe_details
from rmdp_bench.leaderboard.markdown import format_tables
from rmdp_bench.leaderboard.reading import BROKEN, SubmittedRow, ranks, read_rows, reason_of
from rmdp_bench.leaderboard.rows import describe_row, describe_task
from rmdp_bench.leaderboard.snapshot import write_snapshot
from rmdp_bench.tasks import list_tasks

TABLES_FILE = "TABLES.md"
SITE_FOLDER = "site"
DATA_FILE = "data.js"
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
    """

    tables: Path
    site: Path
    n_submissions: int
    n_tasks: int
    n_rows: int
    skipped: dict[str, str]


def build_site(root: Path, out: Path | None = None) -> Built:
    """Write the tables and the page of all submissions below a folder.

    A broken submission is left out, and in nobody's way.  In a clone the rows of the suite's board
    are also written into the package (`snapshot`), unless one of them is broken.

    Args:
        root: the folder that has `submissions`.
        out: where to write; None: beside them, where the page's links to raw records lead to.

    Raises:
        ValueError: there is no such folder, marks.json or suite.json is damaged, or `site` is a
            folder of something else; nothing is written then.
    """
    if not (root / "submissions").is_dir():
        raise ValueError(f"there is no folder {root / 'submissions'}; --root names its parent")
    out = root if out is None else out
    site = out / SITE_FOLDER
    if site.is_dir() and any(site.iterdir()) and not (site / DATA_FILE).is_file():
        raise ValueError(f"{site} is not a page of the leaderboard; move it away")
    skipped: dict[str, str] = {}
    rows = read_rows(root, skipped.__setitem__)
    try:
        contents, tables = _make_files(rows)
    except BROKEN:
        # Curves and assignments are read with the page; which one it was, each alone shows.
        for name in sorted({row.submission.name for row in rows}):
            try:
                _make_files([row for row in rows if row.submission.name == name])
            except BROKEN as error:
                skipped[name] = reason_of(error)
        rows = [row for row in rows if row.submission.name not in skipped]
        contents, tables = _make_files(rows)
    write_directory(site, contents)
    write_text(out / TABLES_FILE, tables)
    if out.resolve() == OWN_ROOT and not skipped:
        write_snapshot(make_entries(rows), root)
    return Built(
        tables=out / TABLES_FILE,
        site=site,
        n_submissions=len({row.submission.name for row in rows}),
        n_tasks=len({row.summary.task for row in rows}),
        n_rows=len(rows),
        skipped=dict(sorted(skipped.items())),
    )


def _make_files(rows: Sequence[SubmittedRow]) -> tuple[dict[str, bytes], str]:
    """The files of the page, and the tables."""
    by_task = {
        task.id: [row for row in rows if row.summary.task == task.id] for task in list_tasks()
    }
    contents = {
        path.relative_to(TEMPLATE).as_posix(): path.read_bytes()
        for path in sorted(TEMPLATE.rglob("*"))
        if path.is_file()
    }
    contents[DATA_FILE] = _board_script(by_task)
    for task in list_tasks():
        if by_task[task.id]:
            details = describe_details(task, by_task[task.id])
            contents[f"tasks/{task.id}.js"] = _task_script(task.id, details)
    return contents, format_tables(by_task)


def _board_script(by_task: Mapping[str, Sequence[SubmittedRow]]) -> bytes:
    """data.js, a line for each task and row, so that a change of one is a change of a line."""
    tasks = [_json(describe_task(task)) for task in list_tasks()]
    rows = [
        _json(describe_row(row, rank))
        for own in by_task.values()
        for row, rank in zip(own, ranks(own), strict=True)
    ]
    lists = (
        f'"{name}":[\n' + ",\n".join(lines) + "\n]"
        for name, lines in (("tasks", tasks), ("rows", rows))
    )
    return f"receiveBoard({{{','.join(lists)}}});\n".encode()


def _task_script(task_id: str, details: dict[str, Any]) -> bytes:
    """tasks/TASK.js, a line for each row."""
    own = dict(details)
    rows = ",\n".join(f"{_json(key)}:{_json(row)}" for key, row in own.pop("rows").items())
    return f"receiveTask({_json(task_id)},{_json(own)},{{\n{rows}\n}});\n".encode()


def _json(value: Any) -> str:
    """JSON that is also safe inside HTML and JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED)
