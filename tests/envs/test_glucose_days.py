"""Episodes of many days in the glucose world, and meals that patients forget to announce."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench  # noqa: F401  (registers the worlds)

ENV = "rmdp/Glucose-n100-v0"
REST = np.array([1.0, 0.0], np.float32)


def live(n_steps: int, n_envs: int = 8, **keywords: Any) -> tuple[np.ndarray, Any]:
    """Observations (T + 1, E, 7) without boluses, and the environment."""
    envs: Any = gym.make_vec(ENV, num_envs=n_envs, autoreset_mode="DISABLED", **keywords)
    seen = [envs.reset(seed=3, options={"agent": np.arange(n_envs)})[0]]
    for _ in range(n_steps):
        seen.append(envs.step(np.tile(REST, (n_envs, 1)))[0])
    return np.stack(seen), envs


def test_days_are_drawn_as_asked() -> None:
    """Each has meals of its own, where steps beyond the days have the same again."""
    five, _ = live(5 * 288 - 1, days=5, max_episode_steps=5 * 288)
    meals = five[:, :, 3].reshape(5, 288, 8)
    for day in range(1, 5):
        assert not np.array_equal(meals[day], meals[0])
    assert (meals.sum(axis=1) > 20.0).mean() > 0.95
    one, _ = live(2 * 288 - 1, days=1, max_episode_steps=2 * 288)
    again = one[:, :, 3].reshape(2, 288, 8)
    np.testing.assert_array_equal(again[0], again[1])


def test_the_episode_ends_with_the_days() -> None:
    env = gym.make(ENV, days=1, max_episode_steps=288)
    env.reset(seed=0)
    ends = [env.step(REST)[3] for _ in range(288)]
    assert ends == [False] * 287 + [True]


def test_single_and_vector_agree_on_many_days() -> None:
    many, _ = live(600, n_envs=2, days=4, missed=0.3, max_episode_steps=4 * 288)
    env = gym.make(ENV, days=4, missed=0.3, max_episode_steps=4 * 288)
    observation, _ = env.reset(seed=4, options={"agent": 1})
    np.testing.assert_array_equal(observation, many[0, 1])
    for step in range(600):
        observation = env.step(REST)[0]
        np.testing.assert_array_equal(observation, many[step + 1, 1])


def test_what_is_not_announced_is_eaten() -> None:
    """The same meals and noise: readings stay the same, and announcements are fewer."""
    told, told_envs = live(860)
    some, some_envs = live(860, missed=0.4)
    np.testing.assert_array_equal(told[..., 0], some[..., 0])
    is_meal, is_told = told[..., 3] > 0.0, some[..., 3] > 0.0
    assert (is_meal | ~is_told).all()
    assert 0.25 < 1.0 - is_told.sum() / is_meal.sum() < 0.55
    np.testing.assert_array_equal(some[is_told][:, 3], told[is_told][:, 3])
    for name in ("grams", "meal_step", "noise", "body"):
        states = (envs.unwrapped.world.get_state() for envs in (told_envs, some_envs))
        np.testing.assert_array_equal(*(state[name] for state in states))
    none, _ = live(860, missed=1.0)
    assert not none[..., 3].any() and (none[..., 4] == 360.0).all()
    # Time since a meal is since one that was announced.
    row = int(np.argmax((is_meal & ~is_told).sum(axis=0)))
    since = np.full(861, 360.0)
    for step in range(1, 861):
        since[step] = 5.0 if is_told[step - 1, row] else min(since[step - 1] + 5.0, 360.0)
    np.testing.assert_array_equal(some[:, row, 4], since)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"days": 0}, "days is 0, expected"),
        ({"days": 1.5}, "days is 1.5, expected"),
        ({"missed": 1.1}, "missed is 1.1, expected a share"),
        ({"missed": float("nan")}, "missed is nan, expected a share"),
        ({"missed": True}, "missed is True, expected a share"),
        ({"missed": "few"}, "missed is 'few', expected a share"),
    ],
)
def test_bad_values_are_refused(keywords: dict[str, Any], message: str) -> None:
    for make in (gym.make, lambda env_id, **given: gym.make_vec(env_id, num_envs=2, **given)):
        with pytest.raises(ValueError, match=message):
            make(ENV, **keywords)
