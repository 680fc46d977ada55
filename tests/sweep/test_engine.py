"""Cores, GPUs and the display of a driver on this machine, with jobs that nobody runs."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.files import write_json
from rmdp_bench.sweep import Job, display, local, status
from rmdp_bench.sweep.jobs import Outcome, Stop
from tests.sweep.toys import TASK


class Held:
    """In the place of `execute`: keeps jobs until they are let go, and what they were given."""

    def __init__(self) -> None:
        self.given: list[tuple[set[int], Mapping[str, str]]] = []
        self.end = threading.Event()

    def __call__(self, out: Path, job: Job, stop: Any, environment: Mapping[str, str]) -> Outcome:
        self.given.append((os.sched_getaffinity(0), environment))
        assert self.end.wait(60)
        return Outcome.done


def make_job(seed: int, **more: Any) -> Job:
    return Job("address", "em", "em", None, (TASK,), (seed,), **more)


def make_engine(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> tuple[local.LocalEngine, Held]:
    held = Held()
    monkeypatch.setattr(local, "execute", held)
    return local.LocalEngine(Path("out"), jobs, lambda: Stop.no), held


def wait_for_all(engine: local.LocalEngine, held: Held, number: int) -> list[Outcome | OSError]:
    held.end.set()
    found: list[Outcome | OSError] = []
    while len(found) < number:
        found += [outcome for _, outcome in engine.ended(60)]
    return found


needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="processes are not bound to cores here"
)


@needs_affinity
@pytest.mark.parametrize("cores", [None, 1, 1000])
def test_jobs_share_the_cores_and_are_bound_to_their_own(
    cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RMDP_BENCH_CORES", raising=False)
    there, before = local.find_cores()[0], os.sched_getaffinity(0)
    jobs = [make_job(seed, cores=cores) for seed in range(2 * len(there) + 1)]
    engine, held = make_engine(jobs, monkeypatch)
    n_started = [engine.start(job) for job in jobs].count(True)
    assert n_started == (1 if cores == 1000 else len(there))
    assert wait_for_all(engine, held, n_started) == [Outcome.done] * n_started
    assert all(given["RMDP_BENCH_CORES"] == str(len(there) // n_started) for _, given in held.given)
    if local.find_cores()[1]:
        assert sorted(core for bound, _ in held.given for core in bound) == there
    assert os.sched_getaffinity(0) == before
    assert engine.start(jobs[-1])  # the cores are free again


@needs_affinity
def test_where_only_some_cores_may_be_used_nobody_is_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another driver with the same limit would be bound to the same cores."""
    affinity = set(range(8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: affinity)
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    assert local.find_cores() == (sorted(affinity), True)
    monkeypatch.setattr(local, "usable_cores", lambda: 3)
    assert local.find_cores() == ([0, 1, 2], False)
    assert local.count_places([None, None]) == 3 and local.count_places([2, 1]) == 2


@needs_affinity
def test_gpus_are_filled_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    monkeypatch.setattr(local, "find_cores", lambda: (list(range(64)), False))
    shares = [0.5, 0.25, 0.25, 1.0, 0.5]
    jobs = [make_job(n, device="cuda", gpus=share, cores=1) for n, share in enumerate(shares)]
    engine, held = make_engine(jobs, monkeypatch)
    assert [engine.start(job) for job in jobs] == [True, True, True, True, False]
    wait_for_all(engine, held, 4)
    seen = sorted(given["CUDA_VISIBLE_DEVICES"] for _, given in held.given)
    assert seen == ["2", "2", "2", "GPU-5"]
    assert engine.start(jobs[4])


def test_a_failure_of_the_folder_reaches_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = make_engine([make_job(0)], monkeypatch)

    def fail(*arguments: Any) -> Outcome:
        raise RuntimeError("broken")

    monkeypatch.setattr(local, "execute", fail)
    assert engine.start(make_job(0))
    ((_, outcome),) = engine.ended(60)
    assert isinstance(outcome, OSError) and str(outcome) == "RuntimeError: broken"


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("width", "shown"), [(110, "1,200/s"), (50, "0:00:05 left")])
def test_the_display_shows_all_running_jobs(
    width: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    jobs = [make_job(0), make_job(1), make_job(2)]
    folder = jobs[1].directory(Path("out"), TASK, 1)
    folder.mkdir(parents=True)
    write_json(
        folder / "progress.json",
        {"done": 2000, "total": 8000, "unit": "", "per_second": 1200.0, "score": ""},
    )
    drawn = display.SweepDisplay(Path("out"), jobs)
    drawn.refresh(jobs[:2])
    drawn.ended(jobs[2], Outcome.failed)
    drawn.stop()
    text = stream.getvalue()
    assert "em, seed 1 on Res" in text and "25 %" in text and shown in text
    assert "failed: em, seed 2 on ResourceGathering-n25-k3-v0" in " ".join(text.split())
    assert "0 of 3 runs done" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert max(map(len, plain.replace("\r", "\n").split("\n"))) <= width


def terminal_for_errors(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Of 110 columns, in the place of standard error."""
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.mark.parametrize("scoring", [False, True])
def test_what_is_scored_has_no_training_left(
    scoring: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = terminal_for_errors(monkeypatch)
    jobs = [make_job(0), make_job(1)]
    folder = jobs[0].directory(Path("out"), TASK, 0)
    folder.mkdir(parents=True)
    known = {"done": 2000, "total": 8000, "unit": "", "per_second": 1200.0, "score": ""}
    write_json(folder / "progress.json", known | {"scoring": scoring})
    drawn = display.SweepDisplay(Path("out"), jobs)
    drawn.refresh(jobs)
    drawn.stop()
    assert ("0:00:05 left" in stream.getvalue()) == (not scoring)
    assert status._rest(known | {"scoring": scoring}, 1, 99.0) == (0.0 if scoring else 5.0)


def test_what_has_ended_is_not_drawn_as_if_it_had_just_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = terminal_for_errors(monkeypatch)
    jobs = [make_job(0), make_job(1)]
    finished: set[Path] = set()
    monkeypatch.setattr(display, "is_finished", finished.__contains__)
    drawn = display.SweepDisplay(Path("out"), jobs)
    drawn.refresh(jobs)
    assert stream.getvalue().count(" 0 %") == 2
    finished.add(jobs[0].directory(Path("out"), TASK, 0))
    monkeypatch.setattr(drawn, "_looked", -1e9)
    stream.truncate(0)
    drawn.refresh(jobs)  # before the driver has heard of it
    assert stream.getvalue().count("100 %") == 1
    finished.add(jobs[1].directory(Path("out"), TASK, 1))
    stream.truncate(0)
    for job in jobs:
        drawn.ended(job, Outcome.done)
    drawn.stop()
    text = stream.getvalue()
    assert "2 of 2 runs done" in text
    last = text.rpartition("done: em, seed 1 on")[2]
    assert "%" not in last  # below the last message nobody runs any more
