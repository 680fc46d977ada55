"""Data sets are written here as users write them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _packaged_data_are_written_once() -> None:
    """Not here."""
