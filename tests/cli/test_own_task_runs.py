"""Runs of tasks of one's own, among those of listed tasks, at the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import make_request, run
from tests.helpers.checkout import ROOT

TOY = str(ROOT / "tests/helpers/toy_solver.py")
LISTED, OTHER = "ResourceGathering-n25-k3-v0", "ResourceGathering-n25-k2-v0"
ABOUT = ["--author", "A", "--method", "m", "--licence", "MIT", "--online-evaluations", "0"]
BOARD = ["--root", "."]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder with a run of a listed task and one of a task of one's own, and the other's id."""
    out = tmp_path_factory.mktemp("trained")
    ids = []
    for k in (3, 4):
        request = make_request(
            *(TOY, LISTED), n_representatives=k, transitions=1000, out=out / "runs"
        )
        run(request)
        ids.append(request.task.id)
    assert ids[0] == LISTED
    return out, ids[1]


@pytest.fixture
def own(trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the task of one's own; `runs` is in the folder one is in, and no submission."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "submissions").mkdir()
    monkeypatch.chdir(tmp_path)
    return trained[1]


def show(*arguments: str) -> int:
    return main(["leaderboard", "show", *BOARD, *arguments])


def test_show_says_that_tasks_of_ones_own_have_no_board(
    own: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for chosen in (["--runs", f"runs/{own}"], ["--task", own, "--runs", "runs"]):
        assert show(*chosen) == 2
        out, error = capfd.readouterr()
        assert out == "" and error.count("\n") == 1
        expected = f"{own}: a task of your own has no board; `rmdp-bench score {chosen[-1]}`"
        assert expected in error


def test_show_warns_of_them_beside_others(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert show("--runs", "runs") == 0
    out, error = capfd.readouterr()
    assert LISTED in out and own not in out
    assert f"warning: {own}: a task of your own has no board" in error
    assert show("--task", LISTED, "--runs", "runs") == 0
    assert "warning" not in capfd.readouterr().err


def test_show_warns_where_no_run_is_of_the_task(
    own: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert show("--task", OTHER, "--runs", "runs") == 0
    assert f"warning: no run in runs is of {OTHER}" in capfd.readouterr().err
    assert show("--task", "ResourceGathering-n25-k33-v0", "--runs", "runs") == 2
    assert "unknown task" in capfd.readouterr().err


def test_score_tells_tasks_of_ones_own_apart(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        "import numpy as np, rmdp_bench\n"
        "def few():\n"
        "    users = rmdp_bench.LinearPopulation(np.eye(25)[:7])\n"
        f"    return rmdp_bench.get_task({LISTED!r}, 2, population=users)\n"
    )
    run(make_request(TOY, "mine.py:few", transitions=1000, out="runs"))
    assert main(["score", "runs"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert LISTED in lines and f"{own}: 25 agents, k = 4" in lines
    assert any(line.endswith(": 7 agents, k = 2, mine.py:few") for line in lines)
    assert main(["score", "runs", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    told = [(row["n_agents"], row["n_representatives"], row["task_file"]) for row in rows]
    assert sorted(told, key=str) == [
        (25, 3, None),
        (25, 4, None),
        (7, 2, str(Path("mine.py").resolve())),
    ]


def test_submit_leaves_them_out_and_names_them(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    place = ["--name", "first", "--out", "submissions", "--difference", "fewer transitions"]
    assert main(["submit", "runs", *place, *ABOUT]) == 0
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("rmdp-bench: warning: left out")
    assert error.endswith(f"{Path('runs', own, 'toy_solver')}\n")
    (row,) = [path.parent for path in Path("submissions").rglob("records.json")]
    assert row == Path("submissions/first", LISTED, "toy_solver")


def test_submit_refuses_nothing_else(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    place = ["--name", "first", "--out", "submissions"]
    assert main(["submit", f"runs/{own}", *place, *ABOUT]) == 2
    error = capfd.readouterr().err
    assert "is not one of the listed tasks" in error and "there are no other runs" in error
    assert list(Path("submissions").iterdir()) == []
