"""Jobs on a Ray cluster: one task for each, which starts the job's process where it lands."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rmdp_bench.cores import usable_cores
from rmdp_bench.sweep.jobs import (
    MAX_KILLED,
    Job,
    Launch,
    Outcome,
    Stop,
    execute,
    is_to_run,
    job_environment,
    note_failure,
)
from rmdp_bench.sweep.local import find_gpus


class RayEngine:
    """Runs each job as a task with as many cores and as much of a GPU as it wants.

    Where a worker or its node goes away, Ray runs the task again elsewhere, and the job goes on
    from its checkpoint in the shared folder.
    """

    def __init__(
        self, out: Path, launch: Launch, jobs: Sequence[Job], stop: Callable[[], Stop]
    ) -> None:
        """Join the cluster that $RAY_ADDRESS names, or start Ray on this machine.

        Args:
            out: the sweep's folder, which all nodes see at the same place.
            launch: by which tasks learn that they are to stop.
            jobs: that will be started.
            stop: whether they are to stop.

        Raises:
            ValueError: Ray is not installed, or there is no cluster.
        """
        self._ray = import_ray()
        self._out, self._launch, self._stop = out.absolute(), launch, stop
        self._jobs: dict[Any, Job] = {}
        self._own = not self._ray.is_initialized()
        if self._own:
            with _as_before():
                _init(self._ray, any(job.gpus for job in jobs))
        self._task = self._ray.remote(_execute)

    def start(self, job: Job) -> bool:
        """Give a job to Ray, which knows when there is room for it."""
        options = {
            "num_cpus": job.cores or 1,
            "num_gpus": job.gpus,
            "max_retries": MAX_KILLED,
            "name": job.title,
        }
        task = self._task.options(**options)
        self._jobs[task.remote(str(self._out), job, self._launch.name)] = job
        return True

    def ended(self, seconds: float) -> list[tuple[Job, Outcome | OSError]]:
        """What has ended; all, if they shall stop at once."""
        wanted = self._stop()
        if wanted and not self._launch.is_stopped():
            self._launch.stop()
        if wanted == Stop.now:
            self.close()  # the processes of the jobs end with those of Ray, at a checkpoint
            jobs, self._jobs = list(self._jobs.values()), {}
            return [(job, Outcome.stopped) for job in jobs]
        if not self._jobs:
            time.sleep(seconds)
            return []
        self._ray.wait(list(self._jobs), num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=0)
        return [self._outcome(reference) for reference in ready]

    def close(self) -> None:
        """Leave the cluster, or end it if it was started here."""
        if self._own:
            self._ray.shutdown()

    def _outcome(self, reference: Any) -> tuple[Job, Outcome | OSError]:
        job = self._jobs.pop(reference)
        try:
            return job, Outcome(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:
            return job, OSError(str(error.cause))
        except self._ray.exceptions.RayError as error:  # its workers or nodes went away every time
            reason = f"Ray gave up: {type(error).__name__}: {error}".splitlines()[0]
            try:
                for task in job.tasks:
                    seeds = [s for s in job.seeds if is_to_run(self._out, job, task, s)]
                    note_failure(self._out, job, task, seeds, reason, None)
            except OSError as full:
                return job, full
            return job, Outcome.failed


def _execute(out: str, job: Job, launch: str) -> str:
    """What runs as a task."""
    known = Launch(Path(out), launch)

    def stop() -> Stop:
        return Stop.checkpoint if known.is_stopped() else Stop.no

    return str(execute(Path(out), job, stop, job_environment(job.cores or 1)))


def import_ray() -> Any:
    """Ray, if it is there.

    Raises:
        ValueError: says how to install it.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--launcher ray needs Ray: pip install 'rmdp_bench[ray]'") from error
    return ray


def _init(ray: Any, wants_gpus: bool) -> None:
    quiet = {"log_to_driver": False, "include_dashboard": False}
    try:
        if address := os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, log_to_driver=False)
        else:
            n_gpus = len(find_gpus()) if wants_gpus else 0
            ray.init(address="local", num_cpus=usable_cores(), num_gpus=n_gpus, **quiet)
    except (ConnectionError, RuntimeError) as error:
        raise ValueError(f"cannot use Ray: {error}") from error


VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""What Ray is started with, unless the user has told it: nothing is reported to its makers, and
jobs are as nice as the driver, not by 15 nicer, by which any other work starves them."""


@contextmanager
def _as_before() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray takes, and the environment."""
    handler = signal.getsignal(signal.SIGTERM)
    added = {name: value for name, value in VARIABLES.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        for name in added:
            del os.environ[name]
