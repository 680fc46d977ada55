"""Held-out episodes: drawn when a row is measured, and played in rounds.

Their seeds come from the operating system's randomness and from nothing that a submitter controls.
They are written into the mark, so that everybody can play the same episodes again.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmdp_bench.submission.comparison import FloatArray, episodes_wanted
from rmdp_bench.submission.marks import FIRST_HELD_OUT_SEED, RowMark

FIRST_EPISODES = (40, 60)
"""Least and greatest number of held-out episodes of the first round; drawn, so that the number of
all episodes tells nothing."""
MAX_EPISODES = 2000
"""Held-out episodes of a row, at most."""
_SHARE = 0.5
"""Of the time that a row may take, for all rounds: known episodes may have to be played again."""


@dataclass(frozen=True)
class HeldOut:
    """Which held-out episodes a row is measured on.

    Attributes:
        seed: of the first; episode e has this plus e.
        n_first: number of them in the first round.
        limit: of their number; equal to `n_first` if there is no second round.
        cpu_seconds: processor time after which no further round begins.
    """

    seed: int
    n_first: int
    limit: int = MAX_EPISODES
    cpu_seconds: float = math.inf


def draw_held_out(cpu_seconds: float = math.inf) -> HeldOut:
    """Episodes that nobody could know, from the operating system's randomness.

    Args:
        cpu_seconds: processor time that the row may take; see `Budget.share`.
    """
    least, greatest = FIRST_EPISODES
    return HeldOut(
        seed=FIRST_HELD_OUT_SEED + secrets.randbits(56),
        n_first=least + secrets.randbelow(greatest - least + 1),
        cpu_seconds=_SHARE * cpu_seconds,
    )


def repeat_held_out(mark: RowMark) -> HeldOut:
    """The episodes of a mark."""
    return HeldOut(seed=mark.held_out_seed, n_first=mark.n_episodes, limit=mark.n_episodes)


def play_in_rounds(
    play: Callable[[int, int], FloatArray],
    n_first: int,
    limit: int,
    cpu_seconds: float,
    clock: Callable[[], float],
) -> FloatArray:
    """Play held-out episodes until their mean is known well enough, or a limit is reached.

    Args:
        play: gives (S, N) welfare of the episodes from number e on, given e and N.
        n_first: episodes of the first round.
        limit: of episodes in all.
        cpu_seconds: processor time that all rounds may take; the first is played in any case.
        clock: of the processor time used so far.

    Returns:
        (S, H) welfare of all episodes.
    """
    began = clock()
    welfare = play(0, n_first)
    while True:
        n = welfare.shape[1]
        used = clock() - began
        more = limit if used <= 0.0 else (cpu_seconds - used) * n / used
        affordable = n + int(min(limit, more))
        wanted = episodes_wanted(welfare.mean(axis=0), max(n, min(limit, affordable)))
        if wanted <= n:
            return welfare
        welfare = np.concatenate((welfare, play(n, wanted - n)), axis=1)
