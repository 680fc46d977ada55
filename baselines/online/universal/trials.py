"""Roll-outs that say how every agent fares under every candidate condition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from baselines.online.ppo.policies import Actors
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
    task: OnlineTask, actors: Actors, n_episodes: int, sequence: np.random.SeedSequence
) -> Trial:
    """Play deterministic episodes under each of m conditions.

    Args:
        task: names the world.
        actors: the conditioned actor, frozen under each.
        n_episodes: for each, with the same starts for all.
        sequence: gives the seeds of the starts, all below those that are kept for evaluation.
    """
    seeds = [int(seed) for seed in sequence.generate_state(n_episodes) >> 1]
    at_once = max(1, ROWS_AT_ONCE // n_episodes)
    parts, transitions = [], 0
    for first in range(0, actors.n_policies, at_once):
        biases = actors.hidden_bias[first : first + at_once]
        returns, steps = _play(task, actors, np.repeat(biases, n_episodes, axis=0), seeds)
        parts.append(returns.reshape(len(biases), n_episodes, -1).mean(1))
        transitions += steps
    return Trial(np.concatenate(parts).T, transitions)


def _play(
    task: OnlineTask, actors: Actors, biases: npt.NDArray[np.float32], seeds: list[int]
) -> tuple[npt.NDArray[np.float64], int]:
    """What all agents receive (E, n) in one episode of each of E copies, and the steps of all."""
    n_rows = len(biases)
    if not task.is_native:
        return _play_outside(task, actors, biases, seeds)
    envs: Any = task.make(n_rows)
    observations, _ = envs.reset(seed=seeds * (n_rows // len(seeds)))
    observations, world = np.array(observations), envs.unwrapped.world
    returns = np.zeros((n_rows, task.n_agents))
    rows, steps = np.arange(n_rows), 0
    for _ in range(task.max_episode_steps):
        actions = actors.act(observations, biases, 0)[rows]
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


def _play_outside(
    task: OnlineTask, actors: Actors, biases: npt.NDArray[np.float32], seeds: list[int]
) -> tuple[npt.NDArray[np.float64], int]:
    """As `_play`, in copies that can only be stepped all together: all their steps count."""
    n_rows = len(biases)
    envs = task.make(n_rows)
    observations, _ = envs.reset(seed=seeds * (n_rows // len(seeds)))
    returns, steps = np.zeros((n_rows, task.n_agents)), 0
    running = np.ones(n_rows, bool)
    while running.any():
        actions = actors.act(observations, biases, 0)
        observations, _, terminated, truncated, infos = envs.step(actions)
        over, earned = terminated | truncated, infos["agent_rewards"]
        if over.any():
            earned = np.where(over[:, None], infos["final_info"]["agent_rewards"], earned)
        returns[running] += earned[running]
        steps += n_rows
        running &= ~over
    envs.close()
    return returns, steps
