"""Scores against independent formulas and known values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rmdp_bench import scoring

GENERATOR = np.random.default_rng(0)
MATRIX = GENERATOR.uniform(0, 100, (12, 4))
SOFT = GENERATOR.dirichlet(np.ones(4), 12)


def test_agent_returns_and_social_welfare() -> None:
    returns = scoring.agent_returns(MATRIX, SOFT)
    for i in range(12):
        expected = sum(SOFT[i, j] * MATRIX[i, j] for j in range(4))
        assert returns[i] == pytest.approx(expected, rel=1e-12)
    assert scoring.social_welfare(returns) == pytest.approx((SOFT * MATRIX).sum() / 12)
    assert scoring.agent_returns([[3.0, 5.0], [1.0, 2.0]], [[0, 1], [1, 0]]).tolist() == [5.0, 1.0]


def test_one_representative_leaves_nothing_to_assign() -> None:
    column = MATRIX[:, :1]
    everyone = np.ones((12, 1))
    np.testing.assert_array_equal(scoring.greedy_assignment(column), everyone)
    np.testing.assert_array_equal(scoring.agent_returns(column, everyone), column[:, 0])
    assert scoring.assignment_regret(column, everyone) == 0.0


def test_greedy_assignment_and_regret() -> None:
    greedy = scoring.greedy_assignment(MATRIX)
    assert set(np.unique(greedy)) == {0.0, 1.0} and (greedy.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(scoring.agent_returns(MATRIX, greedy), MATRIX.max(axis=1))
    assert scoring.assignment_regret(MATRIX, greedy) == 0.0
    expected = MATRIX.max(axis=1).mean() - (SOFT * MATRIX).sum() / 12
    assert scoring.assignment_regret(MATRIX, SOFT) == pytest.approx(expected)
    assert scoring.reassigned_welfare(MATRIX) == pytest.approx(MATRIX.max(axis=1).mean())
    assert scoring.reassigned_welfare([[1.0, 4.0], [0.0, 3.0]]) == 3.5
    assert scoring.greedy_assignment([[1.0, 1.0]]).tolist() == [[1.0, 0.0]]
    assert scoring.assignment_regret([[1.0, 4.0], [0.0, 0.0]], [[1, 0], [0, 1]]) == 1.5


def test_worst_agent_and_tenth_percentile() -> None:
    returns = np.arange(100.0, 0.0, -10.0)  # 100, 90, .. 10
    assert scoring.worst_agent(returns) == 10.0
    assert scoring.tenth_percentile(returns) == pytest.approx(19.0)  # 0.9 of the way to 20
    assert scoring.worst_agent([7.0]) == scoring.tenth_percentile([7.0]) == 7.0


def test_gini_known_values() -> None:
    assert scoring.gini([5.0, 5.0, 5.0]) == 0.0
    assert scoring.gini([0.0, 0.0, 0.0]) == 0.0
    assert scoring.gini([3.0]) == 0.0
    assert scoring.gini([0.0, 0.0, 0.0, 8.0]) == pytest.approx(3 / 4)
    assert scoring.gini([1.0, 2.0, 3.0, 4.0]) == pytest.approx(1 / 4)
    # U[0, 1] has Gini 1 / 3.
    assert scoring.gini(np.linspace(0, 1, 100_001)) == pytest.approx(1 / 3, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_gini_is_the_mean_difference_at_any_scale(scale: float) -> None:
    values = np.random.default_rng(1).exponential(size=30)
    pairs = np.abs(values[:, None] - values).sum() / (2 * 30 * values.sum())
    assert scoring.gini(values * scale) == pytest.approx(pairs, rel=1e-12)


def test_nash_welfare() -> None:
    assert scoring.nash_welfare([0.0, 3.0]) == pytest.approx(math.sqrt(1 * 4) - 1)
    assert scoring.nash_welfare([0.0, 0.0]) == 0.0
    assert scoring.nash_welfare([1e-12, 3e-12]) == pytest.approx(2e-12, rel=1e-6)
    values = np.random.default_rng(2).uniform(0, 100, 50)
    assert scoring.nash_welfare(values) == pytest.approx(stats.gmean(values + 1) - 1, rel=1e-12)
    assert scoring.nash_welfare(values) < scoring.social_welfare(values)


def test_share_of_ceiling() -> None:
    assert scoring.share_of_ceiling(30.0, 40.0) == 0.75
    for ceiling in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="ceiling is"):
            scoring.share_of_ceiling(30.0, ceiling)
    with pytest.raises(ValueError, match="welfare is"):
        scoring.share_of_ceiling(math.nan, 40.0)


def test_mean_and_standard_error() -> None:
    scores = [1.0, 2.0, 3.0, 6.0]
    assert scoring.mean(scores) == 3.0
    variance = (4 + 1 + 0 + 9) / 3
    assert scoring.standard_error(scores) == pytest.approx(math.sqrt(variance / 4))
    assert scoring.standard_error([2.0, 2.0]) == 0.0
    assert math.isnan(scoring.standard_error([2.0]))


def test_interquartile_mean() -> None:
    assert scoring.interquartile_mean([0.0, 1.0, 2.0, 100.0]) == 1.5
    assert scoring.interquartile_mean([0.0, 4.0, 5.0]) == 3.0  # fewer than four: all kept
    matrix = np.random.default_rng(3).normal(size=(10, 6))
    middle = np.sort(matrix.ravel())[15:-15]
    assert scoring.interquartile_mean(matrix) == pytest.approx(middle.mean())
    by_task = [scoring.interquartile_mean(column) for column in matrix.T]
    np.testing.assert_allclose(scoring.interquartile_mean(matrix, axis=0), by_task)


def test_bootstrap_interval_against_a_plain_loop() -> None:
    scores = np.random.default_rng(4).normal(50, 10, (10, 3)) + np.array([0, 20, 40])
    low, high = scoring.stratified_bootstrap_interval(scores, seed=1)
    generator = np.random.default_rng(5)
    found = []
    for _ in range(4000):
        columns = [generator.choice(column, 10) for column in scores.T]
        found.append(stats.trim_mean(np.concatenate(columns), 0.25))
    np.testing.assert_allclose([low, high], np.percentile(found, [2.5, 97.5]), atol=0.6)
    assert low < scoring.interquartile_mean(scores) < high


def test_bootstrap_is_stratified() -> None:
    # Tasks differ a lot, runs not at all: resampling within tasks leaves nothing to vary.
    scores = np.tile([10.0, 50.0, 90.0, 130.0], (5, 1))
    assert scoring.stratified_bootstrap_interval(scores) == (70.0, 70.0)


def test_bootstrap_settings() -> None:
    scores = np.random.default_rng(6).normal(size=(8, 2))
    first = scoring.stratified_bootstrap_interval(scores, seed=3)
    assert scoring.stratified_bootstrap_interval(scores, seed=3) == first
    assert scoring.stratified_bootstrap_interval(scores, seed=4) != first
    generator = np.random.default_rng(3)
    assert scoring.stratified_bootstrap_interval(scores, seed=generator) == first
    assert scoring.stratified_bootstrap_interval(scores, seed=generator) != first
    low, high = scoring.stratified_bootstrap_interval(scores, seed=3, confidence=0.5)
    assert first[0] < low < high < first[1]
    low, high = scoring.stratified_bootstrap_interval(
        scores[:, :1], statistic=scoring.mean, n_resamples=20_000
    )
    assert (low + high) / 2 == pytest.approx(scores[:, 0].mean(), abs=0.1)
    assert np.isnan(scoring.stratified_bootstrap_interval(scores[:1])).all()


def test_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        low, high = scoring.stratified_bootstrap_interval(
            generator.normal(size=(20, 2)),
            statistic=scoring.mean,
            n_resamples=500,
            seed=generator,
        )
        covered += low <= 0.0 <= high
    assert 176 <= covered <= 199


def test_standard_error_along_an_axis() -> None:
    scores = np.random.default_rng(0).random((4, 3))
    expected = [scoring.standard_error(column) for column in scores.T]
    np.testing.assert_allclose(scoring.standard_error(scores, axis=0), expected)
    assert np.isnan(scoring.standard_error(scores[:1], axis=0)).tolist() == [True] * 3


def test_interval_of_the_probability_of_improvement_against_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.5, 1.0, (6, 2)), rng.normal(0.0, 1.0, (5, 2))
    drawn = [
        scoring.probability_of_improvement(x[rng.integers(6, size=6)], y[rng.integers(5, size=5)])
        for _ in range(4000)
    ]
    interval = scoring.probability_of_improvement_interval(x, y, n_resamples=4000)
    np.testing.assert_allclose(interval, np.percentile(drawn, [2.5, 97.5]), atol=0.05)
    assert interval == scoring.probability_of_improvement_interval(x, y, n_resamples=4000)
    assert interval[0] < scoring.probability_of_improvement(x, y) < interval[1]
    mirrored = scoring.probability_of_improvement_interval(y, x, n_resamples=4000)
    np.testing.assert_allclose(mirrored, [1 - interval[1], 1 - interval[0]], atol=0.05)
    assert np.isnan(scoring.probability_of_improvement_interval(x[:1], y)).all()


def test_performance_profile_is_the_share_above() -> None:
    scores = [[0.0, 10.0], [20.0, 30.0]]
    profile = scoring.performance_profile(scores, [-1.0, 0.0, 15.0, 30.0])
    np.testing.assert_array_equal(profile, [1.0, 0.75, 0.5, 0.0])


def test_interval_of_a_profile_resamples_whole_runs() -> None:
    # The agents of a run are alike: two runs are two draws, however many agents they have.
    low, high = scoring.performance_profile_interval([[0.0] * 50, [1.0] * 50], [0.5])
    assert (low[0], high[0]) == (0.0, 1.0)
    rng = np.random.default_rng(2)
    scores = rng.random((8, 30)) + rng.random((8, 1))
    thresholds = np.linspace(0.0, 2.0, 9)
    drawn = [
        scoring.performance_profile(scores[rng.integers(8, size=8)], thresholds)
        for _ in range(3000)
    ]
    expected = np.percentile(drawn, [5.0, 95.0], axis=0)
    found = scoring.performance_profile_interval(scores, thresholds, confidence=0.9)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.isnan(scoring.performance_profile_interval(scores[:1], thresholds)).all()


def test_probability_of_improvement() -> None:
    generator = np.random.default_rng(8)
    x = generator.integers(0, 6, (7, 3)).astype(float)  # with ties
    y = generator.integers(0, 5, (4, 3)).astype(float)
    expected = np.mean(
        [stats.mannwhitneyu(x[:, task], y[:, task]).statistic / 28 for task in range(3)]
    )
    assert scoring.probability_of_improvement(x, y) == pytest.approx(expected)
    assert scoring.probability_of_improvement(y, x) == pytest.approx(1 - expected)
    assert scoring.probability_of_improvement(x, x) == 0.5
    assert scoring.probability_of_improvement(x + 10, y) == 1.0
    assert scoring.probability_of_improvement([[1.0]], [[2.0]]) == 0.0


RETURN_SCORES = (
    scoring.social_welfare,
    scoring.worst_agent,
    scoring.tenth_percentile,
    scoring.gini,
    scoring.nash_welfare,
)


@pytest.mark.parametrize("score", RETURN_SCORES)
@pytest.mark.parametrize("returns", [[], [[1.0]], 1.0, [1.0, math.nan], [math.inf], ["much"]])
def test_bad_returns_are_one_clear_error(score: Any, returns: Any) -> None:
    with pytest.raises(ValueError, match="returns"):
        score(returns)


@pytest.mark.parametrize("score", [scoring.gini, scoring.nash_welfare])
def test_negative_returns_are_one_clear_error(score: Any) -> None:
    with pytest.raises(ValueError, match=r"returns\[1\] is -0.5"):
        score([1.0, -0.5])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ([[1.0, 0.0]], r"shape \(1, 2\)"),
        ([1.0, 0.0], "a matrix"),
        ([[1.0, 0.0], [0.5, 0.6]], "assignment of agent 1"),
        ([[1.0, 0.0], [1.5, -0.5]], "assignment of agent 1"),
        ([[1.0, 0.0], [math.nan, 1.0]], r"assignment\[1, 0\] is nan"),
    ],
)
def test_bad_assignments_are_one_clear_error(assignment: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scoring.agent_returns([[1.0, 2.0], [3.0, 4.0]], assignment)


def test_bad_scores_and_settings_are_one_clear_error() -> None:
    calls: list[tuple[Any, str]] = [
        (lambda: scoring.standard_error([]), "scores has shape"),
        (lambda: scoring.standard_error([[1.0, 2.0]]), "scores has shape"),
        (lambda: scoring.interquartile_mean([1.0, math.nan]), r"scores\[1\] is nan"),
        (lambda: scoring.mean([]), "scores has shape"),
        (lambda: scoring.stratified_bootstrap_interval([1.0, 2.0]), "a matrix"),
        (lambda: scoring.stratified_bootstrap_interval([[1.0]], confidence=95), "confidence is 95"),
        (lambda: scoring.stratified_bootstrap_interval([[1.0]], n_resamples=0), "n_resamples is 0"),
        (lambda: scoring.probability_of_improvement([[1.0]], [[1.0, 2.0]]), "1 and 2 tasks"),
        (lambda: scoring.probability_of_improvement([1.0], [1.0]), "scores_x has shape"),
        (lambda: scoring.probability_of_improvement_interval([[1.0]], [[1.0, 2.0]]), "2 tasks"),
        (lambda: scoring.performance_profile([1.0], [1.0]), "scores has shape"),
        (lambda: scoring.performance_profile([[1.0]], []), "thresholds has shape"),
        (
            lambda: scoring.performance_profile_interval([[1.0]], [0.5], confidence=1.0),
            "confidence is 1.0",
        ),
        (
            lambda: scoring.performance_profile_interval([[1.0]], [0.5], n_resamples=0),
            "n_resamples is 0",
        ),
        (lambda: scoring.align_curves([], "em"), "the curves of em are empty"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_return_of_zero_up_to_rounding_is_zero() -> None:
    assert scoring.nash_welfare([-1.8e-15, 3.0]) == scoring.nash_welfare([0.0, 3.0])
    value = scoring.objective_value
    assert value([-1.8e-15, 3.0], "p_mean=-1") == value([0.0, 3.0], "p_mean=-1")
    with pytest.raises(ValueError, match=r"returns\[0\] is -0.001"):
        scoring.nash_welfare([-0.001, 3.0])
