"""HalfCheetahHet-v1: shorter physics steps, the same decisions."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench import get_population
from rmdp_bench.datasets import DATASETS, DatasetEntry, collect
from rmdp_bench.datasets.behaviour import (
    BEHAVIOUR_PARAMETERS,
    load_behaviour_policies,
    load_behaviour_records,
)
from rmdp_bench.envs.half_cheetah_het import robot_with
from rmdp_bench.envs.robots import load_model
from rmdp_bench.population import DynamicsPopulation
from scripts.compare_time_steps import VariantDynamics

V0, V1 = "rmdp/HalfCheetahHet-n500-v0", "rmdp/HalfCheetahHet-n500-v1"
DATA = [entry for entry in DATASETS if entry.env_id == V1]


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


def test_behaviour_policies_run_as_their_records_say() -> None:
    """For whom they were trained: half as far in the first second as on average is far enough."""
    records, policies = load_behaviour_records(V1), load_behaviour_policies(V1)
    assert len(records) == len(policies) == 4
    parameters = [tuple(record["parameters"]) for record in records]
    assert parameters == list(BEHAVIOUR_PARAMETERS[V1]) == list(BEHAVIOUR_PARAMETERS[V0])
    envs: Any = gym.make_vec(V1, 4, parameters=parameters)
    observations, _ = envs.reset(seed=0, options={"agent": np.arange(4)})
    returns = np.zeros(4)
    for _ in range(150):
        actions = [policy.act(observations[j : j + 1])[0] for j, policy in enumerate(policies)]
        observations, rewards, *_ = envs.step(np.stack(actions))
        returns += rewards
    envs.close()
    expected = [record["returns"][0]["mean"] * 150 / 1000 for record in records]
    assert (returns > 0.5 * np.array(expected)).all()


def test_its_data_sets_are_v1_and_have_episodes_of_their_own() -> None:
    kinds = ("random", "pure", "pure-eps20", "pure-eps40")
    assert [entry.id for entry in DATA] == [f"rmdp/halfcheetah-het/{kind}-v1" for kind in kinds]
    assert [entry.epsilon for entry in DATA[1:]] == [0.0, 0.2, 0.4]
    assert not any(entry.ends_twice for entry in DATA)


@pytest.mark.parametrize("entry", DATA[1:3], ids=lambda entry: entry.id)
def test_its_episodes_are_collected_in_v1(entry: DatasetEntry) -> None:
    """The first two steps of an agent's episode, in both worlds."""
    (episode,) = collect(entry, agents=[17])
    assert episode.n_steps == 1000
    assert not (episode.terminations & episode.truncations).any() and episode.truncations[-1]
    for env_id in (V0, V1):
        env = gym.make(env_id)
        observation, _ = env.reset(seed=entry.seed + 17, options={"agent": 17})
        np.testing.assert_array_equal(observation, episode.observations[0])
        observation, *_ = env.step(episode.actions[0])
        assert np.allclose(observation, episode.observations[1], atol=1e-6) == (env_id == V1)
        env.close()
