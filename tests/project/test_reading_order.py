"""The table of `baselines/README.md`: how a solver works is answered by a few files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import baselines
from rmdp_bench.runs.solver_loading import SOLVERS

ROOT = Path(baselines.__path__[0])
ROWS = re.findall(
    r"^\| (`.+?`) \|.*\| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
)


def files_of(cell: str) -> list[Path]:
    """From "`folder`: `a`, `b`; `other/c`" the files folder/a, folder/b and other/c."""
    files = []
    for part in cell.split(";"):
        folder, colon, names = part.rpartition(": ")
        start = folder.strip(" `") + "/" if colon else ""
        files += [ROOT / f"{start}{name}.py" for name in re.findall(r"`(.+?)`", names)]
    return files


def test_every_solver_has_a_row() -> None:
    assert sorted(name for names, _ in ROWS for name in re.findall(r"`(.+?)`", names)) == sorted(
        SOLVERS
    )


@pytest.mark.parametrize(("names", "cell"), ROWS, ids=[names for names, _ in ROWS])
def test_few_files_say_how_a_solver_works(names: str, cell: str) -> None:
    files = files_of(cell)
    assert files and all(file.is_file() for file in files), files
    assert len(files) <= 6
    assert len({file.parent for file in files}) <= 2
