"""The control without learning: basal rate and carbohydrate ratio, tuned for k groups of patients.

See `controllers`; `constant_basal` is the same without boluses.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from baselines.heterogeneous.controllers import GridSettings, check_grid, solve_with_grid
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "solve"]

check = functools.partial(check_grid, boluses=True)


@dataclass(frozen=True)
class Config(GridSettings):
    """Settings."""


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune a grid within the task's transitions and choose k of it, for each seed anew.

    Returns:
        One solution for each seed.
    """
    del device  # NumPy
    return solve_with_grid(task, config, seeds, log, boluses=True)
