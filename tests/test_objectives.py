"""Welfare functions: values, utilities and slopes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import rmdp_bench
from rmdp_bench import TargetPopulation, scoring
from rmdp_bench.ceilings import (
    EPISODE_STEPS,
    best_of_candidates,
    constant_speed_bound,
    constant_speed_optimum,
)
from rmdp_bench.facility_location import least_served

RETURNS = np.array([3.0, 40.0, 12.0, 80.0, 55.0])
SMOOTH = ("utilitarian", "p_mean=0.5", "nash", "p_mean=-2", "p_mean=-60")
ALL = (*SMOOTH, "egalitarian")


def test_values() -> None:
    value = scoring.objective_value
    assert value(RETURNS, "utilitarian") == scoring.social_welfare(RETURNS)
    assert value(RETURNS, "egalitarian") == 3.0
    assert value(RETURNS, "nash") == scoring.nash_welfare(RETURNS)
    harmonic = len(RETURNS) / (1.0 / (1.0 + RETURNS)).sum() - 1.0
    assert value(RETURNS, "p_mean=-1") == pytest.approx(harmonic)
    assert value(RETURNS, "p_mean=1") == pytest.approx(RETURNS.mean())
    assert value(RETURNS, "p_mean=1e-7") == pytest.approx(value(RETURNS, "nash"), rel=1e-4)
    assert value(RETURNS, "p_mean=-100") == pytest.approx(3.0, abs=0.1)
    values = [value(RETURNS, name) for name in ALL]
    assert values == sorted(values, reverse=True)
    assert value([0.0, 100.0], "p_mean=-1") == pytest.approx(2 / (1 + 1 / 101) - 1)


@pytest.mark.parametrize(
    "objective", ["", "mean", "p_mean", "p_mean=0", "p_mean=2", "p_mean=nan", "nash=1", "p_mean=x"]
)
def test_unknown_objectives(objective: str) -> None:
    with pytest.raises(ValueError, match=f"objective is {objective!r}, expected utilitarian, eg"):
        scoring.objective_value(RETURNS, objective)


@pytest.mark.parametrize("objective", ["nash", "p_mean=-1"])
def test_geometric_means_refuse_negative_returns(objective: str) -> None:
    with pytest.raises(ValueError, match="negative|>= 0"):
        scoring.objective_value([1.0, -0.5], objective)


@pytest.mark.parametrize("objective", SMOOTH)
def test_weights_are_the_slopes(objective: str) -> None:
    step = 1e-5
    slopes = np.array(
        [
            scoring.objective_value(RETURNS + step * row, objective)
            - scoring.objective_value(RETURNS - step * row, objective)
            for row in np.eye(len(RETURNS))
        ]
    )
    weights = scoring.objective_weights(RETURNS, objective)
    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights, slopes / slopes.mean(), rtol=1e-3, atol=1e-6)


def test_the_worst_agent_is_smoothed() -> None:
    weights = scoring.objective_weights(RETURNS, "egalitarian")
    assert weights.argmax() == 0 and (weights > 0).all()
    assert weights[0] / weights[2] == pytest.approx(np.exp(9.0 / scoring.SMOOTHING))
    both = scoring.objective_weights(np.stack([RETURNS, RETURNS[::-1]]), "egalitarian")
    np.testing.assert_allclose(both[0], both[1, ::-1])


@pytest.mark.parametrize("objective", ALL)
def test_utilities_rise_from_0_to_100(objective: str) -> None:
    grid = np.linspace(0.0, 100.0, 201)
    worth = scoring.utilities(grid, objective)
    assert worth[0] == 0.0 and worth[-1] == pytest.approx(100.0)
    assert (np.diff(worth) >= 0).all()
    if objective != "p_mean=-60":  # of which floats do not tell most steps apart
        assert (np.diff(worth[:60]) > 0).all()
    assert scoring.utilities(np.array([-3.0]), objective)[0] in (0.0, -3.0)


@pytest.mark.parametrize("objective", ALL)
def test_choices_are_the_best_of_all(objective: str) -> None:
    random = np.random.default_rng(1)
    for _ in range(4):
        values = random.uniform(0, 100, (7, 8))
        for k in (1, 2, 3):
            best = max(
                scoring.objective_value(values[:, list(chosen)].max(1), objective)
                for chosen in itertools.combinations(range(8), k)
            )
            assert best_of_candidates(values, k, objective) == pytest.approx(best, rel=1e-6)


def test_bounds_of_speeds_hold_and_are_attained_by_one_policy() -> None:
    """Against policies that divide their time between speeds, drawn at random."""
    random = np.random.default_rng(0)
    population = TargetPopulation(random.uniform(0, 4, 12), width=0.5)
    targets = np.unique(population.targets)
    tents = population.rewards(targets[:, None]).T * EPISODE_STEPS  # (n, p) percent
    for objective in ALL:
        for k in (1, 2, 5):
            bound = constant_speed_bound(population, k, objective)
            assert bound <= constant_speed_optimum(population, k).welfare + 1e-9
            for _ in range(300):
                shares = random.dirichlet(np.full(len(targets), 0.2), k)  # (k, p)
                returns = (tents @ shares.T).max(axis=1)
                assert scoring.objective_value(returns, objective) <= bound + 1e-6
    # Two agents whose tents do not meet: one policy halves its time.
    apart = TargetPopulation(np.array([0.0, 3.0]), width=0.5)
    assert constant_speed_bound(apart, 1, "egalitarian") == pytest.approx(50.0, abs=1e-6)
    assert constant_speed_bound(apart, 1, "nash") == pytest.approx(50.0, abs=0.01)
    assert constant_speed_bound(apart, 2, "egalitarian") == pytest.approx(100.0, abs=1e-6)


def test_ceilings_of_tasks_fall_from_the_mean_to_the_worst_agent() -> None:
    names = [name for name in ALL if name != "p_mean=-60"]  # whose bound is loose
    for k in (1, 3):
        tasks: Any = [rmdp_bench.get_task("HopperVel-n100-v0", k, objective=name) for name in names]
        ceilings = [task.objective_ceiling for task in tasks]
        assert ceilings == sorted(ceilings, reverse=True)
        assert len({task.ceiling for task in tasks}) == 1
        assert len({task.id for task in tasks}) == len(tasks)


def test_the_worst_served_are_served_best_by_few_covers() -> None:
    """Against all choices, where the greedy cover needs more columns than the best one."""
    trap = np.zeros((6, 3), bool)
    trap[:4, 0] = trap[[0, 1, 4], 1] = trap[[2, 3, 5], 2] = True
    assert least_served(np.where(trap, 50.0, 10.0), 2) == (50.0, 50.0)
    assert least_served(np.where(trap, 50.0, 10.0), 1) == (10.0, 10.0)
    random = np.random.default_rng(2)
    for _ in range(20):
        values = random.integers(0, 6, (9, 12)).astype(np.float64)
        for k in (1, 3, 5):
            best = max(
                values[:, c].max(1).min() for c in map(list, itertools.combinations(range(12), k))
            )
            assert least_served(values, k) == (best, best)
