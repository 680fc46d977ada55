"""A small honest submission, and ways to change one so that everything still fits together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.evaluation import Evaluation
from rmdp_bench.files import write_json
from rmdp_bench.runs import make_request, run
from rmdp_bench.runs.running import score_solution
from rmdp_bench.solution import load_solution
from rmdp_bench.submission import RowMark, read_marks
from rmdp_bench.submission.files import write_manifest
from rmdp_bench.submission.marks import submission_sha256
from rmdp_bench.submission.packing import pack
from rmdp_bench.tasks import get_task

ROOT = Path(__file__).resolve().parent.parent
TASK = "ResourceGathering-n25-k3-v0"
SOLVER = "evolution_strategies"
ROW = f"{TASK}/{SOLVER}"
ABOUT: dict[str, Any] = {
    "authors": ["Ada Ångström", "李四"],
    "method": "evolution strategies",
    "differences": ["trained on 10,000 transitions"],
    "licence": "MIT",
    "n_online_evaluations": 0,
}


def run_example(out: Path) -> Path:
    """Two seeds of the example, trained for a moment."""
    request = make_request(
        str(ROOT / "examples" / "evolution_strategies.py"),
        TASK,
        seeds=(0, 1),
        out=out,
        transitions=10_000,
        settings=["n_directions=8"],
    )
    run(request)
    return out


def make_submission(folder: Path) -> Path:
    """Two seeds of the example, packed."""
    return pack([run_example(folder / "runs")], "honest", folder / "submissions", ABOUT)


def copy_of(submission: Path, folder: Path) -> Path:
    """A copy in a folder of its own."""
    target = folder / "submissions" / submission.name
    shutil.copytree(submission, target, symlinks=True)
    return target


def mark_of(submission: Path, task: str, solver: str) -> RowMark | None:
    """What marks.json beside the folder of submissions says of a row as it is."""
    marks = read_marks(submission.parent.parent / "marks.json")
    return marks.of(submission_sha256(submission)).get((task, solver))


def edit_json(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    write_json(path, json.loads(path.read_text()) | changes)


def claim(seed_folder: Path, change: Callable[[Any], Any]) -> None:
    """Forge welfare.npz, with a record and a manifest that agree with it."""
    with np.load(seed_folder / "welfare.npz") as arrays:
        matrix, lengths = change(arrays["welfare_matrix"]), arrays["episode_lengths"]
    np.savez(seed_folder / "welfare.npz", welfare_matrix=matrix, episode_lengths=lengths)
    record = json.loads((seed_folder / "result.json").read_text())
    evaluation = Evaluation(matrix, matrix[:, :, None], lengths, 2**31)
    solution = load_solution(seed_folder / "solution")
    scores = score_solution(get_task(record["task"]), solution, evaluation)
    edit_json(seed_folder / "result.json", **scores)
    write_manifest(seed_folder.parents[2])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command line is refused."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("rmdp-bench: error: ")
    assert lines[0].isprintable()
    return lines[0]
