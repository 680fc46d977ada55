"""Groups by tuned gains, and a learned policy for each group.

First a share of the budget tunes the clinic's controller for k groups, as `basal_bolus` does. Then
every group's controller becomes a policy that learns from its own patients by PPO (`learner`): it
starts as the controller, and feedback from the sensor is what it can add. Groups stay as they are;
they are those in which the controllers serve best, which need not be the best for what is learned.

With k = 1 it is one learned policy for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.heterogeneous.controllers import (
    ENVIRONMENT,
    BasalBolus,
    choose,
    grid_within,
    make_grid,
    tune,
)
from baselines.heterogeneous.learner import PPOSettings, learn
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["Config", "check", "solve"]

EPISODE_STEPS = 864


@dataclass(frozen=True)
class Config(PPOSettings):
    """Settings; those of the learner are in `PPOSettings`."""

    tuning_share: float = 0.3
    """Of the budget, for tuning: greatest."""
    n_points: int = 10
    """Most values of each gain of the controllers."""

    def __post_init__(self) -> None:
        """Refuse values that are out of range.

        Raises:
            ValueError: names the value and the range.
        """
        check_range(self, 0.0, 1.0, "tuning_share", "gae_lambda")
        check_range(self, 2, 64, "n_points")
        check_range(self, 1, 10**6, "n_copies", "n_epochs", "minibatch_size", "hidden_size")
        if not 1 <= self.segment <= EPISODE_STEPS or EPISODE_STEPS % self.segment:
            raise ValueError(f"segment is {self.segment}, expected a divisor of {EPISODE_STEPS}")


def check(task: Task, config: Config) -> None:
    """Refuse other worlds, and a budget that is too small to tune and to learn.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    if not isinstance(task, OnlineTask) or task.env_id != ENVIRONMENT:
        raise ValueError(f"{task.id} is not of {ENVIRONMENT}, the one world with an insulin pump")
    tuning = dataclasses.replace(task, transitions=int(config.tuning_share * task.transitions))
    n_points, n_episodes = grid_within(tuning, config.n_points)
    tuned = n_points**2 * n_episodes * task.n_agents * EPISODE_STEPS
    update = config.n_copies * config.segment
    if (task.transitions * task.n_representatives - tuned) // task.n_representatives < update:
        raise ValueError(
            f"{task.transitions} transitions per policy leave less than one update of {update} "
            "(n_copies x segment) after tuning"
        )


@one_thread()
def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune, group, and learn a policy for each group; seeds one after the other.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    check(task, config)
    return [_solve_one(task, config, seed, log, r, len(seeds)) for r, seed in enumerate(seeds)]


def _solve_one(
    task: OnlineTask, config: Config, seed: int, log: RunLog, place: int, n_seeds: int
) -> Solution:
    k = task.n_representatives
    tuning = dataclasses.replace(task, transitions=int(config.tuning_share * task.transitions))
    n_points, n_episodes = grid_within(tuning, config.n_points)
    tuned = tune(task, make_grid(n_points), n_episodes=n_episodes, seed=100 * (seed % 10_000_000))
    used = int(tuned.rollout.lengths.sum())
    _, groups = choose(tuned, k)
    # What is left is shared out evenly: a policy is worth as much as another, not a patient.
    n_steps = (task.transitions * k - used) // k
    policies: list[Policy] = []
    for j, controller in enumerate(groups.policies):
        assert isinstance(controller, BasalBolus)
        patients = np.flatnonzero(groups.assignment[:, j]).tolist()
        done = used + j * n_steps

        def report(made: int, risk: float, done: int = done, j: int = j) -> None:
            share = (place + (done + made) / (task.transitions * k)) / n_seeds
            risks = [float("nan")] * n_seeds
            risks[place] = risk
            log.progress(int(share * task.transitions), {f"train_risk_{j}": risks})

        if not patients:  # a controller that nobody prefers
            policies.append(controller)
            continue
        policies.append(
            learn(
                *(task, controller, patients, config),
                n_steps=n_steps,
                seed=seed * 1_000 + j,
                report=report,
            )
        )
    return Solution(policies, groups.assignment)
