"""EM-like learning with hard assignments (paper, section 3.3).

Every iteration collects with each representative, folds the returns of the episodes that ended
into the table Q (equation 10), assigns each agent to the representative that serves it best
(E-step, equation 11), and makes one PPO update for the new assignment (M-step).

Choices where the paper leaves one:
  - The assignment starts random and even. (The reference code deals the agents out in turn, which
    in Resource Gathering hands every representative a column of the grid.)
  - Ties keep the representative that an agent has: agents to whom nobody gives anything yet stay
    spread, where an arg-max in order would send them all to representative 0.
  - A representative left without agents receives a random one (appendix A, note on the M-step),
    taken from a representative that has several. (The code pins the last agent of each.)
  - No warm start: the E-step is idle until each representative has finished an episode.
  - Q averages undiscounted returns, in the order in which episodes end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rmdp_bench.results import RunLog

from baselines.online.assignments import one_hot, random_even_assignment
from baselines.online.learner import PPOConfig, solve_with_rule, task_settings
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings; equation 10's lambda is `mixing`."""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task))


def e_step(
    q_table: npt.NDArray[np.floating[Any]],
    current: npt.NDArray[np.intp],
    generator: np.random.Generator,
) -> npt.NDArray[np.intp]:
    """Assigns every agent to its best representative (equation 11).

    Args:
        q_table: (n, k) estimated returns.
        current: (n,) representative of each agent, kept where it is among the best.
        generator: draws the agents that representatives without any receive.

    Returns:
        (n,) representatives; each serves at least one agent if n >= k. Apart from the agents drawn
        for empty representatives, no agent's entry of `q_table` is lower than before.
    """
    n, k = q_table.shape
    chosen = q_table.argmax(1)
    best_now = q_table[np.arange(n), current] >= q_table.max(1)
    chosen[best_now] = current[best_now]
    for empty in np.setdiff1d(np.arange(k), chosen):
        counts = np.bincount(chosen, minlength=k)
        chosen[generator.choice(np.flatnonzero(counts[chosen] > 1))] = empty
    return chosen


class EMRule:
    """The E-step before every update."""

    moves_within_update = False

    def __init__(
        self, task: Task, n_representatives: int, seeds: Sequence[int], device: str
    ) -> None:
        """Starts every seed from its own random even assignment."""
        self.seeds, self.n_representatives, self.device = seeds, n_representatives, device
        self.n_steps = 0
        self.representatives = np.stack(
            [
                random_even_assignment(task.n_agents, n_representatives, self._generator(seed))
                for seed in seeds
            ]
        )
        self.assignment = one_hot(self.representatives, n_representatives, device)

    def _generator(self, seed: int) -> np.random.Generator:
        """A new generator for each E-step, so that there is none to store."""
        return np.random.default_rng([seed, 4, self.n_steps])

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """The E-step for each seed whose representatives have all finished an episode."""
        self.n_steps += 1
        for r, table in enumerate(average_returns):
            if not np.isnan(table).any():
                self.representatives[r] = e_step(
                    table, self.representatives[r], self._generator(self.seeds[r])
                )
        self.assignment = one_hot(self.representatives, self.n_representatives, self.device)

    def minibatch(self, objective: torch.Tensor, agent_advantages: torch.Tensor) -> None:
        """Does nothing: the assignment is fixed during the M-step."""

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Representatives (R, n) and the number of E-steps (R,)."""
        return {
            "representatives": self.representatives,
            "n_steps": np.full(len(self.seeds), self.n_steps),
        }

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restores what `get_state` returned."""
        self.representatives = state["representatives"].copy()
        self.n_steps = int(state["n_steps"][0])
        self.assignment = one_hot(self.representatives, self.n_representatives, self.device)


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Trains the k representatives of every seed, as one batch.

    Returns:
        One solution for each seed.
    """
    rule = EMRule(task, task.n_representatives, seeds, device)
    return solve_with_rule(task, config, seeds, device, log, rule)
