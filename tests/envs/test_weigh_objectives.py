"""Preferences over the objectives of MO-Gymnasium's worlds, in percent."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.envs.mo_worlds import MO_WORLDS, MultiObjectiveWorld

WORLDS = pytest.mark.parametrize("world", MO_WORLDS, ids=lambda world: world.id)
SEA, FRUITS = MO_WORLDS[0], MO_WORLDS[1]


def draws(world: MultiObjectiveWorld, n_agents: int) -> np.ndarray:
    weights: np.ndarray = np.random.RandomState(0).dirichlet(np.ones(world.n_objectives), n_agents)
    return weights


@WORLDS
@pytest.mark.parametrize("factor", [1.0, 7.0, 1e308])
def test_the_worlds_own_agents_are_weighed_so(world: MultiObjectiveWorld, factor: float) -> None:
    """Only the ratios of an agent's weights matter."""
    own: Any = rmdp_bench.get_population(world.id)
    name = world.id.removeprefix("rmdp/")
    for env_id in (world.id, name):
        made = rmdp_bench.weigh_objectives(env_id, factor * draws(world, 100))
        np.testing.assert_allclose(made.weights, own.weights, rtol=1e-12, atol=1e-12)


def test_one_hundred_is_the_best_of_the_front_and_0_the_worst() -> None:
    weights = draws(FRUITS, 5)
    users = rmdp_bench.weigh_objectives(FRUITS.id, weights)
    front = FRUITS.front
    assert front is not None
    worth = weights @ front.T  # (n, A)
    low, high = worth.min(axis=1), worth.max(axis=1)
    reached = np.concatenate((front, np.ones((len(front), 1))), axis=1)
    expected = 100.0 * (worth - low[:, None]) / (high - low)[:, None]
    np.testing.assert_allclose(users.rewards(reached).T, expected, atol=1e-9)


def test_returns_of_an_episode_are_in_percent() -> None:
    """The nearest treasure, 0.7 after one step down: -1 for the time."""
    pytest.importorskip("mo_gymnasium")
    weights = np.array([[1.0, 0.0], [0.2, 0.8]])
    env: Any = gym.make(SEA.id, population=rmdp_bench.weigh_objectives(SEA.id, weights))
    env.reset(seed=0)
    *_, terminated, _, info = env.step(1)
    env.close()
    assert terminated
    np.testing.assert_allclose(info["outcome"], [0.7, -1.0, 1.0], rtol=1e-6)
    assert SEA.front is not None
    worth = weights @ SEA.front.T
    low, high = worth.min(axis=1), worth.max(axis=1)
    expected = 100.0 * (weights @ info["outcome"][:2] - low) / (high - low)
    np.testing.assert_allclose(info["agent_rewards"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("env_id", "weights", "message"),
    [
        (FRUITS.id, [[1.0, 2.0]], r"shape \(1, 2\), expected \(n, 6\)"),
        (SEA.id, [[1.0, 1.0], [1.0, -1.0]], r"weights\[1\] are \[1.0, -1.0\], expected none neg"),
        (SEA.id, [[0.0, 0.0]], "not all 0"),
        (SEA.id, [[np.nan, 1.0]], "finite"),
        (SEA.id, "heavy", "array of numbers"),
        ("ResourceGathering-n25-v0", [[1.0]], "expected one of DeepSeaTreasure-n100-v0"),
    ],
)
def test_what_cannot_be_weighed_is_refused(env_id: str, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rmdp_bench.weigh_objectives(env_id, weights)


@pytest.mark.parametrize("world", [SEA, FRUITS], ids=lambda world: world.id)
def test_raw_weights_are_refused_with_what_to_call(world: MultiObjectiveWorld) -> None:
    weights = draws(world, 4)
    raw, name = rmdp_bench.LinearPopulation(weights), world.id.removeprefix("rmdp/")
    calls: list[Any] = [lambda: rmdp_bench.get_task(name, 2, population=raw)]
    calls += [lambda: gym.make(world.id, population=raw)] if world is SEA else []
    for call in calls:
        with pytest.raises(ValueError, match="expected one for outcomes") as caught:
            call()
        (expression,) = re.findall(r"rmdp_bench\.weigh_objectives\(.*\)", str(caught.value))
        population = eval(expression, {"rmdp_bench": rmdp_bench, "weights": weights})
        assert rmdp_bench.get_task(name, 2, population=population).n_agents == 4
    with pytest.raises(ValueError, match="outcomes") as caught:
        rmdp_bench.get_task(name, 2, population=rmdp_bench.LinearPopulation(np.eye(9)))
    assert "weigh_objectives" not in str(caught.value)
