"""Whether a claim agrees with what its policies reach when they are played again.

A claim is the mean over E episodes that everybody knows. The same policies are played on

  - these E episodes again (the replay): the same policies give the same returns, up to rounding,
    which another processor may do differently and which after many steps may turn into another
    course of the episode;
  - H held-out episodes, which start from seeds that nobody could know.

How far two means of E and H episodes of the same policies lie apart by chance is known without
assumptions about their distribution (some policies fall over once in fifty episodes): all E + H
episodes played are divided at random into E and H again, N_PARTITIONS times. A distance is refused
if it is larger than the largest among these, widened by a quarter, plus TOLERANCE. By symmetry an
honest claim exceeds the largest of N_PARTITIONS with a chance of at most 1 in N_PARTITIONS + 1,
before the quarter. Three distances are compared with this:

  1. replay: claimed and replayed social welfare, here at most MAX_REPLAY_DISTANCE as well, so that
     a claim raised by 3 points does not hide among episodes that differ much;
  2. profile: the mean absolute distance of claimed and replayed entries of the welfare matrix,
     which tells policies that were swapped for others with the same welfare;
  3. held-out: claimed social welfare and that of the held-out episodes. It refuses policies that
     are good on the known episodes only. Measured value ± the allowed distance is the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

N_PARTITIONS = 10_000
WIDENING = 1.25
TOLERANCE = 0.01
"""Percent."""
MAX_REPLAY_DISTANCE = 2.0
"""Percent of social welfare."""
_CHUNK_BYTES = 2**27


@dataclass(frozen=True)
class Comparison:
    """A claim beside what was played; social welfare, percent.

    Attributes:
        claimed: in the record.
        replayed: on the episodes of the record.
        measured: on held-out episodes.
        allowed: distance between two means of E and H episodes that chance explains.
        profile: mean absolute distance of claimed and replayed entries.
        allowed_profile: that chance explains.
    """

    claimed: float
    replayed: float
    measured: float
    allowed: float
    profile: float
    allowed_profile: float

    @property
    def interval(self) -> tuple[float, float]:
        """In which the claim has to be."""
        return self.measured - self.allowed, self.measured + self.allowed

    def check(self) -> None:
        """Refuse a claim that chance does not explain.

        Raises:
            ValueError: names the values.
        """
        allowed = min(self.allowed, MAX_REPLAY_DISTANCE)
        if abs(self.claimed - self.replayed) > allowed:
            raise ValueError(
                f"claimed is a social welfare of {self.claimed:.3f}, but its policies reach "
                f"{self.replayed:.3f} on the same episodes (allowed is a distance of {allowed:.3f})"
            )
        if self.profile > self.allowed_profile:
            raise ValueError(
                f"the returns of the agents are not those of these policies: they differ by "
                f"{self.profile:.3f} on average (allowed is {self.allowed_profile:.3f})"
            )
        low, high = self.interval
        if not low <= self.claimed <= high:
            raise ValueError(
                f"claimed is a social welfare of {self.claimed:.3f}, but its policies reach "
                f"{self.measured:.3f} on held-out episodes, interval {low:.3f} to {high:.3f}"
            )


def compare(
    claimed: float,
    claimed_entries: FloatArray,
    weights: FloatArray,
    replayed: FloatArray,
    held_out: FloatArray,
) -> Comparison:
    """Set a claim beside two sets of episodes.

    Args:
        claimed: social welfare.
        claimed_entries: (m,) that it is the weighted sum of: welfare matrix, or agents' returns.
        weights: (m,).
        replayed: (E, m) of the episodes of the claim.
        held_out: (H, m) of held-out episodes.
    """
    pooled = np.concatenate((replayed, held_out))
    n_known = len(replayed)
    rng = np.random.default_rng(0)
    chunk = max(1, min(N_PARTITIONS, _CHUNK_BYTES // (8 * pooled.shape[1])))
    distance = profile = 0.0
    for start in range(0, N_PARTITIONS, chunk):
        size = min(chunk, N_PARTITIONS - start)
        order = rng.random((size, len(pooled))).argsort(axis=1)
        share = np.where(order < n_known, 1.0 / n_known, -1.0 / len(held_out))
        gaps = share @ pooled  # (size, m) mean of the one part minus mean of the other
        distance = max(distance, float(np.abs(gaps @ weights).max()))
        profile = max(profile, float(np.abs(gaps).mean(axis=1).max()))
    return Comparison(
        claimed=claimed,
        replayed=float(replayed.mean(axis=0) @ weights),
        measured=float(held_out.mean(axis=0) @ weights),
        allowed=WIDENING * distance + TOLERANCE,
        profile=float(np.abs(claimed_entries - replayed.mean(axis=0)).mean()),
        allowed_profile=WIDENING * profile + TOLERANCE,
    )
