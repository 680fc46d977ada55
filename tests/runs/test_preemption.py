"""A batch system that warns, and ends the job later, costs no checkpoint: real processes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from tests.helpers.stopping import (
    COMMAND,
    TASK,
    outcome,
    said_of_signal,
    start_walk,
    wait_for,
)

HALF_WRITTEN = """
import time
from pathlib import Path
import numpy as np
from rmdp_bench.runs import RunLog
RunLog.checkpoint_due = lambda log: True
savez, written = np.savez, []
def half_savez(file, **arrays):
    written.append(file)
    if len(written) == 10:  # of the fifth checkpoint, the second seed's file
        file.write(b"half")
        file.flush()
        Path("writing").touch()
        while Path("keep-writing").exists():
            time.sleep(0.01)
        file.seek(0)
    savez(file, **arrays)
np.savez = half_savez
"""
"""Five checkpoints, the last of which takes as long as the file `keep-writing` is there."""


def files(seed: int) -> set[str]:
    """Of the checkpoints of one seed; what is half written by a name of its own."""
    folder = Path("runs") / TASK / "walk" / f"seed-{seed}" / "checkpoint"
    return {path.name.split("-")[0] for path in folder.iterdir()}


@pytest.mark.parametrize("end", ["it is written", "Ctrl-C", "SIGKILL"])
def test_a_warning_and_the_end_of_the_job_leave_the_checkpoint(
    end: str, undisturbed: list[Any]
) -> None:
    """Signals come while it is written, until it is, or until the process is killed."""
    Path("keep-writing").touch()
    process = start_walk(code=HALF_WRITTEN + COMMAND)
    process.send_signal(signal.SIGUSR1)
    assert said_of_signal(process).startswith("SIGUSR1: stopping when the solver saves")
    wait_for(Path("writing").exists, process)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        process.send_signal(number)
        assert (
            said_of_signal(process)
            == f"{number.name}: stopping already; Ctrl-C (SIGINT) stops at once"
        )
    assert files(0) == {"4.npz", "5.npz"} and files(1) == {"4.npz", ".writing"}
    if end == "it is written":
        Path("keep-writing").unlink()
    else:
        process.send_signal(signal.SIGINT if end == "Ctrl-C" else signal.SIGKILL)
    _, error = process.communicate(timeout=600)
    assert "Traceback" not in error
    assert process.returncode == (-9 if end == "SIGKILL" else 128 + signal.SIGUSR1), error
    left = {"it is written": {"5.npz"}, "Ctrl-C": {"4.npz"}, "SIGKILL": {"4.npz", ".writing"}}
    assert files(1) == left[end]
    assert main(["run", "walk.py", TASK, "--seeds", "0:2"]) == 0
    assert outcome("runs") == undisturbed
