"""Ablations: a solver once for each variant of its settings.

    python -m scripts.ablation em_plus HalfCheetahVel-n100-k5-v0
    python -m scripts.ablation em_plus ResourceGathering-n25-k3-v0 --seeds 0:5 --variants default em
    python -m scripts.ablation learner HalfCheetahVel-n100-k5-v0 --transitions 500000
    python -m scripts.ablation agents CartPoleHet-n500-pure-v1 --variants 25 100
    python -m scripts.ablation agents_equal_updates CartPoleHet-n500-pure-v1 --variants 25 100

Variants run as `rmdp-bench run --set ...` does, into OUT/VARIANT. A row is printed as soon as it is
known; `--store FILE` adds what was measured to a JSON file, such as those in `benchmarks/results`.
What is finished in OUT is not run again, and an interrupted run continues.

em_plus: everything switched on, each part switched off or on alone, and nothing, which is EM.

learner: what its normalisation, bounds and stops bring, with EM. Variants of earlier code are made
by `rmdp-bench run em TASK --out OUT/VARIANT` there and are read only, here the first two:

    before       revision a90bc4b: advantages over all n agents, gradients bounded jointly
    mass         revision 567c2b1: advantages over a representative's own agents
    default      and each representative's gradient bounded for itself
    floor        and a floor of 0.1 on standard deviations
    floor-kl     and no more gradient for a representative beyond a divergence of 0.05, at which
                 the reference code stops all of them

agents: an offline solver (`--solver`) with the data of fewer agents. These have fewer transitions,
and so a pass over them has fewer gradient steps. With agents_equal_updates there are more passes
for it (and the step size is halved after more of them), so that fewer data are told apart from less
training.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs import (
    Result,
    find_results,
    load_solver,
    make_config,
    make_request,
    run,
)
from rmdp_bench.scoring import standard_error
from rmdp_bench.solution import load_solution
from rmdp_bench.tasks import OnlineTask, Task, get_task

Variants = dict[str, list[str]]
"""Name -> settings, "key=value" each."""

PARTS: Mapping[str, tuple[str, str, str]] = {
    "seeding": ("seeding", "true", "false"),
    "split_merge": ("split_merge", "true", "false"),
    "scout": ("scout", "true", "false"),
    "annealing": ("temperature", "5.0", "0.0"),
    "starts": ("n_starts", "3", "1"),
}
"""Part of `em_plus` -> the setting that switches it, its value on, its value off."""
EARLIER = ("before", "mass")
_FLOOR = "min_log_std=-2.3"
LEARNER: Variants = {"default": [], "floor": [_FLOOR], "floor-kl": [_FLOOR, "max_kl=0.05"]}
FALL = 2.0
"""Percent of welfare: by how much it falls from one evaluation to the next to be counted."""
AGENTS = (25, 50, 100, 250, 500)
_IN_PASSES = ("n_epochs", "halving_epochs")
"""Settings that count passes over the data."""


def em_plus_variants(task: Task, solver: str, settings: Sequence[str]) -> Variants:
    """The solver, and what switches its parts: on or off where that is not the task's default."""
    off = [f"{setting}={value}" for setting, _, value in PARTS.values()]
    variants: Variants = {"em": [], "default": [], "none": off}
    for name, (setting, on, _) in PARTS.items():
        others = [text for text in off if not text.startswith(f"{setting}=")]
        variants[f"only-{name}"] = [*others, f"{setting}={on}"]
    for name, (setting, on, value) in PARTS.items():
        variants[f"without-{name}"] = [f"{setting}={value}"]
        variants[f"with-{name}"] = [f"{setting}={on}"]
    default = make_config(load_solver(solver), task)
    always = ("em", "default", "none")
    return {
        name: [*settings, *own]
        for name, own in variants.items()
        if name in always or make_config(load_solver(solver), task, own) != default
    }


def learner_variants(task: Task, solver: str, settings: Sequence[str]) -> Variants:
    """Settings of `em`; none for the variants that only earlier code can make."""
    return dict.fromkeys(EARLIER, [*settings]) | {n: [*settings, *s] for n, s in LEARNER.items()}


def agents_variants(task: Task, solver: str, settings: Sequence[str]) -> Variants:
    """Numbers of agents."""
    return {str(n): [*settings, f"n_agents={n}"] for n in AGENTS}


def equal_updates_variants(task: Task, solver: str, settings: Sequence[str]) -> Variants:
    """Numbers of agents, with more passes over the data of fewer.

    Raises:
        ValueError: a setting is wrong, or the solver has no passes.
    """
    config = make_config(load_solver(solver), task, settings)
    missing = [name for name in _IN_PASSES if not hasattr(config, name)]
    if missing:
        raise ValueError(f"equal updates are for solvers with {missing[0]}, such as persim")
    others = [text for text in settings if text.partition("=")[0] not in _IN_PASSES]
    variants = {}
    for n in AGENTS:
        passes = [f"{name}={round(getattr(config, name) * AGENTS[-1] / n)}" for name in _IN_PASSES]
        variants[str(n)] = [*others, f"n_agents={n}", *passes]
    return variants


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
ABLATIONS: dict[str, tuple[str, Callable[[Task, str, Sequence[str]], Variants]]] = {
    "em_plus": ("em_plus", em_plus_variants),
    "learner": ("em", learner_variants),
    "agents": ("persim", agents_variants),
    "agents_equal_updates": ("persim", equal_updates_variants),
}
"""Kind -> the solver if none is named, and its variants."""


def store(path: Path, about: dict[str, Any], name: str, row: Mapping[str, Any]) -> None:
    """Add a variant to a file, in the place of one with the same name."""
    document = read_json(path) if path.exists() else {"variants": {}}
    document["variants"][name] = row
    write_json(path, document | about)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kind", choices=list(ABLATIONS))
    parser.add_argument("task")
    parser.add_argument("--solver", help="of offline tasks, instead of persim")
    parser.add_argument("--variants", nargs="+", help="some of them")
    parser.add_argument("--seeds", default="0:3", help="0:3 is 0, 1, 2")
    parser.add_argument("--transitions", type=int, help="per policy; the task's if not given")
    parser.add_argument("--episodes", type=int, help="of each agent; the task's if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, help="runs/KIND")
    parser.add_argument("--store", type=Path, help="JSON file that keeps the numbers")
    arguments = parser.parse_args()
    solver, make_variants = ABLATIONS[arguments.kind]
    arguments.solver = arguments.solver or solver
    arguments.out = arguments.out or Path("runs") / arguments.kind
    try:
        arguments.task = task = get_task(arguments.task)
        variants = make_variants(task, arguments.solver, arguments.settings)
        unknown = set(arguments.variants or ()) - set(variants)
        if unknown:
            raise ValueError(f"no variant {unknown.pop()}, expected some of {', '.join(variants)}")
        missing = [
            name
            for name in EARLIER
            if not (arguments.out / name / task.id / arguments.solver).is_dir()
        ]
        for name in set(arguments.variants or ()) & set(missing):
            raise ValueError(
                f"variant {name} cannot be trained any more, and {arguments.out} does not have it"
            )
        arguments.variants = arguments.variants or [n for n in variants if n not in missing]
        arguments.requests = {
            name: make_request(
                "em" if name == "em" else arguments.solver,
                task.id,
                seeds=parse_seeds(arguments.seeds),
                transitions=arguments.transitions,
                n_episodes=arguments.episodes,
                device=arguments.device,
                out=arguments.out / name,
                settings=variants[name],
            )
            for name in arguments.variants
            if name not in EARLIER
        }
    except ValueError as error:
        parser.error(str(error))
    return arguments


def main() -> None:
    """Run what is missing, print, and store what is asked for."""
    arguments = parse_arguments()
    task, header = arguments.task, HEADERS[arguments.task.track]
    print(f"| {' | '.join(header)} |\n{'| --- ' * len(header)}|")
    for name in arguments.variants:
        if name in arguments.requests:
            run(arguments.requests[name])
        solver = arguments.solver
        if name in arguments.requests:
            solver = arguments.requests[name].solver.name
        found = find_results([arguments.out / name / task.id / solver])
        seeds = parse_seeds(arguments.seeds)
        results = {path: result for path, result in found.items() if result.seed in seeds}
        row, first = summarise(results), next(iter(results.values()))
        print(format_row(task, name, row), flush=True)
        if arguments.store:
            about = {
                "command": shlex.join(["python", "-m", "scripts.ablation", *sys.argv[1:]]),
                "task": task.id,
                "solver": arguments.solver,
                "transitions": arguments.transitions or task.transitions,
                "system": first.system,
                "versions": first.versions,
            }
            store(arguments.store, about, name, row)


if __name__ == "__main__":
    main()
