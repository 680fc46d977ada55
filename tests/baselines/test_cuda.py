"""Learner and PerSim's training on a GPU against the same on the CPU; without a GPU, no tests."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import pytest
import torch

from baselines.offline.persim.model import FactoredConfig
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.persim.training import FactoredLearner
from baselines.offline.planning.dynamics import objective_for
from baselines.online.end_to_end import Config as SoftConfig
from baselines.online.end_to_end import SoftRule
from baselines.online.ppo.assignments import AssignmentRule, FixedRule
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.settings import PPOConfig
from tests.helpers.learner_toys import SMALL, TASKS, even_rule, small_task
from tests.helpers.persim_toys import ODD, assert_close, make_data, make_model

SEEDS = (0, 1)
RULES = ["fixed", "soft"]


def make_learner(task_id: str, rule_name: str, device: str) -> tuple[PPOLearner, AssignmentRule]:
    task = small_task(task_id)
    if rule_name == "soft":
        config = SoftConfig(**SMALL, signal="advantage")
        return PPOLearner(task, config, SEEDS, device), SoftRule(task, config, SEEDS, device)
    rule = FixedRule(even_rule(task, SEEDS).assignment.to(device))
    return PPOLearner(task, PPOConfig(**SMALL), SEEDS, device), rule


def update(learner: PPOLearner, rule: AssignmentRule) -> None:
    """One iteration of training."""
    batch = learner.collect()
    rule.after_collection(learner.collector.average_returns)
    learner.update(batch, rule)


def copy_of_state(learner: PPOLearner) -> dict[str, npt.NDArray[np.generic]]:
    return {name: array.copy() for name, array in learner.get_state()[0].items()}


def assert_same_training(task_id: str, rule_name: str, device: str) -> None:
    """One iteration: the same noise and the same mini-batches, so the same parameters."""
    expected, expected_rule = make_learner(task_id, rule_name, "cpu")
    learner, rule = make_learner(task_id, rule_name, device)
    initial = expected.actor.flat.clone()
    torch.testing.assert_close(learner.actor.flat.cpu(), initial, rtol=0.0, atol=0.0)
    update(expected, expected_rule)
    update(learner, rule)
    assert learner.actor.flat.device.type == rule.assignment.device.type == device
    assert (expected.actor.flat - initial).abs().max() > 1e-3  # ten times the tolerance
    for name in ("actor", "critic"):
        flat, reference = getattr(learner, name).flat.cpu(), getattr(expected, name).flat
        torch.testing.assert_close(flat, reference, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(rule.assignment.cpu(), expected_rule.assignment, rtol=0.0, atol=1e-4)
    np.testing.assert_allclose(
        learner.collector.average_returns, expected.collector.average_returns, rtol=1e-3, atol=1e-3
    )


def assert_state_round_trip(task_id: str, source: str, target: str) -> None:
    """A checkpoint written on one device goes on, with the same numbers, on another."""
    learner, rule = make_learner(task_id, "fixed", source)
    update(learner, rule)
    state, states = copy_of_state(learner), learner.get_state()[1]
    rule_state = {name: array.copy() for name, array in rule.get_state().items()}
    update(learner, rule)

    resumed, resumed_rule = make_learner(task_id, "fixed", target)
    resumed.set_state(state, states)
    resumed_rule.set_state(rule_state)
    restored = copy_of_state(resumed)
    assert restored.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(restored[name], array, err_msg=name)
    update(resumed, resumed_rule)
    assert resumed.actor.flat.device.type == resumed_rule.assignment.device.type == target
    for name in ("actor", "critic"):
        flat, reference = getattr(resumed, name).flat.cpu(), getattr(learner, name).flat.cpu()
        torch.testing.assert_close(flat, reference, rtol=0.0, atol=1e-4)


def assert_same_models(device: str) -> None:
    """PerSim: five passes, whose last mini-batches are smaller and whose step size is halved."""
    settings = FactoredConfig(**ODD, halving_epochs=1, compiled=False)
    expected, training, resumed = (
        FactoredLearner(settings, make_data(), 2, [0, 1], where)
        for where in ("cpu", device, device)
    )
    expected.run(5)
    training.run(2)
    resumed.done = training.done
    resumed.set_rows(training.get_rows())
    for own in (training, resumed):
        own.run(3)
        np.testing.assert_allclose(own.losses.cpu(), expected.losses, rtol=1e-4)
        assert_close(expected.get_rows(), own.get_rows(), 1e-3)


def assert_same_returns(device: str) -> None:
    """Of the plans of two agents, rolled out together."""
    data = make_data(d=18, n_actions=None)
    model, _ = make_model(data, None)
    plans = 2 * torch.rand((2, 30, 40, 2), generator=torch.Generator().manual_seed(0)) - 1
    returns = []
    for where in ("cpu", device):
        placed = copy.deepcopy(model).place(where)
        factors = placed.agent_factors()
        both = [PersonalSimulator(placed, factors[:, agent]) for agent in (0, 3)]
        joined = both[0].join(both)
        assert joined is not None
        joined.begin(2, 0)
        given = (data.observations[:2], plans, torch.arange(2))
        objective = objective_for("rmdp/HalfCheetahHet-n500-v0")
        returns.append(joined.evaluate(objective, *(part.to(where) for part in given)).cpu())
    torch.testing.assert_close(*returns, rtol=1e-3, atol=1e-3)


if torch.cuda.is_available():

    def test_returns_of_plans_are_those_of_the_cpu() -> None:
        assert_same_returns("cuda")

    def test_models_are_those_of_the_cpu() -> None:
        assert_same_models("cuda")

    @pytest.mark.parametrize("rule_name", RULES)
    @pytest.mark.parametrize("task_id", TASKS)
    def test_training_is_that_of_the_cpu(task_id: str, rule_name: str) -> None:
        assert_same_training(task_id, rule_name, "cuda")

    @pytest.mark.parametrize(
        ("source", "target"), [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")]
    )
    @pytest.mark.parametrize("task_id", TASKS)
    def test_state_goes_to_and_from_the_gpu(task_id: str, source: str, target: str) -> None:
        assert_state_round_trip(task_id, source, target)
