"""Numbers that are written the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterable

NOISE_DIGITS = 10
"""Significant digits that machines agree on: sums may differ in their last bits."""


def rounded(value: float | None, digits: int) -> float | None:
    """A number with at most `digits` decimals; None for None, NaN and infinity.

    Rounded twice: what two machines compute as just below and just above a half is first made the
    same, and then falls to the same side.
    """
    if value is None or not math.isfinite(value):
        return None
    return round(float(f"{value:.{NOISE_DIGITS}g}"), digits) + 0.0  # no negative zero


def rounded_all(values: Iterable[float | None], digits: int) -> list[float | None]:
    """`rounded` for each."""
    return [rounded(value, digits) for value in values]
