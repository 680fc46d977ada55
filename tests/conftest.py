"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# Before torch is imported, and for the processes that tests start. Threads of OpenMP wait for each
# other after every small tensor: on a machine with other work this took 20 times as long.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # which writes to the user's folders

import pytest

from rmdp_bench.datasets import loading, storage
from rmdp_bench.datasets.collection import Episode
from rmdp_bench.datasets.table import DatasetEntry
from tests.helpers.submission_toys import make_submission

ARITHMETIC = "pytest.mark.arithmetic"
"""How a file marks tests whose results depend on how the processor rounds."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m arithmetic`, files without the mark need not be imported: most have none."""
    if config.option.markexpr != "arithmetic" or not collection_path.match("test_*.py"):
        return None
    return True if ARITHMETIC not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(scope="session", autouse=True)
def _datasets_of_shared_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Those of whole modules come before each test's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        yield


@pytest.fixture(autouse=True)
def _write_under_tmp_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative paths and Minari's datasets go to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Id of a data set -> where this process has written it."""
    return {}


@pytest.fixture(autouse=True)
def _packaged_data_are_written_once(
    _written: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """To write and check a packaged data set takes seconds, and every test has a folder of its own.

    Tests of the data sets themselves do without.
    """

    def link(entry: DatasetEntry, episodes: Sequence[Episode]) -> None:
        if entry.id not in _written:
            folder = tmp_path_factory.mktemp("written") / "dataset"
            storage.write_dataset(folder, entry, episodes)
            _written[entry.id] = folder
        storage.write_namespaces(entry.id)
        storage.dataset_path(entry.id).symlink_to(_written[entry.id], target_is_directory=True)

    monkeypatch.setattr(loading, "install", link)


@pytest.fixture(scope="session")
def honest_submission(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed submission of two seeds; not to be changed."""
    return make_submission(tmp_path_factory.mktemp("honest"))
