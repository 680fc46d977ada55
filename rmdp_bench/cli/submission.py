"""`submit` and `verify`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmdp_bench.cli.output import JsonOption, number, print_json, print_table

if TYPE_CHECKING:
    from rmdp_bench.submission import RowMark
    from rmdp_bench.submission.quick import Checked


def submit_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders with runs, at any depth.")],
    name: Annotated[str, typer.Option(help="Of the submission: a-z, 0-9 and hyphens.")],
    out: Annotated[Path, typer.Option(help="Folder in which the submission's folder is made.")],
    author: Annotated[list[str] | None, typer.Option(help="Once for each author.")] = None,
    method: Annotated[str | None, typer.Option(help="The method in a few words.")] = None,
    description: Annotated[str | None, typer.Option(help="A few sentences.")] = None,
    difference: Annotated[
        list[str] | None,
        typer.Option(help="From the task's rules, once for each: the open division."),
    ] = None,
    paper: Annotated[str | None, typer.Option(help="https link.")] = None,
    code: Annotated[str | None, typer.Option(help="https link.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier, such as MIT.")] = None,
    online_evaluations: Annotated[
        int | None,
        typer.Option(help="How often policies were tried in the environment to choose something."),
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Make an existing submission anew, keep what is not given.")
    ] = False,
) -> None:
    """Pack runs as a submission to the leaderboard, and check it."""
    from rmdp_bench.submission.packing import pack

    about: dict[str, Any] = {
        "authors": author or None,
        "method": method,
        "description": description,
        "differences": difference or None,
        "paper": paper,
        "code": code,
        "licence": licence,
        "n_online_evaluations": online_evaluations,
    }
    folder = pack(runs, name, out, about, replace=replace)
    print(f"{folder} is packed and passes the quick check; next: rmdp-bench verify {folder} --full")


def verify_command(
    folder: Annotated[
        Path, typer.Argument(metavar="SUBMISSION_DIR", help="Folder with submission.toml.")
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Play the policies, on held-out episodes as well.")
    ] = False,
    recipes: Annotated[
        bool,
        typer.Option("--recipes", help="Also run the commands of rows without policies again."),
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Play the held-out episodes of the marks again.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write marks of the rows that have none.")
    ] = False,
    marks: Annotated[
        Path | None,
        typer.Option(help="marks.json; by default beside the folder of all submissions."),
    ] = None,
    memory: Annotated[int, typer.Option(help="MiB that the policies of a seed may use.")] = 4096,
    start_seconds: Annotated[
        float, typer.Option(help="Processor time for a seed, beside 1 ms per step.")
    ] = 60.0,
    round_seconds: Annotated[
        float,
        typer.Option(help="Processor time of a row after which no more episodes are held out."),
    ] = 1800.0,
    as_json: JsonOption = False,
) -> None:
    """Check a submission; with --full, measure its policies on episodes that nobody could know."""
    from rmdp_bench.submission import MARKS_FILE, read_marks
    from rmdp_bench.submission.full import check_repetition, measure
    from rmdp_bench.submission.held_out import draw_held_out, repeat_held_out
    from rmdp_bench.submission.marks import add_mark, submission_sha256
    from rmdp_bench.submission.quick import check_submission
    from rmdp_bench.submission.sandbox import Limits

    if not full and (recipes or record or replay):
        raise ValueError("--recipes, --record and --replay go with --full")
    if record and replay:
        raise ValueError("--record writes new marks and --replay repeats old ones: give one")
    if not 1 <= memory <= 2**20 or not 0.0 < start_seconds <= 1e6:
        raise ValueError(f"--memory {memory} or --start-seconds {start_seconds} is out of range")
    if not 0.0 < round_seconds <= 1e8:
        raise ValueError(f"--round-seconds {round_seconds} is out of range")
    marks = folder.resolve().parent.parent / MARKS_FILE if marks is None else marks
    known = read_marks(marks)
    checked = check_submission(folder)
    sha256 = submission_sha256(folder)
    found = known.of(sha256)
    if replay and not found:
        raise ValueError(f"{marks} has no mark of {folder} as it is")
    if full:
        limits = Limits(memory_mib=memory, start_cpu_seconds=start_seconds)
        for row in checked.submission.rows:
            key = row.task, row.solver
            old = found.get(key)
            if (record and old is not None) or (replay and old is None):
                continue
            held_out = draw_held_out(round_seconds)
            if replay and old is not None:
                held_out = repeat_held_out(old)
            mark = measure(checked, row, held_out, recipes=recipes, limits=limits, report=_progress)
            if mark is None:
                continue
            if replay and old is not None:
                check_repetition(old, mark)
            if record:
                if submission_sha256(folder) != sha256:
                    raise ValueError(f"{folder} has changed while it was checked; check it again")
                add_mark(marks, sha256, checked.submission.name, mark)
            found[key] = mark
    _print_marks(checked, found, full=full, as_json=as_json)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def _print_marks(
    checked: Checked, found: Mapping[tuple[str, str], RowMark], *, full: bool, as_json: bool
) -> None:
    from rmdp_bench.submission.recipes import is_recipe, recipe_command

    name, rows = checked.submission.name, checked.submission.rows
    commands = {
        key: recipe_command(records)
        for key, records in checked.records.items()
        if is_recipe(records)
    }
    if as_json:
        documents: list[dict[str, Any]] = []
        for row in rows:
            key = row.task, row.solver
            mark, without = found.get(key), "recipe, not run" if key in commands else "reported"
            documents.append(
                {
                    "task": row.task,
                    "solver": row.solver,
                    "status": without if mark is None else mark.kind,
                    "command": commands.get(key),
                    "mark": None if mark is None else mark.model_dump(mode="json"),
                }
            )
        print_json({"name": name, "full": full, "rows": documents})
        return
    cells = []
    for row in rows:
        mark = found.get((row.task, row.solver))
        status = "recipe, not run" if (row.task, row.solver) in commands else "reported"
        numbers = ["–"] * 4
        if mark is not None:
            status = f"{mark.kind}, lower end" if mark.lower_end_only else mark.kind
            low, high = mark.interval
            numbers = [number(mark.measured, 2), f"[{number(low, 2)}, {number(high, 2)}]"]
            numbers += [str(mark.n_episodes), number(mark.claimed, 2)]
        cells.append([row.task, row.solver, str(len(row.seeds)), *numbers, status])
    columns = ["task", "solver", "seeds", "measured", "95 %", "episodes", "claimed", "status"]
    note = (
        "All checks pass." if full else "The quick check passes; --full plays the policies again."
    )
    note += " Means over seeds, percent."
    recipes = [f"\nrecipe: {command}" for command in commands.values()]
    print_table(name, columns, cells, n_left=2, note=note + "".join(recipes))
