"""How commands print: one JSON document, or tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rmdp_bench.terminal import fit_terminal, terminal_width

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Say below the tables what all columns mean.")
]

PLAIN_WIDTH = 240
"""Columns where stdout is not a terminal."""
FOOTNOTE_LINES = 3
"""What a table may have below it at most, unless the user asks for all."""
NAMED_COLUMNS = 3
"""How many of the columns left out are named."""
READABLE_WIDTH = 16
"""A column of words that does not fit whole is wrapped to no less."""
MAX_MESSAGE = 500
"""Characters of a warning or an error that are shown: it may repeat what a file says."""
EMPTY = ("", "–")
"""Cells that say nothing."""
GAP = 2
"""Columns of the terminal between those of a table."""


class _Layout(NamedTuple):
    """What a width has room for.

    Attributes:
        widths: place of each column that is shown -> its width.
        hidden: names of the columns that are left out.
        headings: whether the first column's texts stand in lines of their own, above the rest.
    """

    widths: dict[int, int]
    hidden: list[str]
    headings: bool


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
    grouped: bool = False,
    highlight: Sequence[int] = (),
    notes: Mapping[str, str] | None = None,
    more: str = "",
    explain: bool = False,
) -> None:
    """Print a table that fits the terminal, however narrow it is.

    Columns in which no row has anything are left out on every terminal.  Others are left out before
    a number or a name is broken.  If those that have to stay are still too wide, the first column's
    texts become lines of their own above the rest, also where two rows would else have no word that
    tells them apart.  Words wrap.

    Args:
        title: headline.
        columns: their names.
        rows: one text per column.
        n_left: how many columns are words, aligned to the left; the rest are numbers.
        optional: columns that a narrow terminal does without, the first ones first; names that the
            table does not have mean nothing. What then has room, the last ones first, stays, up to
            the first that has none.
        grouped: whether the first column's texts are lines of their own on every terminal.
        highlight: rows to print in bold.
        notes: sentences below, the most important first: column that it is about, or any other
            key -> sentence, which is printed once if columns share it. At most three lines are
            printed, and nothing that is only about columns left out.
        more: said where notes are left out for want of lines.
        explain: print all notes.
    """
    from rich.console import Console

    width = terminal_width(sys.stdout) or PLAIN_WIDTH
    # Rich takes 80 columns for granted on a dumb terminal unless it is told the height too.
    console = Console(width=width, height=25, markup=False, highlight=False, emoji=False)
    empty = [p for p in range(1, len(columns)) if rows and all(row[p] in EMPTY for row in rows)]
    without = [columns[place] for place in empty if columns[place]]
    n_left -= sum(place < n_left for place in empty)
    columns, *rows = (
        [text for place, text in enumerate(row) if place not in empty] for row in (columns, *rows)
    )
    layout = _lay_out(columns, rows, n_left, optional, width, grouped)
    console.print(title, style="bold")
    _print_rows(console, columns, rows, n_left, layout, highlight)
    for line in _footnotes(console, layout.hidden, without, notes or {}, more, explain):
        console.print(line, style="dim")
    console.print()


def _lay_out(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    n_left: int,
    optional: Sequence[str],
    width: int,
    grouped: bool,
) -> _Layout:
    """Leave out as few columns as possible, none that is not optional, and keep rows apart."""
    whole, least = _column_widths(columns, rows, n_left)
    droppable = [columns.index(name) for name in optional if name in columns]
    # A table of one column has nothing to stand below headings.
    ways = (False, True) if len(columns) > 1 else (False,)

    def try_without(hidden: Sequence[int], headings: bool) -> tuple[list[int], int]:
        """Columns that are shown, and the room that is left."""
        shown = [p for p in range(headings, len(columns)) if p not in hidden]
        return shown, width - GAP * (len(shown) - 1 + headings) - sum(least[p] for p in shown)

    choices = [
        (droppable[:n_hidden], headings)
        for headings in ((True,) if grouped else ways)
        for n_hidden in range(len(droppable) + 1)
    ]
    whole_rows = _n_different(rows, n_left, ())
    apart = [(h, way) for h, way in choices if _n_different(rows, n_left, h) == whole_rows]
    for hidden, headings in [*apart, *choices]:
        shown, room = try_without(hidden, headings)
        if not shown or room < 0:
            continue
        for place in reversed(hidden):  # a wide one has gone: narrower ones have room again
            fewer = [other for other in hidden if other != place]
            more, left = try_without(fewer, headings)
            if left < 0:
                break  # nothing stays that matters less
            hidden, shown, room = fewer, more, left
        break
    names = [columns[place] for place in hidden]
    return _Layout(_share(whole, least, shown, room), names, headings)


def _n_different(rows: Sequence[Sequence[str]], n_left: int, hidden: Sequence[int]) -> int:
    """How many rows differ in a word that is shown."""
    words = (enumerate(row[:n_left]) for row in rows)
    return len({tuple(text for p, text in row if p not in hidden) for row in words})


def _column_widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], n_left: int
) -> tuple[list[int], list[int]]:
    """For each column the width that shows it unbroken, and the least that breaks no word.

    Of a column of numbers only the name may be broken, between words.
    """
    from rich.cells import cell_len

    whole, least = [], []
    for place, name in enumerate(columns):
        cells = [row[place] for row in rows]
        whole.append(max(map(cell_len, [name, *cells])))
        rigid = [*name.split(), *(part for text in cells for part in text.split())]
        if place >= n_left:
            rigid = [*name.split(), *cells]
        needed = max(map(cell_len, rigid), default=0)
        if place < n_left:
            needed = max(needed, min(READABLE_WIDTH, whole[place]))
        least.append(needed)
    return whole, least


def _share(
    whole: Sequence[int], least: Sequence[int], shown: Sequence[int], room: int
) -> dict[int, int]:
    """Widths of the columns that are shown, which have `room` more than they need, or less."""
    widths = {}
    for place in shown:
        more = min(max(0, room), whole[place] - least[place])
        widths[place] = least[place] + more
        room -= more
    while room < 0 and max(widths.values()) > 1:  # names longer than the terminal is wide
        widths[max(widths, key=lambda place: widths[place])] -= 1
        room += 1
    return widths


def _print_rows(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    n_left: int,
    layout: _Layout,
    highlight: Sequence[int],
) -> None:
    indent = " " * GAP * layout.headings

    def print_row(cells: Sequence[str], style: str | None) -> None:
        for line in _wrap_row(console, cells, layout.widths, n_left):
            console.print(f"{indent}{line}".rstrip(), style=style, soft_wrap=True)

    if any(columns[place] for place in layout.widths):
        print_row(columns, "bold")
        total = sum(layout.widths.values()) + GAP * (len(layout.widths) - 1)
        rule = "─" if console.encoding.startswith("utf") else "-"
        console.print(indent + rule * total, soft_wrap=True)
    for heading, group in groupby(enumerate(rows), lambda row: row[1][0]):
        if layout.headings:
            console.print(heading)
        for number_of_row, row in group:
            print_row(row, "bold" if number_of_row in highlight else None)


def _wrap_row(
    console: Console, cells: Sequence[str], widths: Mapping[int, int], n_left: int
) -> list[str]:
    """The lines of a row; a text that is wider than its column is broken between words."""
    from rich.cells import cell_len
    from rich.text import Text

    wrapped = [
        [line.plain.rstrip() for line in Text(cells[place]).wrap(console, width)]
        for place, width in widths.items()
    ]
    lines = []
    for parts in zip_longest(*wrapped, fillvalue=""):
        padded = []
        for (place, width), text in zip(widths.items(), parts, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(text + space if place < n_left else space + text)
        lines.append((" " * GAP).join(padded))
    return lines


def _footnotes(
    console: Console,
    hidden: Sequence[str],
    empty: Sequence[str],
    notes: Mapping[str, str],
    more: str,
    explain: bool,
) -> list[str]:
    """Paragraphs: one for each note, or one of what fits in the lines there are."""
    missing = []
    for why, names in (("Too narrow for", hidden), ("Empty:", empty)):
        named = names if explain else names[-NAMED_COLUMNS:]
        n_more = len(names) - len(named)
        rest = f" and {n_more} more" if n_more else ""
        missing += [f"{why} {', '.join(named)}{rest}."] * bool(names)
    if explain:
        return [*missing, *dict.fromkeys(notes.values())]
    shown = {text: None for column, text in notes.items() if column not in {*hidden, *empty}}
    wanted = [*missing, *shown]
    kept: list[str] = []
    for sentence in wanted:
        if _fits(console, [*kept, sentence, more]):
            kept.append(sentence)
    text = " ".join(wanted if _fits(console, wanted) else [*kept, more])
    return [text] if text else []


def _fits(console: Console, sentences: Sequence[str]) -> bool:
    from rich.text import Text

    return len(Text(" ".join(sentences)).wrap(console, console.width)) <= FOOTNOTE_LINES


def number(value: float | None, digits: int = 1) -> str:
    """A number for a table, without a negative zero; an unknown one is a dash."""
    return "–" if value is None else f"{round(value, digits) + 0.0:,.{digits}f}"


def warn(message: str) -> None:
    """Print a warning on stderr, as `print_error` does an error."""
    shown = _one_line(message)
    print(fit_terminal(f"rmdp-bench: warning: {shown}", sys.stderr), file=sys.stderr)


def warn_skipped(name: str, reason: str) -> None:
    """Print a warning about a broken submission."""
    warn(f"the submission {name} is left out, because it is broken: {reason}")


def print_stopped(name: str) -> None:
    """Say on stderr, in one line, that a signal stopped the command."""
    with suppress(OSError):  # the terminal may be what has gone
        text = f"rmdp-bench: stopped by {name}; nothing is half written"
        print(text, file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """Print an error on stderr; nothing in it steers a terminal.

    It is one line whatever it holds, but for a terminal that is too narrow, and cut if it is long.
    """
    shown = _one_line(message)
    print(fit_terminal(f"rmdp-bench: error: {shown}", sys.stderr), file=sys.stderr)


def _one_line(message: str) -> str:
    line = " ".join(message.split())
    shown = line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}..."
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
