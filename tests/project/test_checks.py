"""How the checks run: `-m arithmetic` reads only the files that say that they have such tests,
and processes share their bytecode.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ARITHMETIC, pytest_ignore_collect
from tests.helpers.checkout import ROOT


def test_every_marked_test_is_in_a_file_that_says_so(request: pytest.FixtureRequest) -> None:
    """Of all that were collected with this one, all tests when all are run."""
    marked = {item.path for item in request.session.items if item.get_closest_marker("arithmetic")}
    hidden = [path for path in marked if ARITHMETIC not in path.read_text(encoding="utf-8")]
    assert hidden == []


@pytest.mark.parametrize(
    ("expression", "text", "ignored"),
    [
        ("arithmetic", f"pytestmark = {ARITHMETIC}\n", None),
        ("arithmetic", f"@{ARITHMETIC}\ndef test_sum(): pass\n", None),
        ("arithmetic", "def test_word(): pass\n", True),
        ("", "def test_word(): pass\n", None),
        ("not arithmetic", "def test_word(): pass\n", None),
    ],
)
def test_only_unmarked_files_are_passed_over(
    expression: str, text: str, ignored: bool | None, tmp_path: Path
) -> None:
    path = tmp_path / "test_toy.py"
    path.write_text(text)
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
    assert pytest_ignore_collect(path, config) is ignored
    assert pytest_ignore_collect(tmp_path, config) is None


def test_some_files_are_marked() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    marked = [path for path in files if ARITHMETIC in path.read_text(encoding="utf-8")]
    assert 10 <= len(marked) <= len(files) / 4


@pytest.mark.skipif(shutil.which("make") is None, reason="the checks are started by make")
def test_bytecode_is_written_whatever_the_environment_says() -> None:
    """Else every process that a test starts compiles torch anew."""
    rule = "include Makefile\nshow:\n\t@env\n"
    shown = subprocess.run(
        ["make", "-f", "-", "show"],
        input=rule,
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OTHER": "there"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "OTHER=there" in shown
    assert not [line for line in shown if line.startswith("PYTHONDONTWRITEBYTECODE")]
