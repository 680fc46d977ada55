"""Notes below tables are about columns that are shown, and what matters more stays longer."""

from __future__ import annotations

import re

import pytest

from rmdp_bench.cli import main
from rmdp_bench.cli.output import print_table
from rmdp_bench.leaderboard.columns import COST_NOTES, NOTES, SCORES

TABLES = {track: {**NOTES[track], **COST_NOTES} for track in NOTES}


@pytest.mark.parametrize("track", list(NOTES))
def test_each_note_is_about_its_own_column(track: str) -> None:
    names = {name: re.escape(name.removesuffix(" [95 %]")) for name in TABLES[track]}
    for column, text in TABLES[track].items():
        about = [name for name, start in names.items() if re.search(rf"(^|[.;,] ){start}:", text)]
        assert about == [column]


def test_all_scores_are_explained() -> None:
    for track, columns in SCORES.items():
        assert set(columns) <= NOTES[track].keys()


@pytest.mark.parametrize("width", range(60, 140, 4))
def test_notes_of_a_board_are_about_shown_columns(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rmdp_bench.cli.output.terminal_width", lambda stream: width)
    task = "ResourceGathering-n25-k3-v0"
    assert main(["leaderboard", "show", "--task", task]) == 0
    quality = capsys.readouterr().out.split("\n\n")[0]
    table, _, notes = quality.partition("Too narrow for")
    shown = " ".join(table.split())
    for name in ("reassigned", "regret", "worst agent", "used", "transitions", "mark", "Gini"):
        if re.search(rf"\b{name}:", " ".join(notes.split())):
            assert all(word in shown for word in name.split()), name


@pytest.mark.parametrize("width", range(20, 60))
def test_a_column_stays_only_if_what_matters_more_stays(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it would be narrow enough for the room that another one leaves."""
    monkeypatch.setattr("rmdp_bench.cli.output.terminal_width", lambda stream: width)
    columns = ["solver", "mark", "IQM", "measured"]
    rows = [["a_solver", "verified", "35.7", "35.66"], ["another", "reported", "3.7", "35.66"]]
    print_table("title", columns, rows, n_left=2, optional=["IQM", "mark"])
    header = capsys.readouterr().out.splitlines()[1]
    assert ("IQM" in header) <= ("mark" in header)
