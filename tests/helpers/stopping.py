"""Runs in processes of their own that are stopped, and what they leave."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench.datasets import DatasetEntry, building, get_dataset
from tests.helpers.checkout import ROOT
from tests.helpers.commands import contents
from tests.helpers.dataset_toys import CART_POLE, HOPPER, small

TASK = "ResourceGathering-n25-k3-v0"

COMMAND = "import sys; from rmdp_bench_command import main; sys.exit(main())"

WALK = """
import time
from dataclasses import dataclass
from pathlib import Path
import gymnasium as gym
import numpy as np
from rmdp_bench import Interrupted, Solution
from tests.helpers.toys import ScriptedPolicy, discrete_graph

@dataclass(frozen=True)
class Config:
    steps: int = 12

def solve(task, config, seeds, device, log):
    '''A random walk through real worlds; it waits for a signal while the file `hold` is there.'''
    k = task.n_representatives
    envs = gym.make_vec(task.env_id, num_envs=len(seeds) * k, autoreset_mode="SameStep")
    envs.reset(seed=[int(seed) * k + j for seed in seeds for j in range(k)])
    generators = [np.random.default_rng(seed) for seed in seeds]
    walk, iteration = np.zeros((len(seeds), task.n_agents, k)), 0
    resumed = log.load_checkpoint()
    if resumed is not None:
        arrays, states = resumed
        walk, iteration = arrays["walk"], states[0]["iteration"]
        for generator, state in zip(generators, states):
            generator.bit_generator.state = state["generator"]
        shapes = {name: array.shape for name, array in envs.get_state().items()}
        envs.set_state({n: arrays["env." + n].reshape(s) for n, s in shapes.items()})

    def solutions():
        policies = [ScriptedPolicy([1]) for _ in range(k)]
        graph = lambda: discrete_graph([1] * k)
        return [Solution(policies, np.eye(k)[own.argmax(1)], graph) for own in walk]

    while iteration < config.steps:
        iteration += 1
        for own, generator in zip(walk, generators):
            own += generator.normal(size=own.shape)
        moves = np.concatenate([generator.integers(4, size=k) for generator in generators])
        walk += envs.step(moves)[1].reshape(len(seeds), 1, k)
        transitions = iteration * task.transitions // config.steps
        log.progress(transitions, {"train_social_welfare": [float(own.mean()) for own in walk]})
        if log.evaluation_due(transitions):
            log.evaluate(transitions, solutions())
        if iteration == 5 and Path("hold").exists():
            Path("ready").touch()
            while not log.stop_requested or Path("slow").exists():
                time.sleep(0.01)
        if log.checkpoint_due():
            state = {"env." + name: array for name, array in envs.get_state().items()}
            rows = {n: a.reshape(len(seeds), -1, *a.shape[1:]) for n, a in state.items()}
            states = [
                {"iteration": iteration, "generator": generator.bit_generator.state}
                for generator in generators
            ]
            log.save_checkpoint(transitions, {"walk": walk, **rows}, states)
            if log.stop_requested:
                raise Interrupted
    return solutions()
"""


def start(arguments: Sequence[str], code: str = COMMAND, **options: Any) -> subprocess.Popen[str]:
    """A command, or other code, in a process of its own, whose signals are as usual."""
    usual = (
        "import signal\nfor s in ('SIGTERM', 'SIGHUP', 'SIGUSR1'):\n"
        "    signal.signal(getattr(signal, s), signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", options.pop("prelude", usual) + code, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
        text=True,
        **pipes | options,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.01)


def start_walk(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Two seeds that wait for a signal, and have made five iterations when this returns."""
    Path("walk.py").write_text(WALK)
    Path("hold").touch()
    Path("ready").unlink(missing_ok=True)
    process = start(["run", "walk.py", TASK, "--seeds", "0:2", *arguments], **options)
    wait_for(Path("ready").exists, process)
    Path("hold").unlink()
    return process


def said_of_signal(process: subprocess.Popen[str]) -> str:
    """The next line that a command says about a signal; a slow one tells its progress too."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("SIG"):
            return line.removesuffix("\n")
    raise AssertionError("the command has ended")


def outcome(out: str) -> list[Any]:
    """All that two seeds leave, but clocks and memory."""
    found: list[Any] = []
    for seed in range(2):
        folder = Path(out) / TASK / "walk" / f"seed-{seed}"
        record = json.loads((folder / "result.json").read_text())
        for name in ("wall_seconds", "train_seconds", "peak_memory_mib", "energy_joules"):
            del record[name]
        rows = [line.split(",") for line in (folder / "curve.csv").read_text().splitlines()]
        clock = rows[0].index("wall_seconds")
        found += [record, [row[:clock] + row[clock + 1 :] for row in rows]]
        with np.load(folder / "welfare.npz") as arrays:
            found.append({name: array.tolist() for name, array in arrays.items()})
        found.append(contents(folder / "solution"))
    return found


def wait_in_build() -> list[Any]:
    """Stands for a long collection of data, which looks whether the others have been stopped."""
    Path(f"building-{os.getpid()}").touch()
    while True:
        time.sleep(0.05)
        if "stop" in building._worker and building._worker["stop"].is_set():
            raise building._Stopped


def slow_entries() -> list[DatasetEntry]:
    entries = [small(get_dataset(CART_POLE)), small(get_dataset(HOPPER))]
    return [dataclasses.replace(entry, load_policies=wait_in_build) for entry in entries]
