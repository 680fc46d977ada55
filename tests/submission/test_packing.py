"""What `submit` says: the folders that the user gave, and what it has compared."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import make_request, run
from tests.helpers.checkout import ROOT
from tests.helpers.submission_toys import ROW, copy_of, unpacked

TOY = str(ROOT / "tests" / "helpers" / "toy_solver.py")
TASK = "ResourceGathering-n25-k1-v0"
ABOUT = ["--author", "Ada", "--method", "toy", "--licence", "MIT", "--online-evaluations", "0"]
OPEN = ["--difference", "trained for a moment"]
Capture = pytest.CaptureFixture[str]


def submit(capsys: Capture, *arguments: str | Path, out: str = "out") -> str:
    """What is said of an attempt, which writes nothing if it fails."""
    capsys.readouterr()
    given = [str(argument) for argument in arguments]
    code = main(["submit", *given, *ABOUT, "--name", "mine", "--out", out])
    printed = capsys.readouterr()
    assert (Path(out) / "mine").exists() == (code == 0)
    assert tempfile.gettempdir() + "/rmdp-bench-" not in printed.err
    assert ".writing-" not in printed.err
    return printed.err if code else printed.out


def test_runs_of_other_budgets_are_named(capsys: Capture) -> None:
    """The submission that was refused is nowhere to be looked at."""
    task_budget, other_budget = Path("usual"), Path("short")
    run(make_request(TOY, TASK, seeds=(0,), out=task_budget))
    run(make_request(TOY, TASK, seeds=(1,), out=other_budget, transitions=1000))
    message = submit(capsys, task_budget, other_budget)
    assert message.startswith(
        f"rmdp-bench: error: short/{TASK}/toy_solver/seed-1: transitions is 1000, but the task has"
    )
    assert "mine" not in message


def test_a_seed_is_not_taken_for_another(capsys: Capture) -> None:
    run(make_request(TOY, TASK, seeds=range(11), transitions=1000))
    run(make_request(TOY, TASK, seeds=(0,), out="others", transitions=2000))
    for seed in range(1, 10):
        shutil.rmtree(f"runs/{TASK}/toy_solver/seed-{seed}")
    message = submit(capsys, "runs", *OPEN)
    assert "toy_solver/seed-1:" not in message
    message = submit(capsys, "runs", "others", *OPEN)
    assert f"others/{TASK}/toy_solver/seed-0: seed 0 of toy_solver" in message


def test_rows_are_named_where_they_are(honest_submission: Path, capsys: Capture) -> None:
    message = submit(capsys, honest_submission)  # without --difference
    assert message.startswith(f"rmdp-bench: error: {honest_submission / ROW}/seed-0: transitions")


def test_a_folder_that_is_given_twice_is_one(honest_submission: Path, capsys: Capture) -> None:
    again = honest_submission.parent / ".." / honest_submission.parent.name
    message = submit(capsys, honest_submission, honest_submission, again, *OPEN)
    assert "is packed" in message
    Path("link").symlink_to(honest_submission)
    shutil.rmtree("out")
    assert "is packed" in submit(capsys, "link", honest_submission / ROW, *OPEN)


def test_a_copy_of_a_row_is_a_second_one(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    copy = copy_of(honest_submission, tmp_path)
    message = submit(capsys, honest_submission, copy, *OPEN)
    assert (
        f"{copy / ROW}/seed-0: seed 0 of " in message or f"{copy / ROW}/seed-1: seed 1" in message
    )


def test_it_is_compared_with_what_is_beside_it(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    """As `verify` does when it lies there."""
    copy_of(honest_submission, tmp_path)
    message = submit(capsys, honest_submission, *OPEN, out="submissions")
    assert f"has the policies of honest/{ROW}/seed-0; they are submitted already" in message
    message = submit(capsys, honest_submission, *OPEN)
    assert "compared with 0 other submissions in out" in message
    run(make_request(TOY, TASK, transitions=1000))
    message = submit(capsys, "runs", *OPEN, out="submissions")
    assert "compared with 1 other submission in submissions" in message
    assert main(["submit", "runs", "--name", "mine", "--out", "submissions", "--replace"]) == 0


def test_a_name_that_looks_like_that_of_another_is_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.move(copy_of(honest_submission, tmp_path), tmp_path / "submissions" / "mlne")
    message = submit(capsys, honest_submission, *OPEN, out="submissions")
    assert "its name looks like that of mlne" in message


def test_what_the_quick_check_refuses_names_the_runs(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    with unpacked(folder) as runs:
        shutil.copytree(runs, "changed")
    path = Path("changed") / ROW / "seed-1" / "welfare.npz"
    with np.load(path) as arrays:
        changed = {name: array + (name == "welfare_matrix") for name, array in arrays.items()}
    np.savez_compressed(path, **changed)
    message = submit(capsys, "changed", *OPEN)
    assert message.startswith(f"rmdp-bench: error: changed/{ROW}/seed-1: agent_returns is ")
