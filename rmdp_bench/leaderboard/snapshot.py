"""The rows of the suite's board, as they are in the package.

`leaderboard show` prints them where there is no folder of submissions, from a wheel in any folder;
in a clone they save reading all records, as long as they are fresh: they name the hash of every
byte that they were made from.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from rmdp_bench.files import write_bytes
from rmdp_bench.leaderboard import Entry
from rmdp_bench.runs.summary import Summary
from rmdp_bench.submission import MARKS_FILE, SUITE_FILE
from rmdp_bench.submission.marks import submission_sha256

SNAPSHOT_FILE = Path(str(files("rmdp_bench"))) / "data" / "leaderboard.json.gz"

_UNKNOWN_SYSTEM = b"\xff"


def board_sha256(root: Path) -> str:
    """Hash all that the rows follow from: submissions, marks, the names of the suite.

    Args:
        root: the folder that has `submissions`.

    Raises:
        ValueError: something in a submission has no place there.
    """
    hashes = {
        path.name: submission_sha256(path)
        for path in sorted((root / "submissions").iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    for name in (MARKS_FILE, SUITE_FILE):
        if (root / name).is_file():
            hashes[name] = hashlib.sha256((root / name).read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def write_snapshot(
    entries: Sequence[Entry],
    root: Path,
    path: Path = SNAPSHOT_FILE,
    anchors: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:
    """Store the rows of a folder's submissions; a file that has the same rows stays as it is.

    Args:
        entries: the rows.
        root: the folder that has `submissions`.
        path: of the snapshot.
        anchors: of each task, see `rmdp_bench.leaderboard.anchors`.

    Returns:
        The path.
    """
    document = {
        "sha256": board_sha256(root),
        "anchors": anchors or {},
        "entries": [asdict(entry) for entry in entries],
    }
    contents = json.dumps(document).encode()
    # How it is compressed is up to the version of zlib.
    if _contents(path) != contents:
        data = gzip.compress(contents, mtime=0)
        system = slice(9, 10)  # a byte of the header that differs between versions of Python
        write_bytes(path, data[: system.start] + _UNKNOWN_SYSTEM + data[system.stop :])
    return path


def _contents(path: Path) -> bytes | None:
    """What a file holds; None: it is missing or damaged."""
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error):
        return None


def read_snapshot(root: Path | None, path: Path = SNAPSHOT_FILE) -> list[Entry] | None:
    """Read the stored rows.

    Args:
        root: the folder that has `submissions`; None: the rows are wanted whatever they are of.
        path: of the snapshot.

    Returns:
        None if they are of other submissions or another version's, or there are none.
    """
    if not path.is_file() or (root is not None and not (root / "submissions").is_dir()):
        return None
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if root is not None:
        try:
            if document["sha256"] != board_sha256(root):
                return None
        except (ValueError, OSError):  # a broken submission, of which the rows were not stored
            return None
    try:
        return [_make_entry(row) for row in document["entries"]]
    except (KeyError, TypeError):  # fields that came or went since it was built
        return None


def read_anchors(path: Path = SNAPSHOT_FILE) -> dict[str, dict[str, float]]:
    """Read what stands in the snapshot beside the rows; whether they are fresh is their reader's.

    Returns:
        Task -> name -> welfare in percent; empty for a snapshot of a version without.
    """
    document = json.loads(gzip.decompress(path.read_bytes()))
    anchors: dict[str, dict[str, float]] = document.get("anchors", {})
    return anchors


def _make_entry(row: dict[str, Any]) -> Entry:
    own = dict(row["summary"])
    if own["interval"] is not None:
        own["interval"] = tuple(own["interval"])
    return Entry(**row | {"summary": Summary(**own)})
