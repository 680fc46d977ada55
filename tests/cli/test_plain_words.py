"""Messages say what a user can do, in words that are on the site."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main

FRUITS = "FruitTree-n100-k2-v0"


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_no_solver_says_what_one_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def train(): ...\n")
    error = error_of(["run", str(tmp_path / "mine.py"), FRUITS], capsys)
    assert "a function solve(task, config, seeds, device, log)" in error
    assert "examples/my_solver.py in the repository has both" in error


@pytest.fixture
def without_mo(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "mo_gymnasium", None)
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "mo_gymnasium" else find(name)
    )


def test_a_missing_extra_is_not_the_solvers_fault(
    without_mo: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(["run", "em", FRUITS, "--out", str(tmp_path / "runs")], capsys)
    assert "refuses" not in error and "ImportError" not in error
    assert error.endswith('is a world of MO-Gymnasium: pip install "rmdp_bench[mo]"')
    assert not (tmp_path / "runs").exists()


def test_doctor_lists_the_extra(without_mo: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert not checks["mo_gymnasium"]["found"]
    assert checks["mo_gymnasium"]["hint"] == "pip install 'rmdp_bench[mo]'"
