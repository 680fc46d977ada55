"""What every module that generates parts of documents uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
GLUCOSE_FILE = ROOT / "benchmarks" / "results" / "glucose.json"
GENERATORS: dict[str, Callable[[], str]] = {}
"""Name of a block -> what writes it."""


def generated(function: Callable[[], str]) -> Callable[[], str]:
    """Make a function the source of the block with its name (`-` for `_`)."""
    GENERATORS[function.__name__.replace("_", "-")] = function
    return function


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
