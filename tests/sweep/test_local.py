"""Sweeps on this machine: nothing is lost and nothing is run twice, whoever is killed."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from rmdp_bench.files import FULL_DISK_CODE, is_locked, write_json
from rmdp_bench.sweep import Job, jobs, make_jobs, read_plan, read_status
from rmdp_bench.sweep.costs import longest_first, read_costs
from tests.sweep.toys import (
    OTHER,
    OUT,
    TASK,
    count_starts,
    job_processes,
    outcome,
    start,
    steps,
    undisturbed,
    wait_for,
    walks,
    write_plan,
)
from tests.sweep.walk import STEPS

SWEEP = ("sweep", "plan.toml", "--out", str(OUT))


def counts() -> dict[str, int]:
    return {state: n for state, n in read_status(OUT).counts.items() if n}


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="finds processes as Linux tells them"
)


@needs_proc
def test_killed_jobs_and_drivers_change_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A job is killed, then the driver, then the next driver is asked to stop, twice."""
    plan = write_plan(walks("0:3", "seeds_per_batch = 3"))
    expected = undisturbed(plan)
    Path("hold").touch()
    driver = start(*SWEEP)
    wait_for(lambda: any((OUT / "sweep" / "claims").glob("*")), driver)
    wait_for(lambda: job_processes(OUT), driver)
    os.kill(min(job_processes(OUT)), signal.SIGKILL)  # it is started again
    wait_for(lambda: count_starts(OUT) == 3 and _held(2), driver)
    assert counts() == {"running": 6}
    driver.kill()
    driver.communicate()
    wait_for(lambda: not counts().get("running"))  # jobs end with their driver
    assert counts() == {"waiting": 6}

    driver = start(*SWEEP)
    wait_for(lambda: _held(2), driver)
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 128 + signal.SIGTERM, said
    assert "SIGTERM: stopping when all jobs have saved a checkpoint" in said
    assert counts() == {"waiting": 6}

    Path("hold").unlink()
    assert main([*SWEEP]) == 0
    assert "6 runs: 6 done (out)" in capfd.readouterr().out
    assert outcome(OUT, make_jobs(read_plan(plan))) == expected
    assert len(steps()) == len(set(steps())) == 2 * STEPS  # each batch made each step once


def _held(number: int) -> bool:
    """Whether so many batches of runs have begun: they hold their run directories."""
    locks = OUT.glob("*/*/walk/seed-0/.lock")
    return sum(is_locked(path.parent) for path in locks) >= number


def test_two_drivers_share_the_work_and_a_plan_can_be_extended(
    capfd: pytest.CaptureFixture[str],
) -> None:
    plan = write_plan(walks("0:2", "settings = { seconds = 0.05 }"))
    drivers = [start(*SWEEP), start(*SWEEP)]
    for driver in drivers:
        said, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0 and "4 runs: 4 done" in said, said
    assert len(steps()) == len(set(steps())) == 4 * STEPS
    assert counts() == {"done": 4} and count_starts(OUT) == 4

    write_plan(walks("0:4", "settings = { seconds = 0.05 }\nseeds_per_batch = 4"))
    assert main([*SWEEP]) == 0
    new = steps()[4 * STEPS :]
    assert len(new) == 2 * STEPS and all("[2, 3]" in line for line in new)
    assert counts() == {"done": 8}
    expected = undisturbed(plan)
    assert outcome(OUT, make_jobs(read_plan(plan))) == expected
    before = sorted(OUT.rglob("*"))
    assert main([*SWEEP]) == 0 and steps() == []
    assert sorted(OUT.rglob("*")) == before and not list((OUT / "sweep" / "launches").iterdir())


def test_what_fails_is_reported_and_does_not_stop_the_rest(
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = 'settings = { fail_beside = "stone" }\n'
    write_plan(
        f'[[runs]]\nsolvers = "walk.py"\ntasks = "{OTHER}"\n{settings}'
        f'[[runs]]\nsolvers = "walk.py"\ntasks = "{TASK}"\n'
    )
    Path("stone").touch()
    assert main([*SWEEP]) == 1
    reason = "solver walk failed: RuntimeError: there is a file stone"
    captured = capfd.readouterr()
    assert f"walk on {OTHER}, seed 0 failed: {reason}" in " ".join(captured.err.split())
    assert "2 runs: 1 done, 1 failed (out)\n" in captured.out
    assert main(["sweep", "status", "out", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["counts"] == {"done": 1, "running": 0, "failed": 1, "waiting": 0}
    (failed,) = [seed for seed in document["seeds"] if seed["state"] == "failed"]
    assert failed["error"].startswith(reason) and failed["task"] == OTHER
    assert "there is a file stone" in (OUT / failed["log"]).read_text(encoding="utf-8")
    Path("stone").unlink()
    assert main([*SWEEP]) == 1  # not again unasked
    assert counts() == {"done": 1, "failed": 1}
    assert main(["sweep", "retry", "out"]) == 0
    assert counts() == {"done": 2}


def test_a_full_disk_stops_the_sweep_and_not_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even the failure can be noted, so that nothing more is started."""
    write_plan(walks("0:3", 'settings = { fail_beside = "stone" }\ncores = 1000'))
    Path("stone").touch()

    def fail(path: Path, document: Any) -> None:
        if path.parent.name == "failures":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_json(path, document)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "write_json", fail)
        assert main([*SWEEP]) == FULL_DISK_CODE
    assert "No space left on device" in capfd.readouterr().err
    assert counts() == {"waiting": 6}
    assert len(list((OUT / "sweep" / "logs").iterdir())) == 1


def test_cancel_stops_a_driver_and_status_tells_how_far_it_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_plan(walks("0", "cores = 1000\nsettings = { seconds = 5.1 }"))
    driver = start(*SWEEP)
    wait_for((OUT / "sweep" / "plans" / "plan.json").exists, driver)
    wait_for(lambda: any(seed.progress for seed in read_status(OUT).seeds), driver)
    assert main(["sweep", "status", "out"]) == 0
    said = capfd.readouterr().out
    assert said.startswith("2 runs: 0 done, 1 running, 0 failed, 1 waiting\n")
    assert f"walk    {TASK}" in said and " %" in said
    assert main(["sweep", "cancel", "out"]) == 0
    assert capfd.readouterr().out == "asked to stop: 1 driver\n"
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1 and "2 runs: 2 waiting" in said
    assert main(["sweep", "cancel", "out"]) == 0
    assert capfd.readouterr().out == "asked to stop: 0 drivers\n"


def test_a_solver_that_changed_since_is_not_run_at_the_old_address() -> None:
    plan = write_plan(walks("0"))
    job = make_jobs(read_plan(plan))[0]
    with Path("walk.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert jobs.execute(OUT, job, lambda: jobs.Stop.no) == jobs.Outcome.failed
    jobs.write_plan(OUT, "plan", {}, [job])
    (seed,) = read_status(OUT).seeds
    assert seed.error is not None and "has changed since the sweep was planned" in seed.error
    assert not (OUT / job.folder).exists()


def test_the_longest_jobs_begin_first() -> None:
    plan = write_plan(
        walks("0")
        + walks("0:2", "transitions = 1200\nseeds_per_batch = 2\n")
        + '[[runs]]\nsolvers = "em"\ntransitions = 1000000\n'
        + 'tasks = "HalfCheetahVel-n100-k5-v0"\n'
    )
    made = make_jobs(read_plan(plan))
    record(made[0], seconds=1.0)
    board = [job for job in made if job.solver_name != "walk"]  # hours, by the suite's records

    def titles(found: list[Job]) -> list[str]:
        return [job.title for job in found]

    assert titles(longest_first(made, read_costs(OUT, made))) == titles(
        [
            *(job for job in made if job.tasks == (OTHER,)),  # of unknown length
            *board,
            made[2],  # ten times the transitions, two seeds
            made[0],
        ]
    )


def record(job: Job, seconds: float) -> None:
    """As if the first seed of a job had taken so long."""
    directory = job.directory(OUT, job.tasks[0], job.seeds[0])
    directory.mkdir(parents=True)
    document = {"wall_seconds": seconds, "seeds_together": 1, "transitions": 120}
    write_json(directory / "result.json", document)
