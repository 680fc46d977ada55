"""Sweeps on Ray, on one node of this machine. `scripts.kill_sweeps ray` has several."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.sweep import make_jobs, on_ray, read_plan, read_status
from tests.sweep.toys import (
    OUT,
    job_processes,
    outcome,
    start,
    undisturbed,
    wait_for,
    walks,
    write_plan,
)
from tests.sweep.walk import STEPS

SWEEP = ("sweep", "plan.toml", "--out", str(OUT), "--launcher", "ray")


def test_without_ray_the_launcher_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    write_plan(walks("0"))
    assert main([*SWEEP]) == 2
    assert "--launcher ray needs Ray: pip install 'rmdp_bench[ray]'" in capfd.readouterr().err
    assert not OUT.exists()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes as on Linux")
def test_killed_jobs_workers_and_drivers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    plan = write_plan(walks("0:2", "seeds_per_batch = 2"))
    expected = undisturbed(plan)
    Path("hold").touch()
    driver = start(*SWEEP)
    wait_for(lambda: len(job_processes(OUT.absolute())) == 2, driver)
    first, second = job_processes(OUT.absolute()).items()
    os.kill(first[0], signal.SIGKILL)  # a job: it is started again where it was
    os.kill(second[1], signal.SIGKILL)  # a worker: Ray runs its task again
    wait_for(lambda: _are_others({first[0], second[0]}), driver)
    driver.kill()
    driver.communicate()
    wait_for(lambda: read_status(OUT).counts["running"] == 0)  # jobs end with what started them
    Path("hold").unlink()
    driver = start(*SWEEP)
    said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    assert outcome(OUT, make_jobs(read_plan(plan))) == expected
    steps = Path("steps").read_text(encoding="utf-8").splitlines()
    assert len(steps) == len(set(steps)) == 2 * STEPS


def _are_others(before: set[int]) -> bool:
    now = set(job_processes(OUT.absolute()))
    return len(now) == 2 and not now & before


def test_ray_takes_no_handler_and_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    handler, seen = signal.getsignal(signal.SIGTERM), []
    with on_ray._as_before():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as `ray.init` does with its own
        seen.append(os.environ["RAY_USAGE_STATS_ENABLED"])
    assert seen == ["0"] and "RAY_USAGE_STATS_ENABLED" not in os.environ
    assert signal.getsignal(signal.SIGTERM) == handler
