"""The solvers for agents who each have a world of their own: budgets, repetition, resumption."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.cluster.vq import ClusterError, kmeans2

from baselines.common import streams
from baselines.heterogeneous import em, end_to_end, oracle
from baselines.heterogeneous.controllers import Tuned, make_grid
from baselines.heterogeneous.groups import N_STARTS, best_columns, cluster, plan_budget
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
    **{"n_copies": 8, "segment": 48, "n_epochs": 1, "n_minibatches": 4, "hidden_size": 4},
    **{"n_points": 2, "tuning_share": 0.95},
}
SHARES: dict[str, dict[str, float]] = {
    "em": {"visit_share": 0.9, "tuning_share": 0.7},
    "universal": {"selection_share": 0.9, "tuning_share": 0.7},
}
NAMES = [*OWN_WORLDS, "tuned_ppo"]


def solver_of(name: str) -> Any:
    return form_for(load_solver(name), TASK).module


def small_task(name: str, segment: int = 48, n_updates: int = 2) -> Any:
    """Two points of each gain, some updates, and a visit or the choice among two candidates."""
    more = VISIT if name in SHARES else 0
    return dataclasses.replace(TASK, transitions=2 * VISIT + 4 * segment * n_updates + more)


def config_of(name: str, **changes: Any) -> Any:
    return solver_of(name).Config(**{**SMALL, **SHARES.get(name, {}), **changes})


def acts(solution: Solution) -> bytes:
    seen = np.array([[180, 1, 2, 60, 300, 0, 1], [80, -1, 4, 0, 90, 1, 0]], np.float32)
    parts = [policy.act(seen).tobytes() for policy in solution.policies]
    return b"".join([*parts, solution.assignment.tobytes()])


@pytest.mark.parametrize("name", NAMES)
def test_solvers_keep_their_budget(name: str) -> None:
    """What the world counts is what is reported, rounded up, and all that is allowed."""
    task, config = small_task(name), config_of(name)
    log, before = RunLog(task, [0]), steps_made()
    (solution,) = solver_of(name).solve(task, config, [0], "cpu", log)
    assert log.transitions == -(-(steps_made() - before) // 2) == task.transitions
    assert solution.assignment.shape == (4, 2)
    assert set(np.unique(solution.assignment)) <= {0.0, 1.0}
    starts = {(own.basal, own.per_gram) for own in solution.policies}
    assert starts <= {(own.basal, 1.0 / own.carbohydrate_ratio) for own in make_grid(2)}


@pytest.mark.parametrize("name", ["em", "universal"])
def test_seeds_side_by_side_share_nothing(name: str) -> None:
    task, config, solver = small_task(name), config_of(name), solver_of(name)
    first, second = solver.solve(task, config, [0, 3], "cpu", RunLog(task, [0, 3]))
    (again,) = solver.solve(task, config, [3], "cpu", RunLog(task, [3]))
    assert acts(first) != acts(second) == acts(again)


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


@pytest.mark.parametrize(("name", "reports"), [("em", 1), ("universal", 2)])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    name: str, reports: int, tmp_path: Path
) -> None:
    """After the first of two episodes, or when all is learned and nothing chosen: to the last bit,
    and its steps are counted once."""
    task, solver = small_task(name, 432, 3), solver_of(name)
    config = config_of(name, segment=432, tuning_share=0.6, **VISITS[name])
    whole_log = RunLog(task, [1])
    (whole,) = solver.solve(task, config, [1], "cpu", whole_log)
    counted = whole_log.steps_counted
    with pytest.raises(Interrupted):
        solver.solve(task, config, [1], "cpu", StopAt(task, [1], [tmp_path], reports=reports))
    log = RunLog(task, [1], [tmp_path], resume_at=latest(tmp_path))
    before = steps_made()
    (parts,) = solver.solve(task, config, [1], "cpu", log)
    assert log.steps_counted == counted == 2 * task.transitions
    assert steps_made() - before < task.transitions
    assert log.transitions == whole_log.transitions == task.transitions
    assert acts(parts) == acts(whole)


VISITS: dict[str, dict[str, float]] = {
    "em": {"visit_share": 0.41},
    "universal": {"selection_share": 0.41},
}
"""Of 2.5 times as much as a visit takes."""


def latest(folder: Path) -> int:
    """Number of the only checkpoint."""
    (number,) = list_checkpoints(folder)
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


def test_an_empty_cluster_keeps_its_centre_without_a_warning() -> None:
    """Of three centres two are the same point, whichever are drawn."""
    points = np.array([[0.0, 0], [0, 0], [0, 0], [5, 5], [5, 5]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = cluster(points, 3, seed=0)
    assert len(set(groups[:3])) == len(set(groups[3:])) == 1 and groups[0] != groups[3]


@pytest.mark.parametrize("seed", range(10))
def test_clusters_are_those_of_scipy(seed: int) -> None:
    """So that what was trained for groups stays as it was."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(60, 7))
    best, least = np.zeros(60), np.inf
    starts = np.random.default_rng([seed, streams.PPO.ASSIGNMENT])
    for _ in range(N_STARTS):
        centres = points[starts.choice(60, 4, replace=False)]
        try:
            centres, found = kmeans2(points, centres, 50, minit="matrix", missing="raise")
        except ClusterError:
            continue
        distance = np.square(points - centres[found]).sum()
        if distance < least:
            best, least = found, distance
    np.testing.assert_array_equal(cluster(points, 4, seed), best)


def test_the_oracles_needs_are_those_of_the_equations() -> None:
    """The more insulin a unit of which does little, the more is needed: BW and SI by symmetry."""
    parameters = heterogeneous_task(GLUCOSE, 1).hidden_population.parameters[:20].copy()
    basal, ratio = oracle.needs(parameters).T
    assert ((0.1 < basal) & (basal < 3.0)).all() and ((1.0 < ratio) & (ratio < 60.0)).all()
    parameters[:, 6:9] *= 2.0  # sensitivities: half the insulin for everything
    np.testing.assert_allclose(oracle.needs(parameters), np.stack((basal / 2, ratio * 2), axis=1))


def test_visits_are_in_the_plan() -> None:
    config = em.Config(**SMALL)
    task = dataclasses.replace(TASK, transitions=400 * VISIT)
    budget = plan_budget(task, config, 0.25)
    assert budget.n_visits == (400 * VISIT - budget.tuning) // (4 * VISIT) > 1
    spent = budget.tuning + budget.n_visits * budget.visit + budget.n_updates * 4 * 48
    assert task.transitions - 4 * 48 < spent <= task.transitions
    alone = dataclasses.replace(heterogeneous_task(GLUCOSE, 1, n_agents=4), transitions=400 * VISIT)
    assert plan_budget(alone, config, 0.25).n_visits == 0


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("k", [1, 3])
def test_the_least_budget_that_is_named_is_the_least(k: int, share: float) -> None:
    task = dataclasses.replace(heterogeneous_task(GLUCOSE, k, n_agents=4), transitions=100)
    config = em.Config(tuning_share=share)
    with pytest.raises(ValueError, match=r"^100 transitions per policy.* at least \d+$") as caught:
        plan_budget(task, config)
    least = int(str(caught.value).split()[-1])
    assert plan_budget(dataclasses.replace(task, transitions=least), config).n_points == 2
    with pytest.raises(ValueError, match=f"at least {least}$"):
        plan_budget(dataclasses.replace(task, transitions=least - 1), config)


def test_nothing_for_tuning_is_refused() -> None:
    with pytest.raises(ValueError, match="tuning_share is 0"):
        em.Config(tuning_share=0.0)


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
    with pytest.raises(ValueError, match="is not a task to act in rmdp/Glucose-n100-v0"):
        solver.check(get_task("HopperVel-n100-k2-v0"), config)
    for transitions, reason in (
        (20_000, "of which a share of 0.3 is for tuning, .* expected at least 23040"),
        (24_000, ""),
    ):
        few = dataclasses.replace(TASK, transitions=transitions)
        with pytest.raises(ValueError, match=f"^{transitions} transitions per policy.*{reason}"):
            solver.check(few, config)


def test_visits_may_not_take_all_of_the_budget() -> None:
    config = em.Config(**{**SMALL, "visit_share": 0.9, "n_copies": 8_000})
    with pytest.raises(ValueError, match="leave less than one update of 192000"):
        em.check(dataclasses.replace(TASK, transitions=400_000), config)


def test_all_visits_are_made_where_they_are_more_than_episodes() -> None:
    """One episode of training and two visits fit into the budget: nothing of it is left."""
    task = dataclasses.replace(TASK, transitions=2 * VISIT + 4 * 48 * 6 + 2 * VISIT)
    config = em.Config(**{**SMALL, "visit_share": 0.9, "tuning_share": 0.7})
    assert plan_budget(task, config, 0.9).n_visits == 2
    log, before = RunLog(task, [0]), steps_made()
    em.solve(task, config, [0], "cpu", log)
    assert log.transitions == -(-(steps_made() - before) // 2) == task.transitions


def test_a_representative_that_nobody_wants_draws_everybody() -> None:
    rule = end_to_end.SoftRule(end_to_end.Config(), TASK, tuned_of(RETURNS), 0)
    rule.logits = np.tile([0.0, -2000.0], (4, 1))  # whose probability is below the least number
    drawn = rule.next_episode(8, np.random.default_rng(0))
    assert np.bincount(drawn[1]).tolist() == [2, 2, 2, 2]
