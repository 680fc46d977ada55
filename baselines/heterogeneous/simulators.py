"""Personal simulators of glucose, from one logged record of each patient.

PerSim (Agarwal et al. 2021, arXiv 2102.06961) writes the change of a state as a sum over latent
functions, with a factor of the agent for each:

    change = sum_l  u_l(agent) w_l(action) v_l(state)

Here the functions are given and only the factors are learned, since a month of one patient's
readings, noisy and every 5 minutes, does not tell learned ones from the noise: the change of
glucose in 5 minutes is a sum of products of what insulin and carbohydrates of the last hours still
do (doses and announced meals through compartments of fixed time constants) and of the glucose
itself. Three departures more:
  - The factors are fitted to changes over one and three hours, not over one step, of smoothed
    readings: over one step there is more noise than change.
  - They have a normal distribution over the patients, which is fitted too (a linear model with
    random coefficients, by expectation-maximisation). A patient's factors are what the record and
    the others say together, with a covariance; and a new patient with a record of a day has some.
  - In the place of an ensemble, an episode draws the factors from that distribution.

The risk is Kovatchev's, as the world's; how much lows count for a patient is fitted to the logged
rewards. Meals of an episode are those of a day of the patient's record, with the error of
announcements that the world states, and errors of the sensor those of such a day.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]

STEP = 5.0
"""Minutes."""
STEPS_PER_DAY = 288
ABSORPTION = 55.0
"""Minutes of each of the two compartments in which a dose waits, as the observation's insulin on
board counts it."""
INSULIN_LAGS = (20.0, 60.0, 160.0)
"""Minutes after which absorbed insulin acts."""
MEAL_TIMES = (25.0, 40.0, 65.0)
"""Minutes of each of the two compartments of a meal."""
SMOOTHING = 4
"""Readings on either side that a smoothed one is a mean of, with falling weights."""
HORIZONS = (12, 36)
"""Steps over which changes are fitted."""
STRIDE = 3
"""Steps from one such change to the next."""
CORRELATED = 20.0
"""Changes that overlap and share their noise: so many count as one."""
ESTIMATION_ERROR = 0.3
"""Greatest relative error of what a patient announces; the world's docstring states it."""
LEAST_READING, GREATEST_READING = 40.0, 400.0
LEAST_GLUCOSE, GREATEST_GLUCOSE = 20.0, 600.0
TREND_STEPS, LONGEST_PAUSE = 3, 360.0
N_FILTERS = 2 + len(INSULIN_LAGS) + 2 * len(MEAL_TIMES)
N_FACTORS = 4 + 2 * len(INSULIN_LAGS) + len(MEAL_TIMES)
N_EM_STEPS = 15


def advance_filters(filters: Any, insulin: Any, carbohydrates: Any) -> Any:
    """What is left of doses and meals one step later, in NumPy or torch.

    Args:
        filters: N_FILTERS arrays (...): two compartments of insulin (U), action of it (U/h) for
            each lag, two compartments of carbohydrates (g) for each time.
        insulin: (...) U given in this step.
        carbohydrates: (...) g that a meal brings in it.
    """
    kept, moved = math.exp(-STEP / ABSORPTION), STEP / ABSORPTION
    first, second = filters[0] + insulin, filters[1]
    absorbed = second * moved * (60.0 / STEP)  # U/h
    after = [first * kept, (second + first * moved) * kept]
    for place, lag in enumerate(INSULIN_LAGS):
        action = filters[2 + place]
        after.append(action + (1.0 - math.exp(-STEP / lag)) * (absorbed - action))
    for place, minutes in enumerate(MEAL_TIMES):
        kept, moved = math.exp(-STEP / minutes), STEP / minutes
        at = 2 + len(INSULIN_LAGS) + 2 * place
        first, second = filters[at] + carbohydrates, filters[at + 1]
        after += [first * kept, (second + first * moved) * kept]
    return after


def functions_of(glucose: Any, filters: Any) -> list[Any]:
    """The N_FACTORS functions (...) whose sum, with a patient's factors, is a change in mg/dL."""
    level = (glucose - 120.0) / 50.0
    is_high, is_low = glucose > 180.0, glucose < 80.0
    ones = level * 0.0 + 1.0
    found = [ones, level, is_high * (glucose - 180.0) / 50.0, is_low * (80.0 - glucose) / 20.0]
    actions = filters[2 : 2 + len(INSULIN_LAGS)]
    found += [*actions, *(action * level for action in actions)]
    for place, minutes in enumerate(MEAL_TIMES):
        second = filters[2 + len(INSULIN_LAGS) + 2 * place + 1]
        found.append(second * (STEP / minutes))
    return found


@dataclass(frozen=True)
class Record:
    """What a patient's log of T steps says.

    Attributes:
        observations: (T + 1, 7).
        doses: (T,) insulin, U in 5 minutes.
        rewards: (T,).
        smoothed: (T + 1,) readings, mg/dL.
        filters: (N_FILTERS, T) before what is given in each step.
        after: (N_FILTERS, T) with it: what `functions_of` takes.
    """

    observations: FloatArray
    doses: FloatArray
    rewards: FloatArray
    smoothed: FloatArray
    filters: FloatArray
    after: FloatArray

    @property
    def n_days(self) -> int:
        """Whole days."""
        return len(self.doses) // STEPS_PER_DAY


def read_records(observations: Any, actions: Any, rewards: Any) -> list[Record]:
    """Smooth the readings of n logs and follow their doses and meals.

    Args:
        observations: (n, T + 1, 7).
        actions: (n, T, 2) basal rate, U/h, and bolus, U.
        rewards: (n, T).
    """
    seen = np.asarray(observations, np.float64)
    given = np.asarray(actions, np.float64)
    doses = given[..., 0] * (STEP / 60.0) + given[..., 1]
    weights = np.concatenate([np.arange(1, SMOOTHING + 2), np.arange(SMOOTHING, 0, -1)])
    padded = np.pad(seen[..., 0], ((0, 0), (SMOOTHING, SMOOTHING)), mode="edge")
    shares = weights / weights.sum()
    smoothed = [np.convolve(row, shares, mode="valid") for row in padded]
    filters, after = follow(doses, seen[:, :-1, 3])
    columns = (seen, doses, np.asarray(rewards, np.float64), smoothed)
    parts = zip(*columns, filters.swapaxes(0, 1), after.swapaxes(0, 1), strict=True)
    return [Record(*own) for own in parts]


def follow(doses: FloatArray, meals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Filters before and after each of T steps, (N_FILTERS, ..., T), of doses and meals (..., T).

    They begin as if the median dose, a basal one, had always been given.
    """
    n_steps = doses.shape[-1]
    rate = np.median(doses[..., : 2 * STEPS_PER_DAY], axis=-1) * (60.0 / STEP)  # of basal, U/h
    state = [np.zeros(doses.shape[:-1]) for _ in range(N_FILTERS)]
    kept, moved = math.exp(-STEP / ABSORPTION), STEP / ABSORPTION
    state[0] = rate * (STEP / 60.0) * kept / (1.0 - kept)
    state[1] = (state[0] / kept) * moved * kept / (1.0 - kept)
    for place in range(len(INSULIN_LAGS)):
        state[2 + place] = state[1] * moved * (60.0 / STEP)
    filters = np.empty((N_FILTERS, *doses.shape))
    after = np.empty_like(filters)
    for step in range(n_steps):
        filters[..., step] = state
        state = advance_filters(state, doses[..., step], meals[..., step])
        after[..., step] = state
    return filters, after


@dataclass(frozen=True)
class Evidence:
    """What a record says of a patient's factors: a quadratic form.

    Attributes:
        precision: (p, p) sums of products of functions.
        moment: (p,) sums of their products with changes.
        square: sum of squared changes.
        count: of changes.
    """

    precision: FloatArray
    moment: FloatArray
    square: float
    count: float


def evidence_of(record: Record) -> Evidence:
    """Changes over `HORIZONS`, and the sums of functions that they shall be."""
    glucose, n_steps = record.smoothed, len(record.doses)
    functions = np.stack(functions_of(glucose[:-1], list(record.after)))  # (p, T)
    sums = np.concatenate([np.zeros((len(functions), 1)), functions.cumsum(axis=1)], axis=1)
    # Where the sensor is at its end, nobody knows the change.
    ends = (glucose <= LEAST_READING + 2.0) | (glucose >= GREATEST_READING - 2.0)
    n_ends = np.concatenate([[0], ends.cumsum()])
    precision, moment = np.zeros((N_FACTORS, N_FACTORS)), np.zeros(N_FACTORS)
    square = count = 0.0
    for horizon in HORIZONS:
        starts = np.arange(0, n_steps - horizon, STRIDE)
        starts = starts[n_ends[starts + horizon + 1] == n_ends[starts]]
        weight = 1.0 / (horizon * CORRELATED)  # changes over longer times vary more
        rows = (sums[:, starts + horizon] - sums[:, starts]).T
        changes = glucose[starts + horizon] - glucose[starts]
        precision += weight * rows.T @ rows
        moment += weight * rows.T @ changes
        square += weight * float(changes @ changes)
        count += len(starts) / CORRELATED
    return Evidence(precision, moment, square, count)


@dataclass(frozen=True)
class Prior:
    """The distribution of factors over patients, and of what they leave unexplained.

    Attributes:
        mean: (p,).
        covariance: (p, p).
        variance: of a change, per step.
    """

    mean: FloatArray
    covariance: FloatArray
    variance: float

    def update(self, evidence: Evidence) -> tuple[FloatArray, FloatArray]:
        """Mean (p,) and covariance (p, p) of a patient's factors, given a record."""
        inverse = np.linalg.inv(self.covariance)
        covariance = np.linalg.inv(inverse + evidence.precision / self.variance)
        moment = inverse @ self.mean + evidence.moment / self.variance
        return np.asarray(covariance @ moment), np.asarray(covariance)


def fit_prior(evidence: Sequence[Evidence]) -> Prior:
    """Expectation-maximisation over the patients of a linear model with random coefficients."""
    count = sum(own.count for own in evidence)
    precision = np.sum([own.precision for own in evidence], axis=0)
    moment = np.sum([own.moment for own in evidence], axis=0)
    scale = np.diag(precision) / count
    ridge = np.diag(1e-4 * np.maximum(scale, 1e-9)) * count
    mean = np.linalg.solve(precision + ridge, moment)
    variance = float(sum(own.square for own in evidence) - mean @ moment) / count
    spread = np.maximum(np.abs(mean), math.sqrt(variance) / np.sqrt(np.maximum(scale, 1e-9)) / 10)
    prior = Prior(mean, np.diag(spread**2), variance)
    floor = np.diag(1e-4 * spread**2)
    for _ in range(N_EM_STEPS):
        found = [prior.update(own) for own in evidence]
        means = np.stack([own for own, _ in found])
        mean = means.mean(axis=0)
        within = np.mean([own for _, own in found], axis=0)
        between = (means - mean).T @ (means - mean) / len(means)
        errors = 0.0
        for own, (factors, covariance) in zip(evidence, found, strict=True):
            fitted = factors @ own.precision @ factors + np.sum(own.precision * covariance)
            errors += float(own.square - 2.0 * factors @ own.moment + fitted)
        prior = Prior(mean, within + between + floor, errors / count)
    return prior


def risk_of(glucose: Tensor, low_weight: Tensor) -> Tensor:
    """Kovatchev's risk with a weight of lows, as the world has it; differentiable."""
    bounded = glucose.clip(LEAST_GLUCOSE, GREATEST_GLUCOSE)
    scale = 1.509 * (bounded.log() ** 1.084 - 5.381)
    weight = 2.0 * torch.where(scale < 0.0, low_weight, 1.0 - low_weight)
    return weight * 10.0 * scale.square()


def fit_low_weight(record: Record) -> float:
    """How much lows count for a patient, 0 to 1, by least squares from logged rewards.

    Without rewards (NaN) both count alike.
    """
    if np.isnan(record.rewards).any():
        return 0.5
    glucose = torch.from_numpy(record.smoothed[1:])
    one = torch.ones((), dtype=torch.float64)
    lows, highs = risk_of(glucose, one).numpy(), risk_of(glucose, 0.0 * one).numpy()
    difference = lows - highs
    weight = (difference @ (-record.rewards - highs)) / max(difference @ difference, 1e-9)
    return float(np.clip(weight, 0.0, 1.0))


@dataclass(frozen=True)
class Simulators:
    """Simulators of n patients.

    Attributes:
        prior: of the factors.
        mean: (n, p) factors.
        covariance: (n, p, p).
        low_weight: (n,).
        starts: (n, D, 1 + N_FILTERS) glucose and filters at each logged midnight.
        meals: (n, D, 288) announced, g.
        errors: (n, D, 288) reading minus smoothed reading, mg/dL.
    """

    prior: Prior
    mean: FloatArray
    covariance: FloatArray
    low_weight: FloatArray
    starts: FloatArray
    meals: FloatArray
    errors: FloatArray

    @property
    def n_patients(self) -> int:
        """The number n of patients."""
        return len(self.mean)


def make_simulators(records: Sequence[Record], prior: Prior | None = None) -> Simulators:
    """Fit the simulators of patients.

    Args:
        records: of one day at least, all of as many.
        prior: of other patients, with which these are seen; None: fitted to these.

    Raises:
        ValueError: a record is shorter than a day.
    """
    n_days = min(record.n_days for record in records)
    if n_days < 1:
        raise ValueError("a record is shorter than a day, expected 288 steps at least")
    evidence = [evidence_of(record) for record in records]
    prior = fit_prior(evidence) if prior is None else prior
    found = [prior.update(own) for own in evidence]
    midnights = np.arange(n_days) * STEPS_PER_DAY

    def by_day(values: FloatArray) -> FloatArray:
        return values[: n_days * STEPS_PER_DAY].reshape(n_days, STEPS_PER_DAY)

    return Simulators(
        prior,
        np.stack([mean for mean, _ in found]),
        np.stack([covariance for _, covariance in found]),
        np.array([fit_low_weight(record) for record in records]),
        np.stack(
            [
                np.concatenate([r.smoothed[midnights, np.newaxis], r.filters[:, midnights].T], 1)
                for r in records
            ]
        ),
        np.stack([by_day(r.observations[:, 3]) for r in records]),
        np.stack([by_day(r.observations[:, 0] - r.smoothed) for r in records]),
    )


@dataclass(frozen=True)
class Episodes:
    """What episodes of B rows are drawn to be, as tensors.

    Attributes:
        factors: (B, p).
        low_weight: (B,).
        start: (B, 1 + N_FILTERS).
        announced: (B, T) g.
        eaten: (B, T) g.
        errors: (B, T) of the sensor, mg/dL.
    """

    factors: Tensor
    low_weight: Tensor
    start: Tensor
    announced: Tensor
    eaten: Tensor
    errors: Tensor

    def repeat(self, times: int) -> Episodes:
        """The same rows several times, one after the other."""
        parts = (getattr(self, name) for name in self.__annotations__)
        return Episodes(*(part.repeat(times, *([1] * (part.dim() - 1))) for part in parts))


def draw_episodes(
    simulators: Simulators,
    patients: NDArray[np.int64],
    n_days: int,
    generator: np.random.Generator,
) -> Episodes:
    """Draw an episode from midnight for each of `patients` (B,)."""
    n_rows, n_logged = len(patients), simulators.meals.shape[1]
    normal = generator.standard_normal((n_rows, N_FACTORS))
    roots = np.linalg.cholesky(simulators.covariance)[patients]
    factors = simulators.mean[patients] + np.einsum("bij,bj->bi", roots, normal)
    first = generator.integers(n_logged, size=n_rows)
    days = generator.integers(n_logged, size=(n_rows, n_days))
    announced = simulators.meals[patients[:, np.newaxis], days].reshape(n_rows, -1)
    misjudged = generator.uniform(-ESTIMATION_ERROR, ESTIMATION_ERROR, announced.shape)
    days = generator.integers(n_logged, size=(n_rows, n_days))
    errors = simulators.errors[patients[:, np.newaxis], days].reshape(n_rows, -1)
    arrays = (
        factors,
        simulators.low_weight[patients],
        simulators.starts[patients, first],
        announced,
        announced / (1.0 + misjudged),
        errors,
    )
    return Episodes(*(torch.from_numpy(np.asarray(array, np.float32)) for array in arrays))


Act = Callable[[Tensor], Tensor]
"""Observations (B, 7) -> basal rates, U/h, and boluses, U, (B, 2)."""


def simulate(episodes: Episodes, act: Act) -> Tensor:
    """Play episodes; gives the risk (B, T) after each step, differentiable in what `act` does."""
    glucose, *filters = episodes.start.T
    on_board = [torch.zeros_like(glucose)] * 2
    kept, moved = math.exp(-STEP / ABSORPTION), STEP / ABSORPTION
    pause = torch.full_like(glucose, LONGEST_PAUSE)
    readings: list[Tensor] = []
    risks = []
    for step in range(episodes.announced.shape[1]):
        reading = (glucose + episodes.errors[:, step]).clip(LEAST_READING, GREATEST_READING)
        readings.append(reading)
        before = readings[max(0, step - TREND_STEPS)]
        meal = episodes.announced[:, step]
        hour = 2.0 * math.pi * (step % STEPS_PER_DAY) / STEPS_PER_DAY
        ones = torch.ones_like(reading)
        seen = (
            *(reading, (reading - before) / (TREND_STEPS * STEP), on_board[0] + on_board[1]),
            *(meal, pause, math.sin(hour) * ones, math.cos(hour) * ones),
        )
        doses = act(torch.stack(seen, dim=1))
        insulin = doses[:, 0] * (STEP / 60.0) + doses[:, 1]
        filters = advance_filters(filters, insulin, episodes.eaten[:, step])
        change = (episodes.factors * torch.stack(functions_of(glucose, filters), dim=1)).sum(1)
        glucose = (glucose + change).clip(LEAST_GLUCOSE, GREATEST_GLUCOSE)
        first = on_board[0] + insulin
        on_board = [first * kept, (on_board[1] + first * moved) * kept]
        pause = torch.where(meal > 0.0, STEP, pause + STEP).clip(max=LONGEST_PAUSE)
        risks.append(risk_of(glucose, episodes.low_weight))
    return torch.stack(risks, dim=1)
