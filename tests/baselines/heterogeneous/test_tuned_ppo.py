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
from baselines.heterogeneous.learner import (
    Actor,
    LearnedPolicy,
    PPOSettings,
    _advantages,
    _layers,
    _log_probability,
    _update,
    _value,
    learn,
)
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


def test_an_update_follows_the_advantages() -> None:
    """Doses whose advantage is the first action: the mean of the first rises, not of the second."""
    generator = torch.Generator().manual_seed(0)
    settings = PPOSettings(minibatch_size=128, learning_rate=1e-3, hidden_size=16)
    actor, critic = Actor(BasalBolus(0.9, 8.0), 16), _layers(7 + 2, 16, 1)
    log_std = torch.nn.Parameter(torch.full((2,), -1.0))
    parameters = [*actor.parameters(), *critic.parameters(), log_std]
    seen = torch.from_numpy(np.tile(observations(), (10, 1)))
    action = torch.randn((500, 2), generator=generator) * log_std.detach().exp()
    with torch.no_grad():
        probability = _log_probability(action, actor.mean(seen), log_std)
    who = torch.nn.functional.one_hot(torch.arange(500) % 2, 2).float()
    batch = {
        **{"observation": seen, "action": action, "log_probability": probability, "who": who},
        **{"advantage": action[:, 0].clone(), "return": who[:, 0] * 3.0},
    }
    optimizer = torch.optim.Adam(parameters, settings.learning_rate)
    before = (_value(critic, seen, who) - batch["return"]).square().mean().item()
    for _ in range(5):
        _update(actor, critic, log_std, parameters, optimizer, batch, settings, generator)
    with torch.no_grad():
        first, second = actor.mean(seen).mean(dim=0).tolist()
        after = (_value(critic, seen, who) - batch["return"]).square().mean().item()
    assert first > 0.05 and abs(second) < first / 2.0
    assert after < 0.75 * before


def test_learning_is_from_the_groups_own_patients() -> None:
    """Segments are reported as they are made, and the policy is no longer the controller."""
    reports: list[tuple[int, float]] = []
    settings = PPOSettings(n_copies=6, segment=48, minibatch_size=96, hidden_size=8)
    policy = learn(
        *(TASK, BasalBolus(0.9, 8.0), [1, 3], settings),
        n_steps=2 * 6 * 48 + 47,
        seed=0,
        report=lambda made, risk: reports.append((made, risk)),
    )
    assert [made for made, _ in reports] == [288, 576]
    assert all(0.0 < risk < 200.0 for _, risk in reports)
    rates = policy.act(observations())[:, 0]
    assert (rates != np.float32(0.9)).any() and np.abs(np.log(rates / 0.9)).max() < 1.0


def test_the_solver_keeps_its_budget_and_repeats() -> None:
    transitions = (16 * 4 * 864 + 2 * 2 * 6 * 48) // 2
    task = dataclasses.replace(TASK, transitions=transitions)
    config = dataclasses.replace(SMALL, n_points=4, tuning_share=0.99)
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
