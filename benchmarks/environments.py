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

    python -m benchmarks.environments [--quick] [--robots NAME ...] [--num-envs N ...] [--out DIR]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from numpy.typing import NDArray

import rmdp_bench
from benchmarks.common import make_bare_loop, make_parser, positive, report
from rmdp_bench.envs.robots import ROBOTS, get_robot

METHODS = ("native", "sync", "async", "bare")
HEADER = ("robot", "num_envs", *METHODS, *(f"native / {m}" for m in METHODS if m != "native"))

ENV_IDS = {
    entry.kwargs["robot"]: entry.id
    for entry in rmdp_bench.ENVIRONMENTS
    if entry.n_agents == 100 and "robot" in entry.kwargs
}


def make_settings(robot: str) -> dict[str, Any]:
    """Keywords under which the robot never terminates."""
    can_fall = "terminate_when_unhealthy" in get_robot(robot).settings
    return {"terminate_when_unhealthy": False} if can_fall else {}


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
    # Processes of the asynchronous form may not have imported the package.
    singles = [lambda: gym.make(f"rmdp_bench:{env_id}", **settings)] * n_envs
    envs |= {"sync": SyncVectorEnv(singles), "async": AsyncVectorEnv(singles)}
    batch, run_bare = make_bare_loop(robot, n_envs)
    loops = {"bare": run_bare}
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


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    speed, ratio = result["transitions_per_second"], result["native_ratio"]
    return [
        *(result["robot"], str(result["num_envs"])),
        *(f"{speed[name]:,.0f}" for name in METHODS),
        *(f"{ratio[name]:.2f}" for name in METHODS if name != "native"),
    ]


def measure_all(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each result and its row."""
    for robot in arguments.robots:
        for n_envs in arguments.num_envs:
            result = measure(robot, n_envs, arguments.transitions, arguments.repetitions)
            yield result, format_row(result)


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed of the velocity environments.", "3 repetitions of 640 transitions")
    parser.add_argument("--robots", nargs="+", choices=list(ROBOTS), default=list(ROBOTS))
    parser.add_argument("--num-envs", nargs="+", type=positive, default=[1, 8, 64, 256])
    parser.add_argument("--repetitions", type=positive, default=7)
    parser.add_argument("--transitions", type=positive, default=1920, help="of each repetition")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.transitions = 3, 640
    report("environments", arguments.out, HEADER, measure_all(arguments))


if __name__ == "__main__":
    main()
