"""The quick check of a submission, in a confined process; see `sandbox`.

    check_in_sandbox    is what the verifier calls
    main                is the process: `python -m rmdp_bench.submission.sandbox.checker`

The process parses everything.  What the verifier then knows of the submission is what it answers:
the checked description and records, in JSON of a few kilobytes for each seed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rmdp_bench.runs.records import make_result
from rmdp_bench.submission.files import MANIFEST_FILE
from rmdp_bench.submission.quick import Checked, check_submission
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.children import run_in_sandbox
from rmdp_bench.submission.sandbox.confinement import answer_job
from rmdp_bench.submission.schema import SUBMISSION_FILE, Submission, validated

MAX_ANSWER_BYTES = 32 * 2**20
"""Of description and records; the largest submission of the suite has 0.3 MiB."""


def check_in_sandbox(folder: Path, budget: Budget) -> Checked:
    """Do the quick check, `check_submission`, in a confined process.

    Args:
        folder: the submission. Of those beside it, only manifests are read.
        budget: of the submission.

    Raises:
        ValueError: the first thing that is wrong, or the check needs more than it may.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    if not (folder / SUBMISSION_FILE).exists():
        hint = next(
            (f", such as {path.parent}" for path in folder.glob(f"*/{SUBMISSION_FILE}")), ""
        )
        raise ValueError(
            f"{folder} is not the folder of a submission: cannot read {SUBMISSION_FILE} in it; "
            f"give one that has it{hint}"
        )
    path = os.path.abspath(folder)
    cpu_left, _ = budget.left()
    try:
        answer = run_in_sandbox(
            "sandbox.checker",
            {"directory": path},
            readable=[folder, *_manifests_beside(folder)],
            budget=budget,
            cpu_seconds=cpu_left,
            max_bytes=MAX_ANSWER_BYTES,
        )
    except ValueError as error:  # with the folder as the caller calls it
        raise ValueError(str(error).replace(path, str(folder))) from error
    try:
        document = json.loads(answer)
        submission = validated(Submission, document["submission"], folder / SUBMISSION_FILE)
        records = {
            (row.task, row.solver): [
                make_result(record, folder / row.task / row.solver) for record in of_row
            ]
            for row, of_row in zip(submission.rows, document["records"], strict=True)
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # Only if the process is not itself any more.
        raise ValueError(f"{folder}: the process that reads the files is damaged") from error
    return Checked(folder, submission, records)


def _manifests_beside(folder: Path) -> list[Path]:
    """Of the submissions in the same folder, of which nothing else is read."""
    own = folder.resolve()
    paths = [path / MANIFEST_FILE for path in own.parent.iterdir() if path != own]
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def check_job(job: dict[str, Any]) -> bytes:
    """Check the submission of a job, in this process.

    Args:
        job: directory, absolute.

    Returns:
        JSON with the submission and, for each row, the records.

    Raises:
        ValueError: the first thing that is wrong.
    """
    checked = check_submission(Path(job["directory"]))
    return json.dumps(
        {
            "submission": checked.submission.model_dump(mode="json"),
            "records": [
                [record.model_dump(mode="json") for record in records]
                for records in checked.records.values()
            ],
        }
    ).encode()


if __name__ == "__main__":
    answer_job(check_job)
