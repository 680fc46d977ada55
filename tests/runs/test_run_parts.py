"""The parts of a run's log: its clock, its curve, its checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rmdp_bench.runs import Result
from rmdp_bench.runs.checkpoints import Checkpoints
from rmdp_bench.runs.clock import Clock
from rmdp_bench.runs.curve import CURVE_POINTS, Curve, read_curve


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless a test changes it."""
    time = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: time[0])
    return time


def test_training_time_is_without_start_up_and_pauses(now: list[float]) -> None:
    clock = Clock(2)
    clock.set_before([10.0, 20.0], [1.0, 2.0])
    now[0] += 5.0
    clock.start_training()
    now[0] += 3.0
    with clock.pause():
        now[0] += 7.0
    with pytest.raises(RuntimeError), clock.pause():
        now[0] += 2.0
        raise RuntimeError
    now[0] += 1.0
    assert clock.train_seconds == [5.0, 6.0]
    assert clock.wall_seconds == [28.0, 38.0]


def test_points_of_a_curve_are_due_evenly() -> None:
    curve = Curve(1, [])
    due = []
    for transitions in range(0, 1001, 10):
        if curve.is_due(transitions, 1000, CURVE_POINTS):
            due.append(transitions)
            curve.add([(transitions, 0.0, 1.0, None)])
    assert due == list(range(50, 1001, 50)) and len(due) == CURVE_POINTS
    assert curve.reached == 1000


def test_a_curve_goes_on_from_the_rows_of_a_checkpoint(tmp_path: Path) -> None:
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    curve = Curve(2, files)
    assert curve.latest("social_welfare") == [None, None]
    curve.add([(100, 1.5, 10.0, None), (100, 1.5, 20.0, 21.0)])
    kept = [list(rows) for rows in curve.rows]
    curve.add([(200, 2.5, 11.0, None), (200, 2.5, 22.0, 23.0)])
    assert curve.latest("social_welfare") == [11.0, 22.0]
    assert read_curve(files[1])["social_welfare"] == [20.0, 22.0]
    after = Curve(2, files)
    after.set_rows(kept)
    assert after.reached == 100
    assert read_curve(files[1])["social_welfare"] == [20.0]
    after.add([(150, 2.0, 12.0, None), (150, 2.0, 24.0, None)])
    assert [len(rows) for rows in kept] == [1, 1]  # the checkpoint's own rows stay as they are


def test_checkpoints_are_due_after_a_while(now: list[float], tmp_path: Path) -> None:
    checkpoints = Checkpoints([tmp_path / "seed-0", tmp_path / "seed-1"], None, 60.0)
    assert checkpoints.load() is None and checkpoints.source is None
    now[0] += 59.0
    assert not checkpoints.is_due()
    now[0] += 1.0
    assert checkpoints.is_due()
    for number in (1, 2):
        checkpoints.save({"x": np.full((2, 3), number)}, [{"seed": 0}, {"seed": 1}])
    assert not checkpoints.is_due()
    after = Checkpoints([tmp_path / "seed-0", tmp_path / "seed-1"], 2, 60.0)
    assert after.source == tmp_path / "seed-0" / "checkpoint" / "2.npz"
    loaded = after.load()
    assert loaded is not None
    assert [part.state for part in loaded] == [{"seed": 0}, {"seed": 1}]
    assert all((part.arrays["x"] == 2).all() for part in loaded)
    after.save({"x": np.zeros((2, 1))}, [{}, {}])
    names = [path.name for path in sorted(tmp_path.rglob("*.npz"))]
    assert names == ["3.npz", "3.npz"]


def test_without_directories_nothing_is_written_but_checked() -> None:
    checkpoints = Checkpoints([], None, 60.0)
    checkpoints.save({"x": np.zeros((1, 2))}, [{}])
    assert checkpoints.load() is None
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected the 1 seeds"):
        checkpoints.save({"x": np.zeros((2, 2))}, [{}])


@pytest.mark.parametrize(
    ("reported", "counted", "expected"),
    [(5_000, 5_100, 30_000.0), (0, 27, 162.0), (0, 0, 0.0), (0, None, 60_000.0)],
)
def test_speed_is_of_transitions_that_were_made(
    reported: int, counted: int | None, expected: float
) -> None:
    """A solver need not report any; its budget says how many only where nothing counted them."""
    result = Result.model_construct(
        transitions=10_000,
        transitions_reported=reported,
        transitions_counted=counted,
        seeds_together=2,
        train_seconds=1.0,
    )
    assert result.transitions_per_second(3) == expected
