"""The registered environments, in groups, and how two steps are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rmdp_bench.envs import (
    ENVIRONMENTS,
    EnvironmentEntry,
)

ALL = [pytest.param(entry, id=entry.id) for entry in ENVIRONMENTS]

_FIRST_OF_ITS_WORLD: dict[tuple[str, Any], EnvironmentEntry] = {}
for _entry in ENVIRONMENTS:
    _world = _entry.kwargs.get("robot", _entry.kwargs.get("world"))
    _FIRST_OF_ITS_WORLD.setdefault((_entry.entry_point, _world), _entry)

REPRESENTED = [pytest.param(e, id=e.id) for e in ENVIRONMENTS if not e.heterogeneous]

HETEROGENEOUS = [pytest.param(e, id=e.id) for e in ENVIRONMENTS if e.heterogeneous]

ONE_PER_WORLD = [pytest.param(entry, id=entry.id) for entry in _FIRST_OF_ITS_WORLD.values()]


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Equal structure, dtypes and bits."""
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, np.ndarray) and left.dtype == object:
        assert left.shape == right.shape, where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert left.tobytes() == right.tobytes(), where
    elif isinstance(left, tuple):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    else:
        assert left == right, where
