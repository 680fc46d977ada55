"""What tables say about their columns."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench import terminal
from rmdp_bench.cli import main, output, scoring
from rmdp_bench.leaderboard import markdown
from rmdp_bench.leaderboard.columns import COST_NOTES, COSTS, NOTES, SCORES, board_notes
from rmdp_bench.runs import Result, find_results
from rmdp_bench.submission.packing import REQUIRED
from rmdp_bench.tasks import get_task
from tests.helpers.checkout import ROOT

TOY = str(ROOT / "tests/helpers/toy_solver.py")
ONLINE = "ResourceGathering-n25-k3-v0"
GLUCOSE = "Glucose-n100-k3-v0"
OFFLINE = "CartPoleHet-n500-pure-v1"
Seen = list[tuple[Sequence[str], Mapping[str, str]]]


@pytest.fixture(scope="module")
def toy_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("columns") / "runs"
    assert main(["run", TOY, ONLINE, "--transitions", "1k", "--out", str(out)]) == 0
    return out


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Columns and notes of every table that is printed."""
    tables: Seen = []
    print_table = output.print_table

    def record(
        title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], **options: Any
    ) -> None:
        tables.append((columns, options["notes"]))
        print_table(title, columns, rows, **options)

    monkeypatch.setattr(scoring, "print_table", record)
    return tables


def check_explained(seen: Seen, printed: str, n_tables: int) -> None:
    """Every column of every table has a sentence, which is about it and is printed once."""
    text = " ".join(printed.split())
    assert len(seen) == n_tables
    for columns, notes in seen:
        for column in columns:
            assert column in notes, column
            assert text.count(notes[column]) >= 1, column
            words = [word.strip("†[") for word in column.split()]
            assert any(word in notes[column] for word in words), column


@pytest.mark.parametrize("task", [ONLINE, OFFLINE])
def test_every_column_of_the_board_is_explained(
    task: str, seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "show", "--task", task, "--explain"]) == 0
    printed = capsys.readouterr().out
    check_explained(seen, printed, 3)  # quality, cost on CPU, cost on GPU
    assert "95 %: its interval" not in printed  # which only TABLES.md has


def test_every_column_of_scores_is_explained(
    toy_runs: Path, seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of all scales that are there, not only that of the last table."""
    ((path, result),) = find_results([toy_runs]).items()
    results: dict[Path, Result] = {path: result}
    measures = {"time_in_range": 0.5, "time_below_range": 0.1}
    results[Path("g")] = result.model_copy(update={"task": GLUCOSE, "measures": measures})
    capsys.readouterr()
    scoring.print_results(results, explain=True)
    printed = capsys.readouterr().out
    check_explained(seen, printed, 2)
    assert "Percent of a perfect episode" in printed and "one policy for all" in printed
    assert printed.count("IQM: interquartile mean") == 2


def test_every_column_of_the_file_is_explained() -> None:
    for track, scores in SCORES.items():
        columns = markdown._columns(track)
        notes = board_notes(track, columns)
        assert {*columns} <= notes.keys()
        assert {*scores} <= NOTES[track].keys()
    assert {*COSTS} <= COST_NOTES.keys()


@pytest.mark.parametrize("width", [30, 60, 300])
def test_columns_that_are_empty_make_room_and_are_named(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "terminal_width", lambda stream: width)
    columns = ["solver", "mark", "rank", "score", "Nash", "Gini", "regret", "return", "", "seeds"]
    rows = [
        ["a solver", "–", "1", "12.34", *"–––––", "3"],
        ["b", "–", "–", "2.34", *"––––", "", "–"],
    ]
    output.print_table(
        "Board",
        columns,
        rows,
        n_left=2,
        optional=["seeds", "return", "regret", "mark"],
        notes={"mark": "mark: nothing.", "seeds": "seeds: how many."},
    )
    _, head, _, first, second, *below = capsys.readouterr().out.splitlines()
    assert head.split() == ["solver", "rank", "score", "seeds"]
    assert first.split() == ["a", "solver", "1", "12.34", "3"] and first.startswith("a solver ")
    assert second.split() == ["b", "–", "2.34", "–"]
    said = " ".join(" ".join(below).split())
    assert said == "Empty: Gini, regret, return and 2 more. seeds: how many."


def test_rows_of_agents_with_negative_returns_keep_what_they_have(
    toy_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gini and Nash mean nothing there, and the time in range gets their place."""
    ((path, result),) = find_results([toy_runs]).items()
    measures = {"time_in_range": 0.5, "time_below_range": 0.125, "time_above_range": 0.375}
    returns = [-50.0 + agent for agent in range(100)]
    fields: dict[str, Any] = {"task": GLUCOSE, "measures": measures, "agent_returns": returns}
    fields |= {"gini": None, "nash_welfare": None}
    monkeypatch.setattr(output, "terminal_width", lambda stream: 80)
    capsys.readouterr()
    scoring.print_results({path: result.model_copy(update=fields)})
    printed = capsys.readouterr().out
    assert {"0.500", "0.125"} <= {*printed.split()}
    assert "–" not in printed


OFFERED = "rmdp-bench submit RUNS --name NAME --out"


@pytest.mark.parametrize(
    ("task", "has_table"), [(GLUCOSE, False), ("AntVel-n100-k10-v0", True), (ONLINE, None)]
)
def test_a_board_without_rows_says_which_command_makes_one(
    task: str,
    has_table: bool | None,
    toy_runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside the ceiling, where one is known, and beside one's own runs."""
    board = Path("my board")
    (board / "submissions").mkdir(parents=True)
    show = ["leaderboard", "show", "--task", task, "--root", str(board)]
    show += ["--runs", str(toy_runs)] * (has_table is None)
    capsys.readouterr()
    assert main(show) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0] == f"{task}: quality") == (has_table is not False)
    place = lines.index(f"Nobody has submitted runs of {task} yet; this command would:")
    command = lines[place + 1]
    assert command.startswith(f"{OFFERED} 'my board/submissions' --author ...")
    assert main([*show, "--json"]) == 0


def test_a_board_without_any_row_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("board/submissions").mkdir(parents=True)
    assert main(["leaderboard", "show", "--root", "board"]) == 0
    said, command = capsys.readouterr().out.strip().splitlines()
    assert said == "Nobody has submitted runs yet; this command would:"
    assert all(option in command for option in (f"{OFFERED} board/submissions", *REQUIRED.values()))


def test_the_command_fits_and_is_one_for_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "terminal_width", lambda stream: 40)
    scoring._print_nobody(get_task(GLUCOSE), Path("my board/submissions"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    said = "\n".join(lines)
    words = shlex.split(said[said.index("rmdp-bench") :].replace("\\\n", ""))  # as a shell does
    expected = ["rmdp-bench", "submit", "RUNS", "--name", "NAME", "--out", "my board/submissions"]
    assert words == [*expected, *(word for name in REQUIRED.values() for word in (name, "..."))]


def test_no_command_is_offered_for_what_cannot_be_submitted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = replace(get_task(GLUCOSE), unranked="100 is not known")
    scoring._print_nobody(task, Path("board/submissions"))
    said = capsys.readouterr().out.strip()
    assert said == f"Nobody can submit runs of {GLUCOSE} yet: 100 is not known."


def test_a_board_with_rows_offers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "show", "--task", ONLINE]) == 0
    assert "Nobody" not in capsys.readouterr().out
