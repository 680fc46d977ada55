"""Equal training for the offline rivals: as many passes over the data for every solver.

    python -m scripts.equal_training --tune          choose settings on data of another kind
    python -m scripts.equal_training --print         the commands, with CPU minutes of training
    python -m scripts.equal_training                 run them, one after the other

Every solver makes 300 passes over the log (`offline-equal`); where its method was published with
another budget, a second row has that (`offline-published`). Planners have their full size. A pass
is as many gradient steps, of whatever learns from the log, as show each transition once: the
policy of behaviour, bcq and cql, the model of the others. Policies that are learned inside a model
(morel, persim_bcq, persim_policy) do not read the log, and keep the solver's own number of steps.

`--tune` tries four points for every solver, two values each of two settings, with a quarter of the
passes (and of the iterations in a model), seed 100 and the kind `pure-eps20`, which no row has;
planners compare a tenth of the plans in 3 episodes there. The best mean return over the test
agents counts. What is chosen is kept in OUT/tuned.json, from which the plan reads it; what is
finished is not tried again. Without that file the plan has the solvers' own settings.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmdp_bench.datasets.records import find_record
from rmdp_bench.files import write_json
from rmdp_bench.runs import read_result
from rmdp_bench.runs.solver_loading import load_solver, make_config
from rmdp_bench.tasks import OfflineTask, find_logged_task, get_offline_task
from scripts.run_offline_table import (
    PLANNER,
    PLANNER_EPISODES,
    WORLDS,
    make_command,
    run,
    run_all,
)

KINDS = ("pure", "random")
SEEDS = "0:3"
PASSES = 300
TUNING_KIND, TUNING_SEED, TUNING_SHARE = "pure-eps20", 100, 4

Point = tuple[str, ...]
"""Settings, "key=value" each."""


@dataclass(frozen=True)
class Rival:
    """How a solver is asked for passes, and what is tried for it.

    Attributes:
        grid: two settings by name, with two values each.
        published: gradient steps of the method's paper or code; None: 300 passes, or none known.
        plans: whether its policies plan, so that tuning needs smaller planners.
        inner: settings that count training inside a model.
    """

    grid: Mapping[str, tuple[Any, Any]]
    published: int | None = None
    plans: bool = False
    inner: tuple[str, ...] = ()


_CONTEXT = Rival(
    {"learning_rate": (1e-3, 3e-4), "backward_coefficient": (0.5, 1.0)}, 75_000, plans=True
)
RIVALS: Mapping[str, Rival] = {
    "behaviour": Rival({"learning_rate": (3e-4, 1e-3), "hidden_dims": ([256, 256], [128, 128])}),
    "bcq": Rival({"learning_rate": (3e-4, 1e-3), "threshold": (0.3, 0.1)}, 1_000_000),
    "cql": Rival({"learning_rate": (3e-4, 1e-3), "conservative_weight": (1.0, 5.0)}, 1_000_000),
    "morel": Rival(
        {"model_learning_rate": (1e-3, 3e-4), "pessimism": (3.0, 1.0)}, inner=("iterations",)
    ),
    "persim_policy": Rival(
        {"learning_rate": (1e-3, 3e-4), "step_size": (0.02, 0.05)}, inner=("iterations",)
    ),
    "persim_bcq": Rival(
        {"learning_rate": (1e-3, 3e-4), "policy_learning_rate": (3e-4, 1e-3)},
        inner=("policy_updates",),
    ),
    "persim": Rival({"learning_rate": (1e-3, 3e-4), "rank": (3, 5)}, plans=True),
    "cadm": _CONTEXT,
    "pe_cadm": _CONTEXT,
}
"""The solvers; true_env_mpc reads no data."""

_UPDATE_SECONDS = {
    "behaviour": 0.0045,
    "bcq": 0.0107,
    "cql": 0.0080,
    "cadm": 0.0268,
    "persim": 0.0010,
}
"""CPU seconds of a gradient step of three seeds on CartPole, on one thread of a core that others
were using too: the difference between 20 and 220 steps (cadm: 5 and 35; persim: 40 epochs of one
seed, times three)."""
_MOREL_EPOCHS = 25
"""Of the models in MOReL's code."""


def count_transitions(task: OfflineTask) -> int:
    """Transitions in a task's log, which need not be there."""
    record = find_record(task.dataset_id)
    assert record is not None
    return record.n_steps


def training_settings(
    solver: str, task: OfflineTask, passes: float, n_updates: int | None = None
) -> dict[str, int]:
    """Settings for passes over a task's log, or for gradient steps where they are given.

    Args:
        solver: a name of `RIVALS`.
        task: an offline task.
        passes: over the data of all agents.
        n_updates: instead of the passes, for solvers that count gradient steps.
    """
    config = make_config(load_solver(solver), task)
    if solver.startswith("persim"):  # halved once, half-way, as in the published budget
        n_epochs = max(1, round(passes))
        return {"n_epochs": n_epochs, "halving_epochs": max(1, n_epochs // 2)}
    if n_updates is None:
        n_updates = math.ceil(passes * count_transitions(task) / config.batch_size)
    if solver == "morel":  # either bound alone may not be passed by the other
        return {
            "model_epochs": max(1, math.ceil(passes)),
            "min_model_updates": n_updates,
            "max_model_updates": n_updates,
        }
    return {"n_updates": n_updates}


def inner_settings(solver: str, task: OfflineTask, share: int) -> dict[str, int]:
    """A share, 1 / `share`, of the training inside a model; none where that is all of it."""
    config = make_config(load_solver(solver), task)
    names = RIVALS[solver].inner if share > 1 else ()
    return {name: math.ceil(getattr(config, name) / share) for name in names}


def as_point(settings: Mapping[str, Any]) -> Point:
    """Settings as `--set` takes them."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())


def training_minutes(solver: str, task: OfflineTask, settings: Point) -> float | None:
    """CPU minutes of the training on a CartPole log, three seeds; None: not measured."""
    seconds = _UPDATE_SECONDS.get(solver)
    if seconds is None or not task.id.startswith("CartPole"):
        return None
    config = make_config(load_solver(solver), task, settings)
    n_updates = getattr(config, "n_updates", None)
    if n_updates is None:
        n_updates = config.n_epochs * math.ceil(count_transitions(task) / config.batch_size)
    return float(n_updates * seconds / 60)


def grid_of(solver: str) -> list[Point]:
    """The four points."""
    grid = RIVALS[solver].grid
    return [
        as_point(dict(zip(grid, values, strict=True)))
        for values in itertools.product(*grid.values())
    ]


def tuning_runs(solver: str, world: str, out: Path) -> Iterator[tuple[Point, Path, list[str]]]:
    """Points of a solver in a world, where each one's result will be, and the command."""
    task, rival = find_logged_task(world, TUNING_KIND), RIVALS[solver]
    fixed = as_point(
        training_settings(solver, task, PASSES / TUNING_SHARE)
        | inner_settings(solver, task, TUNING_SHARE)
    )
    fixed += PLANNER if rival.plans else ()
    n_episodes = PLANNER_EPISODES if rival.plans else None
    for number, point in enumerate(grid_of(solver)):
        folder = out / "tuning" / str(number)
        result = folder / task.id / solver / f"seed-{TUNING_SEED}" / "result.json"
        settings = (*fixed, *point)
        seed = str(TUNING_SEED)
        command = make_command(solver, task.id, seed, folder, settings, n_episodes=n_episodes)
        yield point, result, command


def tune(solvers: list[str], worlds: list[str], out: Path) -> list[str]:
    """Run what is missing, and store each choice as soon as its four points are there.

    Returns:
        What went wrong.
    """
    failed: list[str] = []
    for world, solver in itertools.product(worlds, solvers):
        returns: dict[Point, float] = {}
        for point, result, command in tuning_runs(solver, world, out):
            if not result.exists():
                failed += filter(None, [run(command)])
            if result.exists():
                returns[point] = read_result(result).social_welfare
        if len(returns) == len(grid_of(solver)):
            store_choice(out / "tuned.json", world, solver, returns)
    return failed


def store_choice(path: Path, world: str, solver: str, returns: Mapping[Point, float]) -> None:
    """Add the best point, the first of equals, and what all points had."""
    chosen = read_choices(path)
    best = max(returns, key=returns.__getitem__)
    chosen.setdefault(world, {})[solver] = {
        "settings": list(best),
        "returns": [{"settings": list(p), "return": value} for p, value in returns.items()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, chosen)


def read_choices(path: Path) -> dict[str, Any]:
    """What is in OUT/tuned.json; nothing where there is none."""
    chosen: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return chosen


def list_commands(
    solvers: list[str], worlds: list[str], kinds: list[str], out: Path
) -> Iterator[tuple[str, list[str]]]:
    """Solver and arguments of `rmdp-bench` for each run of the plan."""
    chosen = read_choices(out / "tuned.json")
    for kind, world, solver in itertools.product(kinds, worlds, solvers):
        task = find_logged_task(world, kind)
        tuned = tuple(chosen.get(world, {}).get(solver, {}).get("settings", ()))
        equal = as_point(training_settings(solver, task, PASSES))
        yield solver, make_command(solver, task.id, SEEDS, out / "offline-equal", equal + tuned)
        published = RIVALS[solver].published
        if solver == "morel":
            own = training_settings(solver, task, _MOREL_EPOCHS) | {"iterations": 500}
        elif published is not None:
            own = training_settings(solver, task, PASSES, published)
        else:
            continue
        settings = as_point(own) + tuned
        yield solver, make_command(solver, task.id, SEEDS, out / "offline-published", settings)


def main() -> None:
    """Tune, print or run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--solvers", nargs="+", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    parser.add_argument("--tune", action="store_true", help="choose settings, and run no row")
    parser.add_argument("--print", action="store_true", help="print the commands only")
    arguments = parser.parse_args()
    solvers, worlds, out = arguments.solvers, arguments.worlds, arguments.out
    if arguments.tune and not arguments.print:
        sys.exit("\n".join(tune(solvers, worlds, out)) or 0)
    if arguments.tune:
        commands = [
            (solver, command)
            for world, solver in itertools.product(worlds, solvers)
            for _, _, command in tuning_runs(solver, world, out)
        ]
    else:
        commands = list(list_commands(solvers, worlds, arguments.kinds, out))
    if arguments.print:
        for solver, command in commands:
            settings = [text for key, text in itertools.pairwise(command) if key == "--set"]
            minutes = training_minutes(solver, get_offline_task(command[2]), tuple(settings))
            seeds = 1 if arguments.tune else 3
            cost = "not measured" if minutes is None else f"{minutes * seeds / 3:.1f} CPU minutes"
            print(f"{shlex.join(['rmdp-bench', *command])}  # training: {cost}")
        return
    run_all(command for _, command in commands)


if __name__ == "__main__":
    main()
