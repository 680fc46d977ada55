"""The dense training reward of `universal`, for the learner of k representatives.

An agent's own reward is zero beyond the width of its target, so that a policy which serves nobody
of its group has nothing to climb. With `training_reward="dense"` representatives are trained on

    (1 - shaping) own + shaping dense,    dense = peak max(0, 1 - |target - speed| / (reach width)),

for every agent, with `shaping` linear over the run and `speed` the outcome's moving average over
`smoothing` steps of an episode: what `universal.conditions.TargetConditions` gives one condition.
Settings are the same ones (`settings.dense_rewards`), robot by robot. Only actors and critics see
it: the table of returns (equation 10) that E-steps and reviews read, and all scores, are of own
rewards, as `universal` chooses its conditions by own returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.population import TargetPopulation

FloatArray = npt.NDArray[np.floating[Any]]


class DenseReward:
    """What every agent (or node) receives in training.

    Attributes:
        smoothed: (R k, E, m) moving average of the outcome in every copy of the world.
    """

    def __init__(
        self, population: TargetPopulation, config: PPOConfig, rows: tuple[int, int]
    ) -> None:
        """Start all averages at zero, as `universal` does in every episode.

        Args:
            population: whose targets count.
            config: reach, smoothing and reward_scale.
            rows: R k and E.
        """
        self.config = config
        reach = config.shaping_reach * population.width
        self.dense = TargetPopulation(population.targets, reach, population.peak)
        self.smoothed = np.zeros((*rows, population.outcome_size))

    def mix(
        self, own: Tensor, outcomes: FloatArray, ended: npt.NDArray[np.bool_], shaping: float
    ) -> Tensor:
        """Training rewards (R k, T, E, n).

        Args:
            own: (R k, T, E, n) own rewards, times reward_scale.
            outcomes: (R k, T, E, m) after each step.
            ended: (R k, T, E) whether the episode ended there.
            shaping: share of the dense reward.
        """
        smoothed = np.empty_like(outcomes)
        for t in range(outcomes.shape[1]):
            self.smoothed += (outcomes[:, t] - self.smoothed) / self.config.smoothing
            smoothed[:, t] = self.smoothed
            self.smoothed[ended[:, t]] = 0.0
        mixed = torch.empty_like(own)
        for policy, rewards in enumerate(own):  # one at a time, for the memory
            dense = self.dense.rewards(torch.from_numpy(smoothed[policy]).to(own.device))
            mixed[policy] = rewards + shaping * (dense * self.config.reward_scale - rewards)
        return mixed
