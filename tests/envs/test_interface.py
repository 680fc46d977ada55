"""What single, vector and parallel forms owe to those who use them, for every environment."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import rmdp_bench
from rmdp_bench.envs import EnvironmentEntry, get_environment, rules
from rmdp_bench.envs.wrappers import AgentReward, BatchedVectorReward, VectorReward
from rmdp_bench.population import DynamicsPopulation
from tests.helpers.environments import ALL, HETEROGENEOUS, REPRESENTED, assert_same

CART_POLE = "rmdp/CartPoleHet-n500-v0"
GRID = "rmdp/ResourceGathering-n25-v0"


def make_parallel(entry: EnvironmentEntry, **keywords: Any) -> Any:
    chosen = {"agents": [0, 1]} if entry.heterogeneous else {"n_representatives": 2}
    return pettingzoo.make("parallel", entry.id, **chosen, **keywords)


def forms(entry: EnvironmentEntry) -> list[Any]:
    single, vector = gym.make(entry.id), gym.make_vec(entry.id, 2)
    return [single, single.unwrapped, vector, make_parallel(entry)]


# Options


@pytest.mark.parametrize("entry", ALL)
def test_options_that_mean_nothing_are_refused(entry: EnvironmentEntry) -> None:
    """Before anything changes: the generators are not seeded."""
    for env in forms(entry):
        env.reset(seed=0)
        expected = env.reset()
        env.reset(seed=0)
        options: Any
        for options in ({"agnet": 3}, {"agent": 0, "Agent": 1}, {"population_seed": 1}, {0: 1}):
            with pytest.raises(ValueError, match="unknown option"):
                env.reset(seed=1, options=options)
        for options in (3, "agent", [("agent", 3)], {"agent"}, True):
            with pytest.raises(ValueError, match="options is .*, expected None or a dict"):
                env.reset(seed=1, options=options)
        assert_same(env.reset(), expected)
        env.reset(options={})
        env.close()


@pytest.mark.parametrize("entry", REPRESENTED)
def test_represented_agents_are_not_chosen(entry: EnvironmentEntry) -> None:
    for env in forms(entry):
        with pytest.raises(ValueError, match="unknown option 'agent'"):
            env.reset(options={"agent": 0})


# After the end


def step_to_the_end(env: Any) -> None:
    terminated = False
    while not terminated:
        terminated = env.step(env.action_space.sample())[2]


@pytest.mark.parametrize(
    ("env_id", "keywords"),
    [
        ("rmdp/AntVel-n100-v0", {"healthy_z_range": (0.74, 0.76)}),
        ("rmdp/HopperVel-n100-v0", {}),
        ("rmdp/Walker2dVel-n100-v0", {}),
        (GRID, {}),
        (CART_POLE, {}),
    ],
)
def test_steps_after_the_end_are_refused(env_id: str, keywords: dict[str, Any]) -> None:
    made = gym.make(env_id, **keywords)
    for env in (made, made.unwrapped):
        env.reset(seed=0)
        step_to_the_end(env)
        bare: Any = env.unwrapped
        ended = bare.get_state()
        for _ in range(2):
            with pytest.raises(ResetNeeded, match=r"call reset\(\) before step\(\)"):
                env.step(env.action_space.sample())
        assert_same(bare.get_state(), ended)  # nothing has been paid or moved
        env.reset(seed=0)
        env.step(env.action_space.sample())
        bare.set_state(ended)  # an end is part of the state
        with pytest.raises(ResetNeeded):
            env.step(env.action_space.sample())


@pytest.mark.parametrize("entry", ALL)
def test_steps_before_the_first_reset_are_refused(entry: EnvironmentEntry) -> None:
    env = gym.make(entry.id)
    for form in (env, env.unwrapped, gym.make_vec(entry.id, 2)):
        with pytest.raises(ResetNeeded):
            form.step(form.action_space.sample())


@pytest.mark.parametrize("entry", ALL)
def test_vector_steps_after_the_end_are_refused(entry: EnvironmentEntry) -> None:
    """In the mode DISABLED; terminated or truncated."""
    envs: Any = gym.make_vec(entry.id, 3, autoreset_mode="DISABLED", max_episode_steps=4)
    envs.reset(seed=0)
    ended = np.zeros(3, dtype=np.bool_)
    while not ended.any():
        result = envs.step(envs.action_space.sample())
        ended = result[2] | result[3]
    before = envs.get_state()
    with pytest.raises(ResetNeeded, match="autoreset is disabled: call reset"):
        envs.step(envs.action_space.sample())
    assert_same(envs.get_state(), before)
    envs.reset(options={"reset_mask": ended})
    envs.step(envs.action_space.sample())


@pytest.mark.parametrize("entry", ALL)
def test_parallel_steps_after_the_end_are_refused(entry: EnvironmentEntry) -> None:
    env = make_parallel(entry, max_cycles=2)
    env.reset(seed=0)
    actions = {name: env.action_space(name).sample() for name in env.agents}
    while env.agents:
        env.step({name: actions[name] for name in env.agents})
    with pytest.raises(ValueError, match=r"reset\(\) brings back those that have finished"):
        env.step(actions)


# Bounds


def test_an_extrapolating_agent_stays_in_the_observation_space() -> None:
    env = gym.make(CART_POLE)
    env.reset(seed=651, options={"agent": 613})
    for action in (1, 1, 1, 0):
        observation, _, terminated, _, _ = env.step(action)
        assert observation in env.observation_space
    assert terminated and observation[2] == pytest.approx(-0.42517, abs=1e-4)


@pytest.mark.parametrize("entry", HETEROGENEOUS)
def test_observations_of_all_agents_are_in_the_space(entry: EnvironmentEntry) -> None:
    """Of those who extrapolate, too, who are pushed this way and that for their fastest ends."""
    probe: Any = gym.make(entry.id).unwrapped
    n_agents = len(probe.population.parameters)
    envs: Any = gym.make_vec(entry.id, n_agents, autoreset_mode="DISABLED", max_episode_steps=-1)
    space = envs.single_observation_space
    agents = np.arange(n_agents)
    generator = np.random.default_rng(0)
    actions: Any
    discrete = isinstance(envs.single_action_space, gym.spaces.Discrete)
    n_steps = 60 if discrete else 6
    for n_first in (0, 1, 2, 3, 5, 8, 13, None):
        observations, _ = envs.reset(seed=1, options={"agent": agents})
        for step in range(n_steps):
            assert ((observations >= space.low) & (observations <= space.high)).all()
            if not discrete:
                ends = envs.action_space.low, envs.action_space.high
                actions = np.where(generator.random(envs.action_space.shape) < 0.5, *ends)
            elif n_first is None:
                actions = generator.integers(envs.single_action_space.n, size=n_agents)
            else:  # one way, and then the other
                last = envs.single_action_space.n - 1
                actions = np.full(n_agents, last if step < n_first else 0)
            observations, _, terminated, _, _ = envs.step(actions)
            assert ((observations >= space.low) & (observations <= space.high)).all()
            if terminated.any():
                options = {"reset_mask": terminated, "agent": agents}
                observations, _ = envs.reset(options=options)


def test_bounds_of_the_pole_hold_for_all_populations() -> None:
    """The greatest speed that can be gained between the limits, for the most agile agents.

    A speed W that grows by at most a t in each step t was at least W - i a t before i more steps,
    which led over at most the way d: (W^2 / a - W t - a t^2 / 4) / 2 <= d.
    """
    t, limit = 0.02, rules.ANGLE_LIMIT
    base = rules.cart_pole_population()
    low, high = base.low / 2, base.high + (base.high - base.low) / 4
    for force in (low[0], high[0]):
        for length in (low[1], high[1]):
            spin = a = acceleration = 0.0
            for _ in range(100):  # the centrifugal force grows with the speed
                fling = 0.1 * length * spin**2 * math.sin(limit)
                thrust = (force + fling) / 1.1
                a = (9.8 * math.sin(limit) + thrust) / (length * (4 / 3 - 0.1 / 1.1))
                acceleration = thrust + 0.1 * length * a / 1.1
                spin = fastest(a, 2 * limit, t)
            speed = fastest(acceleration, 2 * rules.POSITION_LIMIT, t)
            space: Any = gym.make(CART_POLE).observation_space
            assert limit + t * spin < space.high[2]
            assert rules.POSITION_LIMIT + t * speed < space.high[0]


def fastest(a: float, way: float, t: float) -> float:
    return a * t / 2 + math.sqrt((a * t) ** 2 / 2 + 2 * a * way)


@pytest.mark.parametrize("population_seed", [1, 2, 3])
def test_extrapolating_agents_are_those_the_bounds_are_for(population_seed: int) -> None:
    population = rmdp_bench.get_population(CART_POLE, population_seed)
    assert isinstance(population, DynamicsPopulation)
    low, high = population.low, population.high
    parameters = population.parameters
    assert (parameters >= low / 2).all() and (parameters <= high + (high - low) / 4).all()


# Attributes of vector environments


def sync(entry: EnvironmentEntry, **keywords: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gym.make(entry.id, **keywords) for _ in range(3)])


@pytest.mark.parametrize("entry", ALL)
def test_attributes_are_those_of_the_single_environments(entry: EnvironmentEntry) -> None:
    native: Any = gym.make_vec(entry.id, 3)
    theirs = sync(entry)
    for envs in (native, theirs):
        envs.reset(seed=4)
        envs.reset(seed=[None, 11, None])
    names = ["observation_space", "action_space", "population", "metadata", "render_mode"]
    names += ["np_random_seed"] + ([] if entry.heterogeneous else ["reward_dim"])
    for name in names:
        assert_same(native.get_attr(name), theirs.get_attr(name), name)
        assert_same(native.call(name), theirs.call(name), name)
    assert [spec.id for spec in native.get_attr("spec")] == [entry.id] * 3
    draws = [[one.random() for one in envs.get_attr("np_random")] for envs in (native, theirs)]
    assert draws[0] == draws[1]
    for envs in (native, theirs):
        for name in ("reward_space", "no_such_name"):  # the reward is a number
            with pytest.raises(AttributeError, match=name.split("_")[0]):
                envs.get_attr(name)


@pytest.mark.parametrize("entry", ALL)
def test_attributes_can_be_set(entry: EnvironmentEntry) -> None:
    native: Any = gym.make_vec(entry.id, 3)
    for envs in (native, sync(entry)):
        envs.set_attr("note", "hello")
        assert envs.get_attr("note") == ("hello",) * 3
        envs.set_attr("note", [1, 2, None])
        assert envs.get_attr("note") == (1, 2, None)
        envs.set_attr("double", lambda number, plus=0: 2 * number + plus)
        assert envs.call("double", 3, plus=1) == (7, 7, 7)
        with pytest.raises(ValueError):
            envs.set_attr("note", [1, 2])
        envs.set_attr("np_random", [np.random.default_rng(seed) for seed in (5, 6, 7)])
        observations = envs.reset()[0]
        expected = envs.reset(seed=0)[0]
        envs.set_attr("np_random", tuple(np.random.default_rng(seed) for seed in (5, 6, 7)))
        assert_same(envs.reset()[0], observations)
        if entry.id != GRID:
            assert (observations != expected).any()
    with pytest.raises(ValueError, match="'population' cannot be set"):
        native.set_attr("population", None)


@pytest.mark.parametrize("name", ["reset", "step", "close"])
def test_calls_that_would_change_rows_are_refused(name: str) -> None:
    """As by AsyncVectorEnv."""
    native: Any = gym.make_vec(CART_POLE, 2)
    with pytest.raises(ValueError, match=rf"{name}\(\) of the vector environment itself"):
        native.call(name)


def test_call_renders_every_row() -> None:
    entry = get_environment(GRID)
    native: Any = gym.make_vec(GRID, 3, render_mode="ansi")
    theirs = sync(entry, render_mode="ansi")
    for envs in (native, theirs):
        envs.reset(seed=0)
        envs.step(np.array([0, 2, 3]))
    assert native.call("render") == theirs.call("render") == native.render()
    assert gym.make_vec(GRID, 2).call("render") == (None, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [SyncVectorEnv, AsyncVectorEnv])
def test_rewards_of_all_agents_over_gymnasiums_vector_forms(make: Callable[..., Any]) -> None:
    envs = BatchedVectorReward(make([lambda: gym.make(f"rmdp_bench:{GRID}")] * 2))
    assert envs.reward_space.shape == (25,)
    envs.reset(seed=0)
    assert envs.step(np.array([1, 1]))[1].shape == (2, 25)
    envs.close()


# What other libraries look for


@pytest.mark.parametrize("entry", REPRESENTED)
def test_reward_spaces_are_those_of_the_rewards(entry: EnvironmentEntry) -> None:
    """MO-Gymnasium looks at the unwrapped environment, TorchRL through the wrappers."""
    env = gym.make(entry.id)
    bare: Any = env.unwrapped
    n_agents = bare.population.n_agents
    assert bare.reward_space.shape == (n_agents,) and bare.reward_dim == n_agents
    for scalar in (env, bare, AgentReward(env, 0), AgentReward(VectorReward(env), 0)):
        try:
            assert scalar.get_wrapper_attr("reward_space") is None
        except AttributeError:
            assert not scalar.has_wrapper_attr("reward_space")
    vector = VectorReward(env)
    assert vector.get_wrapper_attr("reward_space") == vector.reward_space == bare.reward_space
    assert gym.wrappers.TimeLimit(vector, 5).get_wrapper_attr("reward_space").shape == (n_agents,)


@pytest.mark.parametrize("entry", HETEROGENEOUS)
def test_the_agent_has_a_dtype(entry: EnvironmentEntry) -> None:
    env = gym.make(entry.id)
    info = env.reset(seed=0)[1]
    assert type(info["agent"]) is np.int64
    assert type(env.step(env.action_space.sample())[-1]["agent"]) is np.int64
    parallel = make_parallel(entry)
    assert [info["agent"] for info in parallel.reset(seed=0)[1].values()] == [0, 1]


@pytest.mark.parametrize("entry", ALL)
def test_max_cycles_is_the_length_of_an_episode(entry: EnvironmentEntry) -> None:
    for keywords in ({"max_cycles": 3}, {"max_episode_steps": 3}):
        env = make_parallel(entry, **keywords)
        env.reset(seed=0)
        n_steps = 0
        while env.agents:
            result = env.step({name: env.action_space(name).sample() for name in env.agents})
            n_steps += 1
        assert n_steps <= 3
        if n_steps == 3:
            assert any(result[3].values())
    with pytest.raises(TypeError, match="max_cycles and max_episode_steps are the same"):
        make_parallel(entry, max_cycles=3, max_episode_steps=4)
    for word in ("max_cycles", "max_episode_steps"):
        for value in (0, True, "3"):
            wrong: dict[str, Any] = {word: value}
            with pytest.raises(ValueError, match=f"^{word} is {value!r}, expected an integer >= 1"):
                make_parallel(entry, **wrong)


@pytest.mark.parametrize("entry", ALL)
def test_the_registry_needs_the_id_only(entry: EnvironmentEntry) -> None:
    env = pettingzoo.make("parallel", entry.id, max_cycles=2)
    _, infos = env.reset(seed=0)
    population = entry.make_population(0)
    scored = getattr(population, "test_agents", range(2))  # those of its tasks; else two by default
    assert len(infos) == len(scored)
    env.step({name: env.action_space(name).sample() for name in env.agents})
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_envs'"):
        pettingzoo.make("parallel", entry.id, num_envs=2)


@pytest.mark.parametrize("entry", ALL)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("autoreset_mode", AutoresetMode.DISABLED),
        ("num_envs", 2),
        ("vectorization_mode", "sync"),
        ("agent_rewards", False),
        ("foo", 1),
    ],
)
def test_keywords_without_a_meaning_are_refused(
    entry: EnvironmentEntry, name: str, value: Any
) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        make_parallel(entry, **{name: value})


@pytest.mark.parametrize("entry", ALL)
def test_words_that_the_error_lists_are_accepted(entry: EnvironmentEntry) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'") as caught:
        make_parallel(entry, foo=1)
    words = str(caught.value).partition("accepted are ")[2].split(", ")
    assert {"population_seed", "max_episode_steps", "max_cycles"} <= set(words)
    for word in words:
        try:
            make_parallel(entry, **{word: object()})
        except TypeError as error:  # a wrong value, but not an unknown word
            assert "unexpected keyword" not in str(error), word
        except ValueError:
            pass


@pytest.mark.parametrize("entry", ALL)
def test_attributes_that_only_separate_environments_have(entry: EnvironmentEntry) -> None:
    envs: Any = gym.make_vec(entry.id, num_envs=2)
    for name in ("unwrapped", "world", "env"):
        with pytest.raises(AttributeError, match=f"{name}.*: all rows share one world.*'sync'"):
            envs.get_attr(name)
        with pytest.raises(ValueError, match="the rows share one world"):
            envs.set_attr(name, None)


@pytest.mark.parametrize("entry", ALL)
def test_wrapper_attributes_are_those_of_the_sync_form(entry: EnvironmentEntry) -> None:
    native: Any = gym.make_vec(entry.id, num_envs=2)
    theirs: Any = gym.make_vec(entry.id, num_envs=2, vectorization_mode="sync")
    for envs in (native, theirs):
        envs.set_attr("note", [1, 2])
    for name in ("population", "spec", "foo", "width", "reward_space", "reward_dim", "note"):
        asked = [envs.call("has_wrapper_attr", name) for envs in (native, theirs)]
        assert asked[0] == asked[1], name
    assert native.call("get_wrapper_attr", "note") == theirs.call("get_wrapper_attr", "note")
    with pytest.raises(AttributeError, match="foo"):
        native.call("get_wrapper_attr", "foo")


def test_extra_errors_keep_their_message_through_workers() -> None:
    """Gymnasium's workers hand on an error's class and text only."""
    from rmdp_bench.envs.core.checks import unknown_keyword

    error = unknown_keyword("foo", ["bar"])
    assert str(type(error)(str(error))) == str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
