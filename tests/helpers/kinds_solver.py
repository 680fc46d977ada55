"""A solver for tests: trains nothing, and gives solutions of the shapes that honest ones have.

It runs as a file of its own, as anyone's solver would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from stable_baselines3 import DQN, PPO
from torch import Tensor, nn

from rmdp_bench import OnlineTask, Policy, RunLog, Solution, Task, export_policy
from tests.helpers.toys import LinearPolicy, ScriptedPolicy, constant, discrete_graph, make_graph

CONTROLLERS = {
    "CartPole": [0.1, 0.5, 1.0, 1.0],
    "MountainCar": [0.0, 1.0],
}
"""Environment -> weights of an observation, whose sign is the direction of a good push."""


@dataclass(frozen=True)
class Config:
    """Settings."""

    kind: str = "linear"
    """Of the policies."""

    n_policies: int = 0
    """Offline; 0: the task's budget."""

    mixed: bool = False
    """Whether agents are served by several policies."""


class Scored:
    """The action with the greatest of some scores, in NumPy and in ONNX."""

    def __init__(self, weights: NDArray[Any]) -> None:
        self.weights = weights.astype(np.float32)

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        products = observations.astype(np.float32)[:, :, np.newaxis] * self.weights
        choices: NDArray[Any] = products.sum(axis=1).argmax(axis=1)
        return choices

    def to_onnx(self) -> bytes:
        nodes = [
            helper.make_node("MatMul", ["observation", "weights"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["action"], axis=1, keepdims=0),
        ]
        outputs: dict[str, tuple[int, list[Any]]] = {"action": (TensorProto.INT64, ["E"])}
        return make_graph(nodes, outputs=outputs, tensors=[constant("weights", self.weights)])


class Drawn(nn.Module):
    """Actions as if drawn, by a function of the observation that mixes its bits."""

    def __init__(self, weights: NDArray[Any]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))
        self.phases = nn.Parameter(40.0 * torch.rand(weights.shape))

    def forward(self, observation: Tensor) -> Tensor:
        """Scores (E, n) with Gumbel's noise."""
        noise = torch.frac(100.0 * torch.sin(observation @ self.phases).abs()).clamp(1e-3, 0.999)
        scores: Tensor = observation @ self.weights - (-noise.log()).log()
        return scores


class Normalised(nn.Module):
    """Layers that know what they have seen in training, or look at one observation as a whole."""

    def __init__(self, n_observations: int, n_outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(n_observations),
            nn.Linear(n_observations, 16),
            nn.LayerNorm(16),
            nn.GELU(),
            nn.Linear(16, n_outputs),
        )
        self.layers(2.0 + 3.0 * torch.randn(64, n_observations))

    def forward(self, observation: Tensor) -> Tensor:
        """Scores or numbers (E, a)."""
        outputs: Tensor = self.layers(observation)
        return outputs


class Recurrent(nn.Module):
    """A recurrent network that reads the numbers of one observation one after the other."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.cell = nn.GRU(1, 8, batch_first=True)
        self.head = nn.Linear(8, n_outputs)

    def forward(self, observation: Tensor) -> Tensor:
        """Scores (E, n)."""
        states, _ = self.cell(observation.unsqueeze(2))
        scores: Tensor = self.head(states[:, -1])
        return scores


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """A solution for each seed."""
    return [_make(task, config, np.random.default_rng(seed)) for seed in seeds]


def _make(task: Task, config: Config, rng: np.random.Generator) -> Solution:
    if isinstance(task, OnlineTask):
        n, k = task.n_agents, task.n_representatives
    else:
        n = len(task.eval_agents)
        k = config.n_policies or n
    assignment = np.eye(k)[rng.permutation(n) % k]
    if config.mixed:
        assignment = rng.dirichlet(np.ones(k), size=n)
    if config.kind == "shared":
        actions = rng.integers(4, size=k).tolist()
        policies: list[Policy] = [ScriptedPolicy([action]) for action in actions]
        return Solution(policies, assignment, lambda: discrete_graph(actions))
    torch.manual_seed(int(rng.integers(2**31)))
    env = gym.make(task.env_id)
    try:
        return Solution([_policy(task, config.kind, env, rng) for _ in range(k)], assignment)
    finally:
        env.close()


def _policy(task: Task, kind: str, env: gym.Env[Any, Any], rng: np.random.Generator) -> Policy:
    observations, actions = env.observation_space, env.action_space
    n_observations = int(np.prod(observations.shape or ()))
    n_outputs = int(np.prod(actions.shape or ()))
    discrete = isinstance(actions, gym.spaces.Discrete)
    if isinstance(actions, gym.spaces.Discrete):
        n_outputs = int(actions.n)
    weights = rng.normal(size=(n_observations, n_outputs))
    if kind == "controller":
        name = next(name for name in CONTROLLERS if name in task.env_id)
        push = np.array(CONTROLLERS[name]) * rng.uniform(0.5, 1.5, size=n_observations)
        return Scored(np.linspace(-1.0, 1.0, n_outputs) * push[:, np.newaxis])
    if kind == "linear":
        return Scored(weights) if discrete else LinearPolicy(weights)
    if kind in ("PPO", "DQN"):
        model: Any = (PPO if kind == "PPO" else DQN)(
            "MlpPolicy", env, seed=int(rng.integers(2**31)), policy_kwargs={"net_arch": [16]}
        )
        if kind == "PPO":  # whose actions are next to nothing before it is trained
            model.policy.action_net.weight.data *= 100.0
        return export_policy(model, observations, actions)
    module: nn.Module = Recurrent(n_outputs)
    if kind == "drawn":
        module = Drawn(weights)
    elif kind == "normalised":
        module = Normalised(n_observations, n_outputs)
    return export_policy(module, observations, actions)
