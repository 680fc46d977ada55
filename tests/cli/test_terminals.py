"""Tables, messages and commands of the documents in terminals of many widths, in colour or not.

Each command is run in a pseudo-terminal by `terminal_child`, one process for many widths.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from rmdp_bench import ENVIRONMENTS
from rmdp_bench.cli import main, output
from rmdp_bench.cli.output import print_table
from rmdp_bench.datasets import DATASETS
from rmdp_bench.leaderboard.columns import NOTES, SCORES
from rmdp_bench.runs import SOLVERS
from rmdp_bench.tasks import list_tasks
from scripts.in_terminal import run_in_terminal
from tests.helpers.checkout import ROOT, needs_submissions
from tests.helpers.documents import ALL_COMMANDS
from tests.helpers.terminal_child import RECORD

SUBMISSIONS = ROOT / "leaderboards" / "submissions"
TOY = str(ROOT / "tests/helpers/toy_solver.py")
TASK = "ResourceGathering-n25-k3-v0"
OFFLINE_TASK = "CartPoleHet-n500-pure-eps20-v1"
WIDTHS = (40, 60, 80, 100, 120, 160, 200)
COLOURS = {"TERM": "xterm-256color"}
MODES = (COLOURS, COLOURS | {"NO_COLOR": "1"}, {"TERM": "dumb"})
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DIM = "\x1b[2m"


@dataclass(frozen=True)
class Printed:
    """What one command line printed in one terminal."""

    width: int
    variables: dict[str, str]
    arguments: list[str]
    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """As they were drawn, without colours; a progress bar that moves is many."""
        return re.split(r"[\r\n]+", ESCAPE.sub("", self.text))

    @property
    def words(self) -> set[str]:
        return {word.strip(",.") for line in self.lines for word in line.split()}


def environment() -> dict[str, str]:
    """For a child that finds this checkout, and learns from the terminal how wide it is."""
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return own | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)]),
        "PYTHONIOENCODING": "utf-8",
        "MINARI_DATASETS_PATH": str(Path("data sets").absolute()),
    }


def in_terminals(jobs: Iterable[Mapping[str, Any]]) -> list[Printed]:
    parts: list[bytes] = []
    command = [sys.executable, "-m", "tests.helpers.terminal_child", json.dumps(list(jobs))]
    code = run_in_terminal(command, 80, parts.append, variables=environment())
    text = b"".join(parts).decode().replace("\r\n", "\n")
    assert code == 0, text
    _, *records = text.split(RECORD)
    printed = []
    for job, body, end in zip(records[::4], records[1::4], records[2::4], strict=True):
        printed.append(Printed(**json.loads(job), **json.loads(end), text=body))
    return printed


def jobs_of(arguments: Sequence[str], widths: Sequence[int] = WIDTHS) -> list[dict[str, Any]]:
    return [
        {"width": width, "variables": mode, "arguments": list(arguments)}
        for width in widths
        for mode in MODES
    ]


def longest_footnote(printed: Printed) -> int:
    """Of the paragraphs below tables, which are dim where there are colours."""
    longest = current = 0
    for line in printed.text.split("\n"):
        current = current + 1 if line.startswith(DIM) else 0
        longest = max(longest, current)
    return longest


def check_printed(printed: Printed, known: set[str]) -> None:
    """Nothing failed, is too wide, or is broken within a word."""
    where = f"{' '.join(printed.arguments)} at {printed.width}, {printed.variables}"
    assert printed.code == 0, f"{where}: {printed.text}"
    wide = [line for line in printed.lines if cell_len(line) > printed.width]
    assert wide == [], where
    words = {word for word in printed.words if not re.fullmatch(r"[─-]+|\d+", word)}
    broken = words - known - set("Too narrow for and more --explain says \\".split())
    assert not broken, f"{where}: broken are {sorted(broken)}"
    assert longest_footnote(printed) <= 3, f"{where}: {printed.text}"
    if "NO_COLOR" in printed.variables:
        assert not re.search(r"\x1b\[[0-9;]*[34][0-9]", printed.text), where
    if printed.variables["TERM"] == "dumb":
        assert "\x1b" not in printed.text, where


def check_all(*commands: Sequence[str], explain: bool = False) -> list[list[Printed]]:
    """Every width and mode of each command; one child runs them all."""
    jobs = []
    for arguments in commands:
        wide = [{"width": 1000, "variables": COLOURS, "arguments": list(arguments)}]
        if explain:
            wide.append(wide[0] | {"arguments": [*arguments, "--explain"]})
        jobs += [*wide, *jobs_of(arguments)]
    printed = in_terminals(jobs)
    n_jobs, n_wide = len(jobs) // len(commands), 1 + explain
    every = [printed[i : i + n_jobs] for i in range(0, len(jobs), n_jobs)]
    for of_command in every:
        known = {word for one in of_command[:n_wide] for word in one.words}
        assert len(known) > 10
        del of_command[:n_wide]
        for one in of_command:
            check_printed(one, known)
        for coloured, colourless, dumb in zip(*(of_command[i::3] for i in range(3)), strict=True):
            assert coloured.lines == colourless.lines == dumb.lines
    return every


def test_lists(tmp_path: Path) -> None:
    names = {
        "envs": {entry.id for entry in ENVIRONMENTS},
        "datasets": {entry.id for entry in DATASETS},
        "tasks": {task.id for task in list_tasks()},
        "solvers": set(SOLVERS),
    }
    for expected, printed in zip(
        names.values(), check_all(*(["list", kind] for kind in names)), strict=True
    ):
        assert all(expected <= one.words for one in printed)


def test_settings_datasets_and_doctor(tmp_path: Path) -> None:
    settings, datasets, doctor = check_all(
        ["list", "solvers", "--settings", "em"], ["datasets", "info"], ["doctor"]
    )
    assert all({"n_envs", "learning_rate", "0.0003"} <= one.words for one in settings)
    assert all({entry.id for entry in DATASETS} <= one.words for one in datasets)
    assert all({"torch", "gl"} <= one.words for one in doctor)


@needs_submissions
def test_scores(tmp_path: Path) -> None:
    """Solver and score stay, whatever else a terminal has no room for."""
    arguments = ["run", TOY, TASK, "--seeds", "0:2", "--transitions", "1k", "--out", "my runs"]
    assert main(arguments) == 0
    offline = str(SUBMISSIONS / "reference-offline" / OFFLINE_TASK)
    own, stored = check_all(["score", "my runs"], ["score", offline], explain=True)
    assert all("toy_solver" in one.words and "3.96 ± 0.00" in one.text for one in own)
    assert all({"behaviour", "cql"} <= one.words and " ± " in one.text for one in stored)
    (again,) = check_all(["evaluate", f"my runs/{TASK}/toy_solver/seed-0", "--episodes", "2"])
    assert all("3.960" in one.words for one in again)


@needs_submissions
def test_leaderboard(tmp_path: Path) -> None:
    for name in ("reference-gpu", "example-evolution-strategies"):
        shutil.copytree(SUBMISSIONS / name, tmp_path / "leaderboards" / "submissions" / name)
    runs = ["--runs", str(SUBMISSIONS / "reference-offline" / OFFLINE_TASK)]
    online, offline = check_all(
        ["leaderboard", "show", "--task", TASK],
        ["leaderboard", "show", "--task", OFFLINE_TASK, *runs],
        explain=True,
    )
    for printed, task, solvers in (
        (online, TASK, {"em", "evolution_strategies"}),
        (offline, OFFLINE_TASK, {"behaviour", "cql", "morel"}),
    ):
        for one in printed:
            assert solvers | {f"{task}:"} <= one.words
            assert re.search(r"\d\.\d", one.text)


@needs_submissions
def test_rows_of_one_solver_look_different_on_the_board(tmp_path: Path) -> None:
    """Two submissions have rows of `em` on this task, and the costs name the task once."""
    task, names = "HalfCheetahVel-n100-k5-v0", {"reference", "reference-outcome"}
    board = tmp_path / "leaderboards"
    for name in names:
        shutil.copytree(SUBMISSIONS / name, board / "submissions" / name)
    shutil.copy(SUBMISSIONS.parent / "suite.json", board)
    for printed in in_terminals(jobs_of(["leaderboard", "show", "--task", task], (40, 80, 100))):
        quality, cost = ESCAPE.sub("", printed.text).split("Cost on CPU")
        assert names <= {*quality.split()}
        assert re.findall(rf".*{task}.*", cost) == [task]
        assert printed.width == 40 or names <= {*cost.split()}


def test_verify(honest_submission: Path, tmp_path: Path) -> None:
    (printed,) = check_all(["verify", str(honest_submission)], explain=True)
    assert all({TASK, "evolution_strategies", "reported"} <= one.words for one in printed)


def test_run(tmp_path: Path) -> None:
    """A bar and a table; times differ from run to run."""
    jobs = [
        {
            "width": width,
            "variables": mode,
            "arguments": ["run", TOY, TASK, "--transitions", "1k", "--out", f"runs {width}-{i}"],
        }
        for width in WIDTHS
        for i, mode in enumerate(MODES)
    ]
    first, *_ = all_printed = in_terminals(jobs)
    for printed in all_printed:
        assert printed.code == 0, printed.text
        assert [line for line in printed.lines if cell_len(line) > printed.width] == []
        assert {TASK, "toy_solver", "3.96"} <= printed.words
        assert longest_footnote(printed) <= 3
        assert ("\x1b" in printed.text) == (printed.variables["TERM"] != "dumb")
    assert "100%" in first.words


def test_datasets(tmp_path: Path) -> None:
    dataset = "rmdp/cartpole-het/random-v0"
    build = ["datasets", "build", dataset, "--workers", "1"]
    jobs = [
        {"width": width, "variables": COLOURS, "arguments": arguments}
        for arguments in (build, ["datasets", "verify", dataset])
        for width in (40, 120)
    ]
    jobs[1]["arguments"] = [*build, "--force"]
    for printed in in_terminals(jobs):
        assert [line for line in printed.lines if cell_len(line) > printed.width] == []
        assert dataset in printed.words


def test_errors_and_warnings_are_broken_between_words(tmp_path: Path) -> None:
    dataset = "rmdp/halfcheetah-het/pure-eps40-v0"
    arguments = ["datasets", "verify", dataset]
    for printed in in_terminals(jobs_of(arguments, (40, 200))):
        assert printed.code == 2
        wide = [line for line in printed.lines if cell_len(line) > printed.width]
        assert [line for line in wide if " " in line] == []  # a path can be wider
        assert f"`rmdp-bench datasets build {dataset}`" in " ".join(printed.lines)


@needs_submissions
def test_all_notes_are_printed_on_request(tmp_path: Path) -> None:
    path = str(SUBMISSIONS / "reference-offline" / OFFLINE_TASK)
    job = {"width": 40, "variables": COLOURS, "arguments": ["score", path, "--explain"]}
    (printed,) = in_terminals([job])
    text = " ".join(" ".join(printed.lines).split())
    columns = ["solver", "seeds", *SCORES["offline"]]
    assert all(NOTES["offline"][column] in text for column in columns)


LONG = "HalfCheetahHet-n500-pure-eps40-v1"
COLUMNS = ["task", "solver", "from here", "numbers", "score"]
ROWS = [[LONG, "em_plus (clip=0.2, n_envs=16)", "a b c", "1,234", "12.34 ± 0.56"], [LONG, *"abcd"]]


def printed_table(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **options: Any
) -> list[str]:
    monkeypatch.setattr(output, "terminal_width", lambda stream: width)
    print_table("Title", COLUMNS, options.pop("rows", ROWS), n_left=3, **options)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("rows", [ROWS, ROWS[1:], []])
def test_no_width_makes_a_table_fail(
    rows: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in [*range(1, 140), 10_000]:
        optional = ["no such column", "numbers", "from here"]
        notes = {"score": "What a score is. " * 9, "else": "Always."}
        lines = printed_table(
            *(width, monkeypatch, capsys), rows=rows, optional=optional, notes=notes, more="More."
        )
        assert width < 8 or max(map(cell_len, lines)) <= width
        if width >= len(LONG):
            assert not rows or LONG in "\n".join(lines)


def test_columns_go_in_the_declared_order_and_the_others_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, ...]] = []
    for width in range(120, 39, -1):
        lines = printed_table(width, monkeypatch, capsys, optional=["numbers", "from here"])
        text = "\n".join(lines)
        assert "12.34 ± 0.56" in text and "em_plus" in text
        head = " ".join(lines[1:3]).split()
        shown = tuple(name for name in ("numbers", "here") if name in head)
        seen += [shown] if shown not in seen[-1:] else []
    # Where "from here" has gone "numbers", which is narrower, does not come back in its place.
    assert seen[:3] == [("numbers", "here"), ("here",), ()]


def test_rows_that_only_one_column_tells_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays as long as it has room anywhere: before it goes, the first column makes room."""
    rows = [[LONG, "em", "the-first-one", "1,234", "12.34 ± 0.56"]]
    rows += [["X", *rows[0][1:]], [LONG, "em", "the-second-one", *rows[0][3:]]]
    for width in range(120, 25, -1):
        options: dict[str, Any] = {"rows": rows, "optional": ["numbers", "solver", "from here"]}
        text = "\n".join(printed_table(width, monkeypatch, capsys, **options))
        assert ("the-first-one" in text) == ("the-second-one" in text) == (width >= 30)


def test_a_grouped_table_says_the_first_column_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in (60, 200):
        lines = printed_table(width, monkeypatch, capsys, grouped=True)
        assert [line for line in lines if LONG in line] == [LONG]
        assert "task" not in " ".join(lines[:3]).split()


def test_notes_about_columns_that_are_left_out_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = {"numbers": "NUMBERS", "score": "SCORE"}
    options = {"optional": ["numbers"], "notes": notes}
    assert printed_table(200, monkeypatch, capsys, **options)[-2:] == ["NUMBERS SCORE", ""]
    lines = printed_table(40, monkeypatch, capsys, **options)
    assert lines[-2:] == ["Too narrow for numbers. SCORE", ""]


QUICKER = {
    "run em": ["--transitions", "8192", "--seeds", "0"],
    "run ../my_solver.py": ["--transitions", "2k"],
    "submit runs": ["--difference", "trained for a moment"],
}
"""What is added to commands of the documents, so that they take seconds."""
READING = ("README", "running", "your_own_solver", "datasets", "leaderboard")
"""The pages with commands that are run, in an order in which each finds what it needs."""


def test_every_page_with_commands_is_read() -> None:
    pages = {Path(command.page).stem for command in ALL_COMMANDS if command.not_run is None}
    assert pages == {*READING}


@needs_submissions
def test_commands_of_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a space in its name, in their order, on 80 columns."""
    folder = tmp_path / "a clone"
    name = "reference-gpu"
    shutil.copytree(SUBMISSIONS / name, folder / "leaderboards" / "submissions" / name)
    shutil.copy(ROOT / "examples" / "my_solver.py", tmp_path)
    monkeypatch.chdir(folder)
    jobs = []
    own = [command for command in ALL_COMMANDS if command.not_run is None]
    for command in sorted(own, key=lambda command: READING.index(Path(command.page).stem)):
        program, *arguments = command.words
        if program == "cp":  # done above
            continue
        assert program == "rmdp-bench"
        more = QUICKER.get(" ".join(arguments[:2]), [])
        jobs.append({"width": 80, "variables": COLOURS, "arguments": [*arguments, *more]})
    all_printed = in_terminals(jobs)
    assert len(all_printed) == len(jobs) >= 12
    for printed in all_printed:
        assert printed.code == 0, f"{printed.arguments}: {printed.text}"
    assert list(Path("figures").glob("paths-*.png"))
    assert Path("leaderboards/site/index.html").is_file()


def test_commands_of_the_demo(tmp_path: Path) -> None:
    """`make demo` in a folder with a space in its name, with an environment that is there."""
    folder = tmp_path / "a clone"
    program = folder / ".venv" / "bin" / "rmdp-bench"
    program.parent.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / ".installed").touch()
    code = "import sys; from rmdp_bench.cli import main; sys.exit(main())"
    command = shlex.join([sys.executable, "-c", code])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    parts: list[bytes] = []
    # `make test VENV=...` hands what it was given to every make that it starts.
    own = {name: text for name, text in environment().items() if "MAKE" not in name}
    variables = own | COLOURS
    demo = ["make", "demo", "VENV=.venv", "DEMO_TRANSITIONS=8k", "DEMO_OUT=my runs/demo"]
    code_of_make = run_in_terminal(demo, 80, parts.append, folder=folder, variables=variables)
    text = b"".join(parts).decode()
    assert code_of_make == 0, text
    figure = f"my runs/demo/figures/paths-{TASK}-em.png"
    assert f"The learned paths are in {figure}" in text
    assert (folder / figure).is_file()
    assert "exact ceiling" in text
