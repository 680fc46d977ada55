"""A robot alone steps in fewer calls than many, and gives the same bits."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.envs.core.checks import ActionCheck


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


class Half(rmdp_bench.Population):
    """Two agents, written for outcomes (E, 1) alone."""

    n_agents, outcome_size = 2, 1

    def rewards(self, outcomes: Any) -> Any:
        return np.stack((outcomes[:, 0], -0.5 * outcomes[:, 0]), axis=1)


def test_own_agents_are_asked_as_in_the_vector_form() -> None:
    env: Any = gym.make("rmdp/HalfCheetahVel-n100-v0", population=Half())
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.ones(6, np.float32))
    velocity = info["outcome"][0]
    assert info["agent_rewards"].tolist() == [velocity, -0.5 * velocity]
    assert reward == pytest.approx(0.25 * velocity)


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (gym.spaces.Box(-1.0, 1.0, (2,)), [[1.0, -1.0], [0, 1]], [[1.1, 0.0], [0.0, -np.inf]]),
        (gym.spaces.Box(0.0, 2.0, (2,)), [[0.0, 2.0]], [[-0.1, 1.0], [1.0, 2.1], [np.nan, 1.0]]),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), [[1e9, -1e9]], [[np.nan, 0.0]]),
        (gym.spaces.Box(0, 255, (2,), np.uint8), [[0, 255]], [[256, 0], [-1, 0]]),
        (
            gym.spaces.Box(-np.array([1, 2], np.float32), np.array([1, 2], np.float32)),
            [[1, -2]],
            [[-2, 1]],
        ),
        # The absolute value of the least integer is itself.
        (gym.spaces.Box(-1.0, 1.0, (2,)), [], [np.array([-128, 0], np.int8)]),
    ],
)
def test_checks_of_actions_know_every_box(space: Any, good: list[Any], bad: list[Any]) -> None:
    check = ActionCheck(space)
    for action in good:
        assert np.array_equal(check.alone(np.array(action)), action)
        assert np.array_equal(check(np.array([action] * 3), np.arange(3), 3), [action] * 3)
    for action in bad:
        with pytest.raises(ValueError, match=r"is not in \["):
            check.alone(np.array(action))
        with pytest.raises(ValueError, match="environment 1"):
            check(np.array([np.ones(2), action]), np.arange(2), 2)
