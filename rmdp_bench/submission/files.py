"""Which files a submission has, and that they are those its manifest lists.

Nothing is read before its place, kind and size are known to be right.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from rmdp_bench.files import write_json
from rmdp_bench.submission.bounded import MAX_JSON_BYTES, read_object, sha256_of
from rmdp_bench.submission.rows import (
    ARRAYS_FILE,
    MAX_ARCHIVE_BYTES,
    MAX_RECORDS_BYTES,
    POLICIES_FILE,
    RECORDS_FILE,
    RowFiles,
)
from rmdp_bench.submission.schema import (
    MAX_TOML_BYTES,
    SUBMISSION_FILE,
    LayoutVersion,
    how_to_convert,
    validated,
)

MANIFEST_FILE = "manifest.json"
MAX_FILES = 20_000
STRAY_FILE = ".DS_Store"
"""macOS puts it into every folder that somebody has looked at; it is of no submission."""
MAX_STRAY_BYTES = 2**16
MAX_TOTAL_BYTES = 2**30
MAX_RECORD_BYTES = 2**17
"""Of a record without its lists of returns; the board's have 5000."""
MAX_NUMBER_BYTES = 40
"""Of a number in a list, with what separates it from the next."""
_MAX_ENTRY_BYTES = 128
"""Of a file or a seed in a manifest, beside its name: a hash and what is around it."""

_ABOUT = {
    SUBMISSION_FILE: MAX_TOML_BYTES,
    MANIFEST_FILE: MAX_JSON_BYTES,
    "README.md": 2**20,
}
"""File beside the rows -> largest size; they are not in the manifest and can be edited."""
_OF_A_ROW = {
    RECORDS_FILE: MAX_RECORDS_BYTES,
    ARRAYS_FILE: MAX_ARCHIVE_BYTES,
    POLICIES_FILE: MAX_ARCHIVE_BYTES,
}
_TASK, _SOLVER = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"
_FOLDERS = re.compile(rf"{_TASK}(?:/{_SOLVER})?")
_FILES = {
    re.compile(f"{_TASK}/{_SOLVER}/{re.escape(name)}"): size for name, size in _OF_A_ROW.items()
}
_OLD_FOLDERS = re.compile(rf"{_TASK}/{_SOLVER}/seed-[0-9]+")
_OLD_FILES = re.compile(rf"{_OLD_FOLDERS.pattern}/.+", flags=re.DOTALL)
"""Of schema 1."""
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def check_replaceable(folder: Path) -> None:
    """Refuse a folder in which somebody has put what is of no submission, before it is replaced.

    Args:
        folder: a submission, of this layout or of that of schema 1.

    Raises:
        ValueError: names the file.
    """
    known = (*_FILES, _OLD_FILES)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink() or path.name == STRAY_FILE or name in _ABOUT:
            continue
        if not any(pattern.fullmatch(name) for pattern in known):
            raise ValueError(
                f"{folder}: {ascii(name)} has no place in a submission and would be lost; move it "
                f"away first"
            )


class Manifest(BaseModel):
    """manifest.json."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    schema_version: LayoutVersion
    files: dict[str, Sha256]
    """Path of every file of the rows, from the submission's folder -> hash."""
    seeds: dict[str, list[Sha256]]
    """TASK/SOLVER -> of each seed the hash of its policies, or of its arrays without policies."""


def list_files(folder: Path) -> dict[str, Path]:
    """The files of the rows: path from the folder, with slashes -> path; sorted.

    Raises:
        ValueError: as in `list_all_files`.
    """
    return {name: path for name, path in list_all_files(folder).items() if name not in _ABOUT}


def list_all_files(folder: Path) -> dict[str, Path]:
    """All files of a submission: path from the folder, with slashes -> path; sorted.

    Raises:
        ValueError: something is not a plain file or folder, has no place in a submission, or is
            too large; or there are too many.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found: dict[str, Path] = {}
    total = n_seen = 0
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                n_seen += 1
                if n_seen > MAX_FILES:
                    raise ValueError(f"{folder} has more than {MAX_FILES} files and folders")
                if entry.name == STRAY_FILE and entry.is_file(follow_symlinks=False):
                    if entry.stat(follow_symlinks=False).st_size > MAX_STRAY_BYTES:
                        raise ValueError(
                            f"{folder}: a {STRAY_FILE} has more than {MAX_STRAY_BYTES} bytes; "
                            "delete it"
                        )
                    continue
                name = Path(entry.path).relative_to(folder).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    _check_folder(folder, name)
                    pending.append(Path(entry.path))
                    continue
                total += _checked_size(folder, entry, name)
                if total > MAX_TOTAL_BYTES:
                    raise ValueError(f"{folder} has more than {MAX_TOTAL_BYTES} bytes")
                found[name] = Path(entry.path)
    return dict(sorted(found.items()))


def _check_folder(folder: Path, name: str) -> None:
    if _OLD_FOLDERS.fullmatch(name):
        raise ValueError(
            f"{folder}: the folder {ascii(name)} has no place in a submission; it had in schema 1: "
            f"{how_to_convert(folder)}"
        )
    if not _FOLDERS.fullmatch(name):
        raise ValueError(
            f"{folder}: the folder {ascii(name)} has no place in a submission; expected TASK/SOLVER"
        )


def _checked_size(folder: Path, entry: os.DirEntry[str], name: str) -> int:
    """Size of a file that may be there."""
    if not entry.is_file(follow_symlinks=False):
        raise ValueError(f"{folder}: {ascii(name)} is not a plain file (a link, pipe or device)")
    limits = [size for pattern, size in _FILES.items() if pattern.fullmatch(name)]
    limit = _ABOUT.get(name, limits[0] if limits else None)
    if limit is None:
        raise ValueError(f"{folder}: the file {ascii(name)} has no place in a submission")
    size = entry.stat(follow_symlinks=False).st_size
    if size > limit:
        raise ValueError(f"{folder}: {name} has {size} bytes, at most {limit} are allowed")
    return size


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest.

    Raises:
        ValueError: missing or damaged.
    """
    path = folder / MANIFEST_FILE
    return validated(Manifest, read_object(path), path)


def check_manifest(folder: Path, files: dict[str, Path], n_seeds: int) -> Manifest:
    """Compare the files with the manifest.

    Args:
        folder: the submission.
        files: from `list_files`.
        n_seeds: of all rows.

    Raises:
        ValueError: names a file that is missing, is not listed, or has another hash; or the
            manifest is longer than its files need.
    """
    manifest = read_manifest(folder)
    for name in sorted(manifest.files.keys() ^ files.keys()):
        where = f"listed in {MANIFEST_FILE} but not there"
        where = where if name in manifest.files else f"not listed in {MANIFEST_FILE}"
        raise ValueError(f"{folder}: {ascii(name)} is {where}; pack the submission again")
    n_names = sum(len(name) + _MAX_ENTRY_BYTES for name in files)
    limit = 1024 + 2 * n_names + n_seeds * _MAX_ENTRY_BYTES
    if (folder / MANIFEST_FILE).stat().st_size > limit:
        raise ValueError(
            f"{folder / MANIFEST_FILE} has more than the {limit} bytes that {len(files)} files need"
        )
    for name, path in files.items():
        if sha256_of(path, MAX_ARCHIVE_BYTES) != manifest.files[name]:
            raise ValueError(
                f"{folder}: {name} is not the file that was packed: its hash is not that of "
                f"{MANIFEST_FILE}"
            )
    return manifest


def write_manifest(folder: Path) -> None:
    """Write the manifest of the files that are in a folder.

    Raises:
        ValueError: a file has no place there, or one of a row is damaged.
    """
    files = list_files(folder)
    hashes = {name: sha256_of(path, MAX_ARCHIVE_BYTES) for name, path in files.items()}
    seeds: dict[str, list[str]] = {}
    for row in sorted({name.rpartition("/")[0] for name in files}):
        own = RowFiles(folder / row)
        seeds[row] = [own.fingerprint(seed, own.solution(seed)) for seed in range(len(own.seeds))]
    manifest = Manifest(schema_version=2, files=hashes, seeds=seeds)
    write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))
