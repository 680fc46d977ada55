"""The rows of all submissions, with who did what and what was found when they were checked.

Files come from strangers: they are read as the verifier reads them, within bounds and never through
a link.  Whether scores follow from the raw returns is the verifier's question, asked when a
submission arrives, and not asked again for every build.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.leaderboard import DEVICE_CLASSES
from rmdp_bench.leaderboard.columns import rounded
from rmdp_bench.runs.curve import parse_curve
from rmdp_bench.runs.records import Result
from rmdp_bench.runs.summary import Summary, group_results, summarise_group, with_measured
from rmdp_bench.submission import (
    MARKS_FILE,
    SUITE_FILE,
    Marks,
    RowMark,
    SeedMark,
    Submission,
    read_marks,
    read_submission,
    read_suite,
)
from rmdp_bench.submission.files import list_files
from rmdp_bench.submission.marks import shown_name, submission_sha256
from rmdp_bench.submission.recipes import is_recipe, recipe_command
from rmdp_bench.submission.rows import ASSIGNMENT, RowFiles, read_record
from rmdp_bench.submission.sandbox.children import printable
from rmdp_bench.tasks import Task, get_task

Array = NDArray[np.float64]
BROKEN = (ValueError, OSError, ArithmeticError, LookupError, RecursionError)
"""Errors that the files of a submission can be the reason of."""


@dataclass(frozen=True)
class SubmittedRow:
    """A solver on a task, in a submission.

    Attributes:
        key: names it among the rows of its task: submission/solver, with a number if seeds of
            different settings or devices make several rows of one.
        solver: as its folders are called.
        submission: who did what.
        mark: what the verifier found; None: nothing.
        claimed: social welfare that the records say, mean over seeds.
        summary: scores and costs over seeds, measured ones where there are any; its solver is the
            name that is shown.
        results: of each seed.
        files: of its solver on its task, which may have more seeds.
        file_names: of these, sorted.
    """

    key: str
    solver: str
    submission: Submission
    mark: RowMark | None
    claimed: float
    summary: Summary
    results: list[Result]
    files: RowFiles
    file_names: list[str]

    @property
    def task(self) -> Task:
        """The task."""
        return get_task(self.summary.task)

    @property
    def score(self) -> float | None:
        """What ranks: measured by the verifier, or the lower end of its interval."""
        if self.mark is None:
            return None
        return self.summary.social_welfare - (self.mark.measured - self.mark.score)

    @property
    def kind(self) -> str:
        """Verified, recipe or reported."""
        if self.mark is not None:
            return self.mark.kind
        return "recipe" if is_recipe(self.results) else "reported"

    @property
    def status(self) -> str:
        """The mark as tables show it."""
        if self.mark is None:
            return "recipe, not run" if self.kind == "recipe" else "reported"
        return f"{self.kind}, lower end" if self.mark.lower_end_only else self.kind

    @property
    def command(self) -> str | None:
        """That makes a recipe."""
        return recipe_command(self.results) if is_recipe(self.results) else None

    @property
    def seed_marks(self) -> list[SeedMark]:
        """What was found of each seed; empty if nothing was."""
        seeds = {result.seed for result in self.results}
        return [] if self.mark is None else [s for s in self.mark.seeds if s.seed in seeds]

    @property
    def seed_scores(self) -> list[float]:
        """Social welfare of each seed: measured, or what the record says."""
        if self.mark is not None:
            return [seed.measured for seed in self.seed_marks]
        return [result.social_welfare for result in self.results]

    @property
    def device_class(self) -> str:
        """CPU or GPU; "other" for a device that this version does not know."""
        return DEVICE_CLASSES.get(self.summary.device, "other")

    def curves(self) -> list[tuple[Array, Array]]:
        """Transitions (T,) and social welfare (T,) of each seed that has a learning curve.

        Raises:
            ValueError: a curve is damaged.
        """
        curves = []
        for result in self.results:
            text = self.files.curve(result.seed)
            if text is None:
                continue
            columns = parse_curve(text, f"{self.files.where(result.seed)}/curve.csv")
            transitions, welfare = (
                np.array(columns[name]) for name in ("transitions", "social_welfare")
            )
            known = np.isfinite(welfare) & np.isfinite(transitions)
            if known.any():
                curves.append((transitions[known], welfare[known]))
        return curves

    def assignments(self) -> list[Array]:
        """Assignment (n, k) of each seed that has saved policies.

        Raises:
            ValueError: one is damaged or does not fit the task.
        """
        task = self.task
        expected = (task.n_agents, task.n_representatives)
        found = []
        for result in self.results:
            if result.solution is None:
                continue
            assignment = self.files.array(result.seed, ASSIGNMENT, expected)
            if not np.isfinite(assignment).all():
                raise ValueError(
                    f"{ASSIGNMENT} in {self.files.where(result.seed)}: expected finite numbers"
                )
            found.append(assignment.astype(np.float64))
        return found


def read_rows(root: Path, skip: Callable[[str, str], None] | None = None) -> list[SubmittedRow]:
    """All rows of all submissions: those that were measured first, the best first.

    Args:
        root: the folder that has `submissions`, and beside it marks.json and suite.json; missing:
            there are none.
        skip: gets the name of each broken submission, which is left out, and the reason; None: the
            first broken one is an error.

    Raises:
        ValueError: marks.json or suite.json is damaged, or a submission and there is no `skip`; the
            message names the file.
    """
    folder = root / "submissions"
    folders = sorted(folder.iterdir()) if folder.is_dir() else []
    # Hidden are those that `submit` has not finished, or left when it was killed.
    shown = [path for path in folders if path.is_dir() and not path.name.startswith(".")]
    marks, suite = read_marks(root / MARKS_FILE), read_suite(root / SUITE_FILE)
    rows: list[SubmittedRow] = []
    for path in shown:
        try:
            rows += list(_read_submission(path, marks, suite))
        except BROKEN as error:
            if skip is None:
                raise
            skip(path.name, reason_of(error))
    return sorted(rows, key=_place)


def reason_of(error: Exception) -> str:
    """Why a submission is broken, in words that may be printed."""
    return printable(" ".join(f"{error}".split()) or type(error).__name__)


def _place(row: SubmittedRow) -> tuple[bool, float, str]:
    """Sorts rows; never by chance."""
    welfare = row.claimed if row.score is None else row.score
    return row.score is None, -(rounded(welfare, 6) or 0.0), row.key


def ranks(rows: Sequence[SubmittedRow]) -> list[int | None]:
    """Places of the rows of one task: equal scores share one, what was not measured has none."""
    scores = [rounded(row.score, 6) for row in rows]
    known = [score for score in scores if score is not None]
    return [
        None if score is None else 1 + sum(other > score for other in known) for score in scores
    ]


def _read_submission(folder: Path, marks: Marks, suite: Collection[str]) -> Iterator[SubmittedRow]:
    files = list_files(folder)
    submission = read_submission(folder)
    own = marks.of(submission_sha256(folder)) if marks.marks else {}
    for row in submission.rows:
        own_files = RowFiles(folder / row.task / row.solver)
        records = {Path(own_files.where(seed)): read_record(row, own_files, seed)
                   for seed in row.seeds}  # fmt: skip
        prefix = f"{row.task}/{row.solver}/"
        names = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
        mark = own.get((row.task, row.solver))
        for number, group in enumerate(group_results(records).items(), start=1):
            (_, _, settings), results = group
            suffix = "" if number == 1 else f"/{number}"
            summary = summarise_group(settings, list(results.values()))
            claimed = summary.social_welfare
            if mark is not None:
                measured = {seed.seed: seed.measured for seed in mark.seeds}
                summary = with_measured(summary, [measured[seed] for seed in summary.seeds])
            yield SubmittedRow(
                key=f"{submission.name}/{row.solver}{suffix}",
                solver=row.solver,
                submission=submission,
                mark=mark,
                claimed=claimed,
                summary=replace(summary, solver=shown_name(row.solver, submission.name, suite)),
                results=list(results.values()),
                files=own_files,
                file_names=names,
            )
