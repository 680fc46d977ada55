"""The control without learning: basal rate and carbohydrate ratio, tuned for k groups of patients.

See `controllers`; `constant_basal` is the same without boluses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baselines.common.settings import check_range
from baselines.heterogeneous.controllers import check_grid, solve_with_grid
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config:
    """Settings."""

    n_points: int = 16
    """Most values of each gain, from the least to the greatest in equal ratios. A budget of
    transitions for fewer has fewer; what is left of a greater one plays more episodes."""

    def __post_init__(self) -> None:
        """Refuse what is no grid.

        Raises:
            ValueError: n_points is not from 2 to 64.
        """
        check_range(self, 2, 64, "n_points")


def check(task: Task, config: Config) -> None:
    """Refuse other worlds, and a budget that is too small for any grid.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    check_grid(task, config.n_points, boluses=True)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune a grid within the task's transitions and choose k of it, for each seed anew.

    Returns:
        One solution for each seed.
    """
    del device  # NumPy
    return solve_with_grid(task, config.n_points, seeds, log, boluses=True)
