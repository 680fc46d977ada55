"""Submissions: folders that hold somebody's results, and what was found when they were checked.

leaderboards/submissions/NAME/
    submission.toml                     who did what: see `Submission`
    manifest.json                       the hash of every file of the rows
    verification.json                   written by the verifier: see `Verification`
    README.md                           optional
    TASK/SOLVER/seed-S/                 as `rmdp-bench run` leaves it
        result.json  curve.csv  welfare.npz or returns.npz  solution/
"""

from __future__ import annotations

from rmdp_bench.submission.format import Row, Submission, read_submission
from rmdp_bench.submission.structure import Manifest
from rmdp_bench.submission.texts import SUBMISSION_NAME
from rmdp_bench.submission.verification import (
    VERIFICATION_FILE,
    RowFinding,
    SeedFinding,
    Status,
    Verification,
    read_verification,
)

__all__ = [
    "SUBMISSION_NAME",
    "VERIFICATION_FILE",
    "Manifest",
    "Row",
    "RowFinding",
    "SeedFinding",
    "Status",
    "Submission",
    "Verification",
    "read_submission",
    "read_verification",
]
