"""Reading files of strangers: never a link, never more than a limit, strictly what is expected."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rmdp_bench.files import parse_array

MAX_JSON_BYTES = 4 * 2**20
MAX_ARRAYS = 16
_ENTRY = b"PK\x01\x02"
"""With which every entry in the list of a zip archive begins; elsewhere it is there by chance."""


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a plain file.

    Raises:
        ValueError: missing, not a plain file (a link, a pipe, a device), or larger than the limit.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a plain file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} has more than the {limit} bytes that are allowed")
    return data


def read_text(path: Path, limit: int) -> str:
    """The text of a plain UTF-8 file.

    Raises:
        ValueError: as `read_bytes`, or not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason}") from error


def read_object(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object, strictly: no key twice, no NaN and no number beyond the range of a float.

    Raises:
        ValueError: as `read_text`, or not such an object.
    """
    try:
        document = json.loads(
            read_text(path, limit),
            object_pairs_hook=_unique,
            parse_constant=_refused_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:
        prefix = "" if str(path) in str(error) else f"{path} is not valid JSON: "
        raise ValueError(f"{prefix}{error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds a {type(document).__name__}, expected a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice[:50]!r} is there twice")
    return document


def _refused_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def sha256_of(path: Path, limit: int) -> str:
    """Hash of a plain file; ValueError as in `read_bytes`."""
    return hashlib.sha256(read_bytes(path, limit)).hexdigest()


def read_arrays(path: Path, limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file.

    Args:
        path: of the file.
        limit: bytes, of the file and of everything in it when it is unpacked.

    Raises:
        ValueError: as `read_bytes`, not such a file, or larger when unpacked.
    """
    try:
        contents = _unpack(read_bytes(path, limit), limit)
    except ValueError as error:
        prefix = "" if str(path) in str(error) else f"{path}: "
        raise ValueError(f"{prefix}{error}") from error
    return {name: parse_array(data, f"{name[:50]!r} in {path}") for name, data in contents.items()}


def _unpack(data: bytes, limit: int) -> dict[str, bytes]:
    """The entries of a zip archive."""
    contents = {}
    if data.count(_ENTRY) > 2 * MAX_ARRAYS:  # before each of a million is made an object
        raise ValueError(f"not a .npz file of at most {MAX_ARRAYS} arrays")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            for entry in entries[: MAX_ARRAYS + 1]:
                if sum(other.file_size for other in entries) <= limit and _is_plain(entry):
                    with archive.open(entry) as file:
                        contents[entry.filename.removesuffix(".npy")] = file.read(limit + 1)
    except Exception as error:  # a damaged archive fails in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"not a .npz file: {reason[:200]}") from error
    if not len(contents) == len(entries) <= MAX_ARRAYS:
        raise ValueError(
            f"not a .npz file of at most {MAX_ARRAYS} arrays of different names, which unpacks to "
            f"at most {limit} bytes"
        )
    return contents


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether it is stored as NumPy does."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return entry.compress_type in methods and not entry.flag_bits & 1 and not entry.is_dir()
