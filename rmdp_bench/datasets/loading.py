"""Loading a dataset for work."""

from __future__ import annotations

import functools
from pathlib import Path

import minari
from minari import MinariDataset

from rmdp_bench.datasets.building import building, check_installed, install, is_installed
from rmdp_bench.datasets.shipped import read_shipped
from rmdp_bench.datasets.storage import (
    HDF5_FILE,
    METADATA_FILE,
    DamagedDataset,
    dataset_path,
    read_episodes,
)
from rmdp_bench.datasets.table import get_dataset
from rmdp_bench.tasks import Task


def load_dataset(dataset: str | Task) -> MinariDataset:
    """Load a dataset as `minari.load_dataset` does, if its content is what its metadata says.

    One that the package has is installed into Minari's folder first.

    Args:
        dataset: its id, or an offline task.

    Raises:
        FileNotFoundError: it is not in Minari's folder; says which command builds it.
        ValueError: there is no such dataset, its files are damaged, or the task has none.
    """
    if isinstance(dataset, Task):
        if dataset.dataset_id is None:
            raise ValueError(f"the task {dataset.id} is an online one: it has no dataset")
        dataset = dataset.dataset_id
    entry = get_dataset(dataset)
    dataset_id = entry.id
    if entry.shipped and not is_installed(dataset_id):
        with building(dataset_id):
            install(entry, read_shipped(entry))
    check_installed(dataset_id)
    try:
        _check_content(dataset_id)
    except DamagedDataset as error:
        raise ValueError(
            f"{error}; `rmdp-bench datasets build {dataset_id} --force` builds it again"
        ) from error
    loaded: MinariDataset = minari.load_dataset(dataset_id)
    return loaded


def _check_content(dataset_id: str) -> None:
    """Read it all, which takes seconds, once for a file that stays as it is.

    Raises:
        DamagedDataset: the files are missing, damaged, or not of this dataset.
    """
    folder = dataset_path(dataset_id).resolve()
    stamps: list[int] = []
    for path in (folder / "data" / name for name in (METADATA_FILE, HDF5_FILE)):
        if path.exists():
            about = path.stat()
            stamps += [about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
    _check_file(dataset_id, folder, tuple(stamps))


@functools.lru_cache(maxsize=32)
def _check_file(dataset_id: str, folder: Path, stamps: tuple[int, ...]) -> None:
    del stamps  # another file is another key
    read_episodes(dataset_id, folder)
