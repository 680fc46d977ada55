"""The outcome critic: nodes that stand for any number of agents, against every agent's own."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rmdp_bench
from baselines.online.em import Config, EMRule
from baselines.online.end_to_end import Config as SoftConfig
from baselines.online.ppo.assignments import e_step, random_even_assignment
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.losses import marginal_advantages
from baselines.online.ppo.outcome_critic import NODES_PER_WIDTH, Nodes, group_masses, make_nodes
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench import LinearPopulation, TargetPopulation
from rmdp_bench.evaluation import evaluate
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import get_online_task
from tests.helpers.learner_toys import SMALL, even_rule, small_task
from tests.helpers.online_settings import SETTINGS
from tests.helpers.online_settings import SMALL as SOLVER_SMALL
from tests.helpers.point_world import point_task

pytestmark = pytest.mark.arithmetic

TARGETS = TargetPopulation.uniform(300, 4.0, seed=3)
HOPPER, RESOURCES = "HopperVel-n100-k2-v0", "ResourceGathering-n25-k3-v0"


def agents_and_outcome(
    task_id: str, *, compiled: bool, seeds: tuple[int, ...] = (0,)
) -> list[PPOLearner]:
    task = small_task(task_id)
    return [
        PPOLearner(task, PPOConfig(**SMALL, compiled=compiled, critic=critic), seeds, "cpu")
        for critic in ("agents", "outcome")
    ]


def agents_of(nodes: Nodes, by_node: torch.Tensor) -> torch.Tensor:
    """What nodes have, on the last axis, for the agents."""
    flat = by_node.flatten(0, -2).numpy()
    return torch.from_numpy(nodes.of_agents(flat.T).T).view(*by_node.shape[:-1], -1)


def test_nodes_give_the_rewards_of_targets_to_the_documented_error() -> None:
    nodes = make_nodes(TARGETS, "outcome")
    assert nodes.size <= 102
    velocities = np.concatenate([np.linspace(-1.0, 5.0, 7001), TARGETS.targets])[:, None]
    exact = TARGETS.rewards(velocities)
    error = nodes.of_agents(nodes.population.rewards(velocities).T).T - exact
    bound = TARGETS.peak / (2 * NODES_PER_WIDTH)
    assert 0.9 * bound < np.abs(error).max() <= bound * (1 + 1e-4)
    # Returns of an episode whose velocity spreads as little as a tenth of a metre per second.
    steps = 2.0 + 0.1 * np.random.default_rng(0).standard_normal((1000, 1))
    returns = nodes.of_agents(nodes.population.rewards(steps).sum(0))
    np.testing.assert_allclose(returns, TARGETS.rewards(steps).sum(0), atol=1.0)
    assert returns.max() > 60


def test_targets_on_nodes_are_exact() -> None:
    width = 0.25
    for targets in ([1.0], [1.0, 1.0], [0.5, 0.5 + width, 0.5 + width / NODES_PER_WIDTH]):
        population = TargetPopulation(np.array(targets), width)
        nodes = make_nodes(population, "outcome")
        outcomes = np.linspace(0.0, 2.0, 333)[:, None]
        by_agent = nodes.of_agents(nodes.population.rewards(outcomes).T).T
        np.testing.assert_allclose(by_agent, population.rewards(outcomes), atol=1e-7)


def test_linear_preferences_are_exact() -> None:
    generator = np.random.default_rng(0)
    population = LinearPopulation(generator.normal(size=(40, 3)))
    nodes = make_nodes(population, "outcome")
    assert nodes.size == 3
    outcomes = generator.normal(size=(50, 3))
    by_agent = nodes.of_agents(nodes.population.rewards(outcomes).T).T
    np.testing.assert_allclose(by_agent, population.rewards(outcomes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "population", [TARGETS, LinearPopulation(np.eye(4)[np.arange(30) % 4] + 0.5)]
)
def test_groups_are_the_mean_of_their_agents(population: Any) -> None:
    generator = np.random.default_rng(0)
    soft = torch.from_numpy(
        generator.dirichlet(np.ones(3), (2, population.n_agents)).astype(np.float32)
    )
    nodes = make_nodes(population, "outcome")
    outcomes = generator.uniform(0, 4, (100, population.outcome_size))
    by_node = nodes.population.rewards(outcomes)
    by_agent = nodes.of_agents(by_node.T).T
    masses = group_masses(soft)
    sums = np.einsum("rij,ti->rjt", soft.numpy(), by_agent).reshape(6, -1)
    groups = nodes.of_groups(soft, masses).numpy()
    np.testing.assert_allclose(groups @ by_node.T, sums / masses.numpy(), rtol=1e-4, atol=1e-7)
    every_agent = Nodes(population).of_groups(soft, masses)
    assert every_agent.shape == (6, population.n_agents)
    assert every_agent.sum(1).tolist() == pytest.approx([1.0] * 6, rel=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_where_nodes_are_the_agents_training_is_the_same_bit_for_bit(compiled: bool) -> None:
    """Resource Gathering: an agent for each part of the outcome."""
    learners = agents_and_outcome(RESOURCES, compiled=compiled, seeds=(0, 1))
    for learner in learners:
        rule = EMRule(learner.task, Config(**SMALL), (0, 1), "cpu")
        for _ in range(3):
            batch = learner.collect()
            rule.after_collection(learner.collector.average_returns)
            learner.update(batch, rule)
    agents, outcome = learners
    assert torch.equal(agents.actor.flat, outcome.actor.flat)
    assert torch.equal(agents.critic.flat, outcome.critic.flat)


def test_advantages_and_targets_of_nodes_are_those_of_agents() -> None:
    """GAE is linear: contracted before or after, it is that of the agents' interpolated rewards."""
    agents, outcome = agents_and_outcome(HOPPER, compiled=False)
    batch, by_node = agents.collect(), outcome.collect()
    torch.testing.assert_close(by_node.observations, batch.observations)
    nodes = outcome.collector.nodes
    # The critic of the agents predicts what follows from that of the nodes.
    weights = torch.from_numpy(nodes.weights.toarray())
    for name in ("hidden_weight", "hidden_bias"):
        agents.critic.parameters[name].copy_(outcome.critic.parameters[name])
    for name in ("head_weight", "head_bias"):
        agents.critic.parameters[name].copy_(outcome.critic.parameters[name] @ weights.T)
    assignment = even_rule(agents.task, (0,)).assignment
    exact_rewards = batch.rewards.clone()
    batch.rewards = agents_of(nodes, by_node.rewards)
    bound = 0.1 / (2 * NODES_PER_WIDTH)
    assert 0 < (batch.rewards - exact_rewards).abs().max() <= bound * 1.001
    expected = agents.updates.agent_advantages(batch)
    found = outcome.updates.agent_advantages(by_node)
    for first, second in zip(expected, found, strict=True):
        torch.testing.assert_close(agents_of(nodes, second), first, rtol=1e-4, atol=1e-4)
    marginal = [
        marginal_advantages(
            advantages[0].flatten(1, 2),
            learner.collector.nodes.of_groups(assignment, group_masses(assignment)),
        )
        for learner, advantages in ((agents, expected), (outcome, found))
    ]
    assert marginal[0].std() > 1e-3
    torch.testing.assert_close(marginal[1], marginal[0], rtol=1e-4, atol=1e-5)


def test_compiled_updates_are_those_of_torch() -> None:
    plain, compiled = (
        agents_and_outcome(HOPPER, compiled=is_compiled)[1] for is_compiled in (False, True)
    )
    rule = even_rule(plain.task, (0,))
    batch = plain.collect()
    own = dataclasses.replace(batch, rewards=batch.rewards.clone())
    plain.update(batch, rule)
    compiled.update(own, rule)
    for name in ("actor", "critic"):
        first, second = getattr(plain, name).flat, getattr(compiled, name).flat
        torch.testing.assert_close(second, first, rtol=0.0, atol=2e-4)


def test_estimates_of_the_e_step_follow_from_those_of_the_nodes() -> None:
    tables = []
    for critic in ("agents", "outcome"):
        config = PPOConfig(n_envs=4, batch_size=160, minibatch_size=32, critic=critic)
        learner = PPOLearner(point_task(1000), config, (0, 1), "cpu")
        for _ in range(3):
            learner.collect()
        tables.append(learner.collector.average_returns)
    assert tables[0].shape == tables[1].shape == (2, 8, 2)
    error = np.abs(tables[1] - tables[0])
    assert tables[0].max() > 20
    assert 0.0 < error.max() < 1.0  # percent; the bound is 10 for a point that never moves


def test_the_e_step_keeps_ties_and_takes_the_first_of_others() -> None:
    table = np.array([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0], [3.0, 3.0, 0.0]])
    np.testing.assert_array_equal(e_step(table, np.array([0, 2, 2])), [1, 2, 0])


def solve(name: str, critic: str) -> list[float]:
    task, seeds = point_task(20_000), [0, 1]
    solver = importlib.import_module(f"baselines.online.{name}")
    config = solver.Config(**SOLVER_SMALL, **SETTINGS[name], critic=critic)
    solutions = solver.solve(task, config, seeds, "cpu", RunLog(task, seeds))
    return [
        float((s.assignment * evaluate(task, s, n_episodes=5).welfare_matrix).sum(1).mean())
        for s in solutions
    ]


@pytest.mark.parametrize("name", ["em", "end_to_end", "clustering"])
def test_every_rule_learns_with_it(name: str) -> None:
    """The tests of the solvers ask the same of the agents' critic."""
    assert np.mean(solve(name, "outcome")) > 75


def test_state_restores_the_run_bit_for_bit() -> None:
    learners = [agents_and_outcome(HOPPER, compiled=True, seeds=(0, 1))[1] for _ in range(2)]
    rules = [EMRule(learners[0].task, Config(**SMALL), (0, 1), "cpu") for _ in range(2)]

    def advance(learner: PPOLearner, rule: EMRule) -> None:
        batch = learner.collect()
        rule.after_collection(learner.collector.average_returns)
        learner.update(batch, rule)

    for _ in range(3):
        advance(learners[0], rules[0])
    arrays, states = learners[0].get_state()
    size = learners[0].collector.nodes.size
    assert arrays["average_returns"].shape == (2, size, 2)  # not n: it would not be small
    learners[1].set_state({name: array.copy() for name, array in arrays.items()}, states)
    rules[1].set_state(rules[0].get_state())
    table = learners[0].collector.average_returns
    assert np.isfinite(table).any()
    np.testing.assert_array_equal(learners[1].collector.average_returns, table)
    for learner, rule in zip(learners, rules, strict=True):
        advance(learner, rule)
    assert torch.equal(learners[0].actor.flat, learners[1].actor.flat)
    assert torch.equal(learners[0].critic.flat, learners[1].critic.flat)


def test_many_agents_are_trained_and_evaluated() -> None:
    n_agents = 100_000
    task = dataclasses.replace(get_online_task(HOPPER).with_agents(n_agents), transitions=128)
    solver = importlib.import_module("baselines.online.em")
    config = solver.Config(**SMALL, critic="outcome")
    (solution,) = solver.solve(task, config, [0], "cpu", RunLog(task, [0]))
    matrix = evaluate(task, solution, n_episodes=2).welfare_matrix
    assert matrix.shape == solution.assignment.shape == (n_agents, 2)
    few = get_online_task(HOPPER)
    own = dataclasses.replace(solution, assignment=solution.assignment[:100])
    expected = evaluate(few, own, n_episodes=2).welfare_matrix
    assert expected.max() > 0
    np.testing.assert_allclose(matrix[:100], expected, rtol=1e-9, atol=1e-9)


def test_it_is_the_default_from_a_thousand_agents_on() -> None:
    few = get_online_task(HOPPER)
    for name in ("em", "end_to_end", "random_assignment", "clustering", "oracle"):
        solver = importlib.import_module(f"baselines.online.{name}")
        assert solver.config_for(few).critic == solver.config_for(few.with_agents(999)).critic
        assert solver.config_for(few).critic == "agents"
        assert solver.config_for(few.with_agents(1000)).critic == "outcome"
    for name in ("em_plus", "affinity_grouping"):  # they need every agent's returns
        solver = importlib.import_module(f"baselines.online.{name}")
        assert solver.config_for(few.with_agents(1000)).critic == "agents"
    planar = get_online_task("AntVel2d-n100-k5-v0").with_agents(1000)
    assert importlib.import_module("baselines.online.em").config_for(planar).critic == "agents"


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="critic is 'outcomes'; expected 'agents' or 'outcome'"):
        PPOConfig(critic="outcomes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every agent's own advantages; expected critic 'agents'"):
        SoftConfig(critic="outcome", signal="advantage")


def test_clusters_of_many_agents_are_those_of_their_rewards() -> None:
    """The triangular factor has the agents' distances."""
    from baselines.online.clustering import agent_rewards

    nodes = make_nodes(TARGETS, "outcome")
    velocities = np.random.default_rng(0).uniform(0, 4, (500, 1))
    by_node = nodes.population.rewards(velocities)
    along, factor = nodes.of_agents(by_node.T).T, agent_rewards(nodes, by_node)
    assert factor.shape == (nodes.size, 300)

    def distances(rewards: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = np.linalg.norm(rewards[:, :, None] - rewards[:, None, :50], axis=0)
        return result

    np.testing.assert_allclose(distances(factor), distances(along), atol=1e-4)
    assert agent_rewards(Nodes(TARGETS), by_node) is by_node


def test_random_assignments_of_many_agents_are_even() -> None:
    counts = np.bincount(random_even_assignment(1_000_000, 3, np.random.default_rng(0)))
    assert counts.tolist() == [333_334, 333_333, 333_333]


def test_environments_take_a_number_of_agents() -> None:
    few: Any = gym.make("rmdp/HopperVel-n100-v0", n_agents=7)
    _, info = few.reset(seed=0)
    assert info["agent_rewards"].shape == (7,)
    vector: Any = gym.make_vec("rmdp/HopperVel-n100-v0", num_envs=2, n_agents=2000)
    usual = get_online_task(HOPPER).population
    assert vector.population.n_agents == 2000
    np.testing.assert_array_equal(vector.population.targets[:100], usual.preferences[:, 0])
    assert rmdp_bench.get_population("rmdp/HopperVel-n100-v0", n_agents=2000) == vector.population
    parallel = rmdp_bench.parallel_env("rmdp/HopperVel-n100-v0", 5, n_agents=7)
    assert parallel.assignment.shape == (7, 5)


@pytest.mark.parametrize("n_agents", [0, -1, 2.5, True, "7"])
def test_other_numbers_of_agents_are_refused(n_agents: Any) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=f"n_agents is {n_agents!r}, expected"):
            make("rmdp/HopperVel-n100-v0", n_agents=n_agents)
    with pytest.raises(ValueError, match=f"n_agents is {n_agents!r}, expected"):
        rmdp_bench.get_population("rmdp/HopperVel-n100-v0", n_agents=n_agents)
    with pytest.raises(ValueError, match=f"{n_agents!r}"):
        get_online_task(HOPPER).with_agents(n_agents)


def test_tasks_with_another_number_of_agents() -> None:
    task = get_online_task(HOPPER).with_agents(1000)
    assert (task.n_agents, task.env_kwargs) == (1000, {"n_agents": 1000})
    assert task.id.startswith("HopperVel-n100-v0-custom-") and task.n_representatives == 2
    assert task.id != get_online_task(HOPPER).with_agents(1001).id
    assert get_online_task(HOPPER).with_agents(100) is get_online_task(HOPPER)
    assert task.population == rmdp_bench.get_population("rmdp/HopperVel-n1000-v0")
    assert task.ceiling is not None and task.ceiling != get_online_task(HOPPER).ceiling
    assert get_online_task(HOPPER).env_kwargs == {}
    with pytest.raises(ValueError, match="ResourceGathering-n25-v0 has 25 agents and no others"):
        get_online_task(RESOURCES).with_agents(30)
