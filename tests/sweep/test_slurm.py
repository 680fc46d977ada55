"""Sweeps by submitit, whose local executor is in the place of SLURM: it times jobs out, too."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.sweep import jobs, make_jobs, on_slurm, read_plan, read_status
from tests.sweep.toys import (
    OUT,
    TASK,
    count_starts,
    job_processes,
    outcome,
    steps,
    undisturbed,
    wait_for,
    walks,
    write_plan,
)
from tests.sweep.walk import STEPS

SWEEP = ("sweep", "plan.toml", "--out", str(OUT), "--launcher", "slurm")


def test_without_submitit_the_launcher_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    write_plan(walks("0"))
    assert main([*SWEEP]) == 2
    assert "needs submitit: pip install 'rmdp_bench[slurm]'" in capfd.readouterr().err
    assert not OUT.exists()


def test_jobs_that_run_out_of_time_go_on_from_their_checkpoint() -> None:
    submitit = pytest.importorskip("submitit", reason="needs the extra slurm")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("finds processes as Linux tells them")
    plan = write_plan(f'[[runs]]\nsolvers = "walk.py"\ntasks = "{TASK}"\n')
    expected = undisturbed(plan)
    Path("hold").touch()
    (job,) = make_jobs(read_plan(plan))
    launch = jobs.Launch.start(OUT, {})
    parameters = {"cluster": "local", "timeout_min": 1000}
    (submitted,) = on_slurm.submit(OUT, [job], launch, parameters)
    directory = job.directory(OUT, TASK, 0)
    wait_for(lambda: (directory / ".lock").exists())
    ((process, task),) = job_processes(OUT.absolute()).items()
    for number in (process, task):  # what SLURM sends to all before it ends a job
        os.kill(number, signal.SIGUSR2)
    wait_for(lambda: list(directory.glob("checkpoint/*.npz")))
    Path("hold").unlink()
    assert submitted.result() == "done"
    assert isinstance(submitted, submitit.LocalJob)
    assert outcome(OUT, [job]) == expected
    assert len(steps()) == len(set(steps())) == STEPS
    assert count_starts(OUT) == 2


def test_a_sweep_is_submitted_and_what_is_wrong_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    row = f'[[runs]]\nsolvers = "walk.py"\ntasks = "{TASK}"\n'
    write_plan(f'{row}[slurm]\ncluster = "local"\ntimeout_minutes = 3\n')
    assert main([*SWEEP]) == 2
    assert "cannot submit to local: " in capfd.readouterr().err
    write_plan(f'{row}[slurm]\ncluster = "local"\ntimeout_min = 10\n')
    assert main([*SWEEP]) == 0
    assert "submitted 1 jobs; `rmdp-bench sweep status out`" in capfd.readouterr().out
    wait_for(lambda: read_status(OUT).counts["done"] == 1)


def test_jobs_that_want_as_much_share_an_array() -> None:
    plan = write_plan(walks("0:2") + walks("2:4", "cores = 2"))
    groups = on_slurm._alike(make_jobs(read_plan(plan)))
    assert {needs: len(own) for needs, own in groups.items()} == {(1, False): 4, (2, False): 4}
