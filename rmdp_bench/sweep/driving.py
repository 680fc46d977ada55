"""The loop of a driver: start jobs where there is room for them, until none is left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rmdp_bench.sweep.jobs import Job, Outcome, Stop, is_left

AGAIN_SECONDS = 2.0
"""Until a job is tried again of which somebody else runs a seed."""
WAIT_SECONDS = 0.5
MAX_PASSED = 50
"""How many jobs without room are passed for one that needs less."""


class Engine(Protocol):
    """What runs jobs."""

    def start(self, job: Job) -> bool:
        """Start a job if there is room for it; says whether there was."""

    def ended(self, seconds: float) -> list[tuple[Job, Outcome | OSError]]:
        """What has ended, at the latest after so many seconds."""

    def close(self) -> None:
        """Give back what is held."""


class Watcher(Protocol):
    """Who is told how a sweep goes."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Hear that a job has ended."""

    def refresh(self, started: Sequence[Job]) -> None:
        """Look how far these are."""


def drive(
    out: Path, jobs: Sequence[Job], engine: Engine, watcher: Watcher, stop: Callable[[], Stop]
) -> None:
    """Run jobs, the first ones first, until all have ended or a stop has.

    Jobs that fail are noted in the sweep's folder and do not stop the others.

    Raises:
        OSError: the sweep's folder can no longer be written to, as on a full disk; what ran until
            then has ended.
    """
    waiting = deque(jobs)
    started: list[Job] = []
    again: deque[tuple[float, Job]] = deque()
    broken: OSError | None = None
    while waiting or started or again:
        while again and again[0][0] <= time.monotonic():
            waiting.append(again.popleft()[1])
        if stop() or broken is not None:
            if not started:
                break
        else:
            _start(out, waiting, started, engine)
        for job, outcome in engine.ended(WAIT_SECONDS):
            started.remove(job)
            if isinstance(outcome, OSError):
                broken = outcome
            elif outcome == Outcome.busy:
                again.append((time.monotonic() + AGAIN_SECONDS, job))
            else:
                watcher.ended(job, outcome)
        watcher.refresh(started)
    if broken is not None:
        raise broken


def _start(out: Path, waiting: deque[Job], started: list[Job], engine: Engine) -> None:
    """Start those for which there is room, in their order."""
    passed: list[Job] = []
    room = True
    while waiting and room:
        job = waiting.popleft()
        if not is_left(out, job):  # another driver has run them
            continue
        if engine.start(job):
            started.append(job)
        else:
            passed.append(job)
            room = len(passed) < MAX_PASSED
    waiting.extendleft(reversed(passed))
