"""Jobs on this machine: as many at once as there are cores for, each on cores of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from rmdp_bench.cores import usable_cores
from rmdp_bench.sweep.jobs import Job, Outcome, Stop, execute, job_environment


class LocalEngine:
    """Runs each job from a thread that is bound, with what it starts, to the job's cores."""

    def __init__(self, out: Path, jobs: Sequence[Job], stop: Callable[[], Stop]) -> None:
        """Find cores and GPUs.

        Args:
            out: the sweep's folder.
            jobs: that will be started; where they do not say how many cores they want, all share
                those that there are.
            stop: what `execute` asks.
        """
        self._out, self._stop = out, stop
        self._cores, self._binds = find_cores()
        self._n_cores = len(self._cores)
        self._shared = max(1, self._n_cores // max(1, len(jobs)))
        self._gpus = dict.fromkeys(find_gpus(), 1.0) if any(job.gpus for job in jobs) else {}
        self._ended: queue.Queue[tuple[Job, Outcome | OSError, list[int], str | None]]
        self._ended = queue.Queue()

    def start(self, job: Job) -> bool:
        """Start a job if its cores and its share of a GPU are free."""
        wanted = min(job.cores or self._shared, self._n_cores)
        free = [name for name, share in self._gpus.items() if share > job.gpus - 1e-9]
        if wanted > len(self._cores) or (job.gpus and not free):
            return False
        cores, self._cores = self._cores[:wanted], self._cores[wanted:]
        gpu = None
        if job.gpus:
            gpu = min(free, key=lambda name: self._gpus[name])  # the fullest that has room
            self._gpus[gpu] -= job.gpus
        threading.Thread(target=self._run, args=(job, cores, gpu), daemon=True).start()
        return True

    def ended(self, seconds: float) -> list[tuple[Job, Outcome | OSError]]:
        """What has ended; their cores are free again."""
        found: list[tuple[Job, Outcome | OSError]] = []
        try:
            while True:
                job, outcome, cores, gpu = self._ended.get(timeout=0.0 if found else seconds)
                self._cores = sorted(self._cores + cores)
                if gpu is not None:
                    self._gpus[gpu] += job.gpus
                found.append((job, outcome))
        except queue.Empty:
            return found

    def close(self) -> None:
        """Nothing is held."""

    def _run(self, job: Job, cores: list[int], gpu: str | None) -> None:
        environment = job_environment(len(cores))
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        outcome: Outcome | OSError
        try:
            if self._binds:
                os.sched_setaffinity(0, cores)  # of this thread and what it starts
            outcome = execute(self._out, job, self._stop, environment)
        except OSError as error:
            outcome = error
        except BaseException as error:  # else the driver would wait for ever
            outcome = OSError(f"{type(error).__name__}: {error}")
        self._ended.put((job, outcome, cores, gpu))


def find_cores() -> tuple[list[int], bool]:
    """The cores to share out, and whether jobs are bound to them.

    They are not where the system cannot (macOS), nor where only a part of the cores may be used
    (--cores, a quota): others who have the same limit would be bound to the same ones.
    """
    n_cores = usable_cores()
    if not hasattr(os, "sched_getaffinity"):
        return list(range(n_cores)), False
    cores = sorted(os.sched_getaffinity(0))
    return cores[:n_cores], n_cores == len(cores)


def find_gpus() -> list[str]:
    """Names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES takes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def count_places(jobs_cores: Sequence[int | None]) -> float:
    """How many jobs can run at once here, if they want so many cores each."""
    n_cores = len(find_cores()[0])
    wanted = [min(cores or 1, n_cores) for cores in jobs_cores]
    return n_cores * len(wanted) / max(1, sum(wanted))
