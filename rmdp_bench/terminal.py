"""Text for terminals: how wide one is, whether it can redraw, and lines that fit it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TextIO

USUAL_WIDTH = 80
"""Columns of a terminal that does not say how many it has."""


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that `stream` writes to, $COLUMNS if set; None: it is no terminal."""
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except OSError:
        return USUAL_WIDTH


def can_redraw(stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which a progress bar can move."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def fit_terminal(text: str, stream: TextIO) -> str:
    """Break one line between words where a terminal is too narrow for it; elsewhere keep it."""
    width = terminal_width(stream)
    if width is None:
        return text
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def fit_command(parts: Sequence[str], stream: TextIO) -> str:
    """Join parts of a command line; where a terminal is too narrow a shell reads several as one."""
    width = terminal_width(stream)
    lines = [parts[0]]
    for part in parts[1:]:
        if width is None or len(f"{lines[-1]} {part} \\") <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)
