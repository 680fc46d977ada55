"""Agents who were not there in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rmdp_bench
from rmdp_bench import LinearPopulation, Solution, TargetPopulation, evaluate
from rmdp_bench.runs.running import score_heldout, score_objective
from rmdp_bench.tasks import OnlineTask
from tests.helpers.own_world import make_task, place

GRID = rmdp_bench.get_online_task("ResourceGathering-n25-k2-v0")


class Still:
    """Always the same action."""

    def __init__(self, action: int) -> None:
        self.action = action

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: Any) -> Any:
        return np.full(len(observations), self.action, np.int64)


def test_new_agents_are_matched_from_stored_episodes() -> None:
    """As if they had been played with."""
    task = make_task()
    both = Solution([Still(0), Still(2)], np.tile([1.0, 0.0], (6, 1)))
    evaluation = evaluate(task, both)
    others = TargetPopulation(np.array([-8.0, 5.0, -2.5]), width=3.0, peak=100.0 / 12)
    matched = both.assign(others, evaluation=evaluation)
    assert matched.assignment.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert matched.policies == both.policies
    again = evaluate(with_agents(others), matched)
    np.testing.assert_allclose(
        evaluation.returns_of(others), again.episode_returns, rtol=1e-9, atol=1e-9
    )


def with_agents(population: TargetPopulation) -> OnlineTask:
    from functools import partial

    from tests.helpers.own_world import make

    return rmdp_bench.make_task(
        "line",
        partial(make, population=population),
        2,
        transitions=1,
        max_episode_steps=12,
        n_eval_episodes=4,
    )


def test_ended_episodes_pay_nothing_more() -> None:
    """A target at 0, where outcomes are filled with zeros after the end."""
    task = make_task(n_representatives=1)
    right = Solution([Still(2)], np.ones((6, 1)))
    evaluation = evaluate(task, right)
    assert evaluation.outcomes is not None and evaluation.episode_lengths.max() <= 6
    np.testing.assert_allclose(
        evaluation.returns_of(task.population), evaluation.episode_returns, rtol=1e-9, atol=1e-9
    )


def test_other_outcomes_are_refused() -> None:
    solution = Solution([Still(0), Still(1)], np.tile([1.0, 0.0], (25, 1)))
    evaluation = evaluate(GRID, solution, n_episodes=2)
    with pytest.raises(ValueError, match=r"population is for outcomes \(1,\), expected one for"):
        solution.assign(TargetPopulation(np.ones(1), width=1.0), evaluation=evaluation)
    three = Solution([Still(0)] * 3, np.tile([1.0, 0.0, 0.0], (25, 1)))
    with pytest.raises(ValueError, match="evaluation is of 2 policies, expected one of these 3"):
        three.assign(LinearPopulation.tiles(), evaluation=evaluation)
    assert callable(place)


def test_held_out_agents_of_the_suite() -> None:
    """Matched by half of the episodes, scored on the others."""
    task = rmdp_bench.get_online_task("HopperVel-n100-k2-v0")
    random = np.random.default_rng(0)

    class Weak:
        def __init__(self, bias: float) -> None:
            self.weights = random.normal(0, 0.3, (11, 3))
            self.bias = bias

        def reset(self, n_envs: int) -> None:
            pass

        def act(self, observations: Any) -> Any:
            return np.clip(observations @ self.weights + self.bias, -1.0, 1.0)

    solution = Solution([Weak(0.1), Weak(-0.2)], np.tile([1.0, 0.0], (100, 1)))
    evaluation = evaluate(task, solution, n_episodes=5)
    scores = score_heldout(task, evaluation)
    others = task.heldout_population
    assert scores is not None and others is not None and others != task.population
    returns = evaluation.returns_of(others)  # (100, 2, 5)
    chosen = returns[:, :, :2].mean(2).argmax(1)
    second = returns[:, :, 2:].mean(2)
    welfare = second[np.arange(100), chosen].mean()
    assert scores["welfare"] == pytest.approx(welfare)
    assert scores["regret"] == pytest.approx(second.max(1).mean() - welfare)
    assert scores["n_agents"] == 100 and scores["own_welfare"] > 0
    assert score_objective(task, evaluation, [1.0] * 100)["heldout"] == scores
    assert score_heldout(task, evaluate(task, solution, n_episodes=1)) is None
