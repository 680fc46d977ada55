"""Building and verifying: whole or not at all, and never silently different."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from minari.dataset.minari_storage import MinariStorage

from rmdp_bench.cli import main
from rmdp_bench.datasets import (
    DATASETS,
    DatasetEntry,
    build_datasets,
    find_record,
    get_dataset,
    is_installed,
    load_dataset,
    verify_dataset,
)
from rmdp_bench.datasets.building import building
from rmdp_bench.datasets.content import content_hash, summarise
from rmdp_bench.datasets.storage import dataset_path, datasets_root, read_episodes
from tests.helpers.checkout import ROOT
from tests.helpers.commands import command, contents
from tests.helpers.dataset_toys import CART_POLE, ENTRIES, HOPPER, cart_pole_entry, small

HDF5 = Path("data") / "main_data.hdf5"
METADATA = Path("data") / "metadata.json"


@pytest.fixture
def built() -> DatasetEntry:
    """A small dataset in Minari's folder, beside another one."""
    entry = small(get_dataset(CART_POLE))
    build_datasets([entry, small(get_dataset(HOPPER))])
    return entry


def recorded(entry: DatasetEntry, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the repository's record be that of what is in Minari's folder."""
    episodes = read_episodes(entry.id, dataset_path(entry.id))
    original = find_record(entry.id)
    assert original is not None
    fields: dict[str, Any] = {
        "content_hash": content_hash(episodes),
        "n_episodes": len(episodes),
        "statistics": summarise(episodes),
    }
    record = dataclasses.replace(original, **(fields | changes))
    monkeypatch.setattr("rmdp_bench.datasets.building.find_record", lambda dataset_id: record)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.id} {entry.epsilon}")
def test_a_second_build_is_identical(entry: DatasetEntry) -> None:
    """Every byte of every file, not only the content."""
    build_datasets([entry])
    first = contents(datasets_root())
    assert len([name for name in first if name.startswith("rmdp")]) >= 5
    (again,) = build_datasets([entry])
    assert not again.built
    assert contents(datasets_root()) == first
    (forced,) = build_datasets([entry], force=True)
    assert forced.built
    assert contents(datasets_root()) == first


def test_the_number_of_workers_does_not_matter() -> None:
    entries = [cart_pole_entry(0.2), *(small(entry) for entry in DATASETS[-2:])]
    seen: dict[str, float] = {}
    build_datasets(entries, report=lambda dataset_id, share: seen.update({dataset_id: share}))
    assert seen == {entry.id: 1.0 for entry in entries}
    first = contents(datasets_root())
    shutil.rmtree(datasets_root())
    seen.clear()
    results = build_datasets(
        entries, workers=2, report=lambda dataset_id, share: seen.update({dataset_id: share})
    )
    assert [result.id for result in results] == [entry.id for entry in entries]
    assert seen == {entry.id: 1.0 for entry in entries}
    assert contents(datasets_root()) == first


def test_wrong_number_of_workers() -> None:
    with pytest.raises(ValueError, match="the number of workers is 0"):
        build_datasets([get_dataset(CART_POLE)], workers=0)


KILLED = """
import time
from minari.dataset.minari_storage import MinariStorage
import rmdp_bench.datasets.storage
from rmdp_bench.cli import main

write = rmdp_bench.datasets.storage.MinariStorage.update_metadata
def hang(self, metadata):
    write(self, metadata)
    print("half made", flush=True)
    time.sleep(60)
rmdp_bench.datasets.storage.MinariStorage.update_metadata = hang
main(["datasets", "build", "{id}", *{more}])
"""


@pytest.mark.parametrize("force", [False, True])
def test_a_killed_build_leaves_nothing_half_made(force: bool, built: DatasetEntry) -> None:
    if not force:
        shutil.rmtree(dataset_path(CART_POLE))
    before = contents(datasets_root())
    code = KILLED.format(id=CART_POLE, more=["--force"] if force else [])
    process = command([], code=code)
    assert process.stdout is not None
    assert process.stdout.readline() == "half made\n"
    with pytest.raises(ValueError, match=f"{CART_POLE} is being built by another process"):
        build_datasets([built], force=True)
    process.kill()
    process.communicate()
    after = contents(datasets_root())
    assert {name: after[name] for name in before} == before
    assert all(".building-random-v0" in name for name in after.keys() - before.keys())
    assert is_installed(CART_POLE) == force
    assert HOPPER in minari.list_local_datasets()
    assert (CART_POLE in minari.list_local_datasets()) == force
    build_datasets([built], force=True)
    assert not [name for name in contents(datasets_root()) if "building" in name]
    assert load_dataset(CART_POLE).total_episodes == 4


def test_an_interrupted_build_leaves_nothing(built: DatasetEntry) -> None:
    before = contents(datasets_root())

    def interrupt(dataset_id: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_datasets([built], force=True, report=interrupt)
    others = [small(entry) for entry in DATASETS[-3:]]
    with pytest.raises(KeyboardInterrupt):
        build_datasets(others, force=True, workers=2, report=interrupt)
    after = contents(datasets_root())
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if "building" in name]


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk(
    force: bool,
    built: DatasetEntry,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if not force:
        shutil.rmtree(datasets_root())
    before = contents(datasets_root().parent)
    write = MinariStorage.update_metadata

    def fail(self: Any, metadata: dict[str, Any]) -> None:
        write(self, metadata)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MinariStorage, "update_metadata", fail)
    assert main(["datasets", "build", CART_POLE, *(["--force"] if force else [])]) == 3
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2  # it was collected, and then
    assert lines[1].startswith(f"rmdp-bench: error: cannot write {CART_POLE} to ")
    assert lines[1].endswith("No space left on device; nothing was changed")
    assert contents(datasets_root().parent) == before


def test_a_disk_that_cannot_hold_the_files(built: DatasetEntry) -> None:
    """No simulation: the system refuses to let a file grow beyond 200 kB."""
    before = contents(datasets_root())
    code = (
        "import resource, signal, sys\n"
        "from rmdp_bench.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        f"sys.exit(main(['datasets', 'build', '{CART_POLE}', '--force']))"
    )
    process = command([], code=code)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 2
    assert len(error.splitlines()) == 2
    message = error.splitlines()[1]
    assert message.startswith(f"rmdp-bench: error: cannot write {CART_POLE} to ")
    assert "File too large: up to " in message
    assert contents(datasets_root()) == before


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.id} {entry.epsilon}")
def test_the_space_that_is_checked_is_enough(
    entry: DatasetEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr("os.posix_fallocate", lambda file, start, size: taken.append(size))
    build_datasets([entry])
    folder = dataset_path(entry.id)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= taken[0]


def test_a_worker_that_dies(built: DatasetEntry) -> None:
    before = contents(datasets_root())
    entries = [dataclasses.replace(built, load_policies=_die), small(get_dataset(HOPPER))]
    with pytest.raises(ValueError, match="the same command builds what is missing"):
        build_datasets(entries, force=True, workers=2)
    after = contents(datasets_root())
    assert {name: after[name] for name in before} == before
    build_datasets([built], force=True)
    assert contents(datasets_root() / "rmdp/cartpole-het") == {
        name.removeprefix("rmdp/cartpole-het/"): content
        for name, content in before.items()
        if name.startswith("rmdp/cartpole-het/")
    }


def _die() -> list[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_two_builds_at_once(built: DatasetEntry, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(datasets_root())
    with building(CART_POLE):
        assert main(["datasets", "build", CART_POLE, "--force"]) == 2
        error = capfd.readouterr().err
        assert f"{CART_POLE} is being built by another process" in error
        assert len(error.splitlines()) == 1
        entries = [built, small(get_dataset(HOPPER))]
        with pytest.raises(ValueError, match=f"{CART_POLE} is being built"):
            build_datasets(entries, force=True, workers=2)
    assert contents(datasets_root()) == before


def truncate(folder: Path) -> None:
    data = (folder / HDF5).read_bytes()
    (folder / HDF5).write_bytes(data[: len(data) // 2])


def change_value(folder: Path) -> None:
    with h5py.File(folder / HDF5, "a") as file:
        file["episode_2/observations"][1, 0] += 1e-3


def change_seed(folder: Path) -> None:
    with h5py.File(folder / HDF5, "a") as file:
        file["episode_2"].attrs["seed"] = 7


def drop_episode(folder: Path) -> None:
    with h5py.File(folder / HDF5, "a") as file:
        del file["episode_3"]


def drop_array(folder: Path) -> None:
    with h5py.File(folder / HDF5, "a") as file:
        del file["episode_3/rewards"]


def overwrite_groups(folder: Path) -> None:
    with (folder / HDF5).open("r+b") as file:
        file.seek(1000)
        file.write(bytes(range(250)) * 16)


def foreign_file(folder: Path) -> None:
    """Somebody's data, with as many entries."""
    with h5py.File(folder / HDF5, "w") as file:
        for name in "abcd":
            file[name] = np.arange(3)


def foreign_dataset(folder: Path) -> None:
    shutil.copytree(dataset_path(HOPPER), folder, dirs_exist_ok=True)


def change_metadata(name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        metadata = json.loads((folder / METADATA).read_text())
        (folder / METADATA).write_text(json.dumps(metadata | {name: value}))

    return change


SEEN_AT_ONCE: list[tuple[Callable[[Path], object], str]] = [
    (truncate, "cannot read .*main_data.hdf5: .*truncated"),
    (lambda folder: (folder / HDF5).write_bytes(b"not HDF5" * 1000), "main_data.hdf5: .*signature"),
    (lambda folder: (folder / HDF5).write_bytes(b""), "cannot read .*main_data.hdf5"),
    (lambda folder: (folder / HDF5).unlink(), "cannot read .*main_data.hdf5: .*No such file"),
    (overwrite_groups, "cannot read .*main_data.hdf5"),
    (drop_episode, "has 3 episodes, its metadata says 4"),
    (foreign_dataset, f"holds the dataset '{HOPPER}'"),
    (lambda folder: (folder / METADATA).write_text("{"), "cannot read .*metadata.json"),
    (lambda folder: (folder / METADATA).write_text("[]"), "expected a JSON object"),
    (lambda folder: (folder / METADATA).unlink(), "cannot read .*metadata.json"),
]
SEEN_BY_VERIFY: list[tuple[Callable[[Path], object], str]] = [
    (change_value, "is not what its metadata says"),
    (change_seed, "is not what its metadata says"),
    (drop_array, "cannot read .*main_data.hdf5: .*rewards"),
    (foreign_file, "cannot read .*main_data.hdf5: .*episode_0"),
    (change_metadata("content_hash", None), "is not what its metadata says"),
    (change_metadata("action_space", "{}"), "cannot read .*main_data.hdf5"),
    (change_metadata("data_format", "csv"), "cannot read .*main_data.hdf5"),
]


@pytest.mark.parametrize(("damage", "message"), [*SEEN_AT_ONCE, *SEEN_BY_VERIFY])
def test_damaged_files(
    damage: Callable[[Path], object],
    message: str,
    built: DatasetEntry,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded(built, monkeypatch)
    whole = contents(datasets_root())
    damage(dataset_path(CART_POLE))
    damaged = contents(datasets_root())
    result = verify_dataset(built)
    assert result.status == "damaged"
    assert result.reason is not None
    pytest.raises(ValueError, _raise, result.reason).match(message)
    assert main(["datasets", "verify", CART_POLE]) == 1
    output = capfd.readouterr()
    assert "damaged" in output.out and output.err == ""
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(CART_POLE)
    assert f"`rmdp-bench datasets build {CART_POLE} --force`" in str(error.value)
    if (damage, message) in SEEN_AT_ONCE:
        with pytest.raises(ValueError, match="--force` builds it again"):
            build_datasets([built])
    assert contents(datasets_root()) == damaged
    build_datasets([built], force=True)
    assert contents(datasets_root()) == whole
    assert verify_dataset(built).status == "identical"


def _raise(reason: str) -> None:
    raise ValueError(reason)


def test_a_different_dataset_is_never_silent(
    built: DatasetEntry, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor that rounds differently: another hash, statistics a little apart."""
    recorded(built, monkeypatch)
    assert verify_dataset(built).status == "identical"
    statistics = summarise(read_episodes(CART_POLE, dataset_path(CART_POLE)))
    statistics["rewards"]["mean"] += 0.25
    recorded(built, monkeypatch, content_hash="another", statistics=statistics)
    result = verify_dataset(built)
    assert result.status == "different"
    assert result.from_rebuild is not None and result.from_rebuild.where == ""
    assert result.from_record is not None
    assert result.from_record.size == pytest.approx(0.25)
    assert "the mean of rewards is 1 instead of 1.25" in result.from_record.where
    monkeypatch.setattr("rmdp_bench.datasets.get_dataset", lambda dataset_id: built)
    assert main(["datasets", "verify", CART_POLE, "--json"]) == 1
    (row,) = json.loads(capfd.readouterr().out)
    assert row["from_record"]["size"] == pytest.approx(0.25)
    assert row["from_rebuild"] == {"size": 0.0, "where": ""}
    assert main(["datasets", "build", CART_POLE, "--force"]) == 0
    output = capfd.readouterr()
    assert f"warning: {CART_POLE} is different from the repository's" in output.err
    assert "instead of 1.25" in output.err
    assert "different" in output.out


def test_a_dataset_from_elsewhere_is_compared_with_a_build_here(built: DatasetEntry) -> None:
    """It is whole, but of another size than the row says."""
    result = verify_dataset(get_dataset(CART_POLE))
    assert result.status == "different"
    for deviation in (result.from_record, result.from_rebuild):
        assert deviation is not None
        assert deviation.where == "there are 4 episodes instead of 500"


def test_without_a_record(
    built: DatasetEntry, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in ("rmdp_bench.datasets", "rmdp_bench.datasets.building"):
        monkeypatch.setattr(f"{module}.find_record", lambda dataset_id: None)
    assert main(["datasets", "info", CART_POLE]) == 2
    assert "scripts/record_datasets.py records it" in capfd.readouterr().err
    result = verify_dataset(built)
    assert (result.status, result.from_record) == ("different", None)
    assert not build_datasets([built], force=True)[0].identical


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "below"))
    yield


def test_a_folder_that_cannot_be_made(unwritable: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "build", CART_POLE]) == 2
    error = capfd.readouterr().err
    assert error.startswith("rmdp-bench: error: cannot write to ")
    assert "is not a folder" in error


def test_minaris_folder_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))
    for arguments in (["build", CART_POLE], ["verify"], ["info"]):
        assert main(["datasets", *arguments]) == 2
        assert "is a file; set MINARI_DATASETS_PATH to a folder" in capfd.readouterr().err


def test_the_commands(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "verify"]) == 2
    assert "`rmdp-bench datasets build --all` builds all" in capfd.readouterr().err
    assert main(["datasets", "build", CART_POLE, "--json"]) == 0
    output = capfd.readouterr()
    (row,) = json.loads(output.out)
    assert row["built"] is True
    assert output.err.splitlines()[0] == f"{CART_POLE}: collected"
    assert main(["datasets", "build", CART_POLE]) == 0
    assert "was there" in capfd.readouterr().out
    code = main(["datasets", "verify"])
    assert code == (0 if row["identical"] else 1)
    assert ("identical" if row["identical"] else "different") in capfd.readouterr().out
    assert main(["datasets", "info", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capfd.readouterr().out)}
    assert list(rows) == [entry.id for entry in DATASETS]
    assert [id for id, row in rows.items() if row["installed"]] == [CART_POLE]
    for entry in DATASETS:
        row = rows[entry.id]
        assert row["env_id"] == entry.env_id
        assert row["n_steps"] > 0
        assert row["reference_scores"]["minimum_is"]
    assert main(["datasets", "info"]) == 0
    table = capfd.readouterr().out
    assert all(entry.id in table for entry in DATASETS)
    assert main(["datasets", "info", HOPPER, "--markdown"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(f"| `{HOPPER}` | ")
    assert len({line.count("|") for line in lines}) == 1


def test_plot(built: DatasetEntry, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", CART_POLE, HOPPER, "--out", "figures"]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed == [
        "figures/dataset-rmdp-cartpole-het-random-v0.png",
        "figures/dataset-rmdp-hopper-vel-n100-random-v0.png",
    ]
    assert sorted(map(str, Path("figures").iterdir())) == printed
    truncate(dataset_path(HOPPER))
    assert main(["plot", CART_POLE, HOPPER, "--out", "others"]) == 2
    assert "main_data.hdf5" in capfd.readouterr().err
    assert not Path("others").exists()


def test_progress_in_a_terminal() -> None:
    """A bar for each dataset."""
    import pty

    reader, writer = pty.openpty()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)]),
        "COLUMNS": "100",
        "TERM": "xterm",
    }
    code = "import sys; from rmdp_bench.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "datasets", "build", CART_POLE],
        env=environment,
        stderr=writer,
        stdout=subprocess.DEVNULL,
    )
    os.close(writer)
    text = b""
    try:
        while part := os.read(reader, 4096):
            text += part
    except OSError:  # Linux's way to say that the other side was closed
        pass
    assert process.wait(timeout=600) == 0
    assert CART_POLE.encode() in text and b"100%" in text
