"""Messages show large values in few words and keep what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.cli import main
from rmdp_bench.messages import shown
from rmdp_bench.runs import SolverError, make_request, run

GRID = "ResourceGathering-n25-k3-v0"
LARGE: Any = np.arange(1600.0).reshape(40, 40)
SOLVER = """
from dataclasses import dataclass
import numpy as np
import rmdp_bench

class P:
    def reset(self, n_envs): ...
    def act(self, observations): ...

@dataclass(frozen=True)
class Config: ...

def solve(task, config, seeds, device, log):
    {body}
"""


def test_values_are_one_short_line() -> None:
    assert shown(LARGE) == "an array of shape (40, 40)"
    assert shown(np.float64(0.5)) == repr(np.float64(0.5))
    assert shown("text") == "'text'" and shown(None) == "None"
    assert shown(np.array([1, 2])) == "array([1, 2])"
    for value in ([LARGE, LARGE], ["word"] * 99, {"key": LARGE}):
        text = shown(value)
        assert "\n" not in text and len(text) < 120
        assert text.endswith(f"... ({type(value).__name__})")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: rmdp_bench.get_task(GRID, population=LARGE), "such as LinearPopulation(weights)"),
        (
            lambda: gym.make("rmdp/ResourceGathering-n25-v0", population=LARGE),
            "such as LinearPopulation(weights)",
        ),
        (lambda: rmdp_bench.get_task(GRID, LARGE), "expected an integer from 1 to 25"),
        (lambda: rmdp_bench.TargetPopulation(np.ones(3), LARGE), "expected a finite number > 0"),
        (
            lambda: rmdp_bench.represent(
                gym.make("CartPole-v1"), LARGE, lambda *_: np.zeros((1, 1))
            ),
            "such as LinearPopulation(weights)",
        ),
    ],
)
def test_what_was_expected_stands_after_a_large_value(call: Any, expected: str) -> None:
    with pytest.raises(ValueError, match="an array of shape") as caught:
        call()
    message = str(caught.value)
    assert expected in message and "\n" not in message and len(message) < 250


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "return rmdp_bench.Solution([P(), P(), P()], np.eye(3)[np.arange(25) % 3])",
            "expected a list with one Solution for each seed, 1 in all",
        ),
        ("raise ValueError('expected so ' + 'and so ' * 1000)", "ValueError: expected so and so"),
    ],
)
def test_a_solver_that_fails_says_why_and_where(
    body: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(SOLVER.format(body=body))
    request = make_request(str(tmp_path / "mine.py"), GRID, out=tmp_path / "runs")
    with pytest.raises(SolverError) as caught:
        run(request)
    assert expected in str(caught.value)
    assert str(caught.value).endswith(f"(traceback in {request.directory(0) / 'error.txt'})")
    assert len(str(caught.value)) < 450 + len(str(request.directory(0)))


def test_agents_that_cannot_be_counted_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "em", GRID, "--agents", "10"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "has 25 agents and no others: leave it out" in error
