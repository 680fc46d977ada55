"""Datasets that are small enough to build in every test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.datasets import DATASETS, DatasetEntry, get_dataset

CART_POLE = "rmdp/cartpole-het/random-v0"
HOPPER = "rmdp/hopper-vel-n100/random-v0"


def small(entry: DatasetEntry) -> DatasetEntry:
    """The same with the first episodes only, and the first day of a record of many."""
    if "days" in entry.env_kwargs:
        short = {**entry.env_kwargs, "days": 1, "max_episode_steps": 288}
        entry = dataclasses.replace(entry, env_kwargs=short)
    if entry.n_steps is not None:
        return dataclasses.replace(entry, n_steps=60)
    return dataclasses.replace(entry, n_episodes=4)


class ConstantPolicy:
    """Always one discrete action."""

    def __init__(self, action: int) -> None:
        self.action = action

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        assert observations.shape == (1, 4), "policies are asked for one observation at a time"
        return np.array([self.action])


class SumPolicy:
    """Torques from the sum of the observation."""

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        total = observations.sum(axis=1, keepdims=True)
        return np.repeat(np.sin(total).astype(np.float32), 3, axis=1)


def make_policies(actions: Sequence[int]) -> list[ConstantPolicy]:
    return [ConstantPolicy(action) for action in actions]


def make_sum_policies() -> list[SumPolicy]:
    return [SumPolicy()]


def cart_pole_entry(epsilon: float, n_episodes: int = 20) -> DatasetEntry:
    """Two policies: always to the left, always to the right."""
    return dataclasses.replace(
        get_dataset(CART_POLE),
        n_episodes=n_episodes,
        load_policies=partial(make_policies, (0, 1)),
        epsilon=epsilon,
    )


def hopper_entry() -> DatasetEntry:
    """Represented agents and a policy, in episodes of different lengths."""
    return dataclasses.replace(
        get_dataset(HOPPER), n_steps=300, load_policies=make_sum_policies, epsilon=0.3
    )


ENTRIES = [*map(small, DATASETS), cart_pole_entry(0.2), hopper_entry()]
