"""Submissions: folders that hold somebody's results, and what was found when they were checked.

leaderboards/submissions/NAME/
    submission.toml                     who did what: see `Submission`
    manifest.json                       hashes of the files of the rows, and of each seed
    README.md                           optional
    TASK/SOLVER/                        a row: see `rows`
        records.json  arrays.npz  policies.zip
leaderboards/marks.json                 written by the verifier: see `marks`
leaderboards/suite.json                 names of the suite's own submissions
"""

from __future__ import annotations

from rmdp_bench.submission.files import Manifest
from rmdp_bench.submission.marks import (
    MARKS_FILE,
    SUITE_FILE,
    Marks,
    RowMark,
    SeedMark,
    Suite,
    read_marks,
    read_suite,
)
from rmdp_bench.submission.schema import SUBMISSION_NAME, Row, Submission, read_submission

__all__ = [
    "MARKS_FILE",
    "SUBMISSION_NAME",
    "SUITE_FILE",
    "Manifest",
    "Marks",
    "Row",
    "RowMark",
    "SeedMark",
    "Submission",
    "Suite",
    "read_marks",
    "read_submission",
    "read_suite",
]
