"""Going on with some of the seeds and some of the representatives of a learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

BY_SEED = ("mean", "variance", "count", "hidden_weight", "hidden_bias")
"""Last parts of the names of arrays that have no axis of representatives."""


def narrow(
    arrays: Arrays, seeds: npt.NDArray[np.intp], n_before: int, n_after: int
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a learner's state for chosen seeds and its first representatives.

    Args:
        arrays: as `Learner.get_state` gives them.
        seeds: rows of the leading axis that remain, in this order.
        n_before: number of representatives.
        n_after: how many of them remain.
    """
    return {name: _narrow(name, array[seeds], n_before, n_after) for name, array in arrays.items()}


def _narrow(name: str, array: npt.NDArray[Any], n_before: int, n_after: int) -> npt.NDArray[Any]:
    if name.rsplit(".", 1)[-1] in BY_SEED:
        return array
    if name == "average_returns":
        return array[:, :, :n_after].copy()
    return array[:, : array.shape[1] // n_before * n_after].copy()
