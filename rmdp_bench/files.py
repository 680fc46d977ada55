"""Files written whole or not at all: to a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import io
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

TEMPORARY_PREFIX = ".writing-"
LOCK_FILE = ".lock"
MAX_TRIES = 1000
"""For a lock that nobody holds, but others look at or have just removed; a millisecond each."""
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
"""Kinds that are the same on every machine."""
_NOT_ALLOWED = "choose a place where you may read and write, or have its permissions changed"
_FULL = "make room there, or choose a place on another file system"
FULL_DISK_CODE = 3
"""Exit code of commands whose disk or quota is full."""
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _NOT_ALLOWED)
_REMEDIES |= dict.fromkeys(_FULL_ERRORS, _FULL)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` by one with these bytes; its folder must exist."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by one with this text, UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Replace the file at `path` by this document; NaN and infinities are refused (ValueError)."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def describe_refusal(error: OSError) -> str:
    """What the system refused and, where that is known, what to do: a part of a sentence."""
    if error.strerror is None:  # not of the system
        return str(error)
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    remedy = _REMEDIES.get(error.errno or 0)
    return where + error.strerror + (f"; {remedy}" if remedy else "")


def is_of_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, is that of a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL_ERRORS:
            return True
        context = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or context
    return False


def obstacle(folder: Path) -> str | None:
    """What keeps a folder from being written to, or made, as far as one can see; None: nothing."""
    place = folder.absolute()
    there = next(above for above in (place, *place.parents) if os.path.exists(above))
    if not there.is_dir():
        return f"{there} is not a folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"no permission in {there}"


def check_writable(folder: Path) -> None:
    """Check, without a change, that a folder can be written to, or made.

    Raises:
        ValueError: it, or the nearest one above it that exists, is a file or not writable.
    """
    found = obstacle(folder)
    if found:
        raise ValueError(f"cannot write to {folder}: {found}; {_NOT_ALLOWED}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: no such file, not JSON, or not an object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds a {type(document).__name__}, expected a JSON object")
    return document


def parse_array(
    data: bytes,
    name: str,
    shape: Sequence[int | None] | None = None,
    max_values: int | None = None,
) -> NDArray[Any]:
    """Read the bytes of a .npy file of numbers; what the header promises is not believed.

    Nothing is made of the file before its header is known to be right.

    Args:
        data: the bytes.
        name: what messages call it.
        shape: that it must have, None for any size; None: any shape.
        max_values: that it may have; None: any number.

    Raises:
        ValueError: as `check_header`, or of another length than its header says.
    """
    own, fortran_order, dtype, start = check_header(data, name, shape, max_values)
    n_bytes, there = math.prod(own) * dtype.itemsize, len(data) - start
    if there != n_bytes:
        raise ValueError(f"cannot read {name}: an array {own} of {n_bytes} bytes has {there}")
    flat: NDArray[Any] = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(own[::-1]).T if fortran_order else flat.reshape(own)


def check_header(
    data: bytes,
    name: str,
    shape: Sequence[int | None] | None = None,
    max_values: int | None = None,
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Check the header of a .npy file, of which these are the first bytes; see `parse_array`.

    Returns:
        Shape, whether the first index runs fastest, type, and where the numbers begin.

    Raises:
        ValueError: not such a file, of other things than numbers, of another shape, or too large.
    """
    buffer = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(buffer)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        own, fortran_order, dtype = read(buffer)
    except Exception as error:  # the header is a Python literal, which fails in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot read {name}: {reason[:200]}") from error
    if dtype.str[1:] not in _NUMBERS or not dtype.isnative:
        raise ValueError(f"cannot read {name}: it holds {dtype.str[:20]}, expected numbers")
    if not all(type(size) is int and 0 <= size < 2**40 for size in own):  # True is an int, too
        raise ValueError(f"cannot read {name}: its shape is {str(own)[:100]}, expected sizes")
    if shape is not None and not _fits(own, shape):
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name} has shape {own}, expected {wanted}")
    n_values = math.prod(own)
    if max_values is not None and n_values > max_values:
        raise ValueError(f"{name} has {n_values} numbers, at most {max_values} are allowed")
    return own, fortran_order, dtype, buffer.tell()


def _fits(own: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether a shape is one that is expected."""
    sizes = zip(own, wanted, strict=False)
    return len(own) == len(wanted) and all(b is None or a == b for a, b in sizes)


def write_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """Replace `directory` by one with exactly these files; names may have folders in them.

    A reader sees the old files, for an instant none, or the new ones, never a mixture.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=directory.parent))
    try:
        (scratch / "new").mkdir()
        for name, data in files.items():
            path = scratch / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        if directory.exists():
            directory.rename(scratch / "old")
        (scratch / "new").rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_temporaries(directory: Path) -> None:
    """Remove what a killed process left half written below a folder that nobody writes to now."""
    for path in list(directory.rglob(f"{TEMPORARY_PREFIX}*")):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder with all in it, or a link, whose target stays; or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(directory: Path, held: str) -> Iterator[None]:
    """Hold the lock of a directory; it is free again even if this process is killed.

    Folders made for it go again if nothing came into them. Linux and macOS: the lock is flock's,
    which Windows lacks.

    Args:
        directory: it is created.
        held: what the error says if another process has the lock.

    Raises:
        ValueError: another process has the lock, or there can be none here: no permission, a
            read-only or full file system, or one without locks.
        ImportError: on Windows.
    """
    try:
        import fcntl
    except ImportError as error:
        raise ImportError("file locks need Linux or macOS; on Windows use WSL") from error
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    path = directory / LOCK_FILE
    try:
        with contextlib.ExitStack() as stack:
            for n_left in reversed(range(MAX_TRIES)):
                try:
                    directory.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(path.open("w+"))
                except OSError as error:
                    if isinstance(error, FileNotFoundError | FileExistsError) and n_left:
                        time.sleep(0.001)
                        continue  # who held the lock has removed the folder in between
                    error.filename = str(directory)
                    raise ValueError(f"cannot write to {describe_refusal(error)}") from error
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    if n_left and not _is_held(file):
                        file.close()
                        time.sleep(0.001)
                        continue  # `is_locked` only looks
                    raise ValueError(f"{held} ({directory})") from error
                except OSError as error:
                    if directory in made:  # nobody else can be there
                        path.unlink()
                    raise ValueError(
                        f"cannot lock {path}: {error.strerror}; the file system may have no file "
                        f"locks (flock): use a folder on another one"
                    ) from error
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                        break
                # Its holder released and removed it just now: there is a new file, or none.
            else:
                raise ValueError(f"{held} ({directory})")
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def is_locked(directory: Path) -> bool:
    """Whether a process holds the lock of a directory; one that was killed holds none."""
    try:
        with (directory / LOCK_FILE).open() as file:
            return _is_held(file)
    except FileNotFoundError:
        return False


def _is_held(file: IO[str]) -> bool:
    """Whether a process holds a lock file, and does not only look at it as this does."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def import_file(path: Path, kind: str) -> tuple[ModuleType, str]:
    """Import anyone's Python file, as `python FILE` would find its neighbours.

    Args:
        path: of the file.
        kind: what messages call it, "solver" or "task"; the module's name has it.

    Returns:
        The module, and the SHA-256 (hexadecimal) of the file.

    Raises:
        ValueError: there is no such file, or it cannot be imported.
    """
    if not path.is_file():
        raise ValueError(f"there is no {kind} file {path}")
    source = path.read_bytes()
    module_name = f"_rmdp_bench_{kind}_{path.stem.replace(' ', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and type hints look there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} cannot be imported: {line}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module, hashlib.sha256(source).hexdigest()
