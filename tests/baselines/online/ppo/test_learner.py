"""The learner against slower statements of the same things: autograd, and loops over agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from baselines.common.statistics import RunningStatistics
from baselines.online.clustering import Config as ClusteringConfig
from baselines.online.em import Config, EMRule
from baselines.online.end_to_end import Config as SoftConfig
from baselines.online.end_to_end import SoftRule
from baselines.online.ppo.assignments import FixedRule, e_step
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.losses import StepSettings, Transitions, make_step
from baselines.online.ppo.networks import HeadedNetwork
from baselines.online.ppo.policies import ActorPolicy, export_onnx
from baselines.online.ppo.settings import PPOConfig, check
from rmdp_bench.tasks import get_online_task
from tests.helpers.learner_toys import SMALL, TASKS, even_rule, small_task

pytestmark = pytest.mark.arithmetic


def small_learner(task_id: str, seeds: Sequence[int] = (0, 1)) -> tuple[PPOLearner, FixedRule]:
    task = small_task(task_id)
    return PPOLearner(task, PPOConfig(**SMALL), seeds, "cpu"), even_rule(task, seeds)


def parameters_for_autograd(network: HeadedNetwork) -> dict[str, torch.Tensor]:
    return {n: p.clone().requires_grad_() for n, p in network.parameters.items()}


def plain_forward(parameters: dict[str, torch.Tensor], inputs: torch.Tensor, k: int) -> Any:
    """The network (R k, B, o) of inputs (R k, B, d) as a loop over seeds and representatives."""
    outputs = []
    for head, rows in enumerate(inputs):
        weight, bias = (parameters[f"hidden_{part}"][head // k] for part in ("weight", "bias"))
        hidden = torch.tanh(rows @ weight + bias)
        outputs.append(hidden @ parameters["head_weight"][head] + parameters["head_bias"][head])
    return torch.stack(outputs)


def minibatch(learner: PPOLearner) -> Transitions:
    """Random rows, some of them with ratios out of the clipping range."""
    generator = torch.Generator().manual_seed(0)
    rows, n_actions = (learner.n_policies, 8), learner.collector.actions.n_outputs
    inputs = torch.randn(*rows, learner.observation_size, generator=generator)
    if not learner.collector.actions.has_log_std:
        actions = torch.randint(n_actions, (*rows, 1), generator=generator).float()
    else:
        actions = torch.randn(*rows, n_actions, generator=generator)
    now = log_probs(learner, learner.actor.parameters, inputs, actions)[0]
    old = now + 0.4 * torch.randn(*rows, generator=generator)
    advantages = torch.randn(*rows, generator=generator)
    targets = torch.randn(*rows, learner.n_agents, generator=generator)
    return Transitions(inputs, actions, old, advantages, targets)


def step(learner: PPOLearner, rows: Transitions) -> None:
    """A step whose gradients are not bounded."""
    learns = torch.ones(learner.n_policies, 1, 1, dtype=torch.bool)
    networks, kind = (learner.actor, learner.critic), learner.collector.actions
    make_step(*networks, rows, kind, StepSettings(1e-3, 0.1, 0.2, 1e9), learns)


def log_probs(
    learner: PPOLearner, parameters: dict[str, torch.Tensor], inputs: torch.Tensor, actions: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (R k, B) and entropies (R k, B) by torch.distributions."""
    outputs = plain_forward(parameters, inputs, learner.n_representatives)
    if not learner.collector.actions.has_log_std:
        categorical = torch.distributions.Categorical(logits=outputs)
        return categorical.log_prob(actions.squeeze(-1)), categorical.entropy()
    normal = torch.distributions.Normal(outputs, parameters["log_std"].exp().expand_as(outputs))
    return normal.log_prob(actions).sum(-1), normal.entropy().sum(-1)


@pytest.mark.parametrize("task_id", TASKS)
def test_actor_gradient_is_that_of_equation_9(task_id: str) -> None:
    """The network as loops, and the likelihoods of torch's distributions."""
    learner, _ = small_learner(task_id)
    learner.actor.flat.add_(0.3 * torch.randn_like(learner.actor.flat))
    rows = minibatch(learner)

    parameters = parameters_for_autograd(learner.actor)
    new, entropies = log_probs(learner, parameters, rows.observations, rows.actions)
    ratio = (new - rows.log_probs).exp()
    surrogate = torch.min(ratio * rows.advantages, ratio.clamp(0.8, 1.2) * rows.advantages)
    loss = -(surrogate.mean(1) + 0.1 * entropies.mean(1)).sum()
    loss.backward()

    step(learner, rows)
    assert ((ratio < 0.8) | (ratio > 1.2)).any()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        tolerance = 1e-4 * float(parameter.grad.abs().max())
        torch.testing.assert_close(
            learner.actor.gradients[name], parameter.grad, rtol=1e-4, atol=tolerance
        )


def test_critic_gradient_is_that_of_equation_8() -> None:
    learner, _ = small_learner(TASKS[0])
    rows = minibatch(learner)
    parameters = parameters_for_autograd(learner.critic)
    values = plain_forward(parameters, rows.observations, learner.n_representatives)
    (values - rows.targets).square().mean((1, 2)).sum().backward()
    step(learner, rows)
    for name, parameter in parameters.items():
        torch.testing.assert_close(learner.critic.gradients[name], parameter.grad)


@pytest.mark.parametrize("task_id", TASKS)
def test_agent_advantages_are_gae_for_each_agent(task_id: str) -> None:
    """Against a loop over steps that reads one agent at a time, with both ways to end."""
    learner, _ = small_learner(task_id, seeds=[0])
    for _ in range(3):
        batch = learner.collect()
    p, steps, copies, n = batch.rewards.shape
    generator = torch.Generator().manual_seed(1)
    batch.rewards = torch.rand(p, steps, copies, n, generator=generator)
    batch.ended[:] = torch.rand(p, steps, copies, generator=generator) < 0.2
    where = np.argwhere((batch.ended & (torch.rand(batch.ended.shape) < 0.5)).numpy())
    batch.truncations = tuple(where.T)
    batch.final_observations = torch.randn(len(where), learner.observation_size)
    rewards = batch.rewards.clone()
    advantages, targets = learner.updates.agent_advantages(batch)

    def values(policy: int, observations: torch.Tensor) -> torch.Tensor:
        parts = learner.critic.parameters
        hidden = torch.tanh(observations @ parts["hidden_weight"][0] + parts["hidden_bias"][0])
        return hidden @ parts["head_weight"][policy] + parts["head_bias"][policy]

    gamma, decay = learner.task.gamma, learner.config.gae_lambda
    final = {tuple(w): o for w, o in zip(where.tolist(), batch.final_observations, strict=True)}
    for policy in range(p):
        for copy in range(copies):
            carried = torch.zeros(n)
            after = values(policy, batch.last_observations[policy, copy])[0]
            for t in reversed(range(steps)):
                value = values(policy, batch.observations[policy, t, copy])[0]
                if batch.ended[policy, t, copy]:
                    carried = torch.zeros(n)
                    after = torch.zeros(n)
                    if (policy, t, copy) in final:
                        after = values(policy, final[(policy, t, copy)])[0]
                delta = rewards[policy, t, copy] + gamma * after - value
                carried = delta + gamma * decay * carried
                torch.testing.assert_close(
                    advantages[policy, t, copy], carried, rtol=1e-4, atol=1e-4
                )
                torch.testing.assert_close(
                    targets[policy, t, copy], carried + value, rtol=1e-4, atol=1e-4
                )
                after = value


def test_average_returns_follow_equation_10() -> None:
    learner, _ = small_learner(TASKS[0], seeds=[0])
    shape = (learner.n_policies, learner.collector.n_steps, learner.config.n_envs, learner.n_agents)
    rewards = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    ended = np.random.default_rng(2).random(shape[:3]) < 0.3
    ended[2] = False  # a representative that finishes no episode
    expected: list[Any] = [None] * learner.n_policies
    running = torch.zeros(shape[0], shape[2], shape[3])
    for t in range(shape[1]):
        running += rewards[:, t]
        for policy in range(shape[0]):
            for copy in range(shape[2]):
                if ended[policy, t, copy]:
                    episode = running[policy, copy].numpy().astype(np.float64)
                    old = expected[policy]
                    expected[policy] = (
                        episode.copy() if old is None else 0.95 * old + 0.05 * episode
                    )
                    running[policy, copy] = 0.0
    learner.collector._average_returns(rewards, ended)
    np.testing.assert_allclose(learner.collector.average_returns[0, :, 0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(learner.collector.average_returns[0, :, 1], expected[1], rtol=1e-6)
    assert np.isnan(learner.collector.average_returns[0, :, 2]).all()


def test_running_statistics_equal_those_of_all_data() -> None:
    data = np.random.default_rng(0).normal(3.0, 2.0, (2, 60, 4))
    statistics = RunningStatistics(2, 4)
    for part in np.split(data, [10, 25], axis=1):
        statistics.update(part)
    np.testing.assert_allclose(statistics.mean, data.mean(1))
    np.testing.assert_allclose(statistics.variance, data.var(1))


@pytest.mark.parametrize("task_id", TASKS)
def test_a_seed_depends_on_its_companions_by_rounding_only(task_id: str) -> None:
    together, rule = small_learner(task_id, [0, 1, 2])
    alone, rule_alone = small_learner(task_id, [1])
    rule_alone.assignment = rule.assignment[1:2]
    for learner, own_rule in ((together, rule), (alone, rule_alone)):
        for _ in range(2):
            learner.update(learner.collect(), own_rule)
    for name in ("actor", "critic"):
        network = getattr(together, name)
        for key, array in network.split(network.flat).items():
            other = getattr(alone, name)
            expected = other.split(other.flat)[key][0]
            np.testing.assert_allclose(array[1], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("task_id", TASKS)
def test_state_restores_the_run_bit_for_bit(task_id: str) -> None:
    learner, rule = small_learner(task_id)
    for _ in range(2):
        learner.update(learner.collect(), rule)
    arrays, states = learner.get_state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    assert all(len(array) == learner.n_seeds for array in arrays.values())
    learner.update(learner.collect(), rule)
    resumed, rule_resumed = small_learner(task_id)
    resumed.set_state(arrays, states)
    resumed.update(resumed.collect(), rule_resumed)
    assert torch.equal(learner.actor.flat, resumed.actor.flat)
    assert torch.equal(learner.critic.flat, resumed.critic.flat)
    np.testing.assert_array_equal(
        learner.collector.average_returns, resumed.collector.average_returns
    )


@pytest.mark.parametrize("task_id", TASKS)
def test_saved_policies_act_as_those_in_memory(task_id: str) -> None:
    import onnxruntime

    learner, rule = small_learner(task_id)
    learner.update(learner.collect(), rule)
    solution = learner.solutions(rule.assignment)[1]
    policy = solution.policies[1]
    assert isinstance(policy, ActorPolicy)
    graph = export_onnx(policy.actors)
    assert b".py" not in graph, "where the exporter's source lies on this machine"
    session = onnxruntime.InferenceSession(graph)
    observations = np.random.default_rng(0).normal(size=(20, learner.observation_size))
    feed = {"observation": observations.astype(np.float32), "representative": np.full(20, 1)}
    np.testing.assert_allclose(session.run(None, feed)[0], policy.act(observations), atol=1e-5)


def test_e_step_never_lowers_welfare_and_keeps_ties() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        n, k = generator.integers(2, 12), generator.integers(1, 5)
        table = generator.integers(0, 4, (n, k)).astype(np.float64)
        current = generator.integers(k, size=n)
        chosen = e_step(table, current)
        before, after = table[np.arange(n), current], table[np.arange(n), chosen]
        assert (after >= before).all()
        np.testing.assert_array_equal(after, table.max(1))
        np.testing.assert_array_equal(chosen[before == after], current[before == after])


def test_representatives_without_agents_are_lent_one_for_a_while() -> None:
    task = get_online_task("ResourceGathering-n25-k3-v0")
    rule = EMRule(task, Config(patience=3), [0], "cpu")
    table = np.zeros((1, 25, 3))
    table[0, :, 1] = 1.0  # everybody prefers representative 1
    lent = []
    for _ in range(7):
        rule.after_collection(table)
        counts = rule.assignment[0].sum(0).tolist()
        assert counts == [1.0, 23.0, 1.0]
        assert rule.served[0].sum(0).tolist() == [0.0, 25.0, 0.0]
        lent.append(int(rule.assignment[0, :, 0].argmax()))
    assert len(set(lent[:3])) == 1 and len(set(lent[3:6])) == 1
    assert len(set(lent)) > 1
    # A lender that is left with nobody but the agent it lent gets it back.
    table[0, :, 2] = 2.0
    table[0, lent[-1], 1] = 3.0
    rule.after_collection(table)
    assert rule.assignment[0, lent[-1], 1] == 1.0
    assert rule.assignment[0].sum(0).tolist() == [1.0, 1.0, 23.0]
    table[0, :, 1], table[0, :, 2], table[0, :5, 0] = 1.0, 0.0, 2.0
    rule.after_collection(table)
    assert rule.assignment[0].sum(0).tolist() == [5.0, 19.0, 1.0]
    assert rule.served[0].sum(0).tolist() == [5.0, 20.0, 0.0]


@pytest.mark.parametrize("signal", ["advantage", "return"])
def test_assignment_gradient_is_that_of_the_objective(signal: Any) -> None:
    """Against autograd through the softmax, on a given slope or on objective 2."""
    task = get_online_task("ResourceGathering-n25-k3-v0")
    config = SoftConfig(signal=signal, n_epochs=1, batch_size=64)
    rule = SoftRule(task, config, [0, 1], "cpu")
    psi = rule.psi.clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    if signal == "advantage":
        slope = torch.randn(2, 25, 3, generator=generator)
        (psi.softmax(-1) * slope).sum().backward()
        rule.descend(slope)
    else:
        values = torch.rand(2, 25, 3, generator=generator)
        loss = -(psi.softmax(-1) * values).sum(-1).mean(-1).sum()
        loss.backward()
        rule.after_collection(values.numpy())
    torch.testing.assert_close(rule.psi.grad, psi.grad)
    torch.testing.assert_close(rule.assignment.sum(-1), torch.ones(2, 25))


def test_bad_settings_are_refused_by_name() -> None:
    ppo: list[dict[str, Any]] = [
        *({"n_envs": 0}, {"batch_size": 100}, {"batch_size": 0}, {"clip": 0.0}, {"mixing": 1.5}),
        *({"max_gradient_norm": -1.0}, {"reward_scale": 0.0}, {"observation_clip": -1.0}),
        *({"advantage_offset": -1.0}, {"entropy_coefficient": -3.0}, {"log_std": 1e6}),
        *({"learning_rate": float("nan")}, {"n_epochs": 0}),
    ]
    cases: list[tuple[Any, dict[str, Any]]] = [
        *((PPOConfig, bad) for bad in ppo),
        *((Config, {"patience": -5}), (Config, {"clip": 0.0})),
        *((ClusteringConfig, {"pretraining": -1.0}), (SoftConfig, {"normalization": "minibatch"})),
        (SoftConfig, {"assignment_learning_rate": 0.0}),
    ]
    for config_type, bad in cases:
        with pytest.raises(ValueError, match=next(iter(bad))):
            config_type(**bad)


def test_a_budget_below_a_batch_is_refused() -> None:
    task = dataclasses.replace(get_online_task(TASKS[0]), transitions=2047)
    with pytest.raises(ValueError, match="2048"):
        check(task, PPOConfig())


def test_batch_holds_every_agents_reward() -> None:
    learner, _ = small_learner(TASKS[1])
    batch = learner.collect()
    assert isinstance(batch, CollectedBatch)
    assert batch.rewards.shape == (4, 32, 2, 100)
    assert batch.observations.shape == (4, 32, 2, 11)
