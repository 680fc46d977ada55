"""Groups by tuned gains, and a learned policy for each group.

First a share of the budget tunes the clinic's controller for k groups, as `basal_bolus` does. Then
every group's controller becomes a policy that learns from its own patients by PPO (`learner`): it
starts as the controller, and feedback from the sensor is what it can add. Groups stay as they are;
they are those in which the controllers serve best, which need not be the best for what is learned
(`em` moves them).

With k = 1 it is one learned policy for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import (
    FixedGroups,
    GroupSettings,
    check,
    solve_with_rule,
    tuned_groups,
)
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning and of the learner."""


def _make_rule(task: OnlineTask, tuned: Tuned, seed: int) -> FixedGroups:
    del seed
    return FixedGroups(tuned_groups(tuned, task.n_representatives), task.n_representatives)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune, group, and learn a policy for each group.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    return solve_with_rule(task, config, seeds, log, _make_rule)
