"""Representatives trained for groups that are given, not learned: what knowing the split is worth.

The groups are those of the exact ceiling (`rmdp_bench.ceilings`). `groups="intervals"` is the
reference code's oracle instead: equal intervals of the preferences' range, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from baselines.online.ppo.assignments import FixedRule, one_hot
from baselines.online.ppo.learner import solve_with_rule
from baselines.online.ppo.settings import PPOConfig, check_online, critic_settings, task_settings
from baselines.online.ppo.settings import check as check_budget
from rmdp_bench.ceilings import (
    constant_speed_optimum,
    planar_velocity_groups,
    resource_gathering_optimum,
)
from rmdp_bench.population import LinearPopulation, TargetPopulation, is_on_line
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

SEEDS_AS_ONE_BATCH = True
RESOURCE_GATHERING = "rmdp/ResourceGathering-n25-v0"


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and the choice of groups."""

    groups: Literal["optimal", "intervals"] = "optimal"
    """The groups of the exact optimum, or equal intervals of the targets' range."""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task), **critic_settings(task))


def check(task: Task, config: Config) -> None:
    """Refuse what this solver cannot train.

    Raises:
        ValueError: if the budget is less than a batch, or the population has no intervals.
    """
    check_budget(task, config)
    oracle_groups(check_online(task), config.groups)


def oracle_groups(task: OnlineTask, groups: str) -> npt.NDArray[np.intp]:
    """Representatives (n,) of the agents.

    Raises:
        ValueError: if intervals are asked of a population without targets on a line, or the best
            groups are not known.
    """
    population, k = task.population, task.n_representatives
    if is_on_line(population):
        if groups == "optimal":
            return np.asarray(constant_speed_optimum(population, k)[2].argmax(1))
        targets = population.targets
        edges = np.linspace(targets.min(), targets.max(), k + 1)[1:-1]
        return np.searchsorted(edges, targets, side="right")
    if groups == "intervals":
        raise ValueError(
            f"groups is 'intervals', but the agents of {task.id} have no targets on a line; use "
            "'optimal'"
        )
    if isinstance(population, TargetPopulation):
        return np.asarray(planar_velocity_groups(population, k))
    if task.env_id == RESOURCE_GATHERING and population == LinearPopulation.tiles(25):
        return np.asarray(resource_gathering_optimum(k)[2].argmax(1))
    raise ValueError(f"the best groups of the agents of {task.id} are not known; use em or em_plus")


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train k representatives for the given groups.

    Returns:
        One solution for each seed.
    """
    groups: npt.NDArray[Any] = np.stack([oracle_groups(task, config.groups)] * len(seeds))
    rule = FixedRule(one_hot(groups, task.n_representatives, device))
    return solve_with_rule(task, config, seeds, device, log, rule)
