"""The online solvers in worlds of one's own, with agents of one's own, for any objective."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import rmdp_bench
from baselines.online.ppo.assignments import FixedRule
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.settings import FAR_REWARDS, PPOConfig, task_settings
from baselines.online.universal import solver as universal
from baselines.online.universal.conditions import PlaceConditions, make_conditions
from rmdp_bench import (
    LinearPopulation,
    OnlineTask,
    Population,
    RunLog,
    Solution,
    TargetPopulation,
    evaluate,
    scoring,
)
from rmdp_bench.facility_location import select, select_fairest
from rmdp_bench.runs import load_solver, make_config
from rmdp_bench.runs.solver_loading import check_config
from rmdp_bench.tasks import get_online_task
from tests.helpers.online_settings import SETTINGS, SMALL, SMALL_UNIVERSAL
from tests.helpers.own_world import AGENTS, STEPS, make, make_task

SOLVERS = [*SETTINGS, "universal"]


def solve(task: OnlineTask, name: str, seeds: Sequence[int] = (0,), **changes: Any) -> Solution:
    module = importlib.import_module(f"baselines.online.{name}")
    small = SMALL_UNIVERSAL if name == "universal" else SMALL | SETTINGS[name]
    config = dataclasses.replace(module.config_for(task), **small | changes)
    module.check(task, config)
    solutions: list[Solution] = module.solve(task, config, seeds, "cpu", RunLog(task, seeds))
    return solutions[0]


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_learns_in_a_world_of_ones_own(name: str) -> None:
    """Two policies for six agents: one to either side is worth 66 %, standing still 25 %."""
    task = make_task(transitions=8192)
    solution = solve(task, name)
    returns = scoring.agent_returns(evaluate(task, solution).welfare_matrix, solution.assignment)
    assert returns.mean() > (10.0 if name == "random_assignment" else 25.0)


def test_oracle_says_what_it_does_not_know() -> None:
    solver = load_solver("oracle")
    task = make_task()
    check_config(solver, task, make_config(solver, task))  # targets on a line: groups are known
    weights = LinearPopulation(np.eye(25)[:7])
    grid = rmdp_bench.get_task("ResourceGathering-n25-v0", 2, population=weights)
    with pytest.raises(ValueError, match="oracle refuses .* best groups .* not known"):
        check_config(solver, grid, make_config(solver, grid))


class Thresholds(Population):
    """Gives nothing to condition a policy on."""

    def __init__(self) -> None:
        self.n_agents, self.outcome_size = 3, 1

    def rewards(self, outcomes: Any) -> Any:
        least: Any = np.array([0.0, 1.0, 2.0])
        if not isinstance(outcomes, np.ndarray):
            least = outcomes.new_tensor(least)
        return 100.0 / STEPS * (outcomes >= least)


def make_thresholds(n_envs: int) -> Any:
    return make(n_envs, population=Thresholds())


def make_continuous(n_envs: int) -> Any:
    import gymnasium as gym

    envs = gym.make_vec("Pendulum-v1", num_envs=n_envs, vectorization_mode="sync")
    return rmdp_bench.represent(envs, AGENTS, first)


def first(observations: Any, actions: Any, rewards: Any, following: Any, infos: Any) -> Any:
    del observations, actions, rewards, infos
    return following[:, :1]


def test_what_cannot_be_solved_is_said_before_training() -> None:
    task = rmdp_bench.make_task(
        "steps", make_thresholds, 2, transitions=100_000, max_episode_steps=STEPS
    )
    with pytest.raises(ValueError, match="universal needs agents .* a Thresholds; use em"):
        universal.check(task, universal.config_for(task))
    small = dataclasses.replace(task, transitions=1024)
    assert solve(small, "em").assignment.shape == (3, 2)
    pendulum = rmdp_bench.make_task("pendulum", make_continuous, 2, transitions=100_000)
    assert pendulum.max_episode_steps == 200 and pendulum.continuous
    for name in ("em", "universal"):
        solver = load_solver(name)
        with pytest.raises(ValueError, match="action space is Box.*RescaleAction"):
            check_config(solver, pendulum, make_config(solver, pendulum))


def test_settings_follow_from_properties() -> None:
    """Tasks that are alike have the same, whatever their ids are."""
    cheetah, grid = "HalfCheetahVel-n100", "ResourceGathering-n25"
    for name, k in ((cheetah, 3), (grid, 4)):
        own = rmdp_bench.get_task(f"{name}-v0", k)
        listed = rmdp_bench.get_task(f"{name}-k2-v0")
        for solver in SOLVERS:
            loaded = load_solver(solver)
            assert make_config(loaded, own) == make_config(loaded, listed)
    line = make_task()
    assert task_settings(line)["entropy_coefficient"] == 0.05
    assert task_settings(line).get("bootstrap_time_limits") is None
    assert task_settings(make_task(gamma=1.0))["bootstrap_time_limits"] is False
    assert not task_settings(line)["normalize_observations"]
    sea, tree = (
        get_online_task(f"{name}-k2-v0") for name in ("DeepSeaTreasure-n100", "FruitTree-n100")
    )
    assert task_settings(sea).items() >= FAR_REWARDS.items()
    assert task_settings(tree)["entropy_coefficient"] == 0.05
    assert universal.config_for(line).imitation == 0.0
    assert universal.config_for(make_task(deterministic=True)).imitation > 0.0


def plane(
    observations: Any, actions: Any, rewards: Any, following: Any, infos: Any
) -> np.ndarray[Any, Any]:
    del actions, rewards, infos
    return np.concatenate((np.asarray(following), np.asarray(following) ** 2 / 5), axis=1)


IN_PLANE = TargetPopulation(
    np.array([[-3.0, 1.8], [-2.0, 0.8], [0.0, 0.0], [2.0, 0.8], [3.0, 1.8]]), 2.0, 100.0 / STEPS
)


def make_plane(n_envs: int) -> Any:
    from gymnasium.vector import SyncVectorEnv

    from tests.helpers.own_world import make_line

    return rmdp_bench.represent(SyncVectorEnv([make_line] * n_envs), IN_PLANE, plane)


def test_universal_serves_targets_in_a_plane() -> None:
    task = rmdp_bench.make_task(
        "plane", make_plane, 2, transitions=8192, max_episode_steps=STEPS, n_eval_episodes=4
    )
    conditions = make_conditions(IN_PLANE, universal.Config(), [2])
    assert isinstance(conditions, PlaceConditions)
    random = np.random.default_rng(0)
    for places in (conditions.draw(50, random), conditions.candidates(30, random)):
        assert places.shape[1] == 2
        distances = np.linalg.norm(places[:, None] - IN_PLANE.targets, axis=2).min(1)
        assert (distances <= IN_PLANE.width + 1e-9).all()
        assert conditions.features(places).shape == (len(places), conditions.n_features)
    rewards = conditions.rewards(IN_PLANE.targets, IN_PLANE.targets, IN_PLANE.targets, 0.5)
    np.testing.assert_allclose(rewards, 1.0)
    chosen, served_by = conditions.plan(2)
    assert chosen.shape == (2, 2) and set(served_by.tolist()) == {0, 1}
    assert len(conditions.proposals(chosen, served_by, 0)) == 8
    assert len(conditions.proposals(chosen, served_by, 9)) == 0
    solution = solve(task, "universal")
    returns = scoring.agent_returns(evaluate(task, solution).welfare_matrix, solution.assignment)
    assert returns.mean() > 30.0


def test_the_fairest_choice_is_the_best_of_all() -> None:
    import itertools

    random = np.random.default_rng(0)
    for _ in range(5):
        welfare = random.uniform(-5, 100, (7, 8))
        for k in (1, 2, 3):
            choices = [list(c) for c in itertools.combinations(range(8), k)]
            best = max(welfare[:, c].max(1).min() for c in choices)
            found = select_fairest(welfare, k)
            assert found.welfare == found.bound == best
            reached = welfare[:, found.chosen].max(1)
            assert reached.min() == best
            equal = [c for c in choices if welfare[:, c].max(1).min() == best]
            assert reached.mean() == pytest.approx(max(welfare[:, c].max(1).mean() for c in equal))
    assert select(welfare.clip(0), 2).chosen.shape == (2,)


def learner_of(objective: str) -> tuple[PPOLearner, FixedRule]:
    task = make_task(objective=objective)
    config = PPOConfig(**task_settings(task) | SMALL)
    learner = PPOLearner(task, config, [0], "cpu")
    assignment = torch.zeros(1, 6, 2)
    assignment[0, :3, 0] = assignment[0, 3:, 1] = 1.0
    return learner, FixedRule(assignment)


@pytest.mark.parametrize("compiled", [True, False])
def test_agents_count_with_the_slope_of_the_objective(compiled: bool) -> None:
    """An update for an objective is one for the assignment weighted by its slopes."""
    learners = []
    for objective in ("egalitarian", "utilitarian"):
        learner, rule = learner_of(objective)
        learner.updates.config = dataclasses.replace(learner.config, compiled=compiled)
        batch = learner.collect()
        if objective == "utilitarian":
            table = np.nan_to_num(learner.collector.average_returns)
            returns = (rule.served.numpy() * table).sum(-1)
            slopes = scoring.objective_weights(returns, "egalitarian").astype(np.float32)
            rule.assignment = rule.assignment * torch.from_numpy(slopes[..., None])
            assert np.ptp(slopes) > 0.1
        learner.update(batch, rule)
        learners.append(learner)
    assert torch.equal(learners[0].actor.flat, learners[1].actor.flat)
    plain, rule = learner_of("utilitarian")
    plain.updates.config = dataclasses.replace(plain.config, compiled=compiled)
    plain.update(plain.collect(), rule)
    assert not torch.equal(plain.actor.flat, learners[0].actor.flat)


def test_universal_chooses_by_the_objective() -> None:
    """The same training, other conditions: the worst agent has more."""
    worst = {}
    for objective in ("utilitarian", "egalitarian"):
        task = make_task(transitions=8192, n_representatives=1, objective=objective)
        solution = solve(task, "universal")
        matrix = evaluate(task, solution).welfare_matrix
        worst[objective] = scoring.agent_returns(matrix, solution.assignment).min()
    assert worst["egalitarian"] >= worst["utilitarian"]


@pytest.mark.parametrize("name", ["em", "em_plus", "end_to_end"])
def test_solvers_take_every_objective(name: str) -> None:
    for objective in ("egalitarian", "p_mean=-2"):
        solution = solve(make_task(transitions=1024, objective=objective), name)
        assert solution.assignment.shape == (6, 2)
