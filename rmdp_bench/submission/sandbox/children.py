"""Reading and playing the files of strangers in a process of their own; see `confinement`.

A job in JSON goes to the standard input of a module, `checker` or `player`; its answer, or one line
that begins with "refused: ", comes from its standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation.pairs import plays_pairs
from rmdp_bench.submission.bounded import parse_arrays
from rmdp_bench.submission.replay import EpisodeReturns
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.confinement import (
    MAX_REASON,
    REFUSED,
    allowed_tasks,
    confined_command,
    home_of_confined,
    variables,
)
from rmdp_bench.tasks import OnlineTask, Task

_WALL_PER_CPU = 4.0
"""Wall time that is allowed for a second of processor time; other work may slow it down."""
_ERROR_BYTES = 2**13
"""Kept of what a process says on stderr; the last of it."""
_OVERHEAD_BYTES = 2**16
"""Of an answer, beside its numbers."""
_LISTEN_SECONDS = 5.0
"""For the rest of stderr when the process has ended."""
START_SECONDS = 300.0
"""Wall time until the process has loaded its libraries, at most."""


@dataclass(frozen=True)
class Limits:
    """What one seed may use, within the budget of the submission.

    Attributes:
        start_cpu_seconds: processor time before the first step, to load graphs.
        seconds_per_step: processor time per step of one episode.
    """

    start_cpu_seconds: float = 60.0
    seconds_per_step: float = 1e-3

    def cpu_seconds(self, n_steps: int) -> int:
        """Processor time for so many steps."""
        return int(self.start_cpu_seconds + self.seconds_per_step * n_steps)


def _shapes_and_steps(
    task: Task, episodes: Mapping[str, tuple[int, int]], claim: bool
) -> tuple[dict[str, tuple[int]], int]:
    """Name -> shape of what the process answers, and the steps that it makes at most."""
    if isinstance(task, OnlineTask):
        n_entries = task.n_agents * task.n_representatives
        n_cells = n_entries if plays_pairs(task) else task.n_representatives
    else:
        n_entries = n_cells = len(task.eval_agents)
    shapes = {f"{name}_welfare": (number,) for name, (_, number) in episodes.items()}
    shapes |= {f"{name}_entries": (n_entries,) for name in episodes}
    if claim:
        shapes["claimed"] = (n_entries,)
    n_episodes = sum(number for _, number in episodes.values())
    return shapes, n_cells * task.max_episode_steps * n_episodes


def play_in_sandbox(
    row: Path,
    seed: int,
    task: Task,
    episodes: Mapping[str, tuple[int, int]],
    limits: Limits,
    budget: Budget,
    nudged: Sequence[str] = (),
    *,
    welfare_only: Sequence[str] = (),
    claim: bool = False,
) -> tuple[dict[str, EpisodeReturns], NDArray[np.float64] | None]:
    """Play episodes of saved policies in another process, all mixed; see `replay`.

    Args:
        row: folder of a row in a submission.
        seed: of the solution.
        task: that it is for.
        episodes: name of a group -> seed of its first episode, number of episodes.
        limits: what the process may use.
        budget: of the submission, which it is charged to.
        nudged: groups whose observations are changed a little, as rounding would.
        welfare_only: groups of which only the welfare is wanted; see `play_shuffled`.
        claim: whether the claimed welfare matrix of an online task is wanted, which is read there.

    Returns:
        What each group gave; and the claimed welfare matrix (n k,), or None.

    Raises:
        ValueError: the policies fail, crash, act by more than their observation, or need more than
            they may; names the folder.
    """
    job = {
        "row": str(row.resolve()),
        "seed": seed,
        "task": task.id,
        "episodes": episodes,
        "nudged": list(nudged),
        "welfare_only": list(welfare_only),
        "claim": claim,
        "entropy": secrets.randbits(128),
    }
    shapes, n_steps = _shapes_and_steps(task, episodes, claim)
    max_bytes = 8 * sum(size for (size,) in shapes.values()) + _OVERHEAD_BYTES
    try:
        answer = run_in_sandbox(
            "sandbox.player",
            job,
            readable=[row],
            budget=budget,
            cpu_seconds=limits.cpu_seconds(n_steps),
            max_bytes=max_bytes,
        )
    except ValueError as error:
        known = str(error).startswith(str(row))
        raise ValueError(str(error) if known else f"{row}/seed-{seed}: {error}") from error
    try:
        played = parse_arrays(answer, max_bytes, "the answer", shapes)
        groups = {
            name: EpisodeReturns(
                _finite(played, f"{name}_welfare"), _finite(played, f"{name}_entries")
            )
            for name in episodes
        }
        return groups, _finite(played, "claimed") if claim else None
    except ValueError as error:  # only if the player is not itself any more
        raise ValueError(f"{row}: the process that plays the policies is damaged") from error


def _finite(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    values = arrays.get(name)
    if values is None or values.dtype != np.float64 or not np.isfinite(values).all():
        raise ValueError(f"{name} is not what was asked for")
    return values


def run_in_sandbox(
    module: str,
    job: Mapping[str, Any],
    *,
    readable: Sequence[Path],
    budget: Budget,
    cpu_seconds: float,
    max_bytes: int,
) -> bytes:
    """Give a job to a module in a confined process.

    Args:
        module: its name within `rmdp_bench.submission`.
        job: see the module; JSON. What the process may use is added.
        readable: files and folders that it may read; the first names it in messages.
        budget: of the submission, which it is charged to.
        cpu_seconds: that it may use, if there are so many left.
        max_bytes: of its answer.

    Raises:
        ValueError: it refuses the files, crashes, needs more than it may, or the budget is used up.
    """
    name = readable[0]
    cpu_left, wall_left = budget.left()
    cpu_seconds = max(1, int(min(cpu_seconds, cpu_left)))
    wall_seconds = min(START_SECONDS + _WALL_PER_CPU * cpu_seconds, wall_left)
    job = dict(job) | {
        "memory_mib": budget.memory_mib,
        "cpu_seconds": cpu_seconds,
        "n_tasks": allowed_tasks(),
    }
    command = confined_command(["-m", f"rmdp_bench.submission.{module}"], readable)
    before = cpu_of_children()
    answer, code, in_time, said = _run(command, json.dumps(job), wall_seconds, max_bytes)
    used = cpu_of_children() - before
    budget.charge(used)
    if answer.startswith(REFUSED) and code == 0:
        raise ValueError(printable(answer.removeprefix(REFUSED).decode(errors="replace")))
    if len(answer) > max_bytes:
        raise ValueError(f"{name}: what is to be read of it has more than {max_bytes} bytes")
    if not in_time:
        raise ValueError(f"{name}: stopped, it takes more than {wall_seconds:.0f} s of wall time")
    if code in (signal.SIGXCPU, signal.SIGKILL) and used >= cpu_seconds:
        raise ValueError(
            f"{name}: stopped, it takes more than {cpu_seconds} s of processor time (see "
            f"--start-seconds and --cpu-seconds)"
        )
    if code == signal.SIGKILL:
        raise ValueError(
            f"{name}: killed from outside after {used:.0f} of the {cpu_seconds} s of processor "
            f"time that it may take, as where a machine has no memory left; verify it again"
        )
    if code != 0:
        raise ValueError(
            f"{name}: it crashes the process that reads it, or needs more than "
            f"{budget.memory_mib} MiB (exit code {code}{_last_line(said)})"
        )
    return answer


def printable(text: str) -> str:
    """One line of text that a process of strangers' files has written, cut if it is long."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: MAX_REASON + 1])
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}..."


def _last_line(said: bytes) -> str:
    """The last line of what a process said on stderr, to be put behind its exit code."""
    lines = said.decode(errors="replace").strip().splitlines()
    return f": {printable(lines[-1].strip())}" if lines else ""


def cpu_of_children() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(
    command: Sequence[str], job: str, wall_seconds: float, max_bytes: int
) -> tuple[bytes, int, bool, bytes]:
    """Answer, exit code or number of the signal, whether it ended in time, and its last words.

    It is killed if it takes too long or says too much.
    """
    in_time = True
    with tempfile.TemporaryDirectory(prefix="rmdp-bench-") as folder:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=variables(home_of_confined(folder)),
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        errors, said = process.stderr, bytearray()

        def listen() -> None:
            while part := os.read(errors.fileno(), _ERROR_BYTES):
                said.extend(part)
                del said[:-_ERROR_BYTES]

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()

        def stop() -> None:
            nonlocal in_time
            in_time = False
            _kill(process)

        timer = threading.Timer(wall_seconds, stop)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(job.encode())
            answer = process.stdout.read(max_bytes + 1)
            if len(answer) > max_bytes:
                _kill(process)
            code = process.wait()
            listener.join(_LISTEN_SECONDS)
            # bwrap ends with 128 + the signal that ended what it ran.
            code = -code if code < 0 else code - 128 if code > 128 else code
            return answer, code, in_time, bytes(said)
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            process.stdout.close()
            listener.join(_LISTEN_SECONDS)
            if not listener.is_alive():  # else something that the process left behind has it
                errors.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started, as far as that has no session of its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
