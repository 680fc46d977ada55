"""The glucose world beside the model: patients, meals, sensor, pump, reward, picture."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench import DynamicsPopulation, get_population
from rmdp_bench.envs.glucose import days
from rmdp_bench.envs.glucose.hovorka import PARAMETERS, steady_state
from rmdp_bench.envs.glucose.patients import resting_insulin
from rmdp_bench.envs.glucose.risk import risk
from tests.helpers.environments import assert_same

GLUCOSE = "rmdp/Glucose-n100-v0"
STEPS_PER_DAY = 288


def f32(values: Any) -> Any:
    return np.asarray(values, np.float32)


def make(n_envs: int, **keywords: Any) -> Any:
    return gym.make_vec(GLUCOSE, n_envs, autoreset_mode="DISABLED", **keywords)


def population(seed: int = 0) -> DynamicsPopulation:
    given = get_population(GLUCOSE, seed)
    assert isinstance(given, DynamicsPopulation)
    return given


def basal_only(n_envs: int, rate: float = 1.0) -> Any:
    return np.tile(f32([rate, 0.0]), (n_envs, 1))


def test_the_population_is_fixed_by_its_seed() -> None:
    assert population().content_hash() == (
        "b1961c39da1f584926050f1325443d4b2862687a97d64d0248b68a7fcad507f0"
    )
    assert population(1).content_hash() != population().content_hash()
    sizes = [len(group) for group in (population().agents, population().unseen_agents)]
    assert (*sizes, len(population().extrapolating_agents)) == (100, 20, 20)
    assert list(population().test_agents) == list(range(100))


def test_parameters_have_their_distributions() -> None:
    """Of 6,000 patients; truncation at two standard deviations keeps means, where no floor is."""
    table = np.concatenate([population(seed).parameters[:120] for seed in range(50)])
    names = population().names
    mean = dict(zip(names, table.mean(axis=0), strict=True))
    spread = dict(zip(names, table.std(axis=0), strict=True))
    for name, (expected, deviation) in {
        "k12": (0.0649, 0.0282),
        "ke": (0.14, 0.035),
        "VI": (0.12, 0.012),
    }.items():
        assert mean[name] == pytest.approx(expected, rel=0.03)
        assert spread[name] == pytest.approx(0.88 * deviation, rel=0.05)
    logarithms = np.log(table[:, names.index("VG")])
    assert logarithms.mean() == pytest.approx(np.log(0.15), abs=0.01)
    assert logarithms.std() == pytest.approx(0.88 * 0.23, rel=0.05)
    assert mean["BW"] == pytest.approx(80.0, rel=0.01)
    assert mean["low_weight"] == pytest.approx(0.5, abs=0.01)
    assert 0.3 * 51.2e-4 < mean["SI1"] < 0.5 * 51.2e-4  # type 1 diabetes
    basal = resting_insulin(table)
    assert basal.min() >= 0.2 and basal.max() <= 2.5
    # as measured once more with another generator: 5 %, median, 95 %
    np.testing.assert_allclose(np.percentile(basal, [5, 50, 95]), [0.35, 0.98, 2.07], rtol=0.06)


def test_those_who_extrapolate_are_outside_in_weight_and_digestion() -> None:
    given = population()
    for name, sides in (("tG", [0, 1]), ("BW", [0, 0, 1, 1])):
        column = given.names.index(name)
        values = given.parameters[given.extrapolating_agents.start :, column]
        above = values > given.high[column]
        assert (above | (values < given.low[column])).all()
        assert above.astype(int).tolist() == (sides * 10)[:20]


def test_a_patient_without_rest_is_refused() -> None:
    rows = population().parameters[:2].copy()
    egp0, f01 = (population().names.index(name) for name in ("EGP0", "F01"))
    rows[1, [egp0, f01]] = 0.009, 0.014
    for maker in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=r"parameters\[1\] are .* expected EGP0 > F01"):
            maker(GLUCOSE, parameters=rows)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"announcement": "late"},
            "announcement is 'late', expected one of estimated, exact, none",
        ),
        ({"memory": 25}, "memory is 25, expected an integer from 0 to 24"),
        ({"memory": 0.5}, "memory is 0.5, expected an integer"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], message: str) -> None:
    for maker in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=message):
            maker(GLUCOSE, **keywords)


def test_every_parameter_changes_what_a_patient_receives() -> None:
    """The taste too; and nothing but the parameters does: first and last row have the same."""
    given = population()
    rows = [given.parameters[4].copy() for _ in range(len(given.names) + 2)]
    for parameter in range(len(given.names)):
        is_low = rows[0][parameter] < given.high[parameter] / 1.02
        rows[parameter + 1][parameter] *= 1.02 if is_low else 0.98
    envs = make(len(rows), parameters=rows)
    envs.reset(seed=[1] * len(rows), options={"agent": np.arange(len(rows))})
    earned = np.zeros(len(rows))
    for _ in range(STEPS_PER_DAY):
        earned += envs.step(basal_only(len(rows)))[1]
    assert earned[0] == earned[-1]
    assert (np.abs(earned[1:-1] - earned[0]) > 1e-3).all()


def test_meals_are_eaten_when_they_are_announced() -> None:
    """Of 300 three-day episodes: hours, sizes, and how often; estimates within their error."""
    envs = make(300, announcement="exact")
    observations, _ = envs.reset(seed=0, options={"agent": np.arange(300) % 100})
    weight = envs.population.parameters[np.arange(300) % 100, 15]
    carbohydrates = np.zeros((3 * STEPS_PER_DAY, 300))
    for step in range(3 * STEPS_PER_DAY):
        carbohydrates[step] = observations[:, 3] / np.clip(weight / 75.0, 0.4, 1.2)
        observations, *_ = envs.step(basal_only(300))
    total = carbohydrates.sum(axis=0) / 3.0
    assert total.mean() == pytest.approx(0.95 * 195.0 + 0.3 * 30.3, rel=0.02)
    hours = np.arange(3 * STEPS_PER_DAY) % STEPS_PER_DAY / 12.0
    for first, last, probability, grams in (
        (5, 9, 0.95, 45),
        (10, 14, 0.95, 70),
        (16, 20, 0.95, 80),
    ):
        window = carbohydrates[(hours >= first) & (hours < last)]
        eaten = window[window > 0.0]
        assert len(eaten) / 900 == pytest.approx(probability, abs=0.03)
        assert eaten.mean() == pytest.approx(grams, rel=0.03)
        assert eaten.std() == pytest.approx(10.0, rel=0.1)
    assert not carbohydrates[(hours < 5) | (hours >= 23)].any()

    exact, estimated, silent = (
        make(50, announcement=kind) for kind in ("exact", "estimated", "none")
    )
    seen = [[env.reset(seed=0)[0]] for env in (exact, estimated, silent)]
    for _ in range(STEPS_PER_DAY):
        for env, kept in zip((exact, estimated, silent), seen, strict=True):
            kept.append(env.step(basal_only(50))[0])
    true, told, nothing = (np.stack(kept) for kept in seen)
    at = true[..., 3] > 0.0
    error = told[..., 3][at] / true[..., 3][at] - 1.0
    assert np.abs(error).max() <= 0.3 + 1e-6 and error.std() == pytest.approx(0.173, rel=0.2)
    assert not told[..., 3][~at].any() and not nothing[..., 3].any()
    assert (nothing[..., 4] == 360.0).all()
    without = [0, 1, 2, 5, 6]  # what is eaten is the same
    assert_same(nothing[..., without], true[..., without])
    assert_same(told[..., without], true[..., without])


def test_minutes_since_a_meal_count_from_the_one_before() -> None:
    envs = make(20)
    observations, _ = envs.reset(seed=0)
    since = np.full(20, 360.0)
    for _ in range(STEPS_PER_DAY):
        assert observations[:, 4].tolist() == since.tolist()
        since = np.where(observations[:, 3] > 0.0, 0.0, since)
        since = np.minimum(since + 5.0, 360.0)
        observations, *_ = envs.step(basal_only(20))
    assert (observations[:, 5:] == [0.0, 1.0]).all()  # midnight again


def test_the_sensor_has_the_published_noise() -> None:
    """Mean, spread and tails of 500 episodes; and it follows plasma with a lag."""
    noise = days.sensor_noise(np.random.default_rng(0).standard_normal((500, 3 * 96 + 1)))
    knots = noise[:, days.KNOT_STEPS * 8 :: days.KNOT_STEPS].astype(np.float64)
    # of -5.47 + 15.9574 sinh((e + 0.5444) / 1.6898), e normal with variance 0.49 / 0.51
    deviation = np.sqrt(0.49 / 0.51)
    mean = -5.47 + 15.9574 * np.sinh(0.5444 / 1.6898) * np.exp((deviation / 1.6898) ** 2 / 2.0)
    assert knots.mean() == pytest.approx(mean, abs=0.3)
    assert knots.std() == pytest.approx(11.2, rel=0.05)
    tails = -5.47 + 15.9574 * np.sinh((np.array([-2.326, 2.326]) * deviation + 0.5444) / 1.6898)
    np.testing.assert_allclose(np.percentile(knots, [1, 99]), tails, rtol=0.06)
    pairs = np.corrcoef(knots[:, :-1].ravel(), knots[:, 1:].ravel())[0, 1]
    assert pairs == pytest.approx(0.7, abs=0.03)
    assert np.abs(np.diff(noise, axis=1)).max() < np.abs(np.diff(knots, axis=1)).max()

    envs = make(200)
    observations, _ = envs.reset(seed=0)
    error = []
    for _ in range(60):  # at rest, before breakfast
        observations, *_ = envs.step(basal_only(200))
        error.append(observations[:, 0] - envs.world.glucose(np.arange(200)))
    assert np.mean(error) == pytest.approx(0.0, abs=2.0)
    assert np.std(error) == pytest.approx(11.2, rel=0.15)


def test_the_trend_is_of_15_minutes_and_the_memory_of_hours() -> None:
    envs, plain = make(6, memory=2), make(6)
    observations, _ = envs.reset(seed=3)
    short, _ = plain.reset(seed=3)
    readings, doses = [observations[:, 0]], list[Any]()
    generator = np.random.default_rng(0)
    for step in range(60):
        assert_same(observations[:, :7].copy(), short)
        past = [readings[max(step - lag, 0)] for lag in range(23, -1, -1)]
        assert_same(observations[:, 7:31].copy(), np.stack(past, axis=1))
        given = [doses[-lag] if lag <= step else np.zeros(6) for lag in range(24, 0, -1)]
        np.testing.assert_allclose(observations[:, 31:], np.stack(given, axis=1), atol=1e-6)
        trend = (readings[-1].astype(float) - readings[max(step - 3, 0)]) / 15.0
        np.testing.assert_allclose(observations[:, 1], trend, rtol=1e-6)
        actions = f32(generator.uniform(0, [3.0, 0.2], (6, 2)))
        before = envs.world.get_state()["undelivered"]
        observations, *_ = envs.step(actions)
        short, *_ = plain.step(actions)
        readings.append(observations[:, 0])
        asked = actions.astype(float) @ [1 / 12, 1.0] + before
        doses.append(np.floor(asked / 0.05 + 1e-6) * 0.05)


def test_the_pump_keeps_what_is_less_than_a_pulse() -> None:
    """And gives at most 20 U in any hour, whatever is asked."""
    envs = make(2, memory=1)
    envs.reset(seed=0)
    given = []
    for _ in range(120):
        observations, *_ = envs.step(f32([[0.43, 0.0], [6.0, 20.0]]))
        given.append(observations[:, -1].astype(float))
    doses = np.stack(given)
    np.testing.assert_allclose(doses / 0.05, np.round(doses / 0.05), atol=1e-5)
    totals = np.cumsum(doses[:, 0])
    asked = 0.43 / 12.0 * np.arange(1, 121)
    assert (asked - totals > -1e-5).all() and (asked - totals < 0.05 + 1e-5).all()
    hours = np.convolve(doses[:, 1], np.ones(12), "valid")
    assert hours.max() == pytest.approx(20.0) and hours.min() == pytest.approx(20.0)


def test_insulin_on_board_is_what_is_left_of_the_doses() -> None:
    envs = make(1)
    envs.reset(seed=0)
    observations, *_ = envs.step(f32([[0.0, 4.0]]))
    for step in range(1, 60):
        minutes = 5.0 * step
        expected = 4.0 * (1.0 + minutes / 55.0) * np.exp(-minutes / 55.0)
        assert observations[0, 2] == pytest.approx(expected, rel=1e-4)
        observations, *_ = envs.step(f32([[0.0, 0.0]]))


def test_insulin_lowers_and_meals_raise_glucose() -> None:
    """Own rest keeps glucose until breakfast; ten times of it lowers it for everybody."""
    agents = np.arange(100)
    envs = make(100)
    table = envs.population.parameters
    rest = f32(np.stack([resting_insulin(table)[:100], np.zeros(100)], axis=1))
    for factor, low, high in ((1.0, -1.0, 1.0), (2.0, -9.9, -0.01), (0.5, 0.01, 9.9)):
        envs.reset(seed=0, options={"agent": agents})
        begun = envs.world.glucose(agents) / 18.016
        level_rest = np.abs(begun - 6.0) < 0.4
        for _ in range(54):
            envs.step(rest * factor)
        change = envs.world.glucose(agents) / 18.016 - begun
        assert ((change > low) & (change < high))[level_rest].all() and level_rest.sum() > 10


def test_risk_is_the_published_one() -> None:
    glucose = np.array([20.0, 70.0, 112.5, 180.0, 600.0])
    np.testing.assert_allclose(risk(glucose), [100.0, 7.8, 0.0, 7.7, 100.0], atol=0.1)
    assert risk(np.array([1e-30, 1e9])).tolist() == risk(np.array([20.0, 600.0])).tolist()
    lows, highs = np.array([50.0]), np.array([250.0])
    assert risk(lows, 0.8) == pytest.approx(1.6 * risk(lows))
    assert risk(highs, 0.8) == pytest.approx(0.4 * risk(highs))


def test_the_reward_is_the_residents_own_risk() -> None:
    envs = make(100)
    envs.reset(seed=0, options={"agent": np.arange(100)})
    weight = envs.population.parameters[:100, envs.population.names.index("low_weight")]
    for _ in range(80):
        _, rewards, *_, infos = envs.step(basal_only(100, 2.0))
        glucose = envs.world.glucose(np.arange(100))
        np.testing.assert_allclose(rewards, -risk(glucose, weight), rtol=1e-12)
        measured = envs.world.measure(np.arange(100))
        np.testing.assert_allclose(measured["unweighted_risk"], risk(glucose))
        in_range = (glucose >= 70.0) & (glucose <= 180.0)
        assert (measured["time_in_range"] == in_range).all()
        ranges = [measured[f"time_{where}_range"] for where in ("in", "below", "above")]
        assert (sum(ranges) == 1.0).all()
        assert infos.keys() == {"agent", "_agent"}
    assert rewards.min() >= -200.2 * 0.8 and (rewards < 0.0).any()


def test_one_patient_alone_is_the_same_as_among_others() -> None:
    """Doses from none to all that the pump can give, for a whole day, bit for bit."""
    agents = [0, 60, 139, 101]
    envs = make(4, memory=3)
    singles = [gym.make(GLUCOSE, memory=3) for _ in agents]
    observations, _ = envs.reset(seed=8, options={"agent": agents})
    for row, (single, agent) in enumerate(zip(singles, agents, strict=True)):
        assert_same(single.reset(seed=8 + row, options={"agent": agent})[0], observations[row])
    actions = f32([[0.0, 0.0], [6.0, 20.0], [1.0, 0.3], [3.0, 1.0]])
    for _ in range(STEPS_PER_DAY):
        observations, rewards, *_ = envs.step(actions)
        for row, single in enumerate(singles):
            observation, reward, *_ = single.step(actions[row])
            assert_same(observation, observations[row])
            assert reward == rewards[row]


def test_longer_episodes_have_the_same_meals_again() -> None:
    envs = make(5, max_episode_steps=-1, announcement="exact")
    observations, _ = envs.reset(seed=0)
    meals = []
    for _ in range(2 * 864):
        meals.append(observations[:, 3])
        observations, _, terminated, truncated, _ = envs.step(basal_only(5))
        assert not terminated.any() and not truncated.any() and np.isfinite(observations).all()
    assert_same(np.stack(meals[:864]), np.stack(meals[864:]))


def test_three_days_begin_at_rest() -> None:
    env: Any = gym.make(GLUCOSE).unwrapped
    levels = []
    for seed in range(20):
        _, info = env.reset(seed=seed)
        model = env.population.parameters[[info["agent"]], : len(PARAMETERS)].T
        body = env.world.get_state()["body"][0]
        level = body[8] / (model[11, 0] * model[15, 0])
        levels.append(level)
        np.testing.assert_allclose(body, steady_state(model, level)[0][:, 0], rtol=1e-12)
    assert 5.0 <= min(levels) < 5.7 and 7.3 < max(levels) <= 8.0


def test_the_picture_shows_the_episode() -> None:
    env: Any = gym.make(GLUCOSE, render_mode="rgb_array")
    env.reset(seed=0)
    empty = env.render()
    assert (empty.shape, empty.dtype) == ((400, 800, 3), np.uint8)
    for _ in range(120):
        env.step(f32([1.0, 0.0]))
    frame = env.render()
    assert (frame != empty).sum() > 1_000
    other: Any = gym.make(GLUCOSE, render_mode="rgb_array").unwrapped
    other.reset(seed=5)
    other.set_state(env.unwrapped.get_state())
    assert_same(other.render(), frame)


def test_a_thousand_patients_live_a_day_in_seconds() -> None:
    """About half a second of a core; far more is a fault, not a busy machine."""
    envs = make(1_000)
    envs.reset(seed=0)
    actions = basal_only(1_000)
    envs.step(actions)
    began = time.process_time()
    for _ in range(STEPS_PER_DAY):
        envs.step(actions)
    assert time.process_time() - began < 10.0
