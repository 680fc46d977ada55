"""Speed of the environments under Stable-Baselines3: the native vector form against DummyVecEnv.

    native  StableBaselinesVecEnv of gym.make_vec(id, num_envs=E)
    dummy   DummyVecEnv of E single forms

Every repetition steps both with the same actions, one after the other, so that they share what else
the machine does. Numbers are medians over repetitions, in transitions per second with observations,
rewards and infos of every copy, and the ratio is the median of the ratios within a repetition.

    python -m benchmarks.stable_baselines [--quick] [--num-envs N ...] [--out DIR]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import rmdp_bench
from benchmarks.common import describe_machine, write_results
from rmdp_bench.stable_baselines import StableBaselinesVecEnv

ENV_IDS = (
    "rmdp/HalfCheetahVel-n100-v0",
    "rmdp/ResourceGathering-n25-v0",
    "rmdp/CartPoleHet-n500-v0",
)
HEADER = ("environment", "num_envs", "reward", "native", "dummy", "native / dummy")


def make_both(env_id: str, n_envs: int, agent: int | None) -> dict[str, VecEnv]:
    """The two, with one agent's reward, or with the environment's own."""

    def make_single() -> gym.Env[Any, Any]:
        env = gym.make(env_id)
        return env if agent is None else rmdp_bench.AgentReward(env, agent)

    envs: Any = gym.make_vec(env_id, num_envs=n_envs, autoreset_mode="SAME_STEP")
    if agent is not None:
        envs = rmdp_bench.BatchedAgentReward(envs, agent)
    return {
        "native": StableBaselinesVecEnv(envs),
        "dummy": DummyVecEnv([make_single] * n_envs),
    }


def measure(
    env_id: str, n_envs: int, agent: int | None, transitions: int, repetitions: int
) -> dict[str, Any]:
    """Transitions per second of both, and the median of their ratios."""
    both = make_both(env_id, n_envs, agent)
    space = both["native"].action_space
    batched = gym.vector.utils.batch_space(space, n_envs)
    batched.seed(0)
    n_steps = max(10, transitions // n_envs)
    speeds: dict[str, list[float]] = {name: [] for name in both}
    for envs in both.values():
        envs.seed(0)
        envs.reset()
    for repetition in range(repetitions + 1):  # the first one warms up
        actions = [batched.sample() for _ in range(n_steps)]
        for name, envs in both.items():
            start = time.perf_counter()
            for action in actions:
                envs.step(action)
            seconds = time.perf_counter() - start
            if repetition > 0:
                speeds[name].append(n_steps * n_envs / seconds)
    for envs in both.values():
        envs.close()
    native, dummy = np.array(speeds["native"]), np.array(speeds["dummy"])
    return {
        "env_id": env_id,
        "num_envs": n_envs,
        "reward": "mean or own" if agent is None else f"agent {agent}",
        "transitions_per_second": {name: float(np.median(row)) for name, row in speeds.items()},
        "native_ratio": float(np.median(native / dummy)),
    }


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    speed = result["transitions_per_second"]
    return [
        *(result["env_id"], str(result["num_envs"]), result["reward"]),
        *(f"{speed[name]:,.0f}" for name in ("native", "dummy")),
        f"{result['native_ratio']:.2f}",
    ]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed under Stable-Baselines3.")
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--transitions", type=int, default=3840, help="per repetition and method")
    parser.add_argument("--quick", action="store_true", help="3 repetitions of 640 transitions")
    parser.add_argument("--out", type=Path, help="also write stable_baselines.json and .md there")
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
    print(" | ".join(HEADER))
    results, rows = [], []
    for env_id in ENV_IDS:
        agents = [None] if rmdp_bench.get_environment(env_id).heterogeneous else [None, 3]
        for n_envs in arguments.num_envs:
            for agent in agents:
                results.append(
                    measure(env_id, n_envs, agent, arguments.transitions, arguments.repetitions)
                )
                rows.append(format_row(results[-1]))
                print(" | ".join(rows[-1]), flush=True)
    if arguments.out:
        write_results(arguments.out, "stable_baselines", machine, results, HEADER, rows)


if __name__ == "__main__":
    main()
