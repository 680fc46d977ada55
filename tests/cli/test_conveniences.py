"""Conveniences of the command line: versions, help, completion, counts, names with spaces."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from rmdp_bench.cli import app, main
from rmdp_bench.cli.counts import parse_count
from rmdp_bench.files import read_json
from tests.helpers.checkout import ROOT
from tests.helpers.submission_toys import refused

TASK = "ResourceGathering-n25-k3-v0"
PROGRAM = "import sys; from rmdp_bench.cli import main; sys.exit(main())"


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"rmdp-bench {importlib.metadata.version('rmdp_bench')}\n"


def command_names(command: Any, *names: str) -> list[list[str]]:
    children = getattr(command, "commands", {})
    below = [found for name in children for found in command_names(children[name], *names, name)]
    return [list(names), *below]


@pytest.mark.parametrize("names", command_names(typer.main.get_command(app)), ids=" ".join)
def test_h_is_help(names: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*names, "--help"]) == 0
    long = capfd.readouterr().out
    assert main([*names, "-h"]) == 0
    assert capfd.readouterr().out == long
    assert "-h, --help" in long


def test_all_commands_are_tested() -> None:
    names = command_names(typer.main.get_command(app))
    assert {"run", "leaderboard show", "datasets info"} <= {" ".join(words) for words in names}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rmdp-bench le", ["leaderboard"]),
        ("rmdp-bench list da", ["datasets"]),
        ("rmdp-bench run --trans", ["--transitions"]),
        ("rmdp-bench plot --format s", ["svg"]),
    ],
)
def test_shell_completion(words: str, expected: list[str]) -> None:
    """What the shell asks, as the script of --show-completion does."""
    variables = {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)]),
        "_RMDP_BENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    asked = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | variables, capture_output=True, text=True
    )
    assert asked.stdout.split() == expected, asked.stderr


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("7", 7), ("1_000", 1000), ("-5", -5), ("1e6", 10**6), ("1E+6", 10**6)),
        *(("2M", 2 * 10**6), ("300k", 300_000), ("1.5M", 1_500_000), ("2.5e3", 2500)),
        *(("0.0015M", 1500), ("1e3k", 10**6), ("3.0", 3), ("123456789012345678901", None)),
    ],
)
def test_counts(text: str, count: int | None) -> None:
    assert parse_count(text) == (int(text) if count is None else count)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1.5", "1e-3", "1.2345k", "many", "nan", "inf", "1e999", "1e6.5", "M", "k3"),
        *("2m", "2G", "0x10", "1,000", "1 000", "\u0663", "1__.5", "--3", "1e", "2kM"),
    ],
)
def test_what_is_no_count(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.BadParameter, match="not a valid integer"):
        parse_count(text)
    message = refused(capsys, "run", "em", TASK, "--transitions", text)
    assert "'--transitions'" in message and repr(text) in message and "1e6" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "em", "NoTask", "--episodes"],
        ["evaluate", "nowhere", "--episodes"],
        ["datasets", "build", "zzz", "--workers"],
        ["verify", "nowhere", "--memory"],
        ["submit", "nowhere", "--name", "a", "--out", "b", "--online-evaluations"],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_other_counts_are_read_in_the_same_way(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "1.5k5" in refused(capsys, *arguments, "1.5k5")
    assert "valid integer" not in refused(capsys, *arguments, "1k")


def test_names_with_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A solver's file, its folder, the runs, the figures and the submission."""
    folder = tmp_path / "my solvers"
    folder.mkdir()
    solver = folder / "my solver.py"
    shutil.copy(ROOT / "examples" / "my_solver.py", solver)
    arguments = ["run", str(solver), TASK, "--transitions", "2k"]
    assert main([*arguments, "--out", "my runs"]) == 0
    run = Path("my runs") / TASK / "my_solver" / "seed-0"
    record = read_json(run / "result.json")
    assert record["solver"] == "my_solver"
    assert record["transitions"] == 2000
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert main(["score", "my runs"]) == 0
    assert main(["plot", "my runs", "--out", "my figures"]) == 0
    assert list(Path("my figures").glob("*.png"))
    about = ["--author", "A", "--method", "m", "--licence", "MIT", "--online-evaluations", "0"]
    packed = ["submit", "my runs", "--name", "mine", "--out", "the board/submissions"]
    assert main([*packed, *about, "--difference", "little data"]) == 0
    assert "rmdp-bench verify 'the board/submissions/mine' --full" in capsys.readouterr().out
    assert main(["verify", "the board/submissions/mine"]) == 0
    assert main(["leaderboard", "build", "--root", "the board"]) == 0
    assert main(["leaderboard", "show", "--root", "the board", "--runs", "my runs"]) == 0
    message = refused(capsys, "run", str(solver), TASK, "--set", "zzz=1")
    assert f"`rmdp-bench list solvers --settings '{solver}'` lists them" in message
    assert main(["list", "solvers", "--settings", str(solver)]) == 0
    assert "step_size" in capsys.readouterr().out


def test_a_solver_of_the_suite_is_not_shadowed_by_a_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "examples" / "my_solver.py", tmp_path / "em plus.py")
    assert "needs another name" in refused(capsys, "run", "em plus.py", TASK)
