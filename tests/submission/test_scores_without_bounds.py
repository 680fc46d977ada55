"""What a record may say where 0 and 100 are no bounds, and where a world measures more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from rmdp_bench.envs import ENVIRONMENTS
from rmdp_bench.evaluation import Evaluation
from rmdp_bench.evaluation.offline import OfflineEvaluation
from rmdp_bench.submission import scores
from rmdp_bench.submission.replay import BATCH_SIZES
from rmdp_bench.submission.sandbox.confinement import MAX_OPEN_FILES
from rmdp_bench.submission.scores import read_evaluation
from rmdp_bench.tasks import OnlineTask, get_offline_task, get_online_task, list_tasks

PATIENTS = get_online_task("Glucose-n100-k1-v0")
CLINIC = get_offline_task("Glucose-n100-k3-clinic-v0")
MEASURES = ("time_in_range", "time_below_range", "time_above_range", "unweighted_risk")
RECORD: Any = SimpleNamespace(
    evaluation=SimpleNamespace(n_episodes=20, seed=2**31),
    offline=SimpleNamespace(evaluation_seconds=1.0),
)
Arrays = dict[str, NDArray[Any]]


def arrays_of(task: OnlineTask, welfare: float) -> Arrays:
    n, k = task.n_agents, task.n_representatives
    arrays = {"welfare_matrix": np.full((n, k), welfare), "episode_lengths": np.ones((k, 20), int)}
    if task.heterogeneous:
        arrays |= {f"measure_{name}": np.full((n, k), 0.5) for name in MEASURES}
    return arrays


def read(task: Any, arrays: Arrays) -> Any:
    """As `RowFiles.measured` reads them: no others than those of these names and shapes."""

    def measured(shapes: Any) -> Arrays:
        for name, array in arrays.items():
            if name not in shapes or array.shape != tuple(shapes[name]):
                raise ValueError(f"{name} is not expected")
        return arrays

    return read_evaluation(task, RECORD, measured, "here")


@pytest.mark.parametrize(
    ("task_id", "welfare", "is_allowed"),
    [
        ("ResourceGathering-n25-k3-v0", -1.0, False),
        ("ResourceGathering-n25-k3-v0", 101.0, False),
        ("Minecart-n100-k5-v0", -513.2, True),
        ("Minecart-n100-k5-v0", 101.0, False),
        ("Glucose-n100-k3-v0", -1540.4, True),
        ("Glucose-n100-k3-v0", 130.0, True),
        ("Glucose-n100-k3-v0", 1e7, False),
    ],
)
def test_welfare_has_the_range_of_its_world(task_id: str, welfare: float, is_allowed: bool) -> None:
    task = get_online_task(task_id)
    if is_allowed:
        found = read(task, arrays_of(task, welfare))
        assert (cast(Evaluation, found).welfare_matrix == welfare).all()
        return
    with pytest.raises(ValueError, match=rf"welfare_matrix in here: {welfare}"):
        read(task, arrays_of(task, welfare))


def test_what_a_world_measures_is_read() -> None:
    found = read(PATIENTS, arrays_of(PATIENTS, 1.0))
    assert set(found.measures) == set(MEASURES)
    for change, message in (
        ({"measure_time_in_range": None}, "has no measure_time_in_range"),
        (
            {"measure_time_in_range": np.full((100, 1), np.nan)},
            "measure_time_in_range in here: nan",
        ),
        ({"measure_comfort": np.zeros((100, 1))}, "measure_comfort is not expected"),
        ({"measure_time_in_range": np.full((100, 1), 7.0)}, "7.0 at .0, 0., expected 0.0 to 1.0"),
    ):
        arrays = {**arrays_of(PATIENTS, 1.0), **change}
        with pytest.raises(ValueError, match=message):
            read(PATIENTS, {name: array for name, array in arrays.items() if array is not None})


def test_a_record_has_no_other_measures() -> None:
    measures = dict.fromkeys(MEASURES, 0.5)
    result = SimpleNamespace(seed=0, agent_returns=[1.0] * 100, measures=measures)
    result.model_dump = lambda mode: {"tenth_percentile": 1.0, "measures": result.measures}
    evaluation = read(PATIENTS, arrays_of(PATIENTS, 1.0))
    scores._check_bounds(cast(Any, result), evaluation)
    for made_up in ({"time_in_range": 0.9}, {"comfort": 0.5}):
        result.measures = measures | made_up
        with pytest.raises(ValueError, match=f"measures.*{next(iter(made_up))}"):
            scores._check_bounds(cast(Any, result), evaluation)
    own = {"measures": measures}
    scores._check_same(own, own, "here")
    with pytest.raises(ValueError, match="measures has 'comfort', which the raw returns do not"):
        scores._check_same(own, {"measures": measures | {"comfort": 1.0}}, "here")


def test_the_table_of_environments_has_what_worlds_measure() -> None:
    for entry in ENVIRONMENTS:
        if entry.heterogeneous and "HalfCheetah" not in entry.id:
            envs: Any = gym.make_vec(entry.id, num_envs=1)
            envs.reset(seed=0)
            assert envs.unwrapped.measure().keys() == entry.measures.keys()
            envs.close()


def test_forecasts_are_read_all_or_none() -> None:
    lengths = np.ones((100, 20), np.int64)
    arrays: Arrays = {"episode_returns": lengths.astype(np.float64), "episode_lengths": lengths}
    arrays |= {f"measure_{name}": np.full(100, 0.5) for name in MEASURES}
    found = cast(OfflineEvaluation, read(CLINIC, arrays))
    assert found.prediction is None and not found.forecasts and set(found.measures) == set(MEASURES)
    for minutes in (30, 60):
        arrays |= {f"forecast_{minutes}_{n}": np.full((100, 2), minutes) for n in ("rmse", "r2")}
    found = cast(OfflineEvaluation, read(CLINIC, arrays))
    assert {m: errors.rmse[0, 0] for m, errors in found.forecasts.items()} == {30: 30, 60: 60}
    assert found.prediction is found.forecasts[60]
    del arrays["forecast_30_r2"]
    with pytest.raises(ValueError, match="forecast_30_r2 is missing"):
        read(CLINIC, arrays)


def test_a_batch_may_keep_a_file_open_in_every_copy() -> None:
    """Copies of worlds of MO-Gymnasium do; 64 files are for what is open beside them."""
    others = [t for t in list_tasks() if isinstance(t, OnlineTask) and not t.is_native]
    assert max(BATCH_SIZES[1] * task.n_representatives for task in others) + 64 <= MAX_OPEN_FILES
