"""The clinic's rule for boluses, and what the pump accepts: what every solver may know."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CORRECTION_ABOVE",
    "CORRECTION_FACTOR",
    "CORRECTION_TARGET",
    "COSINE",
    "MAX_BASAL",
    "MAX_BOLUS",
    "MEAL",
    "MINUTES_SINCE",
    "PAUSE",
    "READING",
    "SINE",
    "grams_to_cover",
]

MAX_BASAL, MAX_BOLUS = 6.0, 20.0
"""What the pump accepts, U/h and U."""
CORRECTION_ABOVE, CORRECTION_TARGET = 150.0, 140.0
"""mg/dL."""
CORRECTION_FACTOR = 3.6
"""mg/dL that a unit corrects, over the carbohydrate ratio: 0.2 mmol/L."""
PAUSE = 180.0
"""Minutes without a meal after which a reading is corrected."""
READING, MEAL, MINUTES_SINCE, SINE, COSINE = 0, 3, 4, 5, 6
"""Components of an observation."""


def grams_to_cover(observations: Any) -> Any:
    """What the clinic gives a bolus for (E,), g of carbohydrates, at observations (E, d).

    Those of a meal that is announced, and what a correction is worth: down to 140 mg/dL of readings
    above 150, unless a meal was announced in the last three hours. Arrays of NumPy, or tensors of
    torch.
    """
    reading, meal = observations[:, READING], observations[:, MEAL]
    is_corrected = (reading > CORRECTION_ABOVE) * (observations[:, MINUTES_SINCE] >= PAUSE)
    excess = (reading - CORRECTION_TARGET) * is_corrected
    return (meal + excess / CORRECTION_FACTOR) * (meal > 0.0)
