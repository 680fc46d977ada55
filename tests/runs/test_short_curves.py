"""Short budgets have few points on their curves, and always the last one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rmdp_bench import RunLog
from rmdp_bench.runs.curve import CURVE_EPISODES, CURVE_POINTS, count_points, read_curve
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, get_online_task
from tests.helpers.toys import ScriptedPolicy

TASK = "ResourceGathering-n25-k1-v0"
SOLUTIONS = [Solution([ScriptedPolicy([1])], np.ones((25, 1)))]


@pytest.mark.parametrize(
    ("task_id", "total", "points"),
    [
        ("HalfCheetahVel-n100-k5-v0", 2_000_000, CURVE_POINTS),
        ("HalfCheetahVel-n100-k5-v0", 60_000, 2),
        ("HalfCheetahVel-n100-k5-v0", 2_048, 1),
        (TASK, 1_000_000, CURVE_POINTS),
        (TASK, 4_000, 3),
        ("Glucose-n100-k3-v0", 10_000_000, 3),  # with episodes of every agent
    ],
)
def test_points_follow_from_the_budget(task_id: str, total: int, points: int) -> None:
    assert count_points(get_online_task(task_id), total) == points


def test_points_take_a_tenth_of_the_steps_at_most() -> None:
    task = get_online_task("HalfCheetahVel-n1000-k50-v0")
    for total in range(20_000, 2_000_000, 7_001):
        steps = total + task.n_eval_episodes * task.max_episode_steps
        points = count_points(task, total)
        assert 10 * points * CURVE_EPISODES * task.max_episode_steps <= steps
        assert points <= CURVE_POINTS


def train(log: RunLog, start: int, stop: int) -> None:
    for transitions in range(start, stop, 300):
        log.progress(transitions, {})
        if log.evaluation_due(transitions):
            log.evaluate(transitions, SOLUTIONS)


def short_task() -> OnlineTask:
    """Of one point, which is due at its end only."""
    return dataclasses.replace(get_online_task(TASK), transitions=1_000)


def test_the_end_is_a_point_where_no_iteration_reaches_the_budget(tmp_path: Path) -> None:
    log = RunLog(short_task(), [0], [tmp_path])
    train(log, 300, 1_000)
    assert log.curves == [[]]
    log.complete_curve(SOLUTIONS)
    assert read_curve(tmp_path / "curve.csv")["transitions"] == [900]


def test_the_end_is_a_point_after_a_checkpoint(tmp_path: Path) -> None:
    """Of which nobody asks for points any more: the training is over."""
    log = RunLog(short_task(), [0], [tmp_path])
    train(log, 300, 1_000)
    log.save_checkpoint(900, {}, [{}])
    resumed = RunLog(short_task(), [0], [tmp_path], resume_at=1)
    resumed.load_checkpoint()
    resumed.complete_curve(SOLUTIONS)
    assert [row["transitions"] for row in resumed.curves[0]] == [900]


def test_a_solver_that_asks_for_no_point_has_no_curve(tmp_path: Path) -> None:
    log = RunLog(short_task(), [0], [tmp_path])
    log.progress(900, {})
    log.complete_curve(SOLUTIONS)
    assert log.curves == [[]]
