"""HalfCheetahHet-v1: shorter physics steps, the same decisions."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench import get_population
from rmdp_bench.envs.half_cheetah_het import robot_with
from rmdp_bench.envs.robots import load_model
from rmdp_bench.population import DynamicsPopulation
from scripts.compare_time_steps import VariantDynamics

V0, V1 = "rmdp/HalfCheetahHet-n500-v0", "rmdp/HalfCheetahHet-n500-v1"


@pytest.mark.parametrize(("env_id", "time_step", "n_steps"), [(V0, 0.01, 5), (V1, 0.002, 25)])
def test_a_decision_takes_as_long(env_id: str, time_step: float, n_steps: int) -> None:
    world: Any = cast(Any, gym.make(env_id).unwrapped).world
    robots = world._robots
    assert robots._model.opt.timestep == time_step and robots._robot.frame_skip == n_steps
    assert robots._step_seconds == pytest.approx(0.05)
    assert world.metadata["render_fps"] == 20


def test_agents_are_those_of_v0() -> None:
    first = cast(DynamicsPopulation, get_population(V0))
    second = cast(DynamicsPopulation, get_population(V1))
    np.testing.assert_array_equal(first.parameters, second.parameters)


@pytest.mark.parametrize("time_step", [0.0, -0.01, 0.03, 0.004])
def test_steps_that_do_not_divide_a_decision(time_step: float) -> None:
    with pytest.raises(ValueError, match=f"time_step is {time_step}"):
        robot_with(time_step)


def test_the_first_robot_is_gymnasiums() -> None:
    model: Any = cast(Any, gym.make("HalfCheetah-v5").unwrapped).model
    assert load_model(robot_with(0.01)).opt.timestep == model.opt.timestep


def test_a_light_robot_wins_less_from_the_integration() -> None:
    """Its legs beat as fast as they can."""
    rng = np.random.default_rng(0)
    actions = list(np.repeat(rng.choice([-1.0, 1.0], (15, 6)), 2, axis=0))
    start = np.concatenate(([0.0], 0.1 * rng.normal(size=17)))
    errors = {}
    for time_step in (0.01, 0.002):
        work, error = VariantDynamics((0.2, 0.2), "euler", time_step).account(start, actions)
        assert work > 100.0
        errors[time_step] = abs(error) / work
    assert errors[0.002] < 0.05
    assert errors[0.002] < errors[0.01] / 2
