"""Make the table of Resource Gathering's optima, with a certificate for every budget.

    python scripts/certify_resource_gathering.py            write the table
    python scripts/certify_resource_gathering.py --check    compare with the stored one

Rules and proof: `rmdp_bench.ceilings.resource_gathering_optimum`.  In short: enumerate the
undominated closed tours; find k good ones by interchange; bound every choice of k by Lagrangian
multipliers; solve a mixed-integer programme on the tours that the bound leaves.  All but the
programme is integer arithmetic, the same on every machine.  What the worst agent has at best is the
greatest return with which k tours cover all tiles, and Nash welfare a programme with logarithms
(`ceilings.best_of_candidates`); that of k = 2 takes a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, vstack

from rmdp_bench.ceilings import best_of_candidates

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

TABLE = Path(__file__).parents[1] / "rmdp_bench" / "data" / "resource_gathering_optimum.json"
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
SCALE = 1000
"""Multipliers are integers in thousandths of a percent."""

RULE = (
    "Actions 0 to 3 are up, down, left, right; a move off the grid stays in place. Home counts as "
    "visited from the start. The episode ends when a move ends at home, T steps after the start; "
    "then each agent whose tile was visited earns 100 - T percent. Moving down at home ends the "
    "episode at T = 1 with 99 for the agent of the home tile, so that 25 representatives reach "
    "93.56. The paper's 93.6 is this number rounded; with T = 0 for that agent it is exact."
)


class Grid(NamedTuple):
    """A grid world; tiles are numbered row by row; home is at the border."""

    n_rows: int = 5
    n_columns: int = 5
    home: int = 22

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return self.n_rows * self.n_columns

    def move(self, tile: int, action: int) -> int:
        """Tile after an action; the same one if it leads off the grid."""
        row, column = divmod(tile, self.n_columns)
        row, column = row + MOVES[action][0], column + MOVES[action][1]
        inside = 0 <= row < self.n_rows and 0 <= column < self.n_columns
        return row * self.n_columns + column if inside else tile

    def neighbours(self, tile: int) -> list[int]:
        """The other tiles one move away."""
        return [end for end in (self.move(tile, a) for a in range(4)) if end != tile]


class Tours(NamedTuple):
    """Closed tours from home."""

    visited: BoolArray
    """(m, tiles) which tiles a tour visits, home included."""
    lengths: IntArray
    """(m,) its steps T."""
    n_reachable: int
    """Number of visited sets found before dominated ones were dropped."""


class Choice(NamedTuple):
    """k tours and the proof that no others earn more."""

    tours: list[int]
    """Indices of the tours."""
    total: int
    """What they earn, percent, summed over agents."""
    multipliers: list[int]
    """(tiles,) the u of the bound, in 1 / SCALE percent."""
    lagrangian_bound: float
    """L(u), percent, summed over agents: no choice earns more."""
    n_left: int
    """Number of tours that, by the bound, may be part of a better choice."""
    programme_bound: float
    """HiGHS's dual bound of the total over choices among the tours left and the k tours."""
    programme_gap: float
    """HiGHS's final relative gap."""


def enumerate_tours(grid: Grid) -> Tours:
    """All undominated closed tours that touch home only at their ends, and the stop at step 1.

    Breadth-first search over states (tile, visited set) away from home.  Sets are bit masks over
    the tiles without home; `seen[mask]` holds one bit for each tile, `least[mask]` the least length
    of a tour.  The search ends with the shortest tour of all tiles: longer ones are dominated.
    """
    tiles = [tile for tile in range(grid.n_tiles) if tile != grid.home]
    bit = {tile: number for number, tile in enumerate(tiles)}
    never = np.iinfo(np.uint8).max
    seen = np.zeros(1 << len(tiles), dtype=np.uint32)
    least = np.full(1 << len(tiles), never, dtype=np.uint8)
    frontier = {tile: np.zeros(0, dtype=np.uint32) for tile in tiles}
    for tile in grid.neighbours(grid.home):
        frontier[tile] = np.array([1 << bit[tile]], dtype=np.uint32)
        seen[frontier[tile]] |= np.uint32(1 << bit[tile])
    steps = 1
    while least[-1] == never:
        steps += 1
        for tile in grid.neighbours(grid.home):
            least[frontier[tile]] = np.minimum(least[frontier[tile]], steps)
        frontier = _advance(grid, frontier, bit, seen)
    masks = np.flatnonzero((least < never) & (least < _least_of_supersets(least, len(tiles))))
    visited = np.ones((len(masks) + 1, grid.n_tiles), dtype=bool)
    visited[:-1, tiles] = (masks[:, np.newaxis] >> np.arange(len(tiles))) & 1
    visited[-1, tiles] = False  # pressing against the wall at home
    lengths = np.append(least[masks], 1).astype(np.int64)
    return Tours(visited, lengths, int((least < never).sum()) + 1)


def _advance(
    grid: Grid,
    frontier: dict[int, NDArray[np.uint32]],
    bit: dict[int, int],
    seen: NDArray[np.uint32],
) -> dict[int, NDArray[np.uint32]]:
    """Visited sets first reached on each tile one step later; marks them in `seen`."""
    after = {}
    for tile, number in bit.items():
        sources = [frontier[end] for end in grid.neighbours(tile) if end != grid.home]
        masks = np.unique(np.concatenate(sources) | np.uint32(1 << number))
        masks = masks[(seen[masks] >> np.uint32(number)) & 1 == 0]
        seen[masks] |= np.uint32(1 << number)
        after[tile] = masks
    return after


def _least_of_supersets(least: NDArray[np.uint8], n_bits: int) -> NDArray[np.uint8]:
    """For each mask the least value over its strict supersets (255 if there are none)."""
    closed = least.copy()  # over supersets, the mask itself included
    for number in range(n_bits):
        halves = closed.reshape(-1, 2, 1 << number)
        np.minimum(halves[:, 0], halves[:, 1], out=halves[:, 0])
    strict = np.full_like(least, np.iinfo(np.uint8).max)
    for number in range(n_bits):
        without = strict.reshape(-1, 2, 1 << number)[:, 0]
        np.minimum(without, closed.reshape(-1, 2, 1 << number)[:, 1], out=without)
    return strict


def tour_values(tours: Tours) -> IntArray:
    """(m, tiles) what each agent earns from each tour, percent."""
    return (100 - tours.lengths)[:, np.newaxis] * tours.visited


def interchange(values: IntArray, chosen: list[int]) -> list[int]:
    """Replace one tour at a time by the best other until no replacement earns more."""
    chosen = list(chosen)
    total = int(values[chosen].max(axis=0).sum())
    improved = True
    while improved:
        improved = False
        for place in range(len(chosen)):
            others = chosen[:place] + chosen[place + 1 :]
            rest = values[others].max(axis=0, initial=0)
            totals = np.maximum(values, rest).sum(axis=1)
            best = int(totals.argmax())
            if totals[best] > total:
                total, improved = int(totals[best]), True
                chosen[place] = best
    return chosen


def lagrangian(values: IntArray, multipliers: IntArray, k: int) -> tuple[int, IntArray]:
    """L(u) and rho (m,), both in 1 / SCALE percent."""
    surplus = np.maximum(SCALE * values - multipliers, 0).sum(axis=1)
    greatest = np.partition(surplus, len(surplus) - k)[len(surplus) - k :]
    return int(multipliers.sum() + greatest.sum()), surplus


def minimise_bound(
    values: IntArray, k: int, start: list[int], n_steps: int = 3000
) -> tuple[IntArray, list[int]]:
    """Multipliers of a small L(u) by subgradient steps in integers, and the best choice met.

    The step aims at the best known total (Polyak); it is halved whenever 50 steps bring nothing.
    The k tours of greatest rho are a choice too, a start for `interchange` now and then.
    """
    chosen, total = start, int(values[start].max(axis=0).sum())
    multipliers = SCALE * values[start].max(axis=0)
    best, least, halvings, stalled = multipliers, np.iinfo(np.int64).max, 0, 0
    for step in range(n_steps):
        bound, surplus = lagrangian(values, multipliers, k)
        greatest = np.argsort(-surplus, kind="stable")[:k]
        if bound < least:
            best, least, stalled = multipliers, bound, 0
        else:
            stalled += 1
        if step % 50 == 0:
            other = interchange(values, [int(tour) for tour in greatest])
            if values[other].max(axis=0).sum() > total:
                chosen, total = other, int(values[other].max(axis=0).sum())
        slope = 1 - (SCALE * values[greatest] > multipliers).sum(axis=0)
        if least < SCALE * (total + 1) or not slope.any():
            break
        if stalled > 50:
            halvings, stalled, multipliers = halvings + 1, 0, best
            continue
        size = max((bound - SCALE * total) // (2**halvings * int(slope @ slope)), 1)
        multipliers = multipliers - size * slope
    return best, chosen


def tours_left(lengths: IntArray, surplus: IntArray, bound: int, total: int, k: int) -> IntArray:
    """Tours that may be part of a choice that earns more than `total`, by the bound.

    Totals are integers, and even if all tours of the choice have even lengths, as all have but the
    stop at step 1.
    """
    greatest = bound - np.maximum(np.sort(surplus)[-k] - surplus, 0)  # of choices with that tour
    left = np.flatnonzero(greatest >= SCALE * (total + 1))
    if not (lengths[left] % 2).any():
        left = np.flatnonzero(greatest >= SCALE * (total + 2 - total % 2))
    return left


def solve_programme(values: IntArray, k: int) -> tuple[list[int], float, float]:
    """Choose k of the m tours by a mixed-integer programme, HiGHS without a gap.

    Maximise sum_ij v[i, j] x[i, j] with x[i, j] <= y[j], sum_j x[i, j] <= 1, sum_j y[j] <= k,
    x >= 0, y in {0, 1}; pairs of value zero are left out.

    Returns:
        The tours chosen, the dual bound of the total, the relative gap.
    """
    m, n_tiles = values.shape
    tour, tile = np.nonzero(values)
    pair = np.arange(len(tour))
    one, shape = np.ones(len(tour)), (len(tour), m + len(tour))
    linking = coo_array((one, (pair, m + pair)), shape=shape) - coo_array(
        (one, (pair, tour)), shape=shape
    )
    once = coo_array((one, (tile, m + pair)), shape=(n_tiles, shape[1]))
    budget = csr_array(np.append(np.ones(m), np.zeros(len(tour)))[np.newaxis])
    upper = np.concatenate((np.zeros(len(tour)), np.ones(n_tiles), [k]))
    result = milp(
        -np.append(np.zeros(m), values[tour, tile]),
        constraints=LinearConstraint(vstack((linking, once, budget)).tocsr(), ub=upper),
        integrality=np.append(np.ones(m), np.zeros(len(tour))),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if result.status != 0:
        raise RuntimeError(f"HiGHS did not finish for k = {k}: {result.message}")
    chosen = [int(j) for j in np.flatnonzero(result.x[:m] > 0.5)]
    return chosen, -float(result.mip_dual_bound), float(result.mip_gap)


def choose(tours: Tours, k: int) -> Choice:
    """The best k tours, with the proof."""
    values = tour_values(tours)
    greedy: list[int] = []
    for _ in range(k):
        rest = values[greedy].max(axis=0, initial=0)
        greedy.append(int(np.maximum(values, rest).sum(axis=1).argmax()))
    multipliers, chosen = minimise_bound(values, k, interchange(values, greedy))
    total = int(values[chosen].max(axis=0).sum())
    bound, surplus = lagrangian(values, multipliers, k)
    left = tours_left(tours.lengths, surplus, bound, total, k)
    candidates = np.union1d(left, chosen)
    found, programme_bound, programme_gap = solve_programme(values[candidates], k)
    found = [int(candidates[j]) for j in found]
    if values[found].max(axis=0).sum() > total:
        chosen, total = found, int(values[found].max(axis=0).sum())
    if programme_bound >= total + 1:
        raise RuntimeError(f"no proof for k = {k}: {total} found, {programme_bound} possible")
    chosen.sort(key=lambda j: (tours.lengths[j], tours.visited[j].tolist()))
    return Choice(
        chosen,
        total,
        [int(u) for u in multipliers],
        bound / SCALE,
        len(left),
        round(programme_bound, 6) + 0.0,
        round(programme_gap, 6) + 0.0,
    )


def find_actions(grid: Grid, visited: BoolArray, length: int) -> list[int]:
    """Shortest actions from home to home over exactly the visited tiles, by depth-first search."""
    goal = sum(1 << int(tile) for tile in np.flatnonzero(visited))
    hopeless: set[tuple[int, int, int]] = set()

    def search(tile: int, mask: int, left: int) -> list[int] | None:
        if left < (goal & ~mask).bit_count() + 1 or (tile, mask, left) in hopeless:
            return None
        for action in range(4):
            end = grid.move(tile, action)
            if end == grid.home:
                if left == 1 and mask == goal:
                    return [action]
            elif goal >> end & 1 and end != tile:
                rest = search(end, mask | 1 << end, left - 1)
                if rest is not None:
                    return [action, *rest]
        hopeless.add((tile, mask, left))
        return None

    actions = search(grid.home, 1 << grid.home, length)
    if actions is None:
        raise RuntimeError(f"no tour of {length} steps over the tiles {np.flatnonzero(visited)}")
    return actions


def make_table(budgets: range = range(1, 26)) -> dict[str, Any]:
    """The whole table; `budgets` limits it for tests."""
    grid = Grid()
    tours = enumerate_tours(grid)
    values = tour_values(tours).T.astype(np.float64)
    optima = []
    for k in budgets:
        choice = choose(tours, k)
        optima.append(
            {
                "n_representatives": k,
                "welfare": choice.total / grid.n_tiles,
                "total": choice.total,
                "worst_agent": best_of_candidates(values, k, "egalitarian"),
                "nash_welfare": round(best_of_candidates(values, k, "nash"), 9),
                "tours": [
                    find_actions(grid, tours.visited[j], int(tours.lengths[j]))
                    for j in choice.tours
                ],
                "multipliers": choice.multipliers,
                "lagrangian_bound": choice.lagrangian_bound,
                "tours_left": choice.n_left,
                "programme_bound": choice.programme_bound,
                "programme_gap": choice.programme_gap,
            }
        )
    lengths, counts = np.unique(tours.lengths, return_counts=True)
    return {
        "rule": RULE,
        "multiplier_scale": SCALE,
        "visited_sets": tours.n_reachable,
        "undominated_tours": len(tours.lengths),
        "undominated_tours_by_length": {
            str(length): int(count) for length, count in zip(lengths, counts, strict=True)
        },
        "versions": {
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "solver": "HiGHS of scipy.optimize.milp",
        },
        "optima": optima,
    }


def to_text(table: dict[str, Any]) -> str:
    """JSON with one line for each entry and each tour."""
    head = {key: value for key, value in table.items() if key != "optima"}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    rows = []
    for optimum in table["optima"]:
        fields = [
            f"   {json.dumps(key)}: {json.dumps(value)}"
            for key, value in optimum.items()
            if key != "tours"
        ]
        tours = ",\n".join(f"    {json.dumps(actions)}" for actions in optimum["tours"])
        fields.append(f'   "tours": [\n{tours}\n   ]')
        rows.append("  {\n" + ",\n".join(fields) + "\n  }")
    return "\n".join(["{", *lines, ' "optima": [', ",\n".join(rows), " ]", "}"]) + "\n"


def main() -> int:
    """Write the table, or compare."""
    parser = argparse.ArgumentParser(description="Make the table of Resource Gathering's optima.")
    parser.add_argument("--check", action="store_true", help="compare with the stored table")
    text = to_text(make_table())
    if parser.parse_args().check:
        same = TABLE.read_text(encoding="utf-8") == text
        print("the stored table is the same" if same else "the stored table differs")
        return 0 if same else 1
    TABLE.parent.mkdir(exist_ok=True)
    temporary = TABLE.with_suffix(".json.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, TABLE)
    print(f"wrote {TABLE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
