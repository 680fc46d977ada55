"""Kill at random what takes part in a sweep of 40 short jobs, and compare with an undisturbed one.

    python -m scripts.kill_sweeps local
    python -m scripts.kill_sweeps ray --nodes 3 --store benchmarks/results/killed_sweeps.json

local: jobs and drivers are killed (SIGKILL). ray: a cluster of several nodes in this machine, of
which workers, whole nodes, the processes of jobs and drivers are killed; a node that is killed is
replaced. A driver that is killed is started again by the same command, as somebody would. At the
end every seed must be there once, and policies, returns and curves, but for their times, must be
those of runs that nobody disturbed, bit for bit. Whoever is killed, and when, depends on --seed and
on the machine.

The jobs are random walks (tests/sweep/walk.py), which learn nothing but have generators, curves
and checkpoints as learners do. Needs Linux: processes are found below /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs.running import is_finished
from rmdp_bench.sweep import make_jobs, read_plan, read_status
from rmdp_bench.sweep.jobs import MAX_KILLED
from rmdp_bench.system import system_record, versions
from tests.sweep.toys import (
    OTHER,
    TASK,
    job_processes,
    outcome,
    start,
    undisturbed,
    write_plan,
)

N_SEEDS, N_JOBS = 80, 40
PLAN = (
    f'seeds = "0:{N_SEEDS // 4}"\nseeds_per_batch = 2\n'
    f'[[runs]]\nsolvers = "walk.py"\ntasks = ["{TASK}", "{OTHER}"]\n'
    "settings = { noise = [0.5, 0.25], seconds = SECONDS }\n"
)
ATTEMPTS = 3
"""To start a cluster: Ray gives up after 30 seconds, which a busy machine misses."""


class Cluster:
    """Nodes of Ray in this machine; the first, on which drivers are, is not killed."""

    def __init__(self, n_nodes: int) -> None:
        """Start them, with a core each."""
        from ray.cluster_utils import Cluster as RayCluster

        os.environ["RAY_worker_niceness"] = "0"  # it is 15, which other work here would starve
        for attempt in range(ATTEMPTS):
            try:
                self._cluster = RayCluster(initialize_head=True, head_node_args={"num_cpus": 1})
                break
            except Exception as error:
                if attempt == ATTEMPTS - 1 or "timed out" not in str(error):
                    raise
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(n_nodes - 1)]
        os.environ["RAY_ADDRESS"] = self._cluster.address

    def kill_node(self, index: int) -> None:
        """Kill one, and put another in its place."""
        self._cluster.remove_node(self._nodes.pop(index % len(self._nodes)), allow_graceful=False)
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def close(self) -> None:
        """End all."""
        self._cluster.shutdown()


def disturb(
    out: Path, cluster: Cluster | None, rng: np.random.Generator, quota: dict[str, int]
) -> tuple[Counter[str], float]:
    """Drive the plan in the current folder to its end; what was killed, and the seconds it took."""
    words = ["sweep", "plan.toml", "--out", str(out), "--launcher", "ray" if cluster else "local"]
    killed: Counter[str] = Counter()
    unlucky: Counter[bytes] = Counter()
    moments = sorted(rng.uniform(0, 0.9 * N_SEEDS, sum(quota.values())))  # by runs that are done
    began, driver = time.monotonic(), start(*words)
    while True:
        try:
            driver.wait(rng.uniform(0.5, 2.0))
        except subprocess.TimeoutExpired:
            pass
        if driver.returncode is not None:
            said = driver.communicate()[0]
            if driver.returncode == 0:
                return killed, time.monotonic() - began
            raise SystemExit(f"the driver ended with {driver.returncode}: {said}")
        left = [kind for kind, number in quota.items() if killed[kind] < number]
        if not left or not (jobs := job_processes(out)):
            continue
        n_done = len(list(out.glob("*/*/*/*/result.json")))
        if n_done < moments[killed.total()]:
            continue
        kind, number = str(rng.choice(left)), int(rng.choice(sorted(jobs)))
        with contextlib.suppress(OSError):  # it has ended just now
            if kind in ("job", "worker"):
                words_of_job = Path(f"/proc/{number}/cmdline").read_bytes()
                unlucky[words_of_job] += 1
                if unlucky[words_of_job] > MAX_KILLED:  # which is a failure, and no bad luck
                    continue
            if kind == "node":
                assert cluster is not None
                cluster.kill_node(int(rng.integers(100)))
            elif kind == "driver":
                driver.kill()
                driver.communicate()
                driver = start(*words)
            else:
                os.kill(number if kind == "job" else jobs[number], signal.SIGKILL)
            killed[kind] += 1
            seconds = time.monotonic() - began
            print(f"{seconds:6.1f} s, {n_done} runs done: killed a {kind}", flush=True)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run both sweeps, and compare."""
    os.chdir(folder)
    plan = write_plan(PLAN.replace("SECONDS", "0.0"))
    expected = undisturbed(plan)
    write_plan(PLAN.replace("SECONDS", str(arguments.seconds)))
    jobs = make_jobs(read_plan(plan))
    assert len(jobs) == N_JOBS
    out = folder / "out"
    quota = {"job": 8, "driver": 2}
    cluster = None
    if arguments.launcher == "ray":
        cluster = Cluster(arguments.nodes)
        quota |= {"worker": 4, "node": 2}
    try:
        killed, seconds = disturb(out, cluster, np.random.default_rng(arguments.seed), quota)
    finally:
        if cluster is not None:
            cluster.close()
    found = outcome(out, jobs)
    steps = Path("steps").read_text(encoding="utf-8").splitlines()
    return {
        "launcher": arguments.launcher,
        "nodes": arguments.nodes if arguments.launcher == "ray" else 1,
        "jobs": len(jobs),
        "runs": len(found),
        "directories": len([p for p in out.rglob("result.json") if is_finished(p.parent)]),
        "killed": dict(killed),
        "seconds": round(seconds, 1),
        "steps_made_twice": len(steps) - len(set(steps)),
        "steps": len(set(steps)),
        "identical": by_setting(found) == by_setting(expected),
        "states": read_status(out).counts,
    }


def by_setting(found: dict[tuple[str, ...], Any]) -> dict[tuple[Any, ...], Any]:
    """What runs gave, by task, seed and noise: the undisturbed ones did not wait for anything."""
    return {(*key[1:], value[1]["noise"]): (value[0], *value[2:]) for key, value in found.items()}


def main() -> None:
    """Measure, print, and store what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("launcher", choices=("local", "ray"))
    parser.add_argument("--nodes", type=int, default=3, help="of the Ray cluster")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed, and when")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each of a job's six steps")
    parser.add_argument("--store", type=Path, help="JSON file that keeps the results")
    arguments = parser.parse_args()
    if arguments.store is not None:
        arguments.store = arguments.store.absolute()
    folder = Path(tempfile.mkdtemp(prefix="kill-sweeps-"))
    before = Path.cwd()
    try:
        result = measure(arguments, folder)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
    print(result)
    if arguments.store is not None:
        document = read_json(arguments.store) if arguments.store.exists() else {"results": {}}
        document["command"] = "python -m scripts.kill_sweeps LAUNCHER"
        document["system"] = system_record("cpu") | {"load_average": round(os.getloadavg()[0], 1)}
        document["versions"] = versions()
        document["results"][arguments.launcher] = result
        write_json(arguments.store, document)
    done = result["states"]["done"] == result["runs"] == result["directories"] == N_SEEDS
    if not (result["identical"] and done):
        sys.exit("the sweep is not as the undisturbed one")


if __name__ == "__main__":
    main()
