"""The plan of equal training: settings that solvers take, and the same passes."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rmdp_bench.runs.solver_loading import SOLVERS, load_solver, make_config
from rmdp_bench.tasks import OfflineTask, find_logged_task, get_offline_task
from scripts import equal_training as plan
from scripts.run_offline_table import WORLDS


def settings_of(command: list[str]) -> list[str]:
    return [text for key, text in zip(command, command[1:], strict=False) if key == "--set"]


def config_of(command: list[str]) -> tuple[Any, OfflineTask]:
    """The solver's settings, as `rmdp-bench run` makes them, and the task."""
    task = get_offline_task(command[2])
    return make_config(load_solver(command[1]), task, settings_of(command)), task


def out_of(command: list[str]) -> Path:
    return Path(command[command.index("--out") + 1])


def test_every_solver_that_learns_from_a_log_is_there() -> None:
    offline = {name for name, module in SOLVERS.items() if ".offline." in module}
    assert set(plan.RIVALS) == offline - {"true_env_mpc"}
    for solver in plan.RIVALS:
        assert len(set(plan.grid_of(solver))) == 4


def test_every_run_is_accepted_and_makes_the_passes(tmp_path: Path) -> None:
    folders = set()
    for solver, command in plan.list_commands(
        list(plan.RIVALS), list(WORLDS), list(plan.KINDS), tmp_path
    ):
        config, task = config_of(command)
        rows = plan.count_transitions(task)
        folders.add((out_of(command), task.id, solver))
        if out_of(command).name == "offline-published":
            assert solver in ("bcq", "cql", "cadm", "pe_cadm", "morel")
            continue
        if solver.startswith("persim"):
            assert (config.n_epochs, config.halving_epochs) == (300, 150)
        else:
            updates = config.max_model_updates if solver == "morel" else config.n_updates
            assert updates == math.ceil(300 * rows / config.batch_size)
        if solver == "morel":
            assert config.model_epochs * rows / config.batch_size >= config.min_model_updates - 1
    assert len(folders) == 2 * 2 * (9 + 5)
    assert not list(tmp_path.iterdir())


def test_tuning_keeps_away_from_what_is_scored(tmp_path: Path) -> None:
    for solver in plan.RIVALS:
        runs = list(plan.tuning_runs(solver, WORLDS[0], tmp_path))
        assert len({result for _, result, _ in runs}) == 4
        for point, _, command in runs:
            config, task = config_of(command)
            assert task.id == "CartPoleHet-n500-pure-eps20-v1"
            assert command[command.index("--seeds") + 1] == "100"
            assert set(point) <= set(settings_of(command))
            assert getattr(config, "n_epochs", 75) == 75
            assert getattr(config, "n_sequences", 100) == 100 or solver == "persim_bcq"


def test_a_choice_is_made_once_and_read_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails leaves the choice open; the next call runs that one alone."""
    world, ran = WORLDS[1], list[str]()
    welfare = {"0": -300.0, "1": -120.0, "2": -100.0, "3": -500.0}
    broken = {"2"}

    def run(command: list[str]) -> str | None:
        number = out_of(command).name
        ran.append(number)
        if number in broken:
            return "exit code 1"
        result = tmp_path / "tuning" / number / command[2] / "cql" / "seed-100" / "result.json"
        result.parent.mkdir(parents=True)
        result.write_text(number)
        return None

    def read_result(path: Path) -> SimpleNamespace:
        return SimpleNamespace(social_welfare=welfare[path.read_text()])

    monkeypatch.setattr(plan, "run", run)
    monkeypatch.setattr(plan, "read_result", read_result)
    assert plan.tune(["cql"], [world], tmp_path) == ["exit code 1"]
    assert ran == ["0", "1", "2", "3"] and plan.read_choices(tmp_path / "tuned.json") == {}
    broken.clear()
    assert plan.tune(["cql"], [world], tmp_path) == []
    assert plan.tune(["cql"], [world], tmp_path) == []
    assert ran[4:] == ["2"]
    chosen = plan.read_choices(tmp_path / "tuned.json")[world]["cql"]
    assert chosen["settings"] == ["learning_rate=0.001", "conservative_weight=1.0"]
    assert [each["return"] for each in chosen["returns"]] == list(welfare.values())
    for _, command in plan.list_commands(["cql"], [world], ["pure"], tmp_path):
        assert config_of(command)[0].learning_rate == 1e-3


def test_minutes_of_training_follow_from_what_was_measured() -> None:
    task = get_offline_task("CartPoleHet-n500-pure-eps20-v1")
    minutes = [plan.training_minutes("cql", task, (f"n_updates={n}",)) for n in (3000, 6000)]
    assert minutes == [pytest.approx(0.4), pytest.approx(0.8)]
    assert plan.training_minutes("morel", task, ()) is None


def test_passes_follow_the_size_of_the_log() -> None:
    task = find_logged_task("CartPoleHet-n500", "pure-eps20")
    assert plan.count_transitions(task) == 76_003
    assert plan.training_settings("cql", task, 2) == {"n_updates": 2376}  # 2 * 76,003 / 64
    assert plan.training_settings("persim_bcq", task, 75) == {"n_epochs": 75, "halving_epochs": 37}
