"""Speed of the velocity environments: native vector form against three alternatives.

    native  gym.make_vec(id, num_envs=E)
    sync    gymnasium.vector.SyncVectorEnv of E single forms
    async   gymnasium.vector.AsyncVectorEnv of E single forms, one process each
    bare    a loop that only writes the controls of a mujoco.batch.Batch and steps it: the ceiling

Every repetition steps all of them with the same actions, one after the other, so that they share
what else the machine does; numbers are medians over repetitions, in transitions per second (frame
skip included), and ratios are medians of the ratios within a repetition.  Robots do not terminate
here, and the bare loop starts each repetition in the native form's state, so that both do the same
physics; truncations and their resets are in the three other numbers.

    python benchmarks/environments.py [--quick] [--robots hopper ...] [--num-envs 64 ...] [--json F]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from mujoco.batch import Batch
from numpy.typing import NDArray

import rmdp_bench
from rmdp_bench.cores import usable_cores
from rmdp_bench.envs.robots import ROBOTS, get_robot, load_model
from rmdp_bench.results.system import cpu_model

MAX_PROCESSES = 64
"""Above so many environments AsyncVectorEnv is left out: each is a process with its own memory."""

ENV_IDS = {
    entry.kwargs["robot"]: entry.id
    for entry in rmdp_bench.ENVIRONMENTS
    if entry.kwargs.get("n_agents") == 100
}


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, load, and versions."""
    return {
        "processor": cpu_model(),
        "cores": usable_cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("mujoco", "gymnasium", "numpy")},
    }


def make_settings(robot: str) -> dict[str, Any]:
    """Keywords under which the robot never terminates."""
    can_fall = "terminate_when_unhealthy" in get_robot(robot).settings
    return {"terminate_when_unhealthy": False} if can_fall else {}


def make_bare_loop(robot: str, batch: Batch) -> Callable[[NDArray[Any]], None]:
    """A function that steps a bare batch through actions (T, E, ...)."""
    frame_skip, controls = get_robot(robot).frame_skip, batch.bind("ctrl")

    def run(actions: NDArray[Any]) -> None:
        for action in actions:
            controls[:] = action
            batch.step(nstep=frame_skip)

    return run


def make_env_loop(env: Any) -> Callable[[NDArray[Any]], None]:
    """A function that steps a vector environment through actions (T, E, ...)."""
    env.reset(seed=0)

    def run(actions: NDArray[Any]) -> None:
        for action in actions:
            env.step(action)

    return run


def measure(robot: str, n_envs: int, transitions: int, repetitions: int) -> dict[str, Any]:
    """Transitions per second of every method, a list of one number per repetition."""
    env_id, settings = ENV_IDS[robot], make_settings(robot)
    envs: dict[str, Any] = {"native": gym.make_vec(env_id, n_envs, **settings)}
    singles = [lambda: gym.make(env_id, **settings)] * n_envs
    envs["sync"] = SyncVectorEnv(singles)
    if n_envs <= MAX_PROCESSES:
        envs["async"] = AsyncVectorEnv(singles)
    batch = Batch(load_model(get_robot(robot)), n_envs, min(usable_cores(), n_envs))
    loops = {"bare": make_bare_loop(robot, batch)}
    loops |= {name: make_env_loop(env) for name, env in envs.items()}
    rng = np.random.default_rng(0)
    n_steps = max(10, transitions // n_envs)
    shape = (n_steps, *envs["native"].action_space.shape)
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for repetition in range(repetitions + 1):  # the first one warms up
        actions = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        batch.state[:] = envs["native"].get_state()["physics"]
        for name, run in loops.items():
            start = time.perf_counter()
            run(actions)
            seconds = time.perf_counter() - start
            if repetition > 0:
                speeds[name].append(n_steps * n_envs / seconds)
    for env in envs.values():
        env.close()
    return summarize(robot, n_envs, speeds)


def summarize(robot: str, n_envs: int, speeds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and the native form's speed relative to each other one's."""
    native = np.array(speeds["native"])
    return {
        "robot": robot,
        "num_envs": n_envs,
        "transitions_per_second": {name: float(np.median(row)) for name, row in speeds.items()},
        "native_ratio": {
            name: float(np.median(native / np.array(row)))
            for name, row in speeds.items()
            if name != "native"
        },
    }


def format_row(result: dict[str, Any]) -> str:
    """One line of the table."""
    speed, ratio = result["transitions_per_second"], result["native_ratio"]
    cells = [f"{result['robot']:<13}", f"{result['num_envs']:>4}"]
    for name in ("native", "sync", "async", "bare"):
        cells.append(f"{speed[name]:>9,.0f}" if name in speed else f"{'-':>9}")
    for name in ("bare", "sync", "async"):
        cells.append(f"{ratio[name]:>12.2f}" if name in ratio else f"{'-':>12}")
    return " ".join(cells)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of the velocity environments.")
    parser.add_argument("--robots", nargs="+", choices=list(ROBOTS), default=list(ROBOTS))
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--transitions", type=int, default=1920, help="per method and repetition")
    parser.add_argument("--quick", action="store_true", help="3 repetitions of 640 transitions")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.transitions = 3, 640
    if min(arguments.repetitions, arguments.transitions, *arguments.num_envs) < 1:
        parser.error("--repetitions, --transitions and --num-envs are integers >= 1")
    return arguments


def main() -> None:
    """Measure, print a row as soon as it is known, and write the file."""
    arguments = parse_arguments()
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print("transitions per second, and native's speed relative to the others'\n")
    speeds = " ".join(f"{title:>9}" for title in ("native", "sync", "async", "bare"))
    ratios = " ".join(f"{'native/' + title:>12}" for title in ("bare", "sync", "async"))
    print(f"{'robot':<13}    E {speeds} {ratios}")
    results = []
    for robot in arguments.robots:
        for n_envs in arguments.num_envs:
            result = measure(robot, n_envs, arguments.transitions, arguments.repetitions)
            results.append(result)
            print(format_row(result), flush=True)
    if arguments.json:
        temporary = arguments.json.with_suffix(".tmp")
        temporary.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
        temporary.replace(arguments.json)


if __name__ == "__main__":
    main()
