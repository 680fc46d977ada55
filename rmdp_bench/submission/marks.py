"""Marks: what the verifier found, in one file of the maintainers, `leaderboards/marks.json`.

A mark belongs to a submission as it was: its key is the hash of every byte of the folder.  One
changed byte, and there is no mark.  A submission cannot contain its own.

Each row of a marked submission is

    verified    its policies were played on held-out episodes: the measured score is the verifier's
    recipe      there are no files to play, a planner for example, but the solver is one of the
                suite: its command was run again, and its policies played on held-out episodes

and without a mark

    recipe, not run    as above, but nobody has run the command
    reported           neither: it is what the submitter says

Beside it, `suite.json` lists the submissions of the suite itself: in all others a solver that is
called like one of the suite is shown with the submission's name.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.files import locked, write_json
from rmdp_bench.runs.solver_loading import SOLVERS
from rmdp_bench.submission.bounded import read_object, sha256_of
from rmdp_bench.submission.files import list_all_files
from rmdp_bench.submission.rows import MAX_ARCHIVE_BYTES
from rmdp_bench.submission.schema import Name, Seed, SolverName, TaskName, validated

MARKS_FILE = "marks.json"
SUITE_FILE = "suite.json"
MAX_MARKS_BYTES = 64 * 2**20
Kind: TypeAlias = Literal["verified", "recipe"]
FIRST_HELD_OUT_SEED = EVALUATION_SEED + 2**32
"""Above all seeds that scoring, curves and predictions use."""


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SeedMark(_Model):
    """One seed that was played; social welfare, percent."""

    seed: Seed
    claimed: float
    """In the record."""
    replayed: float
    """On the episodes of the record."""
    measured: float
    """On the held-out episodes."""


class RowMark(_Model):
    """A row that was measured; social welfare, percent, means over seeds."""

    task: TaskName
    solver: SolverName
    kind: Kind
    device: Annotated[str, Field(pattern="^(cpu|cuda)$")] | None = None
    """On which the command of a recipe was run; null: policies were played."""
    claimed: float
    """In the records."""
    measured: float
    """On the held-out episodes."""
    interval: tuple[float, float]
    """95 %, of what is measured."""
    lower_end_only: bool
    """Whether the interval is so wide that only its lower end counts."""
    allowed: float = Field(ge=0.0)
    """Distance of claimed and measured that chance and rounding explain."""
    held_out_seed: int = Field(ge=FIRST_HELD_OUT_SEED, lt=2**62)
    """Of the first held-out episode; episode e has this plus e, for all seeds and policies."""
    n_episodes: int = Field(ge=2)
    """Held-out episodes of every policy (offline: agent)."""
    seeds: list[SeedMark] = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    """When it was measured, in UTC."""
    revision: str | None
    """Commit of the verifier; None if unknown."""
    versions: dict[str, str]
    """Of Python and packages with which it was played."""

    @property
    def score(self) -> float:
        """The number that ranks."""
        return self.interval[0] if self.lower_end_only else self.measured


class SubmissionMark(_Model):
    """What was found of one submission."""

    name: Name
    """Of the submission, for those who read the file."""
    rows: list[RowMark]


class Marks(_Model):
    """marks.json."""

    schema_version: Literal[1] = 1
    marks: dict[str, SubmissionMark] = {}
    """Hash of every byte of a submission -> what was found."""

    def of(self, sha256: str) -> dict[tuple[str, str], RowMark]:
        """(task, solver) -> mark, of the submission with this hash."""
        found = self.marks.get(sha256)
        return {} if found is None else {(row.task, row.solver): row for row in found.rows}


class Suite(_Model):
    """suite.json."""

    schema_version: Literal[1] = 1
    submissions: list[Name] = []
    """Names of the folders whose rows are the suite's own."""


def read_marks(path: Path) -> Marks:
    """Read marks.json; missing: there are none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.exists():
        return Marks()
    return validated(Marks, read_object(path, MAX_MARKS_BYTES), path)


def read_suite(path: Path) -> frozenset[str]:
    """Names in suite.json; missing: there are none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.exists():
        return frozenset()
    return frozenset(validated(Suite, read_object(path), path).submissions)


def add_mark(path: Path, sha256: str, name: str, row: RowMark) -> None:
    """Write the mark of a row into marks.json, in the place of an older one.

    Marks of the same submission as it was before, with another hash, go.

    Raises:
        ValueError: the file is damaged, or another process writes it.
    """
    with locked(path.parent, f"{path} is being written by another process"):
        marks = read_marks(path)
        rows = marks.of(sha256) | {(row.task, row.solver): row}
        kept = {key: mark for key, mark in marks.marks.items() if mark.name != name}
        mark = SubmissionMark(name=name, rows=[rows[key] for key in sorted(rows)])
        in_order = sorted((kept | {sha256: mark}).items(), key=lambda item: item[1].name)
        write_json(path, Marks(marks=dict(in_order)).model_dump(mode="json"))


def submission_sha256(folder: Path) -> str:
    """Hash of names and contents of all files of a submission.

    Raises:
        ValueError: a file is not a plain one, too large, or has no place in a submission.
    """
    hashes = {
        name: sha256_of(path, MAX_ARCHIVE_BYTES) for name, path in list_all_files(folder).items()
    }
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


_SKELETON = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "-": "_"})
"""After case-folding, in which I is i and therefore l: then i and l are one, too."""


def confusable(name: str) -> str:
    """A text that names have in common if they look alike: UTS #39's skeleton, case-folded.

    Letters in another style, wide ones for example, are the same letters.  Names of solvers and
    submissions are ASCII, so of Unicode's list of confusable characters (confusables.txt) five
    entries matter: 0 looks like O, 1, I and | like l, and m like rn.
    """
    return unicodedata.normalize("NFKC", name).casefold().translate(_SKELETON)


_OF_THE_SUITE = {confusable(name) for name in SOLVERS}


def shown_name(solver: str, submission: str, suite: Collection[str]) -> str:
    """What a row is called: a name of the suite, or what looks like one, stands alone only there.

    Args:
        solver: of the row.
        submission: it is in.
        suite: names of the suite's own submissions.
    """
    if submission in suite or confusable(solver) not in _OF_THE_SUITE:
        return solver
    return f"{solver} (by {submission})"
