"""Run directories: records, checkpoints, resuming, locks, settings."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.evaluation import evaluate
from rmdp_bench.files import locked
from rmdp_bench.runs import (
    Interrupted,
    Request,
    Result,
    RunLog,
    SolverError,
    find_results,
    make_request,
    read_curve,
    read_result,
    run,
    running,
)
from rmdp_bench.runs.checkpoints import Checkpoint, group_by_checkpoint, write_checkpoints
from rmdp_bench.runs.display import NoDisplay
from rmdp_bench.runs.records import write_result
from rmdp_bench.runs.solver_loading import load_solver, make_config
from rmdp_bench.solution import Solution, load_solution
from rmdp_bench.system import git_revision, system_record, versions
from rmdp_bench.tasks import get_online_task, get_task
from tests.helpers.checkout import IS_CLONE, ROOT
from tests.helpers.toys import ScriptedPolicy, discrete_graph

TOY = str(ROOT / "tests/helpers/toy_solver.py")
TASK = "ResourceGathering-n25-k3-v0"


TRANSITIONS = 20_000  # enough for a point of the curve after each of ten iterations


def toy_request(**changes: Any) -> Request:
    arguments: dict[str, Any] = {"seeds": [0, 1], "transitions": TRANSITIONS}
    return make_request(TOY, TASK, **(arguments | changes))


def finish_in_process(*settings: str) -> subprocess.CompletedProcess[str]:
    """Run the toy solver in a process of its own, in the current folder."""
    code = (
        "import sys; from rmdp_bench.runs import make_request, run; "
        f"run(make_request({TOY!r}, {TASK!r}, seeds=[0, 1], transitions={TRANSITIONS}, "
        "settings=sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-c", code, *settings], env=environment, capture_output=True, text=True
    )


def without_times(result: Result) -> dict[str, Any]:
    changing = {"wall_seconds", "train_seconds", "peak_memory_mib", "config"}
    return {key: value for key, value in result.model_dump().items() if key not in changing}


def test_complete_run(tmp_path: Path) -> None:
    results = run(toy_request())
    folder = tmp_path / "runs" / TASK / "toy_solver" / "seed-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "curve.csv",
        "result.json",
        "run.json",
        "solution",
        "welfare.npz",
    ]
    assert [result.seed for result in results] == [0, 1]
    record = json.loads((folder / "result.json").read_text())
    assert record["task"] == TASK
    assert record["solver"] == "toy_solver"
    assert len(record["solver_sha256"]) == 64
    assert record["config"]["sizes"] == [2, 3]
    assert record["config"]["noise"] == 0.25  # from config_for
    assert record["transitions"] == record["transitions_reported"] == TRANSITIONS
    assert record["seeds_together"] == 2
    assert record["evaluation"] == {"n_episodes": 20, "seed": 2**31}
    assert record["wall_seconds"] >= record["train_seconds"] > 0
    assert record["solution"] == "solution"
    # every policy goes home at step 1: one agent has 99, the others nothing
    assert sorted(record["agent_returns"]) == [0.0] * 24 + [99.0]
    assert record["social_welfare"] == pytest.approx(99 / 25)
    assert record["worst_agent"] == 0.0
    assert record["assignment_regret"] == pytest.approx(0.0)
    assert record["reassigned_welfare"] == pytest.approx(99 / 25)
    with np.load(folder / record["welfare_matrix"]) as archive:
        assert archive["welfare_matrix"].shape == (25, 3)
        assert archive["episode_lengths"].tolist() == [[1] * 20] * 3


def test_scored_from_the_saved_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph does something else than the policy in memory, and the graph counts."""
    request = toy_request(settings=["action=0"])
    monkeypatch.setattr(
        request.solver.module,
        "discrete_graph",
        lambda actions: discrete_graph([1 for _ in actions]),
    )
    results = run(request)
    assert [result.social_welfare for result in results] == pytest.approx([99 / 25] * 2)
    saved = load_solution(request.directory(0) / "solution")
    matrix = evaluate(request.task, saved).welfare_matrix
    np.testing.assert_array_equal((matrix * saved.assignment).sum(axis=1), results[0].agent_returns)


def test_not_exportable() -> None:
    messages = []

    class Listening(NoDisplay):
        def start(self, title: str, total: int | None) -> None:
            messages.append(title)

        def update(self, done: int, score: str) -> None:
            messages.append(score)

        def message(self, text: str) -> None:
            messages.append(text)

        def stop(self) -> None:
            messages.append("stop")

    request = toy_request(settings=["export=false"])
    results = run(request, display=Listening())
    assert results[0].solution is None
    assert results[0].social_welfare == pytest.approx(99 / 25)
    assert not (request.directory(0) / "solution").exists()
    assert any("to_onnx" in message for message in messages)
    assert messages[0] == "toy_solver, seeds 0, 1"
    assert messages[-1] == "stop"


def test_curve() -> None:
    request = toy_request()
    run(request)
    curve = read_curve(request.directory(0) / "curve.csv")
    assert curve["transitions"] == [2000.0 * i for i in range(1, 11)]
    assert curve["social_welfare"] == pytest.approx([99 / 25] * 10)
    assert curve["wall_seconds"] == sorted(curve["wall_seconds"])
    assert len(set(curve["train_social_welfare"])) == 10
    with (request.directory(0) / "curve.csv").open() as file:
        header = next(csv.reader(file))
    assert header == ["transitions", "wall_seconds", "social_welfare", "train_social_welfare"]


def test_curve_ends_with_the_final_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver whose batches do not divide its budget stops before the last point is due."""
    request = toy_request()
    original = request.solver.module.solve

    def solve(task: Any, config: Any, seeds: Any, device: str, log: RunLog) -> Any:
        solutions = original(task, config, seeds, device, log)
        log.progress(20_049, {})
        return solutions

    monkeypatch.setattr(request.solver.module, "solve", solve)
    results = run(request)
    curve = read_curve(request.directory(1) / "curve.csv")
    assert curve["transitions"][-2:] == [20_000.0, 20_049.0]
    assert curve["social_welfare"][-1] == pytest.approx(99 / 25)
    assert [result.transitions_reported for result in results] == [20_049, 20_049]


def test_no_curve_without_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    request = toy_request(seeds=[0])
    solution = Solution([ScriptedPolicy([1])] * 3, np.eye(3)[np.zeros(25, int)])
    monkeypatch.setattr(request.solver.module, "solve", lambda *arguments: [solution])
    (result,) = run(request)
    assert result.curve is None
    assert not (request.directory(0) / "curve.csv").exists()
    assert result.transitions_reported == 0


def test_finished_seeds_are_skipped() -> None:
    first = run(toy_request())
    path = toy_request().directory(0) / "result.json"
    before = path.stat().st_mtime_ns
    again = run(toy_request(seeds=[0, 1, 2]))
    assert path.stat().st_mtime_ns == before
    assert again[:2] == first
    assert again[2].seeds_together == 1


def test_other_settings_are_refused() -> None:
    run(toy_request())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"transitions": 2000}, "made with transitions 20000 instead of 2000"),
        ({"settings": ["noise=0.3"]}, "made with config.noise 0.25 instead of 0.3"),
        ({"settings": ["sizes=[2]"]}, "config.sizes [2, 3] instead of [2]"),
    ]
    for changes, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            toy_request(**changes)
    many = ["action=0", "noise=1", "sizes=[2]", "name=x", "kill_at=5", "interrupt_at=6"]
    with pytest.raises(ValueError) as caught:
        toy_request(transitions=2000, settings=many)
    assert str(caught.value).count("instead of") == 5
    assert ", and 2 more; use the same settings" in str(caught.value)
    assert toy_request(transitions=2000, out="elsewhere").task.transitions == 2000


def test_changed_solver_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(Path(TOY).read_text())
    run(make_request(str(path), TASK, transitions=100))
    path.write_text(Path(TOY).read_text() + "\n# changed\n")
    with pytest.raises(ValueError, match="solver_sha256"):
        make_request(str(path), TASK, transitions=100)


def test_kill_and_resume_gives_the_same_result(tmp_path: Path, monkeypatch: Any) -> None:
    """Killed after the checkpoint of iteration 6, whose curve rows 7 and 8 are dropped."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    monkeypatch.chdir(killed)
    Path("armed").touch()
    process = finish_in_process("kill_at=8")
    assert process.returncode == -signal.SIGKILL, process.stderr
    folder = killed / "runs" / TASK / "toy_solver" / "seed-0"
    assert not (folder / "result.json").exists()
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["2.npz"]
    assert read_curve(folder / "curve.csv")["transitions"][-1] == 16_000.0
    with np.load(folder / "checkpoint" / "2.npz", allow_pickle=False) as archive:
        saved = json.loads(archive["state"].tobytes())
    assert len(saved["curve"]) == 6
    Path("armed").unlink()
    resumed = run(toy_request(settings=["kill_at=8"]))
    assert not (folder / "checkpoint").exists()

    monkeypatch.chdir(whole)
    uninterrupted = run(toy_request(settings=["kill_at=8"]))
    for one, other in zip(resumed, uninterrupted, strict=True):
        assert without_times(one) == without_times(other)
        assert one.wall_seconds > saved["wall_seconds"] > 0
        assert one.train_seconds > saved["train_seconds"] > 0
    for name in ("transitions", "social_welfare", "train_social_welfare"):
        for seed in ("seed-0", "seed-1"):
            curves = [
                read_curve(root / "runs" / TASK / "toy_solver" / seed / "curve.csv")[name]
                for root in (killed, whole)
            ]
            assert curves[0] == curves[1]


def test_kill_between_two_records_continues_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded already is trained again with the others, from their checkpoint."""
    request = toy_request(seeds=[0, 1, 2])
    with monkeypatch.context() as patch:
        written: list[Result] = []

        def killed(directory: Path, result: Result) -> None:
            if len(written) == 1:
                raise KeyboardInterrupt
            written.append(result)
            write_result(directory, result)

        patch.setattr(running, "write_result", killed)
        with pytest.raises(KeyboardInterrupt):
            run(request)
    assert (request.directory(0) / "result.json").exists()
    assert not (request.directory(1) / "result.json").exists()
    assert [path.name for path in (request.directory(0) / "checkpoint").iterdir()] == ["3.npz"]

    results = run(request)
    whole = run(toy_request(seeds=[0, 1, 2], out="whole"))
    assert [result.seeds_together for result in results] == [3, 3, 3]
    assert [without_times(result) for result in results] == list(map(without_times, whole))
    assert without_times(results[0]) == without_times(written[0])
    assert not any((request.directory(seed) / "checkpoint").exists() for seed in range(3))


def test_kill_after_the_records_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    request = toy_request()
    with monkeypatch.context() as patch:
        patch.setattr(running, "_remove_leftovers", lambda directories: None)
        before = run(request)
    assert (request.directory(1) / "checkpoint" / "3.npz").exists()
    with monkeypatch.context() as patch:
        patch.delattr(request.solver.module, "solve")
        assert run(request) == before
    assert not (request.directory(1) / "checkpoint").exists()


def test_clocks_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    task = dataclasses.replace(get_task(TASK), transitions=100)
    log = RunLog(task, [0], [tmp_path])
    now[0] += 30.0
    assert log.load_checkpoint() is None  # the training clock starts here
    now[0] += 20.0
    log.save_checkpoint(10, {"x": np.zeros((1, 2))}, [{"big": 2**100}])
    log = RunLog(task, [0], [tmp_path], resume_at=1)
    now[0] += 2.0
    resumed = log.load_checkpoint()
    now[0] += 3.0
    assert resumed is not None
    assert resumed[1] == [{"big": 2**100}]
    assert log.wall_seconds == pytest.approx([55.0])
    assert log.train_seconds == pytest.approx([23.0])


def test_evaluation_is_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    task = dataclasses.replace(get_online_task("ResourceGathering-n25-k1-v0"), transitions=100)
    log = RunLog(task, [0])

    class Slow(ScriptedPolicy):
        def reset(self, n_envs: int) -> None:
            now[0] += 7.0

    now[0] += 2.0
    log.load_checkpoint()
    now[0] += 3.0
    log.evaluate(50, [Solution([Slow([1])], np.ones((25, 1)))])
    assert log.train_seconds == pytest.approx([3.0])
    assert log.wall_seconds == pytest.approx([12.0])
    assert log.curves[0][0]["wall_seconds"] == pytest.approx(5.0)


def test_evaluation_due_about_twenty_times() -> None:
    task = dataclasses.replace(
        get_online_task("ResourceGathering-n25-k1-v0"), transitions=1_000_000
    )
    log = RunLog(task, [0])
    due = []
    for transitions in range(2048, 1_000_000 + 2048, 2048):
        if log.evaluation_due(transitions):
            due.append(transitions)
            log.evaluate(transitions, [Solution([ScriptedPolicy([1])], np.ones((25, 1)))])
    assert len(due) == 20
    assert due[-1] >= 1_000_000
    assert np.ptp(np.diff(due)) <= 2048


def test_a_total_of_its_own_outlives_a_checkpoint(tmp_path: Path) -> None:
    class Bar(NoDisplay):
        total = 0

        def set_total(self, total: int | None, unit: str) -> None:
            self.total = total or 0

    task = dataclasses.replace(
        get_online_task("ResourceGathering-n25-k1-v0"), transitions=1_000_000
    )
    log = RunLog(task, [0], [tmp_path])
    assert not log.evaluation_due(2_000)
    log.progress(2_000, {}, total=20_000)
    assert log.evaluation_due(2_000)
    log.save_checkpoint(2_000, {}, [{}])
    bar = Bar()
    resumed = RunLog(task, [0], [tmp_path], resume_at=1, display=bar)
    resumed.load_checkpoint()
    assert bar.total == 20_000 and resumed.evaluation_due(2_000)


def test_checkpoint_due(tmp_path: Path) -> None:
    stop = threading.Event()
    log = RunLog(get_task(TASK), [0], [tmp_path], stop=stop, checkpoint_seconds=1000)
    assert not log.checkpoint_due()
    assert not log.stop_requested
    stop.set()
    assert log.checkpoint_due()
    assert log.stop_requested
    log = RunLog(get_task(TASK), [0], [tmp_path], checkpoint_seconds=0)
    assert log.checkpoint_due()


def test_stop_and_go_on() -> None:
    stop = threading.Event()
    stop.set()
    request = toy_request()
    with pytest.raises(Interrupted):
        run(request, stop=stop)
    assert not (request.directory(0) / "result.json").exists()
    assert len(run(request)) == 2


def test_curve_of_an_interrupted_run_is_usable() -> None:
    stop = threading.Event()
    request = toy_request()

    class StopAfterFour(NoDisplay):
        def update(self, done: int, score: str) -> None:
            if done >= 8_000:
                stop.set()

    with pytest.raises(Interrupted):
        run(request, display=StopAfterFour(), stop=stop)
    assert read_curve(request.directory(1) / "curve.csv")["transitions"][-1] == 8_000.0
    assert [p.name for p in (request.directory(1) / "checkpoint").iterdir()] == ["2.npz"]


@pytest.mark.parametrize(
    ("arrays", "states", "message"),
    [
        ({"x": np.zeros((3, 2))}, [{}, {}], r"shape \(3, 2\)"),
        ({"x": np.zeros(())}, [{}, {}], r"shape \(\)"),
        ({"x": np.array([{}, {}])}, [{}, {}], "Python objects"),
        ({}, [{}], "1 states"),
        ({}, [{"x": {1, 2}}, {}], "must be JSON"),
    ],
)
def test_wrong_checkpoint(arrays: Any, states: Any, message: str, tmp_path: Path) -> None:
    log = RunLog(get_task(TASK), [0, 1], [tmp_path / "0", tmp_path / "1"])
    with pytest.raises(ValueError, match=message):
        log.save_checkpoint(10, arrays, states)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [b"PK\x03\x04 cut off", b""])
def test_damaged_checkpoint(left: bytes) -> None:
    stop = threading.Event()
    stop.set()
    request = toy_request(seeds=[0])
    with pytest.raises(Interrupted):
        run(request, stop=stop)
    write_checkpoints([request.directory(0)], 300, [Checkpoint({}, {})])
    (request.directory(0) / "checkpoint" / "300.npz").write_bytes(left)
    with pytest.raises(SolverError, match=r"300.npz .*delete it"):
        run(request)


def test_groups(tmp_path: Path) -> None:
    directories = {seed: tmp_path / str(seed) for seed in range(6)}
    nothing = Checkpoint({}, {})
    for seed, transitions in [(0, 100), (0, 200), (1, 100), (2, 500)]:
        folder = directories[seed] / "checkpoint"
        kept = {path: path.read_bytes() for path in folder.glob("*")}
        write_checkpoints([directories[seed]], transitions, [nothing])
        for path, data in kept.items():
            path.write_bytes(data)  # as if killed before it was removed
    assert group_by_checkpoint(directories) == [([0, 1], 100), ([2], 500), ([3, 4, 5], None)]


def test_half_written_files_are_removed() -> None:
    request = toy_request()
    folder = request.directory(1)
    (folder / ".writing-abc" / "new").mkdir(parents=True)
    (folder / "checkpoint").mkdir()
    for name in (".writing-abc/new/.writing-7-policies.onnx", "checkpoint/.writing-7-300.npz"):
        (folder / name).touch()
    (folder / ".writing-7-curve.csv").touch()
    run(request)
    assert not list(folder.rglob(".writing-*"))
    assert not (folder / "checkpoint").exists()


def test_two_processes_cannot_run_one_seed(tmp_path: Path) -> None:
    request = toy_request()
    with locked(request.directory(1), "held"):
        with pytest.raises(ValueError, match="seed 1 is being run by another process"):
            run(request)
        assert [path.name for path in request.directory(0).parent.iterdir()] == ["seed-1"]
    assert list(tmp_path.iterdir()) == []
    assert len(run(request)) == 2


def test_failing_solver() -> None:
    request = toy_request(settings=["fail=on purpose\nand more"])
    with pytest.raises(SolverError, match=r"failed: RuntimeError: on purpose \(traceback in"):
        run(request)
    text = (request.directory(1) / "error.txt").read_text()
    assert "Traceback" in text
    assert "and more" in text


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "one Solution for each seed, 2 in all"),
        ([1, 2], "returned a int"),
        ([Solution([ScriptedPolicy([1])], np.ones((25, 1)))] * 2, r"shape \(25, 1\), expected"),
    ],
)
def test_wrong_solutions(returned: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = toy_request()
    monkeypatch.setattr(request.solver.module, "solve", lambda *arguments: returned)
    with pytest.raises(SolverError, match=message):
        run(request)


def test_policy_that_gives_nan_after_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ScriptedPolicy):
        def act(self, observations: Any) -> Any:
            return super().act(observations) + 7

    request = toy_request()
    broken = Solution([Broken([1])] * 3, np.eye(3)[np.zeros(25, int)])
    monkeypatch.setattr(request.solver.module, "solve", lambda *arguments: [broken] * 2)
    with pytest.raises(SolverError, match="policy 0: its action is 8 in episode 0"):
        run(request)
    assert not (request.directory(0) / "result.json").exists()


def test_tensorboard() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    request = toy_request(tensorboard=True)
    run(request)
    events = EventAccumulator(str(request.directory(1) / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == [
        "train/train_social_welfare",
        "train/loss",
        "eval/social_welfare",
    ]
    points = events.Scalars("eval/social_welfare")
    assert [point.step for point in points] == [2000 * i for i in range(1, 11)]
    assert points[0].value == pytest.approx(99 / 25)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["action=2"], {"action": 2}),
        (["noise=1e-3", "name=abc"], {"noise": 1e-3, "name": "abc"}),
        (["name=5"], {"name": "5"}),
        (['name="5"'], {"name": "5"}),
        (["name=a=b"], {"name": "a=b"}),
        (["sizes=[4, 5]"], {"sizes": (4, 5)}),
        (["export=no"], {"export": False}),
    ],
)
def test_settings(settings: list[str], expected: dict[str, Any]) -> None:
    config = make_config(load_solver(TOY), get_task(TASK), settings)
    assert {name: getattr(config, name) for name in expected} == expected


def test_records_name_nobody() -> None:
    import getpass
    import socket

    text = json.dumps([system_record("cpu"), versions(), git_revision()])
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert "/" + getpass.getuser() not in text
    assert str(ROOT) not in text
    assert system_record("cpu")["cores"] >= 1
    assert system_record("cpu")["memory_gib"] > 0
    revision = git_revision()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", revision or "") if IS_CLONE else revision is None


def test_damaged_records(tmp_path: Path) -> None:
    run(toy_request())
    path = toy_request().directory(0) / "result.json"
    good = json.loads(path.read_text())
    perfect = {"agent_returns": [98.0] * 25, "social_welfare": 98.0, "worst_agent": 98.0}
    perfect["share_of_ceiling"] = 98 / 89.28
    for change, message in [
        ({"schema_version": 2}, "schema_version"),
        ({"social_welfare": "high"}, "social_welfare"),
        ({"agent_returns": [1.0, None]}, "agent_returns.1"),
        ({"extra": 1}, "extra"),
        ({"task": "NoTask"}, "unknown task 'NoTask'"),
        ({"agent_returns": [3.96] * 24}, "agent_returns: 24 values, expected one for each of the"),
        ({"social_welfare": 3.97}, "social_welfare: 3.97 does not agree"),
        ({"worst_agent": 1.0}, "worst_agent: 1.0 does not agree"),
        ({"share_of_ceiling": 0.5}, "share_of_ceiling: 0.5 does not agree"),
        ({"share_of_ceiling": None}, "share_of_ceiling: None does not agree"),
        (perfect, "social_welfare: 98.0 is more than is possible, 89.28"),
    ]:
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=f"not a valid result: {message}"):
            read_result(path)
    path.write_text(json.dumps(good | {"gini": float("nan")}))
    with pytest.raises(ValueError, match="gini"):
        read_result(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="cannot read"):
        find_results([tmp_path])
    with pytest.raises(ValueError, match="no folder"):
        find_results([tmp_path / "nowhere"])
