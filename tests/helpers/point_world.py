"""A world small enough to be solved in seconds: a point that moves along a line.

Two groups of agents want it at two places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.core.base import RepresentedEnv, RepresentedVectorEnv, RepresentedWorld
from rmdp_bench.population import Population, TargetPopulation
from rmdp_bench.tasks import OnlineTask, get_online_task

ENV_ID = "tests/Point-n8-v0"
N_STEPS = 20
TARGETS = np.array([-0.62, -0.6, -0.6, -0.58, 0.58, 0.6, 0.6, 0.62])
"""The best two policies stand at -0.6 and 0.6."""
AGENTS = TargetPopulation(TARGETS, width=0.6, peak=100 / N_STEPS)


class PointWorld(RepresentedWorld):
    """The position moves by up to 0.3 in a step; it is observed, and is the outcome."""

    metadata = {"render_modes": []}

    def __init__(self, n_envs: int, population: Population = AGENTS) -> None:
        self.n_envs = n_envs
        self.population = population
        self.observation_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float64)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.outcome_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float64)
        self.position = np.zeros((n_envs, 1))

    def reset(self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> None:
        for row, generator in zip(rows, generators, strict=True):
            self.position[row] = generator.uniform(-0.1, 0.1)

    def step(
        self, rows: NDArray[np.int64], actions: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self.position[rows] = np.clip(self.position[rows] + 0.3 * actions, -2.0, 2.0)
        return self.position[rows].copy(), np.zeros(len(rows), np.bool_)

    def observe(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.position[rows].copy()

    def get_state(self) -> dict[str, NDArray[Any]]:
        return {"position": self.position.copy()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.position[:] = state["position"]


class PointEnv(RepresentedEnv):
    def __init__(self, population: Population = AGENTS) -> None:
        super().__init__(PointWorld(1, population))


class PointVectorEnv(RepresentedVectorEnv):
    def __init__(
        self,
        num_envs: int,
        max_episode_steps: int,
        population: Population = AGENTS,
        **kwargs: Any,
    ) -> None:
        world = PointWorld(num_envs, population)
        super().__init__(world, max_episode_steps=max_episode_steps, **kwargs)


def point_task(transitions: int, n_representatives: int = 2) -> OnlineTask:
    """A task in the point world, registered with Gymnasium on first use."""
    if ENV_ID not in gym.registry:
        gym.register(
            ENV_ID,
            entry_point="tests.helpers.point_world:PointEnv",
            vector_entry_point="tests.helpers.point_world:PointVectorEnv",
            max_episode_steps=N_STEPS,
        )
    return dataclasses.replace(
        get_online_task("HopperVel-n100-k2-v0"),
        id=f"Point-n8-k{n_representatives}-v0",
        env_id=ENV_ID,
        n_agents=len(TARGETS),
        agents=AGENTS,
        n_representatives=n_representatives,
        transitions=transitions,
        max_episode_steps=N_STEPS,
    )
