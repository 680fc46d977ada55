"""Evaluation: the welfare matrix against a plain loop, seeds, and policies that misbehave."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from rmdp_bench.evaluation import EVALUATION_SEED, evaluate, evaluate_all, roll_out
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import Task, get_online_task
from tests.helpers.toys import LinearPolicy, ScriptedPolicy

UP, DOWN, LEFT, RIGHT = range(4)
GRID = dataclasses.replace(get_online_task("ResourceGathering-n25-k3-v0"), n_eval_episodes=2)
HOPPER = dataclasses.replace(get_online_task("HopperVel-n100-k2-v0"), n_eval_episodes=3)


def round_robin(task: Task) -> NDArray[np.float64]:
    return np.eye(task.n_representatives)[np.arange(task.n_agents) % task.n_representatives]


def grid_policies() -> list[ScriptedPolicy]:
    """Home at step 1; a round trip of four steps; up for ever, which never comes home."""
    return [ScriptedPolicy([DOWN]), ScriptedPolicy([UP, RIGHT, DOWN, LEFT]), ScriptedPolicy([UP])]


def hopper_policies() -> list[LinearPolicy]:
    generator = np.random.default_rng(0)
    return [LinearPolicy(0.5 * generator.normal(size=(11, 3))) for _ in range(2)]


def naive(
    task: Task, policies: Sequence[Policy], seeds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n, k) mean returns and (k, episodes) lengths, one single environment after the other."""
    env = gym.make(task.env_id)
    returns = np.zeros((task.n_agents, len(policies), len(seeds)))
    lengths = np.zeros((len(policies), len(seeds)), np.int64)
    for j, policy in enumerate(policies):
        for e, seed in enumerate(seeds):
            observation, _ = env.reset(seed=seed)
            policy.reset(1)
            ended = False
            while not ended:
                action = policy.act(observation[None])[0]
                observation, _, terminated, truncated, info = env.step(action)
                returns[:, j, e] += info["agent_rewards"]
                lengths[j, e] += 1
                ended = terminated or truncated
    env.close()
    return returns.mean(axis=2), lengths


def test_grid_agrees_with_a_plain_loop() -> None:
    solution = Solution(grid_policies(), round_robin(GRID))
    evaluation = evaluate(GRID, solution)
    matrix, lengths = naive(GRID, grid_policies(), [EVALUATION_SEED, EVALUATION_SEED + 1])
    np.testing.assert_array_equal(evaluation.welfare_matrix, matrix)
    np.testing.assert_array_equal(evaluation.episode_lengths, lengths)
    assert lengths.tolist() == [[1, 1], [4, 4], [40, 40]]
    assert sorted(set(matrix[:, 0])) == [0.0, 99.0]
    assert matrix[:, 1].tolist().count(96.0) == 4
    assert not matrix[:, 2].any()


def test_hopper_agrees_with_a_plain_loop() -> None:
    """Episodes that end at different times, and noise in the starts."""
    solution = Solution(hopper_policies(), round_robin(HOPPER))
    evaluation = evaluate(HOPPER, solution)
    seeds = [EVALUATION_SEED + episode for episode in range(3)]
    matrix, lengths = naive(HOPPER, hopper_policies(), seeds)
    np.testing.assert_array_equal(evaluation.episode_lengths, lengths)
    np.testing.assert_allclose(evaluation.welfare_matrix, matrix, rtol=0, atol=1e-9)
    assert len(np.unique(lengths)) > 1
    assert matrix.max() > 0.5
    assert evaluation.episode_returns.shape == (100, 2, 3)


def test_same_seed_same_result_other_seed_other_result() -> None:
    solution = Solution(hopper_policies(), round_robin(HOPPER))
    first, second = evaluate(HOPPER, solution), evaluate(HOPPER, solution)
    np.testing.assert_array_equal(first.episode_returns, second.episode_returns)
    other = evaluate(HOPPER, solution, seed=EVALUATION_SEED + 100)
    assert (first.episode_returns != other.episode_returns).any()
    fewer = evaluate(HOPPER, solution, n_episodes=1)
    np.testing.assert_array_equal(fewer.episode_returns, first.episode_returns[:, :, :1])


def test_several_solutions_at_once() -> None:
    solutions = [
        Solution(hopper_policies(), round_robin(HOPPER)),
        Solution(hopper_policies()[::-1], round_robin(HOPPER)),
    ]
    together = evaluate_all(HOPPER, solutions)
    for solution, evaluation in zip(solutions, together, strict=True):
        alone = evaluate(HOPPER, solution)
        np.testing.assert_array_equal(evaluation.episode_returns, alone.episode_returns)


def test_recorded_rollout() -> None:
    rollout = roll_out(GRID, grid_policies(), n_episodes=2, record=True)
    assert rollout.observations is not None
    assert rollout.outcomes is not None
    assert rollout.observations.shape == (41, 3, 2, 27)
    assert rollout.outcomes.shape == (40, 3, 2, 25)
    positions = rollout.observations[:, 1, 0, :2]
    assert positions[:5].tolist() == [[4, 2], [3, 2], [3, 3], [4, 3], [4, 2]]
    assert not positions[5:].any()  # after the end
    assert rollout.outcomes[3, 1, 0].sum() == 4 * 96.0
    np.testing.assert_array_equal(rollout.outcomes.sum(axis=0).transpose(2, 0, 1), rollout.returns)


class Misbehaving:
    """Right until step 2 of episode 1, then something else."""

    def __init__(self, wrong: Any) -> None:
        self.wrong = wrong
        self.step = 0

    def reset(self, n_envs: int) -> None:
        if isinstance(self.wrong, str):
            raise RuntimeError("no memory left")

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        self.step += 1
        if self.step == 2:
            if isinstance(self.wrong, Exception):
                raise self.wrong
            if isinstance(self.wrong, np.ndarray):
                return self.wrong
            actions = np.zeros((len(observations), 3), np.float32)
            actions[1, 2] = self.wrong
            return actions
        return np.zeros((len(observations), 3), np.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("reset", "policy 1 fails in reset(): RuntimeError: no memory left"),
        (ZeroDivisionError("oh"), "policy 1 fails in act(): ZeroDivisionError: oh"),
        (np.nan, "policy 1: component 2 of its action is nan in episode 1"),
        (1.5, "policy 1: component 2 of its action is 1.5 in episode 1, expected -1.0 to 1.0"),
        (np.zeros((3, 2)), "policy 1 gives actions of shape (3, 2), expected (3, 3)"),
        (np.zeros(3), "policy 1 gives actions of shape (3,), expected (3, 3)"),
        (np.zeros((3, 3), np.complex64), "dtype complex64, expected real numbers"),
        (np.array([[None] * 3] * 3), "dtype object, expected real numbers"),
    ],
)
def test_misbehaving_policy(wrong: Any, message: str) -> None:
    policies: list[Policy] = [hopper_policies()[0], Misbehaving(wrong)]
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate(HOPPER, Solution(policies, round_robin(HOPPER)))


@pytest.mark.parametrize(
    ("action", "message"),
    [(4, "its action is 4 in episode 0, expected 0 to 3"), (-1, "its action is -1")],
)
def test_discrete_action_out_of_range(action: int, message: str) -> None:
    policies = [*grid_policies()[:2], ScriptedPolicy([UP, action])]
    with pytest.raises(ValueError, match=re.escape(f"policy 2: {message}")):
        evaluate(GRID, Solution(policies, round_robin(GRID)))


def test_actions_after_the_end_do_not_matter() -> None:
    """A policy is not asked for more once its episodes are over."""
    policies = [ScriptedPolicy([DOWN, 99]), *grid_policies()[1:]]
    evaluation = evaluate(GRID, Solution(policies, round_robin(GRID)))
    assert evaluation.episode_lengths[0].tolist() == [1, 1]


def test_wrong_arguments() -> None:
    solution = Solution(grid_policies(), round_robin(GRID))
    with pytest.raises(ValueError, match="25 agents and 3 policies, expected 100 and 2"):
        evaluate(HOPPER, solution)
    with pytest.raises(ValueError, match="episodes is 0"):
        evaluate(GRID, solution, n_episodes=0)
    with pytest.raises(ValueError, match="smaller seeds are for training"):
        evaluate(GRID, solution, seed=0)
