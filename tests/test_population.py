"""Populations: rewards, bounds, identity by content."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from rmdp_bench import get_population
from rmdp_bench.population import (
    DynamicsPopulation,
    LinearPopulation,
    Population,
    TargetPopulation,
)
from tests.helpers.checkout import ROOT

Target: Any = TargetPopulation  # lists and wrong types are passed on purpose
Linear: Any = LinearPopulation
WEIGHTS = np.random.default_rng(3).normal(size=(7, 13))
POPULATIONS: dict[str, Population] = {
    "velocity": TargetPopulation.uniform(100, 4.0, seed=0),
    "unsorted": TargetPopulation(np.array([3.0, -1.0, 3.0, 0.5]), width=0.7, peak=2.0),
    "tiles": LinearPopulation.tiles(),
    "linear": LinearPopulation(WEIGHTS),
}


@pytest.fixture(params=POPULATIONS)
def population(request: pytest.FixtureRequest) -> Population:
    return POPULATIONS[request.param]


def direct_rewards(population: Population, outcomes: np.ndarray[Any, Any]) -> Any:
    """The formulas of the docstrings, agent by agent."""
    if isinstance(population, TargetPopulation):
        return [
            population.peak * (1 - min(1.0, abs(target - outcomes[0]) / population.width))
            for target in population.targets
        ]
    assert isinstance(population, LinearPopulation)
    return [sum(w * x for w, x in zip(row, outcomes, strict=True)) for row in population.weights]


def make_outcomes(population: Population, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).uniform(-1, 4, (*shape, population.outcome_size))


def test_rewards_follow_the_formula(population: Population) -> None:
    outcomes = make_outcomes(population, 50)
    rewards = population.rewards(outcomes)
    assert rewards.shape == (50, population.n_agents)
    expected = [direct_rewards(population, outcome) for outcome in outcomes]
    np.testing.assert_allclose(rewards, expected, rtol=1e-12, atol=1e-12)


def test_means_and_totals_are_those_of_the_rewards(population: Population) -> None:
    """Also on the corners of the reward function, far away, and for no number."""
    outcomes = make_outcomes(population, 6, 50)
    if isinstance(population, TargetPopulation):
        corners = [population.targets + reach * population.width for reach in (-1, 0, 1)]
        far = [[-np.inf, -1e9, 1e9, np.inf]]
        outcomes = np.concatenate([outcomes.ravel(), *corners, *far])[:, np.newaxis]
    means = population.mean_rewards(outcomes)
    np.testing.assert_allclose(means, population.rewards(outcomes).mean(-1), rtol=0.0, atol=1e-12)
    assert np.isnan(population.mean_rewards(np.full(population.outcome_size, np.nan)))
    totals = population.total_rewards(outcomes.reshape(-1, population.outcome_size))
    expected = population.rewards(outcomes).reshape(-1, population.n_agents).sum(0)
    np.testing.assert_allclose(totals, expected, rtol=1e-12, atol=1e-9)
    assert np.isnan(population.total_rewards(np.full((3, population.outcome_size), np.nan))).all()


def test_thousand_perfect_steps_are_100_percent() -> None:
    population = TargetPopulation.uniform(10, 4.0, seed=0)
    perfect = population.rewards(population.targets[:, np.newaxis])
    np.testing.assert_allclose(1000 * np.diag(perfect), 100.0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0,)])
def test_numpy_and_torch_agree_and_keep_the_dtype(
    population: Population, dtype: str, shape: tuple[int, ...]
) -> None:
    outcomes = make_outcomes(population, *shape).astype(dtype)
    before = outcomes.copy()
    from_numpy = population.rewards(outcomes)
    from_torch = population.rewards(torch.from_numpy(outcomes))
    assert from_numpy.dtype == outcomes.dtype
    assert str(from_torch.dtype) == f"torch.{dtype}"
    assert from_numpy.shape == tuple(from_torch.shape) == (*shape, population.n_agents)
    tolerance = 40 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(from_numpy, from_torch.numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(outcomes, before)


def test_a_row_does_not_depend_on_its_batch(population: Population) -> None:
    outcomes = make_outcomes(population, 64)
    full = population.rewards(outcomes)
    for size in (1, 2, 7, 33):
        np.testing.assert_array_equal(population.rewards(outcomes[:size]), full[:size])
    np.testing.assert_array_equal(population.rewards(outcomes[5]), full[5])


def test_torch_rewards_are_differentiable_also_after_inference_mode() -> None:
    for population in (Target([1.0, 1.1], width=0.5), LinearPopulation(WEIGHTS)):
        with torch.inference_mode():
            population.rewards(torch.ones(1, population.outcome_size))
        outcomes = torch.full((1, population.outcome_size), 0.9, requires_grad=True)
        population.rewards(outcomes).sum().backward()
        assert outcomes.grad is not None
        if isinstance(population, TargetPopulation):
            assert outcomes.grad.item() == pytest.approx(2 * 0.1 / 0.5)
        else:
            np.testing.assert_allclose(outcomes.grad[0], WEIGHTS.sum(axis=0), rtol=1e-5)


def test_nan_outcomes_are_not_hidden(population: Population) -> None:
    outcomes = np.full((1, population.outcome_size), np.nan)
    assert np.isnan(population.rewards(outcomes)).all()
    assert torch.isnan(population.rewards(torch.from_numpy(outcomes))).all()


def test_bounds_are_tight(population: Population) -> None:
    low, high = population.reward_bounds(-0.5, 2.5)
    size = population.outcome_size
    corners = np.random.default_rng(1).choice([-0.5, 2.5], (2000, size))
    if isinstance(population, TargetPopulation):
        corners = np.linspace(-0.5, 2.5, 3001)[:, np.newaxis]
    else:
        assert isinstance(population, LinearPopulation)
        best = np.where(population.weights > 0, 2.5, -0.5)
        corners = np.concatenate((corners, best, 2.0 - best))
    rewards = population.rewards(corners)
    assert (rewards >= low - 1e-12).all() and (rewards <= high + 1e-12).all()
    np.testing.assert_allclose(rewards.min(axis=0), low, atol=2e-3 * (size == 1) + 1e-12)
    np.testing.assert_allclose(rewards.max(axis=0), high, atol=2e-3 * (size == 1) + 1e-12)


def test_bounds_of_unbounded_outcomes() -> None:
    low, high = Target([1.0, 2.0], width=0.5).reward_bounds()
    assert low.tolist() == [0.0, 0.0] and high.tolist() == [0.1, 0.1]
    low, high = Linear([[1.0, 0.0], [0.0, 0.0]]).reward_bounds(0.0)
    assert low.tolist() == [0.0, 0.0] and high.tolist() == [np.inf, 0.0]


def test_uniform_is_the_reference_stream() -> None:
    # The first numbers of RandomState(0), as NumPy documents and freezes them (NEP 19).
    targets = TargetPopulation.uniform(4, 2.0, seed=0).targets
    np.testing.assert_allclose(
        targets / 2.0, [0.5488135, 0.71518937, 0.60276338, 0.54488318], atol=1e-8
    )
    assert TargetPopulation.uniform(100, 4.0, seed=0).width == 0.2


def test_identity_is_by_content(population: Population) -> None:
    population.rewards(torch.zeros(1, population.outcome_size))
    for other in (pickle.loads(pickle.dumps(population)), copy.deepcopy(population)):
        assert other == population and hash(other) == hash(population)
        assert other is not population
        assert other.content_hash() == population.content_hash()
    assert sum(population == other for other in POPULATIONS.values()) == 1
    different: object = "a population"
    assert population != different


def test_hash_sees_every_part() -> None:
    hashes = {
        Target([1.0, 2.0], width=0.5).content_hash(),
        Target([2.0, 1.0], width=0.5).content_hash(),
        Target([1.0, 2.0], width=0.6).content_hash(),
        Target([1.0, 2.0], width=0.5, peak=0.2).content_hash(),
        Linear([[1.0, 2.0]]).content_hash(),
        Linear([[1.0], [2.0]]).content_hash(),
    }
    assert len(hashes) == 6
    assert Linear([[-0.0]]) == Linear([[0.0]])


def test_hash_is_the_same_in_another_process() -> None:
    code = (
        "from rmdp_bench.population import TargetPopulation as T;"
        "print(T.uniform(100, 4.0, seed=0).content_hash())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert other.stdout.strip() == POPULATIONS["velocity"].content_hash()


def test_arrays_are_copies_and_read_only() -> None:
    source = np.array([1.0, 2.0])
    population = Target(source, width=0.5)
    source[0] = 9.0
    assert population.targets.tolist() == [1.0, 2.0]
    for one in POPULATIONS.values():
        with pytest.raises(ValueError, match="read-only"):
            one.preferences[0, 0] = 1.0
        assert one.preferences.shape[0] == one.n_agents
    with pytest.raises(AttributeError):
        population.width = 1.0


BAD_CONSTRUCTIONS: list[tuple[Any, str]] = [
    (lambda: Target([], width=1.0), "targets have shape"),
    (lambda: Target([[[1.0]]], width=1.0), "targets have shape"),
    (lambda: Target([1.0, np.nan], width=1.0), r"targets\[1\] is nan"),
    (lambda: Target(["fast"], width=1.0), "targets are not an array of numbers"),
    (lambda: Target([1.0], width=0.0), "width is 0.0"),
    (lambda: Target([1.0], width=np.inf), "width is inf"),
    (lambda: Target([1.0], width=1.0, peak=-1.0), "peak is -1.0"),
    (lambda: Target([1.0], width="wide"), "width is 'wide'"),
    (lambda: TargetPopulation.uniform(0, 4.0, seed=0), "n_agents is 0"),
    (lambda: TargetPopulation.uniform(10, -4.0, seed=0), "bound is -4.0"),
    (lambda: TargetPopulation.uniform(10, 4.0, seed=-1), "seed is -1"),
    (lambda: TargetPopulation.uniform(10, 4.0, seed=2**32), "seed is 4294967296"),
    (lambda: Linear([1.0]), "weights have shape"),
    (lambda: Linear([[np.inf]]), r"weights\[0, 0\] is inf"),
    (lambda: LinearPopulation.tiles(0), "n_tiles is 0"),
]


@pytest.mark.parametrize("number", range(len(BAD_CONSTRUCTIONS)))
def test_bad_content_is_one_clear_error(number: int) -> None:
    construct, message = BAD_CONSTRUCTIONS[number]
    with pytest.raises(ValueError, match=message):
        construct()


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([[0.0]], "outcomes are a list"),
        (np.zeros((3, 1), dtype=np.int64), "dtype int64"),
        (torch.zeros(3, 1, dtype=torch.int64), "dtype torch.int64"),
        (np.zeros((3, 4)), r"shape \(3, 4\)"),
        (torch.zeros(3, 4), r"shape \(3, 4\)"),
        (np.float64(0.0), "outcomes are a float64"),
        (np.array(0.0), r"shape \(\)"),
    ],
)
def test_bad_outcomes_are_one_clear_error(
    population: Population, outcomes: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        population.rewards(outcomes)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (np.nan, 1.0), (0.0, [1.0] * 99), ("low", 1.0)])
def test_bad_bounds_are_one_clear_error(population: Population, bounds: Any) -> None:
    with pytest.raises(ValueError, match="outcome bounds"):
        population.reward_bounds(*bounds)


DYNAMICS: dict[str, tuple[str, dict[str, tuple[str, float, float]], list[Any]]] = {
    "rmdp/CartPoleHet-n500-v0": (
        "fcd234271201f182f5e659ae09673238b3f13bf863fb994824092dc34a7cc1f6",
        {"force": ("N", 2.0, 18.0), "half_length": ("m", 0.15, 0.85)},
        [(2, 0.5), (10, 0.5), (18, 0.5), (10, 0.85), (10, 0.15)],
    ),
    "rmdp/MountainCarHet-n500-v0": (
        "c3ddb03ecd2638ee0112c0cb9d986627ac2cc5e77bc96aa5c662fb425496161a",
        {"gravity": ("", 0.0001, 0.0035)},
        [(0.0001,), (0.0005,), (0.001,), (0.0025,), (0.0035,)],
    ),
    "rmdp/HalfCheetahHet-n500-v0": (
        "c9d797f5bd818c2702a53bfddaeb3dcd8c377e591d01e6042ea7dcd12054aad2",
        {"mass_scale": ("", 0.2, 1.8), "damping_scale": ("", 0.2, 1.8)},
        [(0.3, 1.7), (1.7, 0.3), (0.3, 0.3), (1.7, 1.7), (1, 1)],
    ),
    "rmdp/HalfCheetahHet-n500-v1": (
        "c9d797f5bd818c2702a53bfddaeb3dcd8c377e591d01e6042ea7dcd12054aad2",
        {"mass_scale": ("", 0.2, 1.8), "damping_scale": ("", 0.2, 1.8)},
        [(0.3, 1.7), (1.7, 0.3), (0.3, 0.3), (1.7, 1.7), (1, 1)],
    ),
}
"""Content hash, parameters and test agents: a change of one is a new version of the environment."""


def dynamics_population(env_id: str, seed: int | None = None) -> DynamicsPopulation:
    population = get_population(env_id, seed)
    assert isinstance(population, DynamicsPopulation)
    return population


@pytest.mark.parametrize("env_id", DYNAMICS)
def test_agents_with_dynamics_of_their_own(env_id: str) -> None:
    content_hash, parameters, test_agents = DYNAMICS[env_id]
    population = dynamics_population(env_id)
    assert population.content_hash() == content_hash
    assert dict(zip(population.names, population.units, strict=True)) == {
        name: unit for name, (unit, _, _) in parameters.items()
    }
    low, high = np.array([bounds for _, *bounds in parameters.values()]).T
    np.testing.assert_array_equal(population.low, low)
    np.testing.assert_array_equal(population.high, high)
    np.testing.assert_array_equal(population.parameters[population.test_agents], test_agents)
    groups = (population.agents, population.unseen_agents, population.extrapolating_agents)
    assert groups == (range(500), range(500, 600), range(600, 620))
    assert (population.n_agents, len(population.parameters)) == (500, 620)

    drawn = np.random.RandomState(0).uniform(low, high, (595, len(low)))
    np.testing.assert_array_equal(population.parameters[5:600], drawn)
    outside = population.parameters[population.extrapolating_agents]
    above, below = outside > high, outside < low
    assert (above | below).all() and (outside >= low / 2).all()
    assert (outside <= high + (high - low) / 4).all()
    sides, counts = np.unique(above, axis=0, return_counts=True)
    assert len(sides) == 2 ** len(low) and len(set(counts.tolist())) == 1


@pytest.mark.parametrize("env_id", DYNAMICS)
def test_another_seed_draws_other_agents_but_for_the_test_agents(env_id: str) -> None:
    population, other = dynamics_population(env_id), dynamics_population(env_id, 7)
    assert population == dynamics_population(env_id, 0) != other
    assert other == dynamics_population(env_id, 7)
    same = (population.parameters == other.parameters).all(axis=1)
    assert same[:5].all() and not same[5:].any()


def test_dynamics_populations_are_values() -> None:
    population: Any = dynamics_population("rmdp/CartPoleHet-n500-v0")
    for other in (pickle.loads(pickle.dumps(population)), copy.deepcopy(population)):
        assert other == population and hash(other) == hash(population) and other is not population
        for array in (other.parameters, other.low, other.high):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
    with pytest.raises(AttributeError):
        population.n_agents = 1
    assert population != "a population"


DYNAMICS_CONTENT: dict[str, Any] = {
    "names": ("mass", "length"),
    "units": ("kg", "m"),
    "low": (1.0, 2.0),
    "high": (2.0, 4.0),
    "parameters": [(1.0, 3.0), (2.0, 4.0), (1.5, 2.0), (1.5, 4.5)],
    "n_test": 1,
    "n_agents": 2,
    "n_unseen": 1,
}


@pytest.mark.parametrize(
    "change",
    [
        {"names": ("mass", "width")},
        {"units": ("g", "m")},
        {"low": (0.5, 2.0)},
        {"high": (2.0, 4.2)},
        {"parameters": [(2.0, 4.0), (1.0, 3.0), (1.5, 2.0), (1.5, 4.5)]},
        {"n_test": 2},
        {"n_agents": 1, "n_unseen": 2},
    ],
)
def test_hash_sees_every_part_of_the_dynamics(change: dict[str, Any]) -> None:
    population = DynamicsPopulation(**DYNAMICS_CONTENT)
    assert DynamicsPopulation(**{**DYNAMICS_CONTENT, **change}) != population


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"names": ("mass",)},
            r"names, units, low, high are of lengths \[1, 2, 2, 2\], expected 2",
        ),
        ({"high": (2.0,)}, r"of lengths \[2, 2, 2, 1\]"),
        ({"low": (1.0, np.nan)}, r"low\[1\] is nan"),
        ({"parameters": [1.0, 2.0]}, "parameters have shape"),
        ({"n_agents": 5}, "n_agents is 5, expected an integer from 1 to 4"),
        ({"n_agents": 0}, "n_agents is 0"),
        ({"n_test": 3}, "n_test is 3, expected an integer from 0 to 2"),
        ({"n_unseen": 3}, "n_unseen is 3, expected an integer from 0 to 2"),
        ({"n_unseen": 2}, r"parameters\[3\] are \[1.5, 4.5\], expected them in the range from"),
        ({"n_unseen": 0}, r"parameters\[2\] are \[1.5, 2.0\], expected them outside the range"),
    ],
)
def test_bad_dynamics_are_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicsPopulation(**{**DYNAMICS_CONTENT, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": "zero"}, "seed is 'zero'"),
        ({"n_agents": 1}, "n_agents is 1, expected an integer from 2 to 10000000"),
        ({"n_unseen": -1}, "n_unseen is -1"),
        ({"n_extrapolating": 2.5}, "n_extrapolating is 2.5"),
        ({"parameters": {"mass": ("kg", 0.0, 2.0)}}, "expected 0 < least < greatest"),
        ({"parameters": {"mass": ("kg", 2.0, 1.0)}}, "expected 0 < least < greatest"),
        ({"test_agents": [(3.0,), (1.0,)]}, r"parameters\[0\] are \[3.0\], expected them in"),
        ({"test_agents": [(1.0, 1.0)] * 2}, "test_agents have shape"),
    ],
)
def test_bad_draws_are_one_clear_error(change: dict[str, Any], message: str) -> None:
    keywords: dict[str, Any] = {
        "parameters": {"mass": ("kg", 1.0, 2.0)},
        "test_agents": [(1.0,), (2.0,)],
        "seed": 0,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        DynamicsPopulation.uniform(**keywords)
