"""EM-like learning with hard assignments (paper, section 3.3).

Every iteration collects with each representative, folds the returns of the episodes that ended
into the table Q (equation 10), assigns each agent to the representative that serves it best
(E-step, equation 11), and makes one PPO update for the new assignment (M-step).

Choices where the paper leaves one:
  - The assignment starts random and even. (The reference code deals the agents out in turn, which
    in Resource Gathering hands every representative a column of the grid.)
  - Ties keep the representative that an agent has: agents to whom nobody gives anything yet stay
    spread, where an arg-max in order would send them all to representative 0.
  - A representative left without agents is lent a random one (appendix A, note on the M-step) of
    a representative that has several. Since one PPO update does not reach the optimum for it, as
    the appendix assumes, the agent is lent for `patience` updates, unless the representative wins
    somebody before or the lender has nobody else left. A solution has no loans. (The code pins the
    last agent of each for good.)
  - No warm start: the E-step is idle until each representative has finished an episode.
  - Q averages undiscounted returns, one for each episode in the order in which they end (the code:
    one per iteration), and starts from a representative's first return, not from zero.

Deep-sea treasure with 100 weightings (`DeepSeaTreasure-n100-kK-v0`, `--seeds 0:3`), as a share of
the exact optimum: 100 % for k = 1, 98.4 % for 2, 100 % for 3 and for 5, on each of three seeds.
With the first 50 of them (`--agents 50`) the means are 100, 98.9, 98.7 and 98.5 %, and two of the
seeds of k = 5 have 97.7 and 97.8 %.

It takes the entropy of `settings.FAR_REWARDS`: with the settings of Resource Gathering and 100,000
transitions per policy k = 2 ended at 95.8, 92.9 and 95.8 %. It was not the split but the acting:
the best pair of treasures is 3 and 19 steps away, and nobody comes upon the last one once a nearer
one pays, as each step towards it costs and the worth of all is at its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.online.ppo.assignments import e_step, one_hot, random_even_assignment
from baselines.online.ppo.learner import solve_with_rule
from baselines.online.ppo.settings import PPOConfig, check, critic_settings, task_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["SEEDS_AS_ONE_BATCH", "Config", "check", "config_for", "solve"]

SEEDS_AS_ONE_BATCH = True


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings; equation 10's lambda is `mixing`."""

    patience: int = 25
    """Updates for which a representative without agents keeps the one that it is lent."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range."""
        super().__post_init__()
        check_range(self, 1, math.inf, "patience")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task), **critic_settings(task))


class EMRule:
    """The E-step before every update."""

    moves_within_update = False
    normalizes_minibatches = False

    def __init__(self, task: Task, config: Config, seeds: Sequence[int], device: str) -> None:
        """Start every seed from its own random even assignment."""
        self.seeds, self.n_representatives, self.device = seeds, task.n_representatives, device
        self.patience = config.patience
        self.n_steps = 0
        self.representatives = np.stack(
            [
                random_even_assignment(
                    task.n_agents,
                    task.n_representatives,
                    np.random.default_rng([seed, streams.PPO.ASSIGNMENT]),
                )
                for seed in seeds
            ]
        )
        self.lent_agent = np.zeros((len(seeds), task.n_representatives), np.intp)
        self.lent_until = np.zeros_like(self.lent_agent)
        self._set_assignments()

    def _set_assignments(self) -> None:
        """Derive the assignment for training, with loans, and the one of a solution."""
        self.served = one_hot(self.representatives, self.n_representatives, self.device)
        self.assignment = self.served
        loans = np.argwhere(self.lent_until > self.n_steps)
        if len(loans):
            self.assignment = self.served.clone()
        for r, j in loans:
            self.assignment[r, self.lent_agent[r, j]] = 0.0
            self.assignment[r, self.lent_agent[r, j], j] = 1.0

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """Make the E-step for each seed whose representatives have all finished an episode."""
        self.n_steps += 1
        for r, table in enumerate(average_returns):
            if not np.isnan(table).any():
                self.representatives[r] = e_step(table, self.representatives[r])
                self._lend_agents(r)
        self._set_assignments()

    def _lend_agents(self, r: int) -> None:
        """Lend each representative of seed r that has no agents one, for some time."""
        chosen = self.representatives[r]
        staying = np.bincount(chosen, minlength=self.n_representatives)
        self.lent_until[r, staying > 0] = 0
        for j in np.flatnonzero(staying == 0):
            lender = chosen[self.lent_agent[r, j]]
            if self.lent_until[r, j] <= self.n_steps or staying[lender] == 1:
                # Nobody is lent out twice, and no lender is left without agents.
                on_loan = self.lent_agent[r, self.lent_until[r] > self.n_steps]
                can_leave = staying[chosen] > 1
                can_leave[on_loan] = False
                # A new generator for each draw, so that there is none to store.
                generator = np.random.default_rng(
                    [self.seeds[r], streams.PPO.ASSIGNMENT, self.n_steps, int(j)]
                )
                self.lent_agent[r, j] = generator.choice(np.flatnonzero(can_leave))
                self.lent_until[r, j] = self.n_steps + self.patience
                lender = chosen[self.lent_agent[r, j]]
            staying[lender] -= 1

    def descend(self, slope: Tensor) -> None:
        """Leave the assignment as it is during the M-step."""

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Representatives (R, n), agents lent and until when (R, k), number of iterations (R,)."""
        return {
            "representatives": self.representatives,
            "lent_agent": self.lent_agent,
            "lent_until": self.lent_until,
            "n_steps": np.full(len(self.seeds), self.n_steps),
        }

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned."""
        for name in ("representatives", "lent_agent", "lent_until"):
            setattr(self, name, state[name].copy())
        self.n_steps = int(state["n_steps"][0])
        self._set_assignments()


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train the k representatives of every seed, as one batch.

    Returns:
        One solution for each seed.
    """
    rule = EMRule(task, config, seeds, device)
    return solve_with_rule(task, config, seeds, device, log, rule)
