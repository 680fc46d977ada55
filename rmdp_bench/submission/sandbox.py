"""Playing the policies of strangers in a process of their own, with limits; see `player`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.submission.replay import EpisodeReturns
from rmdp_bench.tasks import Task

REFUSED = b"refused: "
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS")
_WALL_PER_CPU = 4.0
"""Wall time that is allowed for a second of processor time; other work may slow it down."""
_OVERHEAD_BYTES = 2**16
"""Of an answer, beside its numbers."""
START_SECONDS = 300.0
"""Wall time until the process has loaded its libraries, at most."""


@dataclass(frozen=True)
class Limits:
    """What one seed may use.

    Attributes:
        memory_mib: beside what the libraries take.
        start_cpu_seconds: processor time before the first step, to load graphs.
        seconds_per_step: processor time per step of one episode.
    """

    memory_mib: int = 4096
    start_cpu_seconds: float = 60.0
    seconds_per_step: float = 1e-3

    def cpu_seconds(self, n_steps: int) -> int:
        """Processor time for so many steps."""
        return int(self.start_cpu_seconds + self.seconds_per_step * n_steps)


def play_in_sandbox(
    directory: Path,
    task: Task,
    episodes: Mapping[str, tuple[int, int]],
    limits: Limits,
    nudged: Sequence[str] = (),
) -> dict[str, EpisodeReturns]:
    """Play episodes of saved policies in another process, all mixed; see `replay`.

    Args:
        directory: of the solution.
        task: that they are for.
        episodes: name of a group -> seed of its first episode, number of episodes.
        limits: what the process may use.
        nudged: groups whose observations are changed a little, as rounding would.

    Returns:
        What each group gave.

    Raises:
        ValueError: the policies fail, crash, act by more than their observation, or need more than
            they may.
    """
    rows = task.n_representatives if task.track == "online" else len(task.eval_agents or ())
    n_steps = rows * task.max_episode_steps * sum(number for _, number in episodes.values())
    cpu_seconds = limits.cpu_seconds(n_steps)
    job = {
        "directory": str(directory.resolve()),
        "task": task.id,
        "episodes": episodes,
        "nudged": list(nudged),
        "entropy": secrets.randbits(128),
        "memory_mib": limits.memory_mib,
        "cpu_seconds": cpu_seconds,
    }
    n_entries = task.n_agents * rows if task.track == "online" else rows
    n_values = sum(n_entries + number for _, number in episodes.values())
    wall_seconds = START_SECONDS + _WALL_PER_CPU * cpu_seconds
    answer, code = _run(json.dumps(job), wall_seconds, 8 * n_values + _OVERHEAD_BYTES)
    if answer.startswith(REFUSED):
        reason = answer.removeprefix(REFUSED).decode(errors="replace")
        raise ValueError(f"{directory}: {reason[:500]}")
    if -code in (signal.SIGXCPU, signal.SIGKILL):
        raise ValueError(
            f"{directory}: the policies were stopped, they take more than {cpu_seconds} s of "
            f"processor time (or the machine's memory)"
        )
    if code != 0:
        raise ValueError(
            f"{directory}: the policies crash the process that plays them, or need more than "
            f"{limits.memory_mib} MiB (exit code {code})"
        )
    try:
        with np.load(io.BytesIO(answer), allow_pickle=False) as arrays:
            return {
                name: EpisodeReturns(
                    _finite(arrays[f"{name}_welfare"], number),
                    _finite(arrays[f"{name}_entries"], n_entries),
                )
                for name, (_, number) in episodes.items()
            }
    except Exception as error:  # only if the player is not itself any more
        raise ValueError(f"{directory}: the process that plays the policies is damaged") from error


def _finite(values: NDArray[Any], size: int) -> NDArray[np.float64]:
    if values.shape != (size,) or values.dtype != np.float64 or not np.isfinite(values).all():
        raise ValueError("not what was asked for")
    return values


def _run(job: str, wall_seconds: float, max_bytes: int) -> tuple[bytes, int]:
    """Answer and exit code of the player, which is killed if it takes too long or says too much."""
    with tempfile.TemporaryDirectory(prefix="rmdp-bench-") as folder:
        variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        variables |= {
            "HOME": folder,
            "TMPDIR": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rmdp_bench.submission.player"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=variables,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(wall_seconds, process.kill)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(job.encode())
            answer = process.stdout.read(max_bytes + 1)
            if len(answer) > max_bytes:
                process.kill()
            return answer, process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
