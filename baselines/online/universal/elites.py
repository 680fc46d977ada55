"""Training episodes worth remembering: whom they serve, and how they went.

Dynamics are shared, so an episode made under one condition says what every agent would have got
from it. Those that no other episode beats for all agents are kept. A choice of k of them
(`facility_location.local_search`) splits the agents into groups that k policies could serve: their
mean weights are the conditions that matter most for that budget, and training draws them more
often. For each such condition the kept episode that serves it best is imitated (self-imitation, Oh
et al., ICML 2018, with the condition replaced): its steps join the batch with what it returned
above the critic's value as their advantage, and nothing where it returned less.

An episode that was only lucky would be imitated too: this is for worlds without chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmdp_bench.facility_location import local_search

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

N_STARTS = 20
"""For k policies a k-th as many searches begin with a random episode, beside the greedy one."""


class Episode(NamedTuple):
    """T steps of one copy of the world."""

    observations: FloatArray
    """(T, d) raw."""
    actions: FloatArray
    """(T, a)"""
    outcomes: FloatArray
    """(T, m)"""


class Elites:
    """Episodes that serve somebody better than all others do.

    Attributes:
        conditions: for each budget the conditions (k, m) of its groups; none before the first plan.
        served_by: for each budget the group of every agent (n,).
    """

    def __init__(self, weights: FloatArray, budgets: Sequence[int], capacity: int = 4000) -> None:
        """Keep nothing yet.

        Args:
            weights: (n, m) of the agents.
            budgets: numbers of policies to plan for.
            capacity: most episodes to keep; the oldest are forgotten.
        """
        self.weights, self.budgets, self.capacity = weights, tuple(budgets), capacity
        self.episodes: list[Episode] = []
        self.returns = np.empty((0, len(weights)))
        self.totals = np.empty((0, weights.shape[1]))
        self.conditions: list[FloatArray] = []
        self.served_by: list[IntArray] = []

    def record(
        self, observations: FloatArray, actions: FloatArray, outcomes: FloatArray, over: BoolArray
    ) -> None:
        """Keep what is new among the episodes that lie wholly within a batch of T steps.

        Args:
            observations: (T, E, d) before each step.
            actions: (T, E, a)
            outcomes: (T, E, m)
            over: (T, E) whether the episode ended with the step.
        """
        for e in range(over.shape[1]):
            ends = np.flatnonzero(over[:, e]) + 1
            for start, stop in itertools.pairwise(ends):
                total = outcomes[start:stop, e].sum(0)
                returns = total @ self.weights.T
                if (self.returns >= returns).all(1).any():
                    continue
                own = slice(start, stop)
                parts = (observations[own, e], actions[own, e], outcomes[own, e])
                kept = np.flatnonzero((self.returns > returns).any(1))
                self._keep(kept)
                self.episodes.append(Episode(*(part.copy() for part in parts)))
                self.returns = np.concatenate([self.returns, returns[None]])
                self.totals = np.concatenate([self.totals, total[None]])
        self._keep(np.arange(len(self.episodes))[-self.capacity :])

    def _keep(self, rows: IntArray) -> None:
        """Forget all episodes but some."""
        if len(rows) < len(self.episodes):
            self.episodes = [self.episodes[row] for row in rows]
            self.returns, self.totals = self.returns[rows], self.totals[rows]

    def plan(self, generator: np.random.Generator) -> None:
        """Split the agents among the kept episodes, for every budget that there are enough for."""
        self.conditions, self.served_by = [], []
        gains = (self.returns - self.returns.min(0)).T  # (n, A)
        for k in self.budgets:
            if k <= len(self.episodes):
                n_starts = -(-N_STARTS // k)
                starts = [[], *generator.integers(len(self.episodes), size=(n_starts, 1))]
                choices = [local_search(gains, k, start) for start in starts]
                chosen = max(choices, key=lambda own: self.returns[own].max(0).sum())
                found, served_by = np.unique(self.returns[chosen].argmax(0), return_inverse=True)
                members = served_by == np.arange(len(found))[:, None]
                self.conditions.append(members @ self.weights / members.sum(1, keepdims=True))
                self.served_by.append(served_by)

    def draw(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Planned conditions (size, m), those of k groups in proportion to k^(-1/4).

        Few policies serve large groups, which take longest to learn; of many small ones each needs
        its share.
        """
        weights = np.array([len(own) for own in self.conditions]) ** -0.25
        budgets = generator.choice(len(weights), size, p=weights / weights.sum())
        drawn = np.empty((size, self.totals.shape[1]))
        for row, budget in enumerate(budgets):
            own = self.conditions[budget]
            drawn[row] = own[generator.integers(len(own))]
        return drawn

    def best(self, condition: FloatArray) -> Episode:
        """The kept episode that serves a condition (m,) best."""
        return self.episodes[int((self.totals @ condition).argmax())]

    @staticmethod
    def returns_to_go(episode: Episode, condition: FloatArray, gamma: float) -> FloatArray:
        """What an episode still brings a condition (m,), discounted, from each step on: (T,)."""
        returns = episode.outcomes @ condition
        for t in range(len(returns) - 2, -1, -1):
            returns[t] += gamma * returns[t + 1]
        return returns

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, if there is anything; seeds differ in the lengths of the first axes."""
        if not self.episodes:
            return {}
        arrays = {
            name: np.concatenate(parts)
            for name, parts in zip(Episode._fields, zip(*self.episodes, strict=True), strict=True)
        }
        arrays["lengths"] = np.array([len(episode.actions) for episode in self.episodes])
        arrays["groups"] = np.array([len(own) for own in self.conditions], np.int64)
        arrays["conditions"] = np.concatenate([self.totals[:0], *self.conditions])
        arrays["served_by"] = np.array(self.served_by, np.int64).reshape(-1, len(self.weights))
        return {f"elites.{name}": array for name, array in arrays.items()}

    def set_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned; zeros after the end of an array do not matter."""
        if "elites.lengths" not in arrays:
            return

        def cut(name: str, sizes: npt.NDArray[np.int64]) -> list[FloatArray]:
            ends = np.cumsum(sizes)
            own = arrays[f"elites.{name}"]
            return [own[end - size : end] for size, end in zip(sizes, ends, strict=True)]

        lengths, groups = (arrays[f"elites.{name}"] for name in ("lengths", "groups"))
        parts = [cut(name, lengths[lengths > 0]) for name in Episode._fields]
        self.episodes = [Episode(*own) for own in zip(*parts, strict=True)]
        self.totals = np.array([episode.outcomes.sum(0) for episode in self.episodes])
        self.returns = self.totals @ self.weights.T
        self.conditions = cut("conditions", groups[groups > 0])
        self.served_by = list(arrays["elites.served_by"][: len(self.conditions)])
