"""What tables say about their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main, scoring
from rmdp_bench.leaderboard import markdown
from rmdp_bench.leaderboard.columns import COST_NOTES, COSTS, NOTES, SCORES, board_notes
from rmdp_bench.runs import Result, find_results
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
    print_table = scoring.print_table

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
