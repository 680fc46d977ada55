"""Stable-Baselines3 on the native vector form, and ids that spawned workers know."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecMonitor,
    VecNormalize,
)

from rmdp_bench import AgentReward, BatchedAgentReward
from rmdp_bench.stable_baselines import StableBaselinesVecEnv

HOPPER = "rmdp/HopperVel-n100-v0"
GRID = "rmdp/ResourceGathering-n25-v0"
CART_POLE = "rmdp/CartPoleHet-n500-v0"


def make_native(env_id: str, n: int, group: Any = None, **keywords: Any) -> StableBaselinesVecEnv:
    envs: Any = gym.make_vec(env_id, num_envs=n, autoreset_mode="SAME_STEP", **keywords)
    return StableBaselinesVecEnv(envs if group is None else BatchedAgentReward(envs, group))


def make_dummy(env_id: str, n: int, group: Any = None, **keywords: Any) -> DummyVecEnv:
    def make() -> gym.Env[Any, Any]:
        env = gym.make(env_id, **keywords)
        return env if group is None else AgentReward(env, group)

    return DummyVecEnv([make] * n)


def assert_same(one: Any, other: Any) -> None:
    """The same keys, types and values, bit for bit."""
    assert type(one) is type(other), (one, other)
    if isinstance(one, dict):
        assert set(one) == set(other)
        for name, value in one.items():
            assert_same(value, other[name])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("env_id", "group", "n_steps"),
    [(HOPPER, None, 150), (HOPPER, [3, 50], 100), (GRID, 4, 90), (GRID, [0.5] * 25, 90)]
    + [(CART_POLE, None, 150)],
)
def test_it_is_what_dummy_makes_of_single_environments(
    env_id: str, group: Any, n_steps: int
) -> None:
    native, dummy = make_native(env_id, 3, group), make_dummy(env_id, 3, group)
    assert native.observation_space == dummy.observation_space
    assert native.action_space == dummy.action_space
    for envs in (native, dummy):
        assert envs.seed(7) == [7, 8, 9]
    assert_same(native.reset(), dummy.reset())
    assert_same(native.reset_infos, dummy.reset_infos)
    rng, n_ended, n_cut = np.random.default_rng(0), 0, 0
    for _ in range(n_steps):
        if isinstance(native.action_space, gym.spaces.Discrete):
            actions: Any = rng.integers(native.action_space.n, size=3)
        else:
            actions = rng.uniform(-1, 1, (3, *(native.action_space.shape or ())))
            actions = actions.astype(np.float32)
        ours, theirs = native.step(actions), dummy.step(actions)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
        assert_same(native.reset_infos, dummy.reset_infos)
        n_ended += ours[2].sum()
        n_cut += sum(info["TimeLimit.truncated"] for info in ours[3])
    assert n_ended > n_cut
    assert n_cut > 0 or env_id != GRID
    native.close()


def test_truncated_and_terminated_ends_are_told_apart() -> None:
    native = make_native(CART_POLE, 2, max_episode_steps=9)
    native.seed(0)
    observations = native.reset()
    cut = []
    for _ in range(60):
        after, _, done, infos = native.step(np.array([0, 1]))
        observations = np.asarray(after)
        for e in np.flatnonzero(done):
            last = infos[e]["terminal_observation"]
            assert infos[e]["TimeLimit.truncated"] == (abs(last[2]) < 0.2094)
            assert (last != observations[e]).any()
            cut.append(infos[e]["TimeLimit.truncated"])
    assert {True, False} == set(cut)


def test_agents_who_differ_in_dynamics_are_chosen_by_options() -> None:
    native = make_native(CART_POLE, 3)
    native.set_options([{"agent": 4}, {"agent": 0}, {"agent": 600}])
    native.reset()
    assert [info["agent"] for info in native.reset_infos] == [4, 0, 600]
    native.set_options({"agent": 5})
    native.reset()
    assert [info["agent"] for info in native.reset_infos] == [5, 5, 5]
    native.set_options([{"agent": 4}, {}, {}])
    with pytest.raises(ValueError, match="expected the same names for every copy"):
        native.reset()


def test_attributes_and_methods_of_copies() -> None:
    native, dummy = make_native(GRID, 3), make_dummy(GRID, 3)
    for name in ("observation_space", "action_space", "population", "render_mode"):
        assert native.get_attr(name) == dummy.get_attr(name)
        assert native.get_attr(name, indices=[2]) == dummy.get_attr(name, indices=[2])
    assert native.has_attr("population") and not native.has_attr("nothing")
    native.set_attr("note", "a", indices=1)
    assert native.get_attr("note") == [None, "a", None]
    native.set_attr("note", "b", indices=[0])
    assert native.get_attr("note", indices=[0, 1]) == ["b", "a"]
    assert native.env_is_wrapped(Monitor) == [False] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert native.env_method("render", indices=[1]) == [None]
        assert native.get_images() == [None] * 3


def test_frames_of_all_copies() -> None:
    native, dummy = (make(GRID, 2, render_mode="rgb_array") for make in (make_native, make_dummy))
    for envs in (native, dummy):
        envs.seed(0)
        envs.reset()
        envs.step(np.array([1, 0]))
    ours, theirs = native.get_images(), dummy.get_images()
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None and other is not None
        np.testing.assert_array_equal(one, other)
    assert native.render("rgb_array") is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gym.make_vec(GRID, num_envs=2), "NEXT_STEP, expected SAME_STEP"),
        (
            lambda: gym.make_vec(GRID, num_envs=2, autoreset_mode="DISABLED"),
            "DISABLED, expected SAME_STEP",
        ),
        (lambda: gym.make(GRID), "expected gym.make_vec of an id of rmdp_bench"),
        (lambda: gym.make_vec("CartPole-v1", num_envs=2), "expected gym.make_vec of an id"),
    ],
)
def test_other_environments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StableBaselinesVecEnv(make())


def test_ppo_learns_in_monitored_and_normalised_environments() -> None:
    """Uniform actions have a mean return of 22; after as many steps six seeds had 88 to 93."""
    envs = VecNormalize(VecMonitor(make_native(CART_POLE, 8)))
    model = PPO(
        "MlpPolicy", envs, n_steps=64, batch_size=128, learning_rate=1e-3, seed=0, device="cpu"
    )
    model.learn(10_000)
    episodes = model.ep_info_buffer or ()
    assert len(episodes) == 100
    assert all(episode["r"] == episode["l"] for episode in episodes)  # a step on foot gives 1
    assert np.mean([episode["r"] for episode in episodes]) > 40
    envs.training = False
    mean, _ = evaluate_policy(model, envs, 10, warn=False)
    assert np.isfinite(mean)


# Ids that a spawned process knows.


@pytest.mark.parametrize("env_id", [GRID, CART_POLE])
def test_spawned_workers_of_stable_baselines_know_the_id(env_id: str) -> None:
    keywords: dict[str, Any] = {"vec_env_cls": SubprocVecEnv}
    envs: VecEnv = make_vec_env(
        f"rmdp_bench:{env_id}", 2, seed=3, **keywords, vec_env_kwargs={"start_method": "spawn"}
    )
    native = make_native(env_id, 2)
    native.seed(3)
    try:
        np.testing.assert_array_equal(envs.reset(), native.reset())
        actions = np.array([0, 1])
        np.testing.assert_array_equal(envs.step(actions)[0], native.step(actions)[0])
    finally:
        envs.close()


def test_spawned_workers_of_gymnasium_know_the_id() -> None:
    envs = AsyncVectorEnv([make_grid] * 2, context="spawn")
    native = gym.make_vec(GRID, num_envs=2)
    try:
        np.testing.assert_array_equal(envs.reset(seed=1)[0], native.reset(seed=1)[0])
        actions = np.array([2, 3])
        for one, other in zip(envs.step(actions)[:4], native.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(one, other)
    finally:
        envs.close()


def make_grid() -> gym.Env[Any, Any]:
    return gym.make(f"rmdp_bench:{GRID}")


def test_make_vec_spawns_workers_for_the_id() -> None:
    envs = gym.make_vec(
        f"rmdp_bench:{GRID}", 2, vectorization_mode="async", vector_kwargs={"context": "spawn"}
    )
    try:
        observations, infos = envs.reset(seed=1)
        assert observations.shape[0] == 2 and infos["agent_rewards"].shape == (2, 25)
    finally:
        envs.close()
