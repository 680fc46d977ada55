"""`list` and `doctor`: what the suite has, and what the machine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from rmdp_bench.cli.output import JsonOption, number, print_json, print_table, warn

TRACK_NOTE = (
    "heterogeneous: of the glucose tasks, where a few policies serve agents who differ in "
    "dynamics; online, heterogeneous: has a form for these, too, by the same name."
)


class Kind(StrEnum):
    """What can be listed."""

    envs = "envs"
    datasets = "datasets"
    tasks = "tasks"
    solvers = "solvers"


def list_command(
    what: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    settings: Annotated[
        str | None,
        typer.Option(metavar="SOLVER", help="With solvers: list the settings of this one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List environments, datasets, tasks, solvers or the settings of a solver."""
    if settings is not None:
        if what is not Kind.solvers:
            raise ValueError(f"--settings goes with `list solvers`, not with `list {what.value}`")
        _list_settings(settings, as_json)
        return
    if what is Kind.solvers and as_json:
        print_json([row | {"settings": _settings(row["name"])} for row in _solvers()])
        return
    rows = {
        Kind.envs: _environments,
        Kind.datasets: _datasets,
        Kind.tasks: _tasks,
        Kind.solvers: _solvers,
    }[what]()
    if as_json:
        print_json(rows)
    elif what is Kind.tasks:
        columns = ["task", "track", "agents", "k", "transitions per policy", "ceiling"]
        cells = [
            [
                row["id"],
                row["track"],
                number(row["n_agents"], 0),
                number(row["n_representatives"], 0),
                number(row["transitions"] or None, 0),
                number(row["ceiling"], 2),
            ]
            for row in rows
        ]
        notes = {
            "ceiling": "The ceiling is the greatest social welfare possible, in percent.",
            "transitions per policy": "Offline tasks have data in place of transitions.",
        }
        optional = ["track", "transitions per policy", "agents", "k", "ceiling"]
        print_table("Tasks", columns, cells, n_left=2, optional=optional, notes=notes)
    else:
        for row in rows if what is Kind.solvers else ():
            if row.pop("heterogeneous") and row["track"] == "online":
                row["track"] = "online, heterogeneous"
        columns = list(rows[0])
        cells = [["–" if row[name] is None else str(row[name]) for name in columns] for row in rows]
        names = [name.replace("_", " ") for name in columns]
        n_left = 1 if what is Kind.envs else 3
        optional = ["max episode steps", "env id", "track"]
        notes = {"track": TRACK_NOTE} if what is Kind.solvers else {}
        title = what.value.capitalize()
        print_table(title, names, cells, n_left=n_left, optional=optional, notes=notes)


def _list_settings(solver: str, as_json: bool) -> None:

    from rmdp_bench.runs import load_solver
    from rmdp_bench.runs.settings import describe_settings
    from rmdp_bench.runs.solver_loading import OWN_WORLDS, form_with_own_worlds

    rows = describe_settings(load_solver(solver))
    if as_json:
        print_json(rows)
        return
    _print_settings(f"Settings of {solver}", rows)
    if solver in OWN_WORLDS:
        title = f"Settings of {solver} where agents differ in dynamics"
        _print_settings(title, describe_settings(form_with_own_worlds(solver)))


def _print_settings(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    import json

    cells = [
        [row["name"], row["type"], json.dumps(row["default"]), row["description"] or ""]
        for row in rows
    ]
    columns = ["setting", "type", "default", "description"]
    notes = {
        "change": "Change a setting with run --set NAME=VALUE.",
        "default": "A task may have defaults of its own.",
    }
    print_table(title, columns, cells, n_left=4, optional=["type"], notes=notes)


def _settings(solver: str) -> list[dict[str, Any]] | None:
    """None if a package is missing that the solver needs."""
    from rmdp_bench.runs import load_solver
    from rmdp_bench.runs.settings import describe_settings

    try:
        return describe_settings(load_solver(solver))
    except ValueError as error:
        warn(str(error))
        return None


def doctor_command(as_json: JsonOption = False) -> None:
    """Say what this machine has, and what is missing for which purpose."""
    from rmdp_bench.system import system_record, versions

    cuda = _cuda()
    checks = [
        _module_check("torch", "the solvers of the suite"),
        _module_check("onnxscript", "exporting other networks of torch"),
        _module_check("tensorboard", "run --tensorboard"),
        _module_check("mo_gymnasium", "the worlds of MO-Gymnasium", "mo"),
        {"name": "cuda", "found": cuda is None, "needed_for": "run --device cuda", "hint": cuda},
        _rendering_check(),
        *_layer_checks(),
    ]
    system = system_record("cpu" if cuda else "cuda")
    report = {"system": system, "versions": versions(), "checks": checks}
    if as_json:
        print_json(report)
        return
    facts = {**system, **{f"version of {name}": value for name, value in versions().items()}}
    cells = [[name, "–" if value is None else str(value)] for name, value in facts.items()]
    print_table("This machine", ["", ""], cells, n_left=2)
    cells = [
        [check["name"], "yes" if check["found"] else "no", check["needed_for"], check["hint"] or ""]
        for check in checks
    ]
    columns = ["part", "found", "needed for", "what to do"]
    print_table("Optional parts", columns, cells, n_left=4, optional=["needed for"])


def _layer_checks() -> list[dict[str, Any]]:
    """Of the process in which `verify` reads and plays the files of strangers."""
    from rmdp_bench.submission.sandbox.confinement import describe_layers

    return [
        {
            "name": f"layer: {layer.name}",
            "found": layer.missing is None,
            "needed_for": f"verify: {layer.holds} out of reach",
            "hint": layer.missing,
        }
        for layer in describe_layers()
    ]


def _environments() -> list[dict[str, Any]]:
    from rmdp_bench.envs import ENVIRONMENTS
    from rmdp_bench.envs.mo_worlds import MO_WORLDS

    own = [(entry.id, entry.n_agents, entry.max_episode_steps) for entry in ENVIRONMENTS]
    optional = [(world.id, world.n_agents, world.max_episode_steps) for world in MO_WORLDS]
    columns = ("id", "n_agents", "max_episode_steps")
    return [dict(zip(columns, row, strict=True)) for row in own + optional]


def _datasets() -> list[dict[str, Any]]:
    from rmdp_bench.datasets import DATASETS

    return [
        {"id": entry.id, "env_id": entry.env_id, "description": entry.description}
        for entry in DATASETS
    ]


def _tasks() -> list[dict[str, Any]]:
    from rmdp_bench.tasks import list_tasks

    return [task.to_dict() for task in list_tasks()]


def _solvers() -> list[dict[str, Any]]:
    from rmdp_bench.runs.settings import describe_solvers
    from rmdp_bench.runs.solver_loading import OWN_WORLDS, kind_of

    return [
        {
            "name": name,
            "track": kind_of(name),
            "heterogeneous": kind_of(name) == "heterogeneous" or name in OWN_WORLDS,
            "description": description,
        }
        for name, description in describe_solvers().items()
    ]


def _module_check(name: str, needed_for: str, extra: str = "baselines") -> dict[str, Any]:
    import importlib.util

    found = importlib.util.find_spec(name) is not None
    hint = None if found else f"pip install 'rmdp_bench[{extra}]'"
    return {"name": name, "found": found, "needed_for": needed_for, "hint": hint}


def _cuda() -> str | None:
    """What is missing for CUDA, or None."""
    try:
        import torch
    except ImportError:
        return "install torch"
    if torch.version.cuda is None:
        return "this torch has no CUDA: install another build from pytorch.org"
    return None if torch.cuda.is_available() else "no NVIDIA GPU or no driver is visible"


def _rendering_check() -> dict[str, Any]:
    """Draw one frame in another process: a broken GL may end it."""
    import subprocess
    import sys

    code = (
        "import gymnasium as gym, rmdp_bench; "
        "env = gym.make('rmdp/HopperVel-n100-v0', render_mode='rgb_array'); "
        "env.reset(seed=0); assert env.render().any()"
    )
    try:
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        found = False
    return {
        "name": "gl",
        "found": found,
        "needed_for": "render_mode of the robots",
        "hint": None if found else "without a display set MUJOCO_GL=egl, or MUJOCO_GL=osmesa",
    }
