"""`leaderboard build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmdp_bench.cli.output import JsonOption, print_json, warn_skipped


def build_command(
    root: Annotated[Path, typer.Option(help="Folder that has submissions/.")] = Path(
        "leaderboards"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write TABLES.md and the page, site/index.html, from all submissions; print what was written.

    In a clone the rows of its own board are also written into the package.
    """
    from rmdp_bench.leaderboard.page import build_site

    built = build_site(root)
    for name, reason in built.skipped.items():
        warn_skipped(name, reason)
    if as_json:
        print_json(
            {
                "tables": str(built.tables),
                "site": str(built.site),
                "submissions": built.n_submissions,
                "tasks": built.n_tasks,
                "rows": built.n_rows,
                "packaged": [str(path) for path in built.packaged],
                "skipped": built.skipped,
            }
        )
        return
    print(
        f"{_count(built.n_rows, 'row')} of {_count(built.n_submissions, 'submission')} on "
        f"{_count(built.n_tasks, 'task')}"
    )
    here = Path.cwd()
    for path in (built.tables, built.site / "index.html", *built.packaged):
        print(path.relative_to(here) if path.is_relative_to(here) else path)


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
