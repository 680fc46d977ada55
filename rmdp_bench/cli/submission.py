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
    from rmdp_bench.submission.confinement import Layer


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
    """Check a submission; with --full, play its policies on held-out episodes and compare."""
    from rmdp_bench.submission import read_verification
    from rmdp_bench.submission.budget import Budget
    from rmdp_bench.submission.checker import check_in_sandbox
    from rmdp_bench.submission.confinement import describe_layers
    from rmdp_bench.submission.full import initial_findings, play_again, write_verification
    from rmdp_bench.submission.recipes import run_again
    from rmdp_bench.submission.rounds import get_secret
    from rmdp_bench.submission.sandbox import Limits

    if not full and (recipes or record or round_number is not None or secret is not None):
        raise ValueError("--recipes, --record, --round and --secret go with --full")
    seconds = {"--cpu-seconds": cpu_seconds, "--wall-seconds": wall_seconds}
    for option, value in (seconds | {"--start-seconds": start_seconds}).items():
        if not 0.0 < value <= 1e7:
            raise ValueError(f"{option} {value:g} is out of range: more than 0, at most 10,000,000")
    if not 1 <= memory <= 2**20:
        raise ValueError(f"--memory {memory} is out of range: 1 to {2**20} MiB")
    number_and_secret = get_secret(round_number, secret)
    budget = Budget(memory, cpu_seconds, wall_seconds)
    checked = check_in_sandbox(folder, budget)
    if full:
        limits = Limits(start_cpu_seconds=start_seconds)
        findings = play_again(
            checked, *number_and_secret, limits=limits, budget=budget, report=_progress
        )
        if recipes:
            findings = run_again(checked, findings, _progress, budget)
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
        layers = {layer.name: layer.missing for layer in describe_layers()}
        name = checked.submission.name
        print_json({"name": name, "full": full, "rows": rows, "missing_layers": layers})
    else:
        _print_findings(checked.submission, findings, full, describe_layers(), explain)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(fit_terminal(line, sys.stderr), file=sys.stderr)


def _print_findings(
    submission: Submission,
    findings: Sequence[RowFinding],
    full: bool,
    layers: Sequence[Layer],
    explain: bool,
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
    active = ", ".join(layer.name for layer in layers if layer.missing is None)
    notes = {
        "passed": f"{passed} Its files were read behind: {active}.",
        "claimed": "Means over seeds, percent.",
    }
    for layer in layers:
        if layer.missing is not None:
            text = f"missing: {layer.name}, which holds {layer.holds} ({layer.missing})"
            notes[layer.name] = text
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
