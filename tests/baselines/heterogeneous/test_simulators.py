"""Personal simulators from logged records, and policies that learn in them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from baselines.heterogeneous import simulators as module
from baselines.heterogeneous.clinic_records import records_of
from baselines.heterogeneous.controllers import BasalBolus
from baselines.heterogeneous.simulated_learning import (
    Actors,
    Learning,
    controllers_act,
    learn_in,
    risks_in,
    tune_in,
)
from baselines.heterogeneous.simulators import (
    N_FACTORS,
    Episodes,
    Evidence,
    Prior,
    Record,
    Simulators,
    draw_episodes,
    fit_low_weight,
    fit_prior,
    follow,
    make_simulators,
    read_records,
    simulate,
)
from rmdp_bench.datasets import collect, get_dataset
from rmdp_bench.envs import get_population
from rmdp_bench.envs.glucose.risk import risk
from tests.helpers.dataset_toys import small

N_PATIENTS = 12


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Four days of some patients."""
    entry = small(get_dataset("rmdp/glucose-het/clinic-v0"))
    days = {**entry.env_kwargs, "days": 4, "max_episode_steps": 4 * 288}
    entry = dataclasses.replace(entry, n_episodes=N_PATIENTS, env_kwargs=days)
    return records_of(collect(entry))


@pytest.fixture(scope="module")
def simulators(records: list[Record]) -> Simulators:
    return make_simulators(records)


def test_constant_doses_leave_the_filters_where_they_are() -> None:
    filters, after = follow(np.full((2, 300), 0.1), np.zeros((2, 300)))
    np.testing.assert_allclose(after[..., -1], filters[..., 0], rtol=1e-9)
    np.testing.assert_allclose(after[2:5, 0, -1], 1.2, rtol=0.05)  # U/h, to the discretisation


def test_what_a_meal_brings_is_what_was_eaten() -> None:
    meals = np.zeros(400)
    meals[10] = 60.0
    _, after = follow(np.zeros(400), meals)
    for place, minutes in enumerate(module.MEAL_TIMES):
        brought = after[2 + len(module.INSULIN_LAGS) + 2 * place + 1] * (module.STEP / minutes)
        assert brought.sum() == pytest.approx(60.0, rel=0.1)
        assert np.argmax(brought) == pytest.approx(10 + minutes / module.STEP, abs=1.5)


def test_random_coefficients_are_found() -> None:
    """Many agents with few observations each: the distribution, and every agent's own."""
    rng = np.random.default_rng(0)
    mean, deviation, evidence, true = np.linspace(-2.0, 2.0, N_FACTORS), 0.5, [], []
    for _ in range(300):
        factors = mean + deviation * rng.standard_normal(N_FACTORS)
        rows = rng.standard_normal((40, N_FACTORS))
        changes = rows @ factors + 0.7 * rng.standard_normal(40)
        evidence.append(Evidence(rows.T @ rows, rows.T @ changes, float(changes @ changes), 40.0))
        true.append(factors)
    prior = fit_prior(evidence)
    np.testing.assert_allclose(prior.mean, mean, atol=0.12)
    assert prior.variance == pytest.approx(0.49, rel=0.1)
    np.testing.assert_allclose(np.diag(prior.covariance), deviation**2, rtol=0.35)
    own = np.stack([prior.update(one)[0] for one in evidence])
    alone = np.stack([np.linalg.solve(one.precision, one.moment) for one in evidence])
    assert np.square(own - true).mean() < 0.95 * np.square(alone - true).mean()


def test_without_a_record_factors_are_the_priors() -> None:
    prior = Prior(np.arange(float(N_FACTORS)), np.eye(N_FACTORS), 1.0)
    nothing = Evidence(np.zeros((N_FACTORS, N_FACTORS)), np.zeros(N_FACTORS), 0.0, 0.0)
    mean, covariance = prior.update(nothing)
    np.testing.assert_allclose(mean, prior.mean)
    np.testing.assert_allclose(covariance, prior.covariance)


def test_the_risk_is_the_worlds() -> None:
    glucose = np.linspace(10.0, 700.0, 50)
    for weight in (0.2, 0.5, 0.8):
        own = module.risk_of(torch.from_numpy(glucose), torch.tensor(weight, dtype=torch.float64))
        np.testing.assert_allclose(own.numpy(), risk(glucose, weight), rtol=1e-6, atol=1e-8)


def test_tastes_are_found(records: list[Record]) -> None:
    true = get_population("rmdp/Glucose-n100-v0").parameters[:N_PATIENTS, 16]  # type: ignore[union-attr]
    found = np.array([fit_low_weight(record) for record in records])
    assert np.corrcoef(true, found)[0, 1] > 0.5
    unknown = dataclasses.replace(records[0], rewards=np.full(len(records[0].rewards), np.nan))
    assert fit_low_weight(unknown) == 0.5


def test_insulin_lowers_and_meals_raise(simulators: Simulators) -> None:
    """Over four hours, on average over the patients and for nearly all of them."""
    n = simulators.n_patients

    def end(insulin: float, grams: float) -> np.ndarray:
        state = [np.zeros(n) for _ in range(module.N_FILTERS)]
        glucose = np.full(n, 150.0)
        for step in range(48):
            first = float(step == 0)
            state = module.advance_filters(state, insulin * first, grams * first)
            functions = np.stack(module.functions_of(glucose, state), axis=1)
            glucose = glucose + (simulators.mean * functions).sum(axis=1)
        return glucose

    rest = end(0.0, 0.0)
    drop, rise = rest - end(1.0, 0.0), end(0.0, 10.0) - rest
    assert (drop > 0.0).mean() > 0.8 and (rise > 0.0).mean() > 0.8
    assert 5.0 < np.median(drop) < 100.0 and 5.0 < np.median(rise) < 100.0


def test_a_new_record_is_seen_with_the_others_as_prior(records: list[Record]) -> None:
    known = make_simulators(records[:-2])
    day = [dataclasses.replace(r, observations=r.observations[:289]) for r in records[-2:]]
    doses = np.stack([r.doses[:288] * 12.0 for r in day])
    short = read_records(
        np.stack([r.observations for r in day]),
        np.stack([doses, 0.0 * doses], axis=2),
        np.stack([r.rewards[:288] for r in day]),
    )
    new = make_simulators(short, known.prior)
    assert new.meals.shape == (2, 1, 288)
    spread = np.einsum("nii->ni", new.covariance)
    assert (spread <= np.diag(known.prior.covariance) * (1.0 + 1e-9)).all()
    with pytest.raises(ValueError, match="shorter than a day"):
        make_simulators([dataclasses.replace(short[0], doses=short[0].doses[:100])])


def test_episodes_are_the_same_for_a_seed(simulators: Simulators) -> None:
    patients = np.array([3, 3, 5])
    one, same, other = (
        draw_episodes(simulators, patients, 2, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for name in Episodes.__annotations__:
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert one.announced.shape == (3, 576) and not torch.equal(one.factors, other.factors)


def test_actors_start_as_their_controllers_and_are_what_they_save(simulators: Simulators) -> None:
    controllers = [BasalBolus(0.8, 10.0), BasalBolus(1.4, 7.0)]
    actors = Actors(controllers, Learning(hidden_size=8), 0)
    seen = torch.tensor([[120.0, 0.0, 1.0, 60.0, 360.0, 0.0, 1.0]] * 4)
    with torch.no_grad():
        given = actors(seen).numpy()
    for j, controller in enumerate(controllers):
        np.testing.assert_allclose(given[2 * j], controller.act(seen.numpy())[0], rtol=1e-5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in actors.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
        given = actors(seen).numpy()
    for j in range(2):
        np.testing.assert_allclose(given[2 * j], actors.policy(j).act(seen.numpy())[0], rtol=1e-5)


def test_learning_lowers_the_risk(simulators: Simulators) -> None:
    """Of simulated days that were not learned from, below the controller it starts from."""
    settings = Learning(
        n_points=4, n_rounds=1, n_gradient_steps=15, n_episodes=24, eval_days=1, eval_episodes=1
    )
    controllers, _ = tune_in(simulators, 1, settings, 0)
    (policy,), _, _ = learn_in(simulators, 1, settings, 0, lambda done, risk: None)
    before, after = (
        risks_in(simulators, act, 1, n_days=1, n_episodes=4, stream=[77]).mean()
        for act in (
            controllers_act(controllers),
            lambda seen: torch.from_numpy(policy.act(seen.numpy())),
        )
    )
    assert after < 0.97 * before


def test_everybody_goes_to_the_policy_of_least_risk(simulators: Simulators) -> None:
    settings = Learning(
        n_points=4, n_rounds=1, n_gradient_steps=2, n_episodes=4, eval_days=1, eval_episodes=1
    )
    reported: list[int] = []
    policies, group_of, risks = learn_in(
        simulators, 2, settings, 0, lambda done, risk: reported.append(done)
    )
    assert len(policies) == 2 and risks.shape == (N_PATIENTS, 2) and reported == [1, 2]
    assert (group_of == risks.argmin(axis=1)).all()
    policies, group_of, risks = learn_in(simulators, N_PATIENTS, settings, 0, lambda *_: None)
    assert (group_of == np.arange(N_PATIENTS)).all() and len(policies) == N_PATIENTS


def test_the_gradient_is_the_risks(simulators: Simulators) -> None:
    """Of a gain that a policy has, against a finite difference."""
    episodes = draw_episodes(simulators, np.arange(4), 1, np.random.default_rng(0))
    double = Episodes(*(getattr(episodes, name).double() for name in Episodes.__annotations__))

    def mean_risk(basal: torch.Tensor) -> torch.Tensor:
        def act(seen: torch.Tensor) -> torch.Tensor:
            return torch.stack((basal.expand(len(seen)), seen[:, 3] / 10.0), dim=1)

        return simulate(double, act).mean()

    basal = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    mean_risk(basal).backward()
    with torch.no_grad():
        difference = (mean_risk(basal + 1e-5) - mean_risk(basal - 1e-5)) / 2e-5
    assert basal.grad is not None
    assert float(basal.grad) == pytest.approx(float(difference), rel=1e-3)
    assert risks_in(
        simulators,
        lambda seen: torch.stack((torch.ones(len(seen)), seen[:, 3] / 10.0), dim=1),
        1,
        n_days=1,
        n_episodes=1,
        stream=[0],
    ).shape == (N_PATIENTS, 1)
