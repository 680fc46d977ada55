"""Vector environments from outside, as solvers and the harness use those of the suite.

Whatever autoreset mode a vector environment has, here an episode that ends is followed by the next
one in the same step: `final_obs` and `final_info` have what ended, observations are of the reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rmdp_bench.envs.core.base import WorldVectorEnv
from rmdp_bench.envs.core.counting import add_steps, is_counting
from rmdp_bench.envs.represent import BatchedRepresented
from rmdp_bench.messages import shown

Array = NDArray[Any]
WorldFactory: TypeAlias = Callable[[int], VectorEnv[Any, Any, Any]]
"""Number of copies E -> what `represent` gives for a vector environment with so many."""


class OutsideWorlds:
    """A represented vector environment, for solvers.

    Attributes:
        num_envs: E.
        population: the agents.
        single_observation_space, single_action_space: of one copy.
    """

    def __init__(self, envs: Any, name: str, max_episode_steps: int) -> None:
        """Wrap what a factory has made.

        Args:
            envs: what `represent` gives for a vector environment.
            name: what messages call the world.
            max_episode_steps: after which an episode has to be over.

        Raises:
            ValueError: not such an environment, or observations that networks cannot read.
        """
        if not isinstance(envs, BatchedRepresented):
            raise ValueError(
                f"{name}: make gives {shown(envs)}, expected rmdp_bench.represent(envs, "
                "population, outcome) of a vector environment"
            )
        space = envs.single_observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                f"{name}: observations are of {space}, expected Box (d,); wrap the world with "
                "gymnasium.wrappers.FlattenObservation"
            )
        inner = envs.unwrapped
        self._mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        is_standard = isinstance(inner, SyncVectorEnv | AsyncVectorEnv | WorldVectorEnv)
        if self._mode is AutoresetMode.NEXT_STEP and not is_standard:
            raise ValueError(
                f"{name}: {type(inner).__name__} resets episodes in the step after their end; "
                "make it with gymnasium.make_vec(..., vectorization_mode='sync'), or with the "
                "autoreset mode SAME_STEP"
            )
        self.num_envs, self.population = envs.num_envs, envs.population
        self.single_observation_space: gym.spaces.Box = space
        self.single_action_space = envs.single_action_space
        self._envs, self._name, self._limit = envs, name, max_episode_steps
        self._elapsed = np.zeros(envs.num_envs, np.int64)
        # Worlds of the suite count their own steps.
        self._counts = is_counting() and not isinstance(inner, WorldVectorEnv)

    def reset(
        self, *, seed: Sequence[int] | None = None, options: None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Reset all copies, each from its own seed; there are no options."""
        del options
        self._elapsed[:] = 0
        observations, infos = self._envs.reset(seed=None if seed is None else list(seed))
        return np.asarray(observations), infos

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step all copies; those whose episode ended are reset as well.

        Raises:
            ValueError: an episode is not over after max_episode_steps.
        """
        following, rewards, terminated, truncated, infos = self._envs.step(actions)
        if self._counts:
            add_steps(self.num_envs)
        self._elapsed += 1
        over = np.asarray(terminated | truncated)
        late = ~over & (self._elapsed >= self._limit)
        if late.any():
            raise ValueError(
                f"{self._name}: an episode goes on after {self._limit} steps, expected its end; "
                "make the world with that max_episode_steps"
            )
        self._elapsed[over] = 0
        following = np.asarray(following)
        if over.any() and self._mode is not AutoresetMode.SAME_STEP:
            following, infos = self._reset_rows(following, over, infos)
        return following, rewards, np.asarray(terminated), np.asarray(truncated), infos

    def _reset_rows(
        self, following: Array, over: Array, infos: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        """Begin the next episode where one ended, and say what that ended with."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(over):
            final_obs[row] = following[row].copy()
        names = ("outcome", "agent_rewards")
        final_info = {name: np.where(over[:, None], infos[name], 0.0) for name in names}
        first, _ = self._envs.reset(options={"reset_mask": over.copy()})
        following = np.where(over[:, None], first, following)
        own: dict[str, Any] = {name: np.where(over[:, None], 0.0, infos[name]) for name in names}
        own |= {"final_obs": final_obs, "_final_obs": over, "final_info": final_info}
        return following, {**infos, **own, "_final_info": over}

    def get_state(self) -> dict[str, Array]:
        """Nothing: worlds from outside begin new episodes when a run goes on."""
        return {}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Leave the worlds as they are."""

    def close(self) -> None:
        """Free what the worlds hold."""
        self._envs.close()
