"""A run that is stopped while it is scored goes on at scoring: real processes."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.evaluation import before_each_step, evaluate, evaluate_all
from rmdp_bench.evaluation.offline import OfflineSolution, evaluate_offline
from rmdp_bench.runs import Interrupted, make_request, run, running
from rmdp_bench.runs.trained import TRAINED_FILE
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import get_offline_task, get_task
from tests.helpers.commands import contents
from tests.helpers.stopping import COMMAND, TASK, WALK, outcome, start, wait_for
from tests.helpers.toys import ScriptedPolicy

NOTED = WALK.replace(
    "    return solutions()\n", "    Path('solved').touch()\n    return solutions()\n"
)
UNASKING = NOTED.replace("log.checkpoint_due()", "False").replace("log.evaluation_due", "bool")
HOLD = """
import pathlib, time
import rmdp_bench.runs.running as r
before_each_step = r.before_each_step
def held(ask):
    def wait():
        while pathlib.Path("hold").exists():
            pathlib.Path("scoring").touch()
            ask()
            time.sleep(0.01)
        ask()
    return before_each_step(wait)
r.before_each_step = held
"""
"""Scoring waits before its first step, as a planner's would for an hour."""
ARGUMENTS = ["run", "walk.py", TASK, "--seeds", "0:2"]


def stop_in_scoring(solver: str, number: int) -> str:
    """Run a solver; send a signal when it is scored. Gives what was said."""
    Path("walk.py").write_text(solver.replace("iteration == 5", "False"))
    Path("hold").touch()
    process = start(ARGUMENTS, HOLD + COMMAND)
    wait_for(Path("scoring").exists, process)
    process.send_signal(number)
    output, error = process.communicate(timeout=600)
    assert process.returncode == 128 + number, error
    assert output == ""
    assert "Traceback" not in error
    Path("hold").unlink()
    return error


def ids(number: Any) -> str:
    return str(number.name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=ids)
def test_what_is_trained_is_only_scored(number: signal.Signals, undisturbed: list[Any]) -> None:
    error = stop_in_scoring(NOTED, number)
    assert "stopped while it was scored; the same command goes on from there" in error
    folder = Path("runs") / TASK / "walk" / "seed-0"
    trained = json.loads((folder / TRAINED_FILE).read_text())
    assert not (folder / "result.json").exists()
    assert not list(Path("runs").rglob(".lock"))
    Path("solved").unlink()
    assert main(ARGUMENTS) == 0
    assert not Path("solved").exists()  # it was not trained again
    found = outcome("runs")
    for part in (found, whole := [*undisturbed]):
        for index, own in enumerate(part):
            if isinstance(own, dict) and "solver_sha256" in own:  # another file, which says more
                part[index] = own | {"solver_sha256": ""}
    assert found == whole
    record = json.loads((folder / "result.json").read_text())
    assert record["train_seconds"] == trained["train_seconds"]
    assert record["wall_seconds"] > trained["log"]["wall_seconds"]
    assert record["transitions_counted"] == 12
    assert not (folder / TRAINED_FILE).exists()
    before = contents(Path("runs"))
    assert main(ARGUMENTS) == 0
    assert contents(Path("runs")) == before


def test_a_solver_that_never_asks_is_stopped_when_it_has_trained() -> None:
    error = stop_in_scoring(UNASKING, signal.SIGTERM)
    assert "SIGTERM: stopping when the solver saves a checkpoint or has trained" in error
    Path("solved").unlink()
    assert main(ARGUMENTS) == 0
    assert not Path("solved").exists()


def request_of(solver: str, **options: Any) -> Any:
    Path("walk.py").write_text(solver)
    return make_request("walk.py", TASK, seeds=[0, 1], **options)


def stopped_in_scoring(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    stop = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(running, "evaluate_all", _setting(stop))
        with pytest.raises(Interrupted) as error:
            run(request, stop=stop)
    return str(error.value)


def _setting(stop: threading.Event) -> Any:
    def evaluate_and_stop(*arguments: Any) -> Any:
        stop.set()
        return evaluate_all(*arguments)

    return evaluate_and_stop


def test_seeds_that_trained_together_may_be_scored_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_in_scoring(request_of(WALK), monkeypatch)
    whole = run(request_of(WALK, out="whole"))
    request = make_request("walk.py", TASK, seeds=[1])
    monkeypatch.delattr(request.solver.module, "solve")
    (second,) = run(request)
    (first,) = run(dataclasses.replace(request, seeds=(0,)))
    for own, other in zip((first, second), whole, strict=True):
        assert own.seeds_together == other.seeds_together == 2
        assert own.transitions_counted == other.transitions_counted
        assert own.agent_returns == other.agent_returns


def test_a_kill_while_it_is_kept_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeds of a group are kept together or not at all, so that they train together again."""
    stopped_in_scoring(request_of(WALK), monkeypatch)
    folder = Path("runs") / TASK / "walk" / "seed-1"
    (folder / TRAINED_FILE).unlink()
    results = run(request_of(WALK))
    whole = run(request_of(WALK, out="whole"))
    assert [own.agent_returns for own in results] == [own.agent_returns for own in whole]
    assert not list(Path("runs").rglob(TRAINED_FILE))


def test_a_damaged_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_in_scoring(request_of(WALK), monkeypatch)
    folder = Path("runs") / TASK / "walk" / "seed-0"
    (folder / TRAINED_FILE).write_text('{"seeds": [0, 1]}')
    with pytest.raises(
        running.SolverError, match=r"trained\.json .*; delete it to start this seed"
    ):
        run(request_of(WALK))


def test_what_files_cannot_hold_starts_again_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = UNASKING.replace(", graph) for own", ") for own")
    said = stopped_in_scoring(request_of(solver), monkeypatch)
    assert "there is no checkpoint, so that the same command starts again" in said
    assert len(run(request_of(solver))) == 2


class Stop(Exception):
    """Raised before a step."""


def test_evaluations_ask_before_each_step() -> None:
    asked: list[int] = []

    def ask() -> None:
        asked.append(0)
        if len(asked) == 3:
            raise Stop

    task = get_task(TASK)
    k = task.n_representatives
    solution = Solution([ScriptedPolicy([0])] * k, np.eye(k)[np.arange(task.n_agents) % k])
    with before_each_step(ask), pytest.raises(Stop):
        evaluate(task, solution, n_episodes=1)
    assert len(asked) == 3
    evaluate(task, solution, n_episodes=1)
    assert len(asked) == 3  # nobody is asked afterwards

    offline = get_offline_task("CartPoleHet-n500-pure-v1")
    n_agents = len(offline.eval_agents)

    def predict(agent: int, observations: Any, actions: Any) -> Any:
        return np.zeros((len(actions), 50, 4))

    policies = OfflineSolution([ScriptedPolicy([0])], np.ones((n_agents, 1)), predict=predict)
    asked.clear()
    with before_each_step(ask), pytest.raises(Stop):
        evaluate_offline(offline, policies, n_episodes=1)
