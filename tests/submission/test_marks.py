"""Marks: who writes them, what they hold for, and what they do on the board."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic_submissions import make_mark, write_submission
from rmdp_bench.cli import main
from rmdp_bench.files import write_json
from rmdp_bench.leaderboard import build_tables
from rmdp_bench.leaderboard.page import build_site
from rmdp_bench.leaderboard.reading import ranks, read_rows
from rmdp_bench.submission import read_marks, read_suite
from rmdp_bench.submission.full import check_repetition
from rmdp_bench.submission.marks import (
    FIRST_HELD_OUT_SEED,
    add_mark,
    confusable,
    shown_name,
    submission_sha256,
)
from rmdp_bench.submission.packing import pack
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import RowFiles
from tests.helpers.checkout import ROOT, needs_submissions
from tests.helpers.site import read_script
from tests.helpers.submission_toys import (
    ABOUT,
    ROW,
    SOLVER,
    TASK,
    claim,
    copy_of,
    edit_json,
    mark_of,
    refused,
    unpacked,
)

Capture = pytest.CaptureFixture[str]
LEADERBOARDS = ROOT / "leaderboards"


def mark_row(
    folder: Path, task: str, solver: str, scores: list[float], *, wide: bool = False
) -> None:
    """Write the mark of a row that was measured so."""
    mark = make_mark(task, solver, [50.0] * len(scores), scores, half_width=10.0 if wide else 0.25)
    sha256 = submission_sha256(folder)
    add_mark(folder.parent.parent / "marks.json", sha256, folder.name, mark)


def test_from_run_to_mark_and_back(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    assert main(["verify", str(folder)]) == 0
    assert "reported" in capsys.readouterr().out
    assert "has no mark" in refused(capsys, "verify", str(folder), "--full", "--replay")
    assert main(["verify", str(folder), "--full", "--record", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    mark = mark_of(folder, TASK, SOLVER)
    assert mark is not None
    assert row["status"] == mark.kind == "verified"
    assert row["mark"] == mark.model_dump(mode="json")
    assert mark.claimed == pytest.approx(np.mean([seed.claimed for seed in mark.seeds]))
    assert mark.measured == pytest.approx(np.mean([seed.measured for seed in mark.seeds]))
    assert [s.replayed for s in mark.seeds] == pytest.approx([s.claimed for s in mark.seeds])
    before = (tmp_path / "marks.json").read_bytes()
    assert main(["verify", str(folder), "--full", "--record"]) == 0  # it has its mark
    assert (tmp_path / "marks.json").read_bytes() == before
    capsys.readouterr()
    assert main(["verify", str(folder), "--full", "--replay", "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)["rows"]
    assert again["mark"]["held_out_seed"] == mark.held_out_seed
    assert again["mark"]["n_episodes"] == mark.n_episodes
    assert again["mark"]["measured"] == pytest.approx(mark.measured)
    other = mark.model_copy(update={"measured": mark.measured + 1.0})
    with pytest.raises(ValueError, match="but the same episodes give"):
        check_repetition(mark, other)


def test_recording_goes_on_where_it_was_stopped(
    honest_submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    mark_row(folder, TASK, SOLVER, [50.0, 60.0])

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a row that has its mark is measured again")

    monkeypatch.setattr("rmdp_bench.submission.full.measure", never)
    assert main(["verify", str(folder), "--full", "--record"]) == 0


@pytest.mark.parametrize(
    "name", ["submission.toml", "README.md", "manifest.json", f"{ROW}/records.json"]
)
def test_one_changed_byte_and_the_mark_is_gone(
    name: str, honest_submission: Path, tmp_path: Path
) -> None:
    """Authors and differences in submission.toml belong to what was marked."""
    folder = copy_of(honest_submission, tmp_path)
    mark_row(folder, TASK, SOLVER, [50.0, 60.0])
    assert mark_of(folder, TASK, SOLVER) is not None
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert mark_of(folder, TASK, SOLVER) is None
    (entry,) = build_tables(tmp_path)[0].entries
    assert (entry.mark, entry.rank, entry.score) == ("reported", None, None)


def test_a_mark_that_a_submission_brings_is_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    row = {"task": TASK, "solver": SOLVER, "status": "verified", "command": "rm -rf /"}
    document = {"schema_version": 1, "name": "honest", "rows": [row]}
    write_json(folder / "verification.json", document)
    assert "'verification.json' has no place" in refused(capsys, "verify", str(folder))


def test_the_command_of_a_recipe_follows_from_the_records(tmp_path: Path) -> None:
    row = ("CartPoleHet-n500-pure-v1", "persim")
    folder = write_submission(tmp_path / "submissions" / "one", [row], 0)
    write_json(folder / "verification.json", {"command": "rm -rf /"})
    with pytest.raises(ValueError, match="has no place"):
        read_rows(tmp_path)
    (folder / "verification.json").unlink()
    (found,) = read_rows(tmp_path)
    expected = f"rmdp-bench run persim {row[0]} --seeds 0:3 --device cpu"
    assert found.command is not None and found.command.startswith(expected)


def test_damaged_marks_are_named(tmp_path: Path) -> None:
    assert read_marks(tmp_path / "marks.json").marks == {}
    (tmp_path / "marks.json").write_text('{"schema_version": 1, "marks": {"x": {"name": "A"}}}')
    with pytest.raises(ValueError, match=r"marks.json is not valid: marks\.x\.name"):
        read_marks(tmp_path / "marks.json")


def test_measured_rows_rank_by_what_was_measured_and_others_do_not(tmp_path: Path) -> None:
    scores = {"good": [80.0, 82.0], "equal": [81.0, 81.0], "lower": [75.0, 75.0]}
    for number, name in enumerate((*scores, "claimed", "spread")):
        write_submission(tmp_path / "submissions" / name, [(TASK, name)], number, n_seeds=2)
    for name, measured in scores.items():
        mark_row(tmp_path / "submissions" / name, TASK, name, measured)
    mark_row(tmp_path / "submissions" / "spread", TASK, "spread", [84.0, 84.0], wide=True)
    rows = read_rows(tmp_path)
    names = [row.solver for row in rows]
    assert names == ["equal", "good", "lower", "spread", "claimed"]
    assert ranks(rows) == [1, 1, 3, 4, None]
    assert [row.score for row in rows] == pytest.approx([81.0, 81.0, 75.0, 74.0, None])
    assert [row.status for row in rows][-2:] == ["verified, lower end", "reported"]
    built = build_site(tmp_path)
    (board,) = read_script(built.site / "data.js")
    shown = {row["solver"]: row for row in board["rows"]}
    assert shown["good"]["measured"] == 81.0
    assert shown["good"]["error"] == 1.0
    assert shown["good"]["claimed"] == rounded_claim(tmp_path, "good")
    assert (shown["good"]["measuredLow"], shown["good"]["measuredHigh"]) == (80.75, 81.25)
    assert shown["good"]["share"] == pytest.approx(81.0 / 89.28, abs=1e-4)
    assert shown["claimed"]["measured"] is shown["claimed"]["rank"] is None
    _, _, details = read_script(built.site / "tasks" / f"{TASK}.js")
    assert details["good/good"]["scores"] == [80.0, 82.0]
    measurement = details["good/good"]["about"]["measurement"]
    assert measurement["heldOutSeed"] == str(FIRST_HELD_OUT_SEED + 2**55 + 1)
    assert details["claimed/claimed"]["about"]["measurement"] is None
    tables = built.tables.read_text(encoding="utf-8")
    ranked, _, others = tables.partition("Not measured, and not ranked")
    assert "| 1 | `good` | good | verified |" in ranked
    assert "| – | `claimed` | claimed | reported |" in others.split("## Cost")[0]
    assert "`claimed`" not in ranked
    entries = build_tables(tmp_path)[0].entries
    assert [entry.summary.solver for entry in entries] == names
    assert [entry.rank for entry in entries] == [1, 1, 3, 4, None]


def rounded_claim(root: Path, name: str) -> float:
    (path,) = (root / "submissions" / name).rglob("records.json")
    scores = [seed.record["social_welfare"] for seed in RowFiles(path.parent).seeds]
    return round(float(np.mean(scores)), 3)


@pytest.mark.parametrize(
    ("solver", "shown"),
    [
        ("em", "em (by mine)"),
        ("EM", "EM (by mine)"),
        ("ern", "ern (by mine)"),
        ("c1ustering", "c1ustering (by mine)"),
        ("cIustering", "cIustering (by mine)"),
        ("end-to-end", "end-to-end (by mine)"),
        ("0racle", "0racle (by mine)"),
        ("evolution_strategies", "evolution_strategies"),
        ("emu", "emu"),
    ],
)
def test_names_of_the_suite_are_for_its_own_submissions(
    solver: str, shown: str, tmp_path: Path
) -> None:
    assert shown_name(solver, "reference", {"reference"}) == solver
    for name in ("mine", "reference"):
        write_submission(tmp_path / "submissions" / name, [(TASK, solver)], 0, n_seeds=1)
    write_json(tmp_path / "suite.json", {"schema_version": 1, "submissions": ["reference"]})
    names = {row.submission.name: (row.summary.solver, row.solver) for row in read_rows(tmp_path)}
    assert names == {"mine": (shown, solver), "reference": (solver, solver)}


def test_names_that_look_alike() -> None:
    assert confusable("ES") == confusable("es")
    assert confusable("rn0del-1") == confusable("model_l")
    assert confusable("es") != confusable("ess")
    assert confusable("\uff25\uff33") == confusable("es")


def test_submissions_and_solvers_that_look_alike_are_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    other = folder.with_name("h0nest")
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    assert "its name looks like that of h0nest" in refused(capsys, "verify", str(folder))
    (other / "manifest.json").unlink()
    with unpacked(folder) as runs:
        shutil.copytree(runs / TASK / SOLVER, runs / TASK / SOLVER.upper())
        for path in (runs / TASK / SOLVER.upper()).rglob("result.json"):
            edit_json(path, solver=SOLVER.upper())
    text = (folder / "submission.toml").read_text()
    row = text[text.index("[[rows]]") :].replace(SOLVER, SOLVER.upper())
    (folder / "submission.toml").write_text(f"{text}\n{row}")
    assert "have names that look alike" in refused(capsys, "verify", str(folder))


@needs_submissions
def test_the_suite_lists_submissions_that_are_there() -> None:
    names = {path.name for path in (LEADERBOARDS / "submissions").iterdir()}
    assert read_suite(LEADERBOARDS / "suite.json") <= names
    assert {mark.name for mark in read_marks(LEADERBOARDS / "marks.json").marks.values()} <= names


@needs_submissions
def test_every_row_with_policies_is_measured() -> None:
    rows = read_rows(LEADERBOARDS)
    without = {f"{row.submission.name}/{row.key}": row.status for row in rows if row.mark is None}
    assert set(without.values()) <= {"recipe, not run"}, without


def test_fewer_episodes_are_refused_in_both_divisions(
    honest_submission: Path, tmp_path: Path
) -> None:
    """One episode claims what luck gives: 88.08 was claimed so, for policies that reach nothing."""
    folder = copy_of(honest_submission, tmp_path)
    edit_json(folder / ROW / "seed-0" / "result.json", evaluation={"n_episodes": 1, "seed": 2**31})
    with pytest.raises(ValueError, match="1 episodes, expected .* 20 episodes, in both divisions"):
        check_submission(folder)
    with unpacked(folder) as runs, pytest.raises(ValueError, match="1 episodes, expected"):
        pack([runs / ROW / "seed-0"], "few", tmp_path / "few", ABOUT)


@pytest.mark.parametrize("raised", [0.5, 2.0])
def test_a_lie_on_every_seed_is_refused(
    raised: float, honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    for seed in (0, 1):
        claim(folder / ROW / f"seed-{seed}", lambda matrix: np.minimum(matrix + raised, 100.0))
    message = refused(capsys, "verify", str(folder), "--full")
    assert "claimed is a social welfare of" in message
    assert "on the same episodes" in message
