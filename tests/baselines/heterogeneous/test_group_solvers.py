"""The solvers for agents who each have a world of their own: budgets, repetition, resumption."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.heterogeneous import em, end_to_end, oracle
from baselines.heterogeneous.controllers import Tuned, make_grid
from baselines.heterogeneous.groups import best_columns, cluster, plan_budget
from baselines.heterogeneous.learner import EPISODE_STEPS
from rmdp_bench import RunLog, Solution
from rmdp_bench.envs.core.counting import steps_made
from rmdp_bench.evaluation import PairRollout
from rmdp_bench.runs import Interrupted, load_solver, make_config, make_request
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.runs.solver_loading import OWN_WORLDS, form_for
from rmdp_bench.tasks import get_task, heterogeneous_task

GLUCOSE = "rmdp/Glucose-n100-v0"
TASK = heterogeneous_task(GLUCOSE, 2, n_agents=4)
VISIT = 4 * EPISODE_STEPS
SMALL: dict[str, Any] = {
    **{"n_copies": 8, "segment": 432, "n_epochs": 1, "n_minibatches": 4, "hidden_size": 4},
    **{"n_points": 2, "tuning_share": 0.5},
}
NAMES = [*OWN_WORLDS, "tuned_ppo"]


def solver_of(name: str) -> Any:
    return form_for(load_solver(name), TASK).module


def small_task(name: str) -> Any:
    """Half for two points of each gain; updates, and a visit or the choice among candidates."""
    transitions = 2 * (2 * VISIT) + {"em": VISIT, "universal": VISIT}.get(name, 0)
    return dataclasses.replace(TASK, transitions=transitions)


def config_of(name: str) -> Any:
    own = {"em": {"visit_share": 0.3}, "universal": {"selection_share": 0.3}}.get(name, {})
    return solver_of(name).Config(**SMALL, **own)


def acts(solution: Solution) -> bytes:
    seen = np.array([[180, 1, 2, 60, 300, 0, 1], [80, -1, 4, 0, 90, 1, 0]], np.float32)
    parts = [policy.act(seen).tobytes() for policy in solution.policies]
    return b"".join([*parts, solution.assignment.tobytes()])


@pytest.mark.parametrize("name", NAMES)
def test_solvers_keep_their_budget_and_repeat(name: str) -> None:
    """What the world counts is what is reported, to a policy's share of one, and no more than due;
    seeds that train side by side share nothing."""
    task, config, solver = small_task(name), config_of(name), solver_of(name)
    log, before = RunLog(task, [0, 3]), steps_made()
    first, second = solver.solve(task, config, [0, 3], "cpu", log)
    counted = (steps_made() - before) / 2
    assert 0.8 * task.transitions < log.transitions <= task.transitions
    assert 0 <= 2 * log.transitions - counted < 2 * len(first.policies)
    for solution in (first, second):
        assert solution.assignment.shape == (4, 2)
        assert set(np.unique(solution.assignment)) <= {0.0, 1.0}
    assert acts(first) != acts(second)
    (again,) = solver.solve(task, config, [3], "cpu", RunLog(task, [3]))
    assert acts(again) == acts(second)


class StopAt(RunLog):
    """Asks the solver to stop after so many reports."""

    def __init__(self, *arguments: Any, reports: int, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.left = reports

    def progress(self, *arguments: Any, **keywords: Any) -> None:
        super().progress(*arguments, **keywords)
        self.left -= 1

    @property
    def stop_requested(self) -> bool:
        return self.left <= 0


@pytest.mark.parametrize("name", ["em", "end_to_end", "clustering", "universal"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(name: str, tmp_path: Path) -> None:
    """To the last bit, and its steps are counted once."""
    task, config, solver = small_task(name), config_of(name), solver_of(name)
    seeds, folders = [1, 2], [tmp_path / "1", tmp_path / "2"]
    whole_log = RunLog(task, seeds)
    whole = solver.solve(task, config, seeds, "cpu", whole_log)
    for folder in folders:
        folder.mkdir()
    with pytest.raises(Interrupted):
        solver.solve(task, config, seeds, "cpu", StopAt(task, seeds, folders, reports=1))
    log = RunLog(task, seeds, folders, resume_at=latest(folders))
    before = steps_made()
    parts = solver.solve(task, config, seeds, "cpu", log)
    assert [acts(one) for one in parts] == [acts(one) for one in whole]
    assert log.transitions == whole_log.transitions
    assert log.steps_counted == whole_log.steps_counted
    assert 0 < steps_made() - before < (log.steps_counted or 0)


def latest(folders: list[Path]) -> int:
    """Number of the checkpoint that all have."""
    (number,) = set.intersection(*(list_checkpoints(folder) for folder in folders))
    return number


def tuned_of(returns: np.ndarray) -> Tuned:
    lengths = np.full((*returns.shape, 1), EPISODE_STEPS)
    return Tuned(make_grid(2), PairRollout(returns[:, :, np.newaxis], lengths, {}))


RETURNS = np.array([[0, -9, -9, -9], [-1, -9, -9, -9], [-9, 0, -9, -9], [-8, -1, -9, -9]], float)
"""Patients 0 and 1 want controller 0, the others 1."""


def test_the_e_step_moves_who_gains_and_leaves_nobody_out() -> None:
    rule = em.EMRule(em.Config(mixing=0.5), TASK, tuned_of(RETURNS), 0)
    assert rule.representatives.tolist() == [0, 0, 1, 1]
    rule.after_visits(np.array([[0.0, -1], [-4, -2], [-1, 0], [-1, -1]]))
    assert rule.representatives.tolist() == [0, 1, 1, 1]  # 3 is tied, and stays
    rule.after_visits(np.array([[-9.0, 0], [-4, -2], [-1, 0], [-1, -1]]))
    assert rule.representatives.tolist() == [0, 1, 1, 1]  # 0 gains, and is alone
    # The table is halfway between what was seen: 2 has (-1 - 3) / 2 with 0, -4 with 1.
    rule = em.EMRule(em.Config(mixing=0.5), TASK, tuned_of(RETURNS), 0)
    rule.after_visits(np.array([[0.0, -9], [0, -9], [-1, 0], [-9, 0]]))
    rule.after_visits(np.array([[0.0, -9], [0, -9], [-3, -8], [-9, 0]]))
    assert rule.table[2].tolist() == [-2.0, -4.0]
    assert rule.representatives.tolist() == [0, 0, 0, 1]


def test_soft_assignments_follow_the_gradient_of_welfare() -> None:
    """A small step raises sum_ij assignment[i, j] V[i, j] by the gradient's squared norm."""
    rate = 1e-4
    config = end_to_end.Config(mixing=1.0, assignment_rate=rate, temperature=1.0)
    rule = end_to_end.SoftRule(config, TASK, tuned_of(RETURNS), 0)
    agents = np.array([[0, 1, 2, 3], [0, 1, 2, 3]])
    values = np.array([[-1.0, -2, -3, -4], [-2, -1, -2, -5]])
    logits, before = rule.logits.copy(), (rule.assignment * values.T).sum()
    rule.after_episode(agents, values * EPISODE_STEPS)
    np.testing.assert_allclose(rule.table, values.T)
    after = (rule.assignment * rule.table).sum()
    step = (rule.logits - logits) / rate
    assert after - before == pytest.approx(rate * np.square(step).sum(), rel=1e-2)


def test_soft_assignments_decide_who_lives_with_whom() -> None:
    rule = end_to_end.SoftRule(end_to_end.Config(), TASK, tuned_of(RETURNS), 0)
    rule.logits = np.log([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.5, 0.5]])
    drawn = rule.next_episode(800, np.random.default_rng(0))
    counts = np.stack([np.bincount(row, minlength=4) for row in drawn])
    assert np.abs(counts - [[300, 100, 200, 200], [100, 300, 200, 200]]).max() <= 1


def test_groups_start_from_their_best_controller() -> None:
    representatives = np.array([0, 0, 1, 1])
    assert best_columns(tuned_of(RETURNS), representatives, 2).tolist() == [0, 1]
    assert best_columns(tuned_of(RETURNS), np.array([1, 1, 0, 0]), 2).tolist() == [1, 0]


def test_clusters_are_the_tight_groups() -> None:
    points = np.array([[0.0, 0], [5, 5], [0.1, 0], [5, 5.1], [9, 0]])
    groups = cluster(points, 3, seed=0)
    assert groups[0] == groups[2] and groups[1] == groups[3]
    assert len({groups[0], groups[1], groups[4]}) == 3


def test_the_oracles_needs_are_those_of_the_equations() -> None:
    """The more insulin a unit of which does little, the more is needed: BW and SI by symmetry."""
    parameters = heterogeneous_task(GLUCOSE, 1).hidden_population.parameters[:20].copy()
    basal, ratio = oracle.needs(parameters).T
    assert ((0.1 < basal) & (basal < 3.0)).all() and ((1.0 < ratio) & (ratio < 60.0)).all()
    parameters[:, 6:9] *= 2.0  # sensitivities: half the insulin for everything
    np.testing.assert_allclose(oracle.needs(parameters), np.stack((basal / 2, ratio * 2), axis=1))


def test_visits_are_in_the_plan() -> None:
    config = em.Config(**SMALL)
    task = dataclasses.replace(TASK, transitions=40 * VISIT)
    budget = plan_budget(task, config, 0.25)
    assert budget.n_visits == (40 * VISIT - budget.tuning) // (4 * VISIT) > 1
    spent = budget.tuning + budget.n_visits * budget.visit + budget.n_updates * 4 * 432
    assert task.transitions - 4 * 432 < spent <= task.transitions
    alone = dataclasses.replace(heterogeneous_task(GLUCOSE, 1, n_agents=4), transitions=40 * VISIT)
    assert plan_budget(alone, config, 0.25).n_visits == 0


@pytest.mark.parametrize("name", OWN_WORLDS)
def test_a_name_is_the_form_for_the_task(name: str, tmp_path: Path) -> None:
    request = make_request(name, "Glucose-n100-k2-v0", seeds=[0], out=tmp_path)
    assert request.solver.name == name
    assert request.solver.module.__name__ == OWN_WORLDS[name]
    assert isinstance(request.config, importlib.import_module(OWN_WORLDS[name]).Config)
    assert form_for(load_solver(name), get_task("HopperVel-n100-k2-v0")) == load_solver(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused(name: str) -> None:
    solver = solver_of(name)
    config = make_config(form_for(load_solver(name), TASK), TASK, [])
    with pytest.raises(ValueError, match="is not of rmdp/Glucose-n100-v0"):
        solver.check(get_task("HopperVel-n100-k2-v0"), config)
    few = dataclasses.replace(TASK, transitions=30_000)
    with pytest.raises(ValueError, match="30000 transitions per policy"):
        solver.check(few, config)
