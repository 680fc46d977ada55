"""What tests of runs share."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from rmdp_bench.cli import main
from tests.helpers.stopping import TASK, WALK, outcome


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the run leaves that nobody stops."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "walk.py").write_text(WALK)
    with contextlib.chdir(folder):
        assert main(["run", "walk.py", TASK, "--seeds", "0:2"]) == 0
    return outcome(str(folder / "runs"))
