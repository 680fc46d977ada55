"""The patients: who differs from whom, and by how much.

Moments of the first nine parameters are mean and standard deviation of six healthy men (Hovorka et
al. 2002, Am. J. Physiol. 282:E992), which Boiroux et al. (Technical University of Denmark) use as
distributions of a population, with their own of ke, VI, tI, tG, AG and BW. Their table was taken
from public implementations of it. Patients with type 1 diabetes are less sensitive to insulin: all
three sensitivities are multiplied by 0.4, about the ratio of Wilinska et al. (2010, J. Diabetes
Sci. Technol. 4:132; 18.4, 5.05, 190 of 51.2, 8.2, 520 in 1e-4) and the factor of Resalat et al.
(2019, PLoS ONE 14:e0217301). ln VG has Wilinska's mean ln 0.15 and standard deviation 0.23.

A normal variable is drawn again until it is within two standard deviations and above a floor, since
many of these distributions reach below zero. A patient whose insulin at rest, at 6 mmol/L, is not
from 0.2 to 2.5 U/h is drawn again as a whole. Parameters are drawn independently of each other.

Patients differ in taste too: `low_weight`, from 0.2 to 0.8, is how much lows count in their risk,
against highs. It is uniform, and our choice, as are the floors and the limits of the insulin.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.glucose.hovorka import (
    MAX_GLUCOSE,
    MIN_GLUCOSE,
    PARAMETERS,
    steady_state,
)
from rmdp_bench.population import DynamicsPopulation

N_AGENTS, N_UNSEEN, N_EXTRAPOLATING = 100, 20, 20
T1D_SENSITIVITY = 0.4
"""Of that of healthy people."""
LEAST_BASAL, GREATEST_BASAL = 0.2, 2.5
"""Of the insulin at rest at 6 mmol/L, U/h."""
RESTING_GLUCOSE = 6.0


class _Normal(NamedTuple):
    """Mean, standard deviation and floor of a variable, and what the parameter is of it."""

    mean: float
    deviation: float
    floor: float = -math.inf
    kind: str = "itself"
    """"itself", "reciprocal", "logarithm" or "sensitivity"."""


class _Uniform(NamedTuple):
    low: float
    high: float


DISTRIBUTIONS: dict[str, _Normal | _Uniform] = {
    "EGP0": _Normal(0.0161, 0.0039),
    "F01": _Normal(0.0097, 0.0022),
    "k12": _Normal(0.0649, 0.0282),
    "ka1": _Normal(0.0055, 0.0056, 0.001),
    "ka2": _Normal(0.0683, 0.0507, 0.01),
    "ka3": _Normal(0.0304, 0.0235, 0.005),
    "SI1": _Normal(51.2e-4, 32.09e-4, 5e-4, "sensitivity"),
    "SI2": _Normal(8.2e-4, 7.84e-4, 0.8e-4, "sensitivity"),
    "SI3": _Normal(520e-4, 306.2e-4, 52e-4, "sensitivity"),
    "ke": _Normal(0.14, 0.035),
    "VI": _Normal(0.12, 0.012),
    "VG": _Normal(math.log(0.15), 0.23, kind="logarithm"),
    "tI": _Normal(0.018, 0.0045, kind="reciprocal"),
    "tG": _Normal(3.689, 0.25, kind="logarithm"),
    "AG": _Uniform(0.7, 1.2),
    "BW": _Uniform(65.0, 95.0),
    "low_weight": _Uniform(0.2, 0.8),
}
OUTSIDE = {"tG": (0.75, 1.25), "BW": (0.75, 1.25)}
"""Parameters of extrapolating patients that are outside the range: down to this share of its low
end, up to this share of its high end."""


def _parameter_of(values: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    if kind == "logarithm":
        values = np.exp(values)
    elif kind == "reciprocal":
        values = 1.0 / values
    elif kind == "sensitivity":
        values = T1D_SENSITIVITY * values
    # Four digits, so that the table is the same whatever the last bit of a machine's logarithms is.
    return np.array([float(f"{value:.4g}") for value in values])


def _range(name: str) -> tuple[float, float]:
    """Least and greatest value of a parameter."""
    distribution = DISTRIBUTIONS[name]
    if isinstance(distribution, _Uniform):
        return distribution
    mean, deviation, floor, kind = distribution
    ends = np.array([max(mean - 2.0 * deviation, floor), mean + 2.0 * deviation])
    low, high = sorted(_parameter_of(ends, kind))
    return float(low), float(high)


def _draw(name: str, generator: np.random.RandomState, size: int) -> NDArray[np.float64]:
    low, high = _range(name)
    distribution = DISTRIBUTIONS[name]
    if isinstance(distribution, _Uniform):
        return _parameter_of(generator.uniform(low, high, size), "itself")
    drawn = np.full(size, np.nan)
    while (missing := np.flatnonzero(~((drawn >= low) & (drawn <= high)))).size:
        normal = generator.normal(distribution.mean, distribution.deviation, missing.size)
        if distribution.kind == "reciprocal":
            normal[normal <= 0.0] = np.nan
        drawn[missing] = _parameter_of(normal, distribution.kind)
    return drawn


def resting_insulin(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Insulin that keeps patients at 6 mmol/L, U/h; NaN where none does.

    Args:
        parameters: (N, 17) of `DynamicsPopulation`.

    Returns:
        (N,).
    """
    rate = steady_state(parameters.T[: len(PARAMETERS)], RESTING_GLUCOSE)[1]
    return np.asarray(0.06 * rate)  # 60 minutes, 1/1000 U


def clinic_profile(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a clinic knows of patients before their first day, and nothing else of the parameters.

    Args:
        parameters: (N, 17) of `DynamicsPopulation`.

    Returns:
        (N, 3): body weight, kg; insulin at rest, U a day, which patients know from the basal dose
        that keeps their fasting glucose where it is; and `low_weight`, what they fear more, which
        they can be asked.
    """
    names = list(DISTRIBUTIONS)
    weight, taste = (parameters[:, names.index(name)] for name in ("BW", "low_weight"))
    return np.stack([weight, 24.0 * resting_insulin(parameters), taste], axis=1)


def glucose_population(population_seed: int = 0) -> DynamicsPopulation:
    """100 patients, 20 unseen and 20 who extrapolate.

    Those who extrapolate are lighter or heavier, and digest faster or slower, than anybody in the
    range, in turn for all combinations. All 100 patients are test agents: scores are over all. The
    stream is NumPy's legacy RandomState, which is frozen by NEP 19.

    Args:
        population_seed: 0 to 2**32 - 1.
    """
    generator = np.random.RandomState(population_seed)
    inside = _accepted(generator, N_AGENTS + N_UNSEEN)
    outside = _move_outside(_accepted(generator, N_EXTRAPOLATING), generator)
    low, high = np.array([_range(name) for name in DISTRIBUTIONS]).T
    return DynamicsPopulation(
        names=tuple(DISTRIBUTIONS),
        units=(*PARAMETERS.values(), ""),
        low=low,
        high=high,
        parameters=np.concatenate([inside, outside]),
        n_test=N_AGENTS,
        n_agents=N_AGENTS,
        n_unseen=N_UNSEEN,
    )


def _accepted(generator: np.random.RandomState, size: int) -> NDArray[np.float64]:
    """Patients (size, 17) whose insulin at rest is usual."""
    accepted = np.empty((0, len(DISTRIBUTIONS)))
    while len(accepted) < size:
        table = np.stack([_draw(name, generator, size) for name in DISTRIBUTIONS], axis=1)
        basal = resting_insulin(table)
        usual = (basal >= LEAST_BASAL) & (basal <= GREATEST_BASAL)
        accepted = np.concatenate([accepted, table[usual]])
    return accepted[:size]


def _move_outside(
    table: NDArray[np.float64], generator: np.random.RandomState
) -> NDArray[np.float64]:
    """Draw the parameters of `OUTSIDE` anew; low or high, in turn for all combinations."""
    names, table = list(DISTRIBUTIONS), table.copy()
    for bit, (name, (least, greatest)) in enumerate(OUTSIDE.items()):
        low, high = _range(name)
        share = 1.0 - generator.random_sample(len(table))  # not 0: the ends are in the range
        below = low * (1.0 - share * (1.0 - least))
        above = high * (1.0 + share * (greatest - 1.0))
        is_above = np.arange(len(table)) >> bit & 1
        table[:, names.index(name)] = _parameter_of(np.where(is_above, above, below), "itself")
    return table


def check_patients(population: DynamicsPopulation) -> None:
    """Refuse patients who have no state of rest that an episode could begin in.

    Raises:
        ValueError: names the first one.
    """
    rows = population.parameters.T[: len(PARAMETERS)]
    rates = [steady_state(rows, level)[1] for level in (MIN_GLUCOSE, MAX_GLUCOSE)]
    bad = np.flatnonzero(~np.isfinite(rates).all(axis=0))
    if bad.size:
        raise ValueError(
            f"parameters[{bad[0]}] are {population.parameters[bad[0]].tolist()}, a patient whom no "
            f"insulin keeps at {MIN_GLUCOSE:g} to {MAX_GLUCOSE:g} mmol/L: expected EGP0 > F01"
        )
