"""Roll-outs that say how every agent fares under every candidate condition."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from baselines.online.universal.policies import FrozenActor
from rmdp_bench import OnlineTask

ROWS_AT_ONCE = 512
"""Copies of the world that are rolled out together; it bounds memory."""


class Trial(NamedTuple):
    """What `try_conditions` measures."""

    welfare: npt.NDArray[np.float64]
    """(n, m) mean return of each agent under each condition, percent."""
    transitions: int
    """Steps that were made."""


def try_conditions(
    task: OnlineTask, actor: FrozenActor, n_episodes: int, sequence: np.random.SeedSequence
) -> Trial:
    """Plays deterministic episodes under each of the actor's m conditions.

    Args:
        task: names the world.
        actor: frozen under m conditions.
        n_episodes: for each, with the same starts for all.
        sequence: gives the seeds of the starts, all below those that are kept for evaluation.
    """
    seeds = [int(seed) for seed in sequence.generate_state(n_episodes) >> 1]
    at_once = max(1, ROWS_AT_ONCE // n_episodes)
    parts, transitions = [], 0
    for first in range(0, len(actor.bias_1), at_once):
        biases = actor.bias_1[first : first + at_once]
        returns, steps = _play(task, actor, np.repeat(biases, n_episodes, axis=0), seeds)
        parts.append(returns.reshape(len(biases), n_episodes, -1).mean(1))
        transitions += steps
    return Trial(np.concatenate(parts).T, transitions)


def _play(
    task: OnlineTask, actor: FrozenActor, biases: npt.NDArray[np.float32], seeds: list[int]
) -> tuple[npt.NDArray[np.float64], int]:
    """Returns (E, n) of one episode in each of E copies, and the steps of all."""
    n_rows = len(biases)
    envs: Any = gym.make_vec(task.env_id, num_envs=n_rows, **task.env_kwargs)
    observations, _ = envs.reset(seed=seeds * (n_rows // len(seeds)))
    observations, world = np.array(observations), envs.unwrapped.world
    returns = np.zeros((n_rows, task.n_agents))
    rows, steps = np.arange(n_rows), 0
    for _ in range(task.max_episode_steps):
        actions = actor.act(observations, biases)[rows]
        # The vector form would go on with copies whose episode has ended.
        _, terminated, details = world.advance(rows, actions)
        observations[rows] = world.observe(rows)
        returns[rows] += details["agent_rewards"]
        steps += len(rows)
        rows = rows[~terminated]
        if not rows.size:
            break
    envs.close()
    return returns, steps
