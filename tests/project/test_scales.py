"""What documents say of 0 and 100 is what scores do."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rmdp_bench import get_task, plotting
from rmdp_bench.evaluation.pairs import percent
from rmdp_bench.references import single_and_own
from rmdp_bench.tasks import OfflineTask, list_tasks
from tests.helpers.checkout import ROOT


@pytest.mark.parametrize("page", ["README.md", "docs/scores.md", "docs/glucose.md"])
def test_the_scale_of_patients_is_as_written(page: str) -> None:
    formula = "100 (R1 - R_i) / (R1 - Rown)"
    assert formula in (ROOT / page).read_text(encoding="utf-8")
    task = get_task("Glucose-n100-k3-v0")
    steps = task.max_episode_steps
    known = single_and_own(task.env_id)
    assert known is not None
    r_1, r_own = (-returns / steps for returns in known)  # the reward of a step is minus its risk
    for r_i in (r_1, r_own, 2.0, 12.0):
        expected = 100 * (r_1 - r_i) / (r_1 - r_own)
        assert percent(task, np.array(-r_i * steps)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("page", ["README.md", "docs/scores.md"])
def test_tasks_are_called_unranked_for_as_long_as_they_are(page: str) -> None:
    """If this fails, what counts as 100 is measured: say so there."""
    of_robots = {
        task.unranked
        for task in list_tasks()
        if isinstance(task, OfflineTask) and task.env_id == "rmdp/HalfCheetahHet-n500-v1"
    }
    said = "not ranked" in (ROOT / page).read_text(encoding="utf-8")
    assert of_robots and said == (None not in of_robots)


def test_what_decides_of_scales_and_forms_is_in_one_place() -> None:
    """The unit of welfare, and whether every policy plays in every agent's world."""
    assert get_task("HopperVel-n100-k2-v0").scale in plotting.WELFARE_LABEL
    both = re.compile(r"OnlineTask\)\s+and\s+[\w.]+\.heterogeneous\b")
    unit = "% of a perfect episode"
    files = [
        p for part in ("rmdp_bench", "baselines", "scripts") for p in (ROOT / part).rglob("*.py")
    ]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in files}
    assert [path for path in texts if both.search(texts[path])] == [
        "rmdp_bench/evaluation/pairs.py"
    ]
    assert [path for path in texts if unit in texts[path]] == ["rmdp_bench/tasks.py"]
