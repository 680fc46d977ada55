"""TorchRL makes and wraps the environments, as it does Gymnasium's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from rmdp_bench.envs import EnvironmentEntry
from rmdp_bench.envs.wrappers import AgentReward, VectorReward
from tests.helpers.environments import HETEROGENEOUS, ONE_PER_WORLD, REPRESENTED

torchrl: Any = pytest.importorskip(
    "torchrl.envs", reason="TorchRL is not installed: pip install 'rmdp_bench[dev]'"
)


def rollout(env: Any) -> Any:
    """Three steps, after TorchRL's own check that they are as the environment's specs say."""
    torchrl.check_env_specs(env)
    return env.rollout(3, break_when_any_done=False)["next"]


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_made_by_its_id(entry: EnvironmentEntry) -> None:
    """It tries keywords that an environment may not have."""
    env = torchrl.GymEnv(entry.id)
    steps = rollout(env)
    assert steps["reward"].shape == (3, 1)
    assert steps["observation"].shape[1:] == gym.make(entry.id).observation_space.shape


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_infos_are_read(entry: EnvironmentEntry) -> None:
    steps = rollout(torchrl.GymEnv(entry.id).auto_register_info_dict())
    if entry.heterogeneous:
        assert steps["agent"].shape == (3,) and steps["agent"].dtype is torchrl_int64()
    else:
        assert steps["agent_rewards"].shape == (3, entry.n_agents)


def torchrl_int64() -> Any:
    import torch

    return torch.int64


@pytest.mark.parametrize("entry", HETEROGENEOUS)
def test_the_agent_of_a_reset_is_read(entry: EnvironmentEntry) -> None:
    env = torchrl.GymEnv(entry.id).auto_register_info_dict()
    assert env.reset(options={"agent": 7})["agent"] == 7


@pytest.mark.parametrize("entry", REPRESENTED)
def test_wrapped_with_the_reward_of_some_or_of_all(entry: EnvironmentEntry) -> None:
    env = gym.make(entry.id)
    for scalar in (env, env.unwrapped, AgentReward(env, 3), AgentReward(VectorReward(env), 3)):
        assert rollout(torchrl.GymWrapper(scalar))["reward"].shape == (3, 1)
    steps = rollout(torchrl.GymWrapper(VectorReward(env)))
    assert steps["reward"].shape == (3, entry.n_agents)


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_native_vector_form(entry: EnvironmentEntry) -> None:
    envs = gym.make_vec(entry.id, num_envs=2, autoreset_mode="DISABLED", max_episode_steps=2)
    steps = torchrl.GymWrapper(envs).rollout(5, break_when_any_done=False)["next"]
    assert steps["reward"].shape == (2, 5, 1)
