"""BCQ: batch-constrained Q-learning, discrete and continuous; see `batch_constrained`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baselines.offline.common.data import check_offline
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import solve_with_learner
from baselines.offline.model_free.batch_constrained import BCQConfig, bcq_settings, make_bcq
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask, Task


@dataclass(frozen=True)
class Config(BCQConfig):
    """The learner's settings."""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**bcq_settings(task))


def check(task: Task, config: Config) -> None:
    """Refuses online tasks and data that are not there.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    check_offline(task, config)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Trains the policies of every seed, as one batch.

    Returns:
        One solution for each seed.
    """
    n_actions = n_discrete_actions(task)
    return solve_with_learner(
        task,
        config,
        seeds,
        device,
        log,
        lambda replay: make_bcq(replay, config, task.gamma, n_actions),
    )
