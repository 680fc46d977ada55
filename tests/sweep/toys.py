"""What tests of sweeps share: a plan, drivers in processes of their own, and what runs gave."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench.runs import make_request, read_curve, read_result, run
from rmdp_bench.sweep import Job, make_jobs, read_plan

TASK, OTHER = "ResourceGathering-n25-k3-v0", "ResourceGathering-n25-k2-v0"
WALK = Path(__file__).with_name("walk.py")
PROGRAM = "import sys; from rmdp_bench_command import main; sys.exit(main())"
OUT = Path("out")


def write_plan(text: str, name: str = "plan") -> Path:
    """A plan in the current folder, with the solver beside it."""
    shutil.copy(WALK, "walk.py")
    path = Path(f"{name}.toml")
    path.write_text(f"transitions = 120\nepisodes = 2\n{text}", encoding="utf-8")
    return path


def walks(seeds: str, more: str = "") -> str:
    """Runs of the walk on two tasks."""
    return (
        f'[[runs]]\nsolvers = "walk.py"\ntasks = ["{TASK}", "{OTHER}"]\nseeds = "{seeds}"\n{more}\n'
    )


def start(*words: str) -> subprocess.Popen[str]:
    """`rmdp-bench` in a process of its own."""
    command = [sys.executable, "-P", "-c", PROGRAM, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def job_processes(out: Path) -> dict[int, int]:
    """Processes of a sweep's jobs -> their parents; as Linux tells them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            runs = b"rmdp_bench.runs.child" in words and str(out).encode() in b" ".join(words)
            if runs and (path / "cwd").resolve() == Path.cwd().resolve():
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(path.name)] = int(parent)
    return found


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is so; a process must not end before."""
    until = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def outcome(out: Path, jobs: list[Job]) -> dict[tuple[str, ...], Any]:
    """What every seed gave: scores, bytes of the policies, arrays, and the curve without times."""
    found: dict[tuple[str, ...], Any] = {}
    for job in jobs:
        for task in job.tasks:
            for seed in job.seeds:
                folder = job.directory(out, task, seed)
                result, curve = (
                    read_result(folder / "result.json"),
                    read_curve(folder / "curve.csv"),
                )
                with np.load(folder / "welfare.npz") as arrays:
                    welfare = {name: arrays[name].tolist() for name in arrays.files}
                files = sorted((folder / "solution").iterdir())
                del curve["wall_seconds"]
                found[job.folder, task, str(seed)] = (
                    *(result.agent_returns, result.config, welfare, repr(curve)),
                    {path.name: path.read_bytes() for path in files},
                )
    return found


def undisturbed(plan: Path) -> dict[tuple[str, ...], Any]:
    """The same of runs that this process makes, one after the other."""
    jobs = make_jobs(read_plan(plan))
    for job in jobs:
        for task in job.tasks:
            request = make_request(
                job.solver,
                task,
                seeds=job.seeds,
                out=Path("undisturbed") / job.folder,
                settings=job.settings,
                transitions=job.transitions,
                n_episodes=job.episodes,
            )
            run(request)
    Path("steps").unlink(missing_ok=True)
    return outcome(Path("undisturbed"), jobs)


def count_starts(out: Path) -> int:
    """How many processes of jobs were started in all."""
    logs = (out / "sweep" / "logs").iterdir()
    return sum(path.read_text(encoding="utf-8").count("$ rmdp-bench run") for path in logs)


def steps() -> list[str]:
    """All steps that were made, one line for each."""
    path = Path("steps")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
