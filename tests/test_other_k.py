"""A budget that is not listed: what the message offers works."""

from __future__ import annotations

import re

import pytest

import rmdp_bench
from rmdp_bench.cli import main
from rmdp_bench.tasks import list_tasks


def test_an_id_with_another_k_names_the_variation() -> None:
    with pytest.raises(ValueError, match="unknown task") as caught:
        rmdp_bench.get_task("ResourceGathering-n25-k4-v0")
    message = str(caught.value)
    assert "did you mean" in message
    assert "`rmdp-bench run SOLVER ResourceGathering-n25-v0 --representatives 4`" in message
    (call,) = re.findall(r"get_task\((.*)\)", message)
    assert call == "'ResourceGathering-n25-v0', 4"
    assert rmdp_bench.get_task("ResourceGathering-n25-v0", 4).n_representatives == 4


@pytest.mark.parametrize(
    "task_id",
    ["ResourceGathering-n25-k26-v0", "ResourceGathering-n25-k0-v0", "ResourceGathering-n25-k4-v1"],
)
def test_no_variation_is_offered_that_there_is_not(task_id: str) -> None:
    with pytest.raises(ValueError, match="unknown task") as caught:
        rmdp_bench.get_task(task_id)
    assert "--representatives" not in str(caught.value)


def test_all_listed_budgets_are_found_by_their_ids() -> None:
    for task in list_tasks():
        if task.track == "online":
            with pytest.raises(ValueError, match="get_task"):
                rmdp_bench.get_task(
                    task.id.replace(f"-k{task.n_representatives}-", f"-k{task.n_agents - 1}-")
                )


def test_at_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "em", "FruitTree-n100-k4-v0"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "FruitTree-n100-v0 --representatives 4`" in error
