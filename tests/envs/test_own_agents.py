"""Agents of one's own, in the suite's worlds and in other people's."""

from __future__ import annotations

import copy
import inspect
import pickle
import textwrap
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from scipy.optimize import linprog

import rmdp_bench
from rmdp_bench import LinearPopulation, Population, TargetPopulation, scoring
from rmdp_bench.ceilings import (
    constant_speed_optimum,
    greatest_gain,
    planar_rewards,
    planar_table,
    planar_velocity_bound,
)
from rmdp_bench.envs import ENVIRONMENTS
from rmdp_bench.envs.represent import Outcome

ON_LINE = TargetPopulation(np.linspace(0.5, 1.5, 37), width=0.2)
IN_PLANE = TargetPopulation(np.random.default_rng(0).uniform(-3, 3, (40, 2)), width=1.5)
WEIGHTS = LinearPopulation(np.random.default_rng(1).dirichlet(np.ones(25), 7))


class Thresholds(Population):
    """Who is content from some speed on."""

    def __init__(self, least_speeds: Any) -> None:
        self.least_speeds = np.asarray(least_speeds, np.float64)
        self.n_agents, self.outcome_size = len(self.least_speeds), 1

    def rewards(self, outcomes: Any) -> Any:
        least: Any = self.least_speeds
        if not isinstance(outcomes, np.ndarray):
            least = outcomes.new_tensor(least)
        return 0.1 * (outcomes >= least)


OWN = Thresholds([0.0, 0.5, 1.0])
GIVEN = {
    "rmdp/HalfCheetahVel-n100-v0": ON_LINE,
    "rmdp/HopperVel-n1000-v0": OWN,
    "rmdp/AntVel2d-n100-v0": IN_PLANE,
    "rmdp/ResourceGathering-n25-v0": WEIGHTS,
}


@pytest.mark.parametrize("env_id", GIVEN)
def test_agents_replace_those_of_the_id(env_id: str) -> None:
    """Rewards are the given agents'; observations and resets are those of the id."""
    population = GIVEN[env_id]
    usual: Any = gym.make_vec(env_id, num_envs=3)
    envs: Any = gym.make_vec(env_id, num_envs=3, population=population)
    single: Any = gym.make(env_id, population=population)
    assert envs.unwrapped.population is population
    observations, infos = envs.reset(seed=[5, 6, 7])
    np.testing.assert_array_equal(observations, usual.reset(seed=[5, 6, 7])[0])
    np.testing.assert_array_equal(observations[1], single.reset(seed=6)[0])
    assert infos["agent_rewards"].shape == (3, population.n_agents)
    envs.action_space.seed(0)
    for t in range(5):
        actions = envs.action_space.sample()
        observations, rewards, *_, infos = envs.step(actions)
        np.testing.assert_array_equal(observations, usual.step(actions)[0])
        expected = population.rewards(infos["outcome"])
        np.testing.assert_array_equal(infos["agent_rewards"], expected)
        np.testing.assert_allclose(rewards, expected.mean(axis=1), rtol=1e-12)
        if t == 0:
            _, reward, _, _, info = single.step(actions[1])
            np.testing.assert_array_equal(info["agent_rewards"], infos["agent_rewards"][1])
            assert reward == rewards[1]
    few: Any = gym.make_vec(env_id, num_envs=3, population=population, agent_rewards=False)
    few.reset(seed=[5, 6, 7])
    assert few.step(actions)[1].shape == (3,)


@pytest.mark.parametrize(
    ("env_id", "keywords", "message"),
    [
        (
            "rmdp/AntVel-n100-v0",
            {"population": IN_PLANE},
            "is for outcomes .2,., expected one for outcomes .1,.",
        ),
        (
            "rmdp/AntVel2d-n100-v0",
            {"population": ON_LINE},
            "is for outcomes .1,., expected one for outcomes .2,.",
        ),
        ("rmdp/AntVel-n100-v0", {"population": Thresholds}, "expected a TargetPopulation"),
        ("rmdp/AntVel-n100-v0", {"population": [1.0]}, r"population is \[1.0\], expected"),
        ("rmdp/AntVel-n100-v0", {"population": ON_LINE, "population_seed": 1}, "one of them"),
        ("rmdp/AntVel-n100-v0", {"population": ON_LINE, "n_agents": 9}, "n_agents=9 are given"),
        ("rmdp/AntVel-n100-v0", {"population": ON_LINE, "n_agents": 100}, "n_agents=100 are given"),
        ("rmdp/ResourceGathering-n25-v0", {"population": WEIGHTS, "population_seed": 0}, "one of"),
    ],
)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_other_agents_are_refused(
    make: Any, env_id: str, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(env_id, **keywords)


def test_targets_in_a_plane() -> None:
    outcomes = np.random.default_rng(2).normal(size=(6, 5, 2))
    distance = np.linalg.norm(outcomes[..., None, :] - IN_PLANE.targets, axis=-1)
    expected = 0.1 * np.maximum(1.0 - distance / 1.5, 0.0)
    np.testing.assert_allclose(IN_PLANE.rewards(outcomes), expected, atol=1e-15)
    tensor = torch.tensor(outcomes, requires_grad=True)
    rewards = IN_PLANE.rewards(tensor)
    np.testing.assert_allclose(rewards.detach().numpy(), expected, atol=1e-15)
    rewards.sum().backward()
    assert tensor.grad is not None and torch.isfinite(tensor.grad).all()
    np.testing.assert_allclose(IN_PLANE.mean_rewards(outcomes), expected.mean(-1), atol=1e-15)
    np.testing.assert_allclose(IN_PLANE.total_rewards(outcomes[0]), expected[0].sum(0), atol=1e-14)
    low, high = IN_PLANE.reward_bounds(-1.0, 1.0)
    inside = IN_PLANE.rewards(np.random.default_rng(3).uniform(-1, 1, (4000, 2)))
    assert (inside >= low).all() and (inside <= high).all()
    assert (np.abs(high - inside.max(axis=0)) < 5e-3).all()
    for other in (pickle.loads(pickle.dumps(IN_PLANE)), copy.deepcopy(IN_PLANE)):
        assert other == IN_PLANE and other.targets.shape == (40, 2)


def test_a_line_is_a_line_however_it_is_written() -> None:
    column = TargetPopulation(ON_LINE.targets[:, None], width=0.2)
    assert column == ON_LINE and column.targets.shape == (37,)
    at_target = torch.tensor([[IN_PLANE.targets[0, 0], IN_PLANE.targets[0, 1]]], requires_grad=True)
    IN_PLANE.rewards(at_target).sum().backward()
    assert at_target.grad is not None and torch.isfinite(at_target.grad).all()


def test_what_a_population_of_ones_own_needs_is_rewards() -> None:
    outcomes = np.array([[0.2], [0.7], [1.3]])
    np.testing.assert_allclose(OWN.mean_rewards(outcomes), [0.1 / 3, 0.2 / 3, 0.1])
    np.testing.assert_allclose(OWN.total_rewards(outcomes), [0.3, 0.2, 0.1])
    assert OWN.preferences.shape == (3, 1)
    assert OWN.content_hash() == Thresholds([0.0, 0.5, 1.0]).content_hash()
    assert OWN.content_hash() != Thresholds([0.0, 0.5, 1.1]).content_hash()
    odd = Thresholds([0.0])
    odd.friend = object()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="Thresholds.friend is .* which has no hash"):
        odd.content_hash()


def test_bounds_of_the_table_hold_and_are_nearly_attained() -> None:
    """From the payments and velocities of the table alone, without a solver."""
    population = rmdp_bench.get_population("rmdp/AntVel2d-n100-v0")
    assert isinstance(population, TargetPopulation)
    entries = planar_table()[population.content_hash()]
    assert list(entries) == ["1", "2", "5", "10"]
    for k, entry in entries.items():
        payments, velocities = np.array(entry["payments"]), np.array(entry["velocities"])
        assert (payments >= 0).all() and len(velocities) <= int(k)
        bound = payments.sum() + int(k) * greatest_gain(population, payments, 5e-3)[0]
        # In agents of a hundred, which are percent; the tolerance counts for each of k.
        assert bound == pytest.approx(entry["bound"], abs=0.01 * int(k))
        attained = planar_rewards(population, velocities).max(axis=0).sum()
        assert attained == pytest.approx(entry["attained"], abs=1e-3)
        assert entry["bound"] - 0.3 < entry["attained"] <= entry["bound"]
        assert planar_velocity_bound(population, int(k)) == entry["bound"]
    assert planar_velocity_bound(population, 3) is None
    assert 10 < entries["1"]["bound"] < 20 and 50 < entries["10"]["bound"] < 70
    with pytest.raises(ValueError, match="on a line"):
        constant_speed_optimum(population, 2)


def test_other_objectives_in_the_plane_are_bounded() -> None:
    """Against policies that divide their time, one agent's or drawn at random."""
    population = rmdp_bench.get_population("rmdp/AntVel2d-n100-v0")
    assert isinstance(population, TargetPopulation)
    random = np.random.default_rng(0)
    velocities = random.uniform(-3.0, 3.0, (400, 2))
    returns = 100.0 * planar_rewards(population, velocities).T  # (n, m)
    for objective in ("p_mean=0.5", "nash", "p_mean=-3", "egalitarian"):
        bounds = [planar_velocity_bound(population, k, objective) or 0.0 for k in (1, 2, 5, 10)]
        assert bounds == sorted(bounds)
        for k, bound in zip((1, 2, 5, 10), bounds, strict=True):
            assert 0.0 < bound <= (planar_velocity_bound(population, k) or 0.0)
            shares = random.dirichlet(np.full(400, 0.5), (50, k))
            for given in (shares @ returns.T).max(axis=1):
                assert scoring.objective_value(given, objective) <= bound
    # One policy: how much the worst agent has at best, by a linear programme over these velocities.
    best = linprog(
        np.append(np.zeros(400), -1.0),
        A_ub=np.hstack([-returns, np.ones((100, 1))]),
        b_ub=np.zeros(100),
        A_eq=np.append(np.ones(400), 0.0)[None],
        b_eq=[1.0],
    )
    bound = planar_velocity_bound(population, 1, "egalitarian") or 0.0
    assert 0.85 * bound < -best.fun <= bound
    assert planar_velocity_bound(population, 3, "nash") is None


def first_number(
    observations: Any, actions: Any, rewards: Any, following: Any, infos: Any
) -> NDArray[Any]:
    del observations, actions, rewards, infos
    part: NDArray[Any] = following[:, :1]
    return part


def all_numbers(
    observations: Any, actions: Any, rewards: Any, following: Any, infos: Any
) -> NDArray[Any]:
    del observations, actions, rewards, infos
    return np.asarray(following, np.float64)


def test_any_world_for_ones_own_agents() -> None:
    population = TargetPopulation(np.linspace(-1, 1, 5), width=0.5)
    env = rmdp_bench.represent(gym.make("Pendulum-v1"), population, first_number)
    plain = gym.make("Pendulum-v1")
    observation, info = env.reset(seed=3)
    np.testing.assert_array_equal(observation, plain.reset(seed=3)[0])
    assert info["agent_rewards"].tolist() == [0.0] * 5 and info["outcome"].tolist() == [0.0]
    action = np.array([1.5], np.float32)
    observation, reward, _, _, info = env.step(action)
    np.testing.assert_array_equal(observation, plain.step(action)[0])
    np.testing.assert_allclose(info["outcome"], observation[:1])
    np.testing.assert_allclose(info["agent_rewards"], population.rewards(info["outcome"]))
    assert reward == pytest.approx(info["agent_rewards"].mean())
    one = rmdp_bench.AgentReward(env, 3)
    one.reset(seed=3)
    assert one.step(action)[1] == info["agent_rewards"][3]
    assert rmdp_bench.VectorReward(env).reward_space.shape == (5,)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_outcomes_are_those_that_transitions_led_to(mode: AutoresetMode) -> None:
    """Also at the end of an episode, and none is asked for where a row is only reset."""
    population = LinearPopulation(np.eye(4))
    made: Any = gym.make_vec(
        *("CartPole-v1", 3), vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    envs: Any = rmdp_bench.represent(made, population, all_numbers)
    singles = [gym.make("CartPole-v1") for _ in range(3)]
    envs.reset(seed=[1, 2, 3])
    for row, single in enumerate(singles):
        single.reset(seed=row + 1)
    waiting = np.zeros(3, bool)
    ended = 0
    for _ in range(60):
        _, rewards, terminated, _, infos = envs.step(np.ones(3, np.int64))
        earned = infos["agent_rewards"]
        if "final_info" in infos:
            over = infos["_final_info"][:, None]
            earned = np.where(over, infos["final_info"]["agent_rewards"], earned)
        for row, single in enumerate(singles):
            if waiting[row]:
                assert rewards[row] == 0.0 and not earned[row].any()
                continue
            if single is not None:
                expected, _, over, _, _ = single.step(1)
                np.testing.assert_allclose(earned[row], expected)
                assert rewards[row] == pytest.approx(expected.mean())
                if over:
                    single.reset()
                    ended += 1
                    singles[row] = None  # type: ignore[call-overload]
        waiting = terminated if mode is AutoresetMode.NEXT_STEP else waiting
        if ended == 3:
            break
    assert ended == 3
    wrapped = rmdp_bench.envs.wrappers.BatchedAgentReward(envs, 2)
    wrapped.reset(seed=1)
    observations, rewards, *_ = wrapped.step(np.ones(3, np.int64))
    np.testing.assert_allclose(rewards, observations[:, 2], atol=1e-7)


def of_infos(observations: Any, actions: Any, rewards: Any, following: Any, infos: Any) -> Any:
    del observations, actions, rewards, following
    return infos["x_velocity"][:, None]


def late(n_steps: int, value: Any) -> Outcome:
    """Right for some steps, then this."""
    left = [n_steps + 1]  # one is asked for when the wrapper is made

    def outcome(observations: Any, *rest: Any) -> Any:
        left[0] -= 1
        return np.zeros((len(observations), 1)) if left[0] >= 0 else value

    return outcome


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(1), r"outcome gives shape \(1,\), expected \(1, 1\)"),
        (np.array([[np.nan]]), "outcome gives nan as number 0 of transition 0"),
        ("fast", "outcome gives 'fast', expected an array of numbers"),
    ],
)
@pytest.mark.parametrize("n_steps", [-1, 5])
def test_wrong_outcomes(n_steps: int, value: Any, message: str) -> None:
    """Where it can be known, when the wrapper is made; else in the step."""

    def use() -> None:
        env = rmdp_bench.represent(gym.make("Pendulum-v1"), ON_LINE, late(n_steps, value))
        env.reset(seed=0)
        for _ in range(6):
            env.step(np.zeros(1, np.float32))

    with pytest.raises(ValueError, match=message):
        use()


def test_outcomes_of_infos() -> None:
    """What is in them is known from the first step on."""
    env = rmdp_bench.represent(gym.make("HalfCheetah-v5"), OWN, of_infos)
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[4]
    assert info["outcome"][0] == info["x_velocity"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Pendulum-v1", ON_LINE, first_number), "env is 'Pendulum-v1', expected an environment"),
        ((None, Thresholds, first_number), "expected a TargetPopulation"),
        ((None, ON_LINE, "speed"), "outcome is 'speed', expected a function"),
        ((None, IN_PLANE, first_number), r"outcome gives shape \(1, 1\), expected \(1, 2\)"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], message: str) -> None:
    env = arguments[0] or gym.make("Pendulum-v1")
    with pytest.raises(ValueError, match=message):
        rmdp_bench.represent(env, *arguments[1:])


def test_worlds_of_mo_gymnasium() -> None:
    pytest.importorskip("mo_gymnasium")
    env: Any = rmdp_bench.from_mo_gymnasium("deep-sea-treasure-v0", n_agents=50, seed=3)
    weights = env.population.weights
    assert weights.shape == (50, 2) and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    env.reset(seed=0)
    info = env.step(1)[4]
    np.testing.assert_allclose(info["agent_rewards"], weights @ info["outcome"], rtol=1e-12)
    envs: Any = rmdp_bench.from_mo_gymnasium("deep-sea-treasure-v0", weights, num_envs=2)
    envs.reset(seed=0)
    assert envs.step(np.array([1, 1]))[4]["agent_rewards"].shape == (2, 50)
    for keywords, message in (
        ({"weights": np.ones((3, 5))}, r"weights have shape \(3, 5\), expected \(n, 2\)"),
        ({"weights": weights, "n_agents": 3}, "n_agents=3 are given, expected one of them"),
        ({"n_agents": 0}, "n_agents is 0"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            rmdp_bench.from_mo_gymnasium("deep-sea-treasure-v0", **keywords)


def test_populations_of_ones_own_are_documented(tmp_path: Path) -> None:
    """The example in the docstring runs."""
    lines = (inspect.getdoc(Population) or "").split("\n\n")
    code = "\n\n".join(part for part in lines if part.startswith("    "))
    names: dict[str, Any] = {"np": np, "rmdp_bench": rmdp_bench}
    exec(textwrap.dedent(code), names)
    own = names["Thresholds"]([0.0, 1.0])
    assert own.rewards(np.array([[0.5]])).tolist() == [[0.1, 0.0]]
    assert own.rewards(torch.tensor([[0.5]])).tolist()[0][1] == 0.0
    assert len(ENVIRONMENTS) > 10 and tmp_path.is_dir()
