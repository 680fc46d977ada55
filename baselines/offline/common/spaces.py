"""Kinds of actions of environments."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmdp_bench.tasks import Task


@functools.cache
def action_space(env_id: str) -> gym.Space[Any]:
    """Of an environment: `Discrete`, or a `Box`."""
    env = gym.make(env_id)
    env.close()
    return env.action_space


@dataclass(frozen=True)
class ActionScale:
    """Where the learners' [-1, 1] is in a world's units: low + width ((x + 1) / 2)^power.

    Attributes:
        low: (a,).
        width: (a,).
        power: 1; 3 for doses, which begin at 0 and are mostly far below the greatest: a network
            that ends in a hyperbolic tangent reaches small ones then.
    """

    low: NDArray[np.float32]
    width: NDArray[np.float32]
    power: int

    def to_unit(self, actions: Tensor) -> Tensor:
        """Actions (N, a) of the world in [-1, 1]."""
        share = (actions - torch.from_numpy(self.low)) / torch.from_numpy(self.width)
        return 2.0 * share.clip(0.0, 1.0) ** (1.0 / self.power) - 1.0


def action_scale(env_id: str) -> ActionScale | None:
    """That of a world's actions; None where they are discrete or in [-1, 1] anyway."""
    space = action_space(env_id)
    if not isinstance(space, gym.spaces.Box):
        return None
    if (space.low == -1).all() and (space.high == 1).all():
        return None
    low, width = space.low.astype(np.float32), (space.high - space.low).astype(np.float32)
    return ActionScale(low, width, 3 if (low == 0).all() else 1)


def is_discrete(env_id: str) -> bool:
    """Whether an environment's actions are integers."""
    return isinstance(action_space(env_id), gym.spaces.Discrete)


def n_discrete_actions(task: Task) -> int | None:
    """Number of the task's actions; None where they are continuous."""
    space = action_space(task.env_id)
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None
