"""The full check: the policies of every row are played again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmdp_bench.files import write_json
from rmdp_bench.results.records import Result
from rmdp_bench.solution import load_assignment
from rmdp_bench.submission.bounded import read_arrays
from rmdp_bench.submission.budget import Budget
from rmdp_bench.submission.comparison import Comparison, FloatArray, compare
from rmdp_bench.submission.quick import Checked, recipe_arguments
from rmdp_bench.submission.rounds import held_out_seed
from rmdp_bench.submission.sandbox import Limits, play_in_sandbox
from rmdp_bench.submission.structure import MAX_ARRAY_BYTES
from rmdp_bench.submission.verification import (
    VERIFICATION_FILE,
    RowFinding,
    SeedFinding,
    Verification,
    row_sha256,
)
from rmdp_bench.system import versions
from rmdp_bench.tasks import Task, get_task

HELD_OUT_EPISODES = 40


def initial_findings(checked: Checked) -> list[RowFinding]:
    """What is known of each row without its policies being played: "recipe" or "reported"."""
    findings = []
    for row in checked.submission.rows:
        records = checked.records[row.task, row.solver]
        ours = records[0].solver_sha256 is None
        recipe = ours and any(record.solution is None for record in records)
        arguments = recipe_arguments(row, records, get_task(row.task))
        findings.append(
            RowFinding(
                task=row.task,
                solver=row.solver,
                status="recipe" if recipe else "reported",
                sha256=row_sha256(checked.folder, row.task, row.solver),
                command=shlex.join(["rmdp-bench", *arguments]) if recipe else None,
            )
        )
    return findings


def play_again(
    checked: Checked,
    round_number: int,
    secret: str,
    *,
    limits: Limits | None = None,
    budget: Budget | None = None,
    n_episodes: int = HELD_OUT_EPISODES,
    report: Callable[[str], None] = lambda line: None,
) -> list[RowFinding]:
    """Play the saved policies of all rows and compare the claims.

    Args:
        checked: from `check_submission`.
        round_number: of the held-out seeds.
        secret: of that round.
        limits: of each seed; None: the usual ones.
        budget: of the submission; None: the usual one.
        n_episodes: held-out episodes of each policy.
        report: gets a line after each seed.

    Returns:
        One finding for each row: verified, or as in `initial_findings` if it has no policies.

    Raises:
        ValueError: policies fail, or a claim is not theirs; names the row, seed and values.
    """
    limits, budget = limits or Limits(), budget or Budget()
    findings = []
    for finding in initial_findings(checked):
        task = get_task(finding.task)
        records = checked.records[finding.task, finding.solver]
        if any(record.solution is None for record in records):
            findings.append(finding)
            continue
        seeds = []
        for record in records:
            directory = checked.directory(finding.task, finding.solver, record.seed)
            episodes = {
                "replayed": (record.evaluation.seed, record.evaluation.n_episodes),
                "held_out": (held_out_seed(secret, task.id), n_episodes),
            }
            played = play_in_sandbox(directory / "solution", task, episodes, limits, budget)
            comparison = _compare(task, record, directory, played["replayed"], played["held_out"])
            try:
                comparison.check()
            except ValueError as error:
                raise ValueError(f"{directory}: {error}") from error
            report(
                f"{finding.task}/{finding.solver}/seed-{record.seed}: claimed "
                f"{comparison.claimed:.2f}, measured {comparison.measured:.2f}"
            )
            seeds.append(
                SeedFinding(
                    seed=record.seed,
                    claimed=comparison.claimed,
                    replayed=comparison.replayed,
                    measured=comparison.measured,
                    interval=comparison.interval,
                )
            )
        findings.append(
            finding.model_copy(
                update={
                    "status": "verified",
                    "round": round_number,
                    "n_episodes": n_episodes,
                    "seeds": seeds,
                    "versions": versions(),
                }
            )
        )
    return findings


def _compare(
    task: Task, record: Result, directory: Path, replayed: FloatArray, held_out: FloatArray
) -> Comparison:
    if task.track == "online":
        shape = (task.n_agents, task.n_representatives)
        shapes = {"welfare_matrix": shape, "episode_lengths": (task.n_representatives, None)}
        arrays = read_arrays(directory / "welfare.npz", MAX_ARRAY_BYTES, shapes)
        entries = arrays["welfare_matrix"].ravel().astype(np.float64)
        weights = load_assignment(directory / "solution", shape).ravel() / task.n_agents
    else:
        entries = np.array(record.agent_returns)
        weights = np.full(len(entries), 1.0 / len(entries))
    return compare(record.social_welfare, entries, weights, replayed, held_out)


def write_verification(checked: Checked, findings: list[RowFinding]) -> Path:
    """Write verification.json into the folder of the submission."""
    document = Verification(schema_version=1, name=checked.submission.name, rows=findings)
    path = checked.folder / VERIFICATION_FILE
    write_json(path, document.model_dump(mode="json"))
    return path
