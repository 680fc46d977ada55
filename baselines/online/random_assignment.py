"""The control: agents are dealt out at random and evenly, and stay where they are (section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.common import streams
from baselines.online.ppo.assignments import FixedRule, one_hot, random_even_assignment
from baselines.online.ppo.learner import solve_with_rule
from baselines.online.ppo.settings import PPOConfig, check, critic_settings, task_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["SEEDS_AS_ONE_BATCH", "Config", "check", "config_for", "solve"]

SEEDS_AS_ONE_BATCH = True


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings."""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task), **critic_settings(task))


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train k representatives for every seed's random groups.

    Returns:
        One solution for each seed.
    """
    n, k = task.n_agents, task.n_representatives
    groups = [
        random_even_assignment(n, k, np.random.default_rng([seed, streams.PPO.ASSIGNMENT]))
        for seed in seeds
    ]
    rule = FixedRule(one_hot(np.stack(groups), k, device))
    return solve_with_rule(task, config, seeds, device, log, rule)
