"""What a glucose concentration is worth: Kovatchev's risk, and the ranges that clinics count.

Source: Kovatchev et al. 1997, Diabetes Care 20:1655, and 2006, Diabetes Care 29:2433. With
f = 1.509 (ln(g)^1.084 - 5.381), g in mg/dL, the risk is 10 f^2; it is one of lows where f < 0 and
one of highs where f > 0. It is 0 at 112.5 mg/dL, 7.7 at 70 and at 180, and 100 at 20 and at 600,
which are the ends of the scale here. The ranges are those of the international consensus (Battelino
et al. 2019, Diabetes Care 42:1593): 70 to 180 mg/dL is in range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST, GREATEST = 20.0, 600.0
"""Ends of the scale, mg/dL."""
LOW, HIGH = 70.0, 180.0
"""Ends of the target range, mg/dL."""


def risk(glucose: NDArray[np.float64], low_weight: Any = 0.5) -> NDArray[np.float64]:
    """Risk of glucose concentrations: 2 (w of a low, 1 - w of a high) times Kovatchev's.

    Args:
        glucose: (B,) mg/dL.
        low_weight: w, 0 to 1, a number or (B,); 0.5 gives Kovatchev's risk.

    Returns:
        (B,), 0 to 200.2 max(w, 1 - w).
    """
    # Contiguous: NumPy has other loops, with other last bits, for arrays that are not.
    bounded = np.ascontiguousarray(np.clip(glucose, LEAST, GREATEST))
    scale = 1.509 * (np.log(bounded) ** 1.084 - 5.381)
    weight = 2.0 * np.where(scale < 0.0, low_weight, 1.0 - np.asarray(low_weight))
    return np.asarray(weight * (10.0 * scale * scale))
