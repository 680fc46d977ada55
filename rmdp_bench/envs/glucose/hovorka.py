"""Hovorka's model of glucose and insulin in type 1 diabetes: equations, steady state, integration.

Source: Hovorka et al. 2004, Physiol. Meas. 25:905-920, and Hovorka et al. 2002, Am. J. Physiol.
282:E992-E1007. Time is in minutes. The state of a patient is eleven numbers:

    D1, D2   mmol    glucose in the two compartments of the gut
    S1, S2   mU      insulin in the two compartments under the skin
    I        mU/L    insulin in plasma
    x1, x2   1/min   effect of insulin on transport and on disposal of glucose
    x3       -       effect of insulin on the liver
    Q1, Q2   mmol    glucose in plasma and in tissue
    C        mmol/L  glucose in the interstitial fluid, where a sensor is

With the parameters of `PARAMETERS`, carbohydrates eaten c (g/min), insulin delivered u (mU/min) and
V = VG BW, G = Q1 / V:

    D1' = 1000 AG c / 180.16 - D1 / tG            D2' = (D1 - D2) / tG
    S1' = u - S1 / tI                             S2' = (S1 - S2) / tI
    I'  = S2 / (tI VI BW) - ke I                  xi' = kai (SIi I - xi),  i = 1, 2, 3
    Q1' = D2 / tG + EGP0 BW max(0, 1 - x3) - F01 BW min(1, G / 4.5)
          - 0.003 max(0, G - 9) V - x1 Q1 + k12 Q2
    Q2' = x1 Q1 - (k12 + x2) Q2                   C'  = 0.0933 (G - C)

One departure: 1 - x3 is bounded by 0, where the papers let an overdose turn the liver into a sink.
So no state becomes negative. There is no counter-regulation: glucose falls to almost 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STATES = ("D1", "D2", "S1", "S2", "I", "x1", "x2", "x3", "Q1", "Q2", "C")
PARAMETERS = {
    "EGP0": "mmol/kg/min",  # glucose that the liver makes without insulin
    "F01": "mmol/kg/min",  # glucose used without insulin
    "k12": "1/min",  # from tissue to plasma
    "ka1": "1/min",  # how fast the three effects of insulin come and go
    "ka2": "1/min",
    "ka3": "1/min",
    "SI1": "L/mU/min",  # sensitivities to insulin: transport, disposal, liver
    "SI2": "L/mU/min",
    "SI3": "L/mU",
    "ke": "1/min",  # elimination of insulin from plasma
    "VI": "L/kg",  # volume of distribution of insulin
    "VG": "L/kg",  # and of glucose
    "tI": "min",  # time to the maximum of absorption: insulin
    "tG": "min",  # and carbohydrates
    "AG": "",  # share of the carbohydrates that reaches the blood
    "BW": "kg",  # body weight
}
"""Name -> unit, in the order of the rows of every array of parameters here."""

MGDL_PER_MMOLL = 18.016
"""1 mmol/L of glucose is 18.016 mg/dL."""
MMOL_PER_GRAM = 1000.0 / 180.16
"""Of glucose."""
RENAL_THRESHOLD, RENAL_RATE = 9.0, 0.003
"""Glucose in mmol/L above which the kidneys lose it; the share that they lose, 1/min."""
SATURATION = 4.5
"""Glucose in mmol/L below which less of it is used."""
SENSOR_RATE = 0.0933
"""How fast the interstitial fluid follows plasma, 1/min."""
MIN_GLUCOSE, MAX_GLUCOSE = 5.0, 8.0
"""Of the steady states that episodes begin in, mmol/L; every patient must have one there."""


def glucose(states: FloatArray, parameters: FloatArray) -> FloatArray:
    """Glucose in plasma, mmol/L.

    Args:
        states: (11, B).
        parameters: (16, B).
    """
    return np.asarray(states[8] / (parameters[11] * parameters[15]))


def steady_state(parameters: FloatArray, level: Any) -> tuple[FloatArray, FloatArray]:
    """The state in which glucose stays at a level, and the insulin that keeps it there.

    With x_i = SI_i I and Q2' = 0, Q1' = 0 is a quadratic equation in I with one root >= 0.

    Args:
        parameters: (16, B).
        level: glucose in plasma, mmol/L, a number or (B,).

    Returns:
        States (11, B) and insulin (B,), mU/min. NaN for those whose glucose rises to the level
        without insulin or not at all: there is nothing that keeps it there.
    """
    egp0, f01, k12, _, _, _, si1, si2, si3, ke, vi, vg, ti, _, _, bw = parameters
    level = np.broadcast_to(np.asarray(level, np.float64), egp0.shape)
    surplus = (
        egp0
        - f01 * np.minimum(1.0, level / SATURATION)
        - RENAL_RATE * np.maximum(0.0, level - RENAL_THRESHOLD) * vg
    )
    surplus = np.where(surplus > 0.0, surplus, np.nan)
    a = si2 * (egp0 * si3 + si1 * level * vg)
    b = egp0 * si3 * k12 - surplus * si2
    insulin = 2.0 * surplus * k12 / (b + np.sqrt(b * b + 4.0 * a * surplus * k12))
    rate = ke * vi * bw * insulin
    nothing = np.zeros_like(insulin)
    x1, x2, x3 = si1 * insulin, si2 * insulin, si3 * insulin
    q1 = level * vg * bw
    q2 = x1 * q1 / (k12 + x2)
    depot = rate * ti
    states = (nothing, nothing, depot, depot, insulin, x1, x2, x3, q1, q2, level)
    return np.stack(states), rate


def derivative(
    states: FloatArray, parameters: FloatArray, insulin: FloatArray, carbohydrates: FloatArray
) -> FloatArray:
    """How fast the states change, per minute.

    Args:
        states: (11, B).
        parameters: (16, B).
        insulin: (B,) delivered, mU/min.
        carbohydrates: (B,) eaten, g/min.

    Returns:
        (11, B).
    """
    return _derivative(states, _coefficients(parameters, insulin, carbohydrates))


def _coefficients(
    parameters: FloatArray, insulin: FloatArray, carbohydrates: FloatArray
) -> FloatArray:
    """What the derivative needs of parameters and inputs, (19, B)."""
    egp0, f01, k12, ka1, ka2, ka3, si1, si2, si3, ke, vi, vg, ti, tg, ag, bw = parameters
    gut, skin, volume = 1.0 / tg, 1.0 / ti, vg * bw
    return np.stack(
        (
            *(gut, gut, skin, skin),
            *(ka1 * si1, ka2 * si2, ka3 * si3),
            *(ka1, ka2, ka3),
            ag * carbohydrates * MMOL_PER_GRAM,
            insulin,
            skin / (vi * bw),
            ke,
            1.0 / volume,
            k12,
            egp0 * bw,
            f01 * bw,
            RENAL_RATE * volume,
        )
    )


def _derivative(states: FloatArray, coefficients: FloatArray) -> FloatArray:
    """`derivative`, with what does not change from one stage to the next computed once.

    Only sums, products and extrema: a patient's numbers have the same bits in any batch.
    """
    eaten, insulin, to_plasma, elimination, per_volume, k12, egp0, f01, renal = coefficients[10:]
    x1, x2, x3, q1, q2, c = states[5:]
    level = q1 * per_volume
    transport = x1 * q1
    back = k12 * q2
    change = np.empty_like(states)
    moved = coefficients[:4] * states[:4]  # out of D1, D2, S1, S2
    change[0] = eaten - moved[0]
    change[2] = insulin - moved[2]
    change[1:4:2] = moved[::2] - moved[1::2]
    change[4] = to_plasma * states[3] - elimination * states[4]
    change[5:8] = coefficients[4:7] * states[4] - coefficients[7:10] * states[5:8]
    liver = egp0 * np.maximum(0.0, 1.0 - x3)
    used = f01 * np.minimum(1.0, level * (1.0 / SATURATION))
    lost = renal * np.maximum(0.0, level - RENAL_THRESHOLD)
    change[8] = moved[1] + liver - used - lost - transport + back
    change[9] = transport - back - x2 * q2
    change[10] = SENSOR_RATE * (level - c)
    return change


def advance(
    states: FloatArray,
    parameters: FloatArray,
    insulin: FloatArray,
    carbohydrates: FloatArray,
    minutes: int,
) -> FloatArray:
    """States some minutes later, with insulin and meals at constant rates.

    Runge-Kutta steps of fourth order of a minute. An overdose makes the glucose equations stiff:
    their fastest rate is about x1 + x2 + k12, and a minute in which it is above 1 is split into
    that many steps. How many is up to the patient's own state, never to the others in the batch.

    Args:
        states: (11, B).
        parameters: (16, B).
        insulin: (B,) mU/min.
        carbohydrates: (B,) g/min.
        minutes: >= 0.

    Returns:
        (11, B).
    """
    coefficients = _coefficients(parameters, insulin, carbohydrates)
    for _ in range(minutes):
        n_steps = np.ceil(states[5] + states[6] + parameters[2])
        most = int(n_steps.max())
        if most <= 1:
            states = _step(states, coefficients, 1.0)
            continue
        states, n_steps = states.copy(), np.maximum(n_steps, 1.0)
        for number in range(most):
            rows = np.flatnonzero(n_steps > number)
            states[:, rows] = _step(
                states.take(rows, axis=1), coefficients.take(rows, axis=1), 1.0 / n_steps[rows]
            )
    return states


def _step(states: FloatArray, coefficients: FloatArray, minutes: Any) -> FloatArray:
    """One Runge-Kutta step; `minutes` is a number or (B,)."""
    half = minutes * 0.5
    first = _derivative(states, coefficients)
    second = _derivative(states + half * first, coefficients)
    third = _derivative(states + half * second, coefficients)
    fourth = _derivative(states + minutes * third, coefficients)
    second += third
    second *= 2.0
    second += first
    second += fourth
    second *= minutes / 6.0
    second += states
    return second
