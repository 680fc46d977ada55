"""Runs of tasks that are not listed: records, tables, figures, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmdp_bench
from rmdp_bench import TargetPopulation
from rmdp_bench.cli import main
from rmdp_bench.cli.figures import draw_figures
from rmdp_bench.runs import find_results, make_request, read_result, run
from rmdp_bench.runs.records import POPULATION_FILE, playable_task_of, task_of
from rmdp_bench.runs.summary import summarise
from tests.helpers.online_settings import SMALL
from tests.helpers.own_world import make_task

SETTINGS = [f"{name}={value}" for name, value in SMALL.items()]
SET = [part for setting in SETTINGS for part in ("--set", setting)]
GRID = "ResourceGathering-n25-v0"
FILE = """
import rmdp_bench
from tests.helpers.own_world import make

def make_task():
    return rmdp_bench.make_task(
        "line", make, 2, transitions=512, max_episode_steps=12, n_eval_episodes=4, ceiling=99.0
    )
"""


def call(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def only(folder: Path) -> Path:
    (directory,) = find_results([folder])
    return directory


def test_a_file_from_training_to_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the command line, as its users do it."""
    monkeypatch.chdir(tmp_path)
    Path("my_task.py").write_text(FILE)
    arguments = ("run", "em", "./my_task.py", "--out", "runs", *SET)
    assert call(*arguments) == 0
    directory = only(Path("runs"))
    result = read_result(directory / "result.json")
    assert result.custom is not None and result.custom.file is not None
    assert result.custom.own_world and result.custom.file.name == "make_task"
    assert result.task.startswith("line-custom-") and directory.parts[-3] == result.task
    assert result.transitions_counted == 512 and result.share_of_ceiling is not None
    before = (directory / "result.json").read_bytes()
    assert call(*arguments) == 0  # again is no harm
    assert (directory / "result.json").read_bytes() == before
    capsys.readouterr()
    assert call("score", "runs", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["task"] == result.task and row["social_welfare"] == result.social_welfare
    assert call("score", "runs") == 0 and result.task in capsys.readouterr().out
    assert call("plot", "runs", "--out", "figures") == 0
    names = {path.name for path in Path("figures").iterdir()}
    assert any(name.startswith("preferences-line-custom-") for name in names)
    assert any(name.startswith("welfare-line") for name in names)
    capsys.readouterr()
    assert call("evaluate", directory, "--json") == 0
    assert json.loads(capsys.readouterr().out)["social_welfare"] == result.social_welfare
    submit: tuple[Any, ...] = (
        "submit",
        "runs",
        "--name",
        "mine",
        "--out",
        "submissions",
        "--author",
        "A",
    )
    submit += ("--method", "m", "--description", "d", "--licence", "MIT")
    assert call(*submit, "--online-evaluations", 1) == 2
    assert "is not one of the listed tasks" in capsys.readouterr().err
    assert not Path("submissions").exists()
    Path("my_task.py").write_text(FILE + "# changed\n")
    assert call("evaluate", directory) == 2
    assert "is not what it was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("./absent.py",), "there is no task file absent.py"),
        (("ResourceGathering-n25-v0",), "--representatives"),
        (("ResourceGathering-n25-v0", "--representatives", 26), "expected an integer from 1 to 25"),
        (("ResourceGathering-n25-k3-v0", "--objective", "fair"), "objective is 'fair'"),
    ],
)
def test_bad_tasks_are_one_line(
    arguments: tuple[Any, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "em", *arguments, "--out", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_another_budget_at_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    arguments = ("--representatives", 4, "--objective", "nash", "--transitions", 512)
    assert call("run", "em", GRID, *arguments, "--out", out, *SET) == 0
    directory = only(out)
    result = read_result(directory / "result.json")
    own = result.custom
    assert own is not None and not own.own_agents and own.n_representatives == 4
    assert result.objective == "nash" and result.objective_value == result.nash_welfare
    task: Any = task_of(result, directory)
    assert task.ceiling == rmdp_bench.get_task(GRID, 4).ceiling
    again: Any = playable_task_of(result, directory)
    assert again.population == task.population
    figures, _ = draw_figures(find_results([out]), tmp_path / "figures")
    assert any(path.name.startswith("paths-") for path in figures)
    document = json.loads((directory / "result.json").read_text())
    document["custom"]["n_agents"] = 24
    (directory / "result.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="agent_returns: 25 values, expected one for each of the"):
        read_result(directory / "result.json")


def test_agents_are_kept_with_the_run(tmp_path: Path) -> None:
    targets = TargetPopulation(np.array([0.2, 0.5, 0.9]), width=0.4)
    task = rmdp_bench.get_task("HopperVel-n100-v0", 2, population=targets, transitions=512)
    request = make_request("em", task, out=tmp_path, settings=SETTINGS, n_episodes=2)
    (result,) = run(request)
    directory = request.directory(0)
    assert (directory / POPULATION_FILE).exists()
    recorded: Any = task_of(result, directory)
    assert recorded.population == targets
    again: Any = playable_task_of(result, directory)
    assert again.population == targets and again.ceiling == task.ceiling
    np.savez(directory / POPULATION_FILE, weights=np.ones((3, 1)))
    with pytest.raises(ValueError, match="has other agents than result.json says"):
        task_of(result, directory)


def test_the_price_of_fairness_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of runs whose objectives differ, over k."""
    for objective in ("utilitarian", "egalitarian"):
        for k in (1, 2):
            task = make_task(n_representatives=k, objective=objective)
            run(make_request("em", task, out=tmp_path, settings=SETTINGS, transitions=512))
    results = find_results([tmp_path])
    assert len({result.task for result in results.values()}) == 4
    figures, _ = draw_figures(results, tmp_path / "figures", ("svg",))
    (path,) = [path for path in figures if path.name.startswith("fairness-line")]
    text = path.read_text()
    for result in results.values():
        assert result.custom is not None
        k = result.custom.n_representatives
        said = f"em, {result.objective} at k = {k}: worst agent {result.worst_agent:.1f}"
        assert said in text
    assert call("score", tmp_path, "--explain") == 0
    assert "egalitarian: the task's objective" in capsys.readouterr().out


def test_new_agents_are_in_records_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    arguments = ("--representatives", 2, "--agents", 20, "--episodes", 2, "--transitions", 512)
    assert call("run", "em", "HopperVel-n100-v0", *arguments, "--out", tmp_path, *SET) == 0
    result = read_result(only(tmp_path) / "result.json")
    assert result.heldout is not None and result.heldout.n_agents == 20
    difference = result.heldout.welfare - result.heldout.own_welfare
    assert f"{result.heldout.welfare:.2f} ({difference:+.2f})" in capsys.readouterr().out


def test_a_world_from_a_program_can_be_scored_and_not_played(tmp_path: Path) -> None:
    request = make_request("em", make_task(), out=tmp_path, settings=SETTINGS, transitions=512)
    (result,) = run(request)
    (summary,) = summarise({request.directory(0): result})
    assert summary.n_representatives == 2 and summary.objective == "utilitarian"
    with pytest.raises(ValueError, match="the world of line-custom-.* came from a program"):
        playable_task_of(result, request.directory(0))


def test_a_run_in_a_world_from_outside_goes_on(tmp_path: Path) -> None:
    """New episodes begin, and the rest of the training is made."""
    import threading

    from rmdp_bench.runs import Interrupted, checkpoints

    stop = threading.Event()
    stop.set()
    request = make_request("em", make_task(), out=tmp_path, settings=SETTINGS)
    with pytest.raises(Interrupted):
        run(request, stop=stop)
    assert checkpoints is not None
    (result,) = run(request)
    assert result.transitions_reported == 2048
