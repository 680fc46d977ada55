"""Counts as options of the command line."""

from __future__ import annotations

import typer

from rmdp_bench import counts


def parse_count(text: str | int) -> int:
    """Read a count, with the error that typer shows as it is.

    Raises:
        typer.BadParameter: as `counts.parse_count` says.
    """
    try:
        return counts.parse_count(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
