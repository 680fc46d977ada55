"""Locks, checkpoints that do not fit, runs that are replaced, and scores that are no numbers."""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.evaluation import evaluate
from rmdp_bench.files import LOCK_FILE, locked
from rmdp_bench.population import LinearPopulation
from rmdp_bench.runs import Interrupted, RunLog, make_request, run
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task, get_online_task, get_task
from tests.helpers.checkout import ROOT
from tests.helpers.commands import contents
from tests.helpers.online_settings import SETTINGS, SMALL, SMALL_UNIVERSAL
from tests.helpers.point_world import point_task
from tests.helpers.toys import ScriptedPolicy

TOY = ROOT / "tests/helpers/toy_solver.py"
TASK = "ResourceGathering-n25-k3-v0"
FOLDER = Path("runs") / TASK / "toy_solver" / "seed-0"


# Locks.


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_is_not_another_process(
    code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(file: Any, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ValueError) as caught, locked(tmp_path / "new" / "folder", "held"):
        pass
    message = str(caught.value)
    assert message.startswith(f"cannot lock {tmp_path / 'new' / 'folder' / LOCK_FILE}: ")
    assert os.strerror(code) in message
    assert "held" not in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_not_another_process(
    code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = Path.open

    def refuse(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path.name == LOCK_FILE:
            raise OSError(code, os.strerror(code))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    expected = f"cannot write to {tmp_path}: {os.strerror(code)}"
    with pytest.raises(ValueError, match=f"^{expected}; [cm]"), locked(tmp_path, "held"):
        pass


def test_a_lock_that_is_held_is_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rmdp_bench.files import locked\n"
        "with locked(Path(sys.argv[1]), 'held'):\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    expected = f"held ({tmp_path})"
    with pytest.raises(ValueError) as caught, locked(tmp_path, "held"):
        pass
    assert str(caught.value) == expected
    holder.communicate()
    with locked(tmp_path, "held"):
        pass


def test_a_lock_that_was_released_just_now_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its holder removes the file between our opening and locking it."""
    original, calls = fcntl.flock, []

    def lock(file: Any, operation: int) -> None:
        original(file, operation)
        calls.append(operation)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()

    monkeypatch.setattr(fcntl, "flock", lock)
    with locked(tmp_path, "held"):
        assert (tmp_path / LOCK_FILE).exists()
    assert len(calls) == 2


# Checkpoints.


def change_checkpoint(path: Path, change: Any) -> None:
    """Write a checkpoint again, with other arrays and the same state."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez(path, **arrays)


def drop(arrays: dict[str, Any]) -> None:
    del arrays[next(name for name in sorted(arrays) if name.startswith("array/"))]


def reshape(arrays: dict[str, Any]) -> None:
    name = next(n for n in sorted(arrays) if n.startswith("array/") and arrays[n].size > 1)
    arrays[name] = arrays[name].ravel()[:-1]


def add(arrays: dict[str, Any]) -> None:
    arrays["array/unknown"] = np.zeros(3)


def interrupted(name: str, task: Task, config: Any, seeds: list[int], folders: list[Path]) -> None:
    """Run a solver up to its first checkpoint."""
    import threading

    stop = threading.Event()
    stop.set()
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(Interrupted):
        importlib.import_module(name).solve(
            task, config, seeds, "cpu", RunLog(task, seeds, folders, stop=stop)
        )


@pytest.mark.parametrize("change", [drop, reshape, add])
@pytest.mark.parametrize("name", [*SETTINGS, "universal"])
def test_a_checkpoint_with_other_arrays_is_refused(name: str, change: Any, tmp_path: Path) -> None:
    """One is missing, has another shape, or is too many."""
    module = f"baselines.online.{name}"
    solver, task = importlib.import_module(module), point_task(2_560)
    settings = SMALL_UNIVERSAL if name == "universal" else SMALL | SETTINGS[name]
    config = solver.Config(**settings)
    interrupted(module, task, config, [0], [tmp_path])
    (number,) = list_checkpoints(tmp_path)
    path = tmp_path / "checkpoint" / f"{number}.npz"
    change_checkpoint(path, change)
    log = RunLog(task, [0], [tmp_path], resume_at=number)
    with pytest.raises(ValueError, match=r"array '.*' has shape .*; delete it to start this seed"):
        solver.solve(task, config, [0], "cpu", log)


def rewrite_state(arrays: dict[str, Any], change: Any) -> None:
    """Change what a checkpoint says of itself, as if another version had written it."""
    state = json.loads(arrays["state"].tobytes())
    change(state)
    shapes = {n.removeprefix("array/"): a.shape for n, a in arrays.items() if n != "state"}
    state["shapes"] = shapes
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)


def no_array(arrays: dict[str, Any]) -> None:
    drop(arrays)
    rewrite_state(arrays, lambda state: None)


def other_type(arrays: dict[str, Any]) -> None:
    arrays["array/walk"] = arrays["array/walk"].astype(np.int64)
    rewrite_state(arrays, lambda state: None)


def other_state(arrays: dict[str, Any]) -> None:
    rewrite_state(arrays, lambda state: state["solver"].pop("iteration"))


@pytest.mark.parametrize("change", [drop, reshape, no_array, other_type, other_state])
def test_the_command_says_in_one_line_that_a_checkpoint_does_not_fit(
    change: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any solver: what it raises while it restores is said to be of the checkpoint."""
    Path("armed").touch()
    arguments = ["run", str(TOY), TASK, "--set", "interrupt_at=4"]
    assert main(arguments) == 130
    (path,) = (FOLDER / "checkpoint").iterdir()
    change_checkpoint(path, change)
    Path("armed").unlink()
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} (" in line
    assert "delete it to start this seed" in line
    path.unlink()
    assert main(arguments) == 0


def test_checkpoints_from_before_shapes_and_counts_are_read(tmp_path: Path) -> None:
    task = get_task(TASK)
    log = RunLog(task, [0], [tmp_path])
    log.save_checkpoint(10, {"x": np.arange(3.0)[None]}, [{"y": 1}])

    def remove(arrays: dict[str, Any]) -> None:
        state = json.loads(arrays["state"].tobytes())
        del state["shapes"], state["steps_counted"]
        arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)

    change_checkpoint(tmp_path / "checkpoint" / "1.npz", remove)
    resumed = RunLog(task, [0], [tmp_path], resume_at=1)
    found = resumed.load_checkpoint()
    assert found is not None
    np.testing.assert_array_equal(found[0]["x"], [[0.0, 1.0, 2.0]])
    assert resumed.steps_counted is None


# Runs that are replaced.


def test_overwrite_replaces_a_run_of_a_changed_solver(capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("mine.py")
    own.write_text(TOY.read_text())
    arguments = ["run", "mine.py", TASK, "--seeds", "0:2", "--transitions", "1000"]
    assert main(arguments) == 0
    folder = Path("runs") / TASK / "mine"
    first = contents(folder)
    (folder / "seed-0" / "checkpoint").mkdir()
    (folder / "seed-0" / "checkpoint" / "1.npz").write_bytes(b"of the run before")
    own.write_text(TOY.read_text() + "\n# changed\n")
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was made with solver_sha256 " in line
    assert "or --overwrite to replace it" in line
    assert main([*arguments, "--overwrite"]) == 0
    second = contents(folder)
    assert second.keys() == first.keys()  # and nothing of the run before
    for seed in range(2):
        before, now = (
            json.loads(found[f"seed-{seed}/result.json"] or b"") for found in (first, second)
        )
        assert before["solver_sha256"] != now["solver_sha256"]
    # What the same request has left is kept.
    assert main([*arguments, "--overwrite"]) == 0
    assert contents(folder) == second
    assert main([*arguments, "--set", "noise=0.125", "--overwrite"]) == 0
    record = json.loads((folder / "seed-1" / "result.json").read_text())
    assert record["config"]["noise"] == 0.125


@pytest.mark.parametrize("n_removed", range(4))
def test_a_replacement_that_is_killed_leaves_no_old_record_for_the_new_run(
    n_removed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order the folder lists its files."""

    class Killed(BaseException):
        pass

    arguments = ["run", str(TOY), TASK, "--transitions"]
    assert main([*arguments, "1000"]) == 0
    unlink, iterate = Path.unlink, Path.iterdir
    removed: list[str] = []

    def unlink_until_killed(path: Path, *given: Any, **named: Any) -> None:
        if path.parent == FOLDER:
            if len(removed) == n_removed:
                raise Killed
            removed.append(path.name)
        unlink(path, *given, **named)

    def request_first(path: Path) -> Any:
        return iter(sorted(iterate(path), key=lambda file: file.name != "run.json"))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink_until_killed)
        patch.setattr(Path, "iterdir", request_first)
        with pytest.raises(Killed):
            run(make_request(str(TOY), TASK, transitions=2000, overwrite=True))
    (result,) = run(make_request(str(TOY), TASK, transitions=2000, overwrite=True))
    assert result.transitions == 2000


def test_overwrite_goes_on_from_its_own_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["interrupt_at=4"]
    assert main(["run", str(TOY), TASK]) == 0
    arguments = ["run", str(TOY), TASK, "--overwrite", "--set", *settings]
    Path("armed").touch()
    assert main(arguments) == 130
    assert [path.name for path in (FOLDER / "checkpoint").iterdir()] == ["2.npz"]
    assert not (FOLDER / "result.json").exists()
    Path("armed").unlink()
    assert main(arguments) == 0
    (result,) = run(make_request(str(TOY), TASK, settings=settings))
    assert result.config["interrupt_at"] == 4


def test_overwrite_leaves_a_run_that_another_process_works_on() -> None:
    request = make_request(str(TOY), TASK, transitions=1000)
    run(request)
    before = contents(request.directory(0))
    other = make_request(str(TOY), TASK, transitions=2000, overwrite=True)
    with locked(request.directory(0), "held"):
        with pytest.raises(ValueError, match="seed 0 is being run by another process"):
            run(other)
    assert contents(request.directory(0)) == before


# Scores.


def test_returns_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_online_task("ResourceGathering-n25-k1-v0")
    rewards = LinearPopulation.rewards

    def break_one(self: Any, outcomes: Any) -> Any:
        found = np.array(rewards(self, outcomes))
        found[0, 3] = np.nan
        return found

    monkeypatch.setattr(LinearPopulation, "rewards", break_one)
    solution = Solution([ScriptedPolicy([1])], np.ones((25, 1)))
    with pytest.raises(ValueError, match="policy 0: the return of agent 3 is nan in episode 0"):
        evaluate(task, solution, n_episodes=2)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_a_damaged_request_is_replaced_on_demand(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(TOY), TASK, "--transitions", "1000"]
    assert main(arguments) == 0
    folder = Path("runs") / TASK / "toy_solver" / "seed-0"
    first = contents(folder)
    (folder / "run.json").write_text(text)
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run.json" in line
    assert "--overwrite replaces the run" in line
    assert main([*arguments, "--overwrite"]) == 0
    assert contents(folder).keys() == first.keys()
    assert contents(folder)["run.json"] == first["run.json"]


def test_overwrite_follows_no_link(tmp_path: Path) -> None:
    arguments = ["run", str(TOY), TASK, "--transitions", "1000"]
    assert main(arguments) == 0
    folder = Path("runs") / TASK / "toy_solver" / "seed-0"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("kept")
    for name in ("link", ".writing-link", "trained"):
        (folder / name).symlink_to(elsewhere)
    (folder / "broken").symlink_to("nowhere")
    assert main([*arguments, "--set", "noise=0.125", "--overwrite"]) == 0
    assert (elsewhere / "mine").read_text() == "kept"
    assert not [path for path in folder.iterdir() if path.is_symlink()]
