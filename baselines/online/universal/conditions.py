"""What a policy is conditioned on: a target, on a line or in space, or a group's mean weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.online.universal.elites import Elites
from baselines.online.universal.settings import ConditionedConfig
from rmdp_bench import LinearPopulation, Population, TargetPopulation, constant_speed_optimum
from rmdp_bench.facility_location import local_search
from rmdp_bench.population import is_on_line

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.intp]

N_CENTRES = 21
"""Radial features of a target: one every twentieth of the range."""


class TargetConditions:
    """A condition is a target, read through radial features and as a number.

    The training reward is, next to the agent's own (1 on the target, 0 beyond the width), a dense
    term that falls linearly over `reach`: most conditions never see the first one by chance.

    Attributes:
        n_features: f, numbers that the networks read of a condition.
        segment: steps after which a copy of the world gets a new condition in training; 0: at the
            end of an episode only.
        on_a_line: whether candidates come in the order of agents' preferences (`select`).
        elites: training episodes to learn from again, if there are.
    """

    on_a_line = True
    elites = None

    def __init__(self, population: TargetPopulation, config: ConditionedConfig) -> None:
        """Cover the range of the population's targets.

        Args:
            population: the agents.
            config: segments and shaping.
        """
        self.population, self.segment = population, config.segment
        self.width, self.reach = population.width, config.shaping_reach * population.width
        self.low, self.high = float(population.targets.min()), float(population.targets.max())
        self.centres = np.linspace(self.low, self.high, N_CENTRES)
        self.spacing = max(self.high - self.low, 1e-6) / (N_CENTRES - 1)
        self.n_features = N_CENTRES + 1
        self.distance = self.high - self.low  # between candidates

    def draw(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Draw conditions (size, p) to train on: uniform over the range, p = 1."""
        return generator.uniform(self.low, self.high, (size, 1))

    def features(self, conditions: FloatArray) -> npt.NDArray[np.float32]:
        """What networks read (B, f): bumps around the centres, and the place from -1 to 1."""
        place = (conditions - self.centres) / self.spacing
        line = place[:, :1] / ((N_CENTRES - 1) / 2) - 1.0
        return np.concatenate([np.exp(-0.5 * place**2), line], axis=1).astype(np.float32)

    def rewards(
        self,
        outcomes: FloatArray,
        smoothed: FloatArray,
        conditions: FloatArray,
        shaping: float,
    ) -> FloatArray:
        """Training rewards (B,) under conditions (B, p), from 0 to 1.

        Args:
            outcomes: (B, m) of this step.
            smoothed: (B, m) their moving average.
            conditions: (B, p)
            shaping: share of the dense term, where there is one.
        """
        distance = np.abs(outcomes[:, 0] - conditions[:, 0])
        own = np.maximum(1.0 - distance / self.width, 0.0)
        distance = np.abs(smoothed[:, 0] - conditions[:, 0])
        dense = np.maximum(1.0 - distance / self.reach, 0.0)
        rewards: FloatArray = (1.0 - shaping) * own + shaping * dense
        return rewards

    def candidates(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Conditions (size, p) to choose from: evenly spaced over the range."""
        self.distance = (self.high - self.low) / max(size - 1, 1)
        return np.linspace(self.low, self.high, size)[:, None]

    def proposals(self, chosen: FloatArray, served_by: IntArray, number: int) -> FloatArray:
        """Conditions (m, p) that a choice suggests: half way to the neighbours on either side.

        An evenly spaced candidate costs a group whose targets lie to one side of it its distance.
        There are none where no agent could tell the difference.

        Args:
            chosen: (k, p) conditions.
            served_by: (n,) the one that serves each agent best.
            number: of earlier rounds of proposals.
        """
        step = self.distance / 2 ** (number + 1)
        if step < self.width / 32:
            return np.empty((0, 1))
        return np.concatenate([chosen - step, chosen + step]).clip(self.low, self.high)

    def plan(self, n_groups: int) -> tuple[FloatArray, IntArray]:
        """The best targets (k, p) if each were held perfectly, and the one of each agent (n,)."""
        optimum = constant_speed_optimum(self.population, n_groups)
        return optimum.speeds[:, None], optimum.assignment.argmax(1)


class PlaceConditions:
    """A condition is a target in a space of p dimensions, read axis by axis.

    No line orders the agents: candidates are targets and means of neighbouring ones, and proposals
    lie around what was chosen. Its methods are those of `TargetConditions`, and so are the training
    rewards, of Euclidean distances.
    """

    on_a_line = False
    elites = None

    def __init__(self, population: TargetPopulation, config: ConditionedConfig) -> None:
        """Cover the places where agents are.

        Args:
            population: the agents.
            config: segments and shaping.
        """
        self.population, self.segment = population, config.segment
        self.targets = population.preferences
        self.width, self.reach = population.width, config.shaping_reach * population.width
        self.low, self.high = self.targets.min(0), self.targets.max(0)
        self.spacing = np.maximum(self.high - self.low, 1e-6) / (N_CENTRES - 1)
        self.n_features = (N_CENTRES + 1) * self.targets.shape[1]

    def draw(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Places (size, p) around agents, no farther than the width."""
        offsets = generator.standard_normal((size, self.targets.shape[1]))
        offsets /= np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), 1e-12)
        reach = self.width * generator.random((size, 1))
        agents = generator.integers(len(self.targets), size=size)
        places: FloatArray = self.targets[agents] + reach * offsets
        return places

    def features(self, conditions: FloatArray) -> npt.NDArray[np.float32]:
        """Bumps around centres on each axis, and the place on it from -1 to 1: (B, f)."""
        place = (conditions - self.low) / self.spacing  # (B, p), from 0 to N_CENTRES - 1
        bumps = np.exp(-0.5 * (place[..., None] - np.arange(N_CENTRES)) ** 2)
        line = place / ((N_CENTRES - 1) / 2) - 1.0
        return np.concatenate(
            [bumps.reshape(len(place), N_CENTRES * place.shape[1]), line], axis=1
        ).astype(np.float32)

    def rewards(
        self,
        outcomes: FloatArray,
        smoothed: FloatArray,
        conditions: FloatArray,
        shaping: float,
    ) -> FloatArray:
        """Training rewards (B,), from 0 to 1."""
        distance = np.linalg.norm(outcomes - conditions, axis=1)
        own = np.maximum(1.0 - distance / self.width, 0.0)
        distance = np.linalg.norm(smoothed - conditions, axis=1)
        dense = np.maximum(1.0 - distance / self.reach, 0.0)
        rewards: FloatArray = (1.0 - shaping) * own + shaping * dense
        return rewards

    def candidates(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Targets, and means of the nearest targets of some of them."""
        n = len(self.targets)
        alone = self.targets[generator.permutation(n)[: -(-size // 2)]]
        means = np.empty((size - len(alone), self.targets.shape[1]))
        for row in range(len(means)):
            centre = self.targets[generator.integers(n)]
            nearest = np.linalg.norm(self.targets - centre, axis=1).argsort()
            means[row] = self.targets[nearest[: generator.integers(1, max(n // 3, 1) + 1)]].mean(0)
        return np.concatenate([alone, means])

    def proposals(self, chosen: FloatArray, served_by: IntArray, number: int) -> FloatArray:
        """Half way to a width along each axis at first, then half of that, to a 32nd of it."""
        step = self.width / 2 ** (number + 1)
        if step < self.width / 32:
            return chosen[:0]
        steps = step * np.eye(chosen.shape[1])
        around: FloatArray = chosen[:, None] + np.concatenate([steps, -steps])
        return around.reshape(-1, chosen.shape[1])

    def plan(self, n_groups: int) -> tuple[FloatArray, IntArray]:
        """Targets that serve the agents best by greedy choice and swaps, if each were held."""
        given = self.population.rewards(self.targets).T  # (n, n places)
        chosen = local_search(given, n_groups)
        return self.targets[chosen], given[:, chosen].argmax(1)


class WeightConditions:
    """A condition is the mean of a group's weights; it is read relative to its greatest.

    Its methods are those of `TargetConditions`.
    """

    segment = 0
    on_a_line = False

    def __init__(
        self, population: LinearPopulation, config: ConditionedConfig, budgets: Sequence[int]
    ) -> None:
        """Groups of the population's agents.

        Args:
            population: the agents.
            config: says how often the planned groups are drawn.
            budgets: numbers of groups to plan for.
        """
        self.weights, self.focus = population.weights, config.focus
        self.n_agents, self.n_features = self.weights.shape
        self.elites = Elites(self.weights, budgets)

    def _means(self, members: npt.NDArray[np.bool_]) -> FloatArray:
        """Mean weights (B, m) of groups (B, n)."""
        means: FloatArray = (members @ self.weights) / members.sum(1, keepdims=True)
        return means

    def draw(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Random groups, and those that `elites` planned."""
        conditions = self._draw_groups(size, generator)
        if self.focus > 0 and self.elites.conditions:
            planned = generator.random(size) < self.focus
            conditions[planned] = self.elites.draw(int(planned.sum()), generator)
        return conditions

    def _draw_groups(self, size: int, generator: np.random.Generator) -> FloatArray:
        """Random groups: half of any size alike often, half as often of 1 or 2 as of 4 to 8."""
        n = self.n_agents
        sizes = generator.integers(1, n + 1, size)
        small = np.exp(generator.uniform(0, np.log(n + 1), size)).astype(int)
        sizes = np.where(generator.random(size) < 0.5, small, sizes)
        order = generator.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
        return self._means(order < sizes[:, None])

    def features(self, conditions: FloatArray) -> npt.NDArray[np.float32]:
        """(B, m), at most 1 in size."""
        greatest = np.abs(conditions).max(1, keepdims=True)
        scaled: npt.NDArray[np.float32] = (conditions / np.maximum(greatest, 1e-12)).astype(
            np.float32
        )
        return scaled

    def rewards(
        self,
        outcomes: FloatArray,
        smoothed: FloatArray,
        conditions: FloatArray,
        shaping: float,
    ) -> FloatArray:
        """The group's mean reward."""
        rewards: FloatArray = (outcomes * conditions).sum(1)
        return rewards

    def candidates(self, size: int, generator: np.random.Generator) -> FloatArray:
        """The planned groups, everybody, each agent alone, and random groups."""
        everybody = self.weights.mean(0, keepdims=True)
        known = np.concatenate([*self.elites.conditions, everybody, self.weights])[:size]
        return np.concatenate([known, self._draw_groups(size - len(known), generator)])

    def proposals(self, chosen: FloatArray, served_by: IntArray, number: int) -> FloatArray:
        """Each group's own mean weights."""
        members = served_by == np.arange(len(chosen))[:, None]
        return self._means(members[members.any(1)])

    def plan(self, n_groups: int) -> tuple[FloatArray, IntArray]:
        """The planned groups, the last one repeated if they are fewer; else agents in turn."""
        elites = self.elites
        plans = dict(zip(elites.budgets, range(len(elites.conditions)), strict=False))
        if n_groups in plans:
            conditions = elites.conditions[plans[n_groups]]
            rows = np.minimum(np.arange(n_groups), len(conditions) - 1)
            return conditions[rows], elites.served_by[plans[n_groups]]
        served_by = np.arange(self.n_agents) % n_groups
        return self._means(served_by == np.arange(n_groups)[:, None]), served_by


Conditions = TargetConditions | PlaceConditions | WeightConditions


def make_conditions(
    population: Population, config: ConditionedConfig, budgets: Sequence[int]
) -> Conditions:
    """The conditions of a population, of which so many will be chosen."""
    if is_on_line(population):
        return TargetConditions(population, config)
    if isinstance(population, TargetPopulation):
        return PlaceConditions(population, config)
    if not isinstance(population, LinearPopulation):
        raise ValueError(
            f"universal needs agents with targets or with weights to condition its policy on, and "
            f"this population is a {type(population).__name__}; use em or em_plus"
        )
    return WeightConditions(population, config, budgets)
