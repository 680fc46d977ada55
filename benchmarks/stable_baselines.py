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
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import rmdp_bench
from benchmarks.common import make_parser, positive, report
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


def measure_all(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each result and its row."""
    for env_id in ENV_IDS:
        agents = [None] if rmdp_bench.get_environment(env_id).heterogeneous else [None, 3]
        for n_envs in arguments.num_envs:
            for agent in agents:
                how = (arguments.transitions, arguments.repetitions)
                result = measure(env_id, n_envs, agent, *how)
                yield result, format_row(result)


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed under Stable-Baselines3.", "3 repetitions of 640 transitions")
    parser.add_argument("--num-envs", nargs="+", type=positive, default=[1, 8, 64])
    parser.add_argument("--repetitions", type=positive, default=7)
    parser.add_argument("--transitions", type=positive, default=3840, help="of each repetition")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.transitions = 3, 640
    report("stable_baselines", arguments.out, HEADER, measure_all(arguments))


if __name__ == "__main__":
    main()
