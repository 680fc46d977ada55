"""How commands print: one JSON document, or tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

PLAIN_WIDTH = 240
"""Columns where stdout is not a terminal, so that no cell is cut."""


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    n_left: int = 1,
    highlight: Sequence[int] = (),
    note: str = "",
) -> None:
    """Print a table.

    Args:
        title: headline.
        columns: their names.
        rows: one text per column.
        n_left: how many columns are aligned to the left; the rest are numbers.
        highlight: rows to print in bold.
        note: a line below.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        table.add_column(
            column,
            justify="left" if place < n_left else "right",
            no_wrap=place == 0 or not sys.stdout.isatty(),
        )
    for place, row in enumerate(rows):
        table.add_row(*row, style="bold" if place in highlight else None)
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(width=width, markup=False, highlight=False)
    console.print(table)
    if note:
        console.print(note, style="dim")


def number(value: float | None, digits: int = 1) -> str:
    """A number for a table; an unknown one is a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"rmdp-bench: warning: {message}", file=sys.stderr)


def print_error(message: str) -> None:
    """Print an error on stderr, in one line whatever it holds."""
    print(f"rmdp-bench: error: {' '.join(message.split())}", file=sys.stderr)
