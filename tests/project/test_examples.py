"""The examples of tasks of one's own run, at a small size, and stay small."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest

from rmdp_bench import plotting
from rmdp_bench.cli import main
from tests.helpers.checkout import ROOT
from tests.helpers.online_settings import SMALL

EXAMPLES = ROOT / "examples"
SET = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.parametrize(
    ("name", "transitions", "said"),
    [
        ("own_targets", 2048, "% of at most "),
        ("own_reward", 2048, " %"),
        ("weightings", 12_000, "k = 5: "),
        ("fairness", 12_000, "figures/fairness.png"),
    ],
)
def test_programs(
    name: str,
    transitions: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name in ("weightings", "fairness"):
        pytest.importorskip("mo_gymnasium")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, str(transitions)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert said in capsys.readouterr().out
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written <= {"runs", "figures"} and "runs" in written


@pytest.mark.parametrize(
    ("solver", "settings"),
    [("my_solver", []), ("evolution_strategies", ["--set", "n_directions=1"])],
)
def test_solvers_train_for_agents_of_ones_own(
    solver: str,
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The id of a world is that of its listed agents; the task says whom it is for."""
    monkeypatch.chdir(tmp_path)
    files = str(EXAMPLES / f"{solver}.py"), str(EXAMPLES / "my_task.py")
    assert main(["run", *files, "--transitions", "400", "--episodes", "1", *settings]) == 0
    (result,) = tmp_path.glob("runs/*/*/seed-0/result.json")
    assert json.loads(result.read_text())["transitions_counted"] <= 400


@pytest.mark.parametrize("task", ["own_world.py", "my_task.py", "my_task.py:fair"])
def test_task_files(
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From training to figures."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / task.partition(":")[0], tmp_path)
    assert main(["run", "em", f"./{task}", "--transitions", "512", *SET]) == 0
    capsys.readouterr()
    assert main(["score", "runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert "-custom-" in row["task"]
    own = task == "own_world.py"
    draws = plotting.plot_returns_by_target
    with mock.patch.object(plotting, "plot_returns_by_target", wraps=draws) as draw:
        assert main(["plot", "runs", "--out", "figures"]) == 0
    unknown = [call.args[2] for call in draw.call_args_list]  # ceilings, of targets on a line
    assert unknown == ([None] if own else [])
    assert any(path.name.startswith("preferences-") for path in Path("figures").iterdir())


@pytest.mark.parametrize(
    "name", ["own_targets", "own_reward", "weightings", "fairness", "my_task", "own_world"]
)
def test_they_are_short(name: str) -> None:
    """Under 30 lines, a world itself apart."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    worlds = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and "Env" in ast.unparse(node.bases[0])
    ]
    in_worlds = sum((node.end_lineno or 0) - node.lineno + 1 for node in worlds)
    assert in_worlds <= 40
    assert len(text.splitlines()) - in_worlds < 30
