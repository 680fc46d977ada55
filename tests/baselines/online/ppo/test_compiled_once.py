"""The process that compiles gives the same bits as those that load what it has compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.arithmetic

TRAIN = """
import dataclasses, hashlib
from baselines.online import em
from rmdp_bench import RunLog
from rmdp_bench.tasks import get_online_task
task = dataclasses.replace(get_online_task("ResourceGathering-n25-k3-v0"), transitions=4096)
config = dataclasses.replace(em.config_for(task), batch_size=2048)
(solution,) = em.solve(task, config, [0], "cpu", RunLog(task, [0]))
print(hashlib.sha256(solution.export()).hexdigest())
"""


def test_first_run_after_an_installation(tmp_path: Path) -> None:
    """Discrete actions: there the compiler has most to move across calls."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    hashes = [
        subprocess.run(
            [sys.executable, "-c", TRAIN],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbi")) and len(hashes[0]) == 65
    assert hashes[0] == hashes[1]
