"""What a sweep costs beside its jobs, and how long a large one takes to plan and to look at.

A driver runs jobs of some seconds on two cores, while a hand-written loop, `xargs -P 2` over the
commands that `sweep --print` gives, runs as many beside it. The jobs wait and do not compute, so
that both have the same machine, whatever else it does.

    python -m benchmarks.sweeps [--quick] [--jobs 40] [--seconds 30] [--planned 10000] [--out DIR]
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import make_parser, positive, report
from rmdp_bench.sweep import make_jobs, read_plan

TASK = "ResourceGathering-n25-k1-v0"
N_CORES = 2
WAIT = """
import time
from dataclasses import dataclass
import numpy as np
from rmdp_bench import Solution

@dataclass(frozen=True)
class Config:
    seconds: float = 30.0
    number: int = 0

class Home:
    def reset(self, n_envs): pass
    def act(self, observations): return np.ones(len(observations), np.int64)

def solve(task, config, seeds, device, log):
    time.sleep(config.seconds)
    k = task.n_representatives
    return [Solution([Home()] * k, np.eye(k)[np.zeros(task.n_agents, int)]) for _ in seeds]
"""
HEADER = (
    *("what", "jobs", "seconds of each", "sweep s", "processor s", "loop s"),
    "more than the loop",
)


def command(*words: str) -> list[str]:
    """A call of `rmdp-bench`."""
    program = "import sys; from rmdp_bench_command import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", program, *words]


def write_plan(folder: Path, n_jobs: int, seconds: float, n_settings: int = 1) -> Path:
    """A plan of jobs that wait."""
    (folder / "wait.py").write_text(WAIT)
    path = folder / "plan.toml"
    path.write_text(
        f'[[runs]]\nsolvers = "wait.py"\ntasks = "{TASK}"\nseeds = "0:{n_jobs // n_settings}"\n'
        f"episodes = 1\nsettings = {{ seconds = {seconds}, number = {[*range(n_settings)]} }}\n"
    )
    return path


def measure_overhead(n_jobs: int, seconds: float) -> dict[str, Any]:
    """Wall seconds of a sweep and of a loop beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = str(write_plan(folder, n_jobs, seconds))
        printed = subprocess.run(
            command("sweep", plan, "--out", str(folder / "loop"), "--print"),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        program = " ".join(f"'{word}'" for word in command())
        lines = printed.replace("rmdp-bench run", f"{program} run")
        began = time.perf_counter()
        with (folder / "loop.log").open("w") as log, (folder / "sweep.log").open("w") as other:
            loop = subprocess.Popen(
                ["xargs", "-P", str(N_CORES), "-d", "\\n", "-I{}", "sh", "-c", "{}"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
            )
            words = ("sweep", plan, "--out", str(folder / "sweep"), "--cores", str(N_CORES))
            sweep = subprocess.Popen(command(*words), stdout=other, stderr=other)
            assert loop.stdin is not None
            loop.stdin.write(lines)
            loop.stdin.close()
            took = wait_for({"loop": loop, "sweep": sweep}, began)
        for one in took:
            n_done = len(list((folder / one).rglob("result.json")))
            assert n_done == n_jobs, (folder / f"{one}.log").read_text()
    return {"jobs": n_jobs, "seconds_of_each": seconds, **took}


def wait_for(processes: dict[str, subprocess.Popen[Any]], began: float) -> dict[str, float]:
    """Seconds until each has ended."""
    took: dict[str, float] = {}
    while len(took) < len(processes):
        for name, process in processes.items():
            if name not in took and process.poll() is not None:
                took[name] = time.perf_counter() - began
        time.sleep(0.01)
    return took


def measure_size(n_jobs: int) -> dict[str, Any]:
    """Wall seconds of planning, and of the status when half of the runs are done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan, out = (
            write_plan(folder, n_jobs, 0.0, n_settings=max(1, n_jobs // 100)),
            folder / "out",
        )
        jobs = make_jobs(read_plan(plan))
        assert len(jobs) == n_jobs
        first = jobs[0].command(out, TASK, jobs[0].seeds)
        subprocess.run(command(*first), check=True, capture_output=True)
        record = jobs[0].directory(out, TASK, jobs[0].seeds[0]) / "result.json"
        for job in jobs[1 : n_jobs // 2]:
            directory = job.directory(out, TASK, job.seeds[0])
            directory.mkdir(parents=True)
            shutil.copy(record, directory)
        from rmdp_bench.sweep.jobs import write_plan as store

        store(out, "plan", {}, jobs)
        took = {}
        for what, words in {
            "plan": ("sweep", str(plan), "--out", str(out), "--print"),
            "status": ("sweep", "status", str(out), "--json"),
        }.items():
            before, began = processor_seconds(), time.perf_counter()
            subprocess.run(command(*words), check=True, capture_output=True)
            took[what] = time.perf_counter() - began
            took[f"{what} processor"] = processor_seconds() - before
    return {"jobs": n_jobs, **took}


def processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_all(
    n_jobs: int, seconds: float, n_planned: int
) -> Iterator[tuple[dict[str, Any], Sequence[str]]]:
    """The results and their rows."""
    size = measure_size(n_planned)
    for what in ("plan", "status"):
        seconds_of_it, processor = size[what], size[f"{what} processor"]
        result = {"what": what, "jobs": n_planned, "sweep": seconds_of_it, "processor": processor}
        cells = [f"{seconds_of_it:.2f}", f"{processor:.2f}", "–", "–"]
        yield result, [what, f"{n_planned:,}", "–", *cells]
    found = measure_overhead(n_jobs, seconds)
    more = f"{100 * (found['sweep'] / found['loop'] - 1):.1f} %"
    numbers = [f"{found[name]:.1f}" for name in ("sweep", "loop")]
    cells = [f"{seconds:g}", numbers[0], "–", numbers[1], more]
    yield {"what": "run", **found}, ["run", str(n_jobs), *cells]


def main() -> None:
    """Measure, print, and write the files."""
    parser = make_parser("Overhead of sweeps.", "two jobs that hardly wait, twenty planned")
    parser.add_argument("--jobs", type=positive, default=40)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--planned", type=positive, default=10_000)
    arguments = parser.parse_args()
    size = (arguments.jobs, arguments.seconds, arguments.planned)
    report(
        "sweeps", arguments.out, HEADER, measure_all(*((2, 0.1, 20) if arguments.quick else size))
    )


if __name__ == "__main__":
    main()
