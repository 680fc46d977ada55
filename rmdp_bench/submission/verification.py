"""What the verifier found: `verification.json`, written by `rmdp-bench verify --full --record`.

Each row of a submission, a solver on a task, is

    verified    its policies were played again on held-out episodes and reach what is claimed
    recipe      there are no files to play, a planner for example, but the solver is one of the
                suite: its command reproduces it (if it was run again, the seeds say what it gave)
    reported    neither: it is what the submitter says

A finding holds for the files it was made from.  It names their hash; a row whose files have changed
since is reported again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from rmdp_bench.submission.bounded import read_object, sha256_of
from rmdp_bench.submission.format import Seed, read_submission, validated
from rmdp_bench.submission.texts import Name, SolverName, TaskName

VERIFICATION_FILE = "verification.json"
MAX_FILE_BYTES = 64 * 2**20
Status: TypeAlias = Literal["verified", "recipe", "reported"]


class SeedFinding(BaseModel):
    """One seed that was played again; social welfare, percent."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    seed: Seed
    claimed: float
    """In the record."""
    replayed: float
    """On the episodes of the record."""
    measured: float
    """On the held-out episodes."""
    interval: tuple[float, float]
    """Around it; a claim outside of it is refused."""


class RowFinding(BaseModel):
    """What is known about one row."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    task: TaskName
    solver: SolverName
    status: Status
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the files it was made from, see `row_sha256`; None if there is no finding."""
    round: int | None = Field(default=None, ge=0)
    """Of held-out seeds; None if nothing was played."""
    n_episodes: int | None = Field(default=None, ge=1)
    """Held-out episodes of every policy (offline: agent)."""
    command: str | None = None
    """That reproduces a recipe."""
    seeds: list[SeedFinding] = []
    """Empty if nothing was played."""
    versions: dict[str, str] = {}
    """Of Python and packages with which it was played."""

    @property
    def mark(self) -> str:
        """The status as tables show it, which say of a recipe if nobody has run it again."""
        not_run = self.status == "recipe" and not self.seeds
        return f"{self.status}, not run" if not_run else self.status


class Verification(BaseModel):
    """verification.json."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    schema_version: Literal[1]
    name: Name
    """Of the submission."""
    rows: list[RowFinding]


def read_verification(folder: Path) -> dict[tuple[str, str], RowFinding]:
    """What is known about each row of a submission.

    Returns:
        (task, solver) -> finding, in the order of submission.toml. A row without a finding, or
        whose files have changed since it was made, is "reported" and has nothing else.

    Raises:
        ValueError: submission.toml or verification.json is damaged.
    """
    submission = read_submission(folder)
    path = folder / VERIFICATION_FILE
    found: dict[tuple[str, str], RowFinding] = {}
    if path.exists() or path.is_symlink():
        verification = validated(Verification, read_object(path), path)
        if verification.name != submission.name:
            raise ValueError(f"{path}: name is {verification.name!r}, not {submission.name!r}")
        found = {(row.task, row.solver): row for row in verification.rows}
    rows = {}
    for row in submission.rows:
        finding = found.get((row.task, row.solver))
        if finding is None or finding.sha256 != row_sha256(folder, row.task, row.solver):
            finding = RowFinding(task=row.task, solver=row.solver, status="reported")
        rows[row.task, row.solver] = finding
    return rows


def row_sha256(folder: Path, task: str, solver: str) -> str:
    """Hash of names and contents of all files of a row.

    Raises:
        ValueError: a file is not a plain one, or too large.
    """
    base = folder / task / solver
    hashes = {
        path.relative_to(base).as_posix(): sha256_of(path, MAX_FILE_BYTES)
        for path in base.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
