"""The measured score of a row, and whether its claim agrees with it.

A row is S seeds of a solver on a task.  Its claim is the mean over S x E records on E episodes that
everybody knows.  The verifier plays

  - H held-out episodes, whose seeds it has drawn for this: their mean is the **measured** score,
    the number that ranks;
  - the E known episodes again (the replay).

All seeds play the same episodes, so their luck is common: what is counted are episodes, each with
its mean over the seeds.  The interval of the measured score is Student's, over the H episodes.  H
grows in rounds until half of it is at most GOOD_HALF_WIDTH or, where that would take more than
the limit, FAIR_HALF_WIDTH.  If not even that is reached, only the lower end of the interval counts.

A claim is compared in two steps, for the row and for each of its seeds:

  1. claim and replay, on the same episodes: the same machine gives the same numbers, up to
     TOLERANCE.  Where rounding differs, an episode may take another course.  What that does is
     measured by playing the known episodes once more with observations and weights that are
     changed in their last bits ("nudged"): if most of them change, they are other draws of the same
     chance.  If not, they are played N_NUDGES times in all: if nothing follows, nothing is allowed;
     if some episodes change, as far as they do.  Where most change, a claim may also be lower by as
     much as one of its episodes counts: what happens once in a hundred episodes, as a robot's fall,
     may be in the claim and in nothing that was played.  That is down to the least welfare that
     the quick check takes for possible; where 0 is no bound, what is left is the comparison of the
     agents' returns, MAX_PROFILE_DISTANCE.  To claim less gains nothing.
  2. replay and measured score: E known and H held-out episodes of honest policies are exchangeable.
     They are divided at random into E and H again; what a share CHANCE of these partitions exceeds
     is allowed.  It tells policies that are good on the known episodes only.

Over a row a bias of all its seeds adds up, and luck averages out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

GOOD_HALF_WIDTH, FAIR_HALF_WIDTH = 0.5, 1.5
"""Of the 95 % interval of a measured score, percent."""
TOLERANCE = 0.05
"""Percent, that is allowed beside what chance explains."""
CHANCE = 5e-4
"""With which an honest row fails one of the comparisons. It is more often where rounds end by what
they have given: one row in 500 of rare falls."""
N_NUDGES = 40
"""How often the known episodes are nudged where that changes few of them: so often that, however
rare it is, rounding changes an episode of the claim and none of these in less than one row of a
hundred."""
MAX_PROFILE_DISTANCE = 5.0
"""Percent: mean distance of claimed and replayed returns of agents, whatever rounding does."""
_N_PARTITIONS = 10_000
_WIDENING = 6.0
"""Standard errors of the change by nudging, where few episodes change: they are all one knows."""


def half_width(welfare: FloatArray) -> float:
    """Half of the 95 % interval of the mean of episodes (H,), H >= 2."""
    n = len(welfare)
    return float(stats.t.ppf(0.975, n - 1) * welfare.std(ddof=1) / math.sqrt(n))


def episodes_wanted(welfare: FloatArray, limit: int) -> int:
    """How many held-out episodes there should be in all, after these (H,); H if they are enough.

    Args:
        welfare: of the episodes so far, means over the seeds.
        limit: of their number.
    """
    reached = half_width(welfare)
    for wanted in (GOOD_HALF_WIDTH, FAIR_HALF_WIDTH):
        if reached <= wanted:
            return len(welfare)
        n = math.ceil(1.1 * len(welfare) * (reached / wanted) ** 2)
        if n <= limit:
            return n
    return max(limit, len(welfare))


@dataclass(frozen=True)
class Distances:
    """How far a claim is from its replay, a replay from the held-out episodes, and what may be.

    Attributes:
        claimed: welfare in the record.
        replayed: on the same episodes.
        measured: on the held-out ones.
        rounding: distance of claimed and replayed that is allowed.
        fall: by which a claim may be lower beside that.
        chance: distance of replayed and measured that is allowed.
        profile: mean distance of claimed and replayed returns of agents, and what is allowed.
    """

    claimed: float
    replayed: float
    measured: float
    rounding: float
    chance: float
    profile: tuple[float, float] = (0.0, 0.0)
    fall: float = 0.0

    @property
    def allowed(self) -> float:
        """Distance of claimed and measured."""
        return self.rounding + self.chance

    def check(self) -> None:
        """Refuse a claim that neither rounding nor chance explains.

        Raises:
            ValueError: names the values.
        """
        is_lower = self.claimed < self.replayed
        rounding = self.rounding + self.fall * is_lower
        if abs(self.claimed - self.replayed) > rounding:
            raise ValueError(
                f"claimed is a social welfare of {self.claimed:.3f}, but its policies reach "
                f"{self.replayed:.3f} on the same episodes (allowed is a distance of "
                f"{rounding:.3f})"
            )
        if abs(self.replayed - self.measured) > self.chance:
            raise ValueError(
                f"claimed is a social welfare of {self.claimed:.3f}, but its policies reach "
                f"{self.measured:.3f} on held-out episodes (chance explains a distance of "
                f"{self.chance:.3f})"
            )
        distance, allowed = self.profile
        if distance > allowed:
            raise ValueError(
                f"the returns of the agents are not those of these policies: they differ by "
                f"{distance:.3f} on average (allowed is {allowed:.3f})"
            )


@dataclass(frozen=True)
class Comparison:
    """A row's claims beside what was played.

    Attributes:
        row: of the means over the seeds.
        seeds: of each seed.
        half_width: of the 95 % interval of the row's measured score.
        n_episodes: held-out, H.
    """

    row: Distances
    seeds: list[Distances]
    half_width: float
    n_episodes: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the measured score."""
        return self.row.measured - self.half_width, self.row.measured + self.half_width

    @property
    def lower_end_only(self) -> bool:
        """Whether the interval is too wide for its middle to count."""
        return self.half_width > FAIR_HALF_WIDTH

    @property
    def score(self) -> float:
        """What ranks."""
        return self.interval[0] if self.lower_end_only else self.row.measured

    def check(self) -> None:
        """Refuse claims that neither rounding nor chance explains.

        Raises:
            ValueError: names the seed, or says that it is all of them, and the values.
        """
        for seed, distances in enumerate(self.seeds):
            try:
                distances.check()
            except ValueError as error:
                raise ValueError(f"seed-{seed}: {error}") from error
        try:
            self.row.check()
        except ValueError as error:
            raise ValueError(f"mean over {len(self.seeds)} seeds: {error}") from error


def is_exact(claimed: Sequence[float], known: FloatArray) -> bool:
    """Whether the replay (S, E) gives the claims (S,), so that rounding explains nothing."""
    return bool((np.abs(np.asarray(claimed) - known.mean(axis=1)) <= TOLERANCE).all())


def rounding_is_chance(known: FloatArray, nudged: FloatArray) -> bool:
    """Whether nudging (S, E) once makes other episodes of most, in the mean over the seeds."""
    return bool(_most_change((nudged - known).mean(axis=0, keepdims=True))[0])


def _most_change(changes: FloatArray) -> NDArray[np.bool_]:
    most: NDArray[np.bool_] = (np.abs(changes) > 1e-6).mean(axis=1) > 0.5
    return most


def compare(
    claimed: Sequence[float],
    known: FloatArray,
    held_out: FloatArray,
    nudged: FloatArray | None = None,
    profiles: Sequence[tuple[float, float]] | None = None,
    *,
    least: float = 0.0,
) -> Comparison:
    """Set the claims of a row beside what its policies reach.

    Args:
        claimed: (S,) social welfare of each seed.
        known: (S, E) of the episodes of the claim, played again.
        held_out: (S, H) of held-out episodes, the same for all seeds.
        nudged: (S, r E) of the known episodes with nudged observations, r times; None: rounding
            explains nothing.
        profiles: (S,) from `compare_profiles`; None: not compared.
        least: welfare that an episode may have (`scores.welfare_range`).
    """
    n_seeds, n_known = known.shape
    with_mean = [np.concatenate((part, part.mean(axis=0, keepdims=True)))
                 for part in (known, held_out)]  # fmt: skip
    pooled = np.concatenate(with_mean, axis=1)  # (S + 1, E + H)
    shares = np.full(n_seeds + 1, CHANCE / n_seeds)
    shares[-1] = CHANCE
    chance = _chance(pooled, n_known, held_out.shape[1], shares) + TOLERANCE
    rounding, falls = np.full(n_seeds + 1, TOLERANCE), np.zeros(n_seeds + 1)
    if nudged is not None:
        changes = nudged - np.tile(known, nudged.shape[1] // n_known)
        changes = np.concatenate((changes, changes.mean(axis=0, keepdims=True)))
        other_draws = _chance(pooled, n_known, n_known, shares)
        # A seed that has not fallen yet may fall elsewhere as the others have.
        alike = (pooled[:-1] - pooled[:-1].mean(axis=1, keepdims=True)).reshape(1, -1)
        other_draws[:-1] = np.maximum(
            other_draws[:-1], _chance(alike, n_known, n_known, shares[:1])
        )
        errors = _WIDENING * np.sqrt((changes**2).mean(axis=1) / n_known)
        most_change = _most_change(changes)
        rounding += np.where(most_change, other_draws, np.minimum(errors, other_draws))
        one_episode = np.maximum(with_mean[0].mean(axis=1) - least, 0.0) / n_known
        one_episode[-1] /= n_seeds
        falls = np.where(most_change, one_episode, 0.0)
    claims = [*claimed, float(np.mean(claimed))]
    own_profiles = [*(profiles or [(0.0, 0.0)] * n_seeds), (0.0, 0.0)]
    distances = [
        Distances(
            claimed=float(claims[s]),
            replayed=float(with_mean[0][s].mean()),
            measured=float(with_mean[1][s].mean()),
            rounding=float(rounding[s]),
            chance=float(chance[s]),
            profile=own_profiles[s],
            fall=float(falls[s]),
        )
        for s in range(n_seeds + 1)
    ]
    return Comparison(
        row=distances[-1],
        seeds=distances[:-1],
        half_width=half_width(with_mean[1][-1]),
        n_episodes=held_out.shape[1],
    )


def _chance(pooled: FloatArray, n_one: int, n_other: int, shares: FloatArray) -> FloatArray:
    """Distances (R,) of two means that a share (R,) of random partitions exceeds.

    Args:
        pooled: (R, n) episodes.
        n_one: episodes of the one part.
        n_other: of the other, disjoint: as many, or all that are left.
        shares: of partitions.
    """
    n = pooled.shape[1]
    if np.ptp(pooled, axis=1).max() < 1e-9:  # there is no chance
        return np.zeros(len(pooled))
    rest = n_one + n_other == n
    order = _first_of_shuffles(n, n_one if rest else n_one + n_other)  # (partitions, ...)
    one = pooled[:, order[:, :n_one]].sum(axis=2)  # (R, partitions)
    if rest:
        other = pooled.sum(axis=1, keepdims=True) - one
    else:
        other = pooled[:, order[:, n_one:]].sum(axis=2)
    distances = np.abs(one / n_one - other / n_other)
    return np.array(
        [
            np.quantile(own, 1.0 - share, method="higher")
            for own, share in zip(distances, shares, strict=True)
        ]
    )


def _first_of_shuffles(n: int, size: int) -> NDArray[np.int64]:
    """(partitions, size) different numbers of n, all choices alike."""
    rng = np.random.default_rng(0)
    if n >= 8 * size:  # few draws repeat a number: those that do are drawn anew
        order = rng.integers(n, size=(_N_PARTITIONS, size))
        drawn = np.arange(_N_PARTITIONS)
        while len(drawn):
            repeats = (np.diff(np.sort(order[drawn], axis=1), axis=1) == 0).any(axis=1)
            drawn = drawn[repeats]
            order[drawn] = rng.integers(n, size=(len(drawn), size))
        return order
    order = np.tile(np.arange(n), (_N_PARTITIONS, 1))  # shuffled as Fisher and Yates do
    rows = np.arange(_N_PARTITIONS)
    for place in range(size):
        other = rng.integers(place, n, size=_N_PARTITIONS)
        drawn = order[rows, other]
        order[rows, other] = order[:, place]
        order[:, place] = drawn
    return order[:, :size]


def compare_profiles(
    claimed: FloatArray, replayed: FloatArray, nudged: FloatArray | None, n_policies: int = 1
) -> tuple[float, float]:
    """How far the returns of agents are from those of the policies, and how far they may be.

    Args:
        claimed: (m,) entries of the welfare matrix, or agents' returns.
        replayed: (m,) on the same episodes.
        nudged: (r, m) the same with nudged observations, r times; None: rounding explains nothing.
        n_policies: k where each policy is compared by itself, because each has episodes of its own
            with every agent: m = n k, agent by agent. Given is the policy that is farthest off.
    """
    distances = np.abs(claimed - replayed).reshape(-1, n_policies).mean(axis=0)
    allowed = np.full(n_policies, TOLERANCE)
    if nudged is not None:
        changes = np.abs(nudged - replayed).reshape(-1, n_policies).mean(axis=0)
        allowed = np.minimum(MAX_PROFILE_DISTANCE, TOLERANCE + _WIDENING * changes)
    worst = int((distances - allowed).argmax())
    return float(distances[worst]), float(allowed[worst])
