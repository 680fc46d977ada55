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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from rmdp_bench.files import check_header, parse_array

MAX_JSON_BYTES = 4 * 2**20
MAX_ARRAY_BYTES = 64 * 2**20
"""Of a .npz file of a run directory, and of all that is in it."""
MAX_ARRAYS = 16
"""Of a file, unless more are expected."""
MAX_HEADER_BYTES = 2**14
"""More than NumPy takes for the header of an array."""
Shapes: TypeAlias = Mapping[str, Sequence[int | None]]
_ENTRY = b"PK\x01\x02"
"""With which every entry in the list of a zip archive begins; elsewhere it is there by chance."""


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a plain file.

    Raises:
        ValueError: missing, not a plain file (a link, a pipe, a device), larger than the limit, or
            changed while it was read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        # Not `limit`: for so many bytes room would be made before any is read.
        data = file.read(min(status.st_size, limit) + 1)
    if len(data) > limit:
        raise ValueError(f"{path} has more than the {limit} bytes that are allowed")
    if len(data) != status.st_size:  # what grew is cut
        raise ValueError(f"{path} is not as long as it was: it changes while it is read")
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


def read_arrays(path: Path, limit: int, shapes: Shapes | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file; see `parse_arrays`."""
    return parse_arrays(read_bytes(path, limit), limit, str(path), shapes)


def parse_arrays(
    data: bytes, limit: int, name: str, shapes: Shapes | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays in the bytes of a .npz file.

    Args:
        data: the bytes.
        limit: bytes of everything in it when it is unpacked.
        name: what messages call it.
        shapes: name of each array that may be there -> its shape, None for any size; None: any.
            Of an array that may not be there or has another shape, nothing but the header is
            unpacked.

    Raises:
        ValueError: not such a file, larger when unpacked, or with other arrays.
    """
    most = MAX_ARRAYS if shapes is None else max(MAX_ARRAYS, len(shapes))
    if data.count(_ENTRY) > 2 * most:  # before each of a million is made an object
        raise ValueError(f"{name}: not a .npz file of at most {most} arrays")
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if not _are_allowed(entries, most, limit):
                raise ValueError(
                    f"not a .npz file of at most {most} arrays of different names, which "
                    f"unpacks to at most {limit} bytes"
                )
            for entry in entries:
                key = entry.filename.removesuffix(".npy")
                what = f"{key[:50]!r} in {name}"
                if shapes is not None and key not in shapes:
                    raise ValueError(
                        f"{name} has an array {ascii(key[:50])}, which is not expected"
                    )
                shape = None if shapes is None else shapes[key]
                with archive.open(entry) as file:
                    start = file.read(MAX_HEADER_BYTES)
                    check_header(start, what, shape)
                    arrays[key] = parse_array(start + file.read(limit + 1), what, shape)
    except ValueError as error:
        prefix = "" if name in str(error) else f"{name}: "
        raise ValueError(f"{prefix}{error}") from error
    except Exception as error:  # a damaged archive fails in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: not a .npz file: {reason[:200]}") from error
    return arrays


def _are_allowed(entries: Sequence[zipfile.ZipInfo], most: int, limit: int) -> bool:
    """Number, names, kinds and declared sizes; what is unpacked is never more than declared."""
    names = {entry.filename.removesuffix(".npy") for entry in entries}
    declared = sum(entry.file_size for entry in entries)
    fits = len(names) == len(entries) <= most and declared <= limit
    return fits and all(map(_is_plain, entries))


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether it is stored as NumPy does."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return entry.compress_type in methods and not entry.flag_bits & 1 and not entry.is_dir()
