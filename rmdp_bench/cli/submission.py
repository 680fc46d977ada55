"""`submit` and `verify`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmdp_bench.cli.counts import parse_count
from rmdp_bench.cli.output import ExplainOption, JsonOption, number, print_json, print_table
from rmdp_bench.terminal import fit_terminal

if TYPE_CHECKING:
    from rmdp_bench.submission import RowFinding, Submission


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
        typer.Option(
            parser=parse_count,
            metavar="N",
            help="How often policies were tried in the environment to choose something.",
        ),
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
    command = f"rmdp-bench verify {shlex.quote(str(folder))} --full"
    print(f"{folder} is packed and passes the quick check; next: {command}")


def verify_command(
    folder: Annotated[
        Path, typer.Argument(metavar="SUBMISSION_DIR", help="Folder with submission.toml.")
    ],
    full: Annotated[bool, typer.Option("--full", help="Play the policies again.")] = False,
    recipes: Annotated[
        bool,
        typer.Option("--recipes", help="Also run the commands of rows without policies again."),
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write verification.json into the folder.")
    ] = False,
    round_number: Annotated[
        int | None, typer.Option("--round", help="Of held-out seeds; the newest that is known.")
    ] = None,
    secret: Annotated[
        Path | None, typer.Option(help="File with the secret of an open round.")
    ] = None,
    memory: Annotated[
        int,
        typer.Option(
            parser=parse_count, metavar="N", help="MiB that the policies of a seed may use."
        ),
    ] = 4096,
    start_seconds: Annotated[
        float, typer.Option(help="Processor time for a seed, beside 1 ms per step.")
    ] = 60.0,
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a submission; with --full, play its policies on held-out episodes and compare."""
    from rmdp_bench.submission import read_verification
    from rmdp_bench.submission.full import initial_findings, play_again, write_verification
    from rmdp_bench.submission.quick import check_submission
    from rmdp_bench.submission.recipes import run_again
    from rmdp_bench.submission.rounds import get_secret
    from rmdp_bench.submission.sandbox import Limits

    if not full and (recipes or record or round_number is not None or secret is not None):
        raise ValueError("--recipes, --record, --round and --secret go with --full")
    if not 1 <= memory <= 2**20 or not 0.0 < start_seconds <= 1e6:
        raise ValueError(f"--memory {memory} or --start-seconds {start_seconds} is out of range")
    number_and_secret = get_secret(round_number, secret)
    checked = check_submission(folder)
    if full:
        limits = Limits(memory_mib=memory, start_cpu_seconds=start_seconds)
        findings = play_again(checked, *number_and_secret, limits=limits, report=_progress)
        if recipes:
            findings = run_again(checked, findings, _progress)
    else:
        known = read_verification(folder)
        findings = [
            finding if recorded.status == "reported" else recorded
            for finding, recorded in zip(initial_findings(checked), known.values(), strict=True)
        ]
    if record:
        write_verification(checked, findings)
    if as_json:
        rows = [finding.model_dump(mode="json") for finding in findings]
        print_json({"name": checked.submission.name, "full": full, "rows": rows})
    else:
        _print_findings(checked.submission, findings, full, explain)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(fit_terminal(line, sys.stderr), file=sys.stderr)


def _print_findings(
    submission: Submission, findings: Sequence[RowFinding], full: bool, explain: bool
) -> None:
    columns = ["task", "solver", "seeds", "claimed", "measured", "intervals", "status"]
    rows = [
        [
            finding.task,
            finding.solver,
            str(len(row.seeds)),
            _mean([seed.claimed for seed in finding.seeds]),
            _mean([seed.measured for seed in finding.seeds]),
            _mean([seed.interval[1] - seed.measured for seed in finding.seeds], "± "),
            finding.status,
        ]
        for row, finding in zip(submission.rows, findings, strict=True)
    ]
    passed = (
        "All checks pass." if full else "The quick check passes; --full plays the policies again."
    )
    notes = {"passed": passed, "claimed": "Means over seeds, percent."}
    commands = [finding.command for finding in findings if finding.command]
    notes |= {command: f"recipe: {command}" for command in commands}
    measured = any(finding.seeds for finding in findings)
    optional = ["seeds", "intervals", "claimed", "status" if measured else "measured"]
    print_table(
        *(submission.name, columns, rows),
        n_left=2,
        optional=optional,
        notes=notes,
        more="--explain prints the recipes.",
        explain=explain,
    )


def _mean(values: Sequence[float], sign: str = "") -> str:
    return sign + number(sum(values) / len(values), 2) if values else "–"
