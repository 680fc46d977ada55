"""Random even groups, and a learned policy for each group: what k policies are worth by themselves.

Each starts as the controller of the tuned grid that is best for its group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.common import streams
from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import FixedGroups, GroupSettings, check, solve_with_rule
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning and of the learner."""


def _make_rule(task: OnlineTask, tuned: Tuned, seed: int) -> FixedGroups:
    del tuned
    k = task.n_representatives
    rng = np.random.default_rng([seed, streams.PPO.ASSIGNMENT])
    return FixedGroups(rng.permutation(np.arange(task.n_agents) % k), k)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Draw groups, tune, and learn a policy for each group.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    return solve_with_rule(task, config, seeds, log, _make_rule)
