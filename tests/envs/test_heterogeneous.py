"""The worlds of heterogeneous agents: one agent lives in each copy, with its own dynamics."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rmdp_bench import ENVIRONMENTS, DynamicsPopulation, EnvironmentEntry, get_environment
from rmdp_bench.envs.half_cheetah_het import HalfCheetahWorld
from tests.helpers.environments import assert_same

CART_POLE = "rmdp/CartPoleHet-n500-v0"
MOUNTAIN_CAR = "rmdp/MountainCarHet-n500-v0"
HALF_CHEETAH = "rmdp/HalfCheetahHet-n500-v0"
HALF_CHEETAH_V1 = "rmdp/HalfCheetahHet-n500-v1"
ENTRIES = [pytest.param(e, id=e.id) for e in ENVIRONMENTS if e.heterogeneous]
MODES = [pytest.param(mode, id=mode.name) for mode in AutoresetMode]
SOME_AGENTS = [*range(5), 100, 499, 500, 599, *range(600, 604)]
DERIVED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0")
"""Constants that MuJoCo derives from masses."""


OF_KNOWN_REWARD = [pytest.param(e, id=e.id) for e in ENVIRONMENTS if e.reward_function is not None]
"""What an agent receives follows from observations; in the others dynamics are not all of it."""


def population_of(entry: EnvironmentEntry) -> DynamicsPopulation:
    population = entry.make_population(0)
    assert isinstance(population, DynamicsPopulation)
    return population


def scaled_half_cheetah(mass_scale: float, damping_scale: float) -> Any:
    reference: Any = gym.make("HalfCheetah-v5").unwrapped
    reference.model.body_mass[:] *= mass_scale
    reference.model.dof_damping[:] *= damping_scale
    mujoco.mj_setConst(reference.model, reference.data)
    return reference


def test_cart_pole_is_gymnasiums_with_the_agents_force_and_length() -> None:
    env: Any = gym.make(CART_POLE).unwrapped
    for agent in SOME_AGENTS:
        reference: Any = CartPoleEnv()
        reference.force_mag, reference.length = env.population.parameters[agent]
        reference.polemass_length = reference.masspole * reference.length
        assert reference.action_space == env.action_space
        n_ended = 0
        reset: dict[str, Any] | None = {"seed": agent}
        env.action_space.seed(agent)
        for step in range(300):
            if reset is not None:
                observation, _ = env.reset(options={"agent": agent}, **reset)
                assert_same(observation, reference.reset(**reset)[0])
            action = env.action_space.sample()
            observation, reward, terminated, truncated, info = env.step(action)
            expected = reference.step(action)
            assert_same(observation, expected[0], f"step {step} of agent {agent}")
            assert (reward, terminated, truncated) == expected[1:4]
            assert info == {"agent": agent}
            np.testing.assert_array_equal(env.get_state()["state"][0], reference.state)
            n_ended += terminated
            reset = {} if terminated else None
        assert n_ended >= 1


def test_mountain_car_is_gymnasiums_with_the_agents_gravity() -> None:
    """Its actions swing the car up, with some at random; the flag is reached, for 0 and not -1."""
    env: Any = gym.make(MOUNTAIN_CAR).unwrapped
    for agent in SOME_AGENTS:
        reference = MountainCarEnv()
        (reference.gravity,) = env.population.parameters[agent]
        assert reference.observation_space == env.observation_space
        assert reference.action_space == env.action_space
        observation, _ = env.reset(seed=agent, options={"agent": agent})
        assert_same(observation, reference.reset(seed=agent)[0])
        env.action_space.seed(agent)
        generator = np.random.default_rng(agent)
        for step in range(1_000):
            swing = 2 if observation[1] >= 0.0 else 0
            action = env.action_space.sample() if generator.random() < 0.3 else swing
            observation, reward, terminated, truncated, info = env.step(action)
            expected = reference.step(action)
            assert_same(observation, expected[0], f"step {step} of agent {agent}")
            assert (terminated, truncated) == expected[2:4]
            assert str(reward) == ("0.0" if terminated else "-1.0")
            assert info == {"agent": agent}
            if terminated:
                break
        assert terminated


@pytest.mark.parametrize("env_id", [CART_POLE, MOUNTAIN_CAR])
def test_any_integers_are_actions(env_id: str) -> None:
    """Unsigned ones too, with which one cannot compute -1."""
    results = []
    for dtype in (np.int64, np.uint8):
        envs = gym.make_vec(env_id, 2)
        envs.reset(seed=0)
        results.append(envs.step(np.array([0, 1], dtype=dtype)))
    assert_same(results[0], results[1])


def test_half_cheetah_is_gymnasiums_with_the_agents_masses_and_damping() -> None:
    env: Any = gym.make(HALF_CHEETAH).unwrapped
    assert env.action_space == gym.make("HalfCheetah-v5").action_space
    for agent in SOME_AGENTS:
        reference = scaled_half_cheetah(*env.population.parameters[agent])
        observation, info = env.reset(seed=agent, options={"agent": agent})
        assert observation.shape == (18,) and observation[0] == 0.0
        assert_same(observation[1:], reference.reset(seed=agent)[0])
        env.action_space.seed(agent)
        for step in range(100):
            action = env.action_space.sample()
            observation, reward, terminated, truncated, info = env.step(action)
            expected, expected_reward, *_, expected_info = reference.step(action)
            assert_same(observation[1:], expected, f"step {step} of agent {agent}")
            assert observation[0] == expected_info["x_velocity"]
            assert reward == expected_reward
            assert not terminated and not truncated and info == {"agent": agent}


def test_constants_follow_the_masses_of_whoever_lives_there() -> None:
    """Without `set_const` MuJoCo goes on with those of other masses, and trajectories are wrong."""
    population = population_of(get_environment(HALF_CHEETAH))
    world = HalfCheetahWorld(population, 3)
    for agents in ([0, 1, 2], [0, 7, 2], [610, 4, 0]):
        changed = np.array([1]) if agents[1] == 7 else np.arange(3)
        world.set_agents(changed, np.array(agents)[changed])
        for row, agent in enumerate(agents):
            model = world._robots.batch.get_model(row)
            reference = scaled_half_cheetah(*population.parameters[agent]).model
            for name in ("body_mass", "dof_damping", *DERIVED):
                np.testing.assert_array_equal(getattr(model, name), getattr(reference, name), name)


@pytest.mark.parametrize("entry", OF_KNOWN_REWARD)
def test_every_parameter_changes_the_dynamics(entry: EnvironmentEntry) -> None:
    """And nothing else does: the first and the last row have the same."""
    population = population_of(entry)
    middle = (population.low + population.high) / 2.0
    for parameter in range(len(population.names)):
        other = middle.copy()
        other[parameter] *= 1.05
        pair = DynamicsPopulation(
            population.names,
            population.units,
            population.low,
            population.high,
            np.stack((middle, other, middle)),
            n_test=0,
            n_agents=3,
            n_unseen=0,
        )
        env: Any = gym.make(entry.id).unwrapped
        world = type(env.world)(pair, 3)
        rows = np.arange(3)
        world.start(rows, [np.random.default_rng(0) for _ in rows], rows)
        for _ in range(5):
            world.step(rows, np.stack([env.action_space.sample()] * 3))
        first, changed, last = world.observe(rows)
        assert_same(first, last)
        assert np.abs(first - changed).max() > 1e-5, population.names[parameter]


@pytest.mark.parametrize("entry", ENTRIES)
def test_resets_differ_between_copies(entry: EnvironmentEntry) -> None:
    envs = gym.make_vec(entry.id, 8)
    drawn, infos = envs.reset(seed=0)
    assert len(np.unique(infos["agent"])) > 4
    alike, _ = envs.reset(options={"agent": 3})
    for observations in (drawn, alike):
        assert len(np.unique(observations, axis=0)) == 8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_options_are_for_one_reset_as_in_sync_vector_env(
    entry: EnvironmentEntry, mode: AutoresetMode
) -> None:
    """One agent for all; autoreset draws others, the same ones as in single environments."""
    population = population_of(entry)
    (outsider, other), n_agents = population.extrapolating_agents[5:7], population.n_agents
    keywords: dict[str, Any] = {"autoreset_mode": mode}
    native: Any = gym.make_vec(entry.id, 3, max_episode_steps=9, **keywords)
    sync: Any = SyncVectorEnv([lambda: gym.make(entry.id, max_episode_steps=9)] * 3, **keywords)
    seen = []
    reset: dict[str, Any] | None = {"seed": 6, "options": {"agent": outsider}}
    native.action_space.seed(0)
    for _ in range(60):
        if reset is not None:
            results = native.reset(**reset)
            assert_same(results, sync.reset(**reset))
            seen.append(results[-1]["agent"].copy())
        actions = native.action_space.sample()
        results = native.step(actions)
        assert_same(results, sync.step(actions))
        seen.append(results[-1]["agent"].copy())
        ended = results[2] | results[3]
        reset = None
        if mode is AutoresetMode.DISABLED and ended.any():
            reset = {"options": {"reset_mask": ended, "agent": other}}
            sync_options = {"reset_mask": ended.copy(), "agent": other}
            results = native.reset(**reset)
            assert_same(results, sync.reset(options=sync_options))
            assert (results[-1]["agent"] == np.where(ended, other, 0)).all()
            reset = None
    assert (seen[0] == outsider).all()
    if mode is AutoresetMode.DISABLED:
        assert set(np.unique(seen)) == {outsider, other}
    else:
        assert len(np.unique(seen)) > 6 and max(np.unique(seen)[:-1]) < n_agents


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_agent_for_each_copy(entry: EnvironmentEntry) -> None:
    """The copies start at different times and never disturb each other."""
    n_all = len(population_of(entry).parameters)
    agents = np.array([4, n_all - 1, 0, population_of(entry).n_agents])
    envs: Any = gym.make_vec(entry.id, 4, autoreset_mode="DISABLED", max_episode_steps=1_000)
    singles = [gym.make(entry.id, max_episode_steps=1_000) for _ in agents]
    observations, infos = envs.reset(seed=3, options={"agent": agents.tolist()})
    assert_same(infos["agent"], agents)
    for row, (single, agent) in enumerate(zip(singles, agents, strict=True)):
        assert_same(single.reset(seed=3 + row, options={"agent": agent})[0], observations[row])
    envs.action_space.seed(0)
    for step in range(80):
        actions = envs.action_space.sample()
        observations, rewards, terminations, _, infos = envs.step(actions)
        assert_same(infos["agent"], agents)
        for row, single in enumerate(singles):
            observation, reward, terminated, _, info = single.step(actions[row])
            assert_same(observation, observations[row], f"step {step}")
            assert (reward, terminated) == (rewards[row], terminations[row])
            assert info == {"agent": agents[row]}
        restart = terminations | (np.arange(4) == step % 9)
        if restart.any():
            agents = np.where(restart, (agents + 7) % n_all, agents)
            observations, infos = envs.reset(options={"reset_mask": restart, "agent": agents})
            assert_same(infos["agent"], np.where(restart, agents, 0))
            for row in np.flatnonzero(restart).tolist():
                options = {"agent": agents[row]}
                assert_same(singles[row].reset(options=options)[0], observations[row])


@pytest.mark.parametrize("entry", ENTRIES)
def test_given_agents_live_as_those_of_the_population_do(entry: EnvironmentEntry) -> None:
    population = population_of(entry)
    rows = population.parameters[[7, 3]].tolist()
    given: Any = gym.make_vec(entry.id, 4, parameters=rows)
    usual: Any = gym.make_vec(entry.id, 4)
    observations, infos = given.reset(seed=0, options={"agent": [0, 1, 1, 0]})
    assert infos["agent"].tolist() == [0, 1, 1, 0]
    assert_same(observations, usual.reset(seed=0, options={"agent": [7, 3, 3, 7]})[0])
    given.action_space.seed(0)
    for _ in range(8):
        actions = given.action_space.sample()
        assert_same(given.step(actions)[:4], usual.step(actions)[:4])
    assert given.population.parameters.tolist() == rows
    assert (given.population.low == population.low).all()
    assert (list(given.population.agents), list(given.population.test_agents)) == ([0, 1], [])


@pytest.mark.parametrize("entry", ENTRIES)
def test_one_given_agent_is_the_one_that_is_drawn(entry: EnvironmentEntry) -> None:
    """And the environment's spec remembers it."""
    rows = population_of(entry).parameters[[9]].tolist()
    env: Any = gym.make(entry.id, parameters=rows)
    again: Any = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.population == env.unwrapped.population
    assert again.unwrapped.population.parameters.tolist() == rows
    for seed in range(3):
        assert env.reset(seed=seed)[1] == {"agent": 0}


@pytest.mark.parametrize("entry", ENTRIES)
def test_bad_parameters_are_one_clear_error(entry: EnvironmentEntry) -> None:
    population = population_of(entry)
    low, names = population.low, ", ".join(population.names)
    for parameters, message in (
        ([low / 2.0], r"parameters\[0\] are .*, expected them in the range from "),
        ([low, [np.nan] * len(low)], r"parameters\[1, 0\] is nan, expected finite"),
        (
            [[*low, 1.0]],
            rf"have shape \(1, .*expected \(n, {len(low)}\), a column each for {names}",
        ),
        (low, r"parameters have shape .*, expected \(n, m\)"),
        ([], r"parameters have shape \(0,\)"),
        ("heavy", "parameters are not an array of numbers"),
    ):
        for make in (gym.make, gym.make_vec):
            with pytest.raises(ValueError, match=message):
                make(entry.id, parameters=parameters)


def pump(observations: Any, sampled: Any) -> Any:
    """Actions that swing a MountainCar up."""
    return np.where(observations[:, 1] >= 0.0, 2, 0)


@pytest.mark.parametrize("entry", OF_KNOWN_REWARD)
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_known_reward_and_end_are_the_environments(
    entry: EnvironmentEntry, convert: Callable[[Any], Any]
) -> None:
    envs: Any = gym.make_vec(entry.id, 8, autoreset_mode="DISABLED")
    before, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    steps = []
    for _ in range(250):
        actions = envs.action_space.sample()
        if entry.id == MOUNTAIN_CAR:
            actions = pump(before, actions)
        after, rewards, terminations, truncations, _ = envs.step(actions)
        steps.append((before, actions, after, rewards, terminations))
        ended = terminations | truncations
        before = envs.reset(options={"reset_mask": ended})[0] if ended.any() else after
    *transitions, rewards, terminations = (np.stack(part) for part in zip(*steps, strict=True))
    assert terminations.any() == (entry.id not in (HALF_CHEETAH, HALF_CHEETAH_V1))
    assert entry.reward_function is not None and entry.termination_function is not None
    for index in (..., 0, (0, 0), slice(0, 0)):  # (250, 8), (8,), () and (0, 8) transitions
        given = [convert(part[index]) for part in transitions]
        known, ends = entry.reward_function(*given), entry.termination_function(*given)
        assert isinstance(known, np.generic | type(given[2])) and known.dtype == given[2].dtype
        np.testing.assert_array_equal(np.asarray(ends), terminations[index])
        assert np.asarray(ends).dtype == np.bool_ and tuple(known.shape) == rewards[index].shape
        tolerance = 1e-6 if convert is torch.as_tensor else 0.0  # torch sums in another order
        np.testing.assert_allclose(np.asarray(known), rewards[index], rtol=0, atol=tolerance)


def test_known_ends_at_their_bounds() -> None:
    """A car that rolls back over the flag has not arrived: Gymnasium's rule."""
    car, pole = get_environment(MOUNTAIN_CAR), get_environment(CART_POLE)
    assert car.reward_function is not None and car.termination_function is not None
    assert pole.termination_function is not None
    cars = np.array([[0.5, 0.0], [0.5, -0.01], [0.49, 0.07], [0.6, 0.01]])
    assert car.termination_function(cars, None, cars).tolist() == [True, False, False, True]
    assert car.reward_function(cars, None, cars).tolist() == [0.0, -1.0, -1.0, 0.0]
    lean = 12 * 2 * np.pi / 360
    poles = np.array([[2.4, 9, lean, 9], [2.41, 0, 0, 0], [-2.41, 0, 0, 0], [0, 0, -0.21, 0]])
    assert pole.termination_function(poles, None, poles).tolist() == [False, True, True, True]


@pytest.mark.parametrize("speed", [24.0, 30.0, -30.0, 1e11])
def test_a_half_cheetah_that_fails_earns_nothing(speed: float) -> None:
    """It is faster than a robot can be, or diverged so that MuJoCo put it back to the start."""
    envs: Any = gym.make_vec(HALF_CHEETAH, 3, autoreset_mode="DISABLED")
    before, _ = envs.reset(seed=0)
    state = envs.get_state()
    time, positions = 1, 9
    state["physics"][1, time + positions] = speed  # the velocity of the root
    envs.set_state(state)
    actions = np.zeros((3, 6), np.float32)
    after, rewards, terminations, _, _ = envs.step(actions)
    assert np.isfinite(after).all() and (rewards[[0, 2]] != 0.0).all()
    if abs(speed) < 25.0:
        assert not terminations.any() and rewards[1] == after[1, 0] > 20.0
        return
    assert terminations.tolist() == [False, True, False] and rewards[1] == 0.0
    assert abs(after[1, 0]) >= 25.0
    entry = get_environment(HALF_CHEETAH)
    assert entry.reward_function is not None and entry.termination_function is not None
    assert entry.reward_function(before, actions, after).tolist() == rewards.tolist()
    assert entry.termination_function(before, actions, after).tolist() == terminations.tolist()

    state["physics"][1, time + positions] = 1.0
    envs.set_state(state)  # the failure is not a part of the state, and does not outlive it
    assert not envs.step(actions)[2].any()


def test_known_reward_broadcasts_actions() -> None:
    reward = get_environment(HALF_CHEETAH).reward_function
    assert reward is not None
    after, actions = torch.ones(5, 1, 18, requires_grad=True), torch.full((3, 6), 0.5)
    rewards = reward(after, actions, after)
    assert rewards.shape == (5, 3) and rewards[0, 0].item() == pytest.approx(1 - 0.1 * 6 / 4)
    rewards.sum().backward()
    assert after.grad is not None and after.grad[0, 0, 0] == 3.0


@pytest.mark.parametrize(
    "agent", [10**6, -1, 1.0, True, "first", None, [3], np.array([1, 2]), [[0], [1, 2]], np.nan]
)
@pytest.mark.parametrize("entry", ENTRIES)
def test_bad_agents_are_one_clear_error(entry: EnvironmentEntry, agent: Any) -> None:
    env: Any = gym.make(entry.id)
    env.reset(seed=0)
    state = env.unwrapped.get_state()
    last = len(population_of(entry).parameters) - 1
    message = rf"^options\['agent'\] is .*, expected an integer from 0 to {last}$"
    with pytest.raises(ValueError, match=message) as caught:
        env.reset(seed=1, options={"agent": agent})
    assert repr(agent) in str(caught.value)
    assert_same(env.unwrapped.get_state(), state)


@pytest.mark.parametrize(
    "agents", [620, -1, 1.0, True, "first", None, [3], [0, 1, 620], [0, 1, 2.5], [[0], [1, 2]]]
)
def test_bad_agents_of_copies_are_one_clear_error(agents: Any) -> None:
    envs: Any = gym.make_vec(CART_POLE, 3)
    envs.reset(seed=0)
    state = envs.get_state()
    message = r"^options\['agent'\] is .*, expected an integer or 3 integers from 0 to 619$"
    with pytest.raises(ValueError, match=message) as caught:
        envs.reset(seed=1, options={"agent": agents})
    assert repr(agents) in str(caught.value)
    assert_same(envs.get_state(), state)


def test_unknown_options_are_refused() -> None:
    """A misspelt one would change who lives there, silently."""
    with pytest.raises(ValueError, match="unknown option 'agents'; accepted are agent$"):
        gym.make(CART_POLE).reset(options={"agents": 3})
    with pytest.raises(ValueError, match="'agents'; accepted are agent, reset_mask$"):
        gym.make_vec(CART_POLE, 2).reset(options={"agents": 3})


@pytest.mark.parametrize("entry", ENTRIES)
def test_bad_states_are_refused(entry: EnvironmentEntry) -> None:
    env: Any = gym.make(entry.id).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    n_all = len(population_of(entry).parameters)
    with pytest.raises(ValueError, match=rf"state\['agent'\] is .*from 0 to {n_all - 1}"):
        env.set_state({**state, "agent": np.array([n_all])})
    for name in state:
        with pytest.raises(ValueError, match="state"):
            env.set_state({key: array for key, array in state.items() if key != name})
        with pytest.raises(ValueError, match="state"):
            env.set_state({**state, name: np.zeros((2, 7), dtype=np.int64)})


@pytest.mark.parametrize(
    ("env_id", "keywords", "message"),
    [
        (CART_POLE, {"world": "acrobot"}, "world is 'acrobot', expected one of cart_pole, mount"),
        (HALF_CHEETAH, {"reset_noise_scale": -1.0}, "reset_noise_scale is -1.0"),
        (HALF_CHEETAH, {"width": 8193}, "width is 8193, expected an integer from 1 to 8192"),
    ],
)
def test_bad_settings(env_id: str, keywords: dict[str, Any], message: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=message):
            make(env_id, **keywords)


def test_half_cheetah_settings() -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match="argument 'robot'; accepted are .*reset_noise_scale"):
            make(HALF_CHEETAH, robot="ant")
    still = gym.make(HALF_CHEETAH, reset_noise_scale=0.0)
    assert not still.reset(seed=0)[0].any()
    with pytest.raises(ValueError, match="n_threads is 0"):
        gym.make_vec(HALF_CHEETAH, 2, n_threads=0)
    envs = [gym.make_vec(HALF_CHEETAH, 5, n_threads=n_threads) for n_threads in (1, 2)]
    first, second = (
        [env.reset(seed=0), *(env.step(np.full((5, 6), 0.3)) for _ in range(30))] for env in envs
    )
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("env_id", [CART_POLE, MOUNTAIN_CAR])
def test_frames_show_the_state_and_the_agent(env_id: str) -> None:
    """Gymnasium's pictures where there is pygame, else Gymnasium's error."""
    envs: Any = gym.make_vec(env_id, 3, render_mode="rgb_array")
    envs.reset(seed=0, options={"agent": [3, 4, 4]})
    state = envs.get_state()
    state["state"][:2] = 0.0
    envs.set_state(state)
    if importlib.util.find_spec("pygame") is None:
        with pytest.raises(gym.error.DependencyNotInstalled, match="pygame"):
            envs.render()
        return
    frames = envs.render()
    assert [(frame.shape, frame.dtype) for frame in frames] == [((400, 600, 3), np.uint8)] * 3
    assert (frames[1] != frames[2]).any()
    assert (frames[0] != frames[1]).any() == (env_id == CART_POLE)  # the pole's length is drawn
    envs.close()
    envs.close()


def test_an_option_of_minaris_collector_is_nothing_to_the_environment() -> None:
    """`minari.DataCollector.reset` hands on the options that it was given, its own included."""
    env = gym.make("rmdp/CartPoleHet-n500-v0")
    _, info = env.reset(seed=0, options={"agent": 3, "minari_autoseed": False})
    assert info["agent"] == 3
    env.reset(options={"minari_autoseed": True})
    env.close()
