"""The process that plays the policies of a stranger: `python -m rmdp_bench.submission.player`.

It reads a job from standard input, closes itself in, loads the policies and plays. On standard
output go the returns as a .npz file, or one line of text that begins with "refused: ".

Closing in: the memory that may be added, processor time and open files are limited, and nothing can
be written to any file. The parent process adds a limit of wall time, an empty folder to run in and
an empty environment. This is the second line: the first is that an ONNX graph of standard operators
has no means to reach files or a network.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rmdp_bench.solution import load_solution
from rmdp_bench.submission.replay import play_shuffled
from rmdp_bench.tasks import get_task

MAX_OPEN_FILES = 256


def play_job(job: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Play what a job asks for.

    Args:
        job: directory, task, episodes (name of a group -> [seed, number]), the names of those that
            are nudged, and the entropy that shuffles them; see `replay`.

    Returns:
        NAME_welfare (number of episodes,) and NAME_entries (m,) of each group, as in
        `replay.EpisodeReturns`.

    Raises:
        ValueError: the policies cannot be loaded, fail, or act by more than their observation.
    """
    task = get_task(job["task"])
    solution = load_solution(Path(job["directory"]))
    episodes = {name: (seed, number) for name, (seed, number) in job["episodes"].items()}
    rng = np.random.default_rng(job["entropy"])
    played = play_shuffled(task, solution, episodes, rng, job["nudged"])
    return {f"{name}_welfare": returns.welfare for name, returns in played.items()} | {
        f"{name}_entries": returns.entries for name, returns in played.items()
    }


def _limit(memory_mib: int, cpu_seconds: int) -> None:
    """Limit what this process may use from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_CPU: int(usage.ru_utime + usage.ru_stime) + cpu_seconds + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
    }
    with contextlib.suppress(OSError):  # only Linux says how much there is already
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory_mib * 2**20
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def main() -> None:
    """Read a job, play, and write the returns."""
    job = json.loads(sys.stdin.read())
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not the answer
    onnxruntime.set_default_logger_severity(4)
    _limit(job["memory_mib"], job["cpu_seconds"])
    try:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = play_job(job)
        np.savez(buffer, **arrays)
        answer = buffer.getvalue()
    except (ValueError, MemoryError) as error:
        answer = f"refused: {str(error) or 'the policies need too much memory'}".encode()
    with output:
        output.write(answer)


if __name__ == "__main__":
    main()
