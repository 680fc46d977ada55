"""The table of tasks."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest

from rmdp_bench.tasks import Task, get_task, list_tasks

BUDGETS = {"n100": (1, 2, 5, 10), "n1000": (50,)}
IDS = {
    f"{robot}Vel-{size}-k{k}-v0"
    for robot in ("HalfCheetah", "Ant", "Hopper", "Walker2d")
    for size, budgets in BUDGETS.items()
    for k in budgets
} | {f"ResourceGathering-n25-k{k}-v0" for k in (1, 2, 3, 5, 10, 25)}


def test_ids_are_those_of_the_design() -> None:
    assert {task.id for task in list_tasks()} == IDS
    assert len(list_tasks()) == len(IDS)


@pytest.mark.parametrize("task", list_tasks(), ids=lambda task: task.id)
def test_fields_agree_with_the_environment(task: Task) -> None:
    assert get_task(task.id) is task
    spec = gym.spec(task.env_id)
    assert spec.max_episode_steps == task.max_episode_steps
    assert task.population.n_agents == task.n_agents
    grid = task.n_agents == 25
    assert task.transitions == (1_000_000 if grid else 2_000_000)
    assert task.gamma == (1.0 if grid else 0.99)
    assert task.n_eval_episodes == 20
    assert task.track == "online"
    assert task.ceiling is not None
    assert 0.0 < task.ceiling < 100.0
    row = json.loads(json.dumps(task.to_dict()))
    assert row["ceiling"] == task.ceiling
    assert {"id", "track", "env_id", "dataset_id", "n_agents", "n_representatives"} < row.keys()


def test_ceilings_rise_with_the_budget() -> None:
    tasks = list_tasks()
    for first, second in zip(tasks, tasks[1:], strict=False):
        if first.env_id == second.env_id:
            assert first.n_representatives < second.n_representatives
            assert first.ceiling is not None
            assert second.ceiling is not None
            assert first.ceiling < second.ceiling


def test_known_ceilings() -> None:
    assert get_task("ResourceGathering-n25-k1-v0").ceiling == pytest.approx(74.0)
    assert get_task("HalfCheetahVel-n100-k5-v0").ceiling == pytest.approx(36.4, abs=0.1)


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
