"""What the learner's normalisation, bounds and stops bring, with EM.

    python -m scripts.learner_ablation HalfCheetahVel-n100-k5-v0 --transitions 500000
    python -m scripts.learner_ablation HalfCheetahVel-n100-k10-v0 --transitions 500000 --store FILE

Runs `em` once for each variant, as `rmdp-bench run --set ...` does, into OUT/VARIANT, and prints a
row as soon as it is known; `--store` adds what was measured to a JSON file. What is finished there
is not run again, and an interrupted run continues. Variants of earlier code are made there by
`rmdp-bench run em TASK --out OUT/VARIANT` and are read only, here the first two:

    before       revision a90bc4b: advantages over all n agents, gradients bounded jointly
    mass         revision 567c2b1: advantages over a representative's own agents
    default      and each representative's gradient bounded for itself
    floor        and a floor of 0.1 on standard deviations
    floor-kl     and no more gradient for a representative beyond a divergence of 0.05, at which
                 the reference code stops all of them
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs import Result, find_results, make_request, run
from rmdp_bench.scoring import standard_error
from rmdp_bench.solution import load_solution
from rmdp_bench.tasks import get_task

EARLIER = ("before", "mass")
_FLOOR = "min_log_std=-2.3"
VARIANTS = {"default": [], "floor": [_FLOOR], "floor-kl": [_FLOOR, "max_kl=0.05"]}
"""Variant -> settings of `em`."""
HEADER = ("variant", "social welfare", "reassigned", "largest group", "falls", "in training")
FALL = 2.0
"""Percent of welfare: by how much it falls from one evaluation to the next to be counted."""


def count_falls(welfare: npt.ArrayLike) -> int:
    """Evaluations of a curve (points,) that are `FALL` below the one before."""
    return int((np.diff(np.asarray(welfare, np.float64)) <= -FALL).sum())


def summarise(results: dict[Path, Result]) -> dict[str, Any]:
    """What is known of a variant, by seed."""
    curves = [np.genfromtxt(path / "curve.csv", delimiter=",", names=True) for path in results]
    members = list(results.values())
    first = members[0]
    return {
        "seeds": [result.seed for result in members],
        "social_welfare": [result.social_welfare for result in members],
        "reassigned_welfare": [result.reassigned_welfare for result in members],
        "largest_group": [
            int(load_solution(path / "solution").assignment.sum(0).max()) for path in results
        ],
        "falls": [count_falls(curve["social_welfare"]) for curve in curves],
        "falls_in_training": [count_falls(curve["train_social_welfare"]) for curve in curves],
        "train_seconds": first.train_seconds,
        "git_revision": first.git_revision,
        "cpu": first.system.get("cpu"),
        "versions": first.versions,
    }


def format_row(name: str, row: dict[str, Any]) -> str:
    """One line of the table in Markdown: means with standard errors, and every seed's counts."""
    cells = [name]
    for key in ("social_welfare", "reassigned_welfare"):
        spread = f" ± {standard_error(row[key]):.2f}" if len(row[key]) > 1 else ""
        cells.append(f"{np.mean(row[key]):.2f}{spread}")
    keys = ("largest_group", "falls", "falls_in_training")
    cells += [", ".join(map(str, row[key])) for key in keys]
    return f"| {' | '.join(cells)} |"


def store(path: Path, task: str, transitions: int, name: str, row: dict[str, Any]) -> None:
    """Add a variant of a task to a file, in the place of one with the same name."""
    document = read_json(path) if path.exists() else {}
    own = document.setdefault(task, {"variants": {}})
    own["transitions"] = transitions
    own["command"] = f"python -m scripts.learner_ablation {task} --transitions {transitions}"
    own["variants"][name] = row
    write_json(path, document)


def main() -> None:
    """Run what is missing, print, and store what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", help="an online one")
    parser.add_argument("--variants", nargs="+", choices=[*EARLIER, *VARIANTS], metavar="VARIANT")
    parser.add_argument("--seeds", default="0:3", help="0:3 is 0, 1, 2")
    parser.add_argument("--transitions", type=int, help="per policy; the task's if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/learner_ablation"))
    parser.add_argument("--store", type=Path, help="JSON file that keeps the numbers")
    arguments = parser.parse_args()
    chosen = arguments.variants or [
        *(name for name in EARLIER if (arguments.out / name / arguments.task).is_dir()),
        *VARIANTS,
    ]
    try:
        task = get_task(arguments.task)
        requests = {
            name: make_request(
                "em",
                arguments.task,
                seeds=parse_seeds(arguments.seeds),
                transitions=arguments.transitions,
                out=arguments.out / name,
                settings=VARIANTS[name],
            )
            for name in chosen
            if name in VARIANTS
        }
    except ValueError as error:
        parser.error(str(error))
    print("| " + " | ".join(HEADER) + " |")
    print("|---" * len(HEADER) + "|")
    for name in chosen:
        if name in requests:
            run(requests[name])
        row = summarise(find_results([arguments.out / name / arguments.task / "em"]))
        print(format_row(name, row), flush=True)
        if arguments.store:
            transitions = arguments.transitions or task.transitions
            store(arguments.store, task.id, transitions, name, row)


if __name__ == "__main__":
    main()
