"""One conditioned policy: its gradients, its training, and the exact choice of its conditions."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.online.ppo.policies import make_solution
from baselines.online.universal import solver as universal
from baselines.online.universal.conditions import (
    TargetConditions,
    WeightConditions,
    make_conditions,
)
from baselines.online.universal.learner import ConditionedLearner
from rmdp_bench import LinearPopulation, TargetPopulation, load_solution, save_solution
from rmdp_bench.ceilings import constant_speed_optimum
from rmdp_bench.evaluation import evaluate
from rmdp_bench.facility_location import best_on_a_line, local_search, select
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.runs.display import NoDisplay
from rmdp_bench.tasks import OnlineTask, get_online_task
from tests.helpers.online_settings import SMALL_UNIVERSAL
from tests.helpers.point_world import N_STEPS, TARGETS, point_task

pytestmark = pytest.mark.arithmetic

POPULATION = TargetPopulation(TARGETS, width=0.6, peak=100 / N_STEPS)


def brute_force(welfare: np.ndarray, k: int) -> float:
    choices = itertools.combinations(range(welfare.shape[1]), k)
    return max(float(welfare[:, list(chosen)].max(1).mean()) for chosen in choices)


def random_welfare(case: int) -> tuple[np.ndarray, int]:
    """Dense, sparse, and with many ties, in turn."""
    generator = np.random.default_rng(case)
    n, m = generator.integers(2, 12), generator.integers(2, 10)
    dense = generator.uniform(0, 100, (n, m))
    sparse = np.maximum(generator.normal(-0.5, 1, (n, m)), 0)
    ties = generator.integers(0, 3, (n, m)).astype(float)
    return (dense, sparse, ties)[case % 3], int(generator.integers(1, m + 1))


@pytest.mark.parametrize("case", range(60))
def test_selection_is_optimal(case: int) -> None:
    welfare, k = random_welfare(case)
    found = select(welfare, k)
    assert len(set(found.chosen.tolist())) == k
    assert found.welfare == pytest.approx(welfare[:, found.chosen].max(1).mean())
    assert found.welfare == pytest.approx(brute_force(welfare, k))
    assert found.bound == pytest.approx(found.welfare, rel=1e-5)


def test_selection_proves_what_swaps_do_not_find() -> None:
    """Some cases must need the integer programme, or the test above shows little."""
    beaten = 0
    for case in range(300):
        welfare, k = random_welfare(case)
        served = welfare[:, local_search(welfare, k)].max(1).mean()
        beaten += served < brute_force(welfare, k) - 1e-9
    assert beaten > 0


@pytest.mark.parametrize("case", range(30))
def test_a_line_is_solved_by_dynamic_programming(case: int) -> None:
    """Rows that rise and then fall, with ties and zeros: no start and no programme is needed."""
    generator = np.random.default_rng(case)
    n, m = generator.integers(2, 12), generator.integers(2, 10)
    places = generator.uniform(0, 1, (n, 1))
    welfare = np.maximum(generator.uniform(0.5, 2) - 4 * np.abs(places - np.linspace(0, 1, m)), 0)
    k = int(generator.integers(1, m + 1))
    chosen = best_on_a_line(welfare, k)
    assert len(set(chosen.tolist())) == k
    assert welfare[:, chosen].max(1).mean() == pytest.approx(brute_force(welfare, k))


def test_a_choice_on_a_line_that_is_not_quite_one_is_exact_too() -> None:
    beaten = 0
    for case in range(60):
        welfare, k = random_welfare(case)
        best = brute_force(welfare, k)
        assert select(welfare, k, on_a_line=True).welfare == pytest.approx(best)
        beaten += welfare[:, best_on_a_line(welfare, k)].max(1).mean() < best - 1e-9
    assert beaten > 0


@pytest.mark.parametrize("case", range(30))
def test_selection_too_large_for_a_proof_has_a_valid_bound(case: int) -> None:
    welfare, k = random_welfare(case)
    found = select(welfare, k, max_variables=0)
    assert found.welfare <= brute_force(welfare, k) + 1e-9 <= found.bound + 2e-9


def test_selection_of_perfect_policies_is_the_ceiling() -> None:
    task = get_online_task("HalfCheetahVel-n100-k5-v0")
    population: Any = task.population
    speeds = np.sort(population.targets)
    welfare = 1000 * population.rewards(speeds[:, None]).T
    assert select(welfare, 5).welfare == pytest.approx(task.ceiling)
    assert select(welfare, 5).bound == pytest.approx(task.ceiling)


@pytest.mark.parametrize(
    ("welfare", "k", "words"),
    [
        (np.ones((2, 3)), 4, "n_chosen is 4, expected 1 to 3"),
        (np.ones((2, 3)), 0, "n_chosen is 0"),
        (-np.ones((2, 3)), 1, "negative"),
        (np.full((2, 3), np.nan), 1, "negative or not finite"),
    ],
)
def test_selection_refuses(welfare: np.ndarray, k: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        select(welfare, k)


@pytest.mark.parametrize(
    "task", [point_task(2_048), get_online_task("ResourceGathering-n25-k5-v0")]
)
def test_compiled_updates_are_those_of_torch(task: OnlineTask) -> None:
    # Sizes that no power of two divides, and steps that leave the clipping range.
    odd: dict[str, Any] = {"hidden_size": 13, "n_envs": 3, "batch_size": 210, "minibatch_size": 35}
    config = universal.Config(**odd, learning_rate=5e-3, entropy_coefficient=0.1)
    learners = [ConditionedLearner(task, config, 2_100, 0, "cpu") for _ in range(2)]
    learners[1].compiled = False
    batch = [learner.collect() for learner in learners][0]
    batch = batch._replace(advantages=torch.linspace(-2, 2, batch.targets.shape[1])[None])
    for learner in learners:
        learner.random = np.random.default_rng(1)
        for _ in range(2):
            learner.update(batch)
        learner.worlds.envs.close()
    compiled, plain = (learner.get_state()[0] for learner in learners)
    assert set(compiled) == set(plain)
    for name, array in compiled.items():
        if name.startswith(("actor", "critic")):
            tolerance = 2e-5 * float(np.abs(array).max())
            np.testing.assert_allclose(plain[name], array, rtol=0, atol=tolerance, err_msg=name)


def test_frozen_policies_act_as_the_conditioned_one(tmp_path: Path) -> None:
    task = point_task(2_048)
    config = universal.Config(**SMALL_UNIVERSAL)
    learner = ConditionedLearner(task, config, 2_048, 0, "cpu")
    learner.update(learner.collect())
    conditions = np.array([[-0.6], [0.1], [0.5]])
    solution = make_solution(learner.freeze(conditions), np.eye(3)[[0, 1, 2, 0]])
    save_solution(solution, tmp_path / "solution")
    loaded = load_solution(tmp_path / "solution")
    observations = np.linspace(-1, 1, 9)[:, None]
    for j, condition in enumerate(conditions):
        inputs = learner.worlds.inputs(observations, np.repeat(condition[None], 9, axis=0))
        expected = learner.actor.evaluate(torch.from_numpy(inputs)[None])[0].clip(-1, 1)
        for policies in (solution.policies, loaded.policies):
            np.testing.assert_allclose(policies[j].act(observations), expected, atol=1e-6)
    assert not np.allclose(solution.policies[0].act(observations), expected, atol=1e-3)
    learner.worlds.envs.close()


def solve(task: OnlineTask, seeds: list[int], **settings: Any) -> tuple[list[Any], RunLog]:
    log = RunLog(task, seeds)
    config = universal.Config(**SMALL_UNIVERSAL | settings)
    universal.check(task, config)
    return universal.solve(task, config, seeds, "cpu", log), log


def welfare_of(task: OnlineTask, solution: Any) -> float:
    matrix = evaluate(task, solution, n_episodes=5).welfare_matrix
    return float((solution.assignment * matrix).sum(1).mean())


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_comes_near_the_ceiling_at_any_budget(k: int) -> None:
    task = point_task(30_000 // k, k)
    ceiling = constant_speed_optimum(POPULATION, k).welfare / 50  # 20 steps, not 1000
    (solution,), log = solve(task, [0])
    assert welfare_of(task, solution) > 0.7 * ceiling
    assert log.transitions <= task.transitions


def test_a_seed_does_not_depend_on_those_beside_it() -> None:
    task = point_task(3_000)
    together, _ = solve(task, [3, 4])
    alone, _ = solve(task, [4])
    observations = np.linspace(-1, 1, 9)[:, None]
    for p, q in zip(together[1].policies, alone[0].policies, strict=True):
        np.testing.assert_array_equal(p.act(observations), q.act(observations))
    other = together[0].policies[0].act(observations)
    assert not np.array_equal(other, alone[0].policies[0].act(observations))


def test_all_transitions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.helpers import point_world

    steps = 0
    step = point_world.PointWorld.step

    def counted(self: Any, rows: Any, actions: Any) -> Any:
        nonlocal steps
        steps += len(rows)
        return step(self, rows, actions)

    task = point_task(2_000)
    monkeypatch.setattr(point_world.PointWorld, "step", counted)
    monkeypatch.setattr(RunLog, "evaluation_due", lambda self, transitions: False)
    _, log = solve(task, [0])
    assert log.transitions == -(-steps // 2) <= task.transitions


def test_the_bar_is_as_long_as_what_it_means_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as long as the task's budget, of which it may use a small part; nor is the curve."""
    monkeypatch.setattr("rmdp_bench.runs.log.count_points", lambda task, total: 20)

    class Bar(NoDisplay):
        def __init__(self) -> None:
            self.shares: list[float] = []

        def set_total(self, total: int | None, unit: str) -> None:
            assert unit == "transitions per policy"
            self.total = total or 0

        def update(self, done: int, score: str) -> None:
            self.shares.append(done / self.total)

    task, bar = point_task(50_000), Bar()
    log = RunLog(task, [0], display=bar)
    universal.solve(
        task, universal.Config(**SMALL_UNIVERSAL | {"total_transitions": 3_000}), [0], "cpu", log
    )
    assert len(bar.shares) > 3
    assert bar.shares == sorted(bar.shares)
    assert bar.shares[0] > 0.1
    assert bar.shares[-1] == 1.0
    planned = universal.total_transitions(task, universal.Config(total_transitions=3_000)) / 2
    points = np.array([row["transitions"] for row in log.curves[0]]) / planned
    assert len(points) >= 3 and np.diff(points).max() < 0.5


class StopAt(RunLog):
    """Asks the solver to stop at the given number of reported updates."""

    def __init__(self, task: OnlineTask, folders: list[Path], update: int) -> None:
        stop = threading.Event()
        last = max(list_checkpoints(folders[0]), default=None)
        super().__init__(task, [0, 1], folders, stop=stop, resume_at=last)
        self.updates_left, self.stop = update, stop

    def progress(self, transitions: int, scalars: Any = None, *, total: int | None = None) -> None:
        super().progress(transitions, scalars, total=total)
        self.updates_left -= 1
        if not self.updates_left:
            self.stop.set()


def test_stopped_it_continues_to_the_same_solution(tmp_path: Path) -> None:
    task = point_task(2_560)
    whole, whole_log = solve(task, [0, 1])
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    n_stops = 0
    while True:
        log = StopAt(task, folders, 2)
        try:
            config = universal.Config(**SMALL_UNIVERSAL)
            solutions = universal.solve(task, config, [0, 1], "cpu", log)
            break
        except Interrupted:
            n_stops += 1
    assert n_stops >= 2 and log.transitions == whole_log.transitions
    observations = np.linspace(-1, 1, 9)[:, None]
    for a, b in zip(whole, solutions, strict=True):
        np.testing.assert_array_equal(a.assignment, b.assignment)
        for p, q in zip(a.policies, b.policies, strict=True):
            np.testing.assert_array_equal(p.act(observations), q.act(observations))


def test_target_rewards() -> None:
    config = universal.Config(shaping_reach=2.0)
    conditions = make_conditions(POPULATION, config, (2,))
    assert isinstance(conditions, TargetConditions)
    speeds = np.array([[0.0], [0.3], [0.9], [1.2]])
    zero = np.zeros((4, 1))
    rewards = conditions.rewards(speeds, speeds, zero, 0.25)
    own, dense = np.array([1, 0.5, 0, 0]), np.array([1, 0.75, 0.25, 0])
    np.testing.assert_allclose(rewards, 0.75 * own + 0.25 * dense)
    draws = conditions.draw(1000, np.random.default_rng(0))
    assert TARGETS.min() <= draws.min() < -0.6 and 0.6 < draws.max() <= TARGETS.max()
    candidates = conditions.candidates(5, np.random.default_rng(0))
    np.testing.assert_allclose(candidates[:, 0], np.linspace(-0.62, 0.62, 5))
    chosen = np.array([[0.0], [TARGETS.max()]])
    for number, step in enumerate((0.155, 0.0775, 0.03875, 0.019375)):
        expected = [-step, TARGETS.max() - step, step, TARGETS.max()]
        proposed = conditions.proposals(chosen, np.zeros(len(TARGETS), int), number)
        np.testing.assert_allclose(proposed[:, 0], expected)
    assert conditions.proposals(chosen, np.zeros(len(TARGETS), int), 4).shape == (0, 1)
    served, groups = conditions.plan(2)
    np.testing.assert_allclose(served[groups][:, 0], np.where(TARGETS < 0, -0.6, 0.6))


def test_weight_conditions_are_mean_weights_of_groups() -> None:
    weights = np.random.default_rng(0).normal(size=(6, 4))
    conditions = WeightConditions(LinearPopulation(weights), universal.Config(), (3,))
    served_by = np.array([0, 2, 2, 0, 2, 2])
    proposed = conditions.proposals(np.zeros((3, 4)), served_by, 0)
    expected = [weights[[0, 3]].mean(0), weights[[1, 2, 4, 5]].mean(0)]
    np.testing.assert_allclose(proposed, expected)
    outcomes = np.random.default_rng(1).normal(size=(2, 4))
    rewards = conditions.rewards(outcomes, outcomes, proposed, 0.5)
    agents = LinearPopulation(weights).rewards(outcomes)
    np.testing.assert_allclose(rewards, [agents[0, [0, 3]].mean(), agents[1, [1, 2, 4, 5]].mean()])
    np.testing.assert_allclose(
        conditions.candidates(5, np.random.default_rng(2))[0], weights.mean(0)
    )


def test_it_solves_a_small_part_of_resource_gathering() -> None:
    """Enough to be far better than nothing; the optimum takes longer."""
    task = get_online_task("ResourceGathering-n25-k5-v0")
    task = dataclasses.replace(task, transitions=9_000)
    config = universal.config_for(task)
    log = RunLog(task, [0])
    (solution,) = universal.solve(task, config, [0], "cpu", log)
    assert welfare_of(task, solution) > 25
    assert log.transitions <= task.transitions


def test_check_names_the_least_budget() -> None:
    task = point_task(300)
    with pytest.raises(ValueError, match="expected at least (\\d+)") as caught:
        universal.check(task, universal.Config(**SMALL_UNIVERSAL))
    least = int(str(caught.value).rsplit(" ", 1)[1])
    universal.check(point_task(least), universal.Config(**SMALL_UNIVERSAL))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 100}, "batch_size is 100; expected a multiple of n_envs, 32"),
        ({"shaping": 1.5}, "shaping is 1.5"),
        ({"n_candidates": 0}, "n_candidates is 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        universal.Config(**settings)
