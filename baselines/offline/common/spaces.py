"""Kinds of actions of environments."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.tasks import Task


@functools.cache
def action_space(env_id: str) -> gym.Space[Any]:
    """Of an environment: `Discrete`, or a `Box`."""
    env = gym.make(env_id)
    env.close()
    return env.action_space


def action_scale(env_id: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Middle and half width (a,) of continuous actions.

    None where actions are discrete or in [-1, 1] anyway: learners act in [-1, 1].
    """
    space = action_space(env_id)
    if not isinstance(space, gym.spaces.Box):
        return None
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
    if (middle == 0).all() and (half == 1).all():
        return None
    return middle.astype(np.float32), half.astype(np.float32)


def is_discrete(env_id: str) -> bool:
    """Whether an environment's actions are integers."""
    return isinstance(action_space(env_id), gym.spaces.Discrete)


def n_discrete_actions(task: Task) -> int | None:
    """Number of the task's actions; None where they are continuous."""
    space = action_space(task.env_id)
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None
