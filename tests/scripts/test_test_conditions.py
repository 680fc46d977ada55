"""The table of the tests under other conditions, with a program that takes no time for pytest."""

from __future__ import annotations

import json
import platform
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts import test_conditions as script
from scripts.test_conditions import CONDITIONS, RECORDS, append_record, main, read_records

TOY = """
import os, sys
failed = "fail" in sys.argv
names = "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE"
print(sys.argv[1:], [os.environ.get(name) for name in names])
print(f"===== {'1 failed' if failed else '3 passed, 2 skipped'} in 0.1s =====")
sys.exit(failed)
"""
BUSY = [name for name, condition in CONDITIONS.items() if condition.n_busy]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "PYTEST", ("-c", TOY))
    monkeypatch.setattr(script, "NEEDED", ())
    for name in ("ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE"):
        monkeypatch.delenv(name, raising=False)


def rows_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Of the table that the documents would have, by column."""
    monkeypatch.setattr(script, "RESULTS", folder)
    header, rule, *rows = script.tests_elsewhere().splitlines()
    assert {*rule} == set("| -")
    names = header.strip("| ").split(" | ")
    cells = [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in rows]
    return [dict(zip(names, own, strict=True)) for own in cells]


def test_every_run_is_a_record_and_the_last_of_its_kind_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the conditions, whichever order they ran in."""
    first = ["one core", "--out", str(tmp_path)]
    assert main(first) == 0
    stored = (tmp_path / RECORDS).read_bytes()
    assert main(["as it is", *BUSY, "--out", str(tmp_path)]) == 0
    for _ in range(2):
        assert main([*first, "--", "fail", "-k", "x y"]) == 1
    assert (tmp_path / RECORDS).read_bytes().startswith(stored)
    records = [json.loads(line) for line in (tmp_path / RECORDS).read_text().splitlines()]
    assert len(records) == 4 + len(BUSY)
    assert records[0]["counts"] == {"passed": 3, "skipped": 2} and records[0]["exit_code"] == 0
    assert records[-1]["counts"] == {"failed": 1} and records[-1]["exit_code"] == 1
    assert all(0 <= one["minutes"] < 60 and one["load_average"] >= 0 for one in records)
    assert {one["python"] for one in records} == {platform.python_version()}
    rows = rows_of(tmp_path, monkeypatch)
    said = [(row["condition"], row["arguments of pytest"], row["result"]) for row in rows]
    assert said == [
        ("as it is", "", "3 passed, 2 skipped"),
        ("one core", "", "3 passed, 2 skipped"),
        ("one core", "`fail -k 'x y'`", "1 failed"),
        *((name, "", "3 passed, 2 skipped") for name in BUSY),
    ]
    assert all(row["machine"].endswith("cores") for row in rows)


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("4481 passed, 3 skipped in 736.70s (0:12:16)", {"passed": 4481, "skipped": 3}),
        ("= 1 failed, 2 passed, 1 error in 0.10s =", {"failed": 1, "passed": 2, "error": 1}),
        ("no tests ran in 0.01s", {}),
        ("3 tests were lost, says the last line of a crash", {}),
        ("Fatal: 3 threads in deadlock", {}),
    ],
)
def test_counts_are_those_that_pytest_reports(line: str, counts: dict[str, int]) -> None:
    assert script.counts_of(line) == counts


def test_every_python_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unpacked source distribution too, whose commit only the user knows."""
    monkeypatch.setattr(script, "git_revision", lambda: None)
    first, last = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"
    runs = ("3.13.0", first), ("3.9.1", None), ("3.15.0a2", first), ("3.13.0", last)
    for own, commit in runs:
        monkeypatch.setattr(platform, "python_version", lambda own=own: own)
        given = ["--revision", commit] if commit else []
        assert main(["as it is", "--out", str(tmp_path), *given]) == 0
    rows = rows_of(tmp_path, monkeypatch)
    assert [row["Python"] for row in rows] == ["3.9.1", "3.13.0", "3.15.0a2"]
    revisions = [row["revision"] for row in rows]
    assert revisions == [f"version {version('rmdp_bench')}", last[:12], first[:12]]
    logs = sorted(path.name for path in tmp_path.glob("*.log"))
    assert logs == ["as-it-is-3.13.0.log", "as-it-is-3.15.0a2.log", "as-it-is-3.9.1.log"]


def test_a_checkout_knows_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a row says whether it was changed."""
    commit = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setattr(script, "git_revision", lambda: f"{commit}-dirty")
    with pytest.raises(SystemExit) as stopped:
        main(["as it is", "--out", str(tmp_path), "--revision", "abc"])
    assert stopped.value.code == 2
    assert f"a checkout of {commit}-dirty: leave it out" in capsys.readouterr().err
    assert main(["as it is", "--out", str(tmp_path)]) == 0
    assert [row["revision"] for row in rows_of(tmp_path, monkeypatch)] == [f"{commit[:12]}-dirty"]


def test_several_append_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for own in [*range(4)] * 50:
            pool.submit(append_record, tmp_path / RECORDS, {"a": own})
    lines = (tmp_path / RECORDS).read_text().splitlines()
    assert sorted(json.loads(line)["a"] for line in lines) == sorted([*range(4)] * 50)


@pytest.mark.parametrize("line", ["{", "[]", "{}", ""])
def test_what_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    assert main(["as it is", "--out", str(tmp_path)]) == 0
    path = tmp_path / RECORDS
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ValueError, match=f"{RECORDS}, line 2 is not a record"):
        read_records(path)


def test_the_current_folder_is_not_before_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (tmp_path / "test_own.py").write_text(
        f"import sys\ndef test_path():\n    assert sys.path[0] != {str(script.ROOT)!r}\n"
    )
    arguments = ["--import-mode", "append", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    log = tmp_path / "log"
    code = script.run_tests(CONDITIONS["as it is"], [*arguments, "-n0", str(tmp_path)], log)
    assert code == 0, log.read_text()


def test_each_condition_is_what_it_says(tmp_path: Path) -> None:
    names = ["torch with AVX2", "OpenBLAS for Haswell", "one core"]
    assert main([*names, "--out", str(tmp_path), "--", "-k", "x"]) == 0
    logs = [f"{name.replace(' ', '-')}-{platform.python_version()}.log" for name in names]
    said = [(tmp_path / log).read_text() for log in logs]
    assert "['avx2', None]" in said[0] and "[None, 'Haswell']" in said[1]
    assert "'--numprocesses', '1'" in said[2] and "'-k', 'x'" in said[2]


def test_a_busy_machine_is_a_condition_of_its_own() -> None:
    """With more processes than a usual machine has cores, and with many times as many."""
    fewest, most = sorted(CONDITIONS[name].n_busy for name in BUSY)
    assert fewest >= 4 and most >= 10


def test_nothing_is_run_where_tests_would_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "NEEDED", ("json", "no_such_package"))
    with pytest.raises(SystemExit) as stopped:
        main(["as it is", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "tests need no_such_package: pip install -e '.[dev]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
