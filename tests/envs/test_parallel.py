from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from pettingzoo.test.parallel_test import parallel_api_test
from pettingzoo.test.seed_test import parallel_seed_test

import rmdp_bench
from rmdp_bench import (
    ENVIRONMENTS,
    EnvironmentEntry,
    heterogeneous_parallel_env,
    parallel_env,
)
from rmdp_bench.envs.parallel import CopiesEnv, register_parallel_environments

GRID = "rmdp/ResourceGathering-n25-v0"
ROBOT = "rmdp/HopperVel-n100-v0"
POLES = "rmdp/CartPoleHet-n500-v0"
ALL = [pytest.param(entry, id=entry.id) for entry in ENVIRONMENTS]
UP, DOWN = 0, 1


def make(entry: EnvironmentEntry, n_copies: int) -> CopiesEnv:
    if entry.heterogeneous:
        return heterogeneous_parallel_env(entry.id, range(n_copies))
    return parallel_env(entry.id, n_copies)


@pytest.mark.parametrize("entry", ALL)
def test_pettingzoo_api(entry: EnvironmentEntry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)  # v0 beside v1
        parallel_api_test(make(entry, 3), num_cycles=150)


@pytest.mark.parametrize("entry", ALL)
def test_pettingzoo_seeds(entry: EnvironmentEntry) -> None:
    run: Any = parallel_seed_test
    run(lambda: make(entry, 2), num_cycles=50)


@pytest.mark.parametrize("entry", ALL)
def test_pettingzoo_makes_it(entry: EnvironmentEntry) -> None:
    register_parallel_environments()  # again is no harm
    if entry.heterogeneous:
        env = pettingzoo.make("parallel", entry.id, agents=[17, 119])
        assert env.possible_agents == ["agent_17", "agent_119"]
    else:
        env = pettingzoo.make("parallel", entry.id, n_representatives=2)
        assert env.possible_agents == ["representative_0", "representative_1"]
    assert env.metadata["name"] == entry.id


def test_importing_the_package_registers_with_pettingzoo() -> None:
    """In a fresh interpreter, where nothing else was imported or called."""
    code = (
        "import json, rmdp_bench, pettingzoo; "
        "print(json.dumps([name for name in pettingzoo.parallel_registry if 'rmdp' in name]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(rmdp_bench.__file__).parents[1])},
    ).stdout
    assert sorted(json.loads(output)) == sorted(entry.id for entry in ENVIRONMENTS)


def test_representatives_are_copies_of_the_vector_environment() -> None:
    """Same seeds, same actions: what the copies do is what the vector environment does."""
    env, envs = parallel_env(ROBOT, 4), gym.make_vec(ROBOT, num_envs=4)
    observations, _ = env.reset(seed=5)
    expected, _ = envs.reset(seed=5)
    np.testing.assert_array_equal(np.stack(list(observations.values())), expected)
    ended = np.zeros(4, dtype=bool)
    envs.action_space.seed(0)
    while env.agents:
        actions = envs.action_space.sample()
        alive = {name: actions[j] for j, name in enumerate(env.possible_agents) if not ended[j]}
        assert list(alive) == env.agents
        observations, _, terminations, _, infos = env.step(alive)
        expected, _, terminated, _, expected_infos = envs.step(actions)
        for j, name in enumerate(env.possible_agents):
            if ended[j]:
                assert name not in observations
                continue
            np.testing.assert_array_equal(observations[name], expected[j])
            np.testing.assert_array_equal(
                infos[name]["agent_rewards"], expected_infos["agent_rewards"][j]
            )
            np.testing.assert_array_equal(infos[name]["outcome"], expected_infos["outcome"][j])
            assert terminations[name] == terminated[j]
        ended |= terminated
    assert ended.all()


def test_reward_is_the_weighted_mean_of_the_agents_served() -> None:
    assignment = np.zeros((25, 3))
    assignment[:, 0] = 1.0
    assignment[17], assignment[22], assignment[0] = (0.25, 0.75, 0), (0.5, 0.5, 0), (0, 1, 0)
    env = parallel_env(GRID, 3, assignment)
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, UP))
    _, rewards, terminations, truncations, infos = env.step(dict.fromkeys(env.agents, DOWN))
    assert rewards["representative_0"] == pytest.approx(98.0 * 0.75 / 22.75)
    assert rewards["representative_1"] == pytest.approx(98.0 * 1.25 / 2.25)
    assert rewards["representative_2"] == 0.0  # nobody's
    assert all(terminations.values()) and not any(truncations.values()) and not env.agents
    assert infos["representative_2"]["agent_rewards"].sum() == 2 * 98.0


def test_default_assignment_is_a_balanced_split_in_order() -> None:
    assignment = parallel_env(GRID, 4).assignment
    assert sorted(assignment.sum(axis=0).tolist()) == [6.0, 6.0, 6.0, 7.0]
    assert (np.diff(assignment.argmax(axis=1)) >= 0).all()
    assert not assignment.flags.writeable


def test_one_that_finishes_leaves_and_the_others_go_on_to_the_limit() -> None:
    env = parallel_env(GRID, 3)
    env.reset(seed=0)
    first = {"representative_0": UP, "representative_1": DOWN, "representative_2": UP}
    observations, rewards, terminations, _, _ = env.step(first)
    assert set(observations) == set(rewards) == set(first)
    assert terminations["representative_1"]
    assert env.agents == ["representative_0", "representative_2"]
    for _ in range(39):
        _, _, terminations, truncations, _ = env.step(dict.fromkeys(env.agents, UP))
    assert not any(terminations.values()) and all(truncations.values())
    assert env.agents == [] and env.step({}) == ({}, {}, {}, {}, {})
    env.reset()
    assert env.agents == env.possible_agents


def test_space_objects_are_stable_and_not_shared() -> None:
    env = parallel_env(ROBOT, 2)
    first, second = env.possible_agents
    assert env.action_space(first) is env.action_space(first)
    assert env.action_space(first) is not env.action_space(second)


@pytest.mark.parametrize(
    "actions",
    [
        {},
        {"representative_0": UP},
        {"representative_0": UP, "representative_1": UP, "representative_2": UP},
        {"representative_0": UP, "representative_1": 4},
        {"representative_0": UP, "representative_1": 0.5},
        {"representative_0": UP, "representative_1": [1, 2]},
    ],
)
def test_bad_actions_are_refused(actions: dict[str, Any]) -> None:
    env = parallel_env(GRID, 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(actions)


def test_an_action_for_one_that_has_finished_is_refused() -> None:
    env = parallel_env(GRID, 2)
    env.reset(seed=0)
    env.step({"representative_0": DOWN, "representative_1": UP})
    with pytest.raises(ValueError, match="representative_1"):
        env.step({"representative_0": UP, "representative_1": UP})


def bad_assignment(row: list[float]) -> list[list[float]]:
    return [[1.0, 0.0]] * 24 + [row]


@pytest.mark.parametrize(
    ("env_id", "n_representatives", "kwargs", "message"),
    [
        ("rmdp/ResourceGathering-n25-v9", 2, {}, "ResourceGathering-n25-v0"),
        (GRID, 0, {}, "n_representatives is 0"),
        (GRID, 26, {}, "n_representatives is 26"),
        (GRID, 2.0, {}, "n_representatives is 2.0"),
        (GRID, True, {}, "n_representatives is True"),
        (GRID, 2, {"assignment": np.full((2, 25), 0.5)}, r"\(2, 25\)"),
        (GRID, 2, {"assignment": "even"}, "assignment"),
        (GRID, 2, {"assignment": bad_assignment([0.5, 0.4])}, r"assignment\[24\]"),
        (GRID, 2, {"assignment": bad_assignment([1.5, -0.5])}, r"assignment\[24\]"),
        (GRID, 2, {"assignment": bad_assignment([np.nan, 1.0])}, r"assignment\[24\]"),
        (GRID, 2, {"render_mode": "human"}, "render_mode"),
        (POLES, 2, {}, "use heterogeneous_parallel_env"),
    ],
)
def test_bad_arguments_are_refused(
    env_id: str, n_representatives: Any, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parallel_env(env_id, n_representatives, **kwargs)


def test_render_one_or_all() -> None:
    env = parallel_env(GRID, 3, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, UP))
    one = env.render("representative_1")
    assert one.shape == (320, 320, 3) and env.render().shape == (320, 960, 3)
    with pytest.raises(ValueError, match="representative_9"):
        env.render("representative_9")
    text = parallel_env(GRID, 2, render_mode="ansi")
    text.reset(seed=0)
    assert text.render().count("[H]") == 2 and "representative_1\n" in text.render()


def test_heterogeneous_agents_are_those_of_single_environments() -> None:
    """Fixed over episodes, in the order given, each with its own dynamics and reward."""
    chosen = [17, 0, 619]
    env = heterogeneous_parallel_env(POLES, chosen)
    assert env.possible_agents == ["agent_17", "agent_0", "agent_619"]
    singles = [gym.make(POLES) for _ in chosen]
    for seed in (4, 5):
        observations, infos = env.reset(seed=seed)
        for j, (agent, single) in enumerate(zip(chosen, singles, strict=True)):
            expected = single.reset(seed=seed + j, options={"agent": agent})
            np.testing.assert_array_equal(observations[f"agent_{agent}"], expected[0])
            assert infos[f"agent_{agent}"] == expected[1] == {"agent": agent}
        while env.agents:
            alive = list(env.agents)
            results = env.step(dict.fromkeys(alive, 1))
            for agent, single in zip(chosen, singles, strict=True):
                name = f"agent_{agent}"
                if name in alive:
                    observation, *rest = single.step(1)
                    np.testing.assert_array_equal(results[0][name], observation)
                    assert [result[name] for result in results[1:]] == rest


def test_heterogeneous_agents_are_the_test_agents_unless_chosen() -> None:
    env = heterogeneous_parallel_env(POLES)
    assert env.possible_agents == [f"agent_{agent}" for agent in range(5)]


@pytest.mark.parametrize(
    ("env_id", "agents", "kwargs", "message"),
    [
        ("rmdp/CartPoleHet-n500-v9", [0], {}, "CartPoleHet-n500-v0"),
        (GRID, [0], {}, "use parallel_env"),
        (POLES, [], {}, r"agents is \[\]"),
        (POLES, [3, 3], {}, r"agents is \[3, 3\]"),
        (POLES, 3, {}, "agents is 3, expected one or more different integers in a list"),
        (POLES, [0, 620], {}, r"agents is \[0, 620\], expected .* from 0 to 619"),
        (POLES, [-1], {}, r"agents is \[-1\]"),
        (POLES, [[0], [1, 2]], {}, r"agents is \[\[0\], \[1, 2\]\]"),
        (POLES, [0.5], {}, r"agents is \[0.5\]"),
        (POLES, ["first"], {}, r"agents is \['first'\]"),
        (POLES, [0], {"render_mode": "human"}, "render_mode"),
    ],
)
def test_bad_choices_of_agents_are_refused(
    env_id: str, agents: Any, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        heterogeneous_parallel_env(env_id, agents, **kwargs)


def test_worlds_of_mo_gymnasium_have_no_parallel_form() -> None:
    with pytest.raises(ValueError, match=r"a world of MO-Gymnasium .* use gym\.make_vec"):
        parallel_env("rmdp/DeepSeaTreasure-n100-v0", 3)
