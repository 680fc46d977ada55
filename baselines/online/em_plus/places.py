"""Where representatives should be, judged by the rewards that all agents had along transitions.

A candidate is something that was seen, as a vector of what every agent would receive in an episode
(n,) if a representative repeated it: the reward of one transition times the length of an episode,
or the return of a whole episode. Dynamics are shared, so every transition of any representative is
one. Choosing k candidates is facility location, sum_i max_j candidate_ij: the objective of
Sum-of-Minimum optimisation (Ding, Chen, Wang, Yin, ICML 2024, arXiv 2402.07070).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmdp_bench.facility_location import local_search

FloatArray = npt.NDArray[np.floating[Any]]

N_DRAWS = 10
"""Draws of places for all, of which the best is taken."""


def seed_candidates(
    candidates: FloatArray, n_chosen: int, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Draw candidates as k-means++ does (algorithm 1 of Sum-of-Minimum).

    An agent is drawn with a probability proportional to what it loses, the difference between its
    best candidate of all and its best of those chosen before; its best of all is chosen next.

    Args:
        candidates: (m, n) what each gives to every agent, none negative.
        n_chosen: how many.
        generator: draws the agents.

    Returns:
        (n_chosen,) rows; fewer when no agent loses anything any more.
    """
    best = candidates.max(0)
    lost, chosen = best.copy(), list[int]()
    while len(chosen) < n_chosen and lost.sum() > 0:
        agent = generator.choice(len(lost), p=lost / lost.sum())
        # Of its best ones, that which gives the others most.
        equal = np.flatnonzero(candidates[:, agent] >= best[agent])
        chosen.append(int(equal[candidates[equal].sum(1).argmax()]))
        lost = np.minimum(lost, best - candidates[chosen[-1]])
    return np.array(chosen, np.intp)


def seed_places(
    candidates: FloatArray, n_places: int, generator: np.random.Generator
) -> FloatArray:
    """The best of several draws of `seed_candidates`, each improved by exchanges.

    Args:
        candidates: (m, n) what each gives to every agent, none negative.
        n_places: how many.
        generator: draws.

    Returns:
        (n_places, n) chosen candidates; fewer when no agent loses anything any more.
    """
    candidates = candidates.astype(np.float64)
    best = candidates[:0]
    for _ in range(N_DRAWS if len(candidates) else 0):
        start = seed_candidates(candidates, n_places, generator)
        places = candidates[local_search(candidates.T, len(start), start.tolist())]
        if places.max(0, initial=0.0).sum() > best.max(0, initial=0.0).sum():
            best = places
    return best


def remember(memory: FloatArray, seen: FloatArray) -> FloatArray:
    """Add what was seen to a memory of fixed size, without what something else is better than.

    Args:
        memory: (m, n); rows of zeros are free.
        seen: (b, n) what each new candidate gives to every agent, none negative.

    Returns:
        (m, n) rows of both that no other row equals or exceeds for all agents. Where there are
        more than m of them, each agent's best and then those that give most in all.
    """
    rows = np.unique(seen.astype(memory.dtype), axis=0)
    rows = np.concatenate([memory[memory.any(1)], rows[rows.any(1)]])
    rows = rows[np.argsort(-rows.sum(1), kind="stable")]  # none is exceeded by a later one
    kept = np.ones(len(rows), bool)
    for i in range(len(rows)):
        if kept[i]:
            kept[i + 1 :] &= (rows[i + 1 :] > rows[i]).any(1)
    rows = rows[kept]
    best = np.unique(rows.argmax(0)) if len(rows) else np.empty(0, np.intp)
    rest = np.setdiff1d(np.arange(len(rows)), best)
    rows = rows[np.concatenate([best, rest])[: len(memory)]]
    return np.concatenate([rows, np.zeros_like(memory[len(rows) :])])


class Move(NamedTuple):
    """A split of one representative that another, which is merged with the rest, makes room for."""

    target: int
    """The representative that gives up its agents."""
    source: int
    """The representative that is split: `target` becomes a copy of it; may be `target` itself."""
    promised: FloatArray
    """(n,) what every agent is to receive from it, in percent."""


def best_move(
    places: FloatArray,
    candidates: FloatArray,
    given: FloatArray,
    *,
    least_gain: float,
    least_given: float,
) -> Move | None:
    """The exchange of one representative's place for a candidate that gains most.

    Only a candidate that a representative is near to comes into question: near is one that already
    gives the agents who would move there the share `least_given` of what it promises to them. There
    the policy gradient has something to climb.

    Args:
        places: (k, n) what every agent would receive from each representative if it repeated its
            best.
        candidates: (m, n) the same for what might be repeated instead.
        given: (h, n) what every agent receives on average from each representative as it is, and
            from those that nobody is assigned to.
        least_gain: smallest gain of welfare, as a share of what `places` promise.
        least_given: see above.

    Returns:
        The move, or none that gains as much.
    """
    now = places.max(0, initial=0.0).sum()
    best, least = None, max(least_gain * now, 1e-9)
    for target in range(len(places) if len(candidates) else 0):
        others = np.delete(places, target, axis=0).max(0, initial=0.0)
        gains = np.maximum(candidates - others, 0.0)
        moving = (gains > 0).astype(candidates.dtype)
        near = moving @ given.T  # (m, heads)
        is_near = near.max(1) >= least_given * (moving * candidates).sum(1)
        totals = np.where(is_near, gains.sum(1) + others.sum() - now, -np.inf)
        row = int(totals.argmax())
        if totals[row] > least:
            least = totals[row]
            best = Move(target, int(near[row].argmax()), candidates[row])
    return best
