"""Behaviour policies: the stored ones, and the script that trains them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench.datasets import DATASETS
from rmdp_bench.datasets.behaviour import (
    BEHAVIOUR_PARAMETERS,
    load_behaviour_policies,
    load_behaviour_records,
)
from scripts import train_behaviour_policies as script

ENV_IDS = list(dict.fromkeys(entry.env_id for entry in DATASETS if entry.environment.heterogeneous))


def test_every_heterogeneous_environment_with_data_has_its_policies() -> None:
    assert {env_id: len(load_behaviour_policies(env_id)) for env_id in ENV_IDS} == {
        "rmdp/CartPoleHet-n500-v0": 5,
        "rmdp/MountainCarHet-n500-v0": 5,
        "rmdp/HalfCheetahHet-n500-v0": 4,
    }
    assert list(BEHAVIOUR_PARAMETERS) == list(script.RECIPES) == ENV_IDS


def test_files_do_not_say_where_they_were_made() -> None:
    paths = sorted(script.DATA.rglob("*.onnx"))
    assert len(paths) == 14
    assert [path for path in paths if b".py" in path.read_bytes()] == []


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_policies_act_in_the_action_space_and_every_row_alone(env_id: str) -> None:
    envs: Any = gym.make_vec(env_id, 16, parameters=BEHAVIOUR_PARAMETERS[env_id])
    observations, _ = envs.reset(seed=0)
    loaded = zip(load_behaviour_policies(env_id), load_behaviour_policies(env_id), strict=True)
    for policy, again in loaded:
        policy.reset(16)
        for _ in range(20):
            actions = policy.act(observations)
            assert all(action in envs.single_action_space for action in actions)
            np.testing.assert_array_equal(actions, again.act(observations))
            alone = np.concatenate([policy.act(row[np.newaxis]) for row in observations])
            np.testing.assert_allclose(alone, actions, rtol=0, atol=1e-6)
            observations, *_ = envs.step(actions)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_policies_of_an_environment_differ(env_id: str) -> None:
    envs: Any = gym.make_vec(env_id, 500)
    observations, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(5):
        observations, *_ = envs.step(envs.action_space.sample())
    actions = [policy.act(observations) for policy in load_behaviour_policies(env_id)]
    assert len(np.unique(actions, axis=0)) == len(actions)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_records_are_of_these_policies(env_id: str) -> None:
    population = script.dynamics_population(env_id)
    records = load_behaviour_records(env_id)
    for index, (record, row) in enumerate(zip(records, BEHAVIOUR_PARAMETERS[env_id], strict=True)):
        own, *others = record["returns"]
        assert (record["env_id"], record["policy"]) == (env_id, index)
        assert tuple(record["parameters"]) == tuple(own["parameters"]) == row
        assert [agent["test_agent"] for agent in others] == list(population.test_agents)
        test_parameters = population.parameters[: population.n_test].tolist()
        assert [agent["parameters"] for agent in others] == test_parameters
        recipe = script.RECIPES[env_id]
        assert record["settings"] == dict(recipe.settings)
        assert record["transitions"] == recipe.transitions
        assert f"--env {env_id} --policy {index} --seed {record['seed']}" in record["command"]
        assert {"stable_baselines3", "torch", "mujoco", "numpy"} <= set(record["versions"])


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_recorded_returns_are_reached_again(env_id: str) -> None:
    """By the first policy of each environment, up to chance and a twentieth.

    Another processor may round differently, and a simulation end elsewhere, so the tolerance is
    five standard errors of the difference of two means.
    """
    record = load_behaviour_records(env_id)[0]
    returns = script.measure(env_id, load_behaviour_policies(env_id)[0], record["parameters"])
    for measured, agent in zip(returns, record["returns"], strict=True):
        error = agent["sd"] * (2 / len(measured)) ** 0.5
        tolerance = 5 * error + 0.05 * abs(agent["mean"])
        assert measured.mean() == pytest.approx(agent["mean"], rel=0, abs=tolerance)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_policies_are_decent(env_id: str) -> None:
    """Each serves the agent that it was trained for much better than random actions do."""
    least = dict(zip(ENV_IDS, (150.0, -200.0, 1000.0), strict=True))
    for record in load_behaviour_records(env_id):
        assert record["returns"][0]["mean"] > least[env_id]


def test_the_table_is_that_of_the_records() -> None:
    assert (script.DATA / "README.md").read_text(encoding="utf-8") == script.make_readme(
        script.DATA
    )


def test_no_such_environment_is_one_clear_error() -> None:
    for load in (load_behaviour_policies, load_behaviour_records):
        with pytest.raises(ValueError, match="no behaviour policies for 'rmdp/X', expected one of"):
            load("rmdp/X")


def test_energy_reward_does_not_change_what_is_best() -> None:
    """Discounted, what it adds depends on the first state only, whatever the actions were."""
    env: Any = script.EnergyReward(gym.make("rmdp/MountainCarHet-n500-v0", parameters=[[3e-4]]))
    added = []
    for actions in ([2], [0, 0, 2, 1]):
        env.reset(seed=0)
        total, discount, terminated, step = 0.0, 1.0, False, 0
        while not terminated:
            action = actions[step] if step < len(actions) else 2
            _, reward, terminated, truncated, _ = env.step(action)
            assert not truncated
            total += discount * (reward - (0.0 if terminated else -1.0))
            discount, step = discount * script.EnergyReward.gamma, step + 1
        added.append(total)
    assert added[0] == pytest.approx(added[1], abs=1e-6) and added[0] > 1.0


@pytest.mark.parametrize("env_id", ENV_IDS[1:])  # one for each algorithm
def test_script_trains_the_same_policy_again(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = script.RECIPES[env_id]
    tiny = dataclasses.replace(
        recipe,
        transitions=320,
        n_evaluations=1,
        n_episodes=1,
        settings={
            **recipe.settings,
            **{"learning_starts": 80, "batch_size": 8, "train_freq": 4, "gradient_steps": 2},
        },
    )
    monkeypatch.setattr(script, "RECIPES", {env_id: tiny})
    monkeypatch.setattr(script, "N_EPISODES", 1)
    runs = [tmp_path / name for name in ("one", "two", "other")]
    for run, seed in zip(runs, ("0", "0", "1"), strict=True):
        script.main(["--env", env_id, "--policy", "1", "--seed", seed, "--out", str(run)])
    first, second, other = ((run / env_id / "policy-1.onnx").read_bytes() for run in runs)
    assert first == second != other
    assert env_id in (runs[0] / "README.md").read_text(encoding="utf-8")
    record = (runs[0] / env_id / "policy-1.json").read_bytes()
    capsys.readouterr()
    script.main(["--env", env_id, "--policy", "1", "--seed", "7", "--out", str(runs[0])])
    assert "is there already" in capsys.readouterr().out
    assert (runs[0] / env_id / "policy-1.json").read_bytes() == record
    assert sorted(path.name for path in (runs[0] / env_id).iterdir()) == [
        "policy-1.json",
        "policy-1.onnx",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "rmdp/X"], "invalid choice: 'rmdp/X'"),
        (["--policy", "9"], "--policy is 9, and there is no policy of that number"),
        (["--out", __file__], "--out cannot be written to"),
        (["--seed", "-1"], "--seed is -1, expected 0 to"),
        (["--seed", str(2**30)], "--seed is 1073741824, expected 0 to 1073741823"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(["--out", str(tmp_path), *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
