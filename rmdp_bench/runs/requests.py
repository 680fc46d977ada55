"""Requests: what to run, checked wholly before anything is written."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmdp_bench.envs.mo_worlds import find_mo_world, import_mo_gymnasium
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.evaluation.playing import check_episodes
from rmdp_bench.files import check_writable, read_json
from rmdp_bench.own_tasks import find_task
from rmdp_bench.references import check_references
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.runs.log import TRACKERS
from rmdp_bench.runs.records import MAX_COUNT, RESULT_FILE, SCHEMA_VERSION
from rmdp_bench.runs.solver_loading import (
    Solver,
    check_config,
    config_to_dict,
    form_for,
    load_solver,
    make_config,
)
from rmdp_bench.runs.trained import TRAINED_FILE
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, get_task

REQUEST_FILE = "run.json"
DEVICES = ("cpu", "cuda")
MAX_DIFFERENCES = 5
"""How many differences to the request before are named."""


@dataclass(frozen=True)
class Request:
    """A checked request to run one solver on one task.

    Attributes:
        task: with the transitions that were asked for.
        solver: loaded.
        config: its settings.
        seeds: one run directory each.
        device: "cpu" or "cuda".
        out: folder of the run directories.
        tensorboard: whether to write scalars for TensorBoard.
        track: a tracker that gets the scalars too, of `rmdp_bench.runs.log.TRACKERS`; None: none.
        overwrite: whether runs that another request made are replaced.
    """

    task: Task
    solver: Solver
    config: Any
    seeds: tuple[int, ...]
    device: str
    out: Path
    tensorboard: bool = False
    overwrite: bool = False
    track: str | None = None

    def directory(self, seed: int) -> Path:
        """The run directory of a seed."""
        return self.out / self.task.id / self.solver.name / f"seed-{seed}"

    def identity(self, seed: int) -> dict[str, Any]:
        """What a record says about its request."""
        return {
            "schema_version": SCHEMA_VERSION,
            "task": self.task.id,
            "solver": self.solver.name,
            "solver_sha256": self.solver.sha256,
            "config": config_to_dict(self.config),
            "transitions": self.task.transitions,
            "device": self.device,
            "seed": seed,
        }

    def document(self, seed: int) -> dict[str, Any]:
        """What has to be the same for a run directory to be continued."""
        return self.identity(seed) | {"n_episodes": self.task.n_eval_episodes}


def make_request(
    solver: str | Solver,
    task: str | Task,
    *,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    out: Path | str = "runs",
    transitions: int | None = None,
    n_representatives: int | None = None,
    n_agents: int | None = None,
    objective: str | None = None,
    n_episodes: int | None = None,
    settings: Sequence[str] = (),
    tensorboard: bool = False,
    track: str | None = None,
    overwrite: bool = False,
) -> Request:
    """Check a request wholly; nothing is written.

    Args:
        solver: a name, the path of a file that ends in .py, or one that is loaded.
        task: an id, a file, or a task: see `own_tasks.find_task`.
        seeds: training seeds, 0 to 2**31 - 1, each once.
        device: "cpu" or "cuda".
        out: folder of the run directories.
        transitions: budget per policy; None: the task's. Offline tasks have none to change.
        n_representatives: k; None: the task's.
        n_agents: n; None: the task's.
        objective: see `scoring.parse_objective`; None: the task's.
        n_episodes: that score each policy, or each agent offline; None: the task's number.
        settings: "key=value" overrides of the solver's Config.
        tensorboard: whether to write scalars for TensorBoard.
        track: "wandb", which gets the scalars too; None: nobody.
        overwrite: whether `run` replaces what another request left in a run directory, such as one
            with another version of the solver's file; what the same request left is kept.

    Raises:
        ValueError: anything is wrong, or a run directory was made by another request.
    """
    checked_task = find_task(
        task, n_representatives=n_representatives, n_agents=n_agents, objective=objective
    )
    if isinstance(checked_task, OfflineTask) and not checked_task.has_common_scale:
        # else the scores would be missing after hours of training
        agents = (*checked_task.eval_agents, *checked_task.heldout_agents)
        check_references(checked_task.env_id, agents)
    if n_episodes is not None:
        check_episodes(checked_task, n_episodes, EVALUATION_SEED)
        checked_task = dataclasses.replace(checked_task, n_eval_episodes=n_episodes)
    if transitions is not None:
        if isinstance(checked_task, OfflineTask):
            raise ValueError(
                f"transitions is {transitions}, but {checked_task.id} is an offline task: its data "
                "are fixed, and nothing is collected"
            )
        if not 1 <= transitions <= MAX_COUNT:
            raise ValueError(
                f"transitions is {transitions}, expected 1 to {MAX_COUNT} (per policy)"
            )
        checked_task = dataclasses.replace(checked_task, transitions=transitions)
    if find_mo_world(checked_task.env_id) is not None:
        try:
            import_mo_gymnasium(checked_task.env_id)
        except ImportError as error:
            raise ValueError(str(error)) from error
    _check_seeds(seeds)
    check_device(device)
    check_writable(Path(out))
    if tensorboard:
        _check_tensorboard()
    _check_tracker(track)
    loaded = solver if isinstance(solver, Solver) else load_solver(solver)
    loaded = form_for(loaded, checked_task)
    config = make_config(loaded, checked_task, settings)
    check_config(loaded, checked_task, config)
    request = Request(
        checked_task, loaded, config, tuple(seeds), device, Path(out), tensorboard, overwrite, track
    )
    check_same_request(request)
    return request


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ValueError("no seeds are given, expected at least one")
    for seed in seeds:
        if not 0 <= seed < EVALUATION_SEED:
            raise ValueError(
                f"seed {seed} is not a training seed, expected 0 to {EVALUATION_SEED - 1}"
            )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {', '.join(map(str, seeds))} are not all different")


def check_device(device: str) -> None:
    """Refuse a device that does not exist, or is not here.

    Raises:
        ValueError: says which there are, or what is missing.
    """
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}, expected {' or '.join(DEVICES)}")
    if device == "cuda":
        try:
            import torch
        except ImportError as error:
            raise ValueError(
                "device cuda needs torch: pip install 'rmdp_bench[baselines]'"
            ) from error
        if not torch.cuda.is_available():
            raise ValueError("device cuda is not available here; see `rmdp-bench doctor`")


def _check_tensorboard() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("--tensorboard needs tensorboard: pip install 'rmdp_bench[baselines]'")


def _check_tracker(track: str | None) -> None:
    if track is None:
        return
    if track not in TRACKERS:
        raise ValueError(f"unknown tracker {track!r}, expected {', '.join(TRACKERS)}")
    if importlib.util.find_spec(track) is None:
        raise ValueError(f"--track {track} needs {track}: pip install 'rmdp_bench[{track}]'")


def check_same_request(request: Request) -> None:
    """Refuse run directories that were made by another request, unless they are to be replaced.

    What a run left that failed before its first checkpoint is in nobody's way.

    Raises:
        ValueError: names what differs.
    """
    if request.overwrite:
        return
    for seed in request.seeds:
        changed = differences(request, seed)
        if not keeps_training(request.directory(seed)):
            continue
        if len(changed) > MAX_DIFFERENCES:
            n_more = len(changed) - MAX_DIFFERENCES
            changed = [*changed[:MAX_DIFFERENCES], f"and {n_more} more"]
        if changed:
            raise ValueError(
                f"{request.directory(seed)} was made with {', '.join(changed)}; use the same "
                f"settings, another --out, or --overwrite to replace it"
            )


def keeps_training(directory: Path) -> bool:
    """Whether a run directory has a record, trained policies or a checkpoint."""
    kept = (directory / name for name in (RESULT_FILE, TRAINED_FILE))
    return any(path.exists() for path in kept) or bool(list_checkpoints(directory))


def differences(request: Request, seed: int) -> list[str]:
    """How the request that made a run directory differs from this one; none: it did not.

    Raises:
        ValueError: what the directory says of its request cannot be read, and it is not to be
            replaced.
    """
    path = request.directory(seed) / REQUEST_FILE
    if not (path.exists() or path.is_symlink()):
        return []
    try:
        document = read_json(path)
    except ValueError as error:
        if request.overwrite:
            return [f"a {REQUEST_FILE} that cannot be read"]
        raise ValueError(
            f"{error}; --overwrite replaces the run, another --out leaves it"
        ) from error
    task = request.task
    listed = task if isinstance(task, OnlineTask) and not task.is_official else get_task(task.id)
    before = _flat({"n_episodes": listed.n_eval_episodes} | document)
    now = _flat(request.document(seed))
    return [
        f"{key} {before.get(key)!r} instead of {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    config = identity.get("config")
    settings = config.items() if isinstance(config, dict) else ()
    rest = {key: value for key, value in identity.items() if key != "config"}
    return rest | {f"config.{key}": value for key, value in settings}
