"""Agents who differ in dynamics and were not there, matched by features or by records."""

from __future__ import annotations

import numpy as np
import pytest

from rmdp_bench import Solution, get_population
from rmdp_bench.datasets.clinic import load_clinic_controllers
from rmdp_bench.envs.glucose.patients import clinic_profile, resting_insulin
from rmdp_bench.evaluation.new_patients import default_controller, features_of, record_first_days
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.tasks import heterogeneous_task

TASK = heterogeneous_task("rmdp/Glucose-n100-v0", 1)
TWO = Solution(load_clinic_controllers()[:2], np.eye(2))


def population() -> DynamicsPopulation:
    found = get_population(TASK.env_id)
    assert isinstance(found, DynamicsPopulation)
    return found


def test_a_new_agent_fares_as_those_who_are_like_it() -> None:
    """Units of features do not matter; who is between two groups goes by the greater gain."""
    known = np.array([[0.0, 10.0], [0.1, 11.0], [1.0, 10.0], [0.9, 11.0]])
    returns = np.array([[5.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    new = np.array([[0.05, 10.0], [1.05, 10.5], [0.5, 10.5]])
    for scale in (1.0, 1000.0):
        units = np.array([scale, 1.0])
        near = TWO.assign_like(
            new * units, known_features=known * units, known_returns=returns, n_neighbours=2
        )
        np.testing.assert_array_equal(near.assignment[:2], np.eye(2))
    everybody = TWO.assign_like(new, known_features=known, known_returns=returns, n_neighbours=4)
    np.testing.assert_array_equal(everybody.assignment, [[1.0, 0.0]] * 3)
    assert everybody.policies is TWO.policies


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((2, 3))}, r"are \(2, 3\), \(4, 2\) and \(4, 2\), expected"),
        ({"known_returns": np.zeros((4, 3))}, r"and \(4, 3\), expected .* \(n, 2\)"),
        ({"features": np.full((2, 2), np.nan)}, "features has shape .* finite"),
        ({"known_features": np.zeros(4)}, "known_features has shape"),
        ({"n_neighbours": 5}, "n_neighbours is 5, expected 1 to 4"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str) -> None:  # type: ignore[type-arg]
    given = {
        "features": np.zeros((2, 2)),
        "known_features": np.zeros((4, 2)),
        "known_returns": np.zeros((4, 2)),
        "n_neighbours": 1,
    } | changes
    with pytest.raises(ValueError, match=message):
        TWO.assign_like(given.pop("features"), **given)


def test_a_solution_that_cannot_adapt_says_so() -> None:
    solution = OfflineSolution(TWO.policies, TWO.assignment)
    with pytest.raises(ValueError, match="cannot match new agents"):
        solution.assign_by_records([])
    served = OfflineSolution(
        TWO.policies, TWO.assignment, adapt=lambda episodes: Solution(TWO.policies, np.eye(2))
    )
    assert served.assign_by_records([]).assignment.shape == (2, 2)


def test_a_profile_is_what_a_clinic_knows() -> None:
    parameters = population().parameters
    profile = clinic_profile(parameters)
    assert profile.shape == (140, 3)
    np.testing.assert_array_equal(profile[:, 0], parameters[:, 15])
    np.testing.assert_allclose(profile[:, 1], 24.0 * resting_insulin(parameters))
    np.testing.assert_array_equal(profile[:, 2], parameters[:, 16])
    hidden = parameters.copy()
    hidden[:, 13] *= 1.1  # how fast one digests has no part in the insulin at rest
    np.testing.assert_array_equal(clinic_profile(hidden), profile)


def test_first_days_are_under_the_default_controller() -> None:
    agents = [3, 105, 125]
    first = record_first_days(TASK, agents, 1)
    for own in first:
        assert own.observations.shape == (289, 7) and own.rewards is None
        expected = default_controller().act(own.observations[:-1])
        np.testing.assert_allclose(own.actions, expected, rtol=1e-6)
    alone = record_first_days(TASK, agents[1:2], 1)[0]
    np.testing.assert_array_equal(alone.observations, first[1].observations)
    with pytest.raises(ValueError, match="n_days is 4, expected 1 to 3"):
        record_first_days(TASK, agents, 4)


def test_features_are_of_the_readings() -> None:
    (own,) = record_first_days(TASK, [0], 1)
    (row,) = features_of([own])
    readings = own.observations[:, 0].astype(np.float64)
    assert row[0] == pytest.approx(readings.mean()) and row[1] == pytest.approx(readings.std())
    assert row[2] == pytest.approx((readings < 70.0).mean())
    assert row[3] == pytest.approx((readings > 180.0).mean())
    flat = own.observations.copy()
    flat[:, 0] = 120.0
    (row,) = features_of([type(own)(flat, own.actions)])
    np.testing.assert_allclose(row, [120.0, 0.0, 0.0, 0.0, 120.0, 0.0, 0.0], atol=1e-9)
