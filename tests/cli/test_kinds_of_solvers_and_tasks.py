"""What tables say about solvers and tasks, from what is known of them and not from their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import SOLVERS, make_request
from rmdp_bench.runs.solver_loading import kind_of
from tests.helpers.checkout import ROOT

KINDS = {"em": "online", "universal": "online", "morel": "offline", "cadm": "offline"}
KINDS |= {"basal_bolus": "heterogeneous", "tuned_ppo": "heterogeneous"}


def test_solvers_are_listed_with_their_track(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "solvers", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    tracks = {row["name"]: row["track"] for row in rows}
    assert tracks.items() >= KINDS.items() and tracks.keys() == SOLVERS.keys()
    assert set(tracks.values()) == {"online", "offline", "heterogeneous"}
    assert tracks == {name: kind_of(name) for name in SOLVERS}
    assert main(["list", "solvers"]) == 0
    printed = capfd.readouterr().out
    assert "heterogeneous: of the glucose tasks" in printed
    header, *lines = (line.split() for line in printed.splitlines() if line)
    shown = {words[0]: words[1] for words in lines if words[0] in SOLVERS}
    assert {name: text.rstrip(",") for name, text in shown.items()} == tracks
    # Which of those that act are also for agents who differ in dynamics, in their own words.
    both = {words[0] for words in lines if words[1:3] == ["online,", "heterogeneous"]}
    assert both == {name for name in SOLVERS if tracks[name] == "online" and takes(name, GLUCOSE)}
    assert {row["name"] for row in rows if row["heterogeneous"]} == both | {
        name for name, track in tracks.items() if track == "heterogeneous"
    }


GLUCOSE = "Glucose-n100-k3-v0"


def takes(name: str, task_id: str) -> bool:
    """Whether a solver does not refuse a task."""
    try:
        make_request(name, task_id)
    except ValueError as error:
        assert "refuses" in str(error)
        return False
    return True


TASK_FILE = """
import rmdp_bench
from tests.helpers.own_world import STEPS, make

numbers = dict(n_representatives=2, transitions=2048, max_episode_steps=STEPS, n_eval_episodes=4)

def make_task():
    return rmdp_bench.make_task("Glucose-n100-of-mine", make, **numbers)
"""


def test_a_world_is_not_told_by_the_name_of_its_task(capfd: pytest.CaptureFixture[str]) -> None:
    """One's own may be called like one whose agents differ in dynamics; these do not."""
    Path("my_task.py").write_text(TASK_FILE)
    solver = str(ROOT / "tests/helpers/toy_solver.py")
    assert main(["run", solver, "./my_task.py", "--out", "runs"]) == 0
    assert main(["score", "runs", "--explain"]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "Glucose-n100-of-mine" in printed and "welfare: " in printed
    assert "everybody's own" not in printed
