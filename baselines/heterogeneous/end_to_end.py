"""End-to-end learning (Ivanov & Ben-Porat 2024, 3.4) for agents with own worlds.

The assignment is soft: patient i is served by representative j with the probability that a softmax
of logits (n, k) gives. Welfare, sum_ij assignment[i, j] V[i, j], is raised in both: policy j learns
by PPO from patients who are drawn in proportion to assignment[:, j], and after every episode of
three days the logits make a step up the gradient, assignment[i, j] (V[i, j] - sum_l assignment[i,
l] V[i, l]), in units of mean risk.

V[i, j] is a moving average of what i had with j in training, whenever they met; as who meets whom
is drawn from the assignment, pairs are visited as often as they matter, and no transitions are for
visits alone. At first V is what the clinic's controllers of the tuned groups are worth, and the
logits are V over `temperature`. In the end each patient goes to the likeliest representative.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from baselines.common.settings import check_range
from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import (
    FloatArray,
    GroupSettings,
    IntArray,
    best_columns,
    check,
    solve_with_rule,
    tuned_groups,
)
from baselines.heterogeneous.learner import EPISODE_STEPS
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning, of the learner and of the assignment."""

    temperature: float = 3.0
    """Difference in mean risk for which one representative is at first e times as likely."""
    assignment_rate: float = 0.5
    """Step of the logits after an episode, for a gradient in units of mean risk."""
    mixing: float = 0.3
    """Weight of a new return in the moving average."""

    def __post_init__(self) -> None:
        """Refuse values that are out of range.

        Raises:
            ValueError: names the value and the range.
        """
        super().__post_init__()
        check_range(self, 1e-3, 1e3, "temperature")
        check_range(self, 0.0, 100.0, "assignment_rate")
        check_range(self, 0.01, 1.0, "mixing")


class SoftRule:
    """Logits of the assignment, moved by gradient."""

    def __init__(self, config: Config, task: OnlineTask, tuned: Tuned, seed: int) -> None:
        """Start from what the controllers of the tuned groups are worth; nothing is random."""
        del seed
        self.config, self.n_representatives = config, task.n_representatives
        groups = tuned_groups(tuned, task.n_representatives)
        columns = best_columns(tuned, groups, task.n_representatives)
        self.table = tuned.returns[:, columns] / EPISODE_STEPS
        self.logits = self.table / config.temperature

    @property
    def representatives(self) -> IntArray:
        """The likeliest of each patient, (n,)."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def assignment(self) -> FloatArray:
        """Probabilities (n, k)."""
        return np.asarray(softmax(self.logits, axis=1))

    def next_episode(self, n_copies: int, rng: np.random.Generator) -> IntArray:
        """Draw patients in proportion to their probabilities, as evenly as whole copies can.

        The copies of a representative stand at even distances on its patients' probabilities, one
        after the other, from a random start.
        """
        rows = []
        for shares in self.assignment.T:
            if not shares.sum():  # all below the least number: everybody, as for an empty group
                shares = np.ones_like(shares)
            ends = np.cumsum(shares) / shares.sum()
            points = (np.arange(n_copies) + rng.random()) / n_copies
            chosen = np.searchsorted(ends, points).clip(max=len(ends) - 1)
            rows.append(rng.permutation(chosen))
        return np.stack(rows)

    def after_episode(self, agents: IntArray, returns: FloatArray) -> None:
        """Fold the returns in, and make a step."""
        columns = np.broadcast_to(np.arange(len(agents))[:, np.newaxis], agents.shape)
        sums, counts = np.zeros_like(self.table), np.zeros_like(self.table)
        np.add.at(sums, (agents, columns), returns / EPISODE_STEPS)
        np.add.at(counts, (agents, columns), 1.0)
        seen = counts > 0.0
        self.table[seen] += self.config.mixing * (sums[seen] / counts[seen] - self.table[seen])
        assignment = self.assignment
        mean = (assignment * self.table).sum(axis=1, keepdims=True)
        self.logits = self.logits + self.config.assignment_rate * assignment * (self.table - mean)

    def after_visits(self, returns: FloatArray) -> None:
        """There are none."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Logits and the table, (n, k)."""
        return {"logits": self.logits.copy(), "table": self.table.copy()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `get_state` gave."""
        self.logits, self.table = state["logits"].copy(), state["table"].copy()


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune, and train k representatives and the assignment together.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    return solve_with_rule(task, config, seeds, log, functools.partial(SoftRule, config))
