"""`submit` and `verify`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmdp_bench.cli.counts import parse_count
from rmdp_bench.cli.output import ExplainOption, JsonOption, number, print_json, print_table, warn
from rmdp_bench.terminal import fit_terminal

if TYPE_CHECKING:
    from rmdp_bench.submission import RowMark
    from rmdp_bench.submission.quick import Checked

RowKey = tuple[str, str]
"""Task and solver."""
_NEEDED = "  [required unless --replace keeps it]"


def submit_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders with runs, at any depth.")],
    name: Annotated[
        str, typer.Option(help="Of the submission: a-z, 0-9 and hyphens, such as my-method-2.")
    ],
    out: Annotated[Path, typer.Option(help="Folder in which the submission's folder is made.")],
    author: Annotated[
        list[str] | None, typer.Option(help=f"Once for each author.{_NEEDED}")
    ] = None,
    method: Annotated[str | None, typer.Option(help=f"The method in a few words.{_NEEDED}")] = None,
    description: Annotated[str | None, typer.Option(help="A few sentences.")] = None,
    difference: Annotated[
        list[str] | None,
        typer.Option(help="From the task's rules, once for each: the open division."),
    ] = None,
    paper: Annotated[str | None, typer.Option(help="https link.")] = None,
    code: Annotated[str | None, typer.Option(help="https link.")] = None,
    licence: Annotated[
        str | None, typer.Option(help=f"SPDX identifier, such as MIT.{_NEEDED}")
    ] = None,
    online_evaluations: Annotated[
        int | None,
        typer.Option(
            parser=parse_count,
            metavar="N",
            help="How often policies were tried in the environment to choose something, 0 for "
            f"never.{_NEEDED}",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Make an existing submission anew, keep what is not given.")
    ] = False,
) -> None:
    """Pack runs as a submission to the leaderboard, and check it."""
    from rmdp_bench.submission.packing import pack
    from rmdp_bench.submission.quick import neighbours

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
    folder = pack(runs, name, out, about, replace=replace, skip=_warn_of_own)
    command = f"rmdp-bench verify {shlex.quote(str(folder))} --full"
    n_others = len(neighbours(out, folder))
    print(
        f"{folder} is packed and passes the quick check; compared with {n_others} other "
        f"submission{'s' * (n_others != 1)} in {out}; next:\n{command}"
    )


def _warn_of_own(directories: Sequence[Path]) -> None:
    """Say which runs are left out: their folders, each once."""
    folders = ", ".join(dict.fromkeys(str(directory.parent) for directory in directories))
    warn(f"left out, as no task of your own can be submitted: {folders}")


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
    device: Annotated[
        str | None,
        typer.Option(
            help="On which --recipes runs them: cpu or cuda; default: that of the records, or cpu "
            "where there is no GPU."
        ),
    ] = None,
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
    memory: Annotated[
        int,
        typer.Option(
            parser=parse_count,
            metavar="N",
            help="MiB that a process that reads or plays its files may use.",
        ),
    ] = 4096,
    cpu_seconds: Annotated[
        float, typer.Option(help="Processor time for the whole submission.")
    ] = 14_400.0,
    wall_seconds: Annotated[float, typer.Option(help="Wall time for the same.")] = 14_400.0,
    start_seconds: Annotated[
        float, typer.Option(help="Processor time of that for a seed, beside 1 ms per step.")
    ] = 60.0,
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a submission; with --full, measure its policies on episodes that nobody could know."""
    from rmdp_bench.files import check_writable
    from rmdp_bench.runs.requests import check_device
    from rmdp_bench.submission import MARKS_FILE, read_marks
    from rmdp_bench.submission.behaviour import compare_behaviour
    from rmdp_bench.submission.full import measure_rows
    from rmdp_bench.submission.marks import submission_sha256
    from rmdp_bench.submission.sandbox.budget import Budget
    from rmdp_bench.submission.sandbox.checker import check_in_sandbox
    from rmdp_bench.submission.sandbox.children import Limits

    if not full and (recipes or record or replay):
        raise ValueError("--recipes, --record and --replay go with --full")
    if device is not None:
        if not recipes:
            raise ValueError("--device goes with --recipes")
        check_device(device)
    if record and replay:
        raise ValueError("--record writes new marks and --replay repeats old ones: give one")
    seconds = {"--cpu-seconds": cpu_seconds, "--wall-seconds": wall_seconds}
    for option, value in (seconds | {"--start-seconds": start_seconds}).items():
        if not 0.0 < value <= 1e7:
            raise ValueError(f"{option} {value:g} is out of range: more than 0, at most 10,000,000")
    if not 1 <= memory <= 2**20:
        raise ValueError(f"--memory {memory} is out of range: 1 to {2**20} MiB")
    if marks is not None and not record and not marks.exists():
        raise ValueError(f"--marks {marks}: there is no such file; only --record makes a new one")
    marks = folder.resolve().parent.parent / MARKS_FILE if marks is None else marks
    if record:
        check_writable(marks.parent)
    known = read_marks(marks)
    budget, limits = Budget(memory, cpu_seconds, wall_seconds), Limits(start_seconds)
    checked = check_in_sandbox(folder, budget)
    sha256 = submission_sha256(folder)
    found = known.of(sha256)
    if replay and not found:
        raise ValueError(f"{marks} has no mark of {folder} as it is")
    alike = compare_behaviour(checked, limits, budget) if full else []
    new: dict[RowKey, RowMark] = {}
    if full:
        new = measure_rows(
            checked,
            found,
            sha256=sha256,
            marks=marks if record else None,
            replay=replay,
            recipes=recipes,
            device=device,
            limits=limits,
            budget=budget,
            report=_progress,
        )
    kept = _say_what_is_kept(found, new, record=record, replay=replay)
    found |= new
    stored = found.keys() - new.keys()
    _print_marks(checked, found, stored, alike, kept, full=full, explain=explain, as_json=as_json)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(fit_terminal(line, sys.stderr), file=sys.stderr)


def _say_what_is_kept(
    found: Mapping[RowKey, RowMark],
    new: Mapping[RowKey, RowMark],
    *,
    record: bool,
    replay: bool,
) -> dict[str, str]:
    """Which numbers were not measured now, and whether those that were are kept."""
    notes = {}
    dates = sorted({mark.date for key, mark in found.items() if key not in new})
    if dates:
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        notes["stored"] = f"stored: measured on {when}, not now."
    if new and not record and not replay:
        notes["kept"] = "These marks are not kept; with --record they are."
    return notes


def _print_marks(
    checked: Checked,
    found: Mapping[RowKey, RowMark],
    stored: Set[RowKey],
    alike: Sequence[str],
    kept: Mapping[str, str],
    *,
    full: bool,
    explain: bool,
    as_json: bool,
) -> None:
    from rmdp_bench.leaderboard.columns import VERIFY_NOTES
    from rmdp_bench.submission.recipes import is_recipe, recipe_command
    from rmdp_bench.submission.sandbox.confinement import describe_layers

    commands = {
        key: recipe_command(records)
        for key, records in checked.records.items()
        if is_recipe(records)
    }
    if as_json:
        missing = {layer.name: layer.missing for layer in describe_layers()}
        document = {"name": checked.submission.name, "full": full, "alike": list(alike)}
        document["rows"] = _row_documents(checked, found, stored, commands)
        print_json(document | {"missing_layers": missing})
        return
    layers = describe_layers()
    passed = (
        "All checks pass." if full else "The quick check passes; --full plays the policies again."
    )
    active = ", ".join(layer.name for layer in layers if layer.missing is None)
    notes = {
        "passed": passed,
        **kept,
        "read": f"Its files were read behind: {active}.",
        "claimed": VERIFY_NOTES["claimed"],
    }
    for layer in layers:
        if layer.missing is not None:
            text = f"missing: {layer.name}, which holds {layer.holds} ({layer.missing})"
            notes[layer.name] = text
    if any(mark.lower_end_only for mark in found.values()):
        notes["lower end"] = (
            "lower end: episodes spread too widely for the processor time that there was; what "
            "counts is the lower end of the 95 % interval."
        )
    notes |= {line: f"for the reviewer: {line}." for line in alike}
    notes |= {command: f"recipe: {command}" for command in commands.values()}
    notes = VERIFY_NOTES | notes if explain else notes
    columns = ["task", "solver", "seeds", "measured", "95 %", "episodes", "claimed", "status"]
    last = "status" if found else "measured"
    print_table(
        checked.submission.name,
        columns,
        _row_cells(checked, found, stored, commands),
        n_left=2,
        optional=["seeds", "episodes", "claimed", "95 %", last],
        notes=notes,
        more="--explain says more.",
        explain=explain,
    )


def _without_mark(key: RowKey, commands: Mapping[RowKey, str]) -> str:
    return "recipe, not run" if key in commands else "reported"


def _row_documents(
    checked: Checked,
    found: Mapping[RowKey, RowMark],
    stored: Set[RowKey],
    commands: Mapping[RowKey, str],
) -> list[dict[str, Any]]:
    """Rows for JSON."""
    documents: list[dict[str, Any]] = []
    for row in checked.submission.rows:
        key = row.task, row.solver
        mark = found.get(key)
        documents.append(
            {
                "task": row.task,
                "solver": row.solver,
                "status": _without_mark(key, commands) if mark is None else mark.kind,
                "command": commands.get(key),
                "mark": None if mark is None else mark.model_dump(mode="json"),
                "stored": key in stored,
            }
        )
    return documents


def _row_cells(
    checked: Checked,
    found: Mapping[RowKey, RowMark],
    stored: Set[RowKey],
    commands: Mapping[RowKey, str],
) -> list[list[str]]:
    """Rows for the table."""
    cells = []
    for row in checked.submission.rows:
        key = row.task, row.solver
        mark, status = found.get(key), _without_mark(key, commands)
        claims = [record.social_welfare for record in checked.records[key]]
        numbers = ["–", "–", "–", number(sum(claims) / len(claims), 2)]
        if mark is not None:
            status = mark.kind if mark.device is None else f"{mark.kind} on {mark.device}"
            status += ", lower end" * mark.lower_end_only + ", stored" * (key in stored)
            low, high = mark.interval
            numbers = [number(mark.measured, 2), f"[{number(low, 2)}, {number(high, 2)}]"]
            numbers += [str(mark.n_episodes), number(mark.claimed, 2)]
        cells.append([*key, str(len(row.seeds)), *numbers, status])
    return cells
