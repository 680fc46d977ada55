"""The dense training reward of the learner is the one of `universal`, and no score has it."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.online import em, em_plus, universal
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.settings import PPOConfig
from baselines.online.ppo.shaping import DenseReward
from baselines.online.universal.conditions import TargetConditions
from baselines.online.universal.settings import ConditionedConfig
from rmdp_bench import TargetPopulation
from rmdp_bench.evaluation import evaluate
from rmdp_bench.runs import RunLog, make_request
from rmdp_bench.tasks import get_online_task
from tests.helpers.learner_toys import SMALL, even_rule, small_task
from tests.helpers.online_settings import SMALL as SOLVER_SMALL
from tests.helpers.point_world import point_task

POPULATION = TargetPopulation.uniform(6, 2.5, seed=3)
DENSE: dict[str, Any] = {"training_reward": "dense", "smoothing": 4.0, "shaping": 0.7}


def test_it_is_that_of_a_condition() -> None:
    """Each agent's, against `universal`'s for a condition at its target; two episodes."""
    config = PPOConfig(**DENSE, reward_scale=0.5)
    generator = np.random.default_rng(0)
    outcomes = generator.uniform(-1, 4, (1, 9, 2, 1)).astype(np.float32)
    ended = np.zeros((1, 9, 2), bool)
    ended[0, 4, 1] = True
    own = torch.from_numpy(POPULATION.rewards(outcomes) * 0.5).float()
    mixed = DenseReward(POPULATION, config, (1, 2)).mix(own, outcomes, ended, 0.7)
    shared = ConditionedConfig(smoothing=4.0, shaping=0.7)
    conditions = TargetConditions(POPULATION, shared)
    for copy in range(2):
        smoothed = np.zeros(1)
        for t in range(9):
            smoothed += (outcomes[0, t, copy] - smoothed) / shared.smoothing
            steps = np.repeat(outcomes[0, t, copy][None], 6, axis=0)
            means = np.repeat(smoothed[None], 6, axis=0)
            expected = conditions.rewards(steps, means, POPULATION.preferences, 0.7)
            expected *= POPULATION.peak * 0.5
            np.testing.assert_allclose(mixed[0, t, copy], expected, rtol=1e-4, atol=1e-7)
            if ended[0, t, copy]:
                smoothed[:] = 0.0


@pytest.mark.parametrize("robot", ["HalfCheetah", "Ant", "Hopper", "Walker2d"])
def test_its_settings_are_those_of_universal(robot: str) -> None:
    task = get_online_task(f"{robot}Vel-n100-k5-v0")
    expected = universal.config_for(task)
    for solver in (em, em_plus):
        config: Any = solver.config_for(task)
        assert config.training_reward == "own"
        for name in ("shaping", "final_shaping", "smoothing", "shaping_reach"):
            assert getattr(config, name) == getattr(expected, name), name


@pytest.mark.parametrize("critic", ["agents", "outcome"])
def test_only_what_is_learned_from_changes(critic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns stay those of the agents' own rewards; the share of the dense reward is annealed."""
    task = small_task("HopperVel-n100-k2-v0")
    settings: dict[str, Any] = DENSE | {"final_shaping": 0.1}
    learners = [
        PPOLearner(task, PPOConfig(**SMALL, critic=critic, **changes), (0, 1), "cpu")
        for changes in ({}, settings)
    ]
    rule = even_rule(task, (0, 1))
    own, dense = (learner.collect() for learner in learners)
    torch.testing.assert_close(dense.observations, own.observations)
    assert torch.equal(learners[1].collector.rewards, own.rewards)
    mixer = learners[1].collector.dense
    assert mixer is not None
    assert dense.rewards.mean() > 2 * own.rewards.mean() > 0
    first, second = (each.collector.average_returns for each in learners)
    np.testing.assert_array_equal(first, second)
    shares: list[float] = []
    mix = mixer.mix

    def listen(*arguments: Any) -> torch.Tensor:
        shares.append(arguments[3])
        return mix(*arguments)

    monkeypatch.setattr(mixer, "mix", listen)
    for _ in range(3):
        learners[1].update(dense, rule)
        dense = learners[1].collect()
    assert shares == pytest.approx([0.55, 0.4, 0.25])


def test_state_restores_the_averages() -> None:
    task = dataclasses.replace(small_task("HopperVel-n100-k2-v0"), transitions=10_000)
    config = PPOConfig(**SMALL, **DENSE)
    first, second = (PPOLearner(task, config, (0, 1), "cpu") for _ in range(2))
    rule = even_rule(task, (0, 1))
    first.update(first.collect(), rule)
    arrays, states = first.get_state()
    assert arrays["smoothed"].any()
    second.set_state({name: array.copy() for name, array in arrays.items()}, states)
    assert torch.equal(first.collect().rewards, second.collect().rewards)


@pytest.mark.parametrize("name", ["em", "em_plus"])
def test_solvers_learn_with_all_that_universal_has(name: str) -> None:
    solver = importlib.import_module(f"baselines.online.{name}")
    task, seeds = point_task(10_000), [0]  # six seeds had 87 to 92
    config = solver.Config(**SOLVER_SMALL, training_reward="dense", n_hidden_layers=2)
    solutions = solver.solve(task, config, seeds, "cpu", RunLog(task, seeds))
    welfare = [
        (s.assignment * evaluate(task, s, n_episodes=5).welfare_matrix).sum(1).mean()
        for s in solutions
    ]
    assert np.mean(welfare) > 75


def test_agents_without_targets_have_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training_reward is 'dense'.*no targets; use 'own'"):
        make_request(
            "em",
            "ResourceGathering-n25-k3-v0",
            seeds=[0],
            out=tmp_path,
            settings=["training_reward=dense"],
        )
    wrong: list[dict[str, Any]] = [
        *({"training_reward": "sparse"}, {"shaping": 1.5}, {"smoothing": 0.5}),
        *({"n_hidden_layers": 3}, {"shaping_reach": 0.0}, {"max_kl": 0.0}),
    ]
    for bad in wrong:
        with pytest.raises(ValueError, match=next(iter(bad))):
            PPOConfig(**bad)
