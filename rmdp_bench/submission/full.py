"""The full check: the policies of every row are played, on held-out episodes and on the known."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rmdp_bench.evaluation.pairs import plays_pairs
from rmdp_bench.runs.records import Result
from rmdp_bench.submission.comparison import (
    N_NUDGES,
    TOLERANCE,
    Comparison,
    FloatArray,
    compare,
    compare_profiles,
    is_exact,
    rounding_is_chance,
)
from rmdp_bench.submission.held_out import (
    HeldOut,
    draw_held_out,
    play_in_rounds,
    repeat_held_out,
)
from rmdp_bench.submission.marks import (
    Kind,
    RowMark,
    SeedMark,
    add_mark,
    submission_sha256,
)
from rmdp_bench.submission.quick import Checked
from rmdp_bench.submission.recipes import (
    check_recipes,
    is_recipe,
    recipe_device,
    run_again,
)
from rmdp_bench.submission.replay import EpisodeReturns
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.children import Limits, play_in_sandbox
from rmdp_bench.submission.schema import Row
from rmdp_bench.submission.scores import welfare_range
from rmdp_bench.system import git_revision, versions
from rmdp_bench.tasks import OnlineTask, Task, get_task


def can_be_played(records: list[Result]) -> bool:
    """Whether all seeds of a row have their policies."""
    return all(record.solution is not None for record in records)


def measure_rows(
    checked: Checked,
    known: Mapping[tuple[str, str], RowMark],
    *,
    sha256: str,
    marks: Path | None = None,
    replay: bool = False,
    recipes: bool = False,
    device: str | None = None,
    limits: Limits,
    budget: Budget,
    report: Callable[[str], None],
) -> dict[tuple[str, str], RowMark]:
    """Measure the rows of a submission, each on held-out episodes of its own.

    Args:
        checked: from `check_submission`.
        known: (task, solver) -> mark that the submission has.
        sha256: of the folder when it was checked.
        marks: file into which each mark is written as soon as it is made, of rows that have none;
            None: all rows are measured, and nothing is written.
        replay: whether the episodes of the known marks are played again, of rows that have one.
        recipes: as for `measure`, like what follows.
        device: of recipes; None: that of the mark where it is replayed.
        limits: of each process that plays.
        budget: of the submission.
        report: gets a line for each seed.

    Returns:
        The marks of the rows that were measured.

    Raises:
        ValueError: as `measure`; a recipe cannot be run here, which is found before anything is
            measured; a replayed mark does not hold; the folder has changed meanwhile.
    """
    measured = {}
    rows = checked.submission.rows
    if replay:
        rows = [row for row in rows if (row.task, row.solver) in known]
    elif marks is not None:
        rows = [row for row in rows if (row.task, row.solver) not in known]
    old_marks = [known[row.task, row.solver] if replay else None for row in rows]
    devices = [old.device if old and device is None else device for old in old_marks]
    if recipes:
        _check_recipes(checked, rows, devices, budget)
    for place, (row, old, wanted) in enumerate(zip(rows, old_marks, devices, strict=True)):
        mark = measure(
            checked,
            row,
            repeat_held_out(old) if old else draw_held_out(budget.share(len(rows) - place)),
            recipes=recipes,
            device=wanted,
            limits=limits,
            budget=budget,
            report=report,
        )
        if mark is None:
            continue
        if old is not None:
            check_repetition(old, mark)
        if marks is not None:
            if submission_sha256(checked.folder) != sha256:
                raise ValueError(
                    f"{checked.folder} has changed while it was checked; check it again"
                )
            add_mark(marks, sha256, checked.submission.name, mark)
        measured[row.task, row.solver] = mark
    return measured


def _check_recipes(
    checked: Checked, rows: Sequence[Row], devices: Sequence[str | None], budget: Budget
) -> None:
    """Check that all recipes can be run here, before one of them takes hours."""
    records = [checked.records[row.task, row.solver] for row in rows]
    recipes = [
        (own, recipe_device(own, wanted))
        for own, wanted in zip(records, devices, strict=True)
        if not can_be_played(own) and is_recipe(own)
    ]
    check_recipes(recipes, budget)


def measure(
    checked: Checked,
    row: Row,
    held_out: HeldOut,
    *,
    recipes: bool = False,
    device: str | None = None,
    limits: Limits | None = None,
    budget: Budget | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> RowMark | None:
    """Measure a row on held-out episodes, and compare its claims.

    Args:
        checked: from `check_submission`.
        row: one of its rows.
        held_out: the episodes.
        recipes: whether the command of a row without policies is run again, if there is one.
        device: "cpu" or "cuda", on which such a command runs, whatever the records say; None: see
            `recipe_device`.
        limits: of each process that plays; None: the usual ones.
        budget: of the submission; None: the usual one.
        report: gets a line for each round of episodes, and for each seed.

    Returns:
        The mark; None if the row has no policies, and no command that was to be run.

    Raises:
        ValueError: policies fail, act by more than their observation, or a claim is not theirs;
            names the row, seed and values.
    """
    limits, budget = limits or Limits(), budget or Budget()
    records = checked.records[row.task, row.solver]
    kind: Kind
    of_recipe: str | None = None
    if can_be_played(records):
        kind, comparison = "verified", _play(checked, row, held_out, limits, budget, report)
    elif recipes and is_recipe(records):
        of_recipe = recipe_device(records, device)
        if of_recipe != records[0].device:
            name = f"{row.task}/{row.solver}"
            report(f"{name}: its records are of {records[0].device}, it runs on {of_recipe}")
        kind, comparison = "recipe", run_again(checked, row, held_out, budget, of_recipe)
    else:
        return None
    base = checked.folder / row.task / row.solver
    for seed, distances in enumerate(comparison.seeds):
        report(
            f"{row.task}/{row.solver}/seed-{seed}: claimed {distances.claimed:.2f}, measured "
            f"{distances.measured:.2f}"
        )
    try:
        comparison.check()
    except ValueError as error:
        raise ValueError(f"{base}: {error}") from error
    return _make_mark(row, kind, held_out.seed, comparison, of_recipe)


def check_repetition(mark: RowMark, again: RowMark) -> None:
    """Compare a mark with what the same episodes give now.

    On another machine all of them may take another course: two means of so many episodes.

    Raises:
        ValueError: they differ by more than the width of the mark's interval.
    """
    low, high = mark.interval
    if abs(again.measured - mark.measured) > high - low + TOLERANCE:
        raise ValueError(
            f"{mark.task}/{mark.solver}: the mark says {mark.measured:.3f}, interval {low:.3f} to "
            f"{high:.3f}, but the same episodes give {again.measured:.3f}"
        )


def _make_mark(
    row: Row, kind: Kind, first: int, comparison: Comparison, device: str | None
) -> RowMark:
    return RowMark(
        task=row.task,
        solver=row.solver,
        kind=kind,
        device=device,
        claimed=comparison.row.claimed,
        measured=comparison.row.measured,
        interval=comparison.interval,
        lower_end_only=comparison.lower_end_only,
        allowed=comparison.row.allowed,
        held_out_seed=first,
        n_episodes=comparison.n_episodes,
        seeds=[
            SeedMark(seed=seed, claimed=d.claimed, replayed=d.replayed, measured=d.measured)
            for seed, d in enumerate(comparison.seeds)
        ],
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        revision=git_revision(),
        versions=versions(),
    )


def _play(
    checked: Checked,
    row: Row,
    held_out: HeldOut,
    limits: Limits,
    budget: Budget,
    report: Callable[[str], None],
) -> Comparison:
    """Play the saved policies of all seeds."""
    task = get_task(row.task)
    records = checked.records[row.task, row.solver]
    folder = checked.folder / row.task / row.solver
    known: list[EpisodeReturns] = []
    entries: list[FloatArray] = []

    def play(start: int, number: int) -> FloatArray:
        """Held-out episodes; with the first of them the known ones, so that no batch tells."""
        groups = {"held_out": (held_out.seed + start, number)}
        report(
            f"{row.task}/{row.solver}: playing held-out episodes {start} to {start + number - 1} "
            f"of {len(records)} seeds"
        )
        if start == 0:
            groups |= _known(records[0])
        answers = [
            play_in_sandbox(
                *(folder, record.seed, task, groups, limits, budget),
                welfare_only=["held_out"],
                claim=start == 0 and isinstance(task, OnlineTask),
            )
            for record in records
        ]
        for record, (part, claimed) in zip(records, answers, strict=True):
            if start == 0:
                known.append(part["known"])
                entries.append(np.array(record.agent_returns) if claimed is None else claimed)
        return np.stack([part["held_out"].welfare for part, _ in answers])

    played = play_in_rounds(
        play, held_out.n_first, held_out.limit, held_out.cpu_seconds, lambda: budget.cpu_used
    )
    claims = [record.social_welfare for record in records]
    replayed = np.stack([part.welfare for part in known])
    same = [np.abs(a - b.entries).max() <= 1e-6 for a, b in zip(entries, known, strict=True)]
    changes: FloatArray | None = None
    nudged_entries: list[FloatArray | None] = [None] * len(records)
    if not (all(same) and is_exact(claims, replayed)):
        nudged = _play_nudged(folder, records, task, limits, budget, replayed)
        changes = np.stack([np.concatenate([part.welfare for part in own]) for own in nudged])
        nudged_entries = [np.stack([part.entries for part in own]) for own in nudged]
    n_policies = task.n_representatives if plays_pairs(task) else 1
    profiles = [
        compare_profiles(claimed, own.entries, changed, n_policies)
        for claimed, own, changed in zip(entries, known, nudged_entries, strict=True)
    ]
    least, _ = welfare_range(task)
    return compare(claims, replayed, played, changes, profiles, least=least)


def _play_nudged(
    folder: Path,
    records: Sequence[Result],
    task: Task,
    limits: Limits,
    budget: Budget,
    replayed: FloatArray,
) -> list[list[EpisodeReturns]]:
    """The known episodes of every seed, nudged as often as it takes to know what rounding does."""

    def nudge(times: int) -> list[list[EpisodeReturns]]:
        groups = {f"nudged_{i}": _known(records[0])["known"] for i in range(times)}
        seeds = [record.seed for record in records]
        return [
            list(play_in_sandbox(folder, s, task, groups, limits, budget, [*groups])[0].values())
            for s in seeds
        ]

    nudged = nudge(1)
    if not rounding_is_chance(replayed, np.stack([own[0].welfare for own in nudged])):
        more = nudge(N_NUDGES - 1)
        nudged = [[*own, *others] for own, others in zip(nudged, more, strict=True)]
    return nudged


def _known(record: Result) -> Mapping[str, tuple[int, int]]:
    return {"known": (record.evaluation.seed, record.evaluation.n_episodes)}
