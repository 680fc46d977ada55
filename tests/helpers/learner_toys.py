"""Small learners, and batches for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from baselines.online.ppo.assignments import (
    FixedRule,
    one_hot,
    random_even_assignment,
)
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.tasks import OnlineTask, get_online_task

SMALL: dict[str, Any] = {"n_envs": 2, "batch_size": 64, "minibatch_size": 16, "n_epochs": 2}

TASKS = ["ResourceGathering-n25-k3-v0", "HopperVel-n100-k2-v0"]


def small_task(task_id: str, updates: int = 4) -> OnlineTask:
    return dataclasses.replace(get_online_task(task_id), transitions=updates * SMALL["batch_size"])


def even_rule(task: OnlineTask, seeds: Sequence[int]) -> FixedRule:
    groups = [
        random_even_assignment(task.n_agents, task.n_representatives, np.random.default_rng(s))
        for s in seeds
    ]
    return FixedRule(one_hot(np.stack(groups), task.n_representatives, "cpu"))


# Sizes that no power of two divides, so that no remainder of a loop is left out.
ODD: dict[str, Any] = {
    "hidden_size": 13,
    "n_envs": 3,
    "batch_size": 210,
    "minibatch_size": 35,
    "n_epochs": 3,
    "entropy_coefficient": 0.1,
    "learning_rate": 5e-3,  # so that ratios leave the clipping range
}


def make_pair(
    task_id: str, seeds: tuple[int, ...] = (0, 1), **settings: Any
) -> tuple[PPOLearner, PPOLearner]:
    """The plain learner and the compiled one."""
    task = dataclasses.replace(small_task(task_id), transitions=10 * ODD["batch_size"])
    plain, compiled = (
        PPOLearner(task, PPOConfig(**(ODD | settings), compiled=is_compiled), seeds, "cpu")
        for is_compiled in (False, True)
    )
    return plain, compiled


def copy_batch(batch: CollectedBatch) -> CollectedBatch:
    """A batch of which rewards can be used up without touching the first."""
    return dataclasses.replace(batch, rewards=batch.rewards.clone())


def random_batch(learner: PPOLearner) -> CollectedBatch:
    """A batch with rewards of all sizes and every way for an episode to end."""
    batch = learner.collect()
    generator = torch.Generator().manual_seed(1)
    batch.rewards = torch.rand(batch.rewards.shape, generator=generator)
    batch.ended = torch.rand(batch.ended.shape, generator=generator) < 0.2
    truncated = batch.ended & (torch.rand(batch.ended.shape, generator=generator) < 0.5)
    where = np.argwhere(truncated.numpy())
    batch.truncations = tuple(where.T)
    batch.final_observations = torch.randn(
        len(where), learner.observation_size, generator=generator
    )
    return batch


def assert_same_state(first: PPOLearner, second: PPOLearner, tolerance: float) -> None:
    arrays, others = (learner.updates.get_state()[0] for learner in (first, second))
    assert set(arrays) == set(others)
    for name, array in arrays.items():
        scale = float(np.abs(array).max())
        np.testing.assert_allclose(
            others[name], array, rtol=0.0, atol=tolerance * scale, err_msg=name
        )
