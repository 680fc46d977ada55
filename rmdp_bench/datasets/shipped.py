"""Datasets that are in the package, so that a first look needs no build and no policies.

They are kept as compressed arrays, all episodes one after the other; in HDF5 they take ten times
the space.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench.datasets.collection import Episode
from rmdp_bench.datasets.content import arrays_of
from rmdp_bench.datasets.table import DatasetEntry
from rmdp_bench.files import write_bytes

_PER_STATE = ("observations", "infos/")
"""Beginnings of the names of arrays that have a value for the reset too."""


def shipped_path(entry: DatasetEntry) -> Path:
    """The file of a dataset, whether it is in the package or not."""
    return Path(str(files("rmdp_bench"))) / "data" / "datasets" / f"{entry.id}.npz"


def write_shipped(entry: DatasetEntry, episodes: Sequence[Episode]) -> None:
    """Write a dataset into the package."""
    all_arrays = [dict(arrays_of(episode)) for episode in episodes]
    metadata = json.dumps([dict(episode.metadata) for episode in episodes])
    columns: dict[str, Any] = {
        "n_steps": np.array([episode.n_steps for episode in episodes]),
        "metadata": np.frombuffer(metadata.encode(), np.uint8),
    }
    for name in all_arrays[0]:
        columns[name] = np.concatenate([arrays[name] for arrays in all_arrays])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    shipped_path(entry).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(shipped_path(entry), buffer.getvalue())


def read_shipped(entry: DatasetEntry) -> list[Episode]:
    """Read a dataset from the package."""
    with np.load(shipped_path(entry), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    ends = np.cumsum(arrays.pop("n_steps"))[:-1]
    all_metadata = json.loads(arrays.pop("metadata").tobytes())
    parts = {}
    for name, values in arrays.items():
        extra = np.arange(1, len(ends) + 1) if name.startswith(_PER_STATE) else 0
        parts[name] = np.split(values, ends + extra)
    return [
        Episode(
            **{name: parts[name][number] for name in parts if "/" not in name},
            infos={
                name.removeprefix("infos/"): parts[name][number] for name in parts if "/" in name
            },
            metadata=metadata,
        )
        for number, metadata in enumerate(all_metadata)
    ]
