"""A group's update does not depend on the number of agents, in it or in others."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from baselines.online.end_to_end import Config as SoftConfig
from baselines.online.end_to_end import SoftRule
from baselines.online.ppo.assignments import FixedRule
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.networks import HeadedNetwork, forward
from baselines.online.ppo.outcome_critic import Nodes, group_masses, make_nodes
from baselines.online.ppo.settings import PPOConfig
from baselines.online.ppo.updates import Updates
from rmdp_bench import LinearPopulation, TargetPopulation
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

N, K, SIZE = 7, 2, 5
"""Agents, representatives and numbers observed of the updates that are made without a world."""
SETTINGS: dict[str, Any] = {
    "hidden_size": 6,
    "n_envs": 2,
    "batch_size": 24,
    "minibatch_size": 24,
    "n_epochs": 1,
    "advantage_offset": 0.3,  # about the advantages' deviation: it matters what they are divided by
}
BOTH = pytest.mark.parametrize("compiled", [False, True])


def make_updates(n_agents: int, **settings: Any) -> Updates:
    """Networks and Adam for one seed, discrete actions."""
    task = dataclasses.replace(small_task(TASKS[0]), n_representatives=K, n_agents=n_agents)
    population = LinearPopulation(np.eye(n_agents))
    actions = PPOLearner(small_task(TASKS[0]), PPOConfig(**SETTINGS), (0,), "cpu").collector.actions
    config = PPOConfig(**(SETTINGS | settings))
    return Updates(task, config, (0,), "cpu", actions, SIZE, Nodes(population))


def make_batch(n_agents: int) -> CollectedBatch:
    """Random transitions; those of the first agents are the same for any number of them."""
    generator, shape = torch.Generator().manual_seed(1), (K, 12, 2)
    observations = torch.randn(*shape, SIZE, generator=generator)
    last = torch.randn(K, 2, SIZE, generator=generator)
    actions = torch.randint(4, (*shape, 1), generator=generator).float()
    log_probs = torch.full(shape, float(np.log(0.25)))
    ended = torch.rand(shape, generator=generator) < 0.2
    rewards = torch.stack([torch.rand(shape, generator=generator) for _ in range(n_agents)], -1)
    where = tuple(np.empty((3, 0), np.intp))
    finals = torch.empty(0, SIZE)
    return CollectedBatch(observations, last, actions, log_probs, rewards, ended, where, finals)


def copy_critic(source: Updates, target: Updates, agents: list[int]) -> None:
    """Gives each agent of `target` the values that one of `source` has."""
    for name, values in source.critic.parameters.items():
        target.critic.parameters[name].copy_(
            values[..., agents] if name.startswith("head") else values
        )


def actor_after(updates: Updates, batch: CollectedBatch, assignment: torch.Tensor) -> Updates:
    """After one gradient step."""
    updates.apply(batch, FixedRule(assignment), 1e-2, 0.0)
    return updates


def first_moments(updates: Updates) -> dict[str, Any]:
    """Of Adam, for the actors: after a step, a tenth of the bounded gradient."""
    arrays = updates.get_state()[0]
    return {name: arrays[f"actor.exp_avg.{name}"][0] for name in updates.actor.parameters}


def soft_assignment(n_agents: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(1, n_agents, K, generator=generator).softmax(-1)


@BOTH
def test_everybody_twice_changes_nothing(compiled: bool) -> None:
    once, twice = make_updates(N, compiled=compiled), make_updates(2 * N, compiled=compiled)
    copy_critic(once, twice, [*range(N), *range(N)])
    batch, own = make_batch(N), make_batch(N)
    own.rewards = torch.cat([own.rewards, own.rewards], -1)
    assignment = soft_assignment(N)
    start = once.actor.flat.clone()
    actor_after(once, batch, assignment)
    actor_after(twice, own, torch.cat([assignment, assignment], 1))
    assert (once.actor.flat - start).abs().max() > 5e-3
    for name, moment in first_moments(once).items():
        scale = float(np.abs(moment).max())
        np.testing.assert_allclose(first_moments(twice)[name], moment, rtol=0, atol=1e-4 * scale)


@BOTH
@pytest.mark.parametrize("max_norm", [1e-3, 1e3])
def test_agents_of_other_groups_change_nothing(compiled: bool, max_norm: float) -> None:
    """Three more agents for representative 1: the head of 0 gets the same gradient."""
    few = make_updates(N, compiled=compiled, max_gradient_norm=max_norm)
    many = make_updates(N + 3, compiled=compiled, max_gradient_norm=max_norm)
    copy_critic(few, many, [*range(N), 0, 1, 2])
    assignment = torch.zeros(1, N + 3, K)
    assignment[0, :4, 0] = 1.0
    assignment[0, 4:, 1] = 1.0
    actor_after(few, make_batch(N), assignment[:, :N])
    actor_after(many, make_batch(N + 3), assignment)
    for name in ("head_weight", "head_bias"):
        first, second = (first_moments(updates)[name] for updates in (few, many))
        np.testing.assert_allclose(second[0], first[0], rtol=1e-3, atol=1e-9)
        assert not np.allclose(second[1], first[1], rtol=1e-2, atol=1e-9)


@BOTH
def test_a_group_without_agents_has_no_advantages(compiled: bool) -> None:
    assignment = torch.zeros(1, N, K)
    assignment[..., 1] = 1.0
    for empty in (assignment, assignment.log().softmax(-1)):
        updates = actor_after(make_updates(N, compiled=compiled), make_batch(N), empty)
        assert torch.isfinite(updates.actor.flat).all()
        moments = first_moments(updates)
        assert not moments["head_weight"][0].any() and moments["head_weight"][1].any()


@pytest.mark.parametrize(
    "population", [TargetPopulation.uniform(9, 4.0, seed=3), LinearPopulation(np.ones((9, 2)))]
)
def test_masses_count_agents_not_nodes(population: Any) -> None:
    assignment = torch.zeros(1, 9, K)
    assignment[0, :3, 0] = 1.0
    assignment[0, 3:, 1] = 0.5
    masses = group_masses(assignment)
    assert masses.tolist() == [[3.0], [3.0]]
    nodes = make_nodes(population, "outcome")
    outcomes = np.random.default_rng(0).uniform(0, 4, (50, population.outcome_size))
    by_node = nodes.population.rewards(outcomes)
    by_agent = nodes.of_agents(by_node.T)
    groups = nodes.of_groups(assignment, masses).numpy() @ by_node.T
    np.testing.assert_allclose(groups[0], by_agent[:3].mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(groups[1], by_agent[3:].mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n_hidden_layers", [1, 2])
def test_gradients_are_bounded_for_each_representative(n_hidden_layers: int) -> None:
    """Against autograd on one representative's loss after the other, three of them, two seeds."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    network = HeadedNetwork(
        *(3, 4, 5, 2),
        head_gain=1.0,
        generators=generators,
        device="cpu",
        n_hidden_layers=n_hidden_layers,
    )
    inputs, slope = torch.randn(6, 8, 4), torch.randn(6, 8, 2)
    slope *= torch.tensor([1e-3, 1.0, 2.0]).repeat(2).view(6, 1, 1)  # the first is small enough
    own = network.own_parameters()
    (forward(own, inputs) * slope).sum().backward()
    parameters_before = {name: values.clone() for name, values in network.parameters.items()}
    network.descend(own, 1e-3, 0.5, torch.ones(6, 1, 1, dtype=torch.bool))
    expected = {name: torch.zeros_like(values) for name, values in network.parameters.items()}
    norms = []
    for policy in range(6):
        parameters = {n: v.clone().requires_grad_() for n, v in parameters_before.items()}
        layer, seed = inputs[policy], policy // 3
        for part in ("", "_2")[:n_hidden_layers]:
            weight, bias = (parameters[f"hidden_{kind}{part}"][seed] for kind in ("weight", "bias"))
            layer = torch.tanh(layer @ weight + bias)
        outputs = layer @ parameters["head_weight"][policy] + parameters["head_bias"][policy]
        (outputs * slope[policy]).sum().backward()
        gradients = {name: values.grad for name, values in parameters.items()}
        norm = torch.cat([g.flatten() for g in gradients.values() if g is not None]).norm().item()
        norms.append(norm)
        for name, gradient in gradients.items():
            expected[name] += gradient * min(1.0, 0.5 / norm)
    assert min(norms) < 0.5 < max(norms)
    for name, gradient in network.gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_gradient_norm": 1e-2, "adam_epsilon": 1e-2},  # Adam forgets scales but for epsilon
        {"max_kl": 2e-3},
        {"min_log_std": -0.97},
    ],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("task_id", TASKS)
def test_compiled_updates_bound_and_stop_as_torch_does(
    task_id: str, settings: dict[str, Any]
) -> None:
    bounded, free = make_pair(task_id, **settings), make_pair(task_id)[1]
    rule = even_rule(free.task, (0, 1))
    batch = random_batch(free)
    for learner in (*bounded, free):
        learner.update(copy_batch(batch), rule)
    assert_same_state(*bounded, 2e-4)
    if free.actor.parameters.get("log_std") is not None or "min_log_std" not in settings:
        change = (bounded[1].actor.flat - free.actor.flat).abs().max()
        assert change > 1e-4, "the setting did nothing"
    if "log_std" in free.actor.parameters:
        least = settings.get("min_log_std", -np.inf)
        assert bounded[1].actor.parameters["log_std"].min() >= np.float32(least)


@pytest.mark.parametrize("normalization", ["batch", "minibatch"])
def test_equation_12_is_that_of_normalised_advantages(normalization: Any) -> None:
    """One step of psi, by an update, against autograd: advantages divided by their deviation."""
    updates = make_updates(N, advantage_offset=0.0)
    task = dataclasses.replace(small_task(TASKS[0]), n_representatives=K, n_agents=N)
    config = SoftConfig(**SETTINGS, signal="advantage", normalization=normalization)
    rule = SoftRule(task, config, [0], "cpu")
    psi = rule.psi.clone().requires_grad_()
    batch = make_batch(N)
    batch.log_probs += 0.3 * torch.randn(batch.log_probs.shape)
    by_agent = updates.agent_advantages(copy_batch(batch))[0].view(K, -1, N)
    outputs = updates.actor.evaluate(batch.observations.flatten(1, 2))
    log_probs, _ = updates.actions.log_probs(outputs, None, batch.actions.flatten(1, 2))
    marginal = torch.einsum("jtn,nj->jt", by_agent, psi.softmax(-1)[0])
    mean, deviation = marginal.mean(1), marginal.std(1)
    if normalization == "batch":  # they are constants, those of all transitions
        mean, deviation = mean.detach(), deviation.detach()
    normalised = (marginal - mean[:, None]) / deviation[:, None]
    ratio = (log_probs - batch.log_probs.flatten(1)).exp()
    loss = -torch.min(ratio * normalised, ratio.clamp(0.8, 1.2) * normalised).mean(1).sum()
    loss.backward()
    updates.apply(batch, rule, 1e-3, 0.0)
    assert psi.grad is not None and rule.psi.grad is not None
    torch.testing.assert_close(rule.psi.grad, psi.grad, rtol=1e-3, atol=1e-6)


def test_two_hidden_layers_train_and_are_saved() -> None:
    """They are torch's, on any device; `ODD` sizes, continuous actions."""
    import onnxruntime

    from baselines.online.ppo.policies import ActorPolicy, export_onnx

    learner = make_pair(TASKS[1], n_hidden_layers=2)[1]
    rule = even_rule(learner.task, (0, 1))
    assert not learner.config.is_compiled("cpu")
    before = learner.actor.parameters["hidden_weight_2"].clone()
    learner.update(learner.collect(), rule)
    assert not torch.equal(learner.actor.parameters["hidden_weight_2"], before)
    policy = learner.solutions(rule.assignment)[1].policies[1]
    assert isinstance(policy, ActorPolicy)
    observations = np.random.default_rng(0).normal(size=(20, learner.observation_size))
    inputs = learner.collector.normalize(
        np.broadcast_to(observations, (4, 20, observations.shape[1]))
    )
    outputs = learner.actor.evaluate(torch.from_numpy(inputs))[3].numpy()
    np.testing.assert_allclose(policy.act(observations), outputs.clip(-1, 1), atol=1e-5)
    session = onnxruntime.InferenceSession(export_onnx(policy.actors))
    feed = {"observation": observations.astype(np.float32), "representative": np.full(20, 1)}
    np.testing.assert_allclose(session.run(None, feed)[0], policy.act(observations), atol=1e-5)
    arrays, states = learner.get_state()
    resumed = make_pair(TASKS[1], n_hidden_layers=2)[1]
    resumed.set_state({name: array.copy() for name, array in arrays.items()}, states)
    for each in (learner, resumed):
        each.update(each.collect(), rule)
    assert torch.equal(learner.actor.flat, resumed.actor.flat)
    assert ODD["hidden_size"] == learner.actor.parameters["hidden_weight_2"].shape[-1]
