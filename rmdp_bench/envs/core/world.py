"""A world: E copies of one simulation, stepped together on arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.core.checks import ALONE, Array, Rows
from rmdp_bench.envs.core.counting import add_steps, is_counting
from rmdp_bench.population import DynamicsPopulation, Population, check_rewards, is_own

State = dict[str, Array]
Details = dict[str, Array]
"""What infos hold, by name: arrays with one entry per row, (B, ...)."""
Alone = tuple[Array, float, bool, dict[str, Any]]
"""Of the only row of a world: observation (d,), reward, terminated, info."""


class World(ABC):
    """E copies ("rows") of one world, stepped together.

    Rows never influence each other: what row r does depends only on its state, its actions and its
    generator, not on E or on the rows that are stepped with it.  A world is pickled as the
    arguments of its constructor and its state.

    Attributes:
        n_envs: E, the number of rows.
        population: the agents.
        observation_space: of one row.
        action_space: of one row; a Box or a Discrete.
        metadata: Gymnasium's: "render_modes" and "render_fps".
    """

    n_envs: int
    population: Population | DynamicsPopulation
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    metadata: dict[str, Any] = {"render_modes": []}
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _is_counted: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments."""
        world = super().__new__(cls)
        world._arguments = (args, kwargs)
        world._is_counted = is_counting()
        return world

    def count(self, rows: Rows) -> None:
        """Count a step of `rows` (B,); see `counting`."""
        if self._is_counted:
            add_steps(len(rows))

    @abstractmethod
    def reset(self, rows: Rows, generators: Sequence[np.random.Generator]) -> None:
        """Start an episode in `rows` (B,), ascending; rows[b] draws from generators[b]."""

    @abstractmethod
    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Step `rows` (B,), ascending, with valid `actions` (B, ...).

        Returns:
            New arrays, float64 and bool: outcomes (B, m), or rewards (B,) where the agents differ
            in dynamics; and terminated (B,).
        """

    @abstractmethod
    def start(
        self, rows: Rows, generators: Sequence[np.random.Generator], agents: Rows | None = None
    ) -> Details:
        """Reset, and give what the infos of a reset hold.

        `agents` (B,) are those who shall live in the rows, where agents differ in dynamics; None:
        they are drawn from the generators.
        """

    @abstractmethod
    def advance(
        self, rows: Rows, actions: Array
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], Details]:
        """Step, and give rewards (B,), terminated (B,) and what the infos hold, new arrays.

        The step is counted.
        """

    def advance_alone(self, action: Any) -> Alone:
        """Step a world of one row by a valid action (...), and observe it; the step is counted."""
        rewards, terminated, details = self.advance(ALONE, np.asarray(action)[np.newaxis])
        info = info_of_row(details)
        return self.observe(ALONE)[0], float(rewards[0]), bool(terminated[0]), info

    @abstractmethod
    def observe(self, rows: Rows) -> Array:
        """Give a new array of observations (B, d) of `rows` (B,), ascending."""

    @abstractmethod
    def get_state(self) -> State:
        """Copy the whole state, arrays of leading axis E: all that later steps depend on."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `get_state` of a world of the same kind and size gave."""

    def render(self, row: int, mode: str) -> Any:
        """Render one row in one of `metadata["render_modes"]`."""
        raise ValueError(f"render mode {mode!r} is not one of {self.metadata['render_modes']}")

    def close(self) -> None:
        """Free what rendering holds; may be called more than once."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments and the state."""
        return _rebuild, (type(self), *self._arguments), self.get_state()

    def __setstate__(self, state: State) -> None:
        """Restore the pickled state."""
        self.set_state(state)


class RepresentedWorld(World):
    """A world of a represented MDP: agents share the dynamics and differ in what they want.

    Attributes:
        population: the agents, who turn an outcome (m,) into their rewards (n,).
        outcome_space: of one row, Box (m,) float64: its bounds bound the rewards.
    """

    population: Population
    outcome_space: gym.spaces.Box

    @cached_property
    def reward_space(self) -> gym.spaces.Box:
        """Bounds of the rewards of all agents in one row, Box (n,) float64, percent."""
        box = self.outcome_space
        low, high = self.population.reward_bounds(box.low, box.high)
        return gym.spaces.Box(low, high, dtype=np.float64)

    @cached_property
    def _checks_rewards(self) -> bool:
        return is_own(self.population)

    def rewards_of(self, outcomes: Array) -> Array:
        """Rewards (B, n) of outcomes (B, m).

        Raises:
            ValueError: a population of somebody's own gives other things.
        """
        rewards = self.population.rewards(outcomes)
        if self._checks_rewards:
            check_rewards(self.population, outcomes, rewards)
        return rewards

    def start(
        self, rows: Rows, generators: Sequence[np.random.Generator], agents: Rows | None = None
    ) -> Details:
        """Reset; all agents are there always, and nothing has been earned."""
        self.reset(rows, generators)
        return {
            "agent_rewards": np.zeros((len(rows), self.population.n_agents)),
            "outcome": np.zeros((len(rows), self.population.outcome_size)),
        }

    def advance(
        self, rows: Rows, actions: Array
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], Details]:
        """Step; the rewards are the means over the agents."""
        self.count(rows)
        outcomes, terminated = self.step(rows, actions)
        agent_rewards = self.rewards_of(outcomes)
        details = {"agent_rewards": agent_rewards, "outcome": outcomes}
        return mean_over_agents(agent_rewards), terminated, details


def info_of_row(details: Details, index: int = 0) -> dict[str, Any]:
    """Give the info of one row as a single environment does: NumPy's numbers and arrays."""
    return {name: values[index] for name, values in details.items()}


def mean_over_agents(agent_rewards: Array) -> Array:
    """Mean (...) of rewards (..., n); `add.reduce` sums a row in the same order whatever E."""
    mean: Array = np.add.reduce(agent_rewards, axis=-1) / agent_rewards.shape[-1]
    return mean


def _rebuild(cls: type[World], args: tuple[Any, ...], kwargs: dict[str, Any]) -> World:
    return cls(*args, **kwargs)


def encode_generators(generators: Sequence[np.random.Generator]) -> NDArray[np.uint64]:
    """States of PCG64 generators as (E, 6): state high and low, increment high and low, buffer.

    Raises:
        ValueError: another bit generator.
    """
    encoded = np.zeros((len(generators), 6), dtype=np.uint64)
    low_bits = 2**64 - 1
    for row, generator in enumerate(generators):
        state: Any = generator.bit_generator.state
        if state["bit_generator"] != "PCG64":
            raise ValueError(f"generator {row} is a {state['bit_generator']}, expected a PCG64")
        value, increment = state["state"]["state"], state["state"]["inc"]
        encoded[row] = (
            *(value >> 64, value & low_bits, increment >> 64, increment & low_bits),
            *(state["has_uint32"], state["uinteger"]),
        )
    return encoded


def decode_generators(encoded: Array) -> list[np.random.Generator]:
    """Generators in the states (E, 6) that `encode_generators` gave."""
    generators = []
    for row in np.asarray(encoded, dtype=np.uint64).tolist():
        bit_generator = np.random.PCG64(0)
        bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": (row[0] << 64) | row[1], "inc": (row[2] << 64) | row[3]},
            "has_uint32": row[4],
            "uinteger": row[5],
        }
        generators.append(np.random.Generator(bit_generator))
    return generators
