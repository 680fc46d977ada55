"""Worlds from outside, as solvers use them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.envs.core.counting import steps_made, uncounted
from rmdp_bench.envs.outside import OutsideWorlds
from tests.helpers.own_world import AGENTS, STEPS, make, make_line, place

MODES = [mode.value for mode in gym.vector.AutoresetMode]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_episodes_of_single_worlds(mode: str) -> None:
    """What ended is in final_obs and final_info; observations are of the next episode."""
    worlds = OutsideWorlds(make(3, mode), "line", STEPS)
    singles = [rmdp_bench.represent(make_line(), AGENTS, place) for _ in range(3)]
    observations, _ = worlds.reset(seed=[4, 5, 6])
    for row, single in enumerate(singles):
        np.testing.assert_array_equal(observations[row], single.reset(seed=4 + row)[0])
    random, n_ends = np.random.default_rng(0), 0
    for _ in range(40):
        actions = random.integers(0, 3, 3)
        observations, _, terminated, truncated, infos = worlds.step(actions)
        for row, single in enumerate(singles):
            last, _, own_end, own_cut, info = single.step(actions[row])
            assert (terminated[row], truncated[row]) == (own_end, own_cut)
            if own_end or own_cut:
                n_ends += 1
                np.testing.assert_array_equal(infos["final_obs"][row], last)
                for name in ("outcome", "agent_rewards"):
                    np.testing.assert_array_equal(infos["final_info"][name][row], info[name])
                last = single.reset()[0]
            else:
                np.testing.assert_array_equal(infos["agent_rewards"][row], info["agent_rewards"])
            np.testing.assert_array_equal(observations[row], last)
    assert n_ends > 6
    worlds.close()


def test_steps_are_counted_once() -> None:
    before = steps_made()
    worlds = OutsideWorlds(make(3), "line", STEPS)
    worlds.reset(seed=[0, 1, 2])
    worlds.step(np.zeros(3, np.int64))
    assert steps_made() - before == 3
    with uncounted():
        worlds = OutsideWorlds(make(3), "line", STEPS)
    worlds.reset(seed=[0, 1, 2])
    worlds.step(np.zeros(3, np.int64))
    assert steps_made() - before == 3


class Odd(gym.vector.VectorEnv[Any, Any, Any]):
    """Of nobody's usual kind."""

    num_envs = 1
    single_observation_space = observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    single_action_space = action_space = gym.spaces.Discrete(2)


def nothing(observations: Any, *rest: Any) -> Any:
    del rest
    return np.zeros((1, 1))


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"line: make gives .*SyncVectorEnv.*, expected rmdp_bench"
    ):
        OutsideWorlds(gym.vector.SyncVectorEnv([make_line]), "line", STEPS)
    frozen = rmdp_bench.represent(gym.make_vec("FrozenLake-v1", num_envs=1), AGENTS, nothing)
    with pytest.raises(ValueError, match=r"observations are of Discrete.*FlattenObservation"):
        OutsideWorlds(frozen, "lake", 100)
    odd = rmdp_bench.represent(Odd(), AGENTS, nothing)
    with pytest.raises(ValueError, match="odd: Odd resets episodes in the step after .*'sync'"):
        OutsideWorlds(odd, "odd", 100)


def test_an_episode_that_does_not_end_is_an_error() -> None:
    worlds = OutsideWorlds(make(2), "line", 3)
    worlds.reset(seed=[0, 1])
    with pytest.raises(ValueError, match="line: an episode goes on after 3 steps"):
        for _ in range(3):
            worlds.step(np.ones(2, np.int64))
