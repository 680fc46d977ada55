"""The controllers of the clinic's data: everybody's own, and none of them perfect.

Each patient of the glucose world has a constant basal rate and a carbohydrate ratio that were tuned
for them alone (`tuned_gains`; `scripts/record_clinic_controllers.py` of the repository). What acts
in the data is an imperfect form of it, as a clinic sets it by a few visits: both gains are off by a
factor, and both depend on the time of day, with an extent and a phase of their own, where the
patient's body does not. The factors exp(x), with x normal within two standard deviations, have 0.15
for the basal rate and 0.25 for the ratio; the exponents' extents over the day are uniform to 0.4,
their phases uniform. All of it follows from `SEED` alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.glucose.boluses import (
    COSINE,
    MAX_BASAL,
    MAX_BOLUS,
    MEAL,
    SINE,
    grams_to_cover,
)
from rmdp_bench.files import read_json

CONTROLLERS_FILE = Path(str(files("rmdp_bench"))) / "data" / "clinic_controllers.json"
SEED = 0
BASAL_DEVIATION, RATIO_DEVIATION = 0.15, 0.25
GREATEST_EXTENT = 0.4
"""Of a gain over the day: at most exp(0.4) times its mean, and at least exp(-0.4) times."""


@dataclass(frozen=True)
class ClinicController:
    """A basal rate, and boluses at meals; both gains may depend on the time of day.

    A bolus is `grams_to_cover` over the carbohydrate ratio.

    Attributes:
        basal: U/h, geometric mean over the day.
        carbohydrate_ratio: g/U, the same.
        basal_waves: factors of the cosine and the sine of the time of day in the logarithm.
        ratio_waves: the same of the carbohydrate ratio.
    """

    basal: float
    carbohydrate_ratio: float
    basal_waves: tuple[float, float] = (0.0, 0.0)
    ratio_waves: tuple[float, float] = (0.0, 0.0)

    def reset(self, n_envs: int) -> None:
        """Nothing to do: it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Basal rate (U/h) and bolus (U), (E, 2), for observations (E, d) of the glucose world."""
        seen = np.asarray(observations, np.float64)
        sine, cosine = seen[:, [SINE, COSINE]].T
        actions = np.zeros((len(seen), 2))
        actions[:, 0] = self.basal * _daily(self.basal_waves, cosine, sine)
        if seen[:, MEAL].any():
            ratio = self.carbohydrate_ratio * _daily(self.ratio_waves, cosine, sine)
            actions[:, 1] = grams_to_cover(seen) / ratio
        return actions.clip(0.0, (MAX_BASAL, MAX_BOLUS)).astype(np.float32)


def _daily(
    waves: tuple[float, float], cosine: NDArray[np.float64], sine: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.exp(waves[0] * cosine + waves[1] * sine)


def tuned_gains() -> NDArray[np.float64]:
    """Basal rate, U/h, and carbohydrate ratio, g/U, of everybody's own tuned controller.

    Returns:
        (140, 2), in the order of the population's parameters.
    """
    known = _read()
    return np.array([known["basal"], known["carbohydrate_ratio"]]).T


def load_clinic_controllers() -> Sequence[ClinicController]:
    """The imperfect controller of each patient, in the order of the population's parameters."""
    gains = tuned_gains()
    generator = np.random.RandomState(SEED)  # its stream is frozen, by NEP 19
    n = len(gains)
    # Four digits, so that no machine's logarithms make another controller.
    errors = np.stack(
        [_within_two(generator, n) * size for size in (BASAL_DEVIATION, RATIO_DEVIATION)], axis=1
    )
    extents = generator.uniform(0.0, GREATEST_EXTENT, (n, 2))
    phases = generator.uniform(0.0, 2.0 * np.pi, (n, 2))
    means = np.round(gains * np.exp(errors), 4)
    waves = np.round(np.stack([extents * np.cos(phases), extents * np.sin(phases)], axis=2), 4)
    return [
        ClinicController(
            *(float(means[i, 0]), float(means[i, 1])),
            (float(waves[i, 0, 0]), float(waves[i, 0, 1])),
            (float(waves[i, 1, 0]), float(waves[i, 1, 1])),
        )
        for i in range(n)
    ]


def _within_two(generator: np.random.RandomState, size: int) -> NDArray[np.float64]:
    """Standard normal variables within two standard deviations."""
    drawn = generator.standard_normal(size)
    while (outside := np.flatnonzero(np.abs(drawn) > 2.0)).size:
        drawn[outside] = generator.standard_normal(outside.size)
    return drawn


@functools.cache
def _read() -> dict[str, Any]:
    return read_json(CONTROLLERS_FILE)
