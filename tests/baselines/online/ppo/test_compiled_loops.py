"""The compiled loops against the plain torch that states the same algorithm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from baselines.online.em import Config, EMRule
from baselines.online.end_to_end import Config as SoftConfig
from baselines.online.end_to_end import SoftRule
from baselines.online.ppo import kernels
from baselines.online.ppo.assignments import AssignmentRule
from baselines.online.ppo.learner import PPOLearner
from tests.helpers.learner_toys import (
    ODD,
    TASKS,
    assert_same_state,
    copy_batch,
    even_rule,
    make_pair,
    random_batch,
    small_task,
)

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize("task_id", TASKS)
def test_acting_is_that_of_torch(task_id: str) -> None:
    """In the first steps: a robot's rounding errors grow by the step."""
    plain, compiled = make_pair(task_id, observation_clip=0.5)
    for learner in (plain, compiled):
        learner.collector.statistics.update(
            np.random.default_rng(0).normal(1.0, 3.0, (2, 50, learner.observation_size))
        )
        generator = torch.Generator().manual_seed(3)
        flat = learner.actor.flat
        flat.add_(0.3 * torch.randn(flat.shape, generator=generator))
    expected, batch = plain.collect(), compiled.collect()
    for name in ("observations", "actions", "log_probs", "rewards"):
        first, second = (getattr(b, name)[:, :5] for b in (expected, batch))
        torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-4)
    assert len(expected.actions.unique()) > 1
    assert expected.observations.abs().max() == 0.5


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("task_id", TASKS)
def test_an_update_is_that_of_torch(task_id: str, bootstrap: bool) -> None:
    """Parameters and Adam's moments after two updates, the second with moments from the first."""
    plain, compiled = make_pair(task_id, bootstrap_time_limits=bootstrap)
    rule = even_rule(plain.task, (0, 1))
    initial = plain.actor.flat.clone()
    for _ in range(2):
        batch = random_batch(plain)
        own = copy_batch(batch)
        plain.update(batch, rule)
        compiled.update(own, rule)
        assert_same_state(plain, compiled, 2e-4)
    assert (plain.actor.flat - initial).abs().max() > 1e-2
    with torch.no_grad():
        inputs = batch.observations.flatten(1, 2)
        log_std = plain.actor.parameters.get("log_std")
        actions = batch.actions.flatten(1, 2)
        now, _ = plain.updates.actions.log_probs(plain.actor.evaluate(inputs), log_std, actions)
        ratio = (now - batch.log_probs.flatten(1)).exp()
    assert ((ratio < 0.8) | (ratio > 1.2)).any(), "no ratio was clipped: nothing tests the clipping"


def test_a_short_run_learns_the_same() -> None:
    """Training from the start, in a world where rounding changes no step: EM, with its E-step."""
    task = dataclasses.replace(small_task(TASKS[0]), transitions=10_000)
    runs = []
    for is_compiled in (False, True):
        config = Config(n_envs=4, batch_size=512, compiled=is_compiled)
        learner = PPOLearner(task, config, (0, 1), "cpu")
        rule = EMRule(task, config, (0, 1), "cpu")
        for _ in range(8):
            batch = learner.collect()
            rule.after_collection(learner.collector.average_returns)
            learner.update(batch, rule)
        runs.append((learner, rule))
    (plain, plain_rule), (compiled, compiled_rule) = runs
    np.testing.assert_array_equal(compiled_rule.representatives, plain_rule.representatives)
    np.testing.assert_allclose(
        compiled.collector.average_returns, plain.collector.average_returns, rtol=1e-6
    )
    assert_same_state(plain, compiled, 1e-4)


@pytest.mark.parametrize("task_id", TASKS)
def test_a_seed_does_not_depend_on_its_companions(task_id: str) -> None:
    """Bit for bit, which torch's batched products do not give."""
    learners = [make_pair(task_id, seeds)[1] for seeds in ((0, 1, 2), (1,))]
    for learner, seeds in zip(learners, ((0, 1, 2), (1,)), strict=True):
        rule: AssignmentRule = even_rule(learner.task, seeds)
        for _ in range(2):
            learner.update(learner.collect(), rule)
    together, alone = (learner.updates.get_state()[0] for learner in learners)
    for name, array in alone.items():
        np.testing.assert_array_equal(together[name][1], array[0], err_msg=name)


def test_an_update_does_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = []
    for n_threads in (1, 3):
        usable_cores = "baselines.online.ppo.updates_numba.usable_cores"
        monkeypatch.setattr(usable_cores, lambda n=n_threads: n)
        learner = make_pair(TASKS[1])[1]
        learner.update(random_batch(learner), even_rule(learner.task, (0, 1)))
        states.append(learner.updates.get_state()[0])
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array, err_msg=name)


def test_a_rule_that_moves_within_an_update_is_served() -> None:
    task = small_task(TASKS[0])
    psi = []
    for is_compiled in (False, True):
        config = SoftConfig(**ODD, signal="advantage", compiled=is_compiled)
        learner, rule = PPOLearner(task, config, (0,), "cpu"), SoftRule(task, config, (0,), "cpu")
        before = rule.psi.clone()
        learner.update(random_batch(learner), rule)
        assert not torch.equal(rule.psi, before)
        psi.append(rule.psi)
    torch.testing.assert_close(psi[1], psi[0])


def test_tanh_is_exact_to_rounding() -> None:
    inputs = np.concatenate([np.linspace(-12, 12, 20001), [1e-8, -1e-8, 0.0, 1e30, -1e30]])
    column = inputs.astype(np.float32)[:, np.newaxis]
    hidden = np.empty_like(column)
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    kernels.hidden_layer(column, one, zero, hidden)
    np.testing.assert_allclose(hidden, np.tanh(column.astype(np.float64)), rtol=4e-7)


@pytest.mark.parametrize("task_id", TASKS)
@pytest.mark.parametrize("diverged", ["actor", "critic"])
def test_a_diverged_network_stays_not_a_number(task_id: str, diverged: str) -> None:
    """And takes the actor with it, as in torch, but not the other seed."""
    for learner in make_pair(task_id):
        batch = random_batch(learner)
        getattr(learner, diverged).parameters["head_bias"][0] = torch.nan
        with pytest.raises(FloatingPointError, match="diverged"):
            learner.update(batch, even_rule(learner.task, (0, 1)))
        first, second = learner.actor.rows(learner.actor.flat)
        assert np.isnan(first).all() and np.isfinite(second).all()


def test_a_diverged_actor_takes_the_first_action() -> None:
    """As NumPy's arg-max does, and not what happens to be in memory."""
    learner = make_pair(TASKS[0])[1]
    learner.actor.parameters["head_bias"].fill_(torch.nan)
    assert not learner.collect().actions.any()


def test_large_logits_do_not_overflow() -> None:
    plain, compiled = make_pair(TASKS[0])
    for learner in (plain, compiled):
        learner.actor.parameters["head_bias"][:, 0, 0] = 120.0
    batch = random_batch(plain)
    own = copy_batch(batch)
    rule = even_rule(plain.task, (0, 1))
    plain.update(batch, rule)
    compiled.update(own, rule)
    assert torch.isfinite(plain.actor.flat).all()
    assert_same_state(plain, compiled, 2e-4)


def test_rows_of_a_network_can_be_taken_out_and_put_back() -> None:
    critic = make_pair(TASKS[0])[1].critic
    expected = critic.flat.clone()
    rows = critic.rows(critic.flat)
    weight = critic.parameters["hidden_weight"]
    np.testing.assert_array_equal(rows[1, : weight[1].numel()], weight[1].flatten().numpy())
    critic.flat.zero_()
    critic.set_rows(critic.flat, rows)
    assert torch.equal(critic.flat, expected)
