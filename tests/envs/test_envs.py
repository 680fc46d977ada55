"""Every registered environment, single and vector form. A new one is tested by being listed."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rmdp_bench
from rmdp_bench.envs import (
    ENVIRONMENTS,
    EnvironmentEntry,
    get_environment,
    get_population,
    register_environments,
)
from rmdp_bench.envs.core.base import WorldEnv
from rmdp_bench.envs.core.world import decode_generators, encode_generators
from tests.helpers.environments import ALL, HETEROGENEOUS, ONE_PER_WORLD, REPRESENTED, assert_same

MODES = [pytest.param(mode, id=mode.name) for mode in AutoresetMode]


def rollout(env: gym.Env[Any, Any], n_steps: int) -> list[Any]:
    """Random steps from the present state; the actions are drawn from the same seed each time."""
    env.action_space.seed(5)
    results: list[Any] = []
    for _ in range(n_steps):
        results.append(env.step(env.action_space.sample()))
        if results[-1][2] or results[-1][3]:
            results.append(env.reset())
    return results


def assert_rollouts_same(left: list[Any], right: list[Any]) -> None:
    for step, (one, other) in enumerate(zip(left, right, strict=True)):
        assert_same(one, other, f"step {step}")


@pytest.mark.filterwarnings("ignore:.*Box observation space")
@pytest.mark.parametrize("entry", ALL)
def test_gymnasium_accepts_it(entry: EnvironmentEntry) -> None:
    env = gym.make(entry.id)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.spec is not None
    json.loads(env.spec.to_json())
    assert env.spec.max_episode_steps == entry.max_episode_steps
    env.close()


SECTIONS = (
    *("Description", "Population", "Observation", "Action", "Reward", "Episode end"),
    *("Arguments", "Version history"),
)


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_documentation_has_every_section(entry: EnvironmentEntry) -> None:
    text = import_module(entry.entry_point.partition(":")[0]).__doc__ or ""
    assert [line[:-1] for line in text.splitlines() if line[:-1] in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize("entry", ALL)
def test_same_seed_same_rollout(entry: EnvironmentEntry) -> None:
    first, second = gym.make(entry.id), gym.make(entry.id)
    assert_same(first.reset(seed=7), second.reset(seed=7))
    assert_rollouts_same(rollout(first, 200), rollout(second, 200))


@pytest.mark.parametrize("entry", HETEROGENEOUS)
def test_infos_name_the_agent_and_hide_its_parameters(entry: EnvironmentEntry) -> None:
    env = gym.make(entry.id, population_seed=3)
    bare: Any = env.unwrapped
    assert bare.population == get_population(entry.id, 3) != get_population(entry.id)
    assert bare.population.n_agents == entry.n_agents
    agent = env.reset(seed=1)[1]["agent"]
    agents = {agent}
    for result in rollout(env, 1_000):
        if len(result) == 2:
            agent = result[1]["agent"]
            agents.add(agent)
        else:
            assert isinstance(result[1], float)
        assert type(agent) is np.int64 and result[-1] == {"agent": agent}
    assert agents <= set(bare.population.agents) and len(agents) > 1


@pytest.mark.parametrize("entry", REPRESENTED)
def test_reward_is_the_mean_of_the_agents(entry: EnvironmentEntry) -> None:
    env = gym.make(entry.id, population_seed=3)
    bare: Any = env.unwrapped
    assert bare.population == get_population(entry.id, 3)
    assert bare.population.n_agents == entry.n_agents
    assert bare.reward_space.shape == (entry.n_agents,)
    _, info = env.reset(seed=1)
    assert not info["agent_rewards"].any() and not info["outcome"].any()
    for result in rollout(env, 100):
        info = result[-1]
        assert info["agent_rewards"].dtype == info["outcome"].dtype == np.float64
        assert info["agent_rewards"].shape == (entry.n_agents,)
        assert info["outcome"].shape == (bare.population.outcome_size,)
        assert bare.reward_space.contains(info["agent_rewards"])
        if len(result) == 5:
            assert isinstance(result[1], float)
            assert result[1] == pytest.approx(info["agent_rewards"].mean(), rel=1e-12, abs=1e-15)
            agent_rewards = bare.population.rewards(info["outcome"])
            assert_same(info["agent_rewards"], agent_rewards)


@pytest.mark.parametrize("entry", ALL)
@pytest.mark.parametrize("duplicate", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_a_copy_continues(
    entry: EnvironmentEntry, duplicate: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]
) -> None:
    env = gym.make(entry.id)
    env.reset(seed=11)
    rollout(env, 30)
    twin = duplicate(env)
    assert_rollouts_same(rollout(env, 100), rollout(twin, 100))


@pytest.mark.parametrize("entry", ALL)
def test_state_continues(entry: EnvironmentEntry) -> None:
    env, other = gym.make(entry.id), gym.make(entry.id)
    env.reset(seed=11)
    other.reset(seed=12)
    rollout(env, 30)
    bare, other_bare = env.unwrapped, other.unwrapped
    assert isinstance(bare, WorldEnv)
    assert isinstance(other_bare, WorldEnv)
    other_bare.set_state(bare.get_state())
    assert_rollouts_same(rollout(bare, 100), rollout(other_bare, 100))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("entry", ALL)
def test_vector_form_is_sync_vector_env(entry: EnvironmentEntry, mode: AutoresetMode) -> None:
    """600 steps with resets: the same observations, rewards, ends and infos, bit for bit."""
    n_rows, limit = 3, min(entry.max_episode_steps, 40)
    native: Any = gym.make_vec(entry.id, n_rows, autoreset_mode=mode, max_episode_steps=limit)
    sync: Any = SyncVectorEnv(
        [lambda: gym.make(entry.id, max_episode_steps=limit)] * n_rows, autoreset_mode=mode
    )
    assert native.metadata["autoreset_mode"] is mode
    assert native.observation_space == sync.observation_space
    assert native.action_space == sync.action_space
    assert_same(native.reset(seed=[4, 2, 9]), sync.reset(seed=[4, 2, 9]))
    native.action_space.seed(0)
    n_ended = np.zeros(n_rows)
    for step in range(600):
        actions = native.action_space.sample()
        result = native.step(actions)
        assert_same(result, sync.step(actions), f"step {step}")
        ended = result[2] | result[3]
        n_ended += ended
        if mode is AutoresetMode.DISABLED and ended.any():
            options = {"reset_mask": ended}
            assert_same(native.reset(options=dict(options)), sync.reset(options=dict(options)))
    assert (n_ended >= 600 // (limit + 1)).all()
    native.close()
    sync.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("entry", REPRESENTED)
def test_agent_rewards_can_be_left_out(entry: EnvironmentEntry, mode: AutoresetMode) -> None:
    """All else is the same; scalar rewards to rounding, through resets, also after pickling."""
    limit = min(entry.max_episode_steps, 7)
    full, light = (
        gym.make_vec(entry.id, 3, autoreset_mode=mode, max_episode_steps=limit, agent_rewards=given)
        for given in (True, False)
    )
    full.action_space.seed(0)
    results = [list(env.reset(seed=1)) for env in (full, light)]
    light = pickle.loads(pickle.dumps(light))
    for _ in range(25):
        for infos in (results[0][-1], results[0][-1].get("final_info")):
            if infos:
                del infos["agent_rewards"], infos["_agent_rewards"]
        if len(results[0]) == 5:
            rewards = [result.pop(1) for result in results]
            np.testing.assert_allclose(rewards[1], rewards[0], rtol=0.0, atol=1e-12)
        assert_same(tuple(results[1]), tuple(results[0]))
        actions = full.action_space.sample()
        results = [list(env.step(actions)) for env in (full, light)]
        ended = results[0][2] | results[0][3]
        if mode is AutoresetMode.DISABLED and ended.any():
            results = [list(env.reset(options={"reset_mask": ended})) for env in (full, light)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_vector_state_continues(entry: EnvironmentEntry, mode: AutoresetMode) -> None:
    """Through saved arrays, into an environment with another past."""
    limit = min(entry.max_episode_steps, 25)
    env: Any
    other: Any
    env, other = (
        gym.make_vec(entry.id, 3, autoreset_mode=mode.name, max_episode_steps=limit)
        for _ in range(2)
    )
    env.action_space.seed(1)
    other.reset(seed=99)
    env.reset(seed=5)

    def step(target: Any, actions: Any) -> Any:
        result = target.step(actions)
        ended = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            return result, target.reset(options={"reset_mask": ended})
        return result

    for _ in range(40):
        step(env, env.action_space.sample())
    state = env.get_state()
    assert all(len(array) == 3 for array in state.values())
    other.set_state({name: array.copy() for name, array in state.items()})
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(80):
        actions = env.action_space.sample()
        expected = step(env, actions)
        assert_same(step(other, actions), expected)
        assert_same(step(twin, actions), expected)


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_results_are_not_overwritten(entry: EnvironmentEntry) -> None:
    """A caller may keep what reset and step gave."""
    env = gym.make_vec(entry.id, 2)
    kept = [env.reset(seed=0), *(env.step(env.action_space.sample()) for _ in range(3))]
    copies = copy.deepcopy(kept)
    for _ in range(5):
        env.step(env.action_space.sample())
    env.reset()
    for one, other in zip(kept, copies, strict=True):
        assert_same(one, other)


def test_vector_seeds() -> None:
    env: Any = gym.make_vec("rmdp/HopperVel-n100-v0", 3)
    by_integer, _ = env.reset(seed=4)
    by_list, _ = env.reset(seed=[4, 5, 6])
    assert_same(by_integer, by_list)
    assert env.np_random_seed == (4, 5, 6)
    assert len(np.unique(by_integer[:, 3])) == 3
    state = env.get_state()["generator"]
    assert_same(encode_generators(decode_generators(state)), state)
    unseeded = gym.make_vec("rmdp/HopperVel-n100-v0", 3).reset()[0]
    assert not (unseeded == by_integer).any()


def test_ids() -> None:
    assert {entry.id for entry in ENVIRONMENTS} >= {
        *(f"rmdp/{robot}Vel-n{n}-v0" for robot in ("HalfCheetah", "Ant") for n in (100, 1000)),
        *(f"rmdp/{robot}Vel-n{n}-v0" for robot in ("Hopper", "Walker2d") for n in (100, 1000)),
        "rmdp/ResourceGathering-n25-v0",
        *(f"rmdp/{world}Het-n500-v0" for world in ("CartPole", "MountainCar", "HalfCheetah")),
    }
    register_environments()
    for entry in ENVIRONMENTS:
        assert gym.spec(entry.id).kwargs == entry.kwargs
        assert get_environment(entry.id) is entry
        assert get_population(entry.id) == entry.make_population(0)


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(rmdp_bench.__file__).parents[1])},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_id_with_the_package_needs_no_import() -> None:
    make = "env = gym.make('rmdp_bench:rmdp/HalfCheetahVel-n100-v0'); print(env.reset()[0].shape)"
    assert run_python(f"import gymnasium as gym; {make}") == "(17,)\n"


def test_importing_the_package_is_light() -> None:
    """PettingZoo is loaded on purpose: its registry is filled."""
    heavy = "torch sklearn onnx onnxruntime mujoco scipy matplotlib pydantic typer rich".split()
    code = f"import sys, rmdp_bench; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]\n"


def test_public_names() -> None:
    for name in rmdp_bench.__all__:
        assert getattr(rmdp_bench, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = rmdp_bench.no_such_name
    assert "get_population" in dir(rmdp_bench)


HOPPER = "rmdp/HopperVel-n100-v0"
GRID = "rmdp/ResourceGathering-n25-v0"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"population_seed": "zero"}, "population_seed is 'zero'"),
        ({"population_seed": 1.5}, "population_seed is 1.5"),
        ({"population_seed": True}, "population_seed is True"),
        ({"population_seed": -1}, "population_seed is -1"),
        ({"population_seed": 2**32}, f"population_seed is {2**32}"),
        ({"render_mode": "depth"}, "render_mode is 'depth'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
@pytest.mark.parametrize("entry", ONE_PER_WORLD)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_bad_keywords(
    make: Callable[..., Any], entry: EnvironmentEntry, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(entry.id, **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0"),
        ({"num_envs": -2}, "num_envs is -2"),
        ({"num_envs": 1.5}, "num_envs is 1.5"),
        ({"autoreset_mode": "sometimes"}, "autoreset_mode is 'sometimes'"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"max_episode_steps": 2.5}, "max_episode_steps is 2.5"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
    ],
)
@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_bad_vector_keywords(
    entry: EnvironmentEntry, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make_vec(entry.id, **{"num_envs": 2, **keywords})


@pytest.mark.parametrize("entry", REPRESENTED)
def test_agent_rewards_is_true_or_false(entry: EnvironmentEntry) -> None:
    with pytest.raises(ValueError, match="agent_rewards is 'no', expected True or False"):
        gym.make_vec(entry.id, 2, agent_rewards="no")


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_unknown_keywords_are_named_with_the_accepted_ones(entry: EnvironmentEntry) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'") as caught:
        gym.make_vec(entry.id, 2, foo=1)
    for name in ("population_seed", "render_mode", "autoreset_mode", "max_episode_steps"):
        assert name in str(caught.value)
    accepted = "unexpected keyword argument 'foo'; accepted are .*population_seed, render_mode"
    with pytest.raises(TypeError, match=accepted):
        gym.make(entry.id, foo=1)


@pytest.mark.parametrize(
    ("env_id", "action", "message"),
    [
        (HOPPER, np.zeros(4), r"shape \(3,\) expected, got 1 of shape \(4,\)"),
        (HOPPER, 0.0, r"shape \(3,\) expected"),
        (HOPPER, np.zeros((1, 3)), r"got 1 of shape \(1, 3\)"),
        (HOPPER, [0.0, np.nan, 0.0], r"action nan \(environment 0, component 1\)"),
        (HOPPER, [0.0, 0.0, 1.5], r"action 1.5 \(environment 0, component 2\) is not in \[-1.0, 1"),
        (HOPPER, [0.0, -np.inf, 0.0], "action -inf"),
        (HOPPER, ["a", "b", "c"], "dtype <U1, expected real numbers"),
        (HOPPER, np.zeros(3, dtype=complex), "dtype complex128"),
        (HOPPER, None, "dtype object"),
        (HOPPER, [[0.0], [0.0, 1.0]], "not an array of numbers"),
        (GRID, 4, r"action 4 \(environment 0\) is not in \[0, 3\]"),
        (GRID, -1, "action -1"),
        (GRID, 1.0, "dtype float64, expected integers"),
        (GRID, [0, 1], "got 1 of shape"),
        (GRID, True, "dtype bool"),
    ],
)
def test_bad_actions(env_id: str, action: Any, message: str) -> None:
    env = gym.make(env_id, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_bad_vector_actions_step_nothing() -> None:
    env: Any = gym.make_vec(HOPPER, 3)
    env.reset(seed=0)
    before = env.get_state()
    actions = np.zeros((3, 3))
    for bad, message in [
        (np.zeros((2, 3)), r"3 action\(s\) of shape \(3,\) expected, got 2"),
        (0.5, "3 actions expected, got the number 0.5"),
        (np.where(np.eye(3) * [0, 0, 1], 2.0, actions), r"action 2.0 \(environment 2, component 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.step(bad)
    assert_same(env.get_state(), before)


def test_actions_of_rows_that_reset_are_not_used() -> None:
    """As in SyncVectorEnv: in the mode NEXT_STEP they may be anything."""
    env = gym.make_vec(HOPPER, 2, max_episode_steps=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 3)))
    _, rewards, _, truncations, _ = env.step(np.full((2, 3), np.nan))
    assert not rewards.any() and not truncations.any()


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_order_of_calls(entry: EnvironmentEntry) -> None:
    vector: Any = gym.make_vec(entry.id, 2)
    for env in (gym.make(entry.id), vector):
        with pytest.raises(ResetNeeded):
            env.step(env.action_space.sample())
    with pytest.raises(ResetNeeded):
        vector.get_state()
    with pytest.raises(ResetNeeded, match=r"rows \[1\] were never reset"):
        vector.reset(options={"reset_mask": np.array([True, False])})
    disabled = gym.make_vec(entry.id, 2, autoreset_mode="DISABLED", max_episode_steps=1)
    disabled.reset(seed=0)
    disabled.step(disabled.action_space.sample())
    disabled.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have ended"):
        disabled.step(disabled.action_space.sample())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"options": {"reset_mask": [True, False]}}, TypeError, "numpy array of bool, got list"),
        ({"options": {"reset_mask": np.array([1, 0])}}, TypeError, "got int64"),
        ({"options": {"reset_mask": np.array([True])}}, ValueError, r"shape \(2,\)"),
        ({"options": {"reset_mask": np.array([False, False])}}, ValueError, "and a True"),
        ({"seed": [1, 2, 3]}, ValueError, "a sequence of 2"),
        ({"seed": 1.5}, ValueError, "seed is 1.5"),
        ({"seed": -1}, gym.error.Error, "greater or equal to zero"),
    ],
)
def test_bad_resets(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    env = gym.make_vec(HOPPER, 2)
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        env.reset(**arguments)


def test_bad_states() -> None:
    env: Any = gym.make_vec(HOPPER, 2)
    env.reset(seed=0)
    state = env.get_state()
    for name in state:
        with pytest.raises(ValueError, match=name):
            env.set_state({key: array for key, array in state.items() if key != name})
        with pytest.raises(ValueError, match=name):
            env.set_state({**state, name: state[name][:1]})


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_specs_rebuild_the_environment(entry: EnvironmentEntry) -> None:
    """A spec survives JSON, as data sets store it, and makes the same environment."""
    single = gym.make(entry.id, population_seed=3)
    vector = gym.make_vec(entry.id, 2, autoreset_mode="SAME_STEP", population_seed=3)
    assert single.spec is not None and vector.spec is not None
    again: Any = gym.make(gym.envs.registration.EnvSpec.from_json(single.spec.to_json()))
    assert again.unwrapped.population == get_population(entry.id, 3)
    again = gym.make_vec(gym.envs.registration.EnvSpec.from_json(vector.spec.to_json()))
    assert again.num_envs == 2
    assert again.autoreset_mode is AutoresetMode.SAME_STEP
    assert again.max_episode_steps == entry.max_episode_steps
    assert again.population == get_population(entry.id, 3)


def test_unknown_ids() -> None:
    with pytest.raises(ValueError, match="did you mean rmdp/HalfCheetahVel-n100"):
        get_population("rmdp/HalfCheetaVel-n100-v0")
    with pytest.raises(gym.error.NameNotFound):
        gym.make("rmdp/HalfCheetaVel-n100-v0")
    not_a_seed: Any = "x"
    with pytest.raises(ValueError, match="seed is 'x'"):
        get_population(HOPPER, not_a_seed)
