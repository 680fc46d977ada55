"""Objectives that have no meaning where a return is negative: said, not left out silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import find_results, read_result
from tests.helpers.online_settings import SMALL

FILE = """
import numpy as np
import rmdp_bench
from tests.helpers.own_world import make

def make_sunk(n_envs):
    return rmdp_bench.represent(
        make(n_envs).env,
        rmdp_bench.LinearPopulation(np.array([[1.0], [2.0]])),
        lambda observations, actions, rewards, following, infos: np.full((len(following), 1), SIGN),
    )

def make_task():
    return rmdp_bench.make_task(
        "line", make_sunk, 1, transitions=256, max_episode_steps=12, n_eval_episodes=2
    )
"""
SET = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]


@pytest.mark.parametrize(
    ("sign", "objective", "is_told"),
    [
        (-1.0, "nash", True),
        (-1.0, "p_mean=-1", True),
        (-1.0, "egalitarian", False),
        (1.0, "nash", False),
    ],
)
def test_no_value_is_said_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sign: float,
    objective: str,
    is_told: bool,
) -> None:
    path, out = tmp_path / "my_task.py", tmp_path / "runs"
    path.write_text(FILE.replace("SIGN", str(sign)), encoding="utf-8")
    arguments: list[Any] = ["run", "em", path, "--objective", objective, "--seeds", "0:2", *SET]
    assert main([str(each) for each in [*arguments, "--out", out]]) == 0
    output = " ".join("".join(capsys.readouterr()).split())
    assert output.count("there is no value of the objective") == is_told
    values = [read_result(found / "result.json").objective_value for found in find_results([out])]
    assert len(values) == 2 and all((value is None) == is_told for value in values)
    assert main(["score", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert ("an agent's return is negative, where it has no meaning" in shown) == is_told
