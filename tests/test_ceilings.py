"""Ceilings: against brute force, independent recursions and an independent simulation."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rmdp_bench.ceilings import constant_speed_optimum, resource_gathering_optimum
from rmdp_bench.population import LinearPopulation, TargetPopulation
from rmdp_bench.scoring import nash_welfare
from rmdp_bench.tasks import OnlineTask, get_task
from tests.helpers.checkout import ROOT

STORED = json.loads(
    (ROOT / "rmdp_bench/data/resource_gathering_optimum.json").read_text(encoding="utf-8")
)


def welfare_of_speeds(population: TargetPopulation, speeds: Any) -> float:
    rewards = population.rewards(np.array(speeds, dtype=np.float64)[:, np.newaxis])  # (k, n)
    return float(1000 * rewards.max(axis=0).mean())


def best_by_groups(population: TargetPopulation, k: int) -> float:
    """Recursion over contiguous groups of agents, each at its best target: O(k n^3)."""
    targets = np.sort(population.targets)
    n = len(targets)
    tents = np.maximum(1 - np.abs(targets[:, None] - targets) / population.width, 0)  # (speed, l)
    sums = np.concatenate((np.zeros((n, 1)), np.cumsum(tents, axis=1)), axis=1)
    group = (sums[:, np.newaxis, :] - sums[:, :, np.newaxis]).max(axis=0)  # agents i .. j - 1
    best = np.where(np.arange(n + 1) == 0, 0.0, -np.inf)
    for _ in range(k):
        best = np.array([max(best[i] + group[i, j] for i in range(j + 1)) for j in range(n + 1)])
    return float(1000 * population.peak * best[n] / n)


@pytest.mark.parametrize("seed", range(300))
def test_constant_speed_against_all_sets_of_targets(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, k = int(generator.integers(1, 9)), int(generator.integers(1, 10))
    # Few decimals give duplicates and agents exactly at the foot of a tent.
    targets = generator.uniform(-2, 2, n).round(int(generator.choice([1, 8])))
    population = TargetPopulation(targets, width=float(generator.choice([0.2, 0.5, 1.0, 5.0])))
    welfare, speeds, assignment = constant_speed_optimum(population, k)
    sets = itertools.combinations(targets, min(k, n))
    assert welfare == pytest.approx(max(welfare_of_speeds(population, s) for s in sets), abs=1e-9)
    # The speeds and the assignment attain it.
    assert speeds.shape == (k,) and (np.diff(speeds) >= 0).all()
    assert assignment.shape == (n, k) and set(np.unique(assignment)) <= {0.0, 1.0}
    np.testing.assert_array_equal(assignment.sum(axis=1), 1)
    matrix = 1000 * population.rewards(speeds[:, np.newaxis]).T  # (n, k)
    assert (assignment * matrix).sum() / n == pytest.approx(welfare, abs=1e-9)
    # No other speeds do better.
    others = generator.uniform(-2.5, 2.5, (200, k))
    assert max(welfare_of_speeds(population, s) for s in others) <= welfare + 1e-9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
def test_constant_speed_against_the_recursion_over_groups(seed: int, k: int) -> None:
    for population in (
        TargetPopulation.uniform(80, 4.0, seed=seed),
        TargetPopulation(np.random.default_rng(seed).normal(size=80), width=0.4, peak=0.05),
    ):
        optimum = constant_speed_optimum(population, k)
        assert optimum.welfare == pytest.approx(best_by_groups(population, k), abs=1e-9)


def test_constant_speed_of_the_reference_population() -> None:
    population = TargetPopulation.uniform(100, 4.0, seed=0)
    found = [constant_speed_optimum(population, k).welfare for k in (1, 2, 5, 10)]
    np.testing.assert_allclose(found, [9.4907230, 17.1674756, 36.4565737, 58.8391101], atol=1e-6)
    # The bound is only a unit of speed.
    slow = TargetPopulation.uniform(100, 2.5, seed=0)
    assert constant_speed_optimum(slow, 5).welfare == pytest.approx(found[2], abs=1e-9)


def test_constant_speed_means_over_populations() -> None:
    # Infinitely many agents: 5 k percent up to k = 10, then 100 (1 - 5 / k); more for few agents.
    for n, k, expected in ((100, 1, 9.390), (100, 5, 37.136), (100, 10, 61.652), (1000, 50, 91.4)):
        found = [
            constant_speed_optimum(
                TargetPopulation(np.random.default_rng(seed).uniform(0, 4, n), width=0.2), k
            ).welfare
            for seed in range(10)
        ]
        assert np.mean(found) == pytest.approx(expected, abs=1e-3 if n == 100 else 0.1)
        assert min(found) >= (5 * k if k <= 10 else 100 * (1 - 5 / k))
    regular = TargetPopulation(np.linspace(0, 4, 20001), width=0.2)
    assert constant_speed_optimum(regular, 5).welfare == pytest.approx(25, abs=0.01)
    assert constant_speed_optimum(regular, 20).welfare == pytest.approx(75, abs=0.01)


def test_constant_speed_grows_with_the_budget_to_100() -> None:
    population = TargetPopulation(np.random.default_rng(0).uniform(0, 4, 30), width=0.2)
    found = [constant_speed_optimum(population, k).welfare for k in range(1, 33)]
    gains = np.diff(found)
    assert (gains >= -1e-9).all() and (np.diff(gains) <= 1e-9).all()  # concave in k
    assert found[29] == pytest.approx(100) and found[31] == pytest.approx(100)
    assert found[28] < 100 - 1e-6


def test_constant_speed_does_not_need_the_order() -> None:
    population = TargetPopulation.uniform(1000, 4.0, seed=1)
    first = constant_speed_optimum(population, 50)
    order = np.random.default_rng(0).permutation(1000)
    shuffled = TargetPopulation(population.targets[order], width=0.2)
    second = constant_speed_optimum(shuffled, 50)
    assert second.welfare == pytest.approx(first.welfare, abs=1e-9)
    np.testing.assert_array_equal(second.assignment, first.assignment[order])


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "5", None])
def test_bad_budgets_are_one_clear_error(k: Any) -> None:
    for call in (
        lambda: constant_speed_optimum(TargetPopulation.uniform(5, 4.0, seed=0), k),
        lambda: resource_gathering_optimum(k),
    ):
        with pytest.raises(ValueError, match="n_representatives is"):
            call()


def test_bad_population_is_one_clear_error() -> None:
    population: Any = LinearPopulation.tiles()
    with pytest.raises(ValueError, match="expected a TargetPopulation"):
        constant_speed_optimum(population, 3)
    with pytest.raises(ValueError, match="from 1 to 25"):
        resource_gathering_optimum(26)


# Resource Gathering.


@pytest.fixture(scope="module")
def certify() -> ModuleType:
    path = ROOT / "scripts" / "certify_resource_gathering.py"
    spec = importlib.util.spec_from_file_location("certify_resource_gathering", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tours(certify: ModuleType) -> Any:
    return certify.enumerate_tours(certify.Grid())


def play(actions: Any) -> tuple[list[float], set[int]]:
    """The rules once more: what the 25 agents earn, and the tiles visited."""
    row, column, visited, steps = 4, 2, {(4, 2)}, 0
    for action in actions:
        assert steps == 0 or (row, column) != (4, 2), "steps after the end"
        if action == 0 and row > 0:
            row -= 1
        elif action == 1 and row < 4:
            row += 1
        elif action == 2 and column > 0:
            column -= 1
        elif action == 3 and column < 4:
            column += 1
        steps += 1
        visited.add((row, column))
    assert (row, column) == (4, 2) and steps <= 40, "no reward"
    rewards = [100.0 - steps if divmod(tile, 5) in visited else 0.0 for tile in range(25)]
    return rewards, {5 * r + c for r, c in visited}


@pytest.mark.parametrize("k", range(1, 26))
def test_stored_tours_earn_the_stored_welfare(k: int) -> None:
    welfare, tours, assignment, *_ = resource_gathering_optimum(k)
    assert len(tours) == k and assignment.shape == (25, k)
    matrix = []
    for tour in tours:
        rewards, tiles = play(tour.actions)
        assert set(tour.tiles) == tiles and len(tour.tiles) == len(tour.actions) + 1
        matrix.append(rewards)
    np.testing.assert_array_equal(assignment.sum(axis=1), 1)
    assert (assignment * np.array(matrix).T).sum() / 25 == pytest.approx(welfare, abs=1e-12)
    assert np.max(matrix, axis=0).mean() == pytest.approx(welfare, abs=1e-12)


def test_known_optima() -> None:
    found = {k: resource_gathering_optimum(k).welfare for k in (1, 2, 3, 5, 10, 25)}
    assert found == {1: 74.0, 2: 86.0, 3: 89.28, 5: 91.04, 10: 92.32, 25: 93.56}
    # k = 25: each agent fetches its own tile and returns; the home tile's presses against the wall.
    distances = [abs(tile // 5 - 4) + abs(tile % 5 - 2) for tile in range(25)]
    assert sum(100 - 2 * d if d else 99 for d in distances) / 25 == 93.56
    # k = 1: 25 tiles, and a closed tour on a chessboard has an even number of steps.
    assert resource_gathering_optimum(1).tours[0].tiles[0] == 22
    assert len(resource_gathering_optimum(1).tours[0].actions) == 26


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 3, 4), (3, 3, 7), (3, 3, 8), (3, 4, 9)])
def test_enumeration_against_all_walks(certify: ModuleType, size: tuple[int, int, int]) -> None:
    grid = certify.Grid(*size)
    least: dict[frozenset[int], int] = {}
    everything = frozenset(range(grid.n_tiles))
    layer = {(grid.home, frozenset([grid.home]))}  # all walks, also those with bumps
    for steps in range(1, 40):
        after = set()
        for tile, visited in layer:
            for action in range(4):
                end = grid.move(tile, action)
                if end == grid.home:
                    least.setdefault(visited, steps)
                else:
                    after.add((end, visited | {end}))
        layer = after
        if everything in least:
            break
    expected = {
        (visited, length)
        for visited, length in least.items()
        if not any(visited < other and least[other] <= length for other in least)
    }
    found = certify.enumerate_tours(grid)
    assert found.n_reachable == len(least)
    assert len(found.lengths) == len(expected)
    assert {
        (frozenset(np.flatnonzero(visited).tolist()), int(length))
        for visited, length in zip(found.visited, found.lengths, strict=True)
    } == expected


def test_enumeration_of_the_world(tours: Any) -> None:
    assert len(tours.lengths) == STORED["undominated_tours"] == 5081
    assert tours.n_reachable == STORED["visited_sets"]
    # Left and right are the same.
    mirrored = tours.visited.reshape(-1, 5, 5)[:, :, ::-1].reshape(-1, 25)
    both = [
        {(tuple(v), int(t)) for v, t in zip(visited.tolist(), tours.lengths, strict=True)}
        for visited in (tours.visited, mirrored)
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("k", range(1, 26))
def test_stored_multipliers_prove_the_optimum(certify: ModuleType, tours: Any, k: int) -> None:
    """The bound by hand, in integers; where it leaves tours, their number is as stored."""
    optimum = STORED["optima"][k - 1]
    u = np.array(optimum["multipliers"])
    values = 1000 * (100 - tours.lengths)[:, np.newaxis] * tours.visited
    surplus = np.clip(values - u, 0, None).sum(axis=1)
    ordered = np.sort(surplus)[::-1]
    bound = int(u.sum() + ordered[:k].sum())
    assert bound == round(1000 * optimum["lagrangian_bound"])
    total = optimum["total"]
    assert optimum["welfare"] == total / 25 and bound >= 1000 * total
    with_tour = bound - np.clip(ordered[k - 1] - surplus, 0, None)
    better = with_tour >= 1000 * (total + 1)
    if not better[tours.lengths == 1].any():  # then totals are even
        better = with_tour >= 1000 * (total + 1 + (total + 1) % 2)
    assert better.sum() == optimum["tours_left"]
    assert optimum["tours_left"] == 0 or k in (2, 10)
    assert optimum["programme_bound"] == total and optimum["programme_gap"] == 0


def test_one_and_two_representatives_by_brute_force(certify: ModuleType, tours: Any) -> None:
    values = certify.tour_values(tours).astype(np.uint8)
    assert values.sum(axis=1, dtype=np.int64).max() == 1850
    best = 0
    for j in range(len(values)):
        totals = np.maximum(values[j], values[j:]).sum(axis=1, dtype=np.uint16)
        best = max(best, int(totals.max()))
    assert best == 2150
    worst = max(int(np.maximum(row, values).min(axis=1).max()) for row in values)
    assert (int(values.min(axis=1).max()), worst) == (74, 86)
    assert [resource_gathering_optimum(k).worst_agent for k in (1, 2, 25)] == [74.0, 86.0, 88.0]
    for k, worst_agent in ((1, 74.0), (2, 86.0), (5, 88.0)):
        task = get_task("ResourceGathering-n25-v0", k, objective="egalitarian")
        assert isinstance(task, OnlineTask) and task.objective_ceiling == worst_agent


def test_nash_welfare_of_one_and_two_representatives_by_brute_force(
    certify: ModuleType, tours: Any
) -> None:
    values = certify.tour_values(tours).astype(np.uint8)
    logarithms = np.log1p(np.arange(101.0)).astype(np.float32)
    best = max(float(logarithms[np.maximum(row, values)].sum(1).max()) for row in values)
    found = np.log1p(resource_gathering_optimum(2).nash_welfare)
    assert best / 25 == pytest.approx(found, abs=1e-5)
    assert resource_gathering_optimum(1).nash_welfare == pytest.approx(74.0)


@pytest.mark.parametrize("k", range(1, 26))
def test_nash_welfare_lies_between_the_worst_agent_and_the_mean(k: int) -> None:
    optimum = resource_gathering_optimum(k)
    returns = np.array([max(play(tour.actions)[0][i] for tour in optimum.tours) for i in range(25)])
    assert nash_welfare(returns) <= optimum.nash_welfare + 1e-9
    assert optimum.worst_agent <= optimum.nash_welfare + 1e-9 <= optimum.welfare + 2e-9
    for objective, ceiling in (
        ("nash", optimum.nash_welfare),
        ("p_mean=-2", optimum.nash_welfare),
        ("p_mean=0.5", optimum.welfare),
    ):
        task = get_task("ResourceGathering-n25-v0", k, objective=objective)
        assert isinstance(task, OnlineTask) and task.objective_ceiling == ceiling


def test_the_script_makes_the_stored_entries(certify: ModuleType) -> None:
    table = certify.make_table(range(5, 7))
    assert table["optima"] == STORED["optima"][4:6]
    same = {key: value for key, value in table.items() if key not in ("optima", "versions")}
    assert same == {key: value for key, value in STORED.items() if key in same}
    stored_text = (ROOT / "rmdp_bench/data/resource_gathering_optimum.json").read_text()
    assert certify.to_text(STORED) == stored_text


def test_programme_finds_what_the_bound_proves(certify: ModuleType, tours: Any) -> None:
    values = certify.tour_values(tours)
    generator = np.random.default_rng(0)
    for k in (1, 2, 3):
        some = values[generator.choice(len(values), 40, replace=False)]
        chosen, bound, gap = certify.solve_programme(some, k)
        best = max(some[list(c)].max(axis=0).sum() for c in itertools.combinations(range(40), k))
        assert some[chosen].max(axis=0).sum() == best == pytest.approx(bound) and gap == 0
