"""The control without learning: basal rate and carbohydrate ratio, tuned for k groups of patients.

See `controllers`. With `boluses=false` it is the constant basal rate alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from baselines.heterogeneous.controllers import ENVIRONMENT, choose, make_grid, tune
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
    _size_of(task, config)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune a grid within the task's transitions and choose k of it, for each seed anew.

    Returns:
        One solution for each seed.
    """
    del device  # NumPy
    check(task, config)
    n_points, n_episodes = _size_of(task, config)
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


def _size_of(task: OnlineTask, config: Config) -> tuple[int, int]:
    """Points of the grid along each gain, and episodes of each pair, within the budget.

    Raises:
        ValueError: the budget is below two points and one episode.
    """
    n_gains = 2 if config.boluses else 1
    per_candidate = task.n_agents * task.max_episode_steps
    n_candidates = task.transitions * task.n_representatives // per_candidate
    n_points = min(config.n_points, math.floor(n_candidates ** (1.0 / n_gains) + 1e-9))
    if n_points < 2 or n_points**n_gains < task.n_representatives:
        least = math.ceil(max(2**n_gains, task.n_representatives) * per_candidate)
        raise ValueError(
            f"{task.transitions} transitions per policy are not enough to try controllers on "
            f"{task.n_agents} patients, expected at least "
            f"{math.ceil(least / task.n_representatives)}"
        )
    return n_points, min(100, n_candidates // n_points**n_gains)
