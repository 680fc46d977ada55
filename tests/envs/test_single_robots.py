"""A robot alone steps in fewer calls than many, and gives the same bits."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest


@pytest.mark.parametrize("n_agents", [1, 7, 100, 137, 1000])
@pytest.mark.parametrize("robot", ["HalfCheetah", "Hopper"])
def test_single_robots_give_the_bits_of_the_vector_form(robot: str, n_agents: int) -> None:
    """They sum the same rewards in another call, in the same order."""
    env_id = f"rmdp/{robot}Vel-n100-v0"
    single: Any = gym.make(env_id, n_agents=n_agents).unwrapped
    vector: Any = gym.make_vec(env_id, 2, n_agents=n_agents)
    observation, _ = single.reset(seed=0)
    observations, _ = vector.reset(seed=0)
    vector.action_space.seed(0)
    n_rewarded = 0
    for _ in range(30):
        assert observation.tobytes() == observations[0].tobytes()
        actions = vector.action_space.sample()
        observation, reward, terminated, _, info = single.step(actions[0])
        observations, rewards, terminations, _, infos = vector.step(actions)
        assert (reward, terminated) == (rewards[0], terminations[0])
        assert list(info) == ["agent_rewards", "outcome"]
        for name in info:
            assert info[name].tobytes() == infos[name][0].tobytes()
            assert info[name].shape == infos[name].shape[1:]
        n_rewarded += reward > 0.0
        if terminated:
            break
    assert n_rewarded or n_agents < 100
    with pytest.raises(ValueError, match="not in"):
        single.step(np.full(actions[0].shape, np.nan, np.float32))
    with pytest.raises(ValueError, match="shape"):
        single.step(np.zeros(2, np.float32))
