"""A native vector environment as Stable-Baselines3 wants it; needs stable-baselines3.

    from rmdp_bench.stable_baselines import StableBaselinesVecEnv

    envs = gym.make_vec("rmdp/HalfCheetahVel-n100-v0", num_envs=16, autoreset_mode="SAME_STEP")
    envs = rmdp_bench.BatchedAgentReward(envs, [3, 17])      # or without it: the mean over agents
    model = PPO("MlpPolicy", VecMonitor(StableBaselinesVecEnv(envs)))

It is what `DummyVecEnv` makes of single environments, step for step, and faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rmdp_bench.envs.core.base import WorldVectorEnv
from rmdp_bench.messages import shown

try:
    from stable_baselines3.common.vec_env import VecEnv
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "StableBaselinesVecEnv needs the module stable_baselines3: pip install stable-baselines3",
        name=error.name,
    ) from error


class StableBaselinesVecEnv(VecEnv):
    """A `VecEnv` over a native vector environment.

    An info has what the single environment's has, "TimeLimit.truncated", and at an episode's end
    "terminal_observation". `get_attr`, `set_attr` and `env_method` are those of the vector
    environment's `get_attr`, `set_attr` and `call`.

    Attributes:
        envs: the vector environment, wrapped or not.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        """Take an environment from `gym.make_vec(id, num_envs, autoreset_mode="SAME_STEP")`.

        Raises:
            ValueError: not a native vector environment of rmdp_bench, or of another mode.
        """
        native: Any = getattr(envs, "unwrapped", envs)
        if not isinstance(native, WorldVectorEnv):
            raise ValueError(f"envs is {shown(envs)}, expected gym.make_vec of an id of rmdp_bench")
        if native.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"envs has the autoreset mode {native.autoreset_mode.name}, expected SAME_STEP: "
                'gym.make_vec(id, num_envs, autoreset_mode="SAME_STEP")'
            )
        self.envs, self._native = envs, native
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> NDArray[Any]:
        """Start an episode in every copy, with what `seed` and `set_options` gave."""
        names = {name for options in self._options for name in options}
        if any(names != set(options) for options in self._options):
            raise ValueError(f"options are {self._options}, expected the same names for every copy")
        options = {name: [own[name] for own in self._options] for name in names}
        seeds: Any = self._seeds
        observations, infos = self.envs.reset(seed=seeds, options=options or None)
        self.reset_infos = _rows(infos)
        self._reset_seeds()
        self._reset_options()
        return np.asarray(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions (E, ...) for `step_wait`."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step every copy; those whose episode has ended show the first observation of the next."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self._actions)
        rows = _rows(infos)
        for row, ended, cut in zip(rows, terminated.tolist(), truncated.tolist(), strict=True):
            row["TimeLimit.truncated"] = cut and not ended
        if "final_info" in infos:
            last = _rows(infos["final_info"])
            for e in np.flatnonzero(infos["_final_info"]).tolist():
                limit = rows[e].pop("TimeLimit.truncated")
                self.reset_infos[e] = rows[e]
                rows[e] = last[e] | {
                    "TimeLimit.truncated": limit,
                    "terminal_observation": infos["final_obs"][e],
                }
        return observations, rewards.astype(np.float32), terminated | truncated, rows

    def close(self) -> None:
        """Close the vector environment."""
        self.envs.close()

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """A frame of every copy."""
        frames: Any = self.envs.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of some copies."""
        values = self._native.get_attr(attr_name)
        return [values[e] for e in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of some copies; the others keep theirs, None if they have none."""
        chosen = set(self._get_indices(indices))
        own = self.get_attr(attr_name) if self.has_attr(attr_name) else [None] * self.num_envs
        values = [value if e in chosen else own[e] for e in range(self.num_envs)]
        self._native.set_attr(attr_name, values)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """What a method of some copies returns."""
        values = self._native.call(method_name, *method_args, **method_kwargs)
        return [values[e] for e in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False: copies have no wrappers of their own."""
        return [False for _ in self._get_indices(indices)]


def _rows(infos: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Infos of a vector environment as those of its copies."""
    names = [name for name in infos if f"_{name}" in infos and not name.startswith("final_")]
    rows = zip(*(infos[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]
