"""Convert submissions of schema 1, a folder for each seed, to rows of three files.

    python -m scripts.convert_submissions leaderboards/submissions/*

Each is packed anew as `submit` does it, but for the check: one that `verify` refuses is refused as
before.  Then all that it holds is compared with what was there: records value by value, curves,
arrays and policies byte by byte, README.md and the description.  If anything differs, or there is a
file that has no place in a submission, the old one stays.  Because the contents are proven equal,
the marks of its rows, which say what a verifier measured of these contents, are also written under
the hash of the new files, before these take their place, and then the old ones go: whenever this is
interrupted, what is there has its marks.  Submissions of this layout are left alone, but for marks
that an interrupted conversion has left behind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from rmdp_bench.files import locked, read_json, write_directory, write_json
from rmdp_bench.runs import find_results
from rmdp_bench.runs.records import RESULT_FILE
from rmdp_bench.submission import MARKS_FILE, Marks, read_marks, read_submission
from rmdp_bench.submission.files import STRAY_FILE, check_replaceable
from rmdp_bench.submission.marks import SubmissionMark, submission_sha256
from rmdp_bench.submission.packing import run_directories, write_submission


def convert(folder: Path) -> int:
    """Convert a submission in place; the number of its seeds, 0 if it is of this layout already.

    Raises:
        ValueError: it is damaged, a file has no place in it, or what was packed is not what was
            there; nothing has changed then.
    """
    seeds = {path.parent.relative_to(folder) for path in folder.rglob(RESULT_FILE)}
    if not seeds:
        _remove_old_marks(folder)
        return 0
    check_replaceable(folder)
    before = old_sha256(folder)
    about = read_submission(folder, of_old_layout=True)
    with tempfile.TemporaryDirectory() as scratch:
        new = Path(scratch) / folder.name
        write_submission(new, about, find_results([folder]))
        if read_submission(new) != about:
            raise ValueError(f"{folder}: its description is another when it is packed")
        with run_directories([new]) as unpacked:
            found = {
                path.parent.relative_to(run): path.parent
                for run in unpacked
                for path in run.rglob(RESULT_FILE)
            }
            if found.keys() != seeds:
                raise ValueError(f"{folder}: there are other seeds when it is packed")
            for seed in sorted(seeds):
                compare_seeds(folder / seed, found[seed])
        if (folder / "README.md").is_file():
            shutil.copyfile(folder / "README.md", new / "README.md")
        contents = {name: path.read_bytes() for name, path in _files(new).items()}
        _add_marks(folder, before, submission_sha256(new))
        write_directory(folder, contents)
    _remove_old_marks(folder)
    return len(seeds)


def compare_seeds(old: Path, new: Path) -> None:
    """Compare two run directories.

    Raises:
        ValueError: something differs; the message names the file.
    """
    if _files(old).keys() != _files(new).keys():
        raise ValueError(f"{old}: other files are there when it is packed")
    for name, path in _files(old).items():
        other = new / name
        if path.suffix == ".json":
            same = json.dumps(read_json(path)) == json.dumps(read_json(other))
        elif path.suffix == ".npz":
            same = _arrays(path) == _arrays(other)
        else:
            same = path.read_bytes() == other.read_bytes()
        if not same:
            raise ValueError(f"{path} is not the same when it is packed")


def old_sha256(folder: Path) -> str:
    """Hash of a submission of schema 1, by which marks.json knows it."""
    hashes = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _files(folder).items()
    }
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> dict[str, Path]:
    """All files below a folder: path from there -> path."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != STRAY_FILE
    }


def _arrays(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Name -> type, shape and bytes of each array."""
    with np.load(path, allow_pickle=False) as arrays:
        return {
            name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()
        }


def _add_marks(folder: Path, before: str, now: str) -> None:
    """Give the marks of a submission also the hash that it will have."""
    path = _marks_of(folder)
    if not path.exists():
        return
    with locked(path.parent, f"{path} is being written by another process"):
        marks = read_marks(path)
        if before in marks.marks:
            _write(path, marks.marks | {now: marks.marks[before]})


def _remove_old_marks(folder: Path) -> None:
    """Remove other marks of a submission's name, if it has its own: they are of the old layout."""
    path, now = _marks_of(folder), submission_sha256(folder)
    if not path.exists():
        return
    with locked(path.parent, f"{path} is being written by another process"):
        marks = read_marks(path).marks
        if now in marks:
            kept = {k: m for k, m in marks.items() if k == now or m.name != marks[now].name}
            if kept != marks:
                _write(path, kept)


def _marks_of(folder: Path) -> Path:
    return folder.resolve().parent.parent / MARKS_FILE


def _write(path: Path, marks: dict[str, SubmissionMark]) -> None:
    write_json(path, Marks(marks=marks).model_dump(mode="json"))


def main() -> None:
    """Convert what is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    arguments = parser.parse_args()
    try:
        for folder in arguments.folders:
            print(f"{folder}: {convert(folder)} seeds")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
