"""Running statistics of observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


class RunningStatistics:
    """Mean and variance of each seed's observations so far (Chan et al.'s parallel update)."""

    def __init__(self, n_seeds: int, size: int) -> None:
        """Start with mean 0 and variance 1, as if nothing were normalised."""
        self.mean = np.zeros((n_seeds, size))
        self.variance = np.ones((n_seeds, size))
        self.count = np.zeros((n_seeds, 1))

    def update(self, observations: FloatArray) -> None:
        """Add raw observations (R, B, d)."""
        new = observations.shape[1]
        total = self.count + new
        difference = observations.mean(1) - self.mean
        spread = self.variance * self.count + observations.var(1) * new
        self.variance = (spread + difference**2 * self.count * new / total) / total
        self.mean = self.mean + difference * new / total
        self.count = total

    def scale(self) -> FloatArray:
        """One over the standard deviation, (R, d)."""
        return np.asarray(1.0 / (np.sqrt(self.variance) + 1e-5))
