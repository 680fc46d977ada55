"""The table of the tests under other conditions, with a program that takes no time for pytest."""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts import test_conditions as script
from scripts.test_conditions import CONDITIONS, PAGE, ROWS, main

TOY = """
import os, sys
failed = "fail" in sys.argv
names = "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE"
print(sys.argv[1:], [os.environ.get(name) for name in names])
print(f"===== {1 if failed else 3} {'failed' if failed else 'passed'} | in 0.1s =====")
sys.exit(failed)
"""
BUSY = [name for name, condition in CONDITIONS.items() if condition.n_busy]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "PYTEST", ("-c", TOY))
    monkeypatch.setattr(script, "NEEDED", ())
    for name in ("ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE"):
        monkeypatch.delenv(name, raising=False)


def table(folder: Path) -> list[list[str]]:
    lines = re.findall(r"^\| (.*) \|$", (folder / PAGE).read_text(), flags=re.MULTILINE)
    return [line.split(" | ") for line in lines]


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    """Whatever stood there; in the order of the conditions, each once."""
    (tmp_path / PAGE).write_text("by hand")
    assert main(["one core", "--out", str(tmp_path)]) == 0
    assert main(["as it is", *BUSY, "--out", str(tmp_path)]) == 0
    assert main(["one core", "--out", str(tmp_path), "--", "fail"]) == 1
    text = (tmp_path / PAGE).read_text()
    assert "by hand" not in text and "wrote this" in text
    header, *rows = table(tmp_path)
    assert header == [*json.loads((tmp_path / ROWS).read_text())[0]]
    assert [row[:3] for row in rows] == [
        ["as it is", "all", "3 passed / in 0.1s"],
        ["one core", "all", "3 passed / in 0.1s"],
        ["one core", "fail", "1 failed / in 0.1s"],
        *([name, "all", "3 passed / in 0.1s"] for name in BUSY),
    ]
    for row in rows:
        assert len(row) == len(header)
        assert float(row[3]) < 60 and float(row[4]) >= 0
        assert row[6].endswith("cores")
    assert main(["one core", "--out", str(tmp_path), "--", "fail"]) == 1
    assert len(table(tmp_path)) == len(rows) + 1


def test_every_python_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tests are those of an unpacked source distribution, without a revision."""
    monkeypatch.setattr(script, "git_revision", lambda: None)
    for own in ("3.12.1", "3.13.0", "3.13.0"):
        monkeypatch.setattr(platform, "python_version", lambda own=own: own)
        assert main(["as it is", "--out", str(tmp_path)]) == 0
    _, *rows = table(tmp_path)
    assert [row[7] for row in rows] == ["3.12.1", "3.13.0"]
    assert {row[5] for row in rows} == {f"version {version('rmdp_bench')}"}


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
    said = [(tmp_path / f"{name.replace(' ', '-')}.log").read_text() for name in names]
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
