"""What state a sweep is in, read from its folder alone, on any machine that sees it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmdp_bench.files import is_locked, read_json, write_bytes
from rmdp_bench.runs.display import read_progress
from rmdp_bench.runs.running import is_finished
from rmdp_bench.sweep.costs import estimate_seconds, read_costs
from rmdp_bench.sweep.jobs import (
    Job,
    claims_folder,
    failures_folder,
    list_launches,
    list_plans,
    read_plans,
    seed_name,
)

STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class SeedState:
    """One seed.

    Attributes:
        folder: below the sweep's.
        task: id.
        solver: name.
        seed: number.
        state: one of `STATES`.
        error: why it failed, in a line; None otherwise.
        log: file with what its process printed, below the sweep's folder; None unless it failed.
        progress: of a running one, `runs.display.read_progress`; None: not known.
        seconds_left: that it takes alone, as records tell; 0 if done or failed, None: not known.
    """

    folder: str
    task: str
    solver: str
    seed: int
    state: str
    error: str | None = None
    log: str | None = None
    progress: dict[str, Any] | None = None
    seconds_left: float | None = 0.0


@dataclass(frozen=True)
class Status:
    """All seeds, and when all are done.

    Attributes:
        seeds: in the order of the plans.
        n_running_jobs: processes at work.
        seconds_left: with as many as run now, or one; None: not known.
    """

    seeds: Sequence[SeedState]
    n_running_jobs: int
    seconds_left: float | None

    @property
    def counts(self) -> dict[str, int]:
        """State -> how many seeds are in it."""
        found = Counter(seed.state for seed in self.seeds)
        return {state: found[state] for state in STATES}

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {
            "counts": self.counts,
            "running_jobs": self.n_running_jobs,
            "seconds_left": self.seconds_left,
            "seeds": [asdict(seed) for seed in self.seeds],
        }


def read_status(out: Path) -> Status:
    """Read the state of all plans of a folder.

    Raises:
        ValueError: it is not the folder of a sweep.
    """
    jobs = [job for plan in read_plans(out).values() for job in plan["jobs"]]
    return status_of(out, jobs)


def status_of(out: Path, jobs: Sequence[Job]) -> Status:
    """The state of some jobs, each seed once."""
    costs = read_costs(out, jobs)
    claimed, failed = _names(claims_folder(out)), _names(failures_folder(out))
    seeds: dict[tuple[str, str, int], SeedState] = {}
    n_running = 0
    for job in jobs:
        for task in job.tasks:
            seconds = estimate_seconds(job, task, costs)
            progress: dict[str, Any] | None = None
            runs = False
            for seed in job.seeds:
                if (job.folder, task, seed) in seeds:
                    continue
                state = _read_seed(out, job, task, seed, claimed, failed)
                left: float | None = 0.0
                if state["state"] == "running":
                    runs = True
                    # The first of a batch tells for all of them.
                    progress = read_progress(job.directory(out, task, seed)) or progress
                    left = _rest(progress, len(job.seeds), seconds)
                    state["progress"] = progress
                elif state["state"] == "waiting":
                    left = seconds
                own = (job.folder, task, job.solver_name, seed)
                seeds[job.folder, task, seed] = SeedState(*own, **state, seconds_left=left)
            n_running += runs
    return Status(list(seeds.values()), n_running, _total(seeds.values(), n_running))


def _names(folder: Path) -> set[str]:
    try:
        return {name.removesuffix(".json") for name in os.listdir(folder)}
    except FileNotFoundError:
        return set()


def _read_seed(
    out: Path, job: Job, task: str, seed: int, claimed: set[str], failed: set[str]
) -> dict[str, Any]:
    directory, name = job.directory(out, task, seed), seed_name(job, task, seed)
    if is_finished(directory):
        return {"state": "done"}
    if name in failed:
        note = read_json(failures_folder(out) / f"{name}.json")
        return {"state": "failed", "error": note.get("error"), "log": note.get("log")}
    if (name in claimed and is_locked(claims_folder(out) / name)) or is_locked(directory):
        return {"state": "running"}
    return {"state": "waiting"}


def _rest(progress: dict[str, Any] | None, n_seeds: int, seconds: float | None) -> float | None:
    """What is left of a running seed's own share of its batch."""
    if progress is not None and progress.get("scoring"):
        return 0.0  # of training; nothing says how long scoring takes
    if progress is not None and progress["total"] and progress["per_second"] > 0:
        rest = max(0, progress["total"] - progress["done"]) / progress["per_second"]
        return float(rest / n_seeds)
    return seconds


def _total(seeds: Iterable[SeedState], n_running: int) -> float | None:
    left = [seed.seconds_left for seed in seeds]
    if None in left:
        return None
    return math.fsum(seconds or 0.0 for seconds in left) / max(1, n_running)


def forget_failures(out: Path) -> int:
    """Let seeds that failed be run again, by whoever drives next; says how many these are.

    Raises:
        ValueError: it is not the folder of a sweep.
    """
    list_plans(out)
    notes = list(failures_folder(out).glob("*.json"))
    for note in notes:
        note.unlink(missing_ok=True)
    return len(notes)


@contextmanager
def failures_forgotten(out: Path) -> Iterator[None]:
    """Forget failures as `forget_failures`, and note them again if the block refuses to run them.

    Raises:
        ValueError: as `forget_failures`, or of the block.
    """
    notes = {path: path.read_bytes() for path in failures_folder(out).glob("*.json")}
    forget_failures(out)
    try:
        yield
    except ValueError:
        for path, data in notes.items():
            if not path.exists():
                write_bytes(path, data)
        raise


def cancel(out: Path) -> tuple[int, int]:
    """Ask all drivers of a folder, wherever they are, and jobs on SLURM to stop.

    Jobs save checkpoints, from which the next driver goes on.

    Returns:
        How many drivers are at work, and how many launches gave jobs to SLURM, which alone knows
        whether any of these are left.

    Raises:
        ValueError: it is not the folder of a sweep.
    """
    list_plans(out)
    n_drivers = n_submitted = 0
    for launch in list_launches(out):
        n_drivers += launch.is_driven()
        n_submitted += launch.is_submitted()
        launch.stop()
    return n_drivers, n_submitted
