"""A complete solver in one file, in NumPy: hill climbing over linear policies.

    rmdp-bench run ./examples/my_solver.py ResourceGathering-n25-k3-v0 --transitions 100000

Copy it and change what you like.  The suite needs three things of a solver: a dataclass `Config`, a
function `solve` that returns one `Solution` per seed, and, if its policies are to be saved, their
files, which `export_policy` makes of a module of torch.  It does not have to be good: this one is
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench import RunLog, Solution, Task, export_policy


@dataclass(frozen=True)
class Config:
    """Settings; `--set step_size=0.1` changes one."""

    step_size: float = 1.0
    """Standard deviation of a change of the weights, which begin with one of 1."""


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
        """The same as a file: a layer of torch with these weights, which `export_policy` writes."""
        import torch  # to save, not to learn

        size, width = self.weights.shape
        layer = torch.nn.utils.skip_init(torch.nn.Linear, size, width, bias=False)
        layer.weight.data = torch.from_numpy(self.weights.T.copy())
        observations = gym.spaces.Box(-np.inf, np.inf, (size,))
        return export_policy(layer, observations, self.space).to_onnx()


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Change all k policies of a seed at once, and keep the change if welfare does not fall."""
    k = task.n_representatives
    n_envs = len(seeds) * k  # one episode per policy
    envs: Any = gym.make_vec(task.env_id, num_envs=n_envs, **task.env_kwargs)
    space = envs.single_action_space
    width = space.n if isinstance(space, gym.spaces.Discrete) else space.shape[0]
    shape = (k, envs.single_observation_space.shape[0], width)
    generators = [np.random.default_rng(seed) for seed in seeds]
    best = [generator.normal(size=shape).astype(np.float32) for generator in generators]
    best_returns = [np.full((task.n_agents, k), -np.inf) for _ in seeds]
    observations, _ = envs.reset(seed=[seed * 1000 + j for seed in seeds for j in range(k)])

    def solution(r: int) -> Solution:
        assignment = np.eye(k)[best_returns[r].argmax(axis=1)]  # each to its best policy
        return Solution([LinearPolicy(weights, space) for weights in best[r]], assignment)

    transitions = 0
    longest = task.max_episode_steps
    while transitions + longest <= task.transitions:  # what exceeds the budget is refused
        tried = [
            (weights + config.step_size * generator.normal(size=shape)).astype(np.float32)
            for weights, generator in zip(best, generators, strict=True)
        ]
        policies = [LinearPolicy(weights, space) for seed in tried for weights in seed]
        returns, steps, observations = play(envs, policies, observations, task.n_agents)
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
    envs: Any, policies: Sequence[LinearPolicy], observations: NDArray[Any], n_agents: int
) -> tuple[NDArray[np.float64], int, NDArray[Any]]:
    """One episode per row: returns (rows, n), the most steps of a row, the next observations."""
    running = np.ones(len(policies), np.bool_)
    returns = np.zeros((len(policies), n_agents))
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
