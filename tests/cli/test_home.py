"""Commands leave the user's own folders as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rmdp_bench.runs import make_request, run
from rmdp_bench.submission.sandbox.confinement import variables
from tests.helpers.checkout import ROOT
from tests.helpers.stopping import COMMAND

TASK = "ResourceGathering-n25-k1-v0"


def test_scoring_policies_writes_nothing_to_home(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry keeps a database there, and complains where it cannot."""
    solver = str(ROOT / "tests/helpers/toy_solver.py")
    run(make_request(solver, TASK, n_episodes=1, transitions=1000))
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("XDG_") and name != "ORT_DISABLE_TELEMETRY"
    }
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "evaluate", f"runs/{TASK}/toy_solver/seed-0"],
        env=kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "social welfare" in done.stdout
    assert done.stderr == ""
    assert list(home.rglob("*")) == []


def test_confined_processes_keep_the_telemetry_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    assert variables("/tmp")["ORT_DISABLE_TELEMETRY"] == "1"
