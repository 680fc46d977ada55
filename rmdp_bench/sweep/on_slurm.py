"""Jobs on SLURM, by submitit: arrays whose tasks are requeued when they are preempted or time out.

The driver submits and ends; what runs is a matter of SLURM and of the shared folder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmdp_bench.sweep.driving import AGAIN_SECONDS
from rmdp_bench.sweep.jobs import (
    SWEEP_FOLDER,
    Job,
    Launch,
    Outcome,
    Stop,
    execute,
    job_environment,
)

MAX_ARRAY = 1000
"""Tasks of an array: SLURM's MaxArraySize is 1001 unless a cluster has another."""
DEFAULTS = {"timeout_min": 240, "name": "rmdp-bench"}
"""Parameters of submitit where the plan has no others; its own time limit is five minutes."""
MAX_TIMEOUTS = 1000
"""How often a job may run out of time: it goes on from its checkpoint."""
BUSY_SECONDS = 60.0
"""How long a task waits for seeds that somebody else runs, before it leaves them to him."""


def submit(
    out: Path, jobs: Sequence[Job], launch: Launch, parameters: Mapping[str, Any]
) -> list[Any]:
    """Submit jobs as arrays; gives submitit's jobs.

    Args:
        out: the sweep's folder, which all nodes see at the same place.
        jobs: to run; those that want as much of a node share an array.
        launch: by which tasks learn that they are to stop.
        parameters: of submitit's executor; "cluster" is slurm, or local or debug for a try.

    Raises:
        ValueError: submitit is not installed, there is no SLURM, or a parameter is wrong.
    """
    submitit = import_submitit()
    given = dict(parameters)
    cluster = given.pop("cluster", "slurm")
    submitted: list[Any] = []
    try:
        executor = submitit.AutoExecutor(
            folder=out / SWEEP_FOLDER / "slurm",
            cluster=cluster,
            slurm_max_num_timeout=MAX_TIMEOUTS,
            local_max_num_timeout=MAX_TIMEOUTS,
        )
        for (cores, on_gpu), own in _alike(jobs).items():
            needed = {"cpus_per_task": cores, "gpus_per_node": int(on_gpu)}
            executor.update_parameters(**DEFAULTS | needed | given)
            for start in range(0, len(own), MAX_ARRAY):
                array = own[start : start + MAX_ARRAY]
                submitted += executor.map_array(
                    SlurmJob(),
                    [str(out.absolute())] * len(array),
                    array,
                    [launch.name] * len(array),
                )
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise ValueError(f"cannot submit to {cluster}: {error}") from error
    return submitted


def import_submitit() -> Any:
    """submitit, if it is there.

    Raises:
        ValueError: says how to install it.
    """
    try:
        import submitit
    except ImportError as error:
        raise ValueError(
            "--launcher slurm needs submitit: pip install 'rmdp_bench[slurm]'"
        ) from error
    return submitit


def _alike(jobs: Sequence[Job]) -> dict[tuple[int, bool], list[Job]]:
    """Those that want the same: cores, and whether a GPU, which SLURM does not share."""
    groups: dict[tuple[int, bool], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.cores or 1, job.gpus > 0), []).append(job)
    return groups


class SlurmJob:
    """What runs as a task of an array; submitit asks it for a checkpoint before the task ends."""

    def __call__(self, out: str, job: Job, launch: str) -> str:
        """Run a job in another thread, so that this one can answer the signal."""
        self._ends = threading.Event()
        self._outcome: Outcome | OSError = Outcome.stopped
        self._thread = threading.Thread(target=self._run, args=(Path(out), job, launch))
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(0.2)
        if isinstance(self._outcome, OSError):
            raise self._outcome
        return str(self._outcome)

    def checkpoint(self, out: str, job: Job, launch: str) -> Any:
        """Stop the job at a checkpoint, and give what goes on from it."""
        self._ends.set()
        self._thread.join()
        return import_submitit().helpers.DelayedSubmission(SlurmJob(), out, job, launch)

    def _run(self, out: Path, job: Job, launch: str) -> None:
        known = Launch(out, launch)

        def stop() -> Stop:
            return Stop.checkpoint if self._ends.is_set() or known.is_stopped() else Stop.no

        until = time.monotonic() + BUSY_SECONDS
        try:
            while True:
                self._outcome = execute(out, job, stop, job_environment(job.cores or 1))
                if self._outcome != Outcome.busy or time.monotonic() > until:
                    return
                self._ends.wait(AGAIN_SECONDS)
        except OSError as error:
            self._outcome = error
