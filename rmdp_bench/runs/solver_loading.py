"""Solvers: by name or from anyone's file, and their settings.

A solver is a module with a frozen dataclass `Config`, a docstring under each field, and

    solve(task, config, seeds, device, log) -> list[Solution], one per seed

It may have `config_for(task) -> Config` for defaults that depend on the task, and
`check(task, config) -> None`, which raises a ValueError if these settings cannot work on this task
(its transitions are those asked for), before anything is written.

Two more names matter to sweeps: `SEEDS_AS_ONE_BATCH = True` says that several seeds train in less
time at once than one after the other, and `also_solves(task, config)` gives the ids of the tasks
whose solutions the same training hands in by `RunLog.add_solutions`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import json
import re
import shlex
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rmdp_bench.envs import get_environment
from rmdp_bench.evaluation.pairs import plays_pairs
from rmdp_bench.files import import_file
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, list_tasks

SOLVERS: Mapping[str, str] = {
    "em": "baselines.online.em",
    "em_plus": "baselines.online.em_plus",
    "end_to_end": "baselines.online.end_to_end",
    "clustering": "baselines.online.clustering",
    "parameter_cover": "baselines.online.parameter_cover",
    "affinity_grouping": "baselines.online.affinity_grouping",
    "random_assignment": "baselines.online.random_assignment",
    "oracle": "baselines.online.oracle",
    "universal": "baselines.online.universal",
    "basal_bolus": "baselines.heterogeneous.basal_bolus",
    "constant_basal": "baselines.heterogeneous.constant_basal",
    "tuned_ppo": "baselines.heterogeneous.tuned_ppo",
    "persim_em": "baselines.heterogeneous.persim_em",
    "factor_clustering": "baselines.heterogeneous.factor_clustering",
    "clinic_gains": "baselines.heterogeneous.clinic_gains",
    "morel": "baselines.offline.morel",
    "true_env_mpc": "baselines.offline.planning.true_env_mpc",
    "bcq": "baselines.offline.model_free.bcq",
    "cql": "baselines.offline.model_free.cql",
    "behaviour": "baselines.offline.model_free.behaviour",
    "cadm": "baselines.offline.cadm.cadm",
    "pe_cadm": "baselines.offline.cadm.pe_cadm",
    "persim": "baselines.offline.persim",
    "persim_bcq": "baselines.offline.persim.persim_bcq",
    "persim_policy": "baselines.offline.persim.persim_policy",
}
"""Name -> module."""

OWN_WORLDS: Mapping[str, str] = {
    name: f"baselines.heterogeneous.{name}"
    for name in ("em", "end_to_end", "clustering", "random_assignment", "oracle", "universal")
}
"""Name -> module that goes by it where agents differ in dynamics and each has a world of its own:
the same idea, and other settings."""


CONTROLS = ("basal_bolus", "constant_basal", "clinic_gains")
"""Solvers of the suite that choose among few controllers: seeds may choose the same."""
_OF_RECORDS = ("persim_em", "factor_clustering", "clinic_gains")
"""Solvers for patients that learn from logged records; the others act."""
_OF_ANY_REWARD = ("bcq", "cql", "behaviour")
"""Offline solvers that need no function for the reward."""
_PATIENTS = "rmdp/Glucose-n100-v0"
_EXAMPLES = (
    *("ResourceGathering-n25-k3-v0", "Glucose-n100-k3-v0"),
    *("CartPoleHet-n500-pure-v1", "Glucose-n100-k3-clinic-v0"),
)
"""Tasks of each kind."""
_EXAMPLE = "examples/my_solver.py in the repository"


def kind_of(name: str) -> str:
    """What tasks a solver of the suite is for: online, offline or heterogeneous, its folder."""
    return SOLVERS[name].split(".")[1]


def _fits(name: str, task: Task) -> bool:
    """Whether a task is of a kind that a solver of the suite is for."""
    kind = kind_of(name)
    if kind == "heterogeneous":
        own = isinstance(task, OfflineTask) == (name in _OF_RECORDS)
        return own and task.env_id == _PATIENTS
    if isinstance(task, OnlineTask):
        own = name in OWN_WORLDS and task.env_id == _PATIENTS
        return kind == "online" and (own or not task.heterogeneous)
    hidden = get_environment(task.env_id).hidden_reward
    return kind == "offline" and (name in _OF_ANY_REWARD or not hidden)


def _say_what_fits(solver: Solver, task: Task) -> str:
    """Where a solver of the suite was refused for the kind of the task: what to do instead."""
    if solver.name not in SOLVERS or _fits(solver.name, task):
        return ""
    tasks = {own.id: own for own in list_tasks() if _fits(solver.name, own)}
    near = [own for own in tasks.values() if own.env_id == task.env_id]
    near.sort(key=lambda own: abs(own.n_representatives - task.n_representatives))
    example = near[0].id if near else next(own for own in _EXAMPLES if own in tasks)
    # Those for few tasks first: they are made for them.
    fitting = [name for name in SOLVERS if _fits(name, task)]
    controls = [name for name in fitting if name in CONTROLS]
    learning = [name for name in fitting if name not in CONTROLS]
    learning.sort(key=lambda name: name not in _OF_RECORDS)
    more = ", ..." if len(learning) > 3 else ""
    solved = f", and {task.id} is solved by {', '.join(learning[:3])}{more}" if learning else ""
    solved += f", without learning by {' and '.join(controls)}" if controls else ""
    return f"; {solver.name} solves {example}, for example{solved}"


@dataclass(frozen=True)
class Solver:
    """A loaded solver.

    Attributes:
        name: what its results are filed under.
        module: has Config and solve.
        sha256: of an outsider's file; None for a solver of the suite.
    """

    name: str
    module: ModuleType
    sha256: str | None = None

    @property
    def reference(self) -> str:
        """What `load_solver` finds it by: its name, or an outsider's file."""
        return self.name if self.sha256 is None else str(self.module.__file__)


def load_solver(name_or_path: str) -> Solver:
    """Load a solver by its name, or from a file whose name ends in .py.

    Raises:
        ValueError: no such solver, it cannot be loaded, or it lacks Config or solve.
    """
    if name_or_path.endswith(".py"):
        solver = _load_file(Path(name_or_path))
    elif name_or_path in SOLVERS:
        solver = Solver(name_or_path, _load_named(name_or_path, SOLVERS[name_or_path]))
    else:
        close = difflib.get_close_matches(name_or_path, SOLVERS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else f"known are {', '.join(SOLVERS)}"
        raise ValueError(
            f"unknown solver {name_or_path!r}; {hint} (a file of your own ends in .py)"
        )
    _check_solver(solver, name_or_path)
    return solver


def form_for(solver: Solver, task: Task) -> Solver:
    """The form of a solver of the suite that solves a task: see `OWN_WORLDS`.

    Raises:
        ValueError: it cannot be loaded.
    """
    if solver.sha256 is not None or not plays_pairs(task) or solver.name not in OWN_WORLDS:
        return solver
    return form_with_own_worlds(solver.name)


def form_with_own_worlds(name: str) -> Solver:
    """A solver of `OWN_WORLDS`, by its name.

    Raises:
        ValueError: it cannot be loaded.
    """
    return Solver(name, _load_named(name, OWN_WORLDS[name]))


def make_config(solver: Solver, task: Task, settings: Sequence[str] = ()) -> Any:
    """The solver's settings for a task, with overrides.

    Args:
        solver: gives Config, and defaults per task if it has them.
        task: to be solved.
        settings: "key=value" each; JSON, or plain text where the field is a string.

    Raises:
        ValueError: an unknown or repeated key, a value of the wrong type, or one that Config
            refuses.
    """
    config_type = solver.module.Config
    config_for = getattr(solver.module, "config_for", None)
    try:
        config = config_type() if config_for is None else config_for(task)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"solver {solver.name} has no settings for {task.id}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(config, config_type):
        raise ValueError(f"config_for of solver {solver.name} does not give a Config")
    values = _parse_settings(solver, settings)
    try:
        return dataclasses.replace(config, **values)
    except (Exception, SystemExit) as error:
        given = ", ".join(settings)
        raise ValueError(f"solver {solver.name} refuses {given}: {_reason(error)}") from error


def check_config(solver: Solver, task: Task, config: Any) -> None:
    """Ask the solver whether its settings work on a task.

    Args:
        solver: may have a function `check`.
        task: with the transitions asked for.
        config: from `make_config`.

    Raises:
        ValueError: it refuses them.
    """
    check = getattr(solver.module, "check", None)
    if check is None:
        return
    try:
        check(task, config)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"solver {solver.name} refuses {task.id}: {_reason(error)}"
            f"{_say_what_fits(solver, task)}"
        ) from error


def _reason(error: BaseException) -> str:
    """What an error says; its type as well, unless it is the one for bad values."""
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def config_to_dict(config: Any) -> dict[str, Any]:
    """Settings as JSON holds them (a tuple becomes a list).

    Raises:
        ValueError: a value that JSON does not hold.
    """
    try:
        text = json.dumps(dataclasses.asdict(config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the solver's settings are not JSON: {error}") from error
    values: dict[str, Any] = json.loads(text)
    return values


def _load_named(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"solver {name} needs the module {error.name}, which is not installed: "
            f"pip install 'rmdp_bench[baselines]'"
        ) from error


def _load_file(path: Path) -> Solver:
    name = path.stem.replace(" ", "_")  # the name is also that of a folder in a submission
    if not path.is_file():
        raise ValueError(f"there is no solver file {path}")
    if name in SOLVERS or not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
        raise ValueError(
            f"the solver file {path.name} needs another name: letters, digits, spaces, _ and - "
            f"only, and not that of a solver of the suite"
        )
    module, sha256 = import_file(path, "solver")
    return Solver(name, module, sha256)


def _check_solver(solver: Solver, where: str) -> None:
    config_type = getattr(solver.module, "Config", None)
    if not (isinstance(config_type, type) and dataclasses.is_dataclass(config_type)):
        raise ValueError(
            f"{where} has no dataclass Config, expected one that holds the settings, empty if "
            f"there are none, and a function solve(task, config, seeds, device, log): "
            f"{_EXAMPLE} has both"
        )
    solve = getattr(solver.module, "solve", None)
    if not callable(solve):
        raise ValueError(
            f"{where} has no function solve(task, config, seeds, device, log): {_EXAMPLE} has one"
        )
    check = getattr(solver.module, "check", None)
    if check is not None and not callable(check):
        raise ValueError(f"{where}: check is not a function check(task, config)")
    try:
        inspect.signature(solve).bind(*("task", "config", "seeds", "device", "log"))
    except TypeError as error:
        raise ValueError(
            f"{where}: solve{inspect.signature(solve)} does not accept "
            f"(task, config, seeds, device, log): {error}"
        ) from error


def _parse_settings(solver: Solver, settings: Sequence[str]) -> dict[str, Any]:
    config_type = solver.module.Config
    names = [field.name for field in dataclasses.fields(config_type) if field.init]
    if not settings:
        return {}
    try:
        types = typing.get_type_hints(config_type)
    except Exception as error:  # an annotation is code of the solver
        raise ValueError(f"the types of Config cannot be read: {error}") from error
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected key=value")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3)
            known = (
                f"`rmdp-bench list solvers --settings {shlex.quote(solver.reference)}` lists them"
            )
            hint = f"did you mean {', '.join(close)}?" if close else known
            raise ValueError(f"--set {setting}: no setting {name!r}; {hint}")
        if name in values:
            raise ValueError(f"--set {setting}: {name!r} is given twice")
        values[name] = _parse_value(types[name], text, setting)
    return values


def _parse_value(kind: Any, text: str, setting: str) -> Any:
    """Read a value as JSON, else as text that pydantic turns into the type."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
    try:
        return adapter.validate_json(text)
    except ValidationError:
        pass
    try:
        return adapter.validate_python(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"--set {setting}: {reason[0].lower()}{reason[1:]}") from error
