"""A control without learning: the logged controllers with constant gains, k of them.

What a patient's controller does is read from the record: the basal rate and the carbohydrates for a
unit of bolus, as geometric means over the record. How both go with the time of day is left out:
with k = n everybody keeps their own controller without its daily waves. With fewer, patients are
grouped by both gains (k-means of their logarithms), and a group's controller has the geometric
means of its patients' gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.heterogeneous.clinic_records import check, group, load_episodes
from baselines.heterogeneous.controllers import BasalBolus
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OfflineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config:
    """It has no settings."""


def logged_gains(episodes: Sequence[Any]) -> NDArray[np.float64]:
    """Basal rate, U/h, and carbohydrates for a unit, g/U: (n, 2) geometric means over the record.

    Boluses that correct a reading too, in which more is given than for the meal, are left out.
    """
    rows = []
    for episode in episodes:
        seen, given = np.asarray(episode.observations[:-1], np.float64), episode.actions
        basal = np.exp(np.log(np.maximum(given[:, 0], 1e-6)).mean())
        plain = (seen[:, 3] > 0.0) & (given[:, 1] > 0.0)
        plain &= (seen[:, 0] <= 150.0) | (seen[:, 4] < 180.0)
        if not plain.any():
            plain = (seen[:, 3] > 0.0) & (given[:, 1] > 0.0)
        ratios = np.log(seen[plain, 3] / given[plain, 1])
        rows.append((basal, np.exp(ratios.mean()) if len(ratios) else 40.0))
    return np.array(rows)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Read the gains and group them; one solution for each seed."""
    del device
    check(task, config)
    gains = np.log(logged_gains(load_episodes(task)))
    solutions: list[Solution] = []
    for seed in seeds:
        group_of = group(gains, task.n_representatives, seed)
        means = [np.exp(gains[group_of == j].mean(axis=0)) for j in range(group_of.max() + 1)]
        policies = [BasalBolus(float(basal), float(ratio)) for basal, ratio in means]
        solutions.append(OfflineSolution(list[Policy](policies), np.eye(len(policies))[group_of]))
    log.progress(1, {"groups": [float(len(s.policies)) for s in solutions]}, total=1)
    return solutions
