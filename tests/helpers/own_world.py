"""A small world of one's own, and its task: a point on a line, stepped left, right or not."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import rmdp_bench
from rmdp_bench import OnlineTask, Population, TargetPopulation

STEPS = 12


class Line(gym.Env[Any, Any]):
    """The place is observed; an episode ends at 5, or after twelve steps."""

    observation_space = gym.spaces.Box(-20.0, 20.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.place = float(self.np_random.integers(-1, 2))
        return np.array([self.place], np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.place += float(action) - 1.0
        return np.array([self.place], np.float32), 0.0, self.place >= 5.0, False, {}


def make_line() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Line(), STEPS)


AGENTS = TargetPopulation(np.array([-3.0, -2.0, 0.0, 2.0, 3.0, 4.0]), width=2.0, peak=100.0 / STEPS)


def place(
    observations: Any, actions: Any, rewards: Any, following: Any, infos: Any
) -> NDArray[Any]:
    """The outcome: where the point is after the step."""
    del observations, actions, rewards, infos
    return np.asarray(following, np.float64)


def make(n_envs: int, mode: str = "NextStep", population: Population = AGENTS) -> Any:
    envs = gym.vector.SyncVectorEnv(
        [make_line] * n_envs, autoreset_mode=gym.vector.AutoresetMode(mode)
    )
    return rmdp_bench.represent(envs, population, place)


def make_task(**changes: Any) -> OnlineTask:
    given: dict[str, Any] = {
        "n_representatives": 2,
        "transitions": 2048,
        "max_episode_steps": STEPS,
        "n_eval_episodes": 4,
    }
    return rmdp_bench.make_task("line", make, **given | changes)
