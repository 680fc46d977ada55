"""The documents, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.typing import Parser

from tests.helpers.checkout import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->\n+$")


def keep(example: Example) -> None:
    """Blocks of commands are run by the tests, not by Sybil."""


def parse(path: Path, *languages: str) -> Document:
    """The blocks of a page; `python` can be evaluated, in one namespace for the page."""
    parsers: list[Parser] = [
        PythonCodeBlockParser() if language == "python" else CodeBlockParser(language, keep)
        for language in languages
    ]
    return Sybil(parsers=parsers).parse(path)


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def source(region: Region) -> str:
    return str(region.parsed)


@dataclass(frozen=True)
class Command:
    """A command line of a `sh` block.

    Attributes:
        page: where it stands.
        words: program and arguments.
        not_run: why the tests do not run it; None: they do.
    """

    page: str
    words: list[str]
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands(path: Path) -> Iterator[Command]:
    """All of a page, in its order; lines that a backslash continues are one."""
    document = parse(path, "sh")
    for example in document.examples():
        before = NOT_RUN.search(document.text[: example.region.start])
        reason = before[1] if before else None
        for line in source(example.region).replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if words := shlex.split(part, comments=True):
                    yield Command(page_name(path), words, reason)


ALL_COMMANDS = [command for path in PAGES for command in commands(path)]
