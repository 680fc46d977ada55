"""Populations: who the agents are.

The agents of a represented MDP live in the same world and differ in what they want.  A transition
has an *outcome*, the little that rewards depend on (a velocity, the value of the visited tiles, a
vector reward), and a population maps it to the reward of every agent:

    outcomes (..., m)  --rewards-->  (..., n)        m = outcome_size, n = n_agents

Rewards are in percent of a perfect episode: summed over an episode, undiscounted, they give the
agent's return in percent.  The same code serves NumPy arrays and torch tensors, in their own dtype
and on their own device, and is differentiable for torch; this module never imports torch.

Heterogeneous agents (`DynamicsPopulation`) want the same and live in worlds that differ: what
distinguishes them are parameters of the dynamics, which policies do not see.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.messages import shown

FloatArray: TypeAlias = NDArray[np.float64]
MAX_NUMBERS = 10_000_000
"""Most numbers that a population makes of itself, 80 MB: more is taken for a slip."""
ArrayT = TypeVar("ArrayT")
"""A NumPy array or a torch tensor, of a floating dtype."""


@runtime_checkable
class Population(Protocol):
    """The agents of a represented MDP: what outcomes are worth to each of them.

    A population of one's own is a subclass that says who there is and what a transition is worth;
    the rest follows from it:

        class Thresholds(rmdp_bench.Population):
            def __init__(self, least_speeds):
                self.least_speeds = np.asarray(least_speeds)
                self.n_agents, self.outcome_size = len(least_speeds), 1

            def rewards(self, outcomes):                # (..., 1) -> (..., n), percent per step
                least = self.least_speeds
                if not isinstance(outcomes, np.ndarray):            # solvers ask with torch tensors
                    least = outcomes.new_tensor(least)
                return 0.1 * (outcomes >= least)

    It is pickled where processes are started, so its class stands in a file. What it is stays the
    same: solvers and records rely on `content_hash`.

    Attributes:
        n_agents: n >= 1.
        outcome_size: m, the length of an outcome.
    """

    n_agents: int
    outcome_size: int

    @abstractmethod
    def rewards(self, outcomes: ArrayT) -> ArrayT:
        """Reward of every agent: (..., m) -> (..., n), of NumPy arrays and of torch tensors.

        Percent of a perfect episode: what is greatest, summed over an episode, is 100.
        """

    @property
    def preferences(self) -> FloatArray:
        """What distinguishes the agents, a row of numbers each; here nothing but their index."""
        return np.arange(self.n_agents, dtype=np.float64)[:, np.newaxis]

    def mean_rewards(self, outcomes: FloatArray) -> FloatArray:
        """Mean reward over the agents: (..., m) float64 -> (...)."""
        return np.asarray(self.rewards(outcomes).mean(axis=-1))

    def total_rewards(self, outcomes: FloatArray) -> FloatArray:
        """Return of every agent in an episode: (T, m) float64 -> (n,), percent."""
        size = max(1, MAX_NUMBERS // self.n_agents)
        parts = [outcomes[first : first + size] for first in range(0, len(outcomes), size)]
        return np.asarray(np.sum([self.rewards(part).sum(axis=0) for part in parts], axis=0))

    def reward_bounds(
        self, outcome_low: ArrayLike = -np.inf, outcome_high: ArrayLike = np.inf
    ) -> tuple[FloatArray, FloatArray]:
        """Least and greatest reward of every agent in one step, (n,) and (n,); here any number."""
        del outcome_low, outcome_high
        return np.full(self.n_agents, -np.inf), np.full(self.n_agents, np.inf)

    def content_hash(self) -> str:
        """SHA-256 (hexadecimal) of the class's name and of its attributes, by their names.

        Raises:
            ValueError: an attribute is no number, text, array or list of these.
        """
        digest = hashlib.sha256(type(self).__qualname__.encode())
        for name, value in sorted(vars(self).items()):
            array = np.asarray(value)
            if array.dtype.kind not in "biufU":
                raise ValueError(
                    f"{type(self).__name__}.{name} is {shown(value)}, which has no hash: expected "
                    "numbers, text or arrays, or a content_hash of its own"
                )
            digest.update(f" {name} {array.shape} {array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def check_population(population: Any) -> Population:
    """Give what was given for the agents if it is a population.

    Raises:
        ValueError: it is not, or its rewards of outcomes of zeros are no finite numbers (2, n).
    """
    if isinstance(population, type) or not isinstance(population, Population):
        raise ValueError(
            f"population is {shown(population)}, expected a TargetPopulation, a LinearPopulation "
            "such as LinearPopulation(weights), or a subclass of rmdp_bench.Population of your own"
        )
    if is_own(population):
        outcomes = np.zeros((2, population.outcome_size))
        check_rewards(population, outcomes, population.rewards(outcomes))
    return population


def is_own(population: object) -> bool:
    """Whether the population is of somebody's own class, whose `rewards` may give anything."""
    return type(population) not in (TargetPopulation, LinearPopulation)


def check_rewards(population: Population, outcomes: FloatArray, rewards: Any) -> None:
    """Refuse what `rewards` of a population of somebody's own gave, if it is no row per outcome.

    Args:
        population: whose they are.
        outcomes: (E, m) that it was given.
        rewards: what it gave.

    Raises:
        ValueError: not finite numbers (E, n); names the shape or the value.
    """
    name, expected = type(population).__name__, (len(outcomes), population.n_agents)
    if not isinstance(rewards, np.ndarray) or rewards.shape != expected:
        given = f"shape {rewards.shape}" if isinstance(rewards, np.ndarray) else shown(rewards)
        raise ValueError(
            f"{name}.rewards gives {given} for {len(outcomes)} outcomes, expected {expected}: a "
            f"row for each, and a number for each of {expected[1]} agents"
        )
    if not np.isfinite(rewards).all():
        row, agent = np.argwhere(~np.isfinite(rewards))[0].tolist()
        raise ValueError(
            f"{name}.rewards gives agent {agent} a reward of {rewards[row, agent]} for the outcome "
            f"{outcomes[row].tolist()}, expected finite numbers"
        )


@dataclass(frozen=True, eq=False)
class TargetPopulation(Population):
    """Every agent has a target, and its reward falls linearly with the distance to it.

    reward_i(v) = peak * (1 - min(1, |targets_i - v| / width))          outcome: v, (..., p)

    Targets stand on a line, p = 1, or in a space of p dimensions, where distances are Euclidean.

    With the width bound / 20 and the peak 0.1 this is the velocity reward of Ivanov & Ben-Porat
    (2024), section "Environments": 1 - min(1, 20 |v^i - v| / b), scaled so that 1000 perfect steps
    are 100 percent.

    Attributes:
        targets: (n,) or (n, p) float64, read-only; any finite values in any order. (n, 1) becomes
            (n,).
        width: distance, in the unit of the targets, at which the reward reaches zero; > 0.
        peak: reward on the target, percent of a perfect episode per step; > 0.
        n_agents: n.
        outcome_size: p.

    Raises:
        ValueError: a target is not finite, there is none, or width or peak is not positive.
    """

    targets: FloatArray
    width: float
    peak: float = 0.1
    n_agents: int = field(init=False, repr=False)
    outcome_size: int = field(init=False, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values and keep read-only copies."""
        n_axes = 2 if np.ndim(self.targets) == 2 else 1
        targets = _frozen_array(self.targets, "targets", n_axes)
        if n_axes == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "n_agents", len(targets))
        object.__setattr__(self, "outcome_size", 1 if targets.ndim == 1 else targets.shape[1])
        object.__setattr__(self, "width", _positive(self.width, "width"))
        object.__setattr__(self, "peak", _positive(self.peak, "peak"))

    @classmethod
    def uniform(cls, n_agents: int, bound: float, *, seed: int) -> TargetPopulation:
        """Targets drawn from U[0, bound], width bound / 20, peak 0.1: the paper's velocity agents.

        The stream is NumPy's legacy RandomState, which is frozen by NEP 19 and is the one of the
        authors' code, so that seed 0 is their population.

        Args:
            n_agents: n from 1 to `MAX_NUMBERS`.
            bound: largest target, in the unit of the outcome (the paper's b, metres per second).
            seed: 0 to 2**32 - 1.

        Raises:
            ValueError: an argument is out of range.
        """
        n_agents = _integer(n_agents, "n_agents", 1, MAX_NUMBERS)
        seed = _integer(seed, "seed", 0, 2**32 - 1)
        bound = _positive(bound, "bound")
        targets = np.random.RandomState(seed).uniform(0.0, bound, n_agents)
        return cls(targets, width=bound / 20.0, peak=0.1)

    @classmethod
    def in_disc(cls, n_agents: int, bound: float, *, seed: int) -> TargetPopulation:
        """Targets (n, 2) drawn evenly from a disc around 0, width bound / 2, peak 0.1.

        The width makes a hundred agents a question of where to compromise: with `uniform`'s, a
        twentieth of the radius, k policies would serve k agents.

        Args:
            n_agents: n from 1 to `MAX_NUMBERS` / 2.
            bound: radius of the disc, in the unit of the outcome.
            seed: 0 to 2**32 - 1.

        Raises:
            ValueError: an argument is out of range.
        """
        n_agents = _integer(n_agents, "n_agents", 1, MAX_NUMBERS // 2)
        seed = _integer(seed, "seed", 0, 2**32 - 1)
        bound = _positive(bound, "bound")
        radius, angle = np.random.RandomState(seed).uniform(size=(n_agents, 2)).T
        distance, turned = bound * np.sqrt(radius), 2.0 * np.pi * angle
        targets = np.stack((distance * np.cos(turned), distance * np.sin(turned)), axis=1)
        return cls(targets, width=bound / 2.0, peak=0.1)

    @property
    def preferences(self) -> FloatArray:
        """What distinguishes the agents: their targets, (n, p), read-only."""
        return self.targets.reshape(self.n_agents, -1)

    def rewards(self, outcomes: ArrayT) -> ArrayT:
        """Reward of every agent: (..., p) -> (..., n), percent, from 0 to `peak`.

        A NaN outcome gives NaN rewards.

        Raises:
            ValueError: not a floating NumPy array or torch tensor, or its last axis is not p.
        """
        targets = _constant(self._cache, self.targets, outcomes, self.outcome_size)
        rewards: Any = (
            abs(outcomes - targets) if self.targets.ndim == 1 else _distances(outcomes, targets)
        )
        rewards *= -self.peak / self.width
        rewards += self.peak
        if isinstance(rewards, np.ndarray):
            return cast(ArrayT, np.maximum(rewards, 0.0, out=rewards))
        return cast(ArrayT, rewards.clamp_(min=0.0))

    def mean_rewards(self, outcomes: FloatArray) -> FloatArray:
        """Mean reward over the agents: (..., p) float64 -> (...).

        On a line it is `rewards(outcomes).mean(-1)` to rounding (1e-12), at a cost that grows with
        log n: who gains anything is a range of the sorted targets, whose sums are known.
        """
        if self.targets.ndim > 1:
            return super().mean_rewards(outcomes)
        if "sums" not in self._cache:
            self._cache["sums"] = _sort_and_sum(self.targets)
        targets, sums = self._cache["sums"]
        total = _sum_of_tents(targets, sums, outcomes[..., 0], self.width)
        return np.asarray(self.peak / self.n_agents * total)

    def total_rewards(self, outcomes: FloatArray) -> FloatArray:
        """Return of every agent in an episode: (T, p) float64 -> (n,), percent.

        On a line it is `rewards(outcomes).sum(0)` to rounding (1e-12 per step), at a cost that
        grows with n log T instead of n T: what an agent gains depends on its distance to the
        outcomes only, so that this is `mean_rewards` with the two changing places. One NaN outcome
        makes all NaN.
        """
        if self.targets.ndim > 1:
            return super().total_rewards(outcomes)
        if np.isnan(outcomes).any():
            return np.full(self.n_agents, np.nan)
        beyond = 2 * self.width  # from there on nobody gains anything
        low, high = self.targets.min() - beyond, self.targets.max() + beyond
        ascending, sums = _sort_and_sum(np.clip(outcomes[:, 0], low, high))
        return np.asarray(self.peak * _sum_of_tents(ascending, sums, self.targets, self.width))

    def reward_bounds(
        self, outcome_low: ArrayLike = -np.inf, outcome_high: ArrayLike = np.inf
    ) -> tuple[FloatArray, FloatArray]:
        """Least and greatest reward of every agent in one step, (n,) and (n,), percent.

        Args:
            outcome_low: smallest outcome, a number or (p,); may be -inf.
            outcome_high: greatest outcome, a number or (p,); may be inf.

        Raises:
            ValueError: wrong shape, NaN, or low above high.
        """
        low, high = _outcome_box(outcome_low, outcome_high, self.outcome_size)
        places = self.preferences
        farthest = _norm(np.maximum(np.abs(places - low), np.abs(places - high)))
        nearest = _norm(np.abs(places - np.clip(places, low, high)))
        reward_low, reward_high = (
            np.maximum(self.peak - self.peak / self.width * distance, 0.0)
            for distance in (farthest, nearest)
        )
        return reward_low, reward_high

    def content_hash(self) -> str:
        """SHA-256 (hexadecimal) of the kind, the targets, the width and the peak."""
        return _content_hash(self._cache, "target", self.targets, self.width, self.peak)

    def __eq__(self, other: object) -> bool:
        """Equal content, whatever the object."""
        if not isinstance(other, TargetPopulation):
            return NotImplemented
        return self.content_hash() == other.content_hash()

    def __hash__(self) -> int:
        """By content."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the content only, not the cached constants."""
        return TargetPopulation, (self.targets, self.width, self.peak)


def is_on_line(population: object) -> TypeGuard[TargetPopulation]:
    """Whether the agents have targets, and these stand on a line."""
    return isinstance(population, TargetPopulation) and population.outcome_size == 1


@dataclass(frozen=True, eq=False)
class LinearPopulation(Population):
    """Every agent weighs the parts of a vector outcome in its own way.

    reward_i(x) = sum_l weights[i, l] * x[l]                         outcome: x, (..., m)

    Attributes:
        weights: (n, m) float64, read-only, finite.
        n_agents: n.
        outcome_size: m.

    Raises:
        ValueError: the weights are not finite, or are not a non-empty matrix.
    """

    weights: FloatArray
    n_agents: int = field(init=False, repr=False)
    outcome_size: int = field(init=False, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values and keep a read-only copy."""
        object.__setattr__(self, "weights", _frozen_array(self.weights, "weights", 2))
        object.__setattr__(self, "n_agents", self.weights.shape[0])
        object.__setattr__(self, "outcome_size", self.weights.shape[1])

    @classmethod
    def tiles(cls, n_tiles: int = 25) -> LinearPopulation:
        """Agent i wants tile i and nothing else: the identity, Resource Gathering's population.

        Raises:
            ValueError: n_tiles is not an integer >= 1 whose square is at most `MAX_NUMBERS`.
        """
        return cls(np.eye(_integer(n_tiles, "n_tiles", 1, math.isqrt(MAX_NUMBERS))))

    @property
    def preferences(self) -> FloatArray:
        """What distinguishes the agents: their weights, (n, m), read-only."""
        return self.weights

    def rewards(self, outcomes: ArrayT) -> ArrayT:
        """Reward of every agent: (..., m) -> (..., n), percent.

        A NaN outcome gives NaN rewards.

        Raises:
            ValueError: not a floating NumPy array or torch tensor, or its last axis is not m.
        """
        weights = _constant(self._cache, self.weights, outcomes, self.outcome_size)
        if isinstance(outcomes, np.ndarray):
            # Not `@`: BLAS rounds a row differently in batches of different sizes, and a vector
            # environment must give what a single one gives, bit for bit.
            return cast(ArrayT, np.einsum("...m,nm->...n", outcomes, weights))
        return cast(ArrayT, outcomes @ weights.T)

    def mean_rewards(self, outcomes: FloatArray) -> FloatArray:
        """Mean reward over the agents, `rewards(outcomes).mean(-1)` to rounding.

        (..., m) float64 -> (...).
        """
        if "mean" not in self._cache:
            self._cache["mean"] = self.weights.mean(axis=0)
        return np.asarray(np.einsum("...m,m->...", outcomes, self._cache["mean"]))

    def total_rewards(self, outcomes: FloatArray) -> FloatArray:
        """Return of every agent in an episode, `rewards(outcomes).sum(0)` to rounding.

        (T, m) float64 -> (n,).
        """
        return np.asarray(self.weights @ outcomes.sum(axis=0))

    def reward_bounds(
        self, outcome_low: ArrayLike = -np.inf, outcome_high: ArrayLike = np.inf
    ) -> tuple[FloatArray, FloatArray]:
        """Least and greatest reward of every agent in one step, (n,) and (n,), percent.

        Args:
            outcome_low: smallest outcome, a number or (m,); may be -inf.
            outcome_high: greatest outcome, a number or (m,); may be inf.

        Raises:
            ValueError: wrong shape, NaN, or low above high.
        """
        low, high = _outcome_box(outcome_low, outcome_high, self.outcome_size)
        with np.errstate(invalid="ignore"):
            ends = np.stack((self.weights * low, self.weights * high))  # (2, n, m)
        ends[:, self.weights == 0.0] = 0.0  # an unbounded outcome that the agent ignores
        return ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)

    def content_hash(self) -> str:
        """SHA-256 (hexadecimal) of the kind and the weights."""
        return _content_hash(self._cache, "linear", self.weights)

    def __eq__(self, other: object) -> bool:
        """Equal content, whatever the object."""
        if not isinstance(other, LinearPopulation):
            return NotImplemented
        return self.content_hash() == other.content_hash()

    def __hash__(self) -> int:
        """By content."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the content only, not the cached constants."""
        return LinearPopulation, (self.weights,)


@dataclass(frozen=True, eq=False)
class DynamicsPopulation:
    """Every agent has its own parameters of the dynamics; all share one reward.

    Agents are rows of one table. Four properties give the indices of groups of them:

        agents                0 to n - 1           random draws and data sets are from these
        test_agents           the first n_test     evaluation is on these; they are in `agents` too
        unseen_agents         the next n_unseen    held out, parameters in the range
        extrapolating_agents  those that remain    held out, parameters outside the range

    Attributes:
        names: of the p parameters.
        units: of the p parameters; "" where a parameter has none.
        low: (p,) float64, read-only: least value of `agents` and `unseen_agents`.
        high: (p,) float64, read-only: greatest.
        parameters: (N, p) float64, read-only: of all agents.
        n_test: number of test agents.
        n_agents: n, test agents included.
        n_unseen: number of unseen agents; the last N - n - n_unseen agents extrapolate.

    Raises:
        ValueError: a value is not finite, sizes do not fit, or an agent is not where it should be,
            in the range or outside.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: FloatArray
    high: FloatArray
    parameters: FloatArray
    n_test: int
    n_agents: int
    n_unseen: int
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values and keep read-only copies."""
        for name, n_axes in (("low", 1), ("high", 1), ("parameters", 2)):
            object.__setattr__(self, name, _frozen_array(getattr(self, name), name, n_axes))
        for name in ("names", "units"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        n_all, size = self.parameters.shape
        sizes = [len(part) for part in (self.names, self.units, self.low, self.high)]
        if sizes != [size] * 4:
            raise ValueError(f"names, units, low, high are of lengths {sizes}, expected {size}")
        _integer(self.n_agents, "n_agents", 1, n_all)
        _integer(self.n_test, "n_test", 0, self.n_agents)
        _integer(self.n_unseen, "n_unseen", 0, n_all - self.n_agents)
        in_range = (self.parameters >= self.low) & (self.parameters <= self.high)
        inside = np.asarray(in_range.all(axis=1))
        belongs = np.arange(n_all) < self.n_agents + self.n_unseen
        if (inside != belongs).any():
            agent = int(np.flatnonzero(inside != belongs)[0])
            where = "outside" if inside[agent] else "in"
            raise ValueError(
                f"parameters[{agent}] are {self.parameters[agent].tolist()}, expected them {where} "
                f"the range from {self.low.tolist()} to {self.high.tolist()}"
            )

    @classmethod
    def uniform(
        cls,
        parameters: Mapping[str, tuple[str, float, float]],
        test_agents: ArrayLike,
        *,
        n_agents: int = 500,
        n_unseen: int = 100,
        n_extrapolating: int = 20,
        seed: int,
    ) -> DynamicsPopulation:
        """Given test agents; all others are drawn.

        Other agents and unseen ones are uniform in the range. Every parameter of an extrapolating
        agent is outside: uniform from half the least value to the least, or from the greatest to a
        quarter of the range above it, in turn for all combinations. The stream is NumPy's legacy
        RandomState, which is frozen by NEP 19.

        Args:
            parameters: name -> (unit, least value, greatest value), p entries; least value > 0.
            test_agents: (n_test, p), the first agents.
            n_agents: n >= n_test.
            n_unseen: >= 0.
            n_extrapolating: >= 0; all three at most `MAX_NUMBERS` / p.
            seed: 0 to 2**32 - 1.

        Raises:
            ValueError: an argument is out of range.
        """
        seed = _integer(seed, "seed", 0, 2**32 - 1)
        test = _frozen_array(test_agents, "test_agents", 2)
        units, lows, highs = zip(*parameters.values(), strict=True)
        low, high = np.array(lows), np.array(highs)
        if not ((low > 0.0) & (low < high)).all():
            raise ValueError(f"parameters are {dict(parameters)}, expected 0 < least < greatest")
        if test.shape[1] != len(low):
            raise ValueError(f"test_agents have shape {test.shape}, expected (n, {len(low)})")
        most = MAX_NUMBERS // len(low)
        n_agents = _integer(n_agents, "n_agents", len(test), most)
        n_drawn = n_agents - len(test) + _integer(n_unseen, "n_unseen", 0, most)
        generator = np.random.RandomState(seed)
        drawn = generator.uniform(low, high, (n_drawn, len(low)))
        shape = (_integer(n_extrapolating, "n_extrapolating", 0, most), len(low))
        # The bits of the agent's number say on which side each of its parameters is.
        above = np.arange(shape[0])[:, np.newaxis] >> np.arange(shape[1]) & 1
        share = 1.0 - generator.random_sample(shape)  # not 0: the ends are in the range
        outside = np.where(above, high + share * (high - low) / 4.0, low - share * low / 2.0)
        table = np.concatenate((test, drawn, outside))
        return cls(tuple(parameters), tuple(units), low, high, table, len(test), n_agents, n_unseen)

    def with_agents(self, parameters: ArrayLike) -> DynamicsPopulation:
        """Give a population of the same parameters and range, whose agents are these and no others.

        Args:
            parameters: (n, p), in the range; agent i is row i. None of them is a test agent.

        Raises:
            ValueError: not n >= 1 rows of p finite numbers, or a row is not in the range.
        """
        rows = _frozen_array(parameters, "parameters", 2)
        if rows.shape[1] != len(self.names):
            raise ValueError(
                f"parameters have shape {rows.shape}, expected (n, {len(self.names)}), a column "
                f"each for {', '.join(self.names)}"
            )
        return DynamicsPopulation(
            self.names, self.units, self.low, self.high, rows, 0, len(rows), 0
        )

    @property
    def test_agents(self) -> range:
        """The agents that evaluation is on; they are among `agents`."""
        return range(self.n_test)

    @property
    def agents(self) -> range:
        """The agents that data sets and random draws are from."""
        return range(self.n_agents)

    @property
    def unseen_agents(self) -> range:
        """Held-out agents with parameters in the range."""
        return range(self.n_agents, self.n_agents + self.n_unseen)

    @property
    def extrapolating_agents(self) -> range:
        """Held-out agents with parameters outside the range."""
        return range(self.n_agents + self.n_unseen, len(self.parameters))

    def content_hash(self) -> str:
        """SHA-256 (hexadecimal) of the kind and of all attributes."""
        table = np.vstack((self.low, self.high, self.parameters))
        sizes = self.n_test, self.n_agents, self.n_unseen
        return _content_hash(self._cache, f"dynamics {self.names} {self.units}", table, *sizes)

    def __eq__(self, other: object) -> bool:
        """Equal content, whatever the object."""
        if not isinstance(other, DynamicsPopulation):
            return NotImplemented
        return self.content_hash() == other.content_hash()

    def __hash__(self) -> int:
        """By content."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the attributes, so that the arrays of a copy are read-only too."""
        content = (self.names, self.units, self.low, self.high, self.parameters)
        return DynamicsPopulation, (*content, self.n_test, self.n_agents, self.n_unseen)


def _distances(outcomes: Any, targets: Any) -> Any:
    """Euclidean distances of outcomes (..., p) and targets (n, p): (..., n), NumPy's or torch's."""
    squares: Any = 0.0
    for axis in range(targets.shape[1]):  # p is small; one sum, in the same order for every row
        squares = squares + (outcomes[..., axis, None] - targets[:, axis]) ** 2
    return squares.clip(1e-30) ** 0.5  # not 0, where the slope of the root is infinite


def _norm(offsets: FloatArray) -> FloatArray:
    """Of offsets (n, p) that are not negative: (n,)."""
    return offsets[:, 0] if offsets.shape[1] == 1 else np.sqrt((offsets**2).sum(axis=1))


def _sort_and_sum(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values (N,) ascending, and the sums of the first 0 to N of them."""
    ascending = np.sort(values)
    return ascending, np.concatenate(([0.0], np.cumsum(ascending)))


def _sum_of_tents(
    centres: FloatArray, sums: FloatArray, positions: FloatArray, width: float
) -> FloatArray:
    """Sum over centres (N,) of max(0, 1 - |centre - position| / width), at positions (...).

    Which centres count is a range of the ascending ones, whose sums are known: `_sort_and_sum`.
    """
    beyond = 2 * width  # from there on no centre counts
    position = np.clip(positions, centres[0] - beyond, centres[-1] + beyond)
    low, middle, high = (centres.searchsorted(position + reach) for reach in (-width, 0, width))
    distance = sums[low] + sums[high] - 2 * sums[middle] + position * (2 * middle - low - high)
    return np.asarray(high - low - distance / width)


def _constant(cache: dict[Any, Any], array: FloatArray, outcomes: Any, outcome_size: int) -> Any:
    """Give `array` in the dtype and on the device of `outcomes`, which are checked.

    Converted once per dtype and device.  A torch tensor made in inference mode is kept apart,
    because autograd refuses it outside; `new_empty` tells which mode is on without importing torch.
    """
    is_numpy = isinstance(outcomes, np.ndarray)
    if not is_numpy and not hasattr(outcomes, "new_tensor"):
        kind = type(outcomes).__name__
        raise ValueError(f"outcomes are a {kind}, expected a NumPy array or a torch tensor")
    if not (outcomes.dtype.kind == "f" if is_numpy else outcomes.is_floating_point()):
        raise ValueError(f"outcomes have dtype {outcomes.dtype}, expected a floating dtype")
    if outcomes.ndim < 1 or outcomes.shape[-1] != outcome_size:
        shape = tuple(outcomes.shape)
        raise ValueError(f"outcomes have shape {shape}, expected (..., {outcome_size})")
    if is_numpy:
        key = outcomes.dtype
    else:
        key = (outcomes.dtype, outcomes.device, outcomes.new_empty(0).is_inference())
    if key not in cache:
        cache[key] = array.astype(key) if is_numpy else outcomes.new_tensor(array.tolist())
    return cache[key]


def _content_hash(cache: dict[Any, Any], kind: str, array: FloatArray, *parameters: float) -> str:
    """SHA-256 of the kind, the shape, the values (little-endian) and the parameters."""
    if "hash" not in cache:
        digest = hashlib.sha256(f"{kind} {array.shape} {parameters}".encode())
        digest.update(array.astype("<f8").tobytes())
        cache["hash"] = digest.hexdigest()
    return str(cache["hash"])


def _frozen_array(values: ArrayLike, name: str, n_axes: int) -> FloatArray:
    """Copy as float64 with zeros of one sign (equal content, equal hash), read-only."""
    try:
        array = np.array(values, dtype=np.float64, order="C") + 0.0
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} are not an array of numbers: {error}") from error
    if array.ndim != n_axes or array.size == 0:
        expected = "(n,)" if n_axes == 1 else "(n, m)"
        raise ValueError(f"{name} have shape {array.shape}, expected {expected}, not empty")
    if not np.isfinite(array).all():
        index = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name}{list(index)} is {array[index]}, expected finite values")
    array.setflags(write=False)
    return array


def _positive(value: Any, name: str) -> float:
    """Check a finite number > 0."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} is {shown(value)}, expected a finite number > 0")
    return float(value)


def _integer(value: Any, name: str, least: int, greatest: int | None = None) -> int:
    """Check an integer of the range."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < least or (greatest is not None and value > greatest):
        expected = f">= {least}" if greatest is None else f"from {least} to {greatest}"
        raise ValueError(f"{name} is {shown(value)}, expected an integer {expected}")
    return int(value)


def _outcome_box(low: ArrayLike, high: ArrayLike, size: int) -> tuple[FloatArray, FloatArray]:
    """Both ends as (m,) arrays."""
    try:
        box = tuple(np.broadcast_to(np.asarray(end, np.float64), (size,)) for end in (low, high))
    except (TypeError, ValueError) as error:
        raise ValueError(f"outcome bounds: expected numbers or shape ({size},): {error}") from error
    if not (box[0] <= box[1]).all():
        raise ValueError(f"outcome bounds are {shown(low)} and {shown(high)}, expected low <= high")
    return box[0], box[1]
