"""Ablations: what the variants of a plan gave, each in a folder of its own.

    rmdp-bench sweep benchmarks/plans/em_plus_parts.toml
    python -m scripts.ablation runs/em_plus_parts

The plans are `em_plus_parts`, `learner`, `critics`, `agents` and `agents_equal_updates` in
`benchmarks/plans`. A row is printed for each variant that has runs; `--store FILE` adds what was
measured to a JSON file, such as those in `benchmarks/results`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs import Result, find_results
from rmdp_bench.runs.records import RESULT_FILE
from rmdp_bench.scoring import standard_error
from rmdp_bench.solution import load_solution
from rmdp_bench.sweep.jobs import read_plans
from rmdp_bench.tasks import OnlineTask, Task, get_task

FALL = 2.0
"""Percent of welfare: by how much it falls from one evaluation to the next to be counted."""


def with_error(values: npt.ArrayLike, digits: int = 2) -> str:
    """Mean over seeds, with its standard error where there are several."""
    values = np.asarray(values)
    spread = f" ± {standard_error(values):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def count_falls(welfare: npt.ArrayLike) -> int:
    """Evaluations of a curve (points,) that are `FALL` below the one before."""
    return int((np.diff(np.asarray(welfare, np.float64)) <= -FALL).sum())


def summarise(results: Mapping[Path, Result]) -> dict[str, Any]:
    """What is known of a variant, by seed."""
    members = list(results.values())
    first = members[0]
    row = {
        "seeds": [result.seed for result in members],
        "train_seconds": first.train_seconds,
        "git_revision": first.git_revision,
    }
    scores = [result.offline for result in members if result.offline is not None]
    if scores:
        predictions = [score.prediction for score in scores if score.prediction]
        return row | {
            "returns": [list(score.returns) for score in scores],
            "r2_median": [prediction.r2_median for prediction in predictions],
            "r2_mean": [prediction.r2_mean for prediction in predictions],
        }
    curves = [np.genfromtxt(path / "curve.csv", delimiter=",", names=True) for path in results]
    solutions = [load_solution(path / "solution") for path in results]
    return row | {
        "social_welfare": [result.social_welfare for result in members],
        "reassigned_welfare": [result.reassigned_welfare for result in members],
        "largest_group": [int(solution.assignment.sum(0).max()) for solution in solutions],
        "falls": [count_falls(curve["social_welfare"]) for curve in curves],
        "falls_in_training": [count_falls(curve["train_social_welfare"]) for curve in curves],
        "curve_transitions": curves[0]["transitions"].astype(int).tolist(),
        "curve_welfare": [curve["social_welfare"].tolist() for curve in curves],
    }


def make_cells(task: Task, row: Mapping[str, Any]) -> list[str]:
    """What a table says of a variant: means with standard errors, and every seed's counts."""
    if isinstance(task, OnlineTask):
        share = (
            ""
            if task.ceiling is None
            else f"{100 * np.mean(row['social_welfare']) / task.ceiling:.1f} %"
        )
        counts = (row[name] for name in ("largest_group", "falls", "falls_in_training"))
        return [
            with_error(row["social_welfare"]),
            share,
            with_error(row["reassigned_welfare"]),
            *(", ".join(map(str, own)) for own in counts),
        ]
    agents = task.eval_agents
    normalised = [float(normalise(task, agents, np.array(r)).mean()) for r in row["returns"]]
    r2 = ", ".join(f"{value:.2f}" for value in row["r2_median"])
    if "r2_mean" in row:  # older records have the medians only
        pairs = zip(row["r2_median"], row["r2_mean"], strict=True)
        r2 = ", ".join(f"{median:.2f} ({mean:.2f})" for median, mean in pairs)
    return [
        with_error(normalised, 1),
        ", ".join(f"{value:.1f}" for value in normalised),
        ", ".join(f"{value:.0f}" for value in np.mean(row["returns"], axis=0)),
        r2,
    ]


def format_row(task: Task, name: str, row: Mapping[str, Any]) -> str:
    """One line of the table in Markdown."""
    return f"| {' | '.join([name, *make_cells(task, row)])} |"


HEADERS = {
    "online": (
        *("variant", "social welfare", "of the ceiling", "reassigned", "largest group", "falls"),
        "in training",
    ),
    "offline": (
        *("agents", "normalised", "each seed", "return of each test agent"),
        "median R2 (mean), each seed",
    ),
}


def store(path: Path, about: dict[str, Any], name: str, row: Mapping[str, Any]) -> None:
    """Add a variant to a file, in the place of one with the same name."""
    document = read_json(path) if path.exists() else {"variants": {}}
    document["variants"][name] = row
    write_json(path, document | about)


def main() -> None:
    """Print what there is, and store it if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, help="folder of a sweep")
    parser.add_argument("--variants", nargs="+", help="some of its folders")
    parser.add_argument("--store", type=Path, help="JSON file that keeps the numbers")
    arguments = parser.parse_args()
    try:
        plans = read_plans(arguments.runs)
    except ValueError as error:
        parser.error(str(error))
    planned = [job.folder.partition("/")[0] for plan in plans.values() for job in plan["jobs"]]
    known = list(dict.fromkeys(planned))
    if unknown := set(arguments.variants or ()) - {*known}:
        parser.error(f"no variant {unknown.pop()}, expected some of {', '.join(known)}")
    found = {
        name: find_results([arguments.runs / name])
        for name in arguments.variants or known
        if any((arguments.runs / name).rglob(RESULT_FILE))
    }
    if not found:
        parser.error(f"no variant in {arguments.runs} has a finished run")
    firsts = [next(iter(results.values())) for results in found.values()]
    if len({first.task for first in firsts}) > 1:
        parser.error(f"{arguments.runs} has several tasks, expected variants of one")
    task = get_task(firsts[0].task)
    header = HEADERS[task.track]
    print(f"| {' | '.join(header)} |\n{'| --- ' * len(header)}|")
    for (name, results), first in zip(found.items(), firsts, strict=True):
        row = summarise(results)
        print(format_row(task, name, row), flush=True)
        if arguments.store:
            about = {
                "command": f"rmdp-bench sweep benchmarks/plans/{next(iter(plans))}.toml",
                "task": task.id,
                "solver": first.solver,
                "transitions": first.transitions,
                "system": first.system,
                "versions": first.versions,
            }
            store(arguments.store, about, name, row)


if __name__ == "__main__":
    main()
