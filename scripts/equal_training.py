"""Equal training for the offline rivals: plans with as many passes over the data for every solver.

    python -m scripts.equal_training --tune --out tuning.toml   what is tried, on other data
    rmdp-bench sweep tuning.toml
    python -m scripts.equal_training --tuned runs/tuning --out equal.toml
    rmdp-bench sweep equal.toml

Every solver makes 300 passes over the log (`offline-equal`); where its method was published with
another budget, a second row has that (`offline-published`). Planners have their full size. A pass
is as many gradient steps, of whatever learns from the log, as show each transition once: the
policy of behaviour, bcq and cql, the model of the others. Policies that are learned inside a model
(morel, persim_bcq, persim_policy) do not read the log, and keep the solver's own number of steps.

Four points are tried for every solver, two values each of two settings, with a quarter of the
passes (and of the iterations in a model), seed 100 and the kind `pure-eps20`, which no row has;
planners compare a tenth of the plans in 3 episodes there. The best mean return over the test
agents counts. Without --tuned the plan has the solvers' own settings. `rmdp-bench sweep --print`
shows the commands; `--minutes` the CPU minutes of training, as far as they were measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmdp_bench.datasets.records import find_record
from rmdp_bench.files import write_text
from rmdp_bench.runs import read_result
from rmdp_bench.runs.solver_loading import load_solver, make_config
from rmdp_bench.tasks import OfflineTask, find_logged_task

WORLDS = ("CartPoleHet-n500", "MountainCarHet-n500")
PLANNER = {"n_sequences": 100}
PLANNER_EPISODES = 3
KINDS = ("pure", "random")
SEEDS = "0:3"
PASSES = 300
TUNING_KIND, TUNING_SEED, TUNING_SHARE = "pure-eps20", 100, 4

Settings = Mapping[str, Any]


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


def training_minutes(solver: str, task: OfflineTask, settings: Settings) -> float | None:
    """CPU minutes of the training on a CartPole log, three seeds; None: not measured."""
    seconds = _UPDATE_SECONDS.get(solver)
    if seconds is None or not task.id.startswith("CartPole"):
        return None
    given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    config = make_config(load_solver(solver), task, given)
    n_updates = getattr(config, "n_updates", None)
    if n_updates is None:
        n_updates = config.n_epochs * math.ceil(count_transitions(task) / config.batch_size)
    return float(n_updates * seconds / 60)


def grid_of(solver: str) -> list[Settings]:
    """The four points."""
    grid = RIVALS[solver].grid
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Row:
    """A row of a plan."""

    folder: str
    solver: str
    task: OfflineTask
    settings: Settings
    n_episodes: int | None = None


def tuning_rows(solver: str, world: str) -> Iterator[Row]:
    """What is tried for a solver in a world; a point's folder is its number."""
    task, rival = find_logged_task(world, TUNING_KIND), RIVALS[solver]
    fixed = training_settings(solver, task, PASSES / TUNING_SHARE)
    fixed = fixed | inner_settings(solver, task, TUNING_SHARE) | (PLANNER if rival.plans else {})
    n_episodes = PLANNER_EPISODES if rival.plans else None
    for number, point in enumerate(grid_of(solver)):
        yield Row(str(number), solver, task, {**fixed, **point}, n_episodes)


def choose(runs: Path, solver: str, world: str) -> Settings:
    """The best point of a solver in a world, the first of equals.

    Raises:
        ValueError: not all points are there, each once.
    """
    task = find_logged_task(world, TUNING_KIND)
    returns = []
    for number in range(len(grid_of(solver))):
        pattern = f"{number}/*/{task.id}/{solver}/seed-{TUNING_SEED}/result.json"
        found = list(runs.glob(pattern))
        if len(found) != 1:
            raise ValueError(f"{runs} has {len(found)} results {pattern}, expected one")
        returns.append(read_result(found[0]).social_welfare)
    return grid_of(solver)[returns.index(max(returns))]


def table_rows(solver: str, world: str, kind: str, chosen: Settings) -> Iterator[Row]:
    """A solver with equal training, and with its method's own where that is another."""
    task, published = find_logged_task(world, kind), RIVALS[solver].published
    yield Row("offline-equal", solver, task, {**training_settings(solver, task, PASSES), **chosen})
    if solver == "morel":
        own = training_settings(solver, task, _MOREL_EPOCHS) | {"iterations": 500}
    elif published is not None:
        own = training_settings(solver, task, PASSES, published)
    else:
        return
    yield Row("offline-published", solver, task, {**own, **chosen})


def write_plan(rows: Sequence[Row], seeds: str) -> str:
    """The text of a plan; all seeds of a run train as one batch."""
    parts = [f'seeds = "{seeds}"\nseeds_per_batch = 3\n']
    for row in rows:
        names = {"folder": row.folder, "solvers": row.solver, "tasks": row.task.id}
        lines = ["[[runs]]", *(f"{name} = {json.dumps(text)}" for name, text in names.items())]
        lines += [] if row.n_episodes is None else [f"episodes = {row.n_episodes}"]
        lines.append("[runs.settings]")
        for name, value in row.settings.items():  # a value that is a list stands in a list
            text = json.dumps([value] if isinstance(value, list) else value)
            lines.append(f"{name} = {text}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Write a plan, or say what it costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--solvers", nargs="+", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--tune", action="store_true", help="the plan of what is tried")
    parser.add_argument("--tuned", type=Path, help="folder of its sweep, from which to choose")
    parser.add_argument("--minutes", action="store_true", help="print CPU minutes of training")
    parser.add_argument("--out", type=Path, help="file of the plan; else it is printed")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for world, solver in itertools.product(arguments.worlds, arguments.solvers):
        if arguments.tune:
            rows += tuning_rows(solver, world)
            continue
        try:
            chosen = choose(arguments.tuned, solver, world) if arguments.tuned else {}
        except ValueError as error:
            parser.error(str(error))
        for kind in arguments.kinds:
            rows += table_rows(solver, world, kind, chosen)
    if arguments.minutes:
        for row in rows:
            minutes = training_minutes(row.solver, row.task, row.settings)
            share = 1 / 3 if arguments.tune else 1
            cost = "not measured" if minutes is None else f"{minutes * share:.1f} CPU minutes"
            print(f"{row.folder} {row.solver} {row.task.id}: {cost}")
        return
    text = write_plan(rows, str(TUNING_SEED) if arguments.tune else SEEDS)
    if arguments.out is None:
        print(text, end="")
    else:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
