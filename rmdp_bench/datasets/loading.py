"""Loading a dataset for work."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import warnings
from pathlib import Path

import minari
from minari import MinariDataset

from rmdp_bench.datasets.building import building, check_installed, install, is_installed
from rmdp_bench.datasets.shipped import read_shipped
from rmdp_bench.datasets.storage import (
    HDF5_FILE,
    METADATA_FILE,
    DamagedDataset,
    FolderNotWritable,
    dataset_path,
    read_episodes,
    write_dataset,
)
from rmdp_bench.datasets.table import DatasetEntry, get_dataset
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, list_tasks


def load_dataset(dataset: str | Task) -> MinariDataset:
    """Load a dataset as `minari.load_dataset` does, if its content is what its metadata says.

    One that the package has is installed into Minari's folder first; where that cannot be written,
    a warning says so, and the dataset is read from a temporary folder, which goes with the process.

    Args:
        dataset: its id, or an offline task or its id.

    Raises:
        FileNotFoundError: it is not in Minari's folder; says which command builds it.
        ValueError: there is no such dataset or task, its files are damaged, the task has none, or
            Minari's folder cannot be used; says how to choose another.
    """
    tasks = {task.id: task for task in list_tasks()}
    if isinstance(dataset, str):
        dataset = tasks.get(dataset, dataset)
    if isinstance(dataset, OnlineTask):
        raise ValueError(f"the task {dataset.id} is an online one: it has no dataset")
    entry = get_dataset(dataset.dataset_id if isinstance(dataset, OfflineTask) else dataset)
    dataset_id = entry.id
    if entry.shipped:
        try:
            if not is_installed(dataset_id):
                with building(dataset_id):
                    install(entry, read_shipped(entry))
        except FolderNotWritable as error:
            warnings.warn(f"{error}; until then {dataset_id} is read anew", stacklevel=2)
            return MinariDataset(_unpack(entry) / "data")
    check_installed(dataset_id)
    try:
        _check_content(dataset_id)
    except DamagedDataset as error:
        raise ValueError(
            f"{error}; `rmdp-bench datasets build {dataset_id} --force` builds it again"
        ) from error
    loaded: MinariDataset = minari.load_dataset(dataset_id)
    return loaded


@functools.cache
def _unpack(entry: DatasetEntry) -> Path:
    """Write a dataset of the package into a folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="rmdp_bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_dataset(folder / "dataset", entry, read_shipped(entry))
    return folder / "dataset"


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
