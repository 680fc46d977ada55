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
    """Write TABLES.md and the page, site/index.html, from all submissions."""
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
                "skipped": built.skipped,
            }
        )
        return
    print(f"{built.n_rows} rows of {built.n_submissions} submissions on {built.n_tasks} tasks")
    print(built.tables)
    print(built.site / "index.html")
