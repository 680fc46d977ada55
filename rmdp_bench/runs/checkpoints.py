"""Checkpoints: what a killed run continues from.

    seed-S/checkpoint/<number>.npz          array/NAME ...   the solver's arrays of this seed
                                            state            JSON (UTF-8 bytes): the solver's state,
                                                             the curve so far, the clocks, the
                                                             names and shapes of the arrays

Arrays and JSON only, nothing that runs code when it is read. When several seeds train as one
batch, every seed has its own file; the file before is removed only when all seeds have the new one,
so that a kill in between leaves them one in common.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.files import replacing

_ARRAY = "array/"
_STATE = "state"
_SHAPES = "shapes"
CHECKPOINT_SECONDS = 180.0


@dataclass(frozen=True)
class Checkpoint:
    """One seed's part of a checkpoint: arrays, and a state that is JSON."""

    arrays: dict[str, NDArray[Any]]
    state: dict[str, Any]


class Checkpoints:
    """Those of seeds that train together: when another is due, saving and loading."""

    def __init__(self, directories: Sequence[Path], resume_at: int | None, seconds: float) -> None:
        """Begin to wait for the first.

        Args:
            directories: of the seeds; none: nothing is written.
            resume_at: number of the checkpoint that all seeds have; None: from the start.
            seconds: from one to the next.
        """
        self._directories = directories
        self._resume_at = resume_at
        self._seconds = seconds
        self._n_saved = resume_at or 0
        self._last = time.perf_counter()

    @property
    def source(self) -> Path | None:
        """The first seed's file of those that the run goes on from; None where it starts."""
        if self._resume_at is None or not self._directories:
            return None
        return checkpoint_path(self._directories[0], self._resume_at)

    def is_due(self) -> bool:
        """Whether so much time has passed since the last one."""
        return time.perf_counter() - self._last >= self._seconds

    def save(self, arrays: Mapping[str, NDArray[Any]], states: Sequence[dict[str, Any]]) -> None:
        """Save another one; atomic for each seed.

        Args:
            arrays: name -> array with the seeds as leading axis.
            states: one per seed, JSON.

        Raises:
            ValueError: arrays of another form.
        """
        parts = split_arrays(arrays, len(states))
        if self._directories:
            self._n_saved += 1
            checkpoints = list(map(Checkpoint, parts, states))
            write_checkpoints(self._directories, self._n_saved, checkpoints)
        self._last = time.perf_counter()

    def load(self) -> list[Checkpoint] | None:
        """What the run goes on from, one per seed; None where it starts.

        Raises:
            ValueError: as `read_checkpoint`.
        """
        if self._resume_at is None or not self._directories:
            return None
        return [read_checkpoint(directory, self._resume_at) for directory in self._directories]


def write_checkpoints(
    directories: Sequence[Path], number: int, checkpoints: Sequence[Checkpoint]
) -> None:
    """Write one checkpoint per seed directory, then remove those before."""
    for directory, checkpoint in zip(directories, checkpoints, strict=True):
        folder = directory / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {_ARRAY + name: array for name, array in checkpoint.arrays.items()}
        shapes = {name: array.shape for name, array in checkpoint.arrays.items()}
        state = json.dumps({**checkpoint.state, _SHAPES: shapes})
        arrays[_STATE] = np.frombuffer(state.encode(), np.uint8)
        with replacing(folder / f"{number}.npz") as file:
            np.savez(file, allow_pickle=False, **arrays)
    for directory in directories:
        for other in list_checkpoints(directory) - {number}:
            (directory / "checkpoint" / f"{other}.npz").unlink()


def read_checkpoint(directory: Path, number: int) -> Checkpoint:
    """Read one seed's checkpoint.

    Raises:
        ValueError: it is missing or damaged, or lacks an array or has one of another shape than
            was written.
    """
    path = checkpoint_path(directory, number)
    try:
        with np.load(path, allow_pickle=False) as archive:
            state = json.loads(archive[_STATE].tobytes())
            names = [name for name in archive.files if name.startswith(_ARRAY)]
            arrays = {name.removeprefix(_ARRAY): archive[name] for name in names}
        if not isinstance(state, dict):
            raise ValueError(f"its state is a {type(state).__name__}")
        written = state.pop(_SHAPES, None)  # which checkpoints before them lack
        found = {name: list(array.shape) for name, array in arrays.items()}
        if written is not None and written != found:
            name = next(n for n in {**written, **found} if written.get(n) != found.get(n))
            raise ValueError(
                f"array {name!r} has shape {found.get(name)}, expected {written.get(name)}"
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path} ({error}); delete it to start this seed") from error
    return Checkpoint(arrays, state)


def checkpoint_path(directory: Path, number: int) -> Path:
    """The file of one seed's checkpoint."""
    return directory / "checkpoint" / f"{number}.npz"


def list_checkpoints(directory: Path) -> set[int]:
    """Numbers of the checkpoints in a seed directory; the newest has the greatest."""
    stems = (path.stem for path in (directory / "checkpoint").glob("*.npz"))
    return {int(stem) for stem in stems if stem.isdecimal()}


def group_by_checkpoint(directories: Mapping[int, Path]) -> list[tuple[list[int], int | None]]:
    """Split seeds into groups that can train as one batch.

    Args:
        directories: seed -> its directory.

    Returns:
        (seeds, number of the newest checkpoint they all have; None to start) per group.
    """
    groups: list[tuple[list[int], set[int]]] = []
    for seed, directory in directories.items():
        own = list_checkpoints(directory)
        for position, (seeds, common) in enumerate(groups):
            if own == common or own & common:
                groups[position] = ([*seeds, seed], own & common)
                break
        else:
            groups.append(([seed], own))
    return [(seeds, max(common, default=None)) for seeds, common in groups]


def stack_arrays(checkpoints: Sequence[Checkpoint]) -> dict[str, NDArray[Any]]:
    """Arrays of several seeds, with the seeds as leading axis."""
    names = checkpoints[0].arrays
    return {name: np.stack([c.arrays[name] for c in checkpoints]) for name in names}


def split_arrays(arrays: Mapping[str, NDArray[Any]], n_seeds: int) -> list[dict[str, NDArray[Any]]]:
    """The reverse of `stack_arrays`.

    Raises:
        ValueError: an array has another leading axis or holds Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"checkpoint array {name!r} holds Python objects, expected numbers")
        if array.ndim < 1 or len(array) != n_seeds:
            raise ValueError(
                f"checkpoint array {name!r} has shape {array.shape}, expected the {n_seeds} seeds "
                f"as its first axis"
            )
    return [{name: array[r] for name, array in arrays.items()} for r in range(n_seeds)]
