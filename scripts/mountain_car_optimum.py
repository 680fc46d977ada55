"""The greatest return of agents of `MountainCarHet`, and how far from it the number can be.

    python -m scripts.mountain_car_optimum 0 3

The world is deterministic, so that the optimum of an agent is the mean, over where the car starts,
of minus the steps that it needs.  It is enclosed from both sides:

  - *attained*: value iteration on grids of positions and velocities, values interpolated, then the
    greedy policy in the world itself from `N_STARTS` evenly spaced starts; of a start the best that
    a grid's policy reaches.  No policy that does worse than the optimum can be counted as better.
  - *bound*: from each cell of a grid of cells, the fewest steps that the most fortunate of its
    points could need, if after every step the car could be put anywhere into the cells that it may
    have reached.  No policy does better.

The first is the reference.  Next states are those of `classic_het.MountainCarWorld.step`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from rmdp_bench import get_population
from rmdp_bench.envs import get_environment
from rmdp_bench.envs.classic_het import MountainCarWorld
from rmdp_bench.population import DynamicsPopulation

ENV_ID = "rmdp/MountainCarHet-n500-v0"
POLICY_GRIDS = ((961, 361), (1921, 721))
"""Points of position and velocity."""
BOUND_GRID = (4000, 3000)
"""Cells of position and velocity."""
N_STARTS = 2000
STARTS = (-0.6, -0.4)
"""Range of the uniform initial position; the car stands."""
TOLERANCE = 1e-9
"""Of values, steps: when value iteration has converged."""
_MARGIN = 1e-12
"""By which images of cells are widened for rounding."""

Array = NDArray[Any]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def _compiled(function: FunctionT) -> FunctionT:
    return cast(FunctionT, numba.njit(function))


def attain(
    agent: int, grids: tuple[tuple[int, int], ...] = POLICY_GRIDS, n_starts: int = N_STARTS
) -> float:
    """Return of an agent that is attained."""
    population, starts = load_population(), _starts(n_starts)
    returns = [
        play_greedily(population, agent, solve(population, agent, grid), starts) for grid in grids
    ]
    return float(np.max(returns, axis=0).mean())


def bound(agent: int, grid: tuple[int, int] = BOUND_GRID, n_starts: int = N_STARTS) -> float:
    """Return of an agent that no policy exceeds."""
    return float(bound_returns(load_population(), agent, grid, _starts(n_starts)).mean())


def _starts(number: int) -> Array:
    low, high = STARTS
    starts: Array = low + (high - low) * (np.arange(number) + 0.5) / number
    return starts


def load_population() -> DynamicsPopulation:
    """The agents of the environment."""
    return cast(DynamicsPopulation, get_population(ENV_ID))


def step_all(population: DynamicsPopulation, agent: int, states: Array) -> tuple[Array, Array]:
    """Next states (3, B, 2) of states (B, 2) under each action, and whether they end (3, B)."""
    world, rows = MountainCarWorld(population, len(states)), np.arange(len(states))
    after, ended = [], []
    for action in range(MountainCarWorld.n_actions):
        world.set_state({"agent": np.full(len(states), agent), "state": states})
        ended.append(world.step(rows, np.full(len(rows), action))[1])
        after.append(world.get_state()["state"])
    return np.stack(after), np.stack(ended)


def _limit() -> int:
    """Steps of an episode."""
    return get_environment(ENV_ID).max_episode_steps


def _points(shape: tuple[int, int]) -> Array:
    """States (P V, 2) of a grid that has the bounds of the world on its edge."""
    axes = [
        np.linspace(low, high, size)
        for (low, high), size in zip(MountainCarWorld.bounds, shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _locate(states: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Lower grid point (..., 2) of each state, and how far along to the next one, 0 to 1."""
    low, high = np.array(MountainCarWorld.bounds).T
    places = (states - low) / (high - low) * (np.array(shape) - 1)
    below = np.clip(places.astype(np.int32), 0, np.array(shape, np.int32) - 2)
    return below, places - below


def solve(population: DynamicsPopulation, agent: int, shape: tuple[int, int]) -> Array:
    """Values (P, V) of the points of a grid, by Gauss-Seidel value iteration."""
    after, ended = step_all(population, agent, _points(shape))
    below, along = _locate(after, shape)
    values = np.full(shape, -float(_limit()))
    sweep, change = 0, np.inf
    while change > TOLERANCE:
        change = _improve(values, below, along, ended, sweep % 4)
        sweep += 1
    return values


@_compiled
def _improve(values: Array, below: Array, along: Array, ended: Array, corner: int) -> float:
    """One sweep from a corner of the grid; the greatest change."""
    n_p, n_v = values.shape
    greatest = 0.0
    for a in range(n_p):
        p = a if corner % 2 == 0 else n_p - 1 - a
        for b in range(n_v):
            v = b if corner < 2 else n_v - 1 - b
            s = p * n_v + v
            best = -np.inf
            for action in range(len(ended)):
                value = 0.0
                if not ended[action, s]:
                    i, j = below[action, s]
                    x, y = along[action, s]
                    value = -1.0 + (
                        (1 - x) * ((1 - y) * values[i, j] + y * values[i, j + 1])
                        + x * ((1 - y) * values[i + 1, j] + y * values[i + 1, j + 1])
                    )
                best = max(best, value)
            greatest = max(greatest, abs(best - values[p, v]))
            values[p, v] = best
    return greatest


def play_greedily(
    population: DynamicsPopulation, agent: int, values: Array, positions: Array
) -> Array:
    """Returns (B,) of the greedy policy of a grid's values, in the world, from positions (B,)."""
    states = np.stack((positions, np.zeros_like(positions)), axis=-1)
    returns, playing, rows = (
        np.zeros(len(states)),
        np.ones(len(states), bool),
        np.arange(len(states)),
    )
    for _ in range(_limit()):
        after, ended = step_all(population, agent, states)
        below, along = _locate(after, cast(tuple[int, int], values.shape))
        (i, j), (x, y) = np.moveaxis(below, -1, 0), np.moveaxis(along, -1, 0)
        ahead = (1 - x) * ((1 - y) * values[i, j] + y * values[i, j + 1])
        ahead += x * ((1 - y) * values[i + 1, j] + y * values[i + 1, j + 1])
        actions = np.where(ended, 1.0, ahead).argmax(axis=0)
        playing &= ~ended[actions, rows]
        returns -= playing
        states = after[actions, rows]
        if not playing.any():
            break
    return returns


def bound_returns(
    population: DynamicsPopulation, agent: int, shape: tuple[int, int], positions: Array
) -> Array:
    """Returns (B,) that no policy exceeds from positions (B,), on a grid of cells."""
    corners, ended = find_images(population, agent, shape)
    steps = np.full(shape, np.iinfo(np.int16).max // 2, np.int16)
    quiet = sweep = 0
    while quiet < 4:  # one sweep from each corner without a change
        quiet = 0 if _hasten(steps, corners, ended, sweep % 4) else quiet + 1
        sweep += 1
    start = np.stack((positions, np.zeros_like(positions)), axis=-1)
    # A car that stands may be on the edge between two cells.
    around = [find_cells(start + [0.0, side * _MARGIN], shape) for side in (-1, 1)]
    fewest = np.min([steps[tuple(cells.T)] for cells in around], axis=0).astype(np.float64)
    # The step that reaches the flag costs nothing; who is not there in time has minus the limit.
    bounds: Array = -np.minimum(fewest - 1.0, _limit())
    return bounds


def find_images(
    population: DynamicsPopulation, agent: int, shape: tuple[int, int]
) -> tuple[Array, Array]:
    """Cells that a cell's points may reach.

    Positions and velocities after a step grow with both before it, but for the slope, whose extreme
    inside a cell differs from those on its edges by at most gravity (3 width)^2 / 8, and for the
    wall, where the car is stopped.

    Returns:
        First and last cell, of position and velocity, (2, 3, P V, 2), and whether one may be at the
        flag (3, P V).
    """
    n_p, n_v = shape
    low, high = np.array(MountainCarWorld.bounds).T
    (gravity,) = population.parameters[agent]
    slack = gravity * (3 * (high[0] - low[0]) / n_p) ** 2 / 8
    margin = np.array([_MARGIN, slack + _MARGIN])
    reached = np.empty((2, MountainCarWorld.n_actions, n_p * n_v, 2), np.int16)
    ended = np.empty((MountainCarWorld.n_actions, n_p * n_v), bool)
    edges = _points((n_p + 1, n_v + 1)).reshape(n_p + 1, n_v + 1, 2)
    for first in range(0, n_p, 250):  # parts, so that memory is enough
        part = edges[first : first + 251]
        after, _ = step_all(population, agent, part.reshape(-1, 2))
        after = after.reshape(-1, *part.shape)
        four = np.stack(
            [after[:, i : i + len(part) - 1, j : j + n_v] for i in (0, 1) for j in (0, 1)]
        )
        least, greatest = four.min(axis=0), four.max(axis=0)
        stopped = (four[..., 0] <= low[0]).any(axis=0)
        greatest[..., 1][stopped] = np.maximum(greatest[..., 1][stopped], 0.0)
        least, greatest = least - margin, greatest + margin
        rows = slice(first * n_v, (first + len(part) - 1) * n_v)
        for side, states in enumerate((least, greatest)):
            reached[side, :, rows] = find_cells(states, shape).reshape(len(ended), -1, 2)
        # Where the greatest of both is not at the flag, no point of the cell is.
        ends = _at_the_flag(greatest)
        ended[:, rows] = ends.reshape(len(ended), -1)
    return reached, ended


def _at_the_flag(states: Array) -> Array:
    """Whether states (..., 2) end an episode."""
    terminated = get_environment(ENV_ID).termination_function
    assert terminated is not None
    return np.asarray(terminated(states, None, states))


def find_cells(states: Array, shape: tuple[int, int]) -> Array:
    """The cells (..., 2) of states (..., 2)."""
    size, (low, high) = np.array(shape), np.array(MountainCarWorld.bounds).T
    cells = np.floor((states - low) / (high - low) * size)
    clipped: Array = np.clip(cells, 0, size - 1).astype(np.int16)
    return clipped


@_compiled
def _hasten(steps: Array, reached: Array, ended: Array, corner: int) -> bool:
    """One sweep from a corner of the cells; whether a cell needs fewer steps than before."""
    n_p, n_v = steps.shape
    changed = False
    for a in range(n_p):
        p = a if corner % 2 == 0 else n_p - 1 - a
        for b in range(n_v):
            v = b if corner < 2 else n_v - 1 - b
            s = p * n_v + v
            fewest = steps[p, v]
            for action in range(len(ended)):
                if ended[action, s]:
                    fewest = min(fewest, 1)
                    continue
                for i in range(reached[0, action, s, 0], reached[1, action, s, 0] + 1):
                    for j in range(reached[0, action, s, 1], reached[1, action, s, 1] + 1):
                        fewest = min(fewest, steps[i, j] + 1)
            if fewest < steps[p, v]:
                steps[p, v] = fewest
                changed = True
    return changed


def main() -> None:
    """Print both numbers for some agents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("agents", nargs="+", type=int)
    arguments = parser.parse_args()
    for agent in arguments.agents:
        began = time.perf_counter()
        between = f"{attain(agent):.3f} to {bound(agent):.3f}"
        print(f"agent {agent}: {between} ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
