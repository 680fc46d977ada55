from __future__ import annotations

import json
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rmdp_bench import AgentReward, VectorReward
from rmdp_bench.envs.wrappers import BatchedAgentReward, BatchedVectorReward

GRID = "rmdp/ResourceGathering-n25-v0"
ROBOT = "rmdp/HalfCheetahVel-n100-v0"
HOME = 22


def returns(env: gym.Env[Any, Any]) -> Any:
    """Sum of rewards of the episode up, down on the grid: 98 for the tiles 17 and 22."""
    env.reset(seed=0)
    rewards: list[Any] = [env.step(action)[1] for action in (0, 1)]
    return rewards[0] + rewards[1]


@pytest.mark.parametrize(
    ("agents_or_weights", "expected"),
    [
        (17, 98.0),
        (np.int64(HOME), 98.0),
        (0, 0.0),
        ([17], 98.0),
        ([17, HOME, 0, 1], 49.0),
        (np.array([0, HOME]), 49.0),
        (np.full(25, 0.5), 98.0),
        ([0.0] * 17 + [2.0] + [0.0] * 7, 196.0),
    ],
)
def test_reward_of_an_agent_of_several_and_of_a_weighted_group(
    agents_or_weights: Any, expected: float
) -> None:
    assert returns(AgentReward(gym.make(GRID), agents_or_weights)) == pytest.approx(expected)


def test_the_mean_over_all_agents_is_the_plain_reward() -> None:
    plain, wrapped = gym.make(ROBOT), AgentReward(gym.make(ROBOT), range(100))
    plain.reset(seed=0), wrapped.reset(seed=0)
    plain.action_space.seed(0)
    for _ in range(20):
        action = plain.action_space.sample()
        assert wrapped.step(action)[1] == pytest.approx(float(plain.step(action)[1]), abs=1e-12)


@pytest.mark.parametrize(
    "agents_or_weights",
    [25, -1, [], [3, 3], [0, 25], "one", None, True, [1.0], np.full(25, np.nan), np.ones((25, 1))],
)
def test_bad_agents_are_refused(agents_or_weights: Any) -> None:
    with pytest.raises(ValueError, match="agents"):
        AgentReward(gym.make(GRID), agents_or_weights)
    with pytest.raises(ValueError, match="agents"):
        BatchedAgentReward(gym.make_vec(GRID, num_envs=2), agents_or_weights)


def test_other_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="rmdp_bench"):
        AgentReward(gym.make("CartPole-v1"), 0)
    with pytest.raises(ValueError, match="rmdp_bench"):
        VectorReward(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="rmdp_bench"):
        BatchedAgentReward(gym.make_vec("CartPole-v1", num_envs=2), 0)
    single: Any = gym.make(GRID)
    vector: Any = gym.make_vec(GRID, num_envs=2)
    with pytest.raises(ValueError, match="Batched"):
        AgentReward(vector, 0)
    with pytest.raises(ValueError, match="make_vec"):
        BatchedVectorReward(single)


def test_agents_with_dynamics_of_their_own_are_refused() -> None:
    single: Any = gym.make("rmdp/CartPoleHet-n500-v0")
    vector: Any = gym.make_vec("rmdp/CartPoleHet-n500-v0", num_envs=2)
    for wrap in (lambda: AgentReward(single, 0), lambda: BatchedVectorReward(vector)):
        with pytest.raises(ValueError, match="differ in dynamics"):
            wrap()


@pytest.mark.parametrize("agents_or_weights", [3, [1, 2], np.linspace(0, 1, 25)])
def test_spec_is_json_and_makes_the_same_again(agents_or_weights: Any) -> None:
    env = AgentReward(gym.make(GRID), agents_or_weights)
    assert env.spec is not None
    document = env.spec.to_json()
    json.loads(document)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(document))
    assert isinstance(again, AgentReward)
    assert returns(again) == returns(env)


def test_vector_reward_is_the_rewards_of_all_agents_in_their_space() -> None:
    env = VectorReward(gym.make(GRID))
    total = returns(env)
    expected = np.zeros(25)
    expected[[17, HOME]] = 98.0
    np.testing.assert_array_equal(total, expected)
    assert env.reward_space.shape == (25,) and total in env.reward_space
    assert env.spec is not None
    assert isinstance(gym.make(env.spec), VectorReward)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_batched_rewards_are_those_of_single_environments(mode: AutoresetMode) -> None:
    """Episodes end all the time: the last reward of each must not get lost."""
    weights = np.random.default_rng(0).random(25)
    single = gym.vector.SyncVectorEnv(
        [lambda: AgentReward(gym.make(GRID), weights) for _ in range(4)], autoreset_mode=mode
    )
    around = BatchedAgentReward(
        gym.vector.SyncVectorEnv([lambda: gym.make(GRID) for _ in range(4)], autoreset_mode=mode),
        weights,
    )
    native = BatchedAgentReward(gym.make_vec(GRID, num_envs=4, autoreset_mode=mode), weights)
    vectors = BatchedVectorReward(gym.make_vec(GRID, num_envs=4, autoreset_mode=mode))
    rng = np.random.default_rng(1)
    for envs in (single, around, native, vectors):
        envs.reset(seed=0)
    total = 0.0
    for _ in range(300):
        actions = rng.integers(4, size=4)
        expected = single.step(actions)[1]
        np.testing.assert_array_equal(around.step(actions)[1], expected)
        np.testing.assert_array_equal(native.step(actions)[1], expected)
        np.testing.assert_allclose(vectors.step(actions)[1] @ weights, expected)
        total += expected.sum()
    assert total > 0.0


@pytest.mark.parametrize("wrap", [BatchedVectorReward, lambda env: BatchedAgentReward(env, 0)])
def test_an_environment_without_agent_rewards_is_refused(wrap: Any) -> None:
    env = gym.make_vec(GRID, num_envs=2, agent_rewards=False)
    with pytest.raises(ValueError, match="made with agent_rewards=False"):
        wrap(env)


if sys.version_info < (3, 14):  # MO-Gymnasium needs pygame, which has no wheel for 3.14
    from mo_gymnasium.wrappers.vector.wrappers import MOSyncVectorEnv
    from mo_gymnasium.wrappers.wrappers import LinearReward, MOMaxAndSkipObservation

    def test_mo_gymnasium_scalarises_a_vector_reward() -> None:
        weights = np.random.default_rng(0).random(100)
        plain, linear = gym.make(ROBOT), LinearReward(VectorReward(gym.make(ROBOT)), weights)
        plain.reset(seed=1), linear.reset(seed=1)
        plain.action_space.seed(1)
        for _ in range(20):
            action = plain.action_space.sample()
            info = plain.step(action)[4]
            assert linear.step(action)[1] == pytest.approx(info["agent_rewards"] @ weights)

    def test_mo_gymnasium_sums_the_rewards_of_skipped_steps() -> None:
        """It asks the unwrapped environment for `reward_dim`."""
        skipping: Any = MOMaxAndSkipObservation(VectorReward(gym.make(GRID)), skip=3)
        plain = VectorReward(gym.make(GRID))
        for env in (skipping, plain):
            env.reset(seed=0)
        for env, action in ((skipping, 3), (plain, 3), (plain, 3), (plain, 3)):
            env.step(action)
        expected = sum(plain.step(action)[1] for action in (2, 2))  # to home
        reward = skipping.step(2)[1]
        np.testing.assert_allclose(reward, expected)
        assert reward.sum() > 0.0

    def test_mo_gymnasium_vectorises_a_vector_reward() -> None:
        make_envs: Any = [lambda: VectorReward(gym.make(ROBOT)) for _ in range(3)]
        theirs = MOSyncVectorEnv(make_envs)
        ours = BatchedVectorReward(gym.make_vec(ROBOT, num_envs=3))
        assert ours.reward_space == theirs.reward_space
        theirs.reset(seed=0), ours.reset(seed=0)
        ours.action_space.seed(0)
        for _ in range(20):
            actions = ours.action_space.sample()
            rewards = ours.step(actions)[1]
            assert rewards.shape == (3, 100)
            np.testing.assert_array_equal(rewards.astype(np.float32), theirs.step(actions)[1])
