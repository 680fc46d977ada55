"""A submission from start to end in NumPy: evolution strategies over linear policies.

    rmdp-bench run examples/evolution_strategies.py ResourceGathering-n25-k3-v0 --seeds 0:3
    rmdp-bench submit runs --name my-es --out leaderboards/submissions --author "A. Name" \
        --method "evolution strategies" --licence MIT --online-evaluations 0
    rmdp-bench verify leaderboards/submissions/my-es --full

The weights of all k policies of a seed move along random directions, weighted by the ranks of the
welfare found there (Salimans et al. 2017, arXiv 1703.03864). For tasks with discrete actions.
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
    """Settings; `--set sigma=0.5` changes one."""

    n_directions: int = 32
    """Tried in every update, each forwards and backwards."""
    sigma: float = 0.5
    """Standard deviation of a direction."""
    step_size: float = 1.0
    """Of an update."""


@dataclass(frozen=True)
class Linear:
    """action = argmax(observation @ weights), weights (d, a)."""

    weights: NDArray[np.float32]

    def reset(self, n_envs: int) -> None:
        """It has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E,) for observations (E, d)."""
        return np.asarray((observations.astype(np.float32) @ self.weights).argmax(axis=1))

    def to_onnx(self) -> bytes:
        """The same as a file: a layer of torch with these weights, which `export_policy` writes."""
        import torch  # to save, not to learn

        size, n_actions = self.weights.shape
        layer = torch.nn.utils.skip_init(torch.nn.Linear, size, n_actions, bias=False)
        layer.weight.data = torch.from_numpy(self.weights.T.copy())
        spaces = gym.spaces.Box(-np.inf, np.inf, (size,)), gym.spaces.Discrete(n_actions)
        return export_policy(layer, *spaces).to_onnx()


def check(task: Task, config: Config) -> None:
    """An update must fit into the budget."""
    if task.transitions < 2 * config.n_directions * task.max_episode_steps:
        raise ValueError(f"transitions is {task.transitions}, too few for an update")


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """One seed after the other; every agent is assigned to the policy that is best for it."""
    k, n_tried = task.n_representatives, 2 * config.n_directions
    n_envs = n_tried * k  # an episode of each policy
    envs: Any = gym.make_vec(task.env_id, num_envs=n_envs, **task.env_kwargs)
    shape = (k, envs.single_observation_space.shape[0], int(envs.single_action_space.n))
    solutions = []
    for seed in seeds:
        rng, mean, transitions, best = np.random.default_rng(seed), np.zeros(shape), 0, -np.inf
        while transitions + n_tried * task.max_episode_steps <= task.transitions:
            half = rng.normal(size=(config.n_directions, *shape))
            noise = np.concatenate([half, -half])
            tried = (mean + config.sigma * noise).astype(np.float32)
            matrices, steps = play(envs, tried.reshape(-1, *shape[1:]), seed + transitions)
            matrices = matrices.reshape(n_tried, k, task.n_agents)
            welfare = matrices.max(axis=1).mean(axis=1)
            if welfare.max() > best:
                best, winner = welfare.max(), int(welfare.argmax())
                policies = [Linear(weights) for weights in tried[winner]]
                solution = Solution(policies, np.eye(k)[matrices[winner].argmax(axis=0)])
            ranks = welfare.argsort().argsort() / (n_tried - 1) - 0.5
            mean += config.step_size * np.tensordot(ranks, noise, 1) / n_tried
            transitions += n_tried * steps
        log.progress(transitions, {})
        solutions.append(solution)
    envs.close()
    return solutions


def play(envs: Any, weights: NDArray[Any], seed: int) -> tuple[NDArray[np.float64], int]:
    """One episode of each of P policies (P, d, a): returns (P, n), and the most steps of one."""
    observations, infos = envs.reset(seed=seed)
    returns, running, steps = np.zeros_like(infos["agent_rewards"]), np.ones(len(weights), bool), 0
    while running.any():
        actions = np.einsum("pd,pda->pa", observations, weights).argmax(axis=1)
        observations, _, terminated, truncated, infos = envs.step(actions)
        returns += infos["agent_rewards"] * running[:, None]
        running &= ~(terminated | truncated)
        steps += 1
    return returns, steps
