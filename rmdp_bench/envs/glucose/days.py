"""What days bring beside the patient: meals, the noise of the sensor, what a pump can do.

Meals are those of simglucose (Xie 2018), noise of the sensor that of Breton & Kovatchev (2008, J.
Diabetes Sci. Technol. 2:853): autocorrelated, with heavy tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

FloatArray = NDArray[np.float64]

STEP_MINUTES = 5
"""From one reading, and one decision, to the next."""
STEPS_PER_HOUR = 60 // STEP_MINUTES
STEPS_PER_DAY = 24 * STEPS_PER_HOUR
N_DAYS = 3
"""Of an episode, unless the world is told otherwise."""


class Meal(NamedTuple):
    """A meal that a day may have: normal variables, the time within a window."""

    probability: float
    mean_hour: float
    deviation_hours: float
    first_hour: float
    last_hour: float
    mean_grams: float
    deviation_grams: float


MEALS = (
    Meal(0.95, 7.0, 1.0, 5.0, 9.0, 45.0, 10.0),
    Meal(0.3, 9.5, 0.5, 9.0, 10.0, 10.0, 5.0),
    Meal(0.95, 12.0, 1.0, 10.0, 14.0, 70.0, 10.0),
    Meal(0.3, 15.0, 0.5, 14.0, 16.0, 10.0, 5.0),
    Meal(0.95, 18.0, 1.0, 16.0, 20.0, 80.0, 10.0),
    Meal(0.3, 21.5, 0.5, 20.0, 23.0, 10.0, 5.0),
)
"""Of a patient of 75 kg."""
GRAM_BOUND = 3.0
"""Greatest distance of a meal's size from its mean, in standard deviations."""
ESTIMATION_ERROR = 0.3
"""Greatest relative error of a patient's estimate of a meal; it is uniform. Our choice, as are the
limits of the pump."""

PULSE = 0.05
"""What a pump delivers at a time, U."""
PULSES_PER_HOUR = 400
"""Most pulses in any 60 minutes: 20 U."""

KNOT_STEPS = 3
"""Steps from one knot of the sensor's noise to the next: 15 minutes."""


class Draws(NamedTuple):
    """What a generator gives for an episode of D days, with 6 D meals."""

    uniform: FloatArray
    """(B, 1 + 4 x 6 D): the first glucose, then of each meal whether, when, how much, error."""
    normal: FloatArray
    """(B, K): innovations of the sensor's noise."""
    attention: FloatArray
    """(B, 6 D): whether each meal is told to the controller; none where all of them are."""


def draw(
    generators: Sequence[np.random.Generator], n_days: int = N_DAYS, *, with_attention: bool = False
) -> Draws:
    """Draw what B episodes need, each from its own generator."""
    n_meals, n_knots = n_days * len(MEALS), n_days * STEPS_PER_DAY // KNOT_STEPS + 1
    uniform = [generator.random(1 + 4 * n_meals) for generator in generators]
    normal = [generator.standard_normal(n_knots) for generator in generators]
    attention = [generator.random(n_meals if with_attention else 0) for generator in generators]
    return Draws(np.stack(uniform), np.stack(normal), np.stack(attention))


def plan_meals(
    uniform: FloatArray, weights: FloatArray, error: float
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """The meals of D days.

    Args:
        uniform: (B, 4 x 6 D) in [0, 1).
        weights: (B,) body weights, kg; meals of others than 75 kg are smaller or larger.
        error: greatest relative error of the estimates.

    Returns:
        The step in which each meal is eaten, -1 for none; its carbohydrates; and the patient's
        estimate of them: (B, 6 D), g.
    """
    n_days = uniform.shape[1] // (4 * len(MEALS))
    shape = (len(uniform), n_days, len(MEALS))
    whether, when, how_much, misjudged = uniform.reshape(*shape, 4).transpose(3, 0, 1, 2)
    table = np.array(MEALS).T
    probability, mean_hour, deviation_hours, first_hour, last_hour, mean, deviation = table
    hour = mean_hour + deviation_hours * _truncated_normal(
        when, (first_hour - mean_hour) / deviation_hours, (last_hour - mean_hour) / deviation_hours
    )
    step = np.floor(hour * STEPS_PER_HOUR)
    step = np.clip(step, first_hour * STEPS_PER_HOUR, last_hour * STEPS_PER_HOUR - 1)
    day = np.arange(n_days)[:, np.newaxis]
    scale = np.clip(weights / 75.0, 0.4, 1.2)[:, np.newaxis, np.newaxis]
    size = mean + deviation * _truncated_normal(how_much, -GRAM_BOUND, GRAM_BOUND)
    is_eaten = (whether < probability) & (size > 0.0)
    step = np.where(is_eaten, step + day * STEPS_PER_DAY, -1.0)
    grams = np.where(is_eaten, size * scale, 0.0)
    estimate = grams * (1.0 + error * (2.0 * misjudged - 1.0))
    flat = (len(uniform), n_days * len(MEALS))
    return step.astype(np.int64).reshape(flat), grams.reshape(flat), estimate.reshape(flat)


def _truncated_normal(uniform: FloatArray, low: Any, high: Any) -> FloatArray:
    """Standard normal variables between two bounds, from uniform ones."""
    least, greatest = ndtr(low), ndtr(high)
    return np.asarray(ndtri(least + (greatest - least) * uniform))


def sensor_noise(innovations: FloatArray) -> NDArray[np.float32]:
    """Error of every reading, mg/dL.

    Every 15 minutes e = 0.7 (e + a standard normal variable), and the error is Johnson's transform
    of e; between the knots a cubic (Catmull-Rom) goes through them.

    Args:
        innovations: (B, K), standard normal.

    Returns:
        (B, 3 (K - 1) + 1) float32.
    """
    state, n_knots = innovations.copy(), innovations.shape[1]
    for knot in range(1, n_knots):
        state[:, knot] = 0.7 * (state[:, knot - 1] + innovations[:, knot])
    knots = -5.47 + 15.9574 * np.sinh((state + 0.5444) / 1.6898)
    padded = np.concatenate([knots[:, :1], knots, knots[:, -1:]], axis=1)
    before, start, end, after = (padded[:, lag : lag + n_knots - 1] for lag in range(4))
    noise = np.empty((len(knots), KNOT_STEPS * (n_knots - 1) + 1))
    noise[:, ::KNOT_STEPS] = knots
    for part in range(1, KNOT_STEPS):
        t = part / KNOT_STEPS
        noise[:, part::KNOT_STEPS] = 0.5 * (
            2.0 * start
            + t * (end - before)
            + t * t * (2.0 * before - 5.0 * start + 4.0 * end - after)
            + t * t * t * (3.0 * (start - end) + after - before)
        )
    return noise.astype(np.float32)
