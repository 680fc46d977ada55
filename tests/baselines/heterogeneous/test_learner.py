"""Policies that start as the clinic's controllers and learn, all k side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from baselines.heterogeneous.controllers import BasalBolus, bolus_of
from baselines.heterogeneous.learner import Learner, PPOSettings, _advantages, _normalise
from baselines.heterogeneous.policies import LearnedPolicy
from rmdp_bench import Solution, load_solution, save_solution
from rmdp_bench.envs.core.counting import steps_made
from rmdp_bench.tasks import heterogeneous_task

TASK = heterogeneous_task("rmdp/Glucose-n100-v0", 2, n_agents=4)
CONTROLLERS = [BasalBolus(0.9, 8.0), BasalBolus(2.0, 20.0)]
SMALL = PPOSettings(n_copies=6, segment=48, n_epochs=2, n_minibatches=4, hidden_size=8)
AGENTS = np.array([[0, 1, 0], [2, 3, 3]])


def observations(n: int = 50) -> np.ndarray:
    env = gym.make("rmdp/Glucose-n100-v0")
    env.observation_space.seed(0)
    return np.stack([env.observation_space.sample() for _ in range(n)])


def make_learner(settings: PPOSettings = SMALL, seed: int = 0, **keywords: Any) -> Learner:
    return Learner(TASK, CONTROLLERS, settings, n_planned=4, seed=seed, **keywords)


def learned(n_updates: int = 2, seed: int = 0) -> Learner:
    learner = make_learner(seed=seed)
    with learner.worlds():
        learner.begin(AGENTS)
        for _ in range(n_updates):
            learner.advance()
    return learner


def acts(learner: Learner) -> list[bytes]:
    return [policy.act(observations()).tobytes() for policy in learner.policies()]


def test_policies_start_as_their_controllers() -> None:
    for policy, controller in zip(make_learner().policies(), CONTROLLERS, strict=True):
        expected = controller.act(observations())
        np.testing.assert_allclose(policy.act(observations()), expected, rtol=1e-5, atol=1e-6)
        assert (expected[:, 1] > 0.0).any()


def random_policy(scale: float) -> LearnedPolicy:
    rng = np.random.default_rng(0)
    shapes = ((7, 8), (1, 8), (8, 8), (1, 8), (8, 2), (1, 2))
    arrays = (rng.normal(0.0, scale, shape).astype(np.float32) for shape in shapes)
    return LearnedPolicy(0.9, 1.0 / 8.0, *arrays)


def test_doses_are_what_the_pump_accepts() -> None:
    """Whatever the network says: at most twenty times the controller's, and in the space."""
    space = gym.make("rmdp/Glucose-n100-v0").action_space
    doses = random_policy(30.0).act(observations(500))
    assert all(space.contains(dose) for dose in doses)
    usual = np.stack([np.full(500, 0.9), bolus_of(observations(500), 1.0 / 8.0)], axis=1)
    ratios = doses[usual > 0.0] / usual[usual > 0.0]
    assert ratios.max() <= np.exp(3.0) * (1 + 1e-5)
    assert ratios[:100].min() == pytest.approx(np.exp(-3.0), rel=1e-4)
    assert not doses[usual == 0.0].any()


def test_a_saved_policy_is_the_same(tmp_path: Path) -> None:
    """By every branch of the bolus: corrected or not, with a meal or not, at every limit."""
    seen = np.concatenate([observations(300), observations(300)])
    seen[300:, 3] *= np.arange(300) % 2  # without a meal
    seen[300:, 0] = np.linspace(40.0, 400.0, 300)
    seen[300:303, 0] = 150.0
    seen[300:303, 4] = (179.0, 180.0, 181.0)
    for scale in (0.3, 30.0):
        policy = random_policy(scale)
        save_solution(Solution([policy], np.ones((4, 1))), tmp_path / f"{scale}")
        (loaded,) = load_solution(tmp_path / f"{scale}").policies
        np.testing.assert_allclose(loaded.act(seen), policy.act(seen), rtol=1e-3, atol=1e-4)


def test_the_learner_acts_as_the_policies_that_it_gives() -> None:
    """Doses in training, without noise, are those of the solution; conditions too."""
    learner = make_learner(n_conditions=2)
    with torch.no_grad():
        learner.actor["weight_3"].normal_(generator=torch.Generator().manual_seed(0))
    seen = observations(6)
    conditions = np.random.default_rng(0).normal(size=(2, 3, 2))
    with learner.worlds(), torch.no_grad():
        learner.begin(AGENTS, conditions=conditions)
        learner._observations = seen
        inputs = learner._inputs(torch.from_numpy(seen))
        doses = learner._doses(torch.from_numpy(seen), learner._means(inputs).reshape(6, 2))
    for row, (j, c) in enumerate((j, c) for j in range(2) for c in range(3)):
        policy = learner.policy(j, CONTROLLERS[j], conditions[j, c])
        np.testing.assert_allclose(doses[row], policy.act(seen[row : row + 1])[0], rtol=1e-4)


def test_advantages_are_those_of_the_definition() -> None:
    """Sums of discounted errors; with lambda = 1, returns with the last value, minus values."""
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(5, 3, generator=generator), torch.randn(6, 3, generator=generator)
    found = _advantages(rewards, values, 0.9, 1.0)
    for t in range(5):
        sums = sum(0.9 ** (s - t) * rewards[s] for s in range(t, 5)) + 0.9 ** (5 - t) * values[5]
        torch.testing.assert_close(found[t], sums - values[t])
    one_step = _advantages(rewards, values, 0.9, 0.0)
    torch.testing.assert_close(one_step, rewards + 0.9 * values[1:] - values[:-1])


def test_advantages_are_normal_for_each_representative() -> None:
    scaled = _normalise(torch.tensor([[1.0, 2, 3], [10, 30, 50]]).unsqueeze(2))
    torch.testing.assert_close(scaled[0], scaled[1])
    assert scaled.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert scaled[0].square().mean().item() == pytest.approx(1.0, rel=1e-5)


def test_an_update_follows_each_representatives_own_advantages() -> None:
    """Where more basal is better for one and less for the other, that is what they learn; and the
    critic comes to know whose value is whose."""
    settings = PPOSettings(n_copies=6, segment=96, hidden_size=16, learning_rate=3e-3)
    learner = Learner(TASK, CONTROLLERS, settings, n_planned=1_000, seed=0)
    generator = torch.Generator().manual_seed(0)
    with learner.worlds():
        learner.begin(AGENTS)
        for _ in range(6):
            seen = torch.from_numpy(observations(96 * 6)).view(96, 6, 7)
            inputs = torch.stack([learner._inputs(row) for row in seen]).detach()
            noise = torch.randn((96, 2, 3, 2), generator=generator)
            std = learner.actor["log_std"].exp().detach()
            actions = learner._means(inputs).detach() + std * noise
            log_density = (-0.5 * noise.square() - std.log()).sum(dim=-1, keepdim=True)
            log_density = log_density - np.log(2.0 * np.pi)
            advantages = actions[..., 0] * torch.tensor([1.0, -1.0])[:, None]
            targets = torch.tensor([0.0, 100.0, 0.0, 50.0, 200.0, 200.0]).expand(96, 6)
            learner._update(
                *(inputs, actions, log_density, advantages.reshape(96, 6)), targets.contiguous()
            )
    first, second = (policy.act(observations())[:, 0] for policy in learner.policies())
    assert np.log(first / 0.9).mean() > 0.05
    assert np.log(second / 2.0).mean() < -0.05
    with torch.no_grad():
        found = learner._value(inputs[0].view(6, -1), torch.from_numpy(AGENTS.ravel()), 3)
    assert found[4] > found[3] and found[1] > found[0]


def test_the_critic_first_expects_that_all_goes_on() -> None:
    learner = make_learner()
    with learner.worlds():
        learner.begin(AGENTS)
        rewards = -torch.tensor([20.0, 40.0, 60.0, 10.0, 500.0, 500.0]).expand(48, 6)
        learner._set_level(rewards)
    found = learner.critic["level"].detach().ravel().tolist()
    assert found == pytest.approx([-2.0, -2.0, -0.5, -5.0])  # in units of 20; at most 100


def test_who_learns_with_whom_is_the_callers() -> None:
    """A representative's policy depends on its own patients only through the common critic."""
    learner = make_learner()
    before = steps_made()
    with learner.worlds():
        learner.begin(AGENTS)
        risk = learner.advance()
    assert steps_made() - before == 6 * 48 and learner.transitions == 3 * 48
    assert 0.0 < risk < 200.0
    assert risk == pytest.approx(-learner.returns.sum() / (6 * 48), rel=1e-4)
    assert acts(learner) != acts(make_learner())


def test_the_same_seed_learns_the_same() -> None:
    assert acts(learned()) == acts(learned()) != acts(learned(seed=1))


def test_training_goes_on_from_a_state() -> None:
    """Of an episode's end: with Adam's moments, generators, and how far the step size fell."""
    first = learned()
    arrays, state = first.get_state()
    other = make_learner(seed=9)
    other.set_state(arrays, state)
    for learner in (first, other):
        with learner.worlds():
            learner.begin(AGENTS)
            learner.advance()
    assert acts(first) == acts(other)


def test_worlds_are_closed_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner()
    closed: list[bool] = []
    with pytest.raises(FloatingPointError, match="training has diverged"), learner.worlds():
        envs = learner._envs
        close = envs.close

        def closes() -> None:
            closed.append(True)
            close()

        monkeypatch.setattr(envs, "close", closes)
        learner.begin(AGENTS)
        with torch.no_grad():
            learner.actor["weight_2"].fill_(float("nan"))
        learner._observations = observations(6)
        monkeypatch.setattr(envs, "step", lambda doses: (observations(6), np.ones(6)))
        learner.advance()
    assert closed == [True]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"segment": 100}, "segment is 100, expected a divisor of 864"),
        ({"gae_lambda": 1.5}, "gae_lambda is 1.5; expected 0 to 1"),
        ({"n_copies": 0}, "n_copies is 0; expected 1 to"),
    ],
)
def test_what_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPOSettings(**setting)
