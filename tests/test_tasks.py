"""The table of tasks."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench.datasets import get_dataset
from rmdp_bench.envs import ENVIRONMENTS, EnvironmentEntry, get_population
from rmdp_bench.envs.mo_worlds import MO_WORLDS, find_mo_world
from rmdp_bench.tasks import (
    OnlineTask,
    Task,
    find_logged_task,
    get_offline_task,
    get_online_task,
    get_task,
    list_tasks,
    retired_tasks,
)

BUDGETS = {"n100": (1, 2, 5, 10), "n1000": (50,)}
VELOCITY_IDS = {
    f"{robot}Vel-{size}-k{k}-v0"
    for robot in ("HalfCheetah", "Ant", "Hopper", "Walker2d")
    for size, budgets in BUDGETS.items()
    for k in budgets
}
OFFLINE_IDS = {
    f"{world}Het-n500-{kind}-v1"
    for world in ("CartPole", "MountainCar", "HalfCheetah")
    for kind in ("pure", "random", "pure-eps20", "pure-eps40")
}
ONLINE = [task for task in list_tasks() if isinstance(task, OnlineTask)]
GRID_IDS = {f"ResourceGathering-n25-k{k}-v0" for k in (1, 2, 3, 5, 10, 25)}


def test_ids_are_those_of_the_design() -> None:
    """Others may be added; these stay."""
    ids = [task.id for task in list_tasks()]
    assert set(ids) >= VELOCITY_IDS | GRID_IDS | OFFLINE_IDS
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("task_id", sorted(VELOCITY_IDS | GRID_IDS))
def test_rules_of_the_design(task_id: str) -> None:
    """To change one of them is to make a new version."""
    task = get_online_task(task_id)
    expected = (2_000_000, 0.99, 1000) if task_id in VELOCITY_IDS else (1_000_000, 1.0, 40)
    assert (task.transitions, task.gamma, task.max_episode_steps) == expected
    assert task.n_eval_episodes == 20
    assert task.ceiling is not None


def test_every_represented_mdp_has_tasks() -> None:
    represented = {entry.id for entry in ENVIRONMENTS if not entry.heterogeneous}
    represented |= {world.id for world in MO_WORLDS}
    assert {task.env_id for task in ONLINE if not task.heterogeneous} == represented


def test_rules_of_the_glucose_tasks() -> None:
    tasks = [task for task in ONLINE if task.heterogeneous]
    assert [task.id for task in tasks] == [f"Glucose-n100-k{k}-v0" for k in (1, 2, 3, 5, 10)]
    for task in tasks:
        assert (task.transitions, task.gamma, task.max_episode_steps) == (5_000_000, 0.99, 864)
        assert (task.n_agents, task.n_eval_episodes, task.ceiling) == (100, 20, None)
        assert task.unranked is None


@pytest.mark.parametrize("task_id", sorted(OFFLINE_IDS))
def test_rules_of_offline_tasks(task_id: str) -> None:
    task = get_offline_task(task_id)
    world, _, kind = task_id.rpartition("-")[0].replace("-n500-", "/").partition("/")
    version = "v1" if world == "HalfCheetahHet" else "v0"
    assert task.env_id == f"rmdp/{world}-n500-{version}"
    entry = get_dataset(task.dataset_id)
    assert entry.id == f"rmdp/{world.lower().replace('het', '-het')}/{kind}-{version}"
    assert entry.env_id == task.env_id
    population = task.hidden_population
    assert task.n_agents == task.n_representatives == population.n_agents == entry.n_episodes
    assert task.eval_agents == tuple(population.test_agents) == (0, 1, 2, 3, 4)
    unseen, extrapolating = task.heldout_agents[:5], task.heldout_agents[5:]
    assert set(unseen) < set(population.unseen_agents)
    assert set(extrapolating) < set(population.extrapolating_agents) and len(extrapolating) == 4
    assert (task.transitions, task.n_eval_episodes, task.ceiling) == (0, 20, None)
    assert not hasattr(task, "population")  # its agents differ in what no solver may know


@pytest.mark.parametrize("task", list_tasks(), ids=lambda task: task.id)
def test_fields_agree_with_the_environment(task: Task) -> None:
    assert get_task(task.id) is task
    spec = gym.spec(task.env_id)
    own_limit = task.max_episode_steps if find_mo_world(task.env_id) is None else None
    assert spec.max_episode_steps == own_limit  # MO-Gymnasium's wrapper has the limit of its worlds
    population = get_population(task.env_id)
    assert population.n_agents == task.n_agents
    if isinstance(task, OnlineTask) and not task.heterogeneous:
        assert task.population.n_agents == task.n_agents
    assert 1 <= task.n_representatives <= task.n_agents
    assert (task.transitions >= 1) == isinstance(task, OnlineTask)
    assert 0.0 < task.gamma <= 1.0
    assert task.n_eval_episodes >= 1
    assert task.ceiling is None or 0.0 < task.ceiling <= 100.0
    row = json.loads(json.dumps(task.to_dict()))
    assert row["ceiling"] == task.ceiling
    assert {"id", "track", "env_id", "dataset_id", "n_agents", "n_representatives"} < row.keys()
    assert row["track"] == ("online" if isinstance(task, OnlineTask) else "offline")
    assert (row["dataset_id"] is None) == (row["eval_agents"] is None) == (row["track"] == "online")


@pytest.mark.parametrize("entry", ENVIRONMENTS, ids=lambda entry: entry.id)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a first version
def test_properties_are_those_of_the_world(entry: EnvironmentEntry) -> None:
    """Settings follow from them (`baselines.online.ppo.settings`)."""
    env = gym.make(entry.id)
    assert entry.continuous == isinstance(env.action_space, gym.spaces.Box)
    env.close()
    for task in list_tasks():
        if isinstance(task, OnlineTask) and task.env_id == entry.id:
            assert (task.continuous, task.terminates) == (entry.continuous, entry.terminates)


def test_days_of_patients_do_not_end_early() -> None:
    """Whatever the doses, also those that no patient survives."""
    task = get_online_task("Glucose-n100-k3-v0")
    assert not task.terminates
    envs = gym.make_vec(task.env_id, 2)
    envs.reset(seed=0, options={"agent": [0, 1]})
    doses = np.array([[0.0, 0.0], [6.0, 20.0]], np.float32)
    for step in range(task.max_episode_steps):
        _, _, terminations, truncations, _ = envs.step(doses)
        assert not terminations.any()
        assert truncations.all() == (step == task.max_episode_steps - 1)
    envs.close()


def test_ceilings_rise_with_the_budget() -> None:
    for first, second in zip(ONLINE, ONLINE[1:], strict=False):
        if first.env_id == second.env_id:
            assert first.n_representatives < second.n_representatives
            assert (first.ceiling is None) == (second.ceiling is None)
            assert (first.ceiling or 0.0) <= (second.ceiling or 0.0)


def test_known_ceilings() -> None:
    assert get_online_task("ResourceGathering-n25-k1-v0").ceiling == pytest.approx(74.0)
    assert get_online_task("HalfCheetahVel-n100-k5-v0").ceiling == pytest.approx(36.4, abs=0.1)


def test_tasks_of_an_earlier_version_name_their_successor() -> None:
    for world in ("CartPole", "MountainCar", "HalfCheetah"):
        for kind in ("pure", "random", "pure-eps20", "pure-eps40"):
            name = f"{world}Het-n500-{kind}"
            with pytest.raises(ValueError, match=f"{name}-v0 is retired: .*; use {name}-v1"):
                get_task(f"{name}-v0")
            assert find_logged_task(f"{world}Het-n500", kind) is get_task(f"{name}-v1")
            assert retired_tasks()[f"{name}-v0"].same_world == (world != "HalfCheetah")
    assert not set(retired_tasks()) & {task.id for task in list_tasks()}
    assert {old.successor for old in retired_tasks().values()} < {task.id for task in list_tasks()}
    with pytest.raises(ValueError, match="no offline task of 'Pole' with 'pure' data"):
        find_logged_task("Pole", "pure")


@pytest.mark.parametrize(
    ("task_id", "message"),
    [
        ("HalfCheetahVel-n100-k6-v0", "did you mean HalfCheetahVel-n100-k"),
        ("resourcegathering-n25-k3-v0", "did you mean ResourceGathering-n25-k3-v0"),
        ("", "see `rmdp-bench list tasks`"),
        ("zzz", "see `rmdp-bench list tasks`"),
    ],
)
def test_unknown_task(task_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_task(task_id)
