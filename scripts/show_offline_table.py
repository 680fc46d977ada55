"""Print the offline rows of the suite's own submissions as one table for each world.

    python -m scripts.show_offline_table

These are the tables in `docs/offline_solvers.md`; `scripts/run_offline_table.py` makes the rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rmdp_bench.leaderboard import build_tables
from rmdp_bench.tasks import find_logged_task
from scripts.run_offline_table import KINDS, ROWS, WORLDS

LEADERBOARDS = Path("leaderboards")


def format_tables(leaderboards: Path) -> dict[str, list[str]]:
    """World -> lines of its table in Markdown; a cell is empty where there is no row."""
    cells: dict[tuple[str, str, str], str] = {}
    for table in build_tables(leaderboards):
        for entry in table.entries:
            row = entry.summary
            if row.offline is None:
                continue
            text = f"{row.social_welfare:.1f}"
            if row.standard_error is not None:
                text += f" ± {row.standard_error:.1f}"
            mean = row.offline["mean_return"]
            if mean is not None:
                text += f" ({mean:.0f})"
            cells[row.task, entry.source, row.solver] = text
    tables = {}
    for world in WORLDS:
        lines = [
            f"| solver | from | {' | '.join(f'`{kind}`' for kind in KINDS)} |",
            "| --- " * (2 + len(KINDS)) + "|",
        ]
        for each in sorted(ROWS, key=lambda row: (row.solver, row.submission)):
            own = [
                cells.get((find_logged_task(world, kind).id, each.submission, each.solver), "")
                for kind in KINDS
            ]
            if any(own):
                lines.append(f"| `{each.solver}` | {each.submission} | {' | '.join(own)} |")
        tables[world] = lines
    return tables


def main() -> None:
    """Print the tables."""
    if not LEADERBOARDS.is_dir():
        sys.exit("there is no folder leaderboards here; run this in the root of the repository")
    for world, lines in format_tables(LEADERBOARDS).items():
        print(f"\n### {world}\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
