"""A complete solver in one file, without torch: hill climbing over linear policies.

    rmdp-bench run ./examples/my_solver.py ResourceGathering-n25-k3-v0 --transitions 100000

Copy it and change what you like.  The suite needs three things of a solver: a dataclass `Config`, a
function `solve` that returns one `Solution` per seed, and, if its policies are to be saved, their
ONNX graphs.  It does not have to be good: this one is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rmdp_bench import RunLog, Solution, Task


@dataclass(frozen=True)
class Config:
    """Settings; `--set step_size=0.1` changes one."""

    step_size: float = 0.3
    """Standard deviation of a change of the weights."""


class LinearPolicy:
    """scores = observation @ weights; an action is the largest score, or the clipped scores."""

    def __init__(self, weights: NDArray[np.float32], space: gym.Space[Any]) -> None:
        """Take weights (d, a) for an action space."""
        self.weights = weights
        self.space = space

    def reset(self, n_envs: int) -> None:
        """Nothing to do: it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions for observations (E, d)."""
        scores = observations.astype(np.float32) @ self.weights
        actions: NDArray[Any] = (
            np.clip(scores, self.space.low, self.space.high)
            if isinstance(self.space, gym.spaces.Box)
            else np.argmax(scores, axis=1)
        )
        return actions

    def to_onnx(self) -> bytes:
        """The same as a graph from "observation" float32 (E, d) to "action"."""
        tensors = {"weights": self.weights}
        nodes = [helper.make_node("MatMul", ["observation", "weights"], ["scores"])]
        if isinstance(self.space, gym.spaces.Box):
            tensors |= {"low": self.space.low, "high": self.space.high}
            nodes.append(helper.make_node("Max", ["scores", "low"], ["raised"]))
            nodes.append(helper.make_node("Min", ["raised", "high"], ["action"]))
            action = helper.make_tensor_value_info("action", TensorProto.FLOAT, ["E", "a"])
        else:
            nodes.append(helper.make_node("ArgMax", ["scores"], ["action"], axis=1, keepdims=0))
            action = helper.make_tensor_value_info("action", TensorProto.INT64, ["E"])
        observation = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["E", "d"])
        initial = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
        graph = helper.make_graph(nodes, "linear", [observation], [action], initial)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=onnx.IR_VERSION_2023_5_5
        )
        serialised: bytes = model.SerializeToString()
        return serialised


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Change all k policies of a seed at once, and keep the change if welfare does not fall."""
    k = task.n_representatives
    envs: Any = gym.make_vec(task.env_id, num_envs=len(seeds) * k)  # one episode per policy
    space = envs.single_action_space
    width = space.n if isinstance(space, gym.spaces.Discrete) else space.shape[0]
    shape = (k, envs.single_observation_space.shape[0], width)
    generators = [np.random.default_rng(seed) for seed in seeds]
    best = [np.zeros(shape, np.float32) for _ in seeds]
    best_returns = [np.full((task.n_agents, k), -np.inf) for _ in seeds]
    observations, _ = envs.reset(seed=[seed * 1000 + j for seed in seeds for j in range(k)])

    def solution(r: int) -> Solution:
        assignment = np.eye(k)[best_returns[r].argmax(axis=1)]  # each to its best policy
        return Solution([LinearPolicy(weights, space) for weights in best[r]], assignment)

    transitions = 0
    while transitions < task.transitions:
        tried = [
            (weights + config.step_size * generator.normal(size=shape)).astype(np.float32)
            for weights, generator in zip(best, generators, strict=True)
        ]
        policies = [LinearPolicy(weights, space) for seed in tried for weights in seed]
        returns, steps, observations = play(envs, policies, observations)
        transitions += steps
        for r in range(len(seeds)):
            new = returns[r * k : (r + 1) * k].T  # (n, k)
            if new.max(axis=1).mean() >= best_returns[r].max(axis=1).mean():
                best[r], best_returns[r] = tried[r], new
        welfare = [float(matrix.max(axis=1).mean()) for matrix in best_returns]
        log.progress(transitions, {"train_social_welfare": welfare})
        if log.evaluation_due(transitions):
            log.evaluate(transitions, [solution(r) for r in range(len(seeds))])
    envs.close()
    return [solution(r) for r in range(len(seeds))]


def play(
    envs: Any, policies: Sequence[LinearPolicy], observations: NDArray[Any]
) -> tuple[NDArray[np.float64], int, NDArray[Any]]:
    """One episode per row: returns (rows, n), the most steps of a row, the next observations."""
    running = np.ones(len(policies), np.bool_)
    returns = np.zeros((len(policies), envs.unwrapped.population.n_agents))
    steps = 0
    while running.any():
        actions = np.concatenate(
            [policy.act(row[None]) for policy, row in zip(policies, observations, strict=True)]
        )
        observations, _, terminated, truncated, infos = envs.step(actions)
        returns[running] += infos["agent_rewards"][running]
        running &= ~(terminated | truncated)
        steps += 1
    observations, _ = envs.reset()
    return returns, steps, observations
