"""Planners find what they should, with any dynamics, and true dynamics are the environment's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.offline.planning import true_env_mpc
from baselines.offline.planning.dynamics import Dynamics, Objective, objective_for, predict
from baselines.offline.planning.planner import (
    CrossEntropy,
    Planner,
    PlannerConfig,
    PlannerPolicy,
    Proposals,
    RandomShooting,
    decide,
    make_policy,
    truncated_normal,
)
from baselines.offline.planning.true_dynamics import CartPoleDynamics, make_true_dynamics
from rmdp_bench import get_population
from rmdp_bench.evaluation import EVALUATION_SEED, play
from rmdp_bench.evaluation.offline import heldout_episodes
from rmdp_bench.evaluation.prediction import N_FORCED, N_OPEN_LOOP
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import get_offline_task, get_online_task, get_task

pytestmark = pytest.mark.arithmetic

CART_POLE, MOUNTAIN_CAR, HALF_CHEETAH = (
    f"rmdp/{name}Het-n500-v0" for name in ("CartPole", "MountainCar", "HalfCheetah")
)
CPU = torch.device("cpu")


class Line(Dynamics):
    """Members move a point by (action - shift) times their own speed; notes what it is told."""

    dtype = torch.float64

    def __init__(self, speeds: Sequence[float] = (1.0,), shift: float = 0.0) -> None:
        self.n_members, self.shift = len(speeds), shift
        self.speeds = torch.tensor(speeds, dtype=torch.float64)[:, None, None]
        self.told: list[tuple[Tensor, ...]] = []

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        moves = actions.reshape(len(actions), -1)[:, :1].to(states.dtype) - self.shift
        return states + self.speeds * moves

    def observe(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> None:
        self.told.append((observations, actions, next_observations))


class NoisyLine(Line):
    stochastic = True

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        noise = torch.randn(states.shape, generator=generator, dtype=states.dtype)
        return super().step(states, actions, envs) + noise


def position_reward(observations: Any, actions: Any, next_observations: Any) -> Any:
    return next_observations[..., 0]


def beyond_two(observations: Any, actions: Any, next_observations: Any) -> Any:
    return next_observations[..., 0] > 2.0


def never(observations: Any, actions: Any, next_observations: Any) -> Any:
    return next_observations[..., 0] > torch.inf


def evaluate(dynamics: Dynamics, objective: Objective, plans: Tensor) -> Tensor:
    """Returns of plans that begin at 0, in as many environments as there are rows."""
    dynamics.begin(len(plans), 0)
    starts = torch.zeros(len(plans), 1, dtype=dynamics.dtype)
    return dynamics.evaluate(objective, starts, plans, torch.arange(len(plans)))


@pytest.mark.parametrize("chunk_rows", [1, 3, 256])
def test_returns_are_means_over_members_until_the_end(chunk_rows: int) -> None:
    dynamics = Line(speeds=(1.0, 2.0))
    dynamics.chunk_rows = chunk_rows
    plans = torch.tensor([[[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]]]).repeat(2, 1, 1)
    # Positions are 1 2 and 3, which ends it, and for the other member 2 and 4, which ends it.
    returns = evaluate(dynamics, Objective(position_reward, beyond_two), plans)
    assert returns.tolist() == [[(1 + 2 + 2) / 2, (1 + 2) / 2]] * 2
    # The greatest position, that at the end included, counts once.
    objective = Objective(position_reward, beyond_two, lambda states: 10 * states[..., 0])
    returns = evaluate(dynamics, objective, plans)
    assert returns.tolist() == [[2.5 + (30 + 40) / 2, 1.5 + (10 + 20) / 2]] * 2


def test_a_return_that_is_not_a_number_is_the_worst() -> None:
    plans = torch.ones(1, 2, 3)
    plans[0, 0] = torch.nan
    returns = evaluate(Line(), Objective(position_reward, never), plans)
    assert returns.tolist() == [[-np.inf, 6.0]]


@pytest.mark.parametrize("chunk_rows", [4, 10, 25, 256])
def test_noise_of_an_environment_does_not_depend_on_others(chunk_rows: int) -> None:
    plans = torch.ones(3, 10, 5)
    objective = Objective(position_reward, never)
    dynamics = NoisyLine()
    dynamics.chunk_rows = chunk_rows
    together, alone = (evaluate(dynamics, objective, part) for part in (plans, plans[:1]))
    assert (together[0] == alone[0]).all()
    assert len(together.unique()) == together.numel()
    dynamics.begin(1, 0)
    where = torch.zeros(1, 1, dtype=torch.float64), plans[:1], torch.arange(1)
    first, second = (dynamics.evaluate(objective, *where) for _ in range(2))
    assert (first == alone).all() and (first != second).all()


def test_random_shooting_begins_with_what_is_left_of_the_best() -> None:
    planner = RandomShooting(PlannerConfig(n_sequences=8, horizon=6), 3, CPU, (0, 0))
    seen: list[Tensor] = []

    def score(plans: Tensor) -> Tensor:
        seen.append(plans)
        return plans.sum(2)

    planner.reset(2)
    envs = torch.arange(2)
    first = decide(planner.propose(envs), score)
    best = seen[0][envs, seen[0].sum(2).argmax(1)]
    assert (first == best[:, 0]).all()
    decide(planner.propose(envs), score)
    assert (seen[1][:, 0, :-1] == best[:, 1:]).all()
    assert (seen[1][:, 1:] != seen[0][:, 1:]).any()
    planner.reset(1)  # the same random numbers again, whoever else is planned for
    decide(planner.propose(envs[:1]), score)
    assert (seen[2] == seen[0][:1]).all()


class Always(Planner):
    """A planner that always takes action 1, and notes for which environments."""

    def __init__(self) -> None:
        super().__init__(PlannerConfig(), CPU, ())
        self.asked: list[list[int]] = []

    def reset(self, n_envs: int) -> None:
        self.asked = []

    def propose(self, envs: Tensor) -> Proposals:
        self.asked.append(envs.tolist())
        actions = torch.ones(len(envs), dtype=torch.int64)
        yield actions[:, None, None]
        return actions


def test_a_policy_observes_and_leaves_out_what_has_ended() -> None:
    planner, dynamics = Always(), Line()
    policy = PlannerPolicy(dynamics, planner, Objective(position_reward, beyond_two), 0)
    policy.reset(2)
    actions = [policy.act(np.array([[position], [0.0]])) for position in (0.0, 3.0, 0.0)]
    assert planner.asked == [[0, 1], [1], [1]]
    assert [row.tolist() for row in actions] == [[1, 1], [0, 1], [0, 1]]
    before, taken, after = dynamics.told[1]
    assert before[:, 0].tolist() == [3, 0] and taken.tolist() == [0, 1]
    assert after[:, 0].tolist() == [0, 0]
    assert policy.act(np.array([[0.0], [3.0]])).tolist() == [0, 0]
    assert len(planner.asked) == 3
    policy.reset(1)
    policy.act(np.array([[3.0]]))
    assert planner.asked == [[0]] and len(dynamics.told) == 3


def test_cross_entropy_finds_the_optimum_and_starts_from_it() -> None:
    config = PlannerConfig(n_sequences=200, horizon=3, n_elites=20, n_iterations=8)
    planner = CrossEntropy(config, 2, CPU, (0, 0))
    target = torch.tensor([[0.5, -0.3], [-0.9, 0.1], [0.2, 1.0]])
    seen: list[Tensor] = []

    def score(plans: Tensor) -> Tensor:
        seen.append(plans)
        return -(plans - target).square().sum((2, 3))

    planner.reset(2)
    actions = decide(planner.propose(torch.arange(2)), score)
    assert actions.shape == (2, 2) and abs(actions - target[0]).max() < 0.03
    assert len(seen) == config.n_iterations + 1
    assert all((plans.abs() <= 1).all() for plans in seen)
    decide(planner.propose(torch.arange(2)), score)
    warm = seen[config.n_iterations + 1].mean(1)
    assert abs(warm[:, 0, 1] - target[1, 1]).max() < 0.15 and abs(warm[:, 2]).max() < 0.15


def test_truncated_normal() -> None:
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    wide = truncated_normal(torch.tensor(0.5), torch.tensor(100.0), uniform)
    assert abs(wide.mean()) < 0.02 and wide.min() >= -1 and wide.max() <= 1
    narrow = truncated_normal(torch.tensor(0.5), torch.tensor(0.1), uniform)
    assert abs(narrow.mean() - 0.5) < 0.01 and abs(narrow.std() - 0.1) < 0.01
    fixed = truncated_normal(torch.tensor(1.0), torch.tensor(0.0), uniform)
    assert (fixed > 0.99).all() and not fixed.isnan().any()


def parameters_of(env_id: str, agent: int) -> np.ndarray[Any, Any]:
    population = get_population(env_id)
    assert isinstance(population, DynamicsPopulation)
    return np.asarray(population.parameters[agent])


def make_true_policy(env_id: str, agent: int, config: PlannerConfig, seed: int) -> PlannerPolicy:
    dynamics = make_true_dynamics(env_id, parameters_of(env_id, agent))
    return make_policy(env_id, dynamics, config, seed=seed, agent=agent)


def returns_of(task_id: str, agent: int, config: PlannerConfig, n_episodes: int) -> list[float]:
    task = get_task(task_id)
    policy = make_true_policy(task.env_id, agent, config, 0)
    seeds = [EVALUATION_SEED + episode for episode in range(n_episodes)]
    played = play(task, [policy], [n_episodes], seeds, agents=[agent] * n_episodes)
    return list(played.returns[:, 0])


def test_planning_balances_the_pole() -> None:
    returns = returns_of("CartPoleHet-n500-pure-v1", 1, PlannerConfig(n_sequences=500), 2)
    assert returns == [200.0] * 2


def test_planning_drives_to_the_flag() -> None:
    returns = returns_of("MountainCarHet-n500-pure-v1", 2, PlannerConfig(n_sequences=200), 2)
    assert min(returns) > -250  # with uniform actions: about -500


def test_planning_moves_the_robot_forward() -> None:
    task = get_offline_task("HalfCheetahHet-n500-pure-v1")
    config = PlannerConfig(n_sequences=30, horizon=8, n_elites=6, n_iterations=2)
    policy = make_true_policy(task.env_id, 4, config, 0)
    played = play(task, [policy], [1], [0], agents=[4], record=True, max_steps=20)
    assert played.observations[-5:, 0, 0].mean() > 1.0
    assert abs(played.actions).max() <= 1.0 and played.actions.dtype == np.float32


@pytest.mark.parametrize("env_id", [CART_POLE, HALF_CHEETAH])
def test_the_same_seed_gives_the_same_actions(env_id: str) -> None:
    config = PlannerConfig(n_sequences=20, horizon=5, n_elites=4, n_iterations=1)
    envs: Any = gym.make_vec(env_id, num_envs=3)
    observations, _ = envs.reset(seed=0, options={"agent": [0, 0, 0]})

    def act(seed: int, n_envs: int) -> np.ndarray[Any, Any]:
        policy = make_true_policy(env_id, 0, config, seed)
        policy.reset(n_envs)
        return np.stack([policy.act(observations[:n_envs]) for _ in range(3)])

    assert (act(0, 3) == act(0, 3)).all()
    assert (act(0, 3)[:, :2] == act(0, 2)).all()
    assert (act(0, 3) != act(1, 3)).any()


@pytest.mark.parametrize(
    "env_id", [CART_POLE, MOUNTAIN_CAR, HALF_CHEETAH, "rmdp/HalfCheetahHet-n500-v1"]
)
def test_true_dynamics_are_the_environment(env_id: str) -> None:
    agents = [0, 1, 3, 4, 77, 510, 605]
    n_agents, n_steps = len(agents), 6
    envs: Any = gym.make_vec(env_id, num_envs=n_agents)
    observations, _ = envs.reset(seed=0, options={"agent": agents})
    envs.action_space.seed(0)

    def state() -> np.ndarray[Any, Any]:
        """Before it is rounded to an observation."""
        return np.asarray(envs.get_state().get("state", observations), np.float64)

    states, actions, rewards = [state()], [], []
    for _ in range(n_steps):
        actions.append(envs.action_space.sample())
        observations, reward, *_ = envs.step(actions[-1])
        states.append(state())
        rewards.append(reward)
    for row, agent in enumerate(agents):
        dynamics = make_true_dynamics(env_id, parameters_of(env_id, agent))
        before, after = np.stack(states[:-1])[:, row], np.stack(states[1:])[:, row]
        plan = torch.as_tensor(np.stack(actions)[:, row])
        foreseen = dynamics.step(torch.as_tensor(before)[None], plan, torch.arange(n_steps))[0]
        np.testing.assert_allclose(foreseen, after, atol=1e-9)
        dynamics.begin(1, 0)
        objective = dataclasses.replace(objective_for(env_id), bonus=None)
        where = torch.as_tensor(before[:1]), plan[None, None], torch.arange(1)
        planned = dynamics.evaluate(objective, *where)
        np.testing.assert_allclose(planned[0, 0], np.stack(rewards)[:, row].sum(), atol=1e-6)


def test_a_plan_is_worth_nothing_from_where_the_robot_fails() -> None:
    """Too fast, or put back to the start by MuJoCo; the row beside them goes on."""
    dynamics = make_true_dynamics(HALF_CHEETAH, parameters_of(HALF_CHEETAH, 0))
    states = torch.zeros(3, 18, dtype=dynamics.dtype)
    states[:, 9] = torch.tensor([1.0, 30.0, 1e11])  # velocity of the root, m/s
    plans = torch.full((3, 1, 4, 6), 0.5)
    dynamics.begin(3, 0)
    returns = dynamics.evaluate(objective_for(HALF_CHEETAH), states, plans, torch.arange(3))
    assert returns[0] != 0.0 and returns[1:].tolist() == [[0.0], [0.0]]
    speeds = dynamics.step(states[None], plans[:, 0, 0], torch.arange(3))[0, :, 0]
    assert speeds[0] < 2.0 and speeds[1] >= 25.0 and speeds[2] == 25.0


def test_predict_observes_the_forced_steps() -> None:
    dynamics = Line(speeds=(1.0, 3.0))
    actions = np.ones((4, N_FORCED + N_OPEN_LOOP, 1))
    foreseen = predict(dynamics, np.zeros((4, N_FORCED + 1, 1)), actions)
    assert (foreseen[..., 0] == 2.0 * np.arange(1, N_OPEN_LOOP + 1)).all()
    assert len(dynamics.told) == N_FORCED


def test_true_env_mpc_serves_scored_and_heldout_agents() -> None:
    task = get_offline_task("CartPoleHet-n500-random-v1")
    config = true_env_mpc.Config(n_sequences=20, horizon=10)
    solutions = true_env_mpc.solve(task, config, [0, 1], "cpu", RunLog(task, [0, 1]))
    assert [len(solution.policies) for solution in solutions] == [5, 5]
    assert solutions[0].predict is not None and solutions[0].adapt is not None
    adapted = solutions[0].adapt(heldout_episodes(task))
    assert (adapted.assignment == np.eye(len(task.heldout_agents))).all()
    for policy, agent in zip(adapted.policies, task.heldout_agents, strict=True):
        assert isinstance(policy, PlannerPolicy)
        assert isinstance(policy.dynamics, CartPoleDynamics)
        assert policy.dynamics.force == parameters_of(task.env_id, agent)[0]


def test_sizes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon is 0; expected at least 1"):
        PlannerConfig(horizon=0)
    with pytest.raises(ValueError, match="n_elites is 50; expected at most n_sequences, 20"):
        task = get_offline_task("HalfCheetahHet-n500-pure-v1")
        true_env_mpc.check(task, true_env_mpc.Config(n_sequences=20))
    with pytest.raises(ValueError, match="choose an environment of agents with different dyn"):
        true_env_mpc.check(get_online_task("HopperVel-n100-k5-v0"), true_env_mpc.Config())
