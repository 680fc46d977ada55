"""What a user meets who tries a solver of their own for the first time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import get_task
from tests.helpers.checkout import ROOT

TASK = "ResourceGathering-n25-k3-v0"
TOY = ROOT / "tests/helpers/toy_solver.py"
BROKEN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    pass

def solve(task, config, seeds, device, log):
    raise RuntimeError("not yet")
"""
RUN = ["run", "mine.py", TASK, "--seeds", "0:2", "--transitions", "1000"]
FOLDER = Path("runs") / TASK / "mine"


@pytest.fixture
def failed() -> Path:
    """A file whose first version has failed, and whose second works."""
    own = Path("mine.py")
    own.write_text(BROKEN)
    assert main(RUN) != 0
    assert (FOLDER / "seed-0" / "error.txt").exists()
    own.write_text(TOY.read_text())
    return own


def test_a_failed_try_is_in_nobody_s_way(failed: Path) -> None:
    assert main(RUN) == 0
    for seed in range(2):
        assert (FOLDER / f"seed-{seed}" / "result.json").exists()
        assert not (FOLDER / f"seed-{seed}" / "error.txt").exists()
    # What is finished is kept for whoever made it.
    failed.write_text(TOY.read_text() + "\n# changed\n")
    assert main(RUN) == 2


@pytest.mark.parametrize("kept", ["result.json", "trained.json", "checkpoint/1.npz"])
def test_what_training_left_is_not_replaced(
    failed: Path, kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FOLDER / "seed-1" / kept
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"kept")
    capsys.readouterr()
    assert main(RUN) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was made with" in line and "--overwrite" in line
    assert path.read_bytes() == b"kept"
    assert (FOLDER / "seed-0" / "error.txt").exists()


def test_progress_needs_no_scalars() -> None:
    log = RunLog(get_task(TASK), [0, 1])
    log.progress(128)
    assert log.transitions == 128


@pytest.mark.parametrize("option", [["--representatives", "5"], ["--agents", "5"]])
def test_offline_tasks_are_as_they_are(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "persim_em", "Glucose-n100-k3-clinic-v0", *option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Glucose-n100-k3-clinic-v0 is an offline task" in line and "list tasks" in line
