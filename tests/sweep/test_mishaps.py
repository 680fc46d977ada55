"""Sweeps on a full disk, after a refusal, beside killed drivers, and of damaged files."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from rmdp_bench.files import FULL_DISK_CODE, is_of_full_disk
from rmdp_bench.sweep import cancel, jobs, make_jobs, plan, read_plan, read_status
from tests.sweep.toys import OTHER, OUT, TASK, start, wait_for, walks, write_plan

SWEEP = ("sweep", "plan.toml", "--out", str(OUT))
FULL_SOLVER = """
import errno
from pathlib import Path
from tests.sweep import walk
Config = walk.Config

def solve(task, config, seeds, device, log):
    if Path("full").exists():
        raise OSError(errno.{name}, "too much")
    return walk.solve(task, config, seeds, device, log)
"""


def counts() -> dict[str, int]:
    return {state: n for state, n in read_status(OUT).counts.items() if n}


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT"])
def test_a_job_on_a_full_disk_has_not_failed_and_nothing_more_is_started(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is small, as the note of a failure, still has room there."""
    write_plan(walks("0:2", "cores = 1000").replace("walk.py", "full.py"))
    Path("full.py").write_text(FULL_SOLVER.format(name=name), encoding="utf-8")
    Path("full").touch()
    assert main([*SWEEP]) == FULL_DISK_CODE
    said = " ".join(capfd.readouterr().err.split())
    assert "no space was left for full, seed 0 on " in said and "make room there" in said
    assert counts() == {"waiting": 4}
    assert len(list((OUT / "sweep" / "logs").iterdir())) == 1
    Path("full").unlink()
    assert main([*SWEEP]) == 0
    assert counts() == {"done": 4}


def test_errors_that_were_raised_from_a_full_disk_are_known() -> None:
    def chain(*, hides: bool) -> BaseException:
        try:
            try:
                raise OSError(errno.ENOSPC, "full")
            except OSError as error:
                if hides:
                    raise RuntimeError("other") from None
                raise ValueError("cannot write") from error
        except (RuntimeError, ValueError) as error:
            return error

    assert is_of_full_disk(chain(hides=False)) and not is_of_full_disk(chain(hides=True))
    assert not is_of_full_disk(OSError(errno.EIO, "broken"))


def failed_sweep(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A folder with a failed seed; gives the notes of failures."""
    path = write_plan(f'[[runs]]\nsolvers = "walk.py"\ntasks = "{TASK}"\n')
    (job,) = made = make_jobs(read_plan(path))
    document = {"text": path.read_text(encoding="utf-8"), "folder": str(Path.cwd())}
    jobs.write_plan(OUT, "plan", document, made)
    jobs.note_failure(OUT, job, TASK, [0], "broken", None)
    return list((OUT / "sweep" / "failures").iterdir())


@pytest.mark.parametrize("reason", ["launcher", "device", "solver", "folder", "cluster"])
def test_a_refused_retry_forgets_no_failure(
    reason: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    notes, words = failed_sweep(monkeypatch), ["sweep", "retry", str(OUT)]

    def refuse(*arguments: Any) -> None:
        raise ValueError("refused")

    if reason == "launcher":
        monkeypatch.setattr("rmdp_bench.sweep.on_slurm.import_submitit", refuse)
        words += ["--launcher", "slurm"]
    elif reason == "cluster":
        monkeypatch.setattr("rmdp_bench.sweep.on_slurm.import_submitit", lambda: None)
        monkeypatch.setattr("rmdp_bench.sweep.on_slurm.submit", refuse)
        words += ["--launcher", "slurm"]
    elif reason == "device":
        monkeypatch.setattr("rmdp_bench.runs.requests.check_device", refuse)
    elif reason == "folder":
        monkeypatch.setattr("rmdp_bench.files.check_writable", refuse)
    else:
        Path("walk.py").unlink()
    assert main(words) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert [note.exists() for note in notes] == [True] and counts() == {"failed": 1}


WRONG = [
    (walks("0").replace('"0"', "5"), "seeds is 5, expected text such as"),
    (walks("0").replace('"0"', '["a"]'), "seeds is ['a'], expected text such as"),
    (walks("0").replace('"0"', "true"), "seeds is True, expected text such as"),
    (walks("0:99999999999999999999"), "seeds is '0:99999999999999999999', expected text"),
    (walks("0", "settings = { noise = 2020-01-01 }"), "date is not JSON serializable"),
    (walks("0", "settings = { table = [[2020-01-01]] }"), "date is not JSON serializable"),
    (walks("0", "settings = { noise = [0.5, 0.25, 0.5] }"), "a value of noise is there twice"),
    (walks("0", 'settings = { noise = [1, "1"] }'), "a value of noise is there twice"),
    (walks("0", 'folder = "a\\u0000b"'), "no file system has NUL in a name"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_value_of_a_plan_is_one_line(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(write_plan(text))]) == 2
    said = capfd.readouterr().err
    assert said.startswith("rmdp-bench: error: plan.toml, [[runs]] number 1: ")
    assert said.count("\n") == 1 and message in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a stored plan: it has no list of jobs"),
        ("[]", "holds a list, expected a JSON object"),
        ("{", "cannot read "),
        ('{"jobs": [{"niceness": 1}]}', "not a job of this version of rmdp_bench"),
        ('{"jobs": [3]}', "not a job of this version of rmdp_bench"),
        ('{"jobs": [{"tasks": [], "seeds": [], "settings": [], "niceness": 1}]}', "'niceness'"),
    ],
)
@pytest.mark.parametrize("command", ["status", "retry"])
def test_a_damaged_plan_of_a_folder_is_one_line(
    command: str, text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = OUT / "sweep" / "plans"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(text, encoding="utf-8")
    assert main(["sweep", command, str(OUT)]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and message in said and "plan.json" in said
    assert main(["sweep", "cancel", str(OUT)]) == 0  # which needs to know no job


def test_a_stored_plan_without_its_text_is_not_retried(capfd: pytest.CaptureFixture[str]) -> None:
    jobs.write_plan(OUT, "plan", {}, [])
    assert main(["sweep", "retry", str(OUT)]) == 2
    assert "the stored plan plan of out has no text and folder" in capfd.readouterr().err


def test_cancel_counts_drivers_at_work_and_launches_of_slurm(
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_plan(walks("0", "cores = 1000"))
    Path("hold").touch()
    killed = start(*SWEEP)
    wait_for(lambda: counts_or_none().get("running"), killed)
    killed.kill()
    killed.communicate()
    wait_for(lambda: not counts().get("running"))
    assert len(jobs.list_launches(OUT)) == 1 and cancel(OUT) == (0, 0)
    submitted = jobs.Launch.start(OUT, {"launcher": "slurm"})
    assert jobs.list_launches(OUT)[0].name == submitted.name  # what was killed is forgotten
    driver = start(*SWEEP)
    wait_for(lambda: counts().get("running"), driver)
    assert main(["sweep", "cancel", str(OUT)]) == 0
    assert capfd.readouterr().out == (
        "asked to stop: 1 driver\nasked to stop: SLURM jobs of 1 launch, as far as any are left\n"
    )
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1 and "2 runs: 2 waiting" in said
    assert submitted.is_stopped()


def counts_or_none() -> dict[str, int]:
    return counts() if (OUT / "sweep" / "plans" / "plan.json").exists() else {}


def test_a_launch_that_ended_meanwhile_can_be_asked_to_stop() -> None:
    launch = jobs.Launch.start(OUT, {})
    launch.end()
    launch.stop()
    assert jobs.list_launches(OUT) == [] and not launch.is_driven() and not launch.is_submitted()


def test_settings_are_not_compared_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of settings differ, so that there is nothing to merge: no group is looked at.

    Counted, not timed: each look at a group asks for what it solves.
    """
    row = read_plan(write_plan(walks("0"))).rows[0]

    class Counted(plan._Group):
        n_looks = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "seeds":
                Counted.n_looks += 1
            return super().__getattribute__(name)

    def group(number: int, task: str, also: list[str]) -> Counted:
        job = jobs.Job(f"address-{number}", "em", "em", None, (task,), ())
        return Counted(job, [0, 1], row, False, also)

    groups = [group(n, task, []) for n in range(200) for task in (TASK, OTHER)]
    family = [group(1000, TASK, [OTHER]), group(1001, OTHER, []), group(1000, OTHER, [])]
    Counted.n_looks = 0
    merged = plan._merge_families([*groups, *family])
    assert [g.job.tasks for g in merged[-2:]] == [(TASK, OTHER), (OTHER,)]
    assert len(merged) == len(groups) + 2
    assert Counted.n_looks <= 2 * (len(groups) + len(family))


def test_a_damaged_note_of_a_failure_is_still_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    (note,) = failed_sweep(monkeypatch)
    note.write_text(json.dumps({}), encoding="utf-8")
    assert counts() == {"failed": 1}
