"""Policies that start as the clinic's controllers and learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from baselines.heterogeneous import tuned_ppo
from baselines.heterogeneous.controllers import BasalBolus, bolus_of
from baselines.heterogeneous.learner import Actor, LearnedPolicy, PPOSettings, _advantages, learn
from rmdp_bench import RunLog, Solution, load_solution, save_solution
from rmdp_bench.envs.core.counting import steps_made
from rmdp_bench.tasks import get_task, heterogeneous_task

TASK = heterogeneous_task("rmdp/Glucose-n100-v0", 2, n_agents=4)
SMALL = tuned_ppo.Config(
    n_copies=6, segment=48, n_epochs=2, minibatch_size=96, hidden_size=8, n_points=2
)


def observations() -> np.ndarray:
    env = gym.make("rmdp/Glucose-n100-v0")
    env.observation_space.seed(0)
    return np.stack([env.observation_space.sample() for _ in range(50)])


def test_a_policy_starts_as_its_controller() -> None:
    controller = BasalBolus(0.9, 8.0)
    policy = LearnedPolicy(Actor(controller, 16))
    expected = controller.act(observations())
    np.testing.assert_allclose(policy.act(observations()), expected, rtol=1e-6, atol=1e-6)
    assert (expected[:, 1] > 0.0).any()


def test_doses_are_what_the_pump_accepts() -> None:
    """Whatever the network says: at most twenty times the controller's, and in the space."""
    actor = Actor(BasalBolus(0.9, 8.0), 16)
    given = torch.from_numpy(observations())
    space = gym.make("rmdp/Glucose-n100-v0").action_space
    bolus = bolus_of(observations(), 1.0 / 8.0)
    usual = np.stack([np.full(50, 0.9), bolus], axis=1)
    for action, factor in ((1e6, np.exp(3.0)), (-1e6, np.exp(-3.0))):
        doses = actor.doses(given, torch.full((50, 2), action)).numpy()
        assert all(space.contains(dose) for dose in doses)
        np.testing.assert_allclose(doses, np.minimum(usual * factor, [6.0, 20.0]), rtol=1e-5)


def test_a_saved_policy_is_the_same(tmp_path: Path) -> None:
    actor = Actor(BasalBolus(0.9, 8.0), 16)
    last = list(actor.body.parameters())[-2]
    torch.nn.init.normal_(last, generator=torch.Generator().manual_seed(0))
    policy = LearnedPolicy(actor)
    save_solution(Solution([policy], np.ones((4, 1))), tmp_path / "solution")
    (loaded,) = load_solution(tmp_path / "solution").policies
    assert (policy.act(observations())[:, 0] != np.float32(0.9)).any()
    np.testing.assert_allclose(
        loaded.act(observations()), policy.act(observations()), rtol=1e-4, atol=1e-5
    )


def test_advantages_are_those_of_the_definition() -> None:
    """Sums of discounted errors; with lambda = 1, returns with the last value, minus values."""
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(5, 3, generator=generator) for _ in range(2))
    last = torch.randn(3, generator=generator)
    found = _advantages(rewards, values, last, 0.9, 1.0)
    for t in range(5):
        sums = sum(0.9 ** (s - t) * rewards[s] for s in range(t, 5)) + 0.9 ** (5 - t) * last
        torch.testing.assert_close(found[t], sums - values[t])
    following = torch.cat((values[1:], last[None]))
    one_step = _advantages(rewards, values, last, 0.9, 0.0)
    torch.testing.assert_close(one_step, rewards + 0.9 * following - values)


def test_learning_lowers_the_risk() -> None:
    """Of patients whose controller gives far too little: basal rates rise in a few updates."""
    risks: list[float] = []
    settings = PPOSettings(n_copies=16, segment=96, minibatch_size=256, learning_rate=3e-3)
    policy = learn(
        *(TASK, BasalBolus(0.2, 30.0), [0, 1], settings),
        n_steps=9 * 2 * 16 * 96,
        seed=0,
        report=lambda made, risk: risks.append(risk),
    )
    assert len(risks) == 18
    first, second = np.mean(risks[:9]), np.mean(risks[9:])  # episodes of three days
    assert second < 0.95 * first
    assert policy.act(observations())[:, 0].mean() > 0.25


def test_the_solver_keeps_its_budget_and_repeats() -> None:
    transitions = (9 * 4 * 864 + 2 * 2 * 6 * 48) // 2
    task = dataclasses.replace(TASK, transitions=transitions)
    config = dataclasses.replace(SMALL, n_points=3, tuning_share=0.97)
    before = steps_made()
    log = RunLog(task, [0])
    (solution,) = tuned_ppo.solve(task, config, [0], "cpu", log)
    assert steps_made() - before == 2 * transitions
    assert log.transitions <= transitions
    assert (solution.assignment.sum(axis=0) > 0.0).all()
    learned = [policy for policy in solution.policies if isinstance(policy, LearnedPolicy)]
    assert len(learned) == 2
    (again,) = tuned_ppo.solve(task, config, [0], "cpu", RunLog(task, [0]))
    for one, other in zip(solution.policies, again.policies, strict=True):
        assert one.act(observations()).tobytes() == other.act(observations()).tobytes()


def test_what_is_refused() -> None:
    few = dataclasses.replace(TASK, transitions=20_000)
    with pytest.raises(ValueError, match="not enough to try controllers on 4 patients"):
        tuned_ppo.check(few, SMALL)
    few = dataclasses.replace(TASK, transitions=60_000)
    with pytest.raises(ValueError, match="less than one update of 76800"):
        tuned_ppo.check(few, tuned_ppo.Config(n_points=2))
    with pytest.raises(ValueError, match="is not of rmdp/Glucose-n100-v0"):
        tuned_ppo.check(get_task("HopperVel-n100-k2-v0"), SMALL)
    for setting, message in (
        ({"segment": 100}, "segment is 100, expected a divisor of 864"),
        ({"tuning_share": 1.5}, "tuning_share is 1.5; expected 0 to 1"),
        ({"n_copies": 0}, "n_copies is 0; expected 1 to"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SMALL, **setting)
