"""A run on a task whose agents differ in dynamics, from the command line to its record."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rmdp_bench import load_solution
from rmdp_bench.cli import main
from rmdp_bench.evaluation import roll_out_pairs
from rmdp_bench.evaluation.pairs import percent
from rmdp_bench.runs.records import read_result
from rmdp_bench.tasks import get_online_task
from tests.helpers.submission_toys import edit_json

TASK = "Glucose-n100-k1-v0"


def test_a_run_is_scored_on_all_patients(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "basal_bolus", TASK, "--transitions", "400000", "--out", str(tmp_path)]
    assert main([*arguments, "--set", "n_points=2"]) == 0
    output = " ".join(capfd.readouterr().out.split())
    assert "100 that of everybody's own" in output and "Percent of a perfect" not in output

    folder = tmp_path / TASK / "basal_bolus" / "seed-0"
    result = read_result(folder / "result.json")
    assert result.transitions_counted == 4 * 100 * 864 <= 400_000
    assert len(result.agent_returns) == 100 and result.share_of_ceiling is None
    assert result.measures is not None
    shares = [result.measures[f"time_{where}_range"] for where in ("in", "below", "above")]
    assert sum(shares) == pytest.approx(1.0) and all(0.0 < share < 1.0 for share in shares)

    with np.load(folder / "welfare.npz") as arrays:
        inside = arrays["measure_time_in_range"]
    assert inside.shape == (100, 1)
    assert inside.mean() == pytest.approx(result.measures["time_in_range"])
    assert main(["score", str(tmp_path)]) == 0
    assert "time in range" in " ".join(capfd.readouterr().out.split())
    other = shutil.copytree(folder, folder.with_name("seed-1"))  # two seeds that chose the same
    for name in ("run.json", "result.json"):
        edit_json(other / name, seed=1)
    about = ["--author", "A", "--method", "m", "--licence", "MIT", "--online-evaluations", "0"]
    about += ["--difference", "a fraction of the transitions", "--name", "controls"]
    assert main(["submit", str(tmp_path), *about, "--out", str(tmp_path / "board")]) == 0

    solution = load_solution(folder / "solution")
    task = get_online_task(TASK)
    again = roll_out_pairs(task, solution.policies, n_episodes=20, agents=[3, 77])
    own = np.array(result.agent_returns)[[3, 77]]
    np.testing.assert_allclose(percent(task, again.returns.mean(axis=2)[:, 0]), own, rtol=1e-3)


def test_solvers_of_represented_mdps_refuse_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for solver in ("em_plus", "parameter_cover", "affinity_grouping"):
        assert main(["run", solver, TASK, "--out", str(tmp_path / solver)]) == 2
        message = capfd.readouterr().err
        assert "differ in dynamics" in message and message.count("\n") == 1
        assert not (tmp_path / solver).exists()
