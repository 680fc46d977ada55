"""The control without learning: basal rate and carbohydrate ratio, tuned for k groups of patients.

See `controllers`. With `boluses=false` it is the constant basal rate alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from baselines.heterogeneous.controllers import ENVIRONMENT, choose, grid_within, make_grid, tune
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config:
    """Settings."""

    boluses: bool = True
    """Whether meals are answered; without, the basal rate is all there is."""
    n_points: int = 16
    """Most values of each gain, from the least to the greatest in equal ratios. A budget of
    transitions for fewer has fewer; what is left of a greater one plays more episodes."""

    def __post_init__(self) -> None:
        """Refuse what is no grid.

        Raises:
            ValueError: n_points is not from 2 to 64.
        """
        if not 2 <= self.n_points <= 64:
            raise ValueError(f"n_points is {self.n_points}, expected 2 to 64")


def check(task: Task, config: Config) -> None:
    """Refuse other worlds, and a budget that is too small for any grid.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    if not isinstance(task, OnlineTask) or task.env_id != ENVIRONMENT:
        raise ValueError(f"{task.id} is not of {ENVIRONMENT}, the one world with an insulin pump")
    grid_within(task, config.n_points, boluses=config.boluses)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune a grid within the task's transitions and choose k of it, for each seed anew.

    Returns:
        One solution for each seed.
    """
    del device  # NumPy
    check(task, config)
    n_points, n_episodes = grid_within(task, config.n_points, boluses=config.boluses)
    grid = make_grid(n_points, boluses=config.boluses)
    solutions, used, tuned_welfare = [], 0, []
    for seed in seeds:
        # Evaluation seeds begin at 2**31; the hundred episodes after a multiple of it are its own.
        tuned = tune(task, grid, n_episodes=n_episodes, seed=100 * (seed % 10_000_000))
        selection, solution = choose(tuned, task.n_representatives)
        solutions.append(solution)
        tuned_welfare.append(selection.welfare + float(tuned.returns.min()))
        used = math.ceil(int(tuned.rollout.lengths.sum()) / task.n_representatives)
    log.progress(used, {"tuned_return": tuned_welfare})
    return solutions
