"""What the tests of sweeps share."""

from __future__ import annotations

import os
import sys

import pytest

from tests.helpers.checkout import ROOT


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(ROOT)]))
