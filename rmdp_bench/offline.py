"""Offline solutions: one policy for every scored agent, and what else their solver can tell.

An offline solver learns from one logged trajectory for each of n agents with hidden dynamics.  Its
`solve` gives an `OfflineSolution` for each seed: policies and who acts for which of the task's
`eval_agents`, as a one-hot assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.datasets import Episode
from rmdp_bench.solution import Solution

N_FORCED = 10
"""Steps of a prediction for which the true observations are given."""
N_OPEN_LOOP = 50
"""Steps that are predicted after them, each from the prediction before it."""


@dataclass(frozen=True)
class OfflineSolution(Solution):
    """Policies for the agents that a task scores, and what is asked about agents beyond that.

    Attributes:
        policies: k policies; a planner is one that plans in `act`.
        assignment: (len(task.eval_agents), k), rows one-hot: who acts for which scored agent.
        adapt: serves agents who are not in the data. Given one logged episode for each of H such
            agents, collected as the data were, it gives a `Solution` with an assignment (H, k').
            None: the solver cannot.
        predict: what the solver's model of scored agent a foresees: `predict(a, observations
            (E, N_FORCED + 1, d), actions (E, N_FORCED + N_OPEN_LOOP, ...))` gives the observations
            (E, N_OPEN_LOOP, d) after each of the last N_OPEN_LOOP actions. None: no model.
        factors: (n, r) what was learned about each of the n agents in the data; None: nothing of
            this kind.
    """

    adapt: Callable[[Sequence[Episode]], Solution] | None = None
    predict: Callable[[int, NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None
    factors: NDArray[np.floating[Any]] | None = None
