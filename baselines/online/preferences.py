"""What a policy is conditioned on: targets on a line, or a group's mean weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rmdp_bench import LinearPopulation, TargetPopulation

FloatArray = npt.NDArray[np.floating[Any]]


class TargetConditions:
    """A condition is a target (B, 1), drawn uniformly between the least and the greatest."""

    def __init__(
        self, population: TargetPopulation, segment: int, shaping: float, shaping_reach: float
    ) -> None:
        self.segment, self.shaping = segment, shaping
        self.width, self.reach = population.width, shaping_reach * population.width
        self.low, self.high = float(population.targets.min()), float(population.targets.max())
        n_centres = 21
        self.centres = np.linspace(self.low, self.high, n_centres)
        self.spacing = (self.high - self.low) / (n_centres - 1)
        self.n_features = n_centres + 1

    def draw(self, size: int, generator: np.random.Generator) -> FloatArray:
        return generator.uniform(self.low, self.high, (size, 1))

    def features(self, conditions: FloatArray) -> npt.NDArray[np.float32]:
        z = (conditions - self.centres) / self.spacing
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        line = (conditions - middle) / half
        return np.concatenate([np.exp(-0.5 * z * z), line], axis=1).astype(np.float32)

    def rewards(self, outcomes: FloatArray, conditions: FloatArray) -> FloatArray:
        distance = np.abs(outcomes[:, 0] - conditions[:, 0])
        exact = np.maximum(1.0 - distance / self.width, 0.0)
        dense = np.maximum(1.0 - distance / self.reach, 0.0)
        return (1.0 - self.shaping) * exact + self.shaping * dense
