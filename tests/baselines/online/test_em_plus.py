"""What em_plus adds to EM: places of representatives, splits, a scout, and several starts."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.online import em
from baselines.online.em_plus.places import best_move, remember, seed_candidates, seed_places
from baselines.online.em_plus.rule import PlusRule
from baselines.online.em_plus.solver import Config, solve
from baselines.online.em_plus.stages import make_stages, narrow
from baselines.online.ppo.learner import PPOLearner
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.tasks import get_online_task
from tests.helpers.point_world import point_task

pytestmark = pytest.mark.arithmetic

SMALL: dict[str, Any] = {"batch_size": 64, "minibatch_size": 16, "n_envs": 2, "n_epochs": 2}
TARGETS = np.array([0.0, 0.1, 0.2, 2.0, 2.1, 5.0])


def tents(positions: Any) -> Any:
    """What agents at TARGETS receive at each position: (m, 6)."""
    return 100 * np.maximum(0, 1 - np.abs(np.asarray(positions)[:, None] - TARGETS))


def test_seeding_finds_every_group_of_agents() -> None:
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    candidates = 100.0 * (np.array([0, 0, 1, 2, 0, 1])[:, None] == groups)
    for seed in range(20):
        chosen = seed_candidates(candidates, 3, np.random.default_rng(seed))
        assert {int(groups[candidates[row] > 0][0]) for row in chosen} == {0, 1, 2}
    assert len(seed_candidates(np.zeros((4, 6)), 3, np.random.default_rng(0))) == 0
    assert len(seed_candidates(np.ones((4, 6)), 3, np.random.default_rng(0))) == 1


def test_seeded_places_are_the_best_ones() -> None:
    """Against all choices of three, on candidates where greedy choices go wrong."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        candidates = generator.integers(0, 9, (9, 6)).astype(np.float64)
        places = seed_places(candidates, 3, generator)
        best = max(candidates[list(c)].max(0).sum() for c in itertools.combinations(range(9), 3))
        assert places.max(0).sum() == best
    assert len(seed_places(np.zeros((4, 6)), 3, generator)) == 0
    assert len(seed_places(np.zeros((0, 6)), 3, generator)) == 0


def test_memory_keeps_what_nothing_else_is_better_than() -> None:
    memory = np.zeros((4, 3), np.float32)
    memory = remember(memory, np.array([[1, 0, 0], [2, 0, 0], [0, 0, 0], [2, 0, 0], [1, 3, 0]]))
    assert sorted(map(tuple, memory.tolist())) == [(0, 0, 0), (0, 0, 0), (1, 3, 0), (2, 0, 0)]
    memory = remember(memory, np.array([[2.5, 2.5, 0], [0, 0, 1], [1.5, 2.7, 0], [2.2, 2.6, 0]]))
    assert sorted(map(tuple, memory.tolist()))[:2] == [(0, 0, 1), (1, 3, 0)]  # best for someone
    assert memory.any(1).all()


def test_a_representative_that_is_worth_little_moves_where_agents_have_nothing() -> None:
    places, candidates = tents([0.1, 0.15, 5.0]), tents([1.9, 2.05, 3.5])
    given = np.concatenate([places, tents([1.8])])  # a fourth, which nobody is assigned to
    move = best_move(places, candidates, given, least_gain=0.01, least_given=0.1)
    assert move is not None
    assert (move.target, move.source) == (1, 3)
    np.testing.assert_array_equal(move.promised, candidates[1])
    # Nobody is near, the gain is too small, or it is there already.
    assert best_move(places, candidates, places, least_gain=0.01, least_given=0.1) is None
    assert best_move(places, candidates, given, least_gain=0.9, least_given=0.1) is None
    assert best_move(places, places, given, least_gain=0.0, least_given=0.0) is None
    assert best_move(places, places[:0], given, least_gain=0.0, least_given=0.0) is None


@pytest.mark.parametrize("compiled", [True, False])
def test_a_copy_is_the_same_policy_with_the_same_values_and_momentum(compiled: bool) -> None:
    task = dataclasses.replace(get_online_task("HopperVel-n100-k2-v0"), n_representatives=3)
    config = Config(**SMALL, compiled=compiled)
    learner = PPOLearner(task, config, [0, 1], "cpu")
    rule = PlusRule(task, config, learner.collector, [0, 1], "cpu")
    learner.update(learner.collect(), rule)
    before = {n: a.copy() for n, a in learner.get_state()[0].items()}
    learner.copy_representative(1, 2, 0)
    after = learner.get_state()[0]
    heads = [n for n in before if "head" in n or "log_std" in n]
    assert len(heads) == 15  # three of the actor's, two of the critic's; each with two moments
    for name, array in before.items():
        expected = array.copy()
        if name in heads:
            expected[1, 0] = array[1, 2]
            assert not np.array_equal(array[1, 0], array[1, 2])
        np.testing.assert_array_equal(after[name], expected)


@pytest.mark.parametrize("task_id", ["ResourceGathering-n25-k3-v0", "HopperVel-n100-k2-v0"])
def test_narrowed_learner_goes_on_with_the_same_policies(task_id: str) -> None:
    task = get_online_task(task_id)
    config, k = Config(**SMALL), task.n_representatives
    wide = PPOLearner(dataclasses.replace(task, n_representatives=k + 1), config, [0, 1, 2], "cpu")
    rule = PlusRule(task, config, wide.collector, [0, 1, 2], "cpu")
    for _ in range(2):
        wide.update(wide.collect(), rule)
    arrays, states = wide.get_state()
    chosen = np.array([2, 0])
    after = PPOLearner(task, config, [5, 6], "cpu")
    narrowed = {name: narrow(name, array[chosen], k + 1, k) for name, array in arrays.items()}
    after.set_state(narrowed, [states[row] for row in chosen])
    observations = np.random.default_rng(0).normal(size=(5, wide.observation_size))
    solutions = wide.solutions(torch.full((3, task.n_agents, k + 1), 1 / (k + 1)))
    solutions_after = after.solutions(torch.full((2, task.n_agents, k), 1 / k))
    for row, solution in zip(chosen, solutions_after, strict=True):
        for j in range(k):
            expected = solutions[row].policies[j].act(observations)
            np.testing.assert_array_equal(solution.policies[j].act(observations), expected)
    after.collect()


@pytest.mark.parametrize("n_starts", [1, 3])
def test_scout_and_starts_are_paid_for(n_starts: int) -> None:
    task = point_task(100 * 64)
    first, rest = make_stages(task, 64, 1, n_starts, 0.3)
    assert (first.n_heads, rest.n_heads) == (3, 2)
    made = first.length * first.n_heads * n_starts + rest.length * 2
    assert 2 * 100 - 2 <= made <= 2 * 100
    assert rest.first + rest.length == 100
    (only,) = make_stages(task, 64, 0, 1, 0.3)
    assert (only.n_heads, only.length) == (2, 100)


def test_the_scout_trains_for_agents_to_whom_nobody_gave_much() -> None:
    task = point_task(100 * 64)
    config = Config(**SMALL)
    learner = PPOLearner(dataclasses.replace(task, n_representatives=3), config, [0], "cpu")
    rule = PlusRule(task, config, learner.collector, [0], "cpu")
    rule.greatest[0] = [50, 50, 50, 50, 1, 2, 3, 50]
    rule._set_assignments()
    assert rule.assignment[0, :, 2].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    assert rule.served[0, :, 2].sum() == 0
    assert rule.assignment[0, :, :2].sum(1).tolist() == [1.0] * 8


def test_a_lost_representative_becomes_a_copy_of_another_and_a_scout() -> None:
    task = point_task(100 * 64, n_representatives=3)
    config = Config(**SMALL, review_interval=1, seeding=False)
    learner = PPOLearner(task, config, [0], "cpu")
    rule = PlusRule(task, config, learner.collector, [0], "cpu")
    rule.representatives[0] = [0, 0, 0, 0, 1, 1, 1, 2]
    learner.collect()
    rewards = learner.collector.rewards
    rewards.zero_()
    rewards[0, ..., :4] = rewards[1, ..., 4:7] = 4.5  # of at most 5; nobody serves agent 7
    returns = 20 * rewards.mean((1, 2)).numpy().T[None]
    rule.after_collection(returns)
    ((seed, move),) = rule.moves
    assert (seed, move.target) == (0, 2) and move.source in (0, 1)
    assert rule.assignment[0, :, 2].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    rule.after_update(learner)
    heads = learner.get_state()[0]["actor.parameters.head_weight"][0]
    np.testing.assert_array_equal(heads[2], heads[move.source])
    # Once a place is seen that agent 7 gains from, it goes there.
    rewards[2, 0, 0, 7] = 5.0
    rewards[2, 1:, :, 7] = 1.0
    rule.config = dataclasses.replace(config, n_candidates=2048)
    rule.after_collection(20 * rewards.mean((1, 2)).numpy().T[None])
    ((_, move),) = rule.moves
    assert move.target == 2 and move.promised[7] == 100.0
    assert rule.settling_until[0, 2] == 2 + config.patience and rule.scouting_until[0, 2] == 0


def test_with_everything_off_it_is_em() -> None:
    task, settings = point_task(20 * 64), SMALL | {"n_epochs": 10}
    off = Config(**settings, seeding=False, split_merge=False, scout=False)
    (plus,) = solve(task, off, [0], "cpu", RunLog(task, [0]))
    (plain,) = em.solve(task, em.Config(**settings), [0], "cpu", RunLog(task, [0]))
    np.testing.assert_array_equal(plus.assignment, plain.assignment)
    assert (plus.assignment.sum(0) > 0).all()  # EM lends agents where em_plus sends scouts
    observations = np.linspace(-1, 1, 9)[:, None]
    for p, q in zip(plus.policies, plain.policies, strict=True):
        np.testing.assert_array_equal(p.act(observations), q.act(observations))


def test_assignments_harden_as_the_temperature_falls() -> None:
    task = point_task(100 * 64)
    config = Config(**SMALL, temperature=10.0, scout=False, seeding=False)
    learner = PPOLearner(task, config, [0], "cpu")
    learner.collect()
    rule = PlusRule(task, config, learner.collector, [0], "cpu")
    table = np.full((1, 8, 2), 40.0)
    table[0, :7, 1] = table[0, 7, 0] = 45.0
    softness = []
    for rule.fraction in (0.0, 0.25, 0.49, 0.5):
        rule.after_collection(table)
        softness.append(float(rule.assignment[0, 0, 0]))
        assert rule.served[0, 0].tolist() == [0.0, 1.0]
    assert softness[0] == pytest.approx(1 / (1 + np.exp(0.5)))
    assert softness == sorted(softness, reverse=True) and softness[-1] == 0


@pytest.mark.parametrize("memory", [0, 8])
def test_stopped_with_several_starts_it_continues_to_the_same_solution(
    tmp_path: Path, memory: int
) -> None:
    task = point_task(20 * 64)
    config = Config(**SMALL, n_starts=2, exploration=0.6, review_interval=1, memory=memory)
    whole = solve(task, config, [3, 4], "cpu", RunLog(task, [3, 4]))
    folders = [tmp_path / "3", tmp_path / "4"]
    for folder in folders:
        folder.mkdir()
    stops = 0
    while True:
        stop = threading.Event()
        saved = max(list_checkpoints(folders[0]), default=None)
        log = RunLog(task, [3, 4], folders, stop=stop, resume_at=saved)
        stop.set()  # after every update
        try:
            parts = solve(task, config, [3, 4], "cpu", log)
            break
        except Interrupted:
            stops += 1
    assert stops == sum(stage.length for stage in make_stages(task, 64, 1, 2, 0.6))
    assert log.transitions == task.transitions
    observations = np.linspace(-1, 1, 9)[:, None]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.assignment, b.assignment)
        for p, q in zip(a.policies, b.policies, strict=True):
            np.testing.assert_array_equal(p.act(observations), q.act(observations))


def test_it_needs_the_returns_of_every_agent() -> None:
    with pytest.raises(ValueError, match="critic is 'outcome'; expected 'agents'"):
        Config(critic="outcome")
