"""MO-Gymnasium's worlds in the suite's form."""

from __future__ import annotations

import itertools
import pickle
import threading
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.envs.mo_worlds import MO_WORLDS, MultiObjectiveWorld, in_percent_of_front
from rmdp_bench.tasks import OnlineTask

WORLDS = pytest.mark.parametrize("world", MO_WORLDS, ids=lambda world: world.id)
SEA = "DeepSeaTreasure-n100-v0"


def sea(k: int, **changes: Any) -> OnlineTask:
    task = rmdp_bench.get_task(SEA, k, n_agents=50, **changes)
    assert isinstance(task, OnlineTask)
    return task


@WORLDS
def test_agents_need_no_simulator(world: MultiObjectiveWorld) -> None:
    population: Any = rmdp_bench.get_population(world.id)
    assert (population.n_agents, population.outcome_size) == (100, world.outcome_size)
    more: Any = rmdp_bench.get_population(world.id, n_agents=120)
    np.testing.assert_array_equal(more.weights[:100], population.weights)
    assert rmdp_bench.get_population(world.id, 1) != population


@pytest.mark.parametrize("world", MO_WORLDS[:2], ids=lambda world: world.id)
def test_one_hundred_percent_is_what_an_agent_would_have_alone(world: MultiObjectiveWorld) -> None:
    front = world.front
    assert front is not None
    population = world.make_population(3, 40)
    returns = population.rewards(np.concatenate((front, np.ones((len(front), 1))), axis=1))
    np.testing.assert_allclose(returns.max(axis=0), 100.0, rtol=1e-9)
    np.testing.assert_allclose(returns.min(axis=0), 0.0, atol=1e-9)
    with pytest.raises(ValueError, match=r"weights\[0\] are .* worth the same"):
        in_percent_of_front(np.zeros((2, front.shape[1])), front)


@WORLDS
def test_making_a_world_does_not_warn(world: MultiObjectiveWorld) -> None:
    pytest.importorskip("mo_gymnasium")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        gym.make(world.id).close()
        gym.make_vec(world.id, num_envs=2).close()


def test_threads_that_make_worlds_leave_the_warnings_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first to begin ends first, in the middle of the second if that is let in."""
    mo_gymnasium: Any = pytest.importorskip("mo_gymnasium")
    begun, ended, real = (
        [threading.Event(), threading.Event()],
        threading.Event(),
        mo_gymnasium.make,
    )

    def make(*arguments: Any, **keywords: Any) -> Any:
        number = int(begun[0].is_set())
        begun[number].set()
        if number:
            ended.wait(timeout=60)
        else:
            begun[1].wait(timeout=0.5)
        return real(*arguments, **keywords)

    monkeypatch.setattr(mo_gymnasium, "make", make)
    threads = [threading.Thread(target=lambda: gym.make(MO_WORLDS[2].id).close()) for _ in range(2)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        before = list(warnings.filters)
        threads[0].start()
        assert begun[0].wait(timeout=60)
        threads[1].start()
        threads[0].join()
        ended.set()
        threads[1].join()
        assert list(warnings.filters) == before
    assert [str(warning.message) for warning in caught] == []


@WORLDS
def test_worlds_are_those_of_mo_gymnasium(world: MultiObjectiveWorld) -> None:
    mo_gymnasium = pytest.importorskip("mo_gymnasium")
    env: Any = gym.make(world.id)
    envs: Any = gym.make_vec(world.id, num_envs=2)
    plain = mo_gymnasium.make(world.mo_id)
    observation, _ = env.reset(seed=7)
    np.testing.assert_array_equal(observation, plain.reset(seed=7)[0])
    np.testing.assert_array_equal(observation, envs.reset(seed=[6, 7])[0][1])
    plain.action_space.seed(0)
    for _ in range(5):
        action = plain.action_space.sample()
        observation, _, terminated, _, info = env.step(action)
        expected, rewards, own_end, *_ = plain.step(action)
        np.testing.assert_array_equal(observation, expected)
        np.testing.assert_array_equal(info["outcome"][: world.n_objectives], rewards)
        np.testing.assert_array_equal(
            info["outcome"], envs.step(np.array([action, action]))[4]["outcome"][1]
        )
        assert terminated == own_end
        if terminated:
            break
    assert not isinstance(env.reward_space, gym.spaces.Box)
    with pytest.raises(ValueError, match="population and n_agents=100 are given"):
        gym.make(world.id, population=world.make_population(0, 3), n_agents=100)


def test_fronts_are_those_of_mo_gymnasium() -> None:
    mo_gymnasium = pytest.importorskip("mo_gymnasium")
    for world in MO_WORLDS[:2]:
        theirs = np.array(mo_gymnasium.make(world.mo_id).unwrapped.pareto_front(gamma=1.0))
        assert world.front is not None
        np.testing.assert_allclose(np.sort(world.front, 0), np.sort(theirs, 0), rtol=1e-6)


def test_ceilings_are_the_best_choice_of_policies_of_the_front() -> None:
    """By trying all choices."""
    front = MO_WORLDS[0].front
    assert front is not None
    for k in (1, 2, 3, 5):
        population = sea(k).population
        returns = population.rewards(np.concatenate((front, np.ones((len(front), 1))), axis=1))
        choices = itertools.combinations(range(len(front)), k)
        best = [returns[list(chosen)].max(axis=0) for chosen in choices]
        assert sea(k).ceiling == pytest.approx(max(own.mean() for own in best), rel=1e-9)
        fair = sea(k, objective="egalitarian")
        assert fair.ceiling == sea(k).ceiling
        assert fair.objective_ceiling == pytest.approx(max(own.min() for own in best), rel=1e-9)
        nash = sea(k, objective="nash").objective_ceiling
        expected = max(np.expm1(np.log1p(own.clip(0)).mean()) for own in best)
        assert nash == pytest.approx(expected, rel=1e-9)
    minecart = rmdp_bench.get_task("Minecart-n100-v0", 3)
    assert minecart.ceiling is None
    own = rmdp_bench.LinearPopulation(np.array([[1.0, 0.01, 1.0], [2.0, 0.0, 0.0]]))
    assert rmdp_bench.get_task(SEA, 2, population=own).ceiling is not None


def test_tasks_of_the_worlds_can_be_sent() -> None:
    task = sea(3)
    assert pickle.loads(pickle.dumps(task)) == task
    assert task.heldout_population is not None
    assert task.heldout_population.n_agents == 50
    assert task.id.startswith(f"{SEA}-custom-") and task.gamma == 1.0
