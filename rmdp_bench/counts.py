"""Counts as people write them: 300000, 300k, 3e5.

Like `rmdp_bench.cores`, it is run before any library is loaded.
"""

from __future__ import annotations

import re
from decimal import Decimal

_COUNT = re.compile(r"([+-]?\d[\d_]*(?:\.\d+)?)(?:[eE]\+?(\d{1,2}))?([kM]?)", flags=re.ASCII)
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


def parse_count(text: str | int) -> int:
    """Read a count: digits, with a fraction, an exponent or one of the units k and M.

    Args:
        text: as it was typed; or an integer, such as an option's default.

    Raises:
        ValueError: something else, or not exactly an integer.
    """
    found = _COUNT.fullmatch(str(text).strip())
    if found is not None:
        digits, exponent, unit = found.groups()
        value = Decimal(digits.replace("_", "")).scaleb(int(exponent or 0)) * _UNITS[unit]
        if value == value.to_integral_value():
            return int(value)
    raise ValueError(
        f"{text!r} is not a valid integer; a million is written 1000000, 1e6, 1000k or 1M"
    )
