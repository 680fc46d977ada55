"""What documents say of 0 and 100 is what scores do."""

from __future__ import annotations

import numpy as np
import pytest

from rmdp_bench import get_task
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
