"""Groups by k-means on profiles, and a learned policy for each group.

A patient's profile is the logarithm of the mean risk that each controller of the tuned grid gives
them, less its mean over the grid: what they need, not how ill they are. k-means makes the groups
before anything is learned, and they stay: the cheapest thing that knows how patients differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2

from baselines.common import streams
from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import (
    FixedGroups,
    FloatArray,
    GroupSettings,
    IntArray,
    check,
    solve_with_rule,
)
from baselines.heterogeneous.learner import EPISODE_STEPS
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "cluster", "solve"]

N_STARTS = 20
"""Of k-means; the tightest groups count."""


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning and of the learner."""


def cluster(points: FloatArray, k: int, seed: int) -> IntArray:
    """The group (n,) of each of n points (n, d), by k-means from several starts."""
    rng = np.random.default_rng([seed, streams.PPO.ASSIGNMENT])
    best, least = np.zeros(len(points), np.intp), np.inf
    for _ in range(N_STARTS):
        centres = points[rng.choice(len(points), k, replace=False)]
        # An empty group keeps its centre; a tighter start has none.
        centres, groups = kmeans2(points, centres, iter=50, minit="matrix", missing="warn")
        distance = float(np.square(points - centres[groups]).sum())
        if distance < least:
            best, least = groups.astype(np.intp), distance
    return best


def _make_rule(task: OnlineTask, tuned: Tuned, seed: int) -> FixedGroups:
    risks = np.log(-tuned.returns / EPISODE_STEPS + 1.0)
    profiles = risks - risks.mean(axis=1, keepdims=True)
    k = task.n_representatives
    return FixedGroups(cluster(profiles, k, seed), k)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune, cluster, and learn a policy for each cluster.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    return solve_with_rule(task, config, seeds, log, _make_rule)
