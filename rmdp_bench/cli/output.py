"""How commands print: one JSON document, or tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
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
    optional: Sequence[str] = (),
    highlight: Sequence[int] = (),
    note: str = "",
) -> None:
    """Print a table.

    Args:
        title: headline.
        columns: their names.
        rows: one text per column.
        n_left: how many columns are aligned to the left; the rest are numbers.
        optional: columns that a narrow terminal does without, the first ones first.
        highlight: rows to print in bold.
        note: a line below.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(width=width, markup=False, highlight=False)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    shown, hidden = _fitting(columns, rows, optional, console.width)
    for place in shown:
        justify: Any = "left" if place < n_left else "right"
        table.add_column(columns[place], justify=justify, overflow="fold")
    for number_of_row, row in enumerate(rows):
        style = "bold" if number_of_row in highlight else None
        table.add_row(*(row[place] for place in shown), style=style)
    console.print(table)
    if hidden:
        console.print(
            f"Not shown, for want of width (see --json): {', '.join(hidden)}.", style="dim"
        )
    if note:
        console.print(note, style="dim")


def _fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str], width: int
) -> tuple[list[int], list[str]]:
    """Places of the columns that fit, and the names of those left out."""
    widths = {
        place: max(len(name), *(len(row[place]) for row in rows)) + 3 if rows else len(name)
        for place, name in enumerate(columns)
    }
    hidden = []
    for name in optional:
        if sum(widths.values()) <= width:
            break
        del widths[columns.index(name)]
        hidden.append(name)
    return list(widths), hidden


def number(value: float | None, digits: int = 1) -> str:
    """A number for a table; an unknown one is a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"rmdp-bench: warning: {message}", file=sys.stderr)


def print_stopped(name: str) -> None:
    """Say on stderr, in one line, that a signal stopped the command."""
    with suppress(OSError):  # the terminal may be what has gone
        text = f"rmdp-bench: stopped by {name}; nothing is half written"
        print(text, file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """Print an error on stderr, in one line whatever it holds; nothing in it steers a terminal."""
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
    print(f"rmdp-bench: error: {shown}", file=sys.stderr)
