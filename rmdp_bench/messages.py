"""Values in messages: one line, however large they are."""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_SHOWN = 100
"""Characters of a value."""
MAX_NUMBERS = 4
"""Of an array, above which only its shape is shown."""


def shown(value: Any) -> str:
    """A value as messages show it: as `repr` does, but one line, and cut if it is long."""
    if isinstance(value, np.ndarray) and value.size > MAX_NUMBERS:
        return f"an array of shape {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({type(value).__name__})"
