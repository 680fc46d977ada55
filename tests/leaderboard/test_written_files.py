"""What `leaderboard build` writes into a clone, and says that it has written."""

from __future__ import annotations

import functools
import gzip
import re
from pathlib import Path

import pytest

import rmdp_bench
from benchmarks.synthetic_submissions import write_submission
from rmdp_bench.cli import main
from rmdp_bench.leaderboard import make_entries, page, snapshot
from rmdp_bench.leaderboard.policies import INDEX_FILE
from rmdp_bench.leaderboard.reading import read_rows
from rmdp_bench.leaderboard.snapshot import SNAPSHOT_FILE
from tests.helpers.checkout import ROOT

ONLINE = "ResourceGathering-n25-k3-v0"


def all_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_all_files_outside_the_page_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    board, package = tmp_path / "board", tmp_path / "package"
    write_submission(board / "submissions" / "one", [(ONLINE, "em")], 0)
    package.mkdir()
    before = all_files(tmp_path)
    assert main(["leaderboard", "build", "--root", str(board)]) == 0
    count, *named = capsys.readouterr().out.splitlines()
    assert count == "1 row of 1 submission on 1 task"
    assert named == [str(Path("board/TABLES.md")), str(Path("board/site/index.html"))]
    monkeypatch.setattr(page, "OWN_ROOT", board.resolve())
    for name, file in (("write_snapshot", "rows.gz"), ("write_index", "policies.json")):
        writer = functools.partial(getattr(page, name), path=package / file)
        monkeypatch.setattr(page, name, writer)
    assert main(["leaderboard", "build", "--root", str(board)]) == 0
    named = capsys.readouterr().out.splitlines()[1:]
    of_page = all_files(board / "site")
    assert {tmp_path / path for path in named} - of_page == all_files(tmp_path) - before - of_page


def test_the_restore_command_covers_what_the_package_gets() -> None:
    text = (ROOT / "leaderboards" / "SUBMITTING.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`git restore ([^`]*TABLES[^`]*)`", text)
    folders = [ROOT / folder for folder in command.split()]
    package = Path(rmdp_bench.__file__).parents[1]  # in a clone the same as ROOT
    stored = [ROOT / file.relative_to(package) for file in (SNAPSHOT_FILE, INDEX_FILE)]
    for path in (ROOT / "leaderboards/TABLES.md", *stored):
        assert any(path == folder or folder in path.parents for folder in folders), path


def test_the_same_rows_leave_the_file_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However another version of Python or zlib would compress them."""
    write_submission(tmp_path / "submissions" / "one", [(ONLINE, "em")], 0)
    entries, path = make_entries(read_rows(tmp_path)), tmp_path / "rows.gz"
    snapshot.write_snapshot(entries, tmp_path, path)
    assert path.read_bytes()[9] == 255
    other = gzip.compress(gzip.decompress(path.read_bytes()), 1, mtime=0)
    assert other != path.read_bytes()
    path.write_bytes(other)
    snapshot.write_snapshot(entries, tmp_path, path)
    assert path.read_bytes() == other
    snapshot.write_snapshot(entries, tmp_path, path, {ONLINE: {"best known": 1.0}})
    first = path.read_bytes()
    path.unlink()
    compress = gzip.compress

    def compress_elsewhere(data: bytes, mtime: int) -> bytes:
        whole = compress(data, mtime=mtime)
        return whole[:9] + b"\x0b" + whole[10:]

    monkeypatch.setattr(gzip, "compress", compress_elsewhere)
    snapshot.write_snapshot(entries, tmp_path, path, {ONLINE: {"best known": 1.0}})
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "damage", [b"", b"no archive", gzip.compress(b"{}")[:-9]], ids=["empty", "text", "cut off"]
)
def test_a_damaged_file_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "submissions").mkdir()
    path = tmp_path / "rows.gz"
    path.write_bytes(damage)
    snapshot.write_snapshot([], tmp_path, path)
    assert snapshot.read_snapshot(tmp_path, path) == []
