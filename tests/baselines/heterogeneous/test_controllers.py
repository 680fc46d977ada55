"""The clinic's controller, tuned for k groups of patients, and the example that draws the curve."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baselines.heterogeneous import basal_bolus, constant_basal
from baselines.heterogeneous.controllers import BasalBolus, choose, make_grid, tune
from rmdp_bench import RunLog, Solution, get_task, load_solution, save_solution
from rmdp_bench.tasks import heterogeneous_task
from tests.helpers.checkout import ROOT

TASK = heterogeneous_task("rmdp/Glucose-n100-v0", 2, n_agents=5)
SMALL = dataclasses.replace(TASK, transitions=9 * 5 * 864 // 2 + 1)


def observations() -> np.ndarray:
    """Readings, trend, U on board, grams, minutes since a meal, time of day."""
    return np.array(
        [
            [120.0, 0.0, 1.0, 60.0, 360.0, 0.0, 1.0],  # a meal
            [212.0, 0.0, 1.0, 60.0, 360.0, 0.0, 1.0],  # and a reading to correct
            [212.0, 0.0, 1.0, 60.0, 90.0, 0.0, 1.0],  # too soon after the last one
            [212.0, 0.0, 1.0, 0.0, 360.0, 0.0, 1.0],  # no meal
            [300.0, 0.0, 1.0, 150.0, 360.0, 0.0, 1.0],  # more than the pump accepts
        ],
        np.float32,
    )


def test_the_controller_is_the_clinics() -> None:
    actions = BasalBolus(0.9, 10.0).act(observations())
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions[:, 0], 0.9, rtol=1e-6)
    np.testing.assert_allclose(actions[:, 1], [6.0, 8.0, 6.0, 0.0, 15.0 + 16 / 3.6], rtol=1e-6)
    strong = BasalBolus(0.9, 2.0).act(observations())[:, 1]
    np.testing.assert_allclose(strong, [20.0, 20.0, 20.0, 0.0, 20.0])
    assert not BasalBolus(0.9).act(observations())[:, 1].any()  # constant basal rate


@pytest.mark.parametrize("policy", [BasalBolus(0.9, 10.0), BasalBolus(1.3)])
def test_a_saved_controller_is_the_same(policy: BasalBolus, tmp_path: Path) -> None:
    save_solution(Solution([policy], np.ones((3, 1))), tmp_path / "solution")
    (loaded,) = load_solution(tmp_path / "solution").policies
    np.testing.assert_allclose(
        loaded.act(observations()), policy.act(observations()), rtol=1e-6, atol=1e-6
    )


def test_the_grid_has_equal_ratios() -> None:
    grid = make_grid(3)
    assert len(grid) == 9 and [policy.basal for policy in grid[::3]] == pytest.approx(
        [0.1, np.sqrt(0.4), 4.0]
    )
    ratios = [policy.carbohydrate_ratio for policy in grid[:3]]
    assert ratios == pytest.approx([2.0, np.sqrt(80.0), 40.0])
    assert len(make_grid(5, boluses=False)) == 5


def test_the_choice_is_the_best_one() -> None:
    """Of all pairs of nine controllers; more controllers serve no patient worse."""
    tuned = tune(TASK, make_grid(3), n_episodes=1, seed=7)
    returns = tuned.returns
    assert returns.shape == (5, 9)
    best = max(
        returns[:, list(pair)].max(axis=1).mean() for pair in itertools.combinations(range(9), 2)
    )
    selection, solution = choose(tuned, 2)
    own = (solution.assignment * returns[:, selection.chosen]).sum(axis=1)
    assert own.mean() == pytest.approx(best)
    assert selection.bound == pytest.approx(selection.welfare)
    welfare = [choose(tuned, k)[0].welfare for k in (1, 2, 3, 9)]
    assert (np.diff(welfare) >= 0.0).all() and welfare[1] > welfare[0]


def test_tuning_is_on_days_of_training() -> None:
    with pytest.raises(ValueError, match="seed is 2147483648, expected 0 to 2"):
        tune(TASK, make_grid(2), n_episodes=1, seed=2**31)


def test_the_solver_keeps_its_budget() -> None:
    """Nine controllers for five patients fit; a budget of less than four is refused."""
    config = basal_bolus.Config()
    log = RunLog(SMALL, [0, 3])
    first, second = basal_bolus.solve(SMALL, config, [0, 3], "cpu", log)
    used = 9 * 5 * 864
    assert log.transitions == -(-used // 2) <= SMALL.transitions
    for solution in (first, second):
        assert solution.assignment.shape == (5, 2)
        assert set(np.unique(solution.assignment)) == {0.0, 1.0}
    (again,) = basal_bolus.solve(SMALL, config, [3], "cpu", RunLog(SMALL, [3]))
    assert list(again.policies) == list(second.policies)


def test_a_constant_rate_has_no_boluses() -> None:
    config = constant_basal.Config(n_points=3)
    (solution,) = constant_basal.solve(SMALL, config, [0], "cpu", RunLog(SMALL, [0]))
    assert not any(policy.act(observations())[:, 1].any() for policy in solution.policies)


def test_what_the_solver_refuses() -> None:
    few = dataclasses.replace(TASK, transitions=4 * 5 * 864 // 2 - 1)
    message = f"{few.transitions} transitions per policy are not enough .* at least 8640"
    with pytest.raises(ValueError, match=message):
        basal_bolus.check(few, basal_bolus.Config())
    many = dataclasses.replace(TASK, n_representatives=5)
    with pytest.raises(ValueError, match=r"n_points is 2, .* 4 controllers to choose 5 .* least 3"):
        basal_bolus.check(many, basal_bolus.Config(n_points=2))
    with pytest.raises(ValueError, match="n_points is 4, .* 4 controllers to choose 5 .* least 5"):
        constant_basal.check(many, constant_basal.Config(n_points=4))
    with pytest.raises(ValueError, match="is not a task to act in rmdp/Glucose-n100-v0"):
        basal_bolus.check(get_task("HopperVel-n100-k2-v0"), basal_bolus.Config())
    with pytest.raises(ValueError, match="n_points is 1; expected 2 to 64"):
        basal_bolus.Config(n_points=1)


def test_the_example_draws_the_curve(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    output = subprocess.run(
        [
            *(sys.executable, str(ROOT / "examples" / "glucose.py")),
            *("--agents", "4", "--points", "2", "--out", str(picture)),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    assert [line.split(":")[0] for line in output.splitlines()] == ["k =  1", "k =  2", "k =  3"]
    assert picture.read_bytes().startswith(b"\x89PNG")
