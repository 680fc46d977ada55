"""Hovorka's model against an independent integration, its own steady state, and its balances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

from rmdp_bench import get_population
from rmdp_bench.envs.glucose.hovorka import (
    PARAMETERS,
    STATES,
    advance,
    derivative,
    glucose,
    steady_state,
)
from rmdp_bench.population import DynamicsPopulation

POPULATION = get_population("rmdp/Glucose-n100-v0")
assert isinstance(POPULATION, DynamicsPopulation)
TABLE = POPULATION.parameters.T[: len(PARAMETERS)].copy()  # (16, 140)
SOME = [0, 17, 60, 99, 105, 120, 121, 122, 123]
INDEX = {name: row for row, name in enumerate((*PARAMETERS, *STATES))}


def equations(
    time: float, state: Any, patient: dict[str, float], u: float, c: float
) -> list[float]:
    """The model once more, in scalars and as the papers write it."""
    d1, d2, s1, s2, i, x1, x2, x3, q1, q2, sensor = state
    p = patient
    level = q1 / (p["VG"] * p["BW"])
    total_f01 = p["F01"] * p["BW"]
    used = total_f01 if level >= 4.5 else total_f01 * level / 4.5
    excreted = 0.003 * (level - 9.0) * p["VG"] * p["BW"] if level >= 9.0 else 0.0
    made = p["EGP0"] * p["BW"] * (1.0 - x3) if x3 < 1.0 else 0.0
    return [
        p["AG"] * c * 1000.0 / 180.16 - d1 / p["tG"],
        d1 / p["tG"] - d2 / p["tG"],
        u - s1 / p["tI"],
        s1 / p["tI"] - s2 / p["tI"],
        s2 / (p["tI"] * p["VI"] * p["BW"]) - p["ke"] * i,
        -p["ka1"] * x1 + p["ka1"] * p["SI1"] * i,
        -p["ka2"] * x2 + p["ka2"] * p["SI2"] * i,
        -p["ka3"] * x3 + p["ka3"] * p["SI3"] * i,
        -used - x1 * q1 + p["k12"] * q2 - excreted + d2 / p["tG"] + made,
        x1 * q1 - (p["k12"] + x2) * q2,
        0.0933 * (level - sensor),
    ]


OVERDOSE = 20_000.0 / 60.0
"""What the pump can do at most: 20 U in an hour, mU/min."""
Piece = tuple[int, float, float, float]
"""Minutes, insulin: a multiple of what rest needs and mU/min, and carbohydrates in g/min."""
SCENARIOS: dict[str, tuple[list[Piece], float]] = {
    # and the greatest error of a state, relative to its greatest value, and of glucose in mmol/L
    "fasting": ([(720, 0.9, 0.0, 0.0)], 2e-5),
    "meal": ([(60, 1.0, 0.0, 0.0), (5, 40.0, 0.0, 12.0), (655, 1.0, 0.0, 0.0)], 2e-4),
    "overdose": ([(60, 1.0, 0.0, 0.0), (60, 0.0, OVERDOSE, 0.0), (600, 1.0, 0.0, 0.0)], 2e-3),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_agrees_with_an_independent_integration(name: str) -> None:
    """12 hours of scipy's DOP853 at a relative tolerance of 1e-8, every five minutes compared."""
    pieces, tolerance = SCENARIOS[name]
    model = TABLE[:, SOME]
    start, basal = steady_state(model, 6.0)
    for patient in range(len(SOME)):
        given = model[:, [patient]]
        scalars = dict(zip(PARAMETERS, given[:, 0].tolist(), strict=True))
        ours, theirs, state = [], [], start[:, patient].copy()
        fast = start[:, [patient]].copy()
        for minutes, multiple, more, carbohydrates in pieces:
            insulin = multiple * basal[[patient]] + more
            solution = solve_ivp(
                equations,
                (0.0, minutes),
                state,
                "DOP853",
                np.arange(5.0, minutes + 1.0, 5.0),
                rtol=1e-8,
                atol=1e-10,
                args=(scalars, float(insulin[0]), carbohydrates),
            )
            theirs.append(solution.y)
            state = solution.y[:, -1]
            for _ in range(minutes // 5):
                fast = advance(fast, given, insulin, np.array([carbohydrates]), 5)
                ours.append(fast[:, 0])
        reference, found = np.concatenate(theirs, axis=1), np.stack(ours, axis=1)
        volume = scalars["VG"] * scalars["BW"]
        error = np.abs(found - reference)
        assert error[8].max() / volume < tolerance, SOME[patient]
        scale = np.maximum(np.abs(reference).max(axis=1), 1e-12)
        assert (error.max(axis=1) / scale < tolerance).all(), SOME[patient]


@pytest.mark.parametrize("level", [3.0, 4.5, 6.0, 9.0, 12.0])
def test_steady_state_is_one(level: float) -> None:
    """For 12 hours, and it is the one that a search for a root finds."""
    states, insulin = steady_state(TABLE, level)
    known = np.isfinite(insulin)
    assert known[:120].all() or level > 9.0
    states, model, insulin = states[:, known], TABLE[:, known], insulin[known]
    nothing = np.zeros_like(insulin)
    np.testing.assert_allclose(glucose(states, model), level, rtol=1e-14)
    assert np.abs(derivative(states, model, insulin, nothing)).max() < 1e-11
    later = advance(states, model, insulin, nothing, 720)
    np.testing.assert_allclose(later, states, rtol=1e-9, atol=1e-9)
    for patient in range(0, len(insulin), 29):
        one = model[:, [patient]]

        def surplus(rate: float, one: Any = one) -> float:
            scalars = dict(zip(PARAMETERS, one[:, 0].tolist(), strict=True))
            i = rate / (scalars["ke"] * scalars["VI"] * scalars["BW"])
            x1, x2, x3 = (scalars[f"SI{e}"] * i for e in (1, 2, 3))
            q1 = level * scalars["VG"] * scalars["BW"]
            q2 = x1 * q1 / (scalars["k12"] + x2)
            depot = rate * scalars["tI"]
            state = [0.0, 0.0, depot, depot, i, x1, x2, x3, q1, q2, level]
            return equations(0.0, state, scalars, rate, 0.0)[8]

        assert brentq(surplus, 0.0, 1e3, xtol=1e-12) == pytest.approx(insulin[patient], rel=1e-9)


def test_no_steady_state_is_no_number() -> None:
    """Where the liver makes less than is used without insulin; nothing can keep glucose up."""
    model = TABLE[:, :3].copy()
    model[INDEX["EGP0"], 1] = model[INDEX["F01"], 1]
    states, insulin = steady_state(model, 6.0)
    assert np.isfinite(insulin).tolist() == [True, False, True]
    assert np.isfinite(states[4]).tolist() == [True, False, True]


def test_what_is_eaten_and_given_arrives() -> None:
    """The gut hands on AG of the carbohydrates, plasma eliminates all insulin; glucose balances."""
    model = TABLE[:, SOME]
    start, _ = steady_state(model, 6.0)
    n = len(SOME)
    grams, units = 60.0, 5.0
    states = start.copy()
    states[[2, 3, 4]] = 0.0
    appeared, eliminated, net = np.zeros(n), np.zeros(n), np.zeros(n)
    for minute in range(2_000):
        eating = minute < 5
        inputs = (
            np.full(n, 1000.0 * units / 5 * eating),
            np.full(n, grams / 5 * eating),
        )
        middle = advance_half(states, model, *inputs)
        after = advance(states, model, *inputs, 1)
        for weight, state in ((1.0, states), (4.0, middle), (1.0, after)):  # Simpson
            level = glucose(state, model)
            volume = model[INDEX["VG"]] * model[INDEX["BW"]]
            appearance = state[1] / model[INDEX["tG"]]
            liver = model[INDEX["EGP0"]] * model[INDEX["BW"]] * np.maximum(0.0, 1.0 - state[7])
            used = model[INDEX["F01"]] * model[INDEX["BW"]] * np.minimum(1.0, level / 4.5)
            lost = 0.003 * np.maximum(0.0, level - 9.0) * volume
            plasma = model[INDEX["VI"]] * model[INDEX["BW"]]
            appeared += weight / 6.0 * appearance
            eliminated += weight / 6.0 * model[INDEX["ke"]] * state[4] * plasma
            net += weight / 6.0 * (appearance + liver - used - lost - state[6] * state[9])
        states = after
    np.testing.assert_allclose(appeared, model[INDEX["AG"]] * grams / 0.18016, rtol=1e-5)
    np.testing.assert_allclose(eliminated, 1000.0 * units, rtol=1e-5)
    stored = states[8] + states[9] - start[8] - start[9]
    np.testing.assert_allclose(stored, net, rtol=1e-4, atol=1e-3)


def advance_half(states: Any, model: Any, insulin: Any, carbohydrates: Any) -> Any:
    """States half a minute later, by a classical Runge-Kutta step of that length."""
    h, given = 0.5, (model, insulin, carbohydrates)
    first = derivative(states, *given)
    second = derivative(states + h / 2 * first, *given)
    third = derivative(states + h / 2 * second, *given)
    fourth = derivative(states + h * third, *given)
    return states + h / 6 * (first + 2 * second + 2 * third + fourth)


def test_a_meal_appears_as_known() -> None:
    """Eaten at a constant rate for 5 minutes: an integral of AG D t exp(-t / tG) / tG^2."""
    model = TABLE[:, [3]]
    states, basal = steady_state(model, 6.0)
    states = advance(states, model, basal, np.array([8.0]), 5)
    states = advance(states, model, basal, np.zeros(1), 40)
    ag, tg = model[INDEX["AG"], 0], model[INDEX["tG"], 0]
    expected, _ = quad(
        lambda begun: 8000.0 / 180.16 * ag * (45 - begun) * np.exp(-(45 - begun) / tg) / tg**2, 0, 5
    )
    assert states[1, 0] / tg == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    "scale",
    [
        lambda u, c: (("SI1", "SI2", "SI3"), 0.5, 2.0 * u, c),
        lambda u, c: (("BW",), 1.5, 1.5 * u, 1.5 * c),
        lambda u, c: (("VI",), 1.25, 1.25 * u, c),
        lambda u, c: (("AG",), 0.5, u, 2.0 * c),
    ],
    ids=["sensitivity", "weight", "volume", "absorption"],
)
def test_units_are_consistent(scale: Callable[..., Any]) -> None:
    """Half the sensitivity with twice the insulin is the same glucose, and so are others."""
    model = TABLE[:, SOME]
    states, basal = steady_state(model, 7.0)
    meal = np.full(len(SOME), 10.0)
    names, factor, other_insulin, other_meal = scale(20.0 * basal, meal)
    other = model.copy()
    for name in names:
        other[INDEX[name]] *= factor
    changed, _ = steady_state(other, 7.0)
    states = advance(states, model, 20.0 * basal, meal, 5)
    changed = advance(changed, other, other_insulin, other_meal, 5)
    for _ in range(6):
        np.testing.assert_allclose(glucose(changed, other), glucose(states, model), rtol=1e-10)
        states = advance(states, model, 0.0 * basal, 0.0 * meal, 30)
        changed = advance(changed, other, 0.0 * basal, 0.0 * meal, 30)


def test_a_unit_and_a_gram_are_what_they_are_called() -> None:
    """0.06 U/h are a mU/min: patients rest at usual rates, and 50 g are 278 mmol times AG."""
    _, basal = steady_state(TABLE[:, :120], 6.0)
    assert (0.06 * basal >= 0.2).all() and (0.06 * basal <= 2.5).all()
    states, basal = steady_state(TABLE, 6.0)
    eaten = advance(states, TABLE, basal, np.full(140, 10.0), 5)
    arrived = eaten[0] + eaten[1] + (eaten[8] - states[8]) + (eaten[9] - states[9])
    np.testing.assert_allclose(arrived, 277.5 * TABLE[INDEX["AG"]], rtol=0.02)


def test_an_overdose_stays_finite_and_not_negative() -> None:
    """60 U in each of eight hours: rates of several per minute, and glucose of almost 0."""
    states, _ = steady_state(TABLE, 6.0)
    insulin, nothing = np.full(140, 3.0 * OVERDOSE), np.zeros(140)
    fastest = 0.0
    for _ in range(8):
        states = advance(states, TABLE, insulin, nothing, 60)
        fastest = max(fastest, (states[5] + states[6] + TABLE[INDEX["k12"]]).max())
        assert np.isfinite(states).all() and (states >= 0.0).all()
    assert fastest > 3.0  # beyond what a step of a minute is stable for
    assert glucose(states, TABLE).max() < 1.0


def test_substeps_are_the_patients_own() -> None:
    """Whoever is in the batch: the same bits."""
    states, basal = steady_state(TABLE, 6.0)
    insulin = np.where(np.arange(140) % 3 == 0, 3.0 * OVERDOSE, basal)
    nothing = np.zeros(140)
    together = advance(states, TABLE, insulin, nothing, 240)
    for rows in ([0], [3, 4], list(range(5, 140, 7))):
        own, model = states[:, rows].copy(), TABLE[:, rows].copy()
        alone = advance(own, model, insulin[rows], nothing[rows], 240)
        assert alone.tobytes() == together[:, rows].tobytes()


def test_a_bigger_bolus_gives_lower_glucose() -> None:
    """For the first two hours; later glucose that was stored comes back."""
    states, basal = steady_state(TABLE[:, :120], 8.0)
    model, nothing = TABLE[:, :120], np.zeros(120)
    small, large = (advance(states, model, basal + u, nothing, 5) for u in (200.0, 400.0))
    for _ in range(24):
        small, large = (advance(x, model, basal, nothing, 5) for x in (small, large))
        assert (glucose(large, model) < glucose(small, model)).all()
