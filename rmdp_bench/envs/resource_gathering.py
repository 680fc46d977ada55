"""Resource Gathering: 25 agents, each of whom wants one tile of a 5 x 5 grid (paper section 4.1).

Description:
    A gatherer starts on the home tile, row 4, column 2 (the middle of the bottom row), walks over
    a 5 x 5 grid and ends the episode by coming home. Nothing is random. It is the paper's variant
    of MO-Gymnasium's resource-gathering: no gold, gems or enemies, only the tiles.

Population:
    `LinearPopulation.tiles(25)`: agent i wants tile i, where tile = 5 * row + column.
    `population_seed` is accepted as everywhere and changes nothing: there is nothing to draw.
    Other agents are any population of outcomes (25,), such as `LinearPopulation(weights)` with
    weights (n, 25).

Observation:
    float32 (27,): row and column of the gatherer, in 0..4; then one flag per tile, 1 once it was
    visited. The home tile counts as visited from the start. The two constant zeros that the
    paper's code adds (carried gold and gem) are left out.

Action:
    `Discrete(4)`: 0 up (row - 1), 1 down (row + 1), 2 left (column - 1), 3 right (column + 1).
    A move off the grid leaves the gatherer where it is, and a step passes.

Reward:
    In percent of a perfect episode. At the step T that ends the episode at home,
    `info["outcome"]` (25,) is `100 - T` for each visited tile and 0 for the others; agent i
    receives the entry of its tile, and the scalar reward is the mean over agents. Every other
    step gives zeros. One tour that serves all 25 agents is worth 74: on an odd grid a closed walk
    over every tile takes 26 steps. (Without the 40-step limit, `100 - T` stops at 0.)

Episode end:
    Terminates when the gatherer stands at home after a step. The home-tile rule, to the letter:
    the test is on the position after the step, not on having left. Moving down from home bumps
    into the wall, so it ends the episode at step 1, with 99 for the agent of the home tile and 0
    for everybody else. This is the rule of the paper's code; under it 25 policies reach at most
    93.56 (the paper prints 93.6).
    Truncated after 40 steps, with no reward.

Arguments:
    population: agents of one's own; None: those above. population_seed is not given then.
    population_seed: has no effect (see Population).
    render_mode: "ansi" (the grid as text), "rgb_array" (a picture, drawn with numpy) or "human"
    (the text is printed to the terminal at every reset and step; no window is opened).
    agent_rewards: False leaves `info["agent_rewards"]` out; vector form, True.

Version history:
    v0: first version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rmdp_bench.envs.core.base import (
    Array,
    RepresentedEnv,
    RepresentedVectorEnv,
    RepresentedWorld,
    Rows,
    State,
)
from rmdp_bench.envs.core.checks import check_keywords, check_n_envs, choose_population
from rmdp_bench.population import LinearPopulation, Population

GRID_SIZE = 5
N_TILES = GRID_SIZE * GRID_SIZE
HOME = 4 * GRID_SIZE + 2
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Change of row and column: up, down, left, right."""
PERFECT_EPISODE = 100.0

TILE_PIXELS = 64
TRACK_COLOUR = (200, 220, 240)
HOME_COLOUR = (230, 159, 0)
GATHERER_COLOUR = (0, 90, 160)
LINE_COLOUR = (120, 120, 120)


def _neighbours() -> NDArray[np.int64]:
    """The tile that each action leads to from each tile, (25, 4)."""
    row, column = np.divmod(np.arange(N_TILES), GRID_SIZE)
    moves = np.array(MOVES)
    next_row = np.clip(row[:, np.newaxis] + moves[:, 0], 0, GRID_SIZE - 1)
    next_column = np.clip(column[:, np.newaxis] + moves[:, 1], 0, GRID_SIZE - 1)
    neighbours: NDArray[np.int64] = next_row * GRID_SIZE + next_column
    return neighbours


_NEIGHBOURS = _neighbours()
_PLACES = np.stack(np.divmod(np.arange(N_TILES), GRID_SIZE), axis=1).astype(np.float32)  # (25, 2)


class ResourceGatheringWorld(RepresentedWorld):
    """E gatherers, each on its own grid; see the module for the rules."""

    metadata = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, n_envs: int = 1, population: Population | None = None) -> None:
        """Make E grids, all at the start of an episode.

        Raises:
            ValueError: n_envs is not an integer >= 1.
        """
        self.n_envs = check_n_envs(n_envs)
        self.population = population or LinearPopulation.tiles(N_TILES)
        high = np.ones(2 + N_TILES, dtype=np.float32)
        high[:2] = GRID_SIZE - 1
        self.observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.action_space = spaces.Discrete(len(MOVES))
        self.outcome_space = spaces.Box(0.0, PERFECT_EPISODE - 1, (N_TILES,), np.float64)
        self._tiles = np.empty(self.n_envs, dtype=np.int64)
        self._steps = np.empty(self.n_envs, dtype=np.int64)
        self._observations = np.empty((self.n_envs, 2 + N_TILES), dtype=np.float32)
        self._visited = self._observations[:, 2:]  # a view: the flags are kept once
        self.reset(np.arange(self.n_envs), ())

    def reset(self, rows: Rows, generators: Sequence[np.random.Generator]) -> None:
        """Put the gatherers of `rows` at home; nothing is drawn."""
        self._tiles[rows] = HOME
        self._steps[rows] = 0
        self._observations[rows, :2] = _PLACES[HOME]
        self._observations[rows, 2:] = 0.0
        self._observations[rows, 2 + HOME] = 1.0

    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Move the gatherers of `rows` by `actions` (B,)."""
        tiles = _NEIGHBOURS[self._tiles[rows], actions]
        self._tiles[rows] = tiles
        self._steps[rows] += 1
        self._observations[rows, :2] = _PLACES[tiles]
        self._observations[rows, 2 + tiles] = 1.0
        terminated = tiles == HOME
        outcomes = np.zeros((len(rows), N_TILES))
        if terminated.any():
            home = rows[terminated]
            value = PERFECT_EPISODE - self._steps[home, np.newaxis]
            outcomes[terminated] = self._visited[home] * np.maximum(value, 0.0)
        return outcomes, terminated

    def observe(self, rows: Rows) -> Array:
        """Copy the observations of `rows`, (B, 27) float32."""
        return self._observations.take(rows, axis=0)

    def get_state(self) -> State:
        """Copy "tile" (E,), "steps" (E,) and "visited" (E, 25)."""
        return {
            "tile": self._tiles.copy(),
            "steps": self._steps.copy(),
            "visited": self._visited.astype(np.bool_),
        }

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `get_state` gave.

        Raises:
            ValueError: an array is missing, has another shape, or names no tile.
        """
        shapes = {name: np.shape(array) for name, array in state.items()}
        row = (self.n_envs,)
        expected = {"tile": row, "steps": row, "visited": (*row, N_TILES)}
        if shapes != expected:
            raise ValueError(f"state has arrays of shapes {shapes}, expected {expected}")
        tiles = np.asarray(state["tile"], dtype=np.int64)
        if (tiles < 0).any() or (tiles >= N_TILES).any():
            raise ValueError(f"state['tile'] is {tiles}, expected tiles from 0 to {N_TILES - 1}")
        self._tiles[:] = tiles
        self._steps[:] = state["steps"]
        self._observations[:, :2] = _PLACES[tiles]
        self._visited[:] = state["visited"]

    def render(self, row: int, mode: str) -> Any:
        """Text ("ansi"), a picture (320, 320, 3) uint8 ("rgb_array"), or print it ("human")."""
        if mode == "rgb_array":
            return self._draw(row)
        if mode == "ansi":
            return self._describe(row)
        if mode == "human":
            print(self._describe(row))
            return None
        return super().render(row, mode)

    def _describe(self, row: int) -> str:
        """The grid as text: H home, o visited, . not yet; brackets around the gatherer."""
        symbols = ["o" if visited else "." for visited in self._visited[row]]
        symbols[HOME] = "H"
        cells = [f" {symbol} " for symbol in symbols]
        cells[self._tiles[row]] = f"[{symbols[self._tiles[row]]}]"
        lines = [
            "".join(cells[start : start + GRID_SIZE]) for start in range(0, N_TILES, GRID_SIZE)
        ]
        n_visited = int(self._visited[row].sum())
        lines.append(f"step {self._steps[row]}, {n_visited} of {N_TILES} tiles visited")
        return "\n".join(lines) + "\n"

    def _draw(self, row: int) -> NDArray[np.uint8]:
        """Tinted tiles are visited, the framed one is home, the disc is the gatherer."""
        tiles = np.full((N_TILES, TILE_PIXELS, TILE_PIXELS, 3), 255, dtype=np.uint8)
        tiles[self._visited[row] > 0] = TRACK_COLOUR
        across = np.arange(TILE_PIXELS) - (TILE_PIXELS - 1) / 2
        from_centre = np.maximum(abs(across), abs(across)[:, np.newaxis])
        tiles[HOME, from_centre > TILE_PIXELS * 0.4] = HOME_COLOUR
        disc = across**2 + across[:, np.newaxis] ** 2 < (TILE_PIXELS * 0.3) ** 2
        tiles[self._tiles[row], disc] = GATHERER_COLOUR
        tiles[:, from_centre > TILE_PIXELS / 2 - 1] = LINE_COLOUR
        grid = tiles.reshape(GRID_SIZE, GRID_SIZE, TILE_PIXELS, TILE_PIXELS, 3)
        return grid.swapaxes(1, 2).reshape(GRID_SIZE * TILE_PIXELS, GRID_SIZE * TILE_PIXELS, 3)


_KEYWORDS = ("population", "population_seed", "render_mode")


def _choose(population: Population | None, seed: int | None) -> Population:
    return choose_population(population, seed, N_TILES, lambda _: LinearPopulation.tiles(N_TILES))


class ResourceGatheringEnv(RepresentedEnv):
    """The single form; see the module."""

    metadata = ResourceGatheringWorld.metadata

    def __init__(
        self,
        *,
        population: Population | None = None,
        population_seed: int | None = None,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        """Make one grid.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        check_keywords(unknown, _KEYWORDS)
        world = ResourceGatheringWorld(1, _choose(population, population_seed))
        super().__init__(world, render_mode=render_mode)


class ResourceGatheringVectorEnv(RepresentedVectorEnv):
    """The vector form; see the module."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        population: Population | None = None,
        population_seed: int | None = None,
        render_mode: str | None = None,
        agent_rewards: bool = True,
        **unknown: Any,
    ) -> None:
        """Make `num_envs` grids.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        own = ("autoreset_mode", "max_episode_steps", "agent_rewards")
        check_keywords(unknown, (*_KEYWORDS, *own))
        super().__init__(
            ResourceGatheringWorld(num_envs, _choose(population, population_seed)),
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            agent_rewards=agent_rewards,
        )
