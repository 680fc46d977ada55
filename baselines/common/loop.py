"""What follows an iteration of training: progress, a point of the curve and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.solution import Solution

State = tuple[Mapping[str, npt.NDArray[Any]], Sequence[Mapping[str, Any]]]
"""Arrays (R, ...), and JSON for each seed, from which training continues bit for bit."""


def report(
    log: RunLog,
    transitions: int,
    scalars: Mapping[str, Sequence[float]],
    get_state: Callable[[], State],
    solutions: Callable[[], Sequence[Solution]] | None,
    *,
    total: int | None = None,
) -> None:
    """Tell the log of an iteration, and give it what is due.

    Args:
        log: of the run.
        transitions: per policy so far.
        scalars: numbers to show, one for each seed.
        get_state: what a checkpoint holds.
        solutions: those of a curve point, one for each seed; None: there is no curve.
        total: transitions that are planned, where they are not the task's.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    log.progress(transitions, scalars, total=total)
    if solutions is not None and log.evaluation_due(transitions):
        log.evaluate(transitions, solutions())
    if log.checkpoint_due():
        log.save_checkpoint(transitions, *get_state())
        if log.stop_requested:
            raise Interrupted
