"""Carry records over from tasks of an earlier version, whose returns are scored otherwise now.

    python -m scripts.carry_over_records leaderboards/submissions/*      submissions, in place
    python -m scripts.carry_over_records runs --out runs-v1              runs: copies in OUT

A record of a retired task becomes one of its successor: the scores are computed anew from the raw
returns beside it, everything else stays.  Records of other tasks are copied as they are.  Of a
submission, manifest and submission.toml are written anew, and its README.md names the new tasks.
Its mark is that of other bytes, so that it has to be verified again.  A record of a world that is
no more is refused.  The same records give the same bytes.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import tempfile
from pathlib import Path

from rmdp_bench.files import read_json, write_text
from rmdp_bench.runs.records import RESULT_FILE, Result, make_result, write_result
from rmdp_bench.runs.running import score_solution
from rmdp_bench.submission.bounded import MAX_ARRAY_BYTES, read_arrays
from rmdp_bench.submission.packing import pack, run_directories
from rmdp_bench.submission.schema import SUBMISSION_FILE
from rmdp_bench.submission.scores import any_solution, read_evaluation
from rmdp_bench.tasks import get_task, retired_tasks

_NOT_SCORES = ("returns", "mean_return", "prediction", "factor_correlation", "evaluation_seconds")
"""Of the offline scores: what does not depend on how returns are normalised."""


def carry_over(directory: Path, out: Path) -> Path:
    """Copy a run directory to OUT/TASK/SOLVER/seed-S, as a record of the task that is scored now.

    Raises:
        ValueError: the record is damaged, or of a task whose world is no more.
    """
    path = directory / RESULT_FILE
    document = read_json(path)
    retired = retired_tasks().get(str(document.get("task")))
    if retired is not None:
        if not retired.same_world:
            raise ValueError(f"{path}: {document['task']} is retired: {retired.reason}")
        document["task"] = retired.successor
        task, result = get_task(retired.successor), Result.model_validate(document)
        arrays = directory / (result.welfare_matrix or result.returns or "")
        read = functools.partial(read_arrays, arrays, MAX_ARRAY_BYTES)
        evaluation = read_evaluation(task, result, read, str(arrays))
        scores = score_solution(task, any_solution(len(result.agent_returns)), evaluation)
        kept = {name: document["offline"][name] for name in _NOT_SCORES}
        document |= scores | {"offline": scores["offline"] | kept}
    result = make_result(document, path)
    target = out / result.task / result.solver / f"seed-{result.seed}"
    shutil.copytree(directory, target)
    write_result(target, result)
    return target


def carry_over_submission(folder: Path) -> int:
    """Rewrite a submission in place; the number of its records that were carried over.

    Raises:
        ValueError: as in `carry_over`; nothing has changed then.
    """
    with tempfile.TemporaryDirectory() as scratch, run_directories([folder]) as runs:
        records = sorted(path for run in runs for path in run.rglob(RESULT_FILE))
        old = [path for path in records if read_json(path).get("task") in retired_tasks()]
        if not old:
            return 0
        for path in records:
            carry_over(path.parent, Path(scratch))
        pack([Path(scratch)], folder.name, folder.parent, {}, replace=True)
    about = folder / "README.md"
    if about.is_file():
        text = about.read_text(encoding="utf-8")
        for name, task in retired_tasks().items():
            text = text.replace(name, task.successor) if task.same_world else text
        write_text(about, text)
    return len(old)


def main() -> None:
    """Carry over what is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="where the copies of runs are made")
    arguments = parser.parse_args()
    try:
        for folder in arguments.folders:
            if (folder / SUBMISSION_FILE).is_file():
                print(f"{folder}: {carry_over_submission(folder)} records")
                continue
            if arguments.out is None:
                parser.error(f"{folder} is not a submission; give --out for runs")
            for path in sorted(folder.rglob(RESULT_FILE)):
                print(carry_over(path.parent, arguments.out))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
