"""Recipes: rows without policies, of solvers of the suite, which their command makes again.

Training again on the machine of the record gives the same bits.  Another processor rounds
differently, and the run is another draw of the same random process; then a seed's claim may lie as
far from its repetition as two seeds do, of those that are claimed or of those that were repeated.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rmdp_bench.results.records import RESULT_FILE, Result, read_result
from rmdp_bench.submission.budget import Budget
from rmdp_bench.submission.comparison import TOLERANCE, WIDENING
from rmdp_bench.submission.quick import Checked, recipe_arguments
from rmdp_bench.submission.sandbox import cpu_of_children
from rmdp_bench.submission.verification import RowFinding, SeedFinding
from rmdp_bench.system import versions
from rmdp_bench.tasks import get_task

_PROGRAM = """
import resource, sys
seconds = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
from rmdp_bench.cli import main
sys.exit(main())
"""


def run_again(
    checked: Checked,
    findings: Sequence[RowFinding],
    report: Callable[[str], None],
    budget: Budget | None = None,
) -> list[RowFinding]:
    """Run the commands of all recipes and compare what they give with the claims.

    Args:
        checked: from `check_submission`.
        findings: of its rows, in their order; only those of recipes are touched.
        report: gets a line for each seed.
        budget: of the submission; None: the usual one. What its records say of times counts
            nothing.

    Returns:
        The findings, where those of recipes have their seeds: `replayed` and `measured` are both
        the social welfare of the repetition.

    Raises:
        ValueError: a command fails, the budget is used up, or a claim is not what a command gives;
            names the row, seed and values.
    """
    budget = budget or Budget()
    repeated = []
    for row, finding in zip(checked.submission.rows, findings, strict=True):
        if finding.status != "recipe":
            repeated.append(finding)
            continue
        records = checked.records[finding.task, finding.solver]
        arguments = recipe_arguments(row, records, get_task(row.task))
        welfare = _run(arguments, records, budget)
        seeds = compare_seeds([record.social_welfare for record in records], welfare)
        name = f"{finding.task}/{finding.solver}"
        for seed in seeds:
            report(
                f"{name}/seed-{seed.seed}: claimed {seed.claimed:.2f}, repeated {seed.measured:.2f}"
            )
            low, high = seed.interval
            if not low <= seed.claimed <= high:
                raise ValueError(
                    f"{checked.directory(finding.task, finding.solver, seed.seed)}: claimed is a "
                    f"social welfare of {seed.claimed:.3f}, but its command gives "
                    f"{seed.measured:.3f}, interval {low:.3f} to {high:.3f}"
                )
        repeated.append(finding.model_copy(update={"seeds": seeds, "versions": versions()}))
    return repeated


def compare_seeds(claimed: Sequence[float], repeated: Sequence[float]) -> list[SeedFinding]:
    """Set claims beside repetitions of the same seeds 0, 1, ...; social welfare, percent."""
    spread = max(np.ptp(claimed), np.ptp(repeated))
    allowed = WIDENING * float(spread) + TOLERANCE
    return [
        SeedFinding(
            seed=seed,
            claimed=claim,
            replayed=value,
            measured=value,
            interval=(value - allowed, value + allowed),
        )
        for seed, (claim, value) in enumerate(zip(claimed, repeated, strict=True))
    ]


def _run(arguments: Sequence[str], records: Sequence[Result], budget: Budget) -> list[float]:
    """Social welfare of each seed, of a process that may take what is left of the budget."""
    cpu_seconds, seconds = budget.left()
    limit = str(math.ceil(cpu_seconds))
    before = cpu_of_children()
    with tempfile.TemporaryDirectory(prefix="rmdp-bench-") as folder:
        command = [sys.executable, "-c", _PROGRAM, limit, *arguments, "--out", folder]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"the command of the recipe takes more than the {seconds:.0f} s that are left of "
                f"--wall-seconds: rmdp-bench {' '.join(arguments)}"
            ) from error
        finally:
            budget.charge(cpu_of_children() - before)
        if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
            raise ValueError(
                f"the command of the recipe takes more than the {limit} s that are left of "
                f"--cpu-seconds: rmdp-bench {' '.join(arguments)}"
            )
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ValueError(
                f"the command of the recipe fails with exit code {done.returncode}, {lines[-1]}: "
                f"rmdp-bench {' '.join(arguments)}"
            )
        base = Path(folder) / records[0].task / records[0].solver
        return [
            read_result(base / f"seed-{record.seed}" / RESULT_FILE).social_welfare
            for record in records
        ]
