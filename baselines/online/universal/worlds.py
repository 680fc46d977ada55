"""Copies of a world in each of which a policy follows a condition of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from baselines.common import streams
from baselines.common.statistics import RunningStatistics
from baselines.online.universal.conditions import make_conditions
from baselines.online.universal.settings import ConditionedConfig
from rmdp_bench import OnlineTask

FloatArray = npt.NDArray[np.floating[Any]]
_ROWS = ("observations", "current", "left", "smoothed")
_STATISTICS = ("mean", "variance", "count")
_NEVER = np.iinfo(np.int64).max


class Step(NamedTuple):
    """What a step of E copies gives."""

    rewards: FloatArray
    """(E,) for training, before reward_scale."""
    ended: npt.NDArray[np.bool_]
    """(E,) whether the condition was followed to its end."""
    cut: npt.NDArray[np.intp]
    """(B,) rows that ended but would have gone on: their value follows."""
    cut_inputs: npt.NDArray[np.float32]
    """(B, d + f) what the networks read there, of the condition that ended."""
    outcomes: FloatArray
    """(E, m)"""


class ConditionedWorlds:
    """E copies of the world.

    Attributes:
        envs: the vector environment.
        conditions: what the policy is conditioned on.
        current: (E, p) the condition of each copy.
        observations: (E, d) raw.
        statistics: of the raw observations.
        random: draws conditions, and what else training needs.
    """

    def __init__(
        self, task: OnlineTask, config: ConditionedConfig, seed: int, budgets: Sequence[int]
    ) -> None:
        """Start every copy, from seeds below those that are kept for evaluation.

        Args:
            task: names the world.
            config: settings.
            seed: of everything random.
            budgets: numbers of conditions that will be chosen.
        """
        self.config, n_envs = config, config.n_envs
        envs: Any = task.make(n_envs, agent_rewards=False)
        self.envs = envs
        self.conditions = make_conditions(envs.population, config, budgets)
        self.random = np.random.default_rng([seed, streams.Universal.TRAINING])
        env_seeds = (
            np.random.SeedSequence([seed, streams.Universal.WORLDS]).generate_state(n_envs) >> 1
        )
        self.observations = np.asarray(envs.reset(seed=[int(s) for s in env_seeds])[0])
        self.statistics = RunningStatistics(1, self.observations.shape[1])
        self.current = self.conditions.draw(n_envs, self.random)
        self.segment = self.conditions.segment or _NEVER
        # Copies switch at different times, so that every batch sees many conditions.
        self.left = self.random.integers(1, self.segment, n_envs, endpoint=True)
        self.smoothed = np.zeros((n_envs, envs.population.outcome_size))

    @property
    def input_size(self) -> int:
        """Numbers d + f that the networks read."""
        return int(self.observations.shape[1]) + self.conditions.n_features

    def inputs(self, observations: FloatArray, conditions: FloatArray) -> npt.NDArray[np.float32]:
        """What the networks read: (B, d + f) from raw observations (B, d), conditions (B, p)."""
        if self.config.normalize_observations:
            observations = (observations - self.statistics.mean[0]) * self.statistics.scale()[0]
            bound = self.config.observation_clip
            observations = observations.clip(-bound, bound)
        parts = (observations.astype(np.float32), self.conditions.features(conditions))
        return np.concatenate(parts, axis=1)

    def step(self, actions: npt.NDArray[Any], shaping: float) -> Step:
        """Step all copies; those whose episode or segment is over get a new condition."""
        self.observations, _, terminated, truncated, info = self.envs.step(actions)
        over = terminated | truncated
        outcome, last = info["outcome"], self.observations
        if over.any():
            outcome = np.where(over[:, None], info["final_info"]["outcome"], outcome)
            last = last.copy()
            last[over] = np.stack(list(info["final_obs"][over]))
        self.smoothed += (outcome - self.smoothed) / self.config.smoothing
        rewards = self.conditions.rewards(outcome, self.smoothed, self.current, shaping)
        self.smoothed[over] = 0.0
        self.left -= 1
        ended = over | (self.left == 0)
        goes_on = ended & ~(over if not self.config.bootstrap_time_limits else terminated)
        cut, new = np.flatnonzero(goes_on), np.flatnonzero(ended)
        cut_inputs = self.inputs(last[cut], self.current[cut])
        if new.size:
            self.current[new] = self.conditions.draw(new.size, self.random)
            self.left[new] = self.segment
        return Step(rewards, ended, cut, cut_inputs, outcome)

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything but `random` that acting on needs to continue bit for bit."""
        arrays = {f"env.{name}": array for name, array in self.envs.get_state().items()}
        arrays |= {name: getattr(self.statistics, name)[0] for name in _STATISTICS}
        if self.conditions.elites is not None:
            arrays |= self.conditions.elites.get_state()
        return arrays | {name: getattr(self, name).copy() for name in _ROWS}

    def set_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned."""
        names = list(self.envs.get_state())
        self.envs.set_state({name: arrays[f"env.{name}"] for name in names})
        for name in _STATISTICS:
            setattr(self.statistics, name, arrays[name][None].copy())
        if self.conditions.elites is not None:
            self.conditions.elites.set_state(arrays)
        for name in _ROWS if names else ():  # else these worlds begin new episodes
            setattr(self, name, arrays[name].copy())
