"""What is far too large is refused at once: no MemoryError, no hang, nobody's process ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import rmdp_bench
from rmdp_bench import (
    LinearPopulation,
    Solution,
    TargetPopulation,
    evaluate,
    get_offline_task,
    get_online_task,
)
from rmdp_bench.evaluation import EVALUATION_SEED, evaluate_all, roll_out
from rmdp_bench.evaluation.offline import OfflineSolution, evaluate_offline
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.runs import make_request

MANY = 10**12
GRID = get_online_task("ResourceGathering-n25-k2-v0")
OFFLINE = get_offline_task("CartPoleHet-n500-random-v1")


class Constant:
    def __init__(self, action: int = 0) -> None:
        self.action = action

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        return np.full(len(observations), self.action)


def solution(*policies: Any) -> Solution:
    return Solution(policies, np.eye(2)[np.arange(25) % 2])


def offline_solution(policy: Any, **functions: Any) -> OfflineSolution:
    return OfflineSolution([policy], np.ones((5, 1)), **functions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TargetPopulation.uniform(MANY, 4.0, seed=0), "n_agents is 1000000000000, "),
        (lambda: LinearPopulation.tiles(10**6), "n_tiles is 1000000, expected .* 1 to 3162"),
        (
            lambda: DynamicsPopulation.uniform(
                {"mass": ("", 1, 2)}, [[1.5]], n_agents=MANY, seed=0
            ),
            "n_agents is 1000000000000, expected .* 1 to 10000000",
        ),
        (
            lambda: DynamicsPopulation.uniform(
                {"mass": ("", 1, 2)}, [[1.5]], n_unseen=MANY, seed=0
            ),
            "n_unseen is 1000000000000, ",
        ),
        (lambda: gym.make("rmdp/HopperVel-n100-v0", n_agents=MANY), "n_agents is 1000000000000"),
        (
            lambda: get_online_task("HopperVel-n100-k2-v0").with_agents(MANY),
            "n_agents is 1000000000000",
        ),
        (
            lambda: rmdp_bench.parallel_env("rmdp/HopperVel-n100-v0", n_representatives=10**9),
            "n_representatives is 1000000000, ",
        ),
        (
            lambda: evaluate(GRID, solution(Constant(), Constant()), n_episodes=MANY),
            "evaluation episodes is 1000000000000, expected 1 to 500000 for 2 policies",
        ),
        (
            lambda: roll_out(GRID, [Constant()], n_episodes=MANY),
            "evaluation episodes is 1000000000000, expected 1 to 1000000 for 1 policies",
        ),
        (
            lambda: evaluate_offline(OFFLINE, offline_solution(Constant()), n_episodes=MANY),
            "evaluation episodes is 1000000000000, expected 1 to 200000 for 5 policies",
        ),
        (
            lambda: make_request("em", GRID.id, seeds=[0], n_episodes=MANY),
            "evaluation episodes is 1000000000000, expected 1 to 500000",
        ),
        (
            lambda: make_request("em", GRID.id, seeds=[0], transitions=10**30),
            "transitions is 1000000000000000000000000000000, expected 1 to 1000000000000000 ",
        ),
    ],
)
def test_too_many_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("entry", rmdp_bench.ENVIRONMENTS, ids=lambda entry: entry.id)
def test_too_many_copies_are_refused(entry: Any) -> None:
    with pytest.raises(ValueError, match="num_envs is 1000000000, expected .* 1 to 1000000"):
        gym.make_vec(entry.id, num_envs=10**9)


def test_returns_of_a_million_agents_bound_the_episodes() -> None:
    task = dataclasses.replace(get_online_task("HopperVel-n100-k2-v0"), n_agents=1_000_000)
    served = Solution([Constant()] * 2, np.full((1_000_000, 2), 0.5))
    with pytest.raises(ValueError, match="episodes is 501, expected 1 to 500 for 2 policies"):
        evaluate(task, served, n_episodes=501)


def test_solutions_that_do_not_fit_together_are_played_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solutions = [solution(Constant(a), Constant(b)) for a, b in ((0, 1), (2, 3), (1, 2))]
    together = evaluate_all(GRID, solutions, n_episodes=3)
    # two solutions of 2 x 3 episodes
    monkeypatch.setattr("rmdp_bench.evaluation.playing.MAX_ENVS", 13)
    for one, other in zip(together, evaluate_all(GRID, solutions, n_episodes=3), strict=True):
        np.testing.assert_array_equal(one.episode_returns, other.episode_returns)
        np.testing.assert_array_equal(one.episode_lengths, other.episode_lengths)


def leave(*arguments: Any, **keywords: Any) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize("method", ["reset", "act"])
def test_a_policy_that_exits_has_failed(method: str) -> None:
    policy = Constant()
    setattr(policy, method, leave)
    message = rf"policy 1 fails in {method}\(\): SystemExit: 3"
    with pytest.raises(ValueError, match=message):
        evaluate(GRID, solution(Constant(), policy), n_episodes=1)
    with pytest.raises(ValueError, match=message.replace("1", "0")):
        evaluate_offline(OFFLINE, offline_solution(policy), n_episodes=1)


@pytest.mark.parametrize("method", ["adapt", "predict"])
def test_a_solution_that_exits_has_failed(method: str) -> None:
    served = offline_solution(Constant(), **{method: leave})
    with pytest.raises(ValueError, match=rf"the solution fails in {method}\(\): SystemExit: 3"):
        evaluate_offline(OFFLINE, served, n_episodes=1, seed=EVALUATION_SEED)


def test_policies_that_exit_when_they_are_joined_have_failed() -> None:
    policy = Constant()
    policy.join_policies = leave  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"policy 0 fails in join_policies\(\): SystemExit: 3"):
        evaluate_offline(OFFLINE, offline_solution(policy), n_episodes=1)
