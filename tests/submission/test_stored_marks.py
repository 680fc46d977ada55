"""What `verify` says of numbers that were not measured now, and of those that are not kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.synthetic_submissions import make_mark
from rmdp_bench.cli import main, output, submission
from rmdp_bench.submission.marks import submission_sha256
from tests.helpers.submission_toys import SOLVER, TASK, copy_of
from tests.submission.test_marks import mark_row

Capture = pytest.CaptureFixture[str]
NOT_KEPT = "These marks are not kept; with --record they are."


def said(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "terminal_width", lambda stream: 80)


def test_stored_marks_are_told_from_measured_ones(
    honest_submission: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    assert "stored" not in said(["verify", str(folder)], capsys)  # it has no mark
    mark_row(folder, TASK, SOLVER, [50.0, 60.0])
    date = make_mark(TASK, SOLVER, [50.0], [50.0]).date
    note = f"stored: measured on {date}, not now."
    text = said(["verify", str(folder)], capsys)
    assert "verified, stored" in text and note in text and NOT_KEPT not in text
    text = said(["verify", str(folder), "--full", "--record"], capsys)  # nothing is left to do
    assert "verified, stored" in text and note in text and NOT_KEPT not in text
    mark = make_mark(TASK, SOLVER, [50.0, 50.0], [50.0, 60.0])
    monkeypatch.setattr("rmdp_bench.submission.full.measure", lambda *_, **__: mark)
    before = (tmp_path / "marks.json").read_bytes()
    text = said(["verify", str(folder), "--full"], capsys)
    assert "verified" in text and "stored" not in text and NOT_KEPT in text
    assert (tmp_path / "marks.json").read_bytes() == before
    text = said(["verify", str(folder), "--full", "--replay"], capsys)
    assert "stored" not in text and NOT_KEPT not in text
    (tmp_path / "marks.json").unlink()
    text = said(["verify", str(folder), "--full", "--record"], capsys)
    assert "stored" not in text and NOT_KEPT not in text
    assert submission_sha256(folder) in (tmp_path / "marks.json").read_text()
    for more, stored in (([], True), (["--full"], False)):
        document = json.loads(said(["verify", str(folder), "--json", *more], capsys))
        assert [row["stored"] for row in document["rows"]] == [stored]


def test_every_column_is_explained(
    honest_submission: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    mark_row(folder, TASK, SOLVER, [50.0, 60.0])
    columns: list[str] = []
    print_table = output.print_table

    def record(title: str, names: list[str], *rows: object, **options: object) -> None:
        columns.extend(names)
        print_table(title, names, *rows, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(submission, "print_table", record)
    text = said(["verify", str(folder), "--explain"], capsys)
    assert {"measured", "95 %", "status"} <= {*columns}
    assert all(f"{column}: " in text for column in columns)
