"""Groups by k-means on profiles, and a learned policy for each group.

A patient's profile is the logarithm of the mean risk that each controller of the tuned grid gives
them, less its mean over the grid: what they need, not how ill they are. k-means makes the groups
before anything is learned, and they stay: the cheapest thing that knows how patients differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import (
    FixedGroups,
    GroupSettings,
    check,
    cluster,
    solve_with_rule,
)
from baselines.heterogeneous.learner import EPISODE_STEPS
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning and of the learner."""


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
