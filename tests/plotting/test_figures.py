"""Which files `plot` writes, and what has which colour in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rmdp_bench import plotting
from rmdp_bench.cli import main
from rmdp_bench.cli.figures import draw_figures
from rmdp_bench.cli.scoring import Format
from rmdp_bench.plotting import order_representatives, plot_preferences
from rmdp_bench.plotting.style import FORMATS, line_styles
from rmdp_bench.population import LinearPopulation, TargetPopulation
from rmdp_bench.runs import find_results
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.tasks import get_online_task
from tests.helpers.checkout import ROOT, needs_submissions

SUBMISSIONS = ROOT / "leaderboards" / "submissions"
SPEED_TASK = "HalfCheetahVel-n100-k5-v0"
GRID_TASK = "ResourceGathering-n25-k3-v0"
BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def stored_assignment(row: Path) -> NDArray[np.float64]:
    """Of the first seed."""
    return RowFiles(row).array(0, "assignment", (None, None))


def runs_of(submission: str, task: str) -> str:
    return str(SUBMISSIONS / submission / task)


@needs_submissions
def test_every_format_of_the_figures_can_be_asked_for(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = runs_of("reference-gpu", GRID_TASK)
    formats = ["--format", "svg", "--format", "pdf", "--format", "svg", "--format", "png"]
    assert main(["plot", runs, "--out", "all of them", *formats]) == 0
    printed = capfd.readouterr().out.splitlines()
    files = list(Path("all of them").iterdir())
    assert sorted(printed) == sorted(map(str, files))
    assert {path.suffix for path in files} == set(FORMATS)
    assert {f".{one.value}" for one in Format} == set(FORMATS)
    for suffix, beginning in BEGINNINGS.items():
        own = [path for path in files if path.suffix == f".{suffix}"]
        assert len(own) == len(files) / 3 >= 3
        assert all(path.read_bytes().startswith(beginning) for path in own)
    assert main(["plot", runs, "--out", "one", "--format", "gif"]) == 2
    assert "'gif' is not one of" in capfd.readouterr().err
    assert not Path("one").exists()


@needs_submissions
def test_solvers_are_named_as_they_are_typed(tmp_path: Path) -> None:
    runs = runs_of("reference-em-plus", SPEED_TASK)
    assert main(["plot", runs, "--out", "figures", "--format", "svg"]) == 0
    for path in Path("figures").iterdir():
        assert "em_plus" in path.read_text()  # the text of each label stands in a comment


@needs_submissions
def test_representatives_have_the_order_of_what_they_serve_in_all_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of two solvers, each with an order of its own."""
    drawn: dict[str, Any] = {}
    for name in ("plot_preferences", "plot_returns_by_target"):

        def keep(
            population: Any, served: Any, *more: Any, name: str = name, **options: Any
        ) -> Path:
            drawn[name] = served
            path: Path = more[-1]
            path.touch()
            return path

        monkeypatch.setattr(plotting, name, keep)
    folders = {"universal": "reference-universal", "em_plus": "reference-em-plus"}
    runs = [runs_of(submission, SPEED_TASK) for submission in folders.values()]
    assert main(["plot", *runs, "--out", "figures"]) == 0
    population = get_online_task(SPEED_TASK).population
    assert isinstance(population, TargetPopulation)
    assert len(drawn["plot_preferences"]) == 2
    moved = False
    for label, assignment in drawn["plot_preferences"].items():
        solver = label.removesuffix(", seed 0")
        same, returns = drawn["plot_returns_by_target"][label]
        np.testing.assert_array_equal(same, assignment)
        served = assignment * np.array(returns)[:, None]
        means = population.targets @ served / served.sum(axis=0)
        assert (np.diff(means) > 0.2).all()  # policies of other speeds
        folder = SUBMISSIONS / folders[solver] / SPEED_TASK / solver
        stored = stored_assignment(folder)
        assert sorted(map(tuple, stored.T)) == sorted(map(tuple, assignment.T))
        moved |= not np.array_equal(stored, assignment)
    assert moved


@needs_submissions
def test_paths_name_the_saved_policies(tmp_path: Path) -> None:
    assert main(["plot", runs_of("reference-gpu", GRID_TASK), "--out", "figures"]) == 0
    with Image.open(f"figures/paths-{GRID_TASK}-em.png") as picture:
        words = picture.info["Description"]
    assignment = stored_assignment(SUBMISSIONS / "reference-gpu" / GRID_TASK / "em")
    tiles = np.arange(25) @ assignment / assignment.sum(axis=0)  # all agents are served here
    for number, policy in enumerate(np.argsort(tiles)):
        agents = f"{assignment[:, policy].sum():g} agents"
        assert f"Representative {number} (policy {policy}): {agents}, home in" in words


@pytest.mark.parametrize(
    "population", [TargetPopulation.uniform(25, 4.0, seed=0), LinearPopulation.tiles()]
)
def test_order_of_columns_does_not_matter(population: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    assignment = np.eye(5)[generator.integers(0, 4, 25)]  # nobody has the last representative
    returns = generator.uniform(1.0, 90.0, 25)
    pictures = set()
    for columns in (np.arange(5), np.array([4, 2, 0, 3, 1])):
        permuted = assignment[:, columns]
        ordered = permuted[:, order_representatives(population, permuted, returns)]
        assert not ordered[:, 4].any()
        pictures.add(plot_preferences(population, ordered, tmp_path / "a.png").read_bytes())
    assert len(pictures) == 1


def test_agents_who_receive_nothing_do_not_decide_the_order() -> None:
    population = TargetPopulation(np.array([1.0, 2.0, 3.0, 4.0]), 0.2, 0.1)
    assignment = np.eye(2)[[1, 0, 1, 1]]
    assert order_representatives(population, assignment, [9, 9, 0, 0]).tolist() == [1, 0]
    assert order_representatives(population, assignment, [9, 9, 9, 9]).tolist() == [0, 1]
    assert order_representatives(population, assignment, [0, 0, 9, -1]).tolist() == [1, 0]


def test_a_solver_looks_the_same_in_figures_that_others_are_missing_from() -> None:
    everywhere = line_styles(["a", "b", "c"], ["a", "b", "c"])
    assert line_styles(["c"], ["a", "b", "c"])["c"] == everywhere["c"]
    assert line_styles(["a", "b"], ())["b"] == everywhere["b"] != everywhere["a"]


@needs_submissions
def test_what_is_missing_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Rows that another task's training gave have no curves, planners and the like no policies."""
    tasks = ("ResourceGathering-n25-k1-v0", "ResourceGathering-n25-k3-v0")
    runs = [runs_of("reference-universal", task) for task in tasks]
    rows = [RowFiles(Path(folder) / "universal") for folder in runs]
    n_missing = sum(seed.curve is None for row in rows for seed in row.seeds)
    n_runs = sum(len(row.seeds) for row in rows)
    assert n_missing >= 2
    assert main(["plot", *runs, "--out", "figures", "--format", "svg"]) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line == (
        f"rmdp-bench: warning: {n_missing} of {n_runs} runs have no learning curve, for example "
        f"universal on {tasks[1]}, seed 0"
    )


def test_solvers_without_policies_are_counted(tmp_path: Path) -> None:
    toy = str(ROOT / "tests" / "helpers" / "toy_solver.py")
    tasks = [f"ResourceGathering-n25-k{k}-v0" for k in (1, 2)]
    for task in tasks:
        options = ["--seeds", "0:2", "--transitions", "1k", "--episodes", "1"]
        assert main(["run", toy, task, *options, "--set", "export=false"]) == 0
    _, missing = draw_figures(find_results([Path("runs")]), tmp_path / "figures", ["svg"])
    example = f"for example toy_solver on {tasks[0]}"
    assert missing[-1] == f"2 of 2 solvers on a task have no saved policies, {example}"


def test_a_home_that_cannot_be_written_makes_no_noise(tmp_path: Path) -> None:
    code = (
        "import logging\n"
        "from rmdp_bench.plotting import plot_welfare_by_budget\n"
        "level = logging.getLogger('matplotlib').level\n"
        "rows = {'em': {1: [1.0], 2: [2.0]}}\n"
        "plot_welfare_by_budget(rows, {}, 'a.svg', title='T', order=['em'])\n"
        "assert logging.getLogger('matplotlib').level == level\n"
    )
    names = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    own = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=own | {"HOME": "/dev/null/home", "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Path("a.svg").is_file()
