"""Checks of settings that solvers share."""

from __future__ import annotations

import math
from typing import Any


def check_range(config: Any, low: float, high: float, *names: str) -> None:
    """Refuse fields of a configuration that are not from `low` to `high`.

    Raises:
        ValueError: names the field, its value and the range.
    """
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high or math.isinf(value):
            bounds = f"at least {low:g}, finite" if math.isinf(high) else f"{low:g} to {high:g}"
            raise ValueError(f"{name} is {value}; expected {bounds}")
