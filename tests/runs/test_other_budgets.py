"""Solutions of other budgets that one training gives: records, re-runs, and what is left alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.online.universal import solver as universal
from rmdp_bench.evaluation import evaluate_all
from rmdp_bench.files import locked, write_json
from rmdp_bench.runs import Request, RunLog, make_request, read_result, run, running
from rmdp_bench.runs.checkpoints import Checkpoint, write_checkpoints
from rmdp_bench.runs.display import NoDisplay
from rmdp_bench.runs.trained import TRAINED_FILE
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, get_online_task, get_task
from tests.helpers.checkout import TOY_SOLVER
from tests.helpers.toys import ScriptedPolicy, discrete_graph

TOY = str(TOY_SOLVER)
TASK, OTHER = "ResourceGathering-n25-k3-v0", "ResourceGathering-n25-k2-v0"


def solution(k: int) -> Solution:
    """Everybody is served by the first of k policies that go home at once."""
    policies = [ScriptedPolicy([1])] * k
    return Solution(policies, np.eye(k)[np.zeros(25, int)], lambda: discrete_graph([1] * k))


@pytest.fixture
def request_both(monkeypatch: pytest.MonkeyPatch) -> Request:
    """A solver of three budgets that hands in solutions for two as well."""
    request = make_request(TOY, TASK, seeds=[0, 1], transitions=1000)

    def solve(task: Any, config: Any, seeds: Any, device: str, log: RunLog) -> list[Solution]:
        log.progress(900, {})
        log.add_solutions(OTHER, [solution(2) for _ in seeds], 450)
        return [solution(task.n_representatives) for _ in seeds]

    monkeypatch.setattr(request.solver.module, "solve", solve)
    return request


def other_request(request: Request, **changes: Any) -> Request:
    alike = {name: getattr(request.task, name) for name in ("transitions", "n_eval_episodes")}
    return dataclasses.replace(
        request, task=dataclasses.replace(get_task(OTHER), **alike), **changes
    )


def test_both_tasks_are_recorded(request_both: Request) -> None:
    own = run(request_both)
    others = [
        read_result(other_request(request_both).directory(seed) / "result.json") for seed in (0, 1)
    ]
    assert [result.trained_for for result in own] == [None, None]
    assert [result.trained_for for result in others] == [TASK, TASK]
    assert [result.task for result in others] == [OTHER, OTHER]
    assert {result.transitions_reported for result in own} == {900}
    assert {result.transitions_reported for result in others} == {450}
    assert [result.social_welfare for result in others] == pytest.approx([99 / 25] * 2)
    for one, other in zip(own, others, strict=True):
        assert (one.config, one.train_seconds) == (other.config, other.train_seconds)
        assert (one.transitions, one.seeds_together) == (other.transitions, other.seeds_together)


def test_a_run_of_the_other_task_finds_its_work_done(
    request_both: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request_both)
    monkeypatch.setattr(request_both.solver.module, "solve", None)  # fails if it is called
    again = run(other_request(request_both))
    assert [result.trained_for for result in again] == [TASK, TASK]
    run(request_both)


def test_a_run_killed_before_its_own_record_completes_both(
    request_both: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    calls: list[int] = []

    def dies_at_second(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return evaluate_all(*arguments, **keywords)

    monkeypatch.setattr(running, "evaluate_all", dies_at_second)
    with pytest.raises(Killed):
        run(request_both)
    other = other_request(request_both)
    assert (other.directory(0) / "result.json").exists()
    assert not (other.directory(1) / "result.json").exists()
    assert not (request_both.directory(0) / "result.json").exists()
    before = (other.directory(0) / "result.json").stat().st_mtime_ns
    run(request_both)
    assert (other.directory(1) / "result.json").exists()
    assert (other.directory(0) / "result.json").stat().st_mtime_ns == before


class Listening(NoDisplay):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_what_others_made_is_left_alone(request_both: Request) -> None:
    """A directory of another request, and one that another process is working on."""
    other = other_request(request_both)
    other.directory(0).mkdir(parents=True)
    changed = dataclasses.replace(request_both.config, noise=0.125)
    write_json(
        other.directory(0) / "run.json", other_request(request_both, config=changed).document(0)
    )
    write_json(other.directory(0) / TRAINED_FILE, {})  # without it there is nothing to keep
    display = Listening()
    with locked(other.directory(1), "held"):
        results = run(request_both, display=display)
    assert len(results) == 2
    assert not any((other.directory(seed) / "result.json").exists() for seed in (0, 1))
    assert "config.noise 0.125 instead of 0.25" in display.messages[0]
    assert "another process runs it" in display.messages[1]


def test_overwrite_replaces_of_another_task_only_what_the_same_training_gave(
    request_both: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One seed of the other task has a run of its own, one has what an earlier run handed in."""
    other = other_request(request_both)
    longer = dataclasses.replace(other.task, transitions=2000)
    with monkeypatch.context() as patch:
        patch.setattr(request_both.solver.module, "solve", lambda *arguments: [solution(2)])
        run(dataclasses.replace(other, task=longer, seeds=(0,)))
    earlier = dataclasses.replace(request_both.config, noise=0.125)
    run(dataclasses.replace(request_both, config=earlier, seeds=(1,)))
    display = Listening()
    run(dataclasses.replace(request_both, overwrite=True), display=display)
    kept, replaced = (read_result(other.directory(seed) / "result.json") for seed in (0, 1))
    assert (kept.trained_for, kept.transitions) == (None, 2000)
    assert (replaced.trained_for, replaced.config["noise"]) == (TASK, 0.25)


def test_an_interrupted_run_of_the_other_task_is_completed(request_both: Request) -> None:
    other = other_request(request_both)
    other.directory(0).mkdir(parents=True)
    write_json(other.directory(0) / "run.json", other.document(0))
    write_checkpoints([other.directory(0)], 1, [Checkpoint({}, {})])
    run(request_both)
    assert read_result(other.directory(0) / "result.json").trained_for == TASK
    assert not (other.directory(0) / "checkpoint").exists()


@pytest.mark.parametrize(
    ("task", "n", "words"),
    [
        (TASK, 1, "has a solution from this run already"),
        ("HalfCheetahVel-n100-k5-v0", 1, "another environment"),
        ("ResourceGathering-n25-k4-v0", 1, "unknown task"),
        (OTHER, 2, "2 solutions"),
    ],
)
def test_solutions_of_other_tasks_are_checked(task: str, n: int, words: str) -> None:
    log = RunLog(get_task(TASK), [0])
    with pytest.raises(ValueError, match=words):
        log.add_solutions(task, [solution(2)] * n, 0)


def test_universal_serves_every_budget_with_the_same_training(tmp_path: Path) -> None:
    """The same policies as a run of the other task, bit for bit."""
    settings = ["total_transitions=12000", "batch_size=1024", "n_candidates=30", "n_rounds=2"]
    first = make_request("universal", TASK, out=tmp_path / "a", settings=settings)
    assert isinstance(first.task, OnlineTask)
    assert [member.n_representatives for member in universal.family(first.task, first.config)] == [
        *(1, 2, 3, 5, 10, 25)
    ]
    run(first)
    second = make_request("universal", OTHER, out=tmp_path / "b", settings=settings)
    (alone,) = run(second)
    beside = read_result(tmp_path / "a" / OTHER / "universal" / "seed-0" / "result.json")
    assert (beside.trained_for, alone.trained_for) == (TASK, None)
    assert beside.agent_returns == alone.agent_returns
    assert beside.transitions_reported == alone.transitions_reported <= 6000
    graphs = [
        (tmp_path / out / OTHER / "universal" / "seed-0/solution/policies.onnx").read_bytes()
        for out in ("a", "b")
    ]
    assert graphs[0] == graphs[1]


def test_universal_serves_no_task_whose_budget_is_smaller() -> None:
    task = get_online_task("HopperVel-n100-k5-v0")
    members = universal.family(task, universal.config_for(task))
    total = task.transitions * task.n_representatives
    assert all(member.transitions * member.n_representatives >= total for member in members)
    assert [member.n_representatives for member in members] == [5, 10]
