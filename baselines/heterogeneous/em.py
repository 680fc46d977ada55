"""EM-like learning with hard assignments (Ivanov & Ben-Porat 2024, 3.3) for agents with own worlds.

A transition informs about one agent here, so that what policy j is worth to patient i, V[i, j], has
to be played. The rule: of what tuning leaves of the budget a share (`visit_share`) is for visits,
one episode of every policy, without the noise of training, with every patient; they are spread
evenly over training, and the last one ends it. After each comes an E-step: V moves half-way to what
was seen, and each patient goes to the policy with the greatest (ties stay; whoever is alone with a
policy stays too, so that no policy is left without patients). Between visits is the M-step: PPO for
all k at once (`learner`), in which the copies of each representative are spread evenly over its own
patients.

It starts from the groups in which the clinic's tuned controllers serve best, and from those
controllers: those of `tuned_ppo`, which never moves them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.common.settings import check_range
from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import (
    FloatArray,
    GroupSettings,
    IntArray,
    check_budget,
    deal_groups,
    solve_with_rule,
    tuned_groups,
)
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning, of the learner and of the E-step."""

    visit_share: float = 0.2
    """Of the budget that tuning leaves, for visits."""
    mixing: float = 0.5
    """Weight of what a visit shows in the table of returns."""

    def __post_init__(self) -> None:
        """Refuse values that are out of range.

        Raises:
            ValueError: names the value and the range.
        """
        super().__post_init__()
        check_range(self, 0.0, 0.9, "visit_share")
        check_range(self, 0.01, 1.0, "mixing")


class EMRule:
    """The E-step after visits."""

    def __init__(self, config: Config, task: OnlineTask, tuned: Tuned, seed: int) -> None:
        """Start from the tuned groups; nothing in them is random."""
        del seed
        self.mixing, self.n_representatives = config.mixing, task.n_representatives
        self.representatives = tuned_groups(tuned, task.n_representatives)
        self.table = np.full((task.n_agents, task.n_representatives), np.nan)

    def next_episode(self, n_copies: int, rng: np.random.Generator) -> IntArray:
        """Every patient of a group as often as the others of it, to one."""
        return deal_groups(self.representatives, self.n_representatives, n_copies, rng)

    def after_episode(self, agents: IntArray, returns: FloatArray) -> None:
        """Learn nothing from it: training is noisy, and of own patients only."""

    def after_visits(self, returns: FloatArray) -> None:
        """Make the E-step."""
        known = np.where(np.isnan(self.table), returns, self.table)
        self.table = known + self.mixing * (returns - known)
        sizes = np.bincount(self.representatives, minlength=self.n_representatives)
        places = np.arange(len(returns))
        gains = self.table.max(axis=1) - self.table[places, self.representatives]
        for agent in np.argsort(-gains, kind="stable"):
            own = self.representatives[agent]
            if gains[agent] > 0.0 and sizes[own] > 1:
                best = int(self.table[agent].argmax())
                self.representatives[agent] = best
                sizes[own] -= 1
                sizes[best] += 1

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Who serves whom (n,), and the table (n, k)."""
        return {"representatives": self.representatives.copy(), "table": self.table.copy()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `get_state` gave."""
        self.representatives = state["representatives"].copy()
        self.table = state["table"].copy()


def check(task: Task, config: Config) -> None:
    """Refuse other worlds, and a budget that is too small to tune, to visit and to learn.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    check_budget(task, config, config.visit_share)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune, and train k representatives while visits move the groups.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    rule = functools.partial(EMRule, config)
    return solve_with_rule(task, config, seeds, log, rule, visit_share=config.visit_share)
