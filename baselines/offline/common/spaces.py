"""Kinds of actions of environments."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym

from rmdp_bench.tasks import Task


@functools.cache
def action_space(env_id: str) -> gym.Space[Any]:
    """Of an environment: `Discrete`, or a `Box` of [-1, 1]."""
    env = gym.make(env_id)
    env.close()
    return env.action_space


def is_discrete(env_id: str) -> bool:
    """Whether an environment's actions are integers."""
    return isinstance(action_space(env_id), gym.spaces.Discrete)


def n_discrete_actions(task: Task) -> int | None:
    """Number of the task's actions; None where they are continuous."""
    space = action_space(task.env_id)
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None
