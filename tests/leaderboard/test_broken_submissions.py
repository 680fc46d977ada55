"""A broken submission is named and left out of the board, and in nobody's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_submissions import write_marks, write_submission
from rmdp_bench.cli import main
from rmdp_bench.cli.output import MAX_MESSAGE, print_error
from rmdp_bench.leaderboard import make_entries
from rmdp_bench.leaderboard.reading import read_rows
from rmdp_bench.leaderboard.snapshot import read_snapshot, write_snapshot
from tests.helpers.checkout import ROOT
from tests.helpers.hostile_toys import array, place_of
from tests.helpers.submission_toys import edit_json

ONLINE, OFFLINE = "ResourceGathering-n25-k3-v0", "CartPoleHet-n500-pure-v1"
SEED, RECORDS = f"{ONLINE}/em/seed-0", f"{ONLINE}/em/records.json"
Capture = pytest.CaptureFixture[str]


def write(name: str, data: str | bytes) -> Callable[[Path], object]:
    content = data.encode() if isinstance(data, str) else data

    def damage(folder: Path) -> None:
        with place_of(folder, name) as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return damage


def change(**fields: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        edit_json(folder / SEED / "result.json", **fields)

    return damage


def linked(folder: Path) -> None:
    (folder / RECORDS).unlink()
    (folder / RECORDS).symlink_to(ROOT / "README.md")


def all_linked(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def assigned(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Callable[[Path], object]:
    return write(f"{SEED}/solution/assignment.npy", array(values))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a description that is not TOML": (write("submission.toml", "name ="), "is not TOML"),
    "no description": (lambda folder: (folder / "submission.toml").unlink(), "cannot read"),
    "a file without a place": (write("setup.py", "print()"), "'setup.py' has no place"),
    "a link": (linked, "not a plain file"),
    "a link in its own place": (all_linked, "there is no folder"),
    "a score that does not agree": (change(social_welfare=99.0), "social_welfare"),
    "a record of another seed": (change(seed=5), "seed is 5, expected 0"),
    "a task of no suite": (change(task="NoSuchTask-v0"), "NoSuchTask-v0"),
    "a record that is no JSON": (write(f"{SEED}/result.json", "{"), "is not valid JSON"),
    "a record of deep lists": (write(f"{SEED}/result.json", "[" * 200_000), "nested too deeply"),
    "a curve with another end of a line": (
        write(
            f"{SEED}/curve.csv",
            "transitions,wall_seconds,social_welfare,train_social_welfare\n1,1,1,\u00852,1,1,\n",
        ),
        "curve.csv, line 2",
    ),
    "a curve that is not text": (write(f"{SEED}/curve.csv", b"\xff"), "curve.csv"),
    "an assignment of others": (assigned(np.eye(3)), "assignment in"),
    "an assignment of NaN": (assigned(np.full((25, 3), np.nan)), "expected finite numbers"),
    "an assignment that is none": (
        write(f"{SEED}/solution/assignment.npy", b"x"),
        "assignment in",
    ),
    "twenty megabytes in a record": (
        write(f"{SEED}/result.json", '{"' + "x" * 20_000_000 + '": 1}'),
        "are allowed",
    ),
    "a key of three megabytes": (
        write(f"{SEED}/result.json", '{"' + "x" * 3_000_000 + '": 1}'),
        "records.json",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_submission_is_named_and_left_out(
    case: str, tmp_path: Path, capsys: Capture
) -> None:
    damage, message = BROKEN[case]
    write_submission(tmp_path / "submissions" / "whole", [(ONLINE, "em")], 0)
    damage(write_submission(tmp_path / "submissions" / "torn", [(ONLINE, "em")], 1))
    assert main(["leaderboard", "build", "--root", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["rows"], document["submissions"], document["tasks"]) == (1, 1, 1)
    assert list(document["skipped"]) == ["torn"]
    assert message in document["skipped"]["torn"]
    (line,) = captured.err.splitlines()
    start = "rmdp-bench: warning: the submission torn is left out, because it is broken: "
    assert line.startswith(start)
    assert len(line) <= len("rmdp-bench: warning: ") + MAX_MESSAGE + len("...")
    tables = (tmp_path / "TABLES.md").read_text(encoding="utf-8")
    assert "`em (by whole)`" in tables
    assert "torn" not in tables
    assert "torn" not in (tmp_path / "site" / "data.js").read_text(encoding="utf-8")


def test_names_that_are_no_text_are_printed(tmp_path: Path, capsys: Capture) -> None:
    write_submission(tmp_path / "submissions" / "whole", [(ONLINE, "em")], 0)
    (tmp_path / "submissions" / "a\x1b[2J\nb").mkdir()
    assert main(["leaderboard", "build", "--root", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()


def test_show_names_it_too(tmp_path: Path, capsys: Capture) -> None:
    write_submission(tmp_path / "submissions" / "whole", [(ONLINE, "em")], 0)
    torn = write_submission(tmp_path / "submissions" / "torn", [(ONLINE, "em")], 1)
    write("setup.py", "")(torn)
    assert main(["leaderboard", "show", "--root", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document["skipped"]) == ["torn"]
    (task,) = document["tasks"]
    assert [row["source"] for row in task["rows"] if not row["exact"]] == ["whole"]
    assert "the submission torn is left out" in captured.err


def test_marks_that_do_not_fit_break_one_submission_only(tmp_path: Path, capsys: Capture) -> None:
    write_marks(
        [
            write_submission(tmp_path / "submissions" / name, [(ONLINE, "em")], place)
            for place, name in enumerate(("torn", "whole"))
        ]
    )
    path = tmp_path / "marks.json"
    document = json.loads(path.read_text())
    for mark in document["marks"].values():
        if mark["name"] == "torn":
            del mark["rows"][0]["seeds"][0]
    path.write_text(json.dumps(document))
    assert main(["leaderboard", "build", "--root", str(tmp_path), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["skipped"]) == ["torn"]


def test_a_stored_board_does_not_hide_a_broken_submission(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em")], 0)
    path = tmp_path / "stored.json.gz"
    write_snapshot(make_entries(read_rows(tmp_path)), tmp_path, path)
    assert read_snapshot(tmp_path, path) is not None
    write("setup.py", "")(folder)
    assert read_snapshot(tmp_path, path) is None


def test_who_asks_for_all_rows_gets_an_error(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em")], 0)
    write("setup.py", "")(folder)
    with pytest.raises(ValueError, match="has no place"):
        read_rows(tmp_path)


def test_errors_are_cut(capsys: Capture) -> None:
    print_error("\u202e" * 10 + "x" * 20_000_000)
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < MAX_MESSAGE + 100
    assert line.endswith("x...")
    print_error("y" * MAX_MESSAGE)
    assert capsys.readouterr().err == f"rmdp-bench: error: {'y' * MAX_MESSAGE}\n"


def test_what_is_only_reported_has_a_mark(tmp_path: Path, capsys: Capture) -> None:
    write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em"), (OFFLINE, "cql")], 0)
    assert main(["leaderboard", "build", "--root", str(tmp_path)]) == 0
    tables = (tmp_path / "TABLES.md").read_text(encoding="utf-8")
    online, offline = tables.split("## Offline: quality")
    headings = "| unseen† | extrapolating† | RMSE† | median R2† | mean R2† | scoring s† |"
    assert headings in offline.replace("---:", "")
    assert "†: as reported" in offline
    assert "†" not in online
    capsys.readouterr()
    show = ["leaderboard", "show", "--root", str(tmp_path)]
    assert main([*show, "--explain"]) == 0
    text = capsys.readouterr().out
    assert "unseen†" in text
    assert "†: as reported" in text
    assert main([*show, "--json"]) == 0
    tasks = {task["task"]: task["rows"] for task in json.loads(capsys.readouterr().out)["tasks"]}
    (row,) = tasks[OFFLINE]
    assert {"offline.unseen_welfare", "offline.rmse_mean"} <= set(row["reported"])
    assert "offline.mean_return" not in row["reported"]
    assert [row["reported"] for row in tasks[ONLINE] if not row["exact"]] == [[]]


def test_the_page_marks_the_same_columns() -> None:
    source = (ROOT / "rmdp_bench" / "data" / "site" / "columns.js").read_text(encoding="utf-8")
    for name in ("unseen", "extrapolating", "rmse", "r2", "r2Mean"):
        assert f'reported("{name}", ' in source
