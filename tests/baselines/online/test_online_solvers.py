"""Every online solver learns, repeats itself, and continues after a kill."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.online.clustering import cluster_agents
from baselines.online.oracle import oracle_groups
from rmdp_bench.cli import main
from rmdp_bench.evaluation import evaluate
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints, read_checkpoint
from rmdp_bench.runs.solver_loading import SOLVERS
from rmdp_bench.tasks import Task, get_online_task
from tests.helpers.checkout import ROOT
from tests.helpers.online_settings import SETTINGS, SMALL
from tests.helpers.point_world import TARGETS, point_task

pytestmark = pytest.mark.arithmetic


def solve(name: str, task: Task, seeds: list[int]) -> list[float]:
    """Social welfare of each seed's solution, scored anew."""
    solver = importlib.import_module(f"baselines.online.{name}")
    config = solver.Config(**SMALL, **SETTINGS[name])
    solutions = solver.solve(task, config, seeds, "cpu", RunLog(task, seeds))
    return [
        float((s.assignment * evaluate(task, s, n_episodes=5).welfare_matrix).sum(1).mean())
        for s in solutions
    ]


@pytest.fixture(scope="module")
def random_welfare() -> float:
    return float(np.mean(solve("random_assignment", point_task(20_000), [0, 1, 2])))


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "random_assignment"])
def test_solver_beats_random_assignment(name: str, random_welfare: float) -> None:
    welfare = solve(name, point_task(20_000), [0, 1, 2])
    assert np.mean(welfare) > random_welfare + 10
    assert np.mean(welfare) > 75


def test_oracle_beats_random_assignment() -> None:
    task = get_online_task("ResourceGathering-n25-k5-v0")
    groups = oracle_groups(task, "optimal")
    assert len(np.unique(groups)) == 5
    solver = importlib.import_module("baselines.online.oracle")
    control = importlib.import_module("baselines.online.random_assignment")
    small = dataclasses.replace(task, transitions=40_000)
    welfare = {}
    for module in (solver, control):
        (solution,) = module.solve(small, module.config_for(small), [0], "cpu", RunLog(small, [0]))
        matrix = evaluate(small, solution, n_episodes=1).welfare_matrix
        welfare[module] = (solution.assignment * matrix).sum(1).mean()
    assert welfare[solver] > welfare[control] + 10


def test_oracle_intervals_are_those_of_the_targets() -> None:
    task = get_online_task("HalfCheetahVel-n100-k5-v0")
    groups = oracle_groups(task, "intervals")
    targets = task.population.preferences[:, 0]
    width = (targets.max() - targets.min()) / 5
    for j in range(5):
        own = targets[groups == j]
        assert own.max() - own.min() <= width + 1e-9
    with pytest.raises(ValueError, match="no targets"):
        oracle_groups(get_online_task("ResourceGathering-n25-k5-v0"), "intervals")


def test_clusters_follow_rewards() -> None:
    rewards = np.maximum(0, 1 - np.abs(TARGETS - np.linspace(-1, 1, 50)[:, None]) / 0.6)
    labels = cluster_agents(rewards, 2, seed=0)
    assert len(set(labels[:4])) == len(set(labels[4:])) == 1 and labels[0] != labels[-1]
    assert set(cluster_agents(np.ones((50, 8)), 2, seed=0)) == {0}  # nothing to tell apart


@pytest.mark.parametrize("name", SETTINGS)
def test_same_seed_same_run(name: str) -> None:
    task = point_task(2_000)
    assert solve(name, task, [3, 4]) == solve(name, task, [3, 4])


def test_every_solver_is_tested() -> None:
    online = {name for name, module in SOLVERS.items() if module.startswith("baselines.online.")}
    assert {*SETTINGS, "oracle", "universal"} == online


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "wall_seconds"}


class StopAt(RunLog):
    """Asks the solver to stop at the given number of reported updates."""

    def __init__(self, task: Task, folders: list[Path], update: int) -> None:
        stop = threading.Event()
        starts = [set(list_checkpoints(folder)) for folder in folders]
        super().__init__(task, [0, 1], folders, stop=stop, resume_at=max(starts[0], default=None))
        self.updates_left, self.stop = update, stop

    def progress(self, transitions: int, scalars: Any = None, *, total: int | None = None) -> None:
        super().progress(transitions, scalars, total=total)
        self.updates_left -= 1
        if not self.updates_left:
            self.stop.set()


@pytest.mark.parametrize("name", SETTINGS)
def test_stopped_at_any_update_it_continues_to_the_same_solution(name: str, tmp_path: Path) -> None:
    """Clustering and grouping by affinity are stopped in both of their trainings."""
    solver = importlib.import_module(f"baselines.online.{name}")
    config = solver.Config(**SMALL, **SETTINGS[name])
    task = point_task(2_560)
    whole_log = RunLog(task, [0, 1])
    whole = solver.solve(task, config, [0, 1], "cpu", whole_log)
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    phases: list[bool] = []
    while True:
        log = StopAt(task, folders, 4)
        try:
            solutions = solver.solve(task, config, [0, 1], "cpu", log)
            break
        except Interrupted:
            number = max(list_checkpoints(folders[0]))
            state = read_checkpoint(folders[0], number).state["solver"]
            phases.append(state["preparation"])
    assert phases.count(False) >= 2 and phases.count(True) == (
        name in ("clustering", "affinity_grouping")
    )
    assert log.transitions == whole_log.transitions
    assert task.transitions - SMALL["batch_size"] < log.transitions <= task.transitions
    for own, other in zip(log.curves, whole_log.curves, strict=True):
        assert [without_clock(row) for row in own] == [without_clock(row) for row in other]
    observations = np.linspace(-1, 1, 9)[:, None]
    for a, b in zip(whole, solutions, strict=True):
        np.testing.assert_array_equal(a.assignment, b.assignment)
        for p, q in zip(a.policies, b.policies, strict=True):
            np.testing.assert_array_equal(p.act(observations), q.act(observations))


COMMAND = [sys.executable, "-c", "import sys; from rmdp_bench.cli import main; sys.exit(main())"]


def arguments_of(solver: str, out: Path) -> list[str]:
    """Two seeds of a small task."""
    arguments = ["run", solver, "ResourceGathering-n25-k2-v0", "--seeds", "0:2"]
    return [*arguments, "--transitions", "20000", "--out", str(out), "--set", "n_epochs=2"]


def start_run(solver: str, out: Path) -> subprocess.Popen[bytes]:
    """In a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *arguments_of(solver, out)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for_curves(process: subprocess.Popen[bytes], out: Path, rows: int) -> None:
    """Waits until the curves of both seeds have some rows."""
    deadline = time.monotonic() + 600
    while True:
        curves = [path.read_text() for path in out.glob("*/*/seed-*/curve.csv")]
        if len(curves) == 2 and min(len(curve.splitlines()) for curve in curves) > rows:
            return
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def results(out: Path, solver: str) -> list[dict[str, Any]]:
    """The returns of both seeds, and their curves without the clocks."""
    found = []
    for seed in range(2):
        folder = out / "ResourceGathering-n25-k2-v0" / solver / f"seed-{seed}"
        record = json.loads((folder / "result.json").read_text())
        rows = [line.split(",") for line in (folder / "curve.csv").read_text().splitlines()]
        clock = rows[0].index("wall_seconds")
        curve = [row[:clock] + row[clock + 1 :] for row in rows]
        found.append({"agent_returns": record["agent_returns"], "curve": curve})
    return found


def test_stopped_and_killed_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    solver, out = "em", tmp_path / "stopped"
    stopped = start_run(solver, out)
    wait_for_curves(stopped, out, rows=2)
    stopped.send_signal(signal.SIGINT)  # Ctrl-C: a checkpoint, then the end
    _, errors = stopped.communicate()
    assert stopped.returncode == 130, errors.decode()
    assert len(list(out.glob("*/*/seed-*/checkpoint/*.npz"))) == 2
    killed = start_run(solver, out)
    wait_for_curves(killed, out, rows=5)
    killed.kill()
    killed.communicate()
    for folder in (out, tmp_path / "whole"):
        assert main(arguments_of(solver, folder)) == 0
    assert results(out, solver) == results(tmp_path / "whole", solver)
