"""Building datasets into Minari's folder, and verifying those that are there.

A dataset is written into a hidden folder beside its place and renamed when it is complete:

    ROOT/rmdp/cartpole-het/.building-random-v0/     locked while somebody builds it

A build that is killed leaves this folder behind, which the next one empties; its lock is free.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

from rmdp_bench.cores import VARIABLE, usable_cores
from rmdp_bench.datasets.collection import Episode, Report, collect
from rmdp_bench.datasets.content import (
    Deviation,
    compare_episodes,
    compare_statistics,
    content_hash,
    summarise,
)
from rmdp_bench.datasets.records import find_record, reference_scores
from rmdp_bench.datasets.storage import (
    SET_FOLDER,
    DamagedDataset,
    FolderNotWritable,
    check_writable,
    dataset_path,
    read_episodes,
    read_metadata,
    write_dataset,
    write_namespaces,
)
from rmdp_bench.datasets.table import DatasetEntry
from rmdp_bench.files import locked

SHARE_STEP = 0.01
"""Least progress that a worker reports."""


@dataclass(frozen=True)
class BuildResult:
    """What `build_datasets` did.

    Attributes:
        id: of the dataset.
        built: False: it was there already, and was left as it is.
        identical: whether its content is that of the repository's record.
        deviation: of its statistics from the record's; None where identical, not recorded or not
            built now (`verify_dataset` tells then).
    """

    id: str
    built: bool
    identical: bool
    deviation: Deviation | None


@dataclass(frozen=True)
class Verification:
    """What `verify_dataset` found.

    Attributes:
        id: of the dataset.
        status: "identical" to the repository's record; "different" from it, but whole;
            "damaged".
        reason: what is damaged; None otherwise.
        from_record: where different, how far its statistics are from the record's; None where there
            is no record.
        from_rebuild: where different, how far its values are from those of a build on this machine.
    """

    id: str
    status: str
    reason: str | None = None
    from_record: Deviation | None = None
    from_rebuild: Deviation | None = None


def build_datasets(
    entries: Sequence[DatasetEntry],
    *,
    force: bool = False,
    workers: int = 1,
    report: Callable[[str, float], None] | None = None,
) -> list[BuildResult]:
    """Build datasets into Minari's folder, each whole or not at all.

    Args:
        entries: which.
        force: build those again that are there already; they stay until the new ones are complete.
        workers: processes that build, one dataset each; with more than one, a script needs
            `if __name__ == "__main__":` around its call, as for all of Python's processes.
        report: told id and share (0 to 1) of what is being built.

    Returns:
        One result per entry.

    Raises:
        ValueError: a dataset is there but damaged, another process builds one, or it cannot be
            written, as on a full disk. All others are either as before or complete.
    """
    if workers < 1:
        raise ValueError(f"the number of workers is {workers}, expected at least 1")
    report = report or (lambda dataset_id, share: None)
    if min(workers, len(entries)) <= 1:
        return [_build(entry, force, partial(report, entry.id)) for entry in entries]
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(entries))
    cores = max(1, usable_cores() // workers)
    with contextlib.ExitStack() as stack:
        with _signals_blocked():  # the processes inherit it, until they are prepared for signals
            messages: Any = context.Queue()
            stop = context.Event()
            executor = ProcessPoolExecutor(workers, context, _start_worker, (messages, stop, cores))
            stack.enter_context(executor)
            futures = [executor.submit(_build_in_worker, entry, force) for entry in entries]
        try:
            for dataset_id, share in _messages_until_done(messages, futures):
                report(dataset_id, share)
            return [future.result() for future in futures]
        except BaseException as error:  # an interrupt too: the others shall not go on alone
            stop.set()
            executor.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool | _Stopped):
                raise ValueError(
                    "a process that built a dataset has died; the same command builds what is "
                    "missing"
                ) from error
            raise


def verify_dataset(entry: DatasetEntry) -> Verification:
    """Say whether a dataset in Minari's folder is the repository's.

    One that is different is built again in memory, to tell how far it is from what this machine
    gives.

    Raises:
        FileNotFoundError: it is not there.
    """
    check_installed(entry.id)
    try:
        episodes = read_episodes(entry.id, dataset_path(entry.id))
    except DamagedDataset as error:
        return Verification(entry.id, "damaged", str(error))
    record = find_record(entry.id)
    if record is not None and record.content_hash == content_hash(episodes):
        return Verification(entry.id, "identical")
    return Verification(
        entry.id,
        "different",
        from_record=_deviation_from_record(entry.id, episodes),
        from_rebuild=compare_episodes(episodes, collect(entry)),
    )


def check_installed(dataset_id: str) -> None:
    """Check that a dataset is in Minari's folder.

    Raises:
        FileNotFoundError: it is not; says how to build it.
    """
    if not is_installed(dataset_id):
        raise FileNotFoundError(
            f"{dataset_id} is not in {dataset_path(dataset_id)}; "
            f"`rmdp-bench datasets build {dataset_id}` builds it"
        )


def is_installed(dataset_id: str) -> bool:
    """Whether Minari would find it."""
    return os.path.exists(dataset_path(dataset_id) / "data")  # False too where one may not look


def install(entry: DatasetEntry, episodes: Sequence[Episode]) -> None:
    """Write episodes to the dataset's place, which must be locked; what was there goes."""
    place = dataset_path(entry.id)
    scratch = _scratch(entry.id)
    try:
        write_dataset(scratch / "new", entry, episodes)
        write_namespaces(entry.id)
        if place.exists():
            place.rename(scratch / "old")
        (scratch / "new").rename(place)
    except (OSError, RuntimeError) as error:  # h5py raises either
        reason = getattr(error, "strerror", None) or str(error)
        raise FolderNotWritable(
            f"cannot write {entry.id} to {place}: {reason}; nothing was changed"
        ) from error


@contextlib.contextmanager
def building(dataset_id: str) -> Iterator[None]:
    """Hold the place of a dataset, with an empty folder to write it into.

    Raises:
        FolderNotWritable: the folder cannot be made, or cannot be locked.
        ValueError: another process builds it.
    """
    scratch = _scratch(dataset_id)
    check_writable(scratch.parent)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(scratch, f"{dataset_id} is being built by another process"))
        except ValueError as error:
            if isinstance(error.__cause__, BlockingIOError):  # somebody holds it
                raise
            raise FolderNotWritable(f"{error}; {SET_FOLDER}") from error
        _empty(scratch)  # of a build that was killed
        try:
            yield
        finally:
            _empty(scratch)
    with contextlib.suppress(OSError):  # it was left by a killed build, or the lock made it
        scratch.rmdir()


def _build(entry: DatasetEntry, force: bool, report: Report) -> BuildResult:
    reference_scores(entry.env_id)  # before the work, not after it
    record = find_record(entry.id)
    with building(entry.id):
        if is_installed(entry.id) and not force:
            try:
                metadata = read_metadata(entry.id, dataset_path(entry.id))
            except DamagedDataset as error:
                raise ValueError(
                    f"{error}; `rmdp-bench datasets build {entry.id} --force` builds it again"
                ) from error
            same = record is not None and metadata.get("content_hash") == record.content_hash
            return BuildResult(entry.id, False, same, None)
        episodes = collect(entry, report=report)
        install(entry, episodes)
    if record is not None and record.content_hash == content_hash(episodes):
        return BuildResult(entry.id, True, True, None)
    return BuildResult(entry.id, True, False, _deviation_from_record(entry.id, episodes))


def _deviation_from_record(dataset_id: str, episodes: Sequence[Episode]) -> Deviation | None:
    record = find_record(dataset_id)
    if record is None:
        return None
    if len(episodes) != record.n_episodes:
        sizes = f"{len(episodes)} episodes instead of {record.n_episodes}"
        return Deviation(math.inf, f"there are {sizes}")
    return compare_statistics(summarise(episodes), record.statistics)


def _scratch(dataset_id: str) -> Path:
    place = dataset_path(dataset_id)
    return place.with_name(f".building-{place.name}")


def _empty(scratch: Path) -> None:
    for name in ("new", "old"):
        if (scratch / name).exists():
            shutil.rmtree(scratch / name)


class _Stopped(Exception):
    """Another dataset failed, or the user has had enough."""


_worker: dict[str, Any] = {}
"""What `_start_worker` was given, in a process of its own."""


_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
"""What a terminal or a batch system sends to all processes of a command."""


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(messages: Any, stop: Any, cores: int) -> None:
    """Prepare a process: it works on its share of the cores, and ends with its parent."""

    def end(number: int, frame: Any) -> None:
        if not _worker["is_building"]:
            os._exit(1)
        if not _worker["is_ending"]:  # once: what cleans up is not disturbed
            _worker["is_ending"] = True
            raise _Stopped  # so that nothing is left half built

    def end_with_parent(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    _worker.update(messages=messages, stop=stop, is_building=False, is_ending=False)
    os.environ[VARIABLE] = str(cores)
    for number in _SIGNALS:  # Ctrl-C is for the parent, which sets `stop`
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=end_with_parent, args=(parent.sentinel,), daemon=True).start()


def _build_in_worker(entry: DatasetEntry, force: bool) -> BuildResult:
    reported = -math.inf

    def report(share: float) -> None:
        nonlocal reported
        if _worker["stop"].is_set() or _worker["is_ending"]:
            raise _Stopped
        if share >= min(1.0, reported + SHARE_STEP):
            reported = share
            _worker["messages"].put((entry.id, share))

    _worker["is_building"] = True
    try:
        return _build(entry, force, report)
    finally:
        _worker["is_building"] = False


def _messages_until_done(
    messages: Any, futures: Sequence[Future[BuildResult]]
) -> Iterator[tuple[str, float]]:
    """What workers say, until all are done or one has failed."""
    while True:
        ended = [future for future in futures if future.done()]
        try:
            while True:
                yield messages.get(timeout=0.1)
        except queue.Empty:
            if len(ended) == len(futures) or any(future.exception() for future in ended):
                break
    for future in ended:
        future.result()  # raises what ended it
