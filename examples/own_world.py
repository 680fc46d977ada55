"""A world of your own, and the task in it: rmdp-bench run em examples/own_world.py --seeds 0:3."""

from typing import Any

import gymnasium as gym
import numpy as np

import rmdp_bench

DAY = 96
"""Steps of an episode, a quarter of an hour each."""


class Heater(gym.Env[Any, Any]):
    """A room that cools, and a heater with three levels."""

    observation_space = gym.spaces.Box(-2.0, 2.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def _observe(self) -> Any:
        angle = 2 * np.pi * self.quarter / DAY
        scaled = [(self.warmth - 20) / 10, np.sin(angle), np.cos(angle)]
        return np.clip(scaled, -2, 2).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin at midnight."""
        super().reset(seed=seed)
        self.quarter, self.warmth = 0, 15 + 5 * self.np_random.random()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Heat for a quarter of an hour."""
        outside = 8 - 6 * np.cos(2 * np.pi * self.quarter / DAY)
        self.warmth += 0.04 * (outside - self.warmth) + 0.5 * float(action)
        self.quarter += 1
        return self._observe(), 0.0, False, self.quarter == DAY, {"warmth": self.warmth}


def warmth(observations: Any, actions: Any, rewards: Any, following: Any, infos: Any) -> Any:
    """What people care about: (E, 1)."""
    return infos["warmth"][:, None]


def make(n_envs: int) -> Any:
    """So many rooms, for forty people who like it between 16 and 24 degrees."""
    people = rmdp_bench.TargetPopulation(np.linspace(16, 24, 40), width=3.0, peak=100 / DAY)
    return rmdp_bench.represent(gym.vector.SyncVectorEnv([Heater] * n_envs), people, warmth)


def make_task() -> rmdp_bench.OnlineTask:
    """Three programmes for the heater."""
    return rmdp_bench.make_task("heater", make, 3, transitions=200_000, max_episode_steps=DAY)
