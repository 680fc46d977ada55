"""The files of a row, read within bounds.

TASK/SOLVER/
    records.json    of each seed the record, which is its result.json, and the lines of curve.csv
    arrays.npz      seed-S/NAME: the arrays of welfare.npz or returns.npz, and the assignment
    policies.zip    seed-S/policies.onnx or seed-S/policy-J.onnx; there if a seed has policies

`rmdp_bench.submission.packing` makes them of run directories, and run directories of them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rmdp_bench.files import parse_array
from rmdp_bench.runs.records import Result, make_result
from rmdp_bench.solution.onnx_rules import MAX_GRAPH_BYTES
from rmdp_bench.submission.archives import Archive, open_archive, write_archive
from rmdp_bench.submission.bounded import MAX_HEADER_BYTES, Shapes, read_bytes, read_object
from rmdp_bench.submission.schema import LayoutVersion, Row, check_texts, validated

RECORDS_FILE, ARRAYS_FILE, POLICIES_FILE = "records.json", "arrays.npz", "policies.zip"
ASSIGNMENT = "assignment"
"""The array of an assignment; all others of a seed are of what was measured."""
MAX_RECORDS_BYTES = 8 * 2**20
MAX_ARCHIVE_BYTES = 64 * 2**20
MAX_ARRAYS_BYTES = 256 * 2**20
MAX_POLICIES_BYTES = 512 * 2**20
"""Of all seeds of a row, unpacked."""
MAX_ARRAYS = 16
"""Of a seed."""
MAX_POLICIES = 60_000
"""Of a row."""
MAX_SIZE = 1000
"""Of an axis of an array that may have any size."""
MAX_SEEDS = 1000
_SEED = r"seed-(?:0|[1-9][0-9]{0,9})"
_ARRAY = re.compile(rf"{_SEED}/[a-z][a-z0-9_]{{0,49}}\.npy")
_POLICY = re.compile(rf"{_SEED}/(?:policies|policy-(?:0|[1-9][0-9]{{0,4}}))\.onnx")
_WIDTH = 100


class SeedRecord(BaseModel):
    """One seed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    record: dict[str, Any]
    """Its result.json; see the schema of results."""
    curve: list[str] | None = None
    """The lines of its curve.csv; None if it has none."""


class Records(BaseModel):
    """records.json."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    schema_version: LayoutVersion
    seeds: list[SeedRecord] = Field(min_length=1, max_length=MAX_SEEDS)
    """Seed 0, 1, ..."""


class RowFiles:
    """The files of a row.  Each is read when it is asked for, and kept."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet.

        Args:
            folder: TASK/SOLVER in a submission.
        """
        self.folder = folder

    def where(self, seed: int) -> str:
        """What messages call a seed."""
        return f"{self.folder}/seed-{seed}"

    @functools.cached_property
    def seeds(self) -> list[SeedRecord]:
        """What records.json says of seed 0, 1, ...

        Raises:
            ValueError: missing, damaged or too large.
        """
        path = self.folder / RECORDS_FILE
        return validated(Records, read_object(path, MAX_RECORDS_BYTES), path).seeds

    def record_name(self, seed: int) -> str:
        """What messages call the record of a seed."""
        return f"{self.folder / RECORDS_FILE}, seed {seed}"

    def result(self, seed: int) -> Result:
        """The record of a seed.

        Raises:
            ValueError: records.json is damaged, or the record is not valid.
        """
        return make_result(self.seeds[seed].record, self.record_name(seed))

    def curve(self, seed: int) -> str | None:
        """The text of a curve.csv, not checked; None if there is none."""
        lines = self.seeds[seed].curve
        return None if lines is None else "".join(f"{line}\n" for line in lines)

    @functools.cached_property
    def _arrays(self) -> Archive:
        path = self.folder / ARRAYS_FILE
        data = read_bytes(path, MAX_ARCHIVE_BYTES)
        limits = MAX_ARRAYS * len(self.seeds), MAX_ARRAYS_BYTES
        return open_archive(data, str(path), _ARRAY, *limits)

    @functools.cached_property
    def _policies(self) -> Archive | None:
        path = self.folder / POLICIES_FILE
        if not path.is_symlink() and not path.exists():
            return None
        data = read_bytes(path, MAX_ARCHIVE_BYTES)
        limits = MAX_POLICIES, MAX_POLICIES_BYTES
        return open_archive(data, str(path), _POLICY, *limits)

    @functools.cached_property
    def _array_names(self) -> dict[int, list[str]]:
        return self._names(self._arrays)

    @functools.cached_property
    def _policy_names(self) -> dict[int, list[str]]:
        return {} if self._policies is None else self._names(self._policies)

    def _names(self, archive: Archive) -> dict[int, list[str]]:
        """Seed -> what an archive has of it; every seed has a record."""
        names: dict[int, list[str]] = {}
        for entry in archive.entries:
            folder, _, name = entry.partition("/")
            seed = int(folder.removeprefix("seed-"))
            if seed >= len(self.seeds):
                raise ValueError(f"{archive.name}: {entry} is of no seed in {RECORDS_FILE}")
            names.setdefault(seed, []).append(name)
        return names

    def array_names(self, seed: int) -> list[str]:
        """Names of the arrays of a seed, sorted.

        Raises:
            ValueError: arrays.npz is damaged, or has what does not belong there.
        """
        return [name.removesuffix(".npy") for name in self._array_names.get(seed, [])]

    def policy_names(self, seed: int) -> list[str]:
        """File names of the policies of a seed, sorted; none if it has none.

        Raises:
            ValueError: policies.zip is damaged, or has what does not belong there.
        """
        return self._policy_names.get(seed, [])

    def array_bytes(self, seed: int, name: str, limit: int = MAX_ARCHIVE_BYTES) -> bytes:
        """An array of a seed as the bytes of its .npy file.

        Raises:
            ValueError: missing, damaged, or more than `limit` bytes.
        """
        entry = f"seed-{seed}/{name}.npy"
        if entry not in self._arrays.entries:
            raise ValueError(f"{self._arrays.name} has no seed-{seed}/{name}")
        return self._arrays.read(entry, limit)

    def array(self, seed: int, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """One array of a seed.

        Args:
            seed: the seed.
            name: of the array.
            shape: that it must have; None is any size up to `MAX_SIZE`.

        Raises:
            ValueError: missing, damaged, or not of this shape.
        """
        limit = 8 * math.prod(size or MAX_SIZE for size in shape) + MAX_HEADER_BYTES
        data = self.array_bytes(seed, name, limit)
        return parse_array(data, f"{name} in {self.where(seed)}", shape)

    def measured(self, seed: int, shapes: Shapes) -> dict[str, NDArray[Any]]:
        """The arrays of welfare.npz or returns.npz.

        Args:
            seed: the seed.
            shapes: name of each that may be there -> its shape; see `array`.

        Raises:
            ValueError: one is not expected, damaged, or of another shape.
        """
        names = [name for name in self.array_names(seed) if name != ASSIGNMENT]
        for name in names:
            if name not in shapes:
                raise ValueError(f"{self.where(seed)} has an array {name!r}, which is not expected")
        return {name: self.array(seed, name, tuple(shapes[name])) for name in names}

    def solution(self, seed: int) -> dict[str, bytes]:
        """File name -> bytes of what the folder of a saved solution has; empty if there is none.

        Raises:
            ValueError: an archive is damaged.
        """
        archive, names = self._policies, self.policy_names(seed)
        files = {}
        if archive is not None:
            files = {name: archive.read(f"seed-{seed}/{name}", MAX_GRAPH_BYTES) for name in names}
        if ASSIGNMENT in self.array_names(seed):
            files[f"{ASSIGNMENT}.npy"] = self.array_bytes(seed, ASSIGNMENT)
        return files

    def fingerprint(self, seed: int, solution: Mapping[str, bytes]) -> str:
        """Hash of the policies of a seed, or of its arrays if there are no policies.

        Args:
            seed: the seed.
            solution: from `solution`.

        Raises:
            ValueError: arrays.npz is damaged.
        """
        own = solution or {name: self.array_bytes(seed, name) for name in self.array_names(seed)}
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in own.items()}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def read_record(row: Row, files: RowFiles, seed: int) -> Result:
    """The record of a seed of a row, not compared with what is beside it.

    Raises:
        ValueError: records.json is damaged or has other seeds, or the record is not valid or of
            another run.
    """
    if len(files.seeds) != len(row.seeds):
        raise ValueError(
            f"{files.folder / RECORDS_FILE} has {len(files.seeds)} seeds, but submission.toml "
            f"lists {len(row.seeds)}"
        )
    name = files.record_name(seed)
    check_texts(files.seeds[seed].record, name)
    result = files.result(seed)
    place = {"task": row.task, "solver": row.solver, "seed": seed}
    for field, value in place.items():
        if getattr(result, field) != value:
            raise ValueError(f"{name}: {field} is {getattr(result, field)!r}, expected {value!r}")
    return result


def row_contents(
    seeds: list[SeedRecord],
    arrays: Mapping[str, bytes],
    policies: Mapping[str, bytes],
) -> dict[str, bytes]:
    """File name -> bytes of the files of a row; the same contents give the same bytes.

    Args:
        seeds: of seed 0, 1, ...
        arrays: seed-S/NAME.npy -> bytes.
        policies: seed-S/NAME.onnx -> bytes.
    """
    records = Records(schema_version=2, seeds=seeds).model_dump(mode="json")
    contents = {
        RECORDS_FILE: f"{format_json(records)}\n".encode(),
        ARRAYS_FILE: write_archive(arrays),
    }
    return contents | ({POLICIES_FILE: write_archive(policies)} if policies else {})


def format_json(value: Any, indent: int = 0, n_before: int = 0) -> str:
    """JSON of short lines: what fits on one is on one, numbers fill theirs.

    Args:
        value: dicts, lists and plain values.
        indent: of the line on which it begins.
        n_before: characters that stand on that line between the indent and the value.
    """
    text = json.dumps(value, allow_nan=False)
    if indent + n_before + len(text) < _WIDTH or not isinstance(value, dict | list) or not value:
        return text
    space = " " * (indent + 1)
    if isinstance(value, dict):
        keys = {key: f"{json.dumps(key)}: " for key in value}
        parts = [
            keys[key] + format_json(part, indent + 1, len(keys[key])) for key, part in value.items()
        ]
    elif all(isinstance(part, int | float | None) for part in value):
        parts = _filled(text[1:-1].split(", "), _WIDTH - indent - 2)
    else:
        parts = [format_json(part, indent + 1) for part in value]
    inner = f",\n{space}".join(parts)
    first, last = text[0], text[-1]
    return f"{first}\n{space}{inner}\n{' ' * indent}{last}"


def _filled(words: list[str], width: int) -> list[str]:
    """Words with commas between them, as many on each line as fit."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f", {word}"
        else:
            lines.append(word)
    return lines
