"""Which folders saved policies are loaded from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rmdp_bench import Solution, load_solution, save_solution
from rmdp_bench.solution.storage import SOLUTION_FOLDER
from tests.helpers.toys import ScriptedPolicy, discrete_graph

ASSIGNMENT = np.eye(2)[[0, 1, 1]]


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """As a finished run has it."""
    directory = tmp_path / "runs" / "TASK" / "SOLVER" / "seed-0"
    directory.mkdir(parents=True)
    policies = [ScriptedPolicy([0]), ScriptedPolicy([1])]
    solution = Solution(policies, ASSIGNMENT, export=lambda: discrete_graph([0, 1]))
    save_solution(solution, directory / SOLUTION_FOLDER)
    return directory


def test_a_run_directory_is_as_good_as_its_solution(run_directory: Path) -> None:
    for folder in (run_directory, run_directory / SOLUTION_FOLDER, str(run_directory)):
        np.testing.assert_array_equal(load_solution(folder).assignment, ASSIGNMENT)


def test_other_folders_are_refused_in_one_line(run_directory: Path) -> None:
    for folder in (run_directory.parent, run_directory / "no such folder"):
        with pytest.raises(ValueError, match="runs/TASK/SOLVER/seed-0") as caught:
            load_solution(folder)
        assert str(caught.value).startswith(f"{folder} has no assignment.npy, expected the folder")
        assert caught.value.__cause__ is None and caught.value.__context__ is None
