"""The plan of equal training: settings that solvers take, and the same passes."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rmdp_bench.runs.solver_loading import SOLVERS, load_solver, make_config
from rmdp_bench.sweep.plan import list_settings, read_plan
from rmdp_bench.tasks import find_logged_task, get_offline_task
from scripts import equal_training as plan


def config_of(row: plan.Row) -> Any:
    """The solver's settings, as a sweep makes them."""
    settings = [f"{name}={json.dumps(value)}" for name, value in row.settings.items()]
    return make_config(load_solver(row.solver), row.task, settings)


def all_rows(chosen: dict[str, Any]) -> list[plan.Row]:
    return [
        row
        for world, solver, kind in itertools.product(plan.WORLDS, plan.RIVALS, plan.KINDS)
        for row in plan.table_rows(solver, world, kind, chosen)
    ]


def test_every_solver_that_learns_from_a_log_is_there() -> None:
    offline = {name for name, module in SOLVERS.items() if ".offline." in module}
    assert set(plan.RIVALS) == offline - {"true_env_mpc"}
    for solver in plan.RIVALS:
        assert len({str(point) for point in plan.grid_of(solver)}) == 4


def test_every_run_is_accepted_and_makes_the_passes() -> None:
    folders = set()
    for row in all_rows({}):
        config, n_rows = config_of(row), plan.count_transitions(row.task)
        folders.add((row.folder, row.task.id, row.solver))
        if row.folder == "offline-published":
            assert row.solver in ("bcq", "cql", "cadm", "pe_cadm", "morel")
            continue
        if row.solver.startswith("persim"):
            assert (config.n_epochs, config.halving_epochs) == (300, 150)
        else:
            updates = config.max_model_updates if row.solver == "morel" else config.n_updates
            assert updates == math.ceil(300 * n_rows / config.batch_size)
        if row.solver == "morel":
            assert config.model_epochs * n_rows / config.batch_size >= config.min_model_updates - 1
    assert len(folders) == 2 * 2 * (9 + 5)


def test_tuning_keeps_away_from_what_is_scored() -> None:
    for solver in plan.RIVALS:
        rows = list(plan.tuning_rows(solver, plan.WORLDS[0]))
        assert [row.folder for row in rows] == ["0", "1", "2", "3"]
        for point, row in zip(plan.grid_of(solver), rows, strict=True):
            config = config_of(row)
            assert row.task.id == "CartPoleHet-n500-pure-eps20-v1"
            assert all(row.settings[name] == value for name, value in point.items())
            assert getattr(config, "n_epochs", 75) == 75
            assert getattr(config, "n_sequences", 100) == 100 or solver == "persim_bcq"


def test_plans_are_read_as_they_are_meant(tmp_path: Path) -> None:
    rows = list(plan.tuning_rows("behaviour", plan.WORLDS[0]))
    path = tmp_path / "tuning.toml"
    path.write_text(plan.write_plan(rows, "100"), encoding="utf-8")
    read = read_plan(path).rows
    assert [(row.folder, row.seeds, row.seeds_per_batch) for row in read] == [
        (row.folder, (100,), 3) for row in rows
    ]
    for row, own in zip(rows, read, strict=True):
        (settings,) = list_settings(own.settings)
        found = make_config(load_solver(row.solver), row.task, settings)
        assert found == config_of(row) and own.tasks == (row.task.id,)
        assert found.hidden_dims == tuple(row.settings["hidden_dims"])


def test_the_best_point_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = plan.WORLDS[1]
    task = find_logged_task(world, plan.TUNING_KIND)
    welfare = {"0": -300.0, "1": -120.0, "2": -100.0, "3": -500.0}

    def read_result(path: Path) -> SimpleNamespace:
        return SimpleNamespace(social_welfare=welfare[path.read_text()])

    monkeypatch.setattr(plan, "read_result", read_result)
    for number in welfare:
        with pytest.raises(ValueError, match="has 0 results"):
            plan.choose(tmp_path, "cql", world)
        result = tmp_path / number / "address" / task.id / "cql" / "seed-100" / "result.json"
        result.parent.mkdir(parents=True)
        result.write_text(number)
    chosen = plan.choose(tmp_path, "cql", world)
    assert chosen == {"learning_rate": 1e-3, "conservative_weight": 1.0}
    for row in plan.table_rows("cql", world, "pure", chosen):
        assert config_of(row).learning_rate == 1e-3 and row.settings["conservative_weight"] == 1.0


def test_minutes_of_training_follow_from_what_was_measured() -> None:
    task = get_offline_task("CartPoleHet-n500-pure-eps20-v1")
    minutes = [plan.training_minutes("cql", task, {"n_updates": n}) for n in (3000, 6000)]
    assert minutes == [pytest.approx(0.4), pytest.approx(0.8)]
    assert plan.training_minutes("morel", task, {}) is None


def test_passes_follow_the_size_of_the_log() -> None:
    task = find_logged_task("CartPoleHet-n500", "pure-eps20")
    assert plan.count_transitions(task) == 76_003
    assert plan.training_settings("cql", task, 2) == {"n_updates": 2376}  # 2 * 76,003 / 64
    assert plan.training_settings("persim_bcq", task, 75) == {"n_epochs": 75, "halving_epochs": 37}
