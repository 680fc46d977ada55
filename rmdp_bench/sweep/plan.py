"""Plans: which solvers run on which tasks, how, and with which seeds.

    seeds = "0:5"                          # a key above the first [[runs]] holds for all of them

    [[runs]]
    solvers = ["em", "./my_solver.py"]     # names, or files, relative to the plan's folder
    tasks = ["ResourceGathering-n25-k3-v0", "ResourceGathering-n25-k5-v0"]
    settings = { signal = ["reward", "advantage"], hidden_dims = [[64, 64]] }

Every solver runs on every task with every seed. A list in `settings` is a list of values to try,
and several lists make a grid; a value that is a list stands in a list of its own. `KEYS` says what
else there is.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib.metadata
import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rmdp_bench.counts import parse_count
from rmdp_bench.runs.requests import DEVICES, Request, make_request
from rmdp_bench.runs.solver_loading import Solver, config_to_dict, load_solver
from rmdp_bench.sweep.jobs import Job
from rmdp_bench.tasks import OnlineTask

MAX_SEEDS = 100_000
MAX_BATCH = 10
"""Most seeds in a batch that forms itself: more were not measured."""
JOBS_FOR_EACH_PLACE = 2
"""Batches are only so large that there are as many jobs for each that can run at once."""
KEYS: Mapping[str, str] = {
    "solvers": "a list of names of solvers, or of files that end in .py",
    "tasks": "a list of ids of tasks",
    "seeds": 'text such as "0:5" (0 to 4) or "0,2,7", or a list of integers',
    "settings": "a table: setting -> a value, or a list of values to try",
    "transitions": 'a count such as 20_000 or "20k": the budget per policy instead of the task\'s',
    "episodes": "a count such as 20: episodes that score each policy instead of the task's",
    "device": "cpu or cuda",
    "cores": "a positive integer: cores of each job",
    "gpus": "a number above 0, at most 1: the share of a GPU that each job takes",
    "seeds_per_batch": "a positive integer: seeds that one job trains",
    "folder": "a relative path below the sweep's folder, such as the name of a submission",
}
"""Of [[runs]] -> what is expected."""
TABLES = {"slurm": "parameters of submitit's executor"}


@dataclass(frozen=True)
class Row:
    """Runs that are asked for together; see `KEYS`."""

    solvers: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    transitions: int | None = None
    episodes: int | None = None
    device: str = "cpu"
    cores: int | None = None
    gpus: float = 1.0
    seeds_per_batch: int | None = None
    folder: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan as it is written.

    Attributes:
        name: of its file, without the ending.
        folder: where solver files are looked for.
        text: of its file.
        rows: its [[runs]].
        slurm: parameters of submitit's executor.
    """

    name: str
    folder: Path
    text: str
    rows: tuple[Row, ...]
    slurm: Mapping[str, Any]


def read_plan(path: Path) -> Plan:
    """Read the file of a plan.

    Raises:
        ValueError: it cannot be read, or as in `parse_plan`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the plan {path}: {error}") from error
    return parse_plan(text, path.stem, path.absolute().parent, str(path))


def parse_plan(text: str, name: str, folder: Path, where: str) -> Plan:
    """Read a plan's text.

    Args:
        text: TOML.
        name: of the plan.
        folder: where solver files are looked for.
        where: what messages call it.

    Raises:
        ValueError: not TOML, or a key or value that a plan does not have; names the place.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where} is not TOML: {error}") from error
    rows = document.pop("runs", None)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{where} has no [[runs]], expected at least one")
    slurm = document.pop("slurm", {})
    if not isinstance(slurm, dict):
        raise ValueError(f"{where}: slurm is {slurm!r}, expected a table: {TABLES['slurm']}")
    _check_keys(document, [*KEYS, "runs", *TABLES], where)
    parsed = []
    for number, row in enumerate(rows, start=1):
        place = f"{where}, [[runs]] number {number}"
        _check_keys(row, list(KEYS), place)
        parsed.append(_parse_row(document | row, place))
    return Plan(name, folder, text, tuple(parsed), slurm)


def _check_keys(table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"{place}: no key {key!r}; {hint}")


def _parse_row(table: Mapping[str, Any], place: str) -> Row:
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _PARSERS[key](value)
        except (ValueError, TypeError) as error:
            reason = f" ({error})" if str(error) else ""
            raise ValueError(
                f"{place}: {key} is {value!r:.200}, expected {KEYS[key]}{reason}"
            ) from error
    for key in ("solvers", "tasks"):
        if key not in values:
            raise ValueError(f"{place} has no {key}, expected {KEYS[key]}")
    if "gpus" in values and values.get("device", "cpu") != "cuda":
        raise ValueError(f'{place} has gpus, but device is not "cuda"')
    return Row(**values)


def _parse_names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError
    if len(set(names)) < len(names):
        raise ValueError("one is there twice")
    return tuple(names)


def _parse_count(value: Any) -> int:
    if type(value) not in (int, float, str):
        raise ValueError
    count = parse_count(value if isinstance(value, int) else str(value))
    if count < 1:
        raise ValueError
    return count


def _parse_share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise ValueError
    return float(value)


def _parse_device(value: Any) -> str:
    if value not in DEVICES:
        raise ValueError
    return str(value)


def _parse_folder(value: Any) -> str:
    path = PurePosixPath(value)
    if "\0" in value:
        raise ValueError("no file system has NUL in a name")
    if path.is_absolute() or ".." in path.parts or path.parts[:1] in ((), ("sweep",)):
        raise ValueError
    return str(path)


def _parse_settings(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError
    if [] in value.values():
        raise ValueError("an empty list has nothing to try")
    for name, values in value.items():
        texts = [_as_text(each) for each in (values if isinstance(values, list) else [values])]
        if len(set(texts)) < len(texts):
            raise ValueError(f"a value of {name} is there twice")
    return value


def _parse_seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and all(type(seed) is int for seed in value):
        seeds = value
    elif not isinstance(value, str):
        raise ValueError
    else:
        seeds = list(itertools.chain(*map(_parse_range, value.split(","))))
    if not 1 <= len(seeds) <= MAX_SEEDS:
        raise ValueError(f"expected 1 to {MAX_SEEDS} seeds")
    if len(set(seeds)) < len(seeds):
        raise ValueError("one is there twice")
    return tuple(seeds)


def _parse_range(text: str) -> range:
    ends = [int(end) for end in text.split(":") if end.strip().isdecimal()]
    if len(ends) != text.count(":") + 1 or len(ends) > 2:
        raise ValueError
    end = ends[-1] + (len(ends) == 1)
    if not 1 <= end - ends[0] <= MAX_SEEDS:
        raise ValueError
    return range(ends[0], end)


_PARSERS: Mapping[str, Any] = {
    "solvers": _parse_names,
    "tasks": _parse_names,
    "seeds": _parse_seeds,
    "settings": _parse_settings,
    "transitions": _parse_count,
    "episodes": _parse_count,
    "device": _parse_device,
    "cores": _parse_count,
    "gpus": _parse_share,
    "seeds_per_batch": _parse_count,
    "folder": _parse_folder,
}


def list_settings(settings: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """All points of a grid, as `--set` takes them.

    Args:
        settings: setting -> its value, or a list of values to try.
    """
    axes = [
        [f"{name}={_as_text(each)}" for each in (value if isinstance(value, list) else [value])]
        for name, value in settings.items()
    ]
    return list(itertools.product(*axes))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass
class _Group:
    """Runs that differ in their seeds only, or in tasks that one training solves.

    Attributes:
        job: without seeds.
        seeds: all that are asked for.
        row: the first that asked for them.
        batches: whether the solver gains by training several seeds at once.
        also_solves: ids of other tasks that the same training solves.
    """

    job: Job
    seeds: list[int]
    row: Row
    batches: bool
    also_solves: Sequence[str]


def make_jobs(plan: Plan, n_places: float | None = None) -> list[Job]:
    """Check a plan wholly, and make its jobs; nothing is written.

    Where one training solves several of the tasks, they are one job: what the first hands in is not
    run again.

    Args:
        plan: as it is written.
        n_places: jobs that can run at once, by which batches form themselves; None: not known, and
            every seed is a job of its own, unless the plan or a GPU decides it.

    Raises:
        ValueError: a solver, task, seed or setting is wrong, with the message that `rmdp-bench run`
            would give.
    """
    load = functools.cache(functools.partial(_load, plan.folder))
    groups: dict[tuple[Job, int | None], _Group] = {}
    there: set[tuple[str, str, int]] = set()
    for row in plan.rows:
        for task, name, settings in itertools.product(
            row.tasks, row.solvers, list_settings(row.settings)
        ):
            group = _make_group(row, load(name), task, settings)
            place = (group.job.folder, task)
            group.seeds = [seed for seed in row.seeds if (*place, seed) not in there]
            there.update((*place, seed) for seed in group.seeds)
            same = groups.setdefault((group.job, row.seeds_per_batch), group)
            if same is not group:
                same.seeds += group.seeds
    merged = _merge_families([group for group in groups.values() if group.seeds])
    n_seeds = sum(len(group.seeds) for group in merged)
    jobs = []
    for group in merged:
        size = _batch_size(group, n_seeds, n_places)
        for start in range(0, len(group.seeds), size):
            batch = tuple(group.seeds[start : start + size])
            jobs.append(dataclasses.replace(group.job, seeds=batch))
    return jobs


def _load(folder: Path, name: str) -> Solver:
    return load_solver(str(folder / name) if name.endswith(".py") else name)


def _make_group(row: Row, solver: Solver, task: str, settings: Sequence[str]) -> _Group:
    request = make_request(
        solver,
        task,
        seeds=row.seeds,
        transitions=row.transitions,
        n_episodes=row.episodes,
        settings=settings,
        overwrite=True,  # what other requests left elsewhere is none of its business
    )
    if isinstance(request.task, OnlineTask) and not request.task.is_official:
        raise ValueError(
            f"{task} is not one of the listed tasks, expected one: jobs find theirs by id; "
            "`rmdp-bench run` takes others"
        )
    request = dataclasses.replace(request, device=row.device)  # which this machine need not have
    solver = request.solver  # in the form for the task
    also_solves = getattr(solver.module, "also_solves", None)
    others = also_solves(request.task, request.config) if also_solves is not None else []
    job = Job(
        folder=str(PurePosixPath(row.folder) / make_address(request)),
        solver=solver.reference,
        solver_name=solver.name,
        solver_sha256=solver.sha256,
        tasks=(task,),
        seeds=(),
        settings=tuple(settings),
        transitions=row.transitions,
        episodes=row.episodes,
        device=row.device,
        cores=row.cores,
        gpus=row.gpus if row.device == "cuda" else 0.0,
    )
    batches = getattr(solver.module, "SEEDS_AS_ONE_BATCH", False)
    return _Group(job, list(row.seeds), row, batches, others)


def make_address(request: Request) -> str:
    """Hash all that a request says but task and seed, and the version of the package.

    These two are in the path of a run directory, so that address and path say what one seed is.
    """
    document = {
        "solver": request.solver.name,
        "solver_sha256": request.solver.sha256,
        "config": config_to_dict(request.config),
        "transitions": request.task.transitions,
        "episodes": request.task.n_eval_episodes,
        "device": request.device,
        "version": importlib.metadata.version("rmdp_bench"),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def _merge_families(groups: Sequence[_Group]) -> list[_Group]:
    """Put tasks that one training solves into the job of the first of them."""
    merged: list[_Group] = []
    families: dict[tuple[str, tuple[int, ...]], list[_Group]] = {}
    for group in groups:
        family = families.setdefault((group.job.folder, tuple(group.seeds)), [])
        for first in family:
            if group.job.tasks[0] in first.also_solves:
                tasks = first.job.tasks + group.job.tasks
                first.job = dataclasses.replace(first.job, tasks=tasks)
                break
        else:
            merged.append(group)
            if group.also_solves:
                family.append(group)
    return merged


def _batch_size(group: _Group, n_seeds: int, n_places: float | None) -> int:
    if group.row.seeds_per_batch is not None:
        return group.row.seeds_per_batch
    if not group.batches:
        return 1
    if group.job.device == "cuda":
        return MAX_BATCH
    if n_places is None:
        return 1
    return max(1, min(MAX_BATCH, int(n_seeds / (JOBS_FOR_EACH_PLACE * n_places))))
