"""What is said where something is missing or not allowed: one line, with what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from rmdp_bench.files import FULL_DISK_CODE, describe_refusal
from rmdp_bench.runs import make_request, run
from tests.helpers.checkout import ROOT
from tests.helpers.commands import contents

TOY = str(ROOT / "tests" / "helpers" / "toy_solver.py")
TASK = "ResourceGathering-n25-k1-v0"
ABOUT = ["--author", "Ada", "--method", "toy", "--licence", "MIT", "--online-evaluations", "0"]
Capture = pytest.CaptureFixture[str]


def refused(arguments: list[str], capsys: Capture, exit_code: int = 2) -> str:
    """The one line that is printed."""
    capsys.readouterr()
    assert main(arguments) == exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert "Errno" not in line
    return line.removeprefix("rmdp-bench: error: ")


@pytest.mark.parametrize("arguments", [[], ["leaderboard"], ["datasets"]])
def test_no_command_is_answered_with_the_help(arguments: list[str], capsys: Capture) -> None:
    assert main([*arguments, "--help"]) == 0
    wanted = capsys.readouterr().out
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", wanted)


def test_evaluate_wants_one_run(tmp_path: Path, capsys: Capture) -> None:
    run(make_request(TOY, TASK, seeds=(0, 1), transitions=1000, n_episodes=1))
    first = Path("runs") / TASK / "toy_solver" / "seed-0"
    wanted = "expected one run directory, OUT/TASK/SOLVER/seed-S, but "
    for folder in ("runs", str(first.parent)):
        assert refused(["evaluate", folder], capsys) == (
            f"{wanted}{folder} is a folder of 2; give one, such as {first}"
        )
    (first / "result.json").unlink()
    message = refused(["evaluate", str(first)], capsys)
    assert message == f"the run in {first} is not finished; `rmdp-bench run` goes on with it"
    Path("empty").mkdir()
    assert refused(["evaluate", "empty"], capsys) == f"{wanted}empty has no result.json"


def test_verify_wants_one_submission(honest_submission: Path, capsys: Capture) -> None:
    message = refused(["verify", str(honest_submission.parent)], capsys)
    assert f"give one that has it, such as {honest_submission}" in message


def test_marks_that_are_named_are_there(honest_submission: Path, capsys: Capture) -> None:
    arguments = ["verify", str(honest_submission), "--marks", "marks.json"]
    message = refused(arguments, capsys)
    assert message == "--marks marks.json: there is no such file; only --record makes a new one"


@pytest.mark.parametrize("command", ["run", "plot", "submit", "verify", "leaderboard"])
def test_options_that_write_say_where_they_may_not(
    command: str,
    honest_submission: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """Whoever runs this may be allowed everything: the system is made to say no."""
    board = tmp_path / "board"
    own = board / "submissions" / "honest"
    shutil.copytree(honest_submission, own)
    arguments = {
        "run": ["run", TOY, TASK, "--out", "out/new"],
        "plot": ["plot", str(own), "--out", "out/new"],
        "submit": ["submit", str(own), *ABOUT, "--name", "mine", "--out", "out/new"],
        "verify": ["verify", str(own), "--full", "--record", "--marks", "out/new/marks.json"],
        "leaderboard": ["leaderboard", "build", "--root", str(board)],
    }[command]
    (tmp_path / "out").mkdir()
    before = contents(tmp_path)
    place, there = ("out/new", tmp_path / "out") if command != "leaderboard" else (board, board)
    monkeypatch.setattr(
        os, "access", lambda path, mode, **_: (Path(path), mode & os.W_OK) != (there, os.W_OK)
    )
    assert refused(arguments, capsys) == (
        f"cannot write to {place}: no permission in {there}; choose a place where you may read and "
        f"write, or have its permissions changed"
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "; choose a place where"),
        (errno.EROFS, "; choose a place where"),
        (errno.ENOSPC, "; make room there"),
        (errno.EIO, ""),
    ],
)
def test_what_the_system_refuses_later_is_one_line(
    code: int, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A folder may be taken away, or be full, after it was looked at."""

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise OSError(code, os.strerror(code), "some/file")

    monkeypatch.setattr("rmdp_bench.runs.running.write_json", refuse)
    exit_code = FULL_DISK_CODE if code == errno.ENOSPC else 2
    message = refused(["run", TOY, TASK], capsys, exit_code)
    assert message.startswith(f"some/file: {os.strerror(code)}{remedy}")
    assert bool(remedy) == (";" in message)


def test_an_error_with_words_of_its_own_keeps_them() -> None:
    assert describe_refusal(OSError("as it was")) == "as it was"
    assert describe_refusal(OSError(errno.EIO, "broken")) == "broken"
    assert describe_refusal(OSError(errno.EIO, "broken", b"a")) == "a: broken"
