"""Running a solver: everything is checked first, then trained, saved, scored and recorded.

Policies are scored from the files that were saved, not from memory, so that a record says what
anybody gets who loads the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.util
import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench import scoring
from rmdp_bench.evaluation import EVALUATION_SEED, Evaluation, evaluate_all
from rmdp_bench.files import read_json, replacing, write_json, write_text
from rmdp_bench.results.checkpoints import group_by_checkpoint
from rmdp_bench.results.progress import Display, NoDisplay
from rmdp_bench.results.records import (
    RESULT_FILE,
    SCHEMA_VERSION,
    EvaluationSettings,
    Result,
    read_result,
    write_result,
)
from rmdp_bench.results.run_log import Interrupted, RunLog
from rmdp_bench.results.solvers import Solver, config_to_dict, load_solver, make_config
from rmdp_bench.results.system import (
    git_revision,
    peak_device_memory_mib,
    peak_memory_mib,
    system_record,
    versions,
)
from rmdp_bench.solution import Solution, load_solution, save_solution
from rmdp_bench.tasks import Task, get_task

REQUEST_FILE = "run.json"
DEVICES = ("cpu", "cuda")


class SolverError(Exception):
    """A solver failed while it ran; the message names the file with the traceback."""


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
    """

    task: Task
    solver: Solver
    config: Any
    seeds: tuple[int, ...]
    device: str
    out: Path
    tensorboard: bool = False

    def directory(self, seed: int) -> Path:
        """The run directory of a seed."""
        return self.out / self.task.id / self.solver.name / f"seed-{seed}"

    def identity(self, seed: int) -> dict[str, Any]:
        """What has to be the same for a run directory to be continued."""
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


def make_request(
    solver: str,
    task: str,
    *,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    out: Path | str = "runs",
    transitions: int | None = None,
    settings: Sequence[str] = (),
    tensorboard: bool = False,
) -> Request:
    """Check a request wholly; nothing is written.

    Args:
        solver: a name, or the path of a file that ends in .py.
        task: an id.
        seeds: training seeds, 0 to 2**31 - 1, each once.
        device: "cpu" or "cuda".
        out: folder of the run directories.
        transitions: budget per policy; None: the task's.
        settings: "key=value" overrides of the solver's Config.
        tensorboard: whether to write scalars for TensorBoard.

    Raises:
        ValueError: anything is wrong, or a run directory was made by another request.
    """
    checked_task = get_task(task)
    if transitions is not None:
        if transitions < 1:
            raise ValueError(f"transitions is {transitions}, expected at least 1 (per policy)")
        checked_task = dataclasses.replace(checked_task, transitions=transitions)
    _check_seeds(seeds)
    _check_device(device)
    check_writable(Path(out))
    if tensorboard:
        _check_tensorboard()
    loaded = load_solver(solver)
    config = make_config(loaded, checked_task, settings)
    request = Request(checked_task, loaded, config, tuple(seeds), device, Path(out), tensorboard)
    for seed in seeds:
        _check_same_request(request, seed)
    return request


def run(
    request: Request,
    *,
    display: Display | None = None,
    stop: threading.Event | None = None,
) -> list[Result]:
    """Train, save, score and record every seed that is not finished yet.

    Args:
        request: from `make_request`.
        display: where progress is shown; None: nowhere.
        stop: set from outside to ask the solver to stop at its next checkpoint.

    Returns:
        The results of all seeds of the request, in its order.

    Raises:
        Interrupted: the solver stopped because it was asked to; run again to go on.
        SolverError: the solver failed.
        ValueError: another process runs one of the seeds, or a saved policy fails.
    """
    display = display or NoDisplay()
    stop = stop or threading.Event()
    with contextlib.ExitStack() as stack:
        stack.callback(display.stop)
        directories = {}
        for seed in request.seeds:
            if not (request.directory(seed) / RESULT_FILE).exists():
                stack.enter_context(_locked(request.directory(seed), seed))
                if not (request.directory(seed) / RESULT_FILE).exists():
                    directories[seed] = request.directory(seed)
        _check_same_requests(request)
        for seed, directory in directories.items():
            write_json(directory / REQUEST_FILE, request.identity(seed))
        for seeds, resume_at in group_by_checkpoint(directories):
            if stop.is_set():
                raise Interrupted(f"seeds {seeds} are not started")
            _run_group(request, seeds, resume_at, display, stop)
    return [read_result(request.directory(seed) / RESULT_FILE) for seed in request.seeds]


def _run_group(
    request: Request,
    seeds: Sequence[int],
    resume_at: int | None,
    display: Display,
    stop: threading.Event,
) -> None:
    """Train seeds as one batch, then finish each."""
    task = request.task
    directories = [request.directory(seed) for seed in seeds]
    names = ", ".join(str(seed) for seed in seeds)
    display.start(f"{request.solver.name}, seed{'s' * (len(seeds) > 1)} {names}", task.transitions)
    log = RunLog(
        task,
        seeds,
        directories,
        resume_at=resume_at,
        display=display,
        tensorboard=request.tensorboard,
        stop=stop,
    )
    with contextlib.closing(log), _failures_recorded(request, directories, log):
        solutions = _checked_solutions(
            request,
            request.solver.module.solve(task, request.config, list(seeds), request.device, log),
            len(seeds),
        )
        train_seconds = log.train_seconds
        saved = [
            _save_and_load(solution, directory, display)
            for solution, directory in zip(solutions, directories, strict=True)
        ]
        evaluations = evaluate_all(task, [solution for solution, _ in saved])
    for r, directory in enumerate(directories):
        solution, folder = saved[r]
        facts = {
            "seed": seeds[r],
            "solution": folder,
            "curve": "curve.csv" if log.curves[r] else None,
            "transitions_reported": log.transitions,
            "train_seconds": train_seconds[r],
            "wall_seconds": log.wall_seconds[r],
            "seeds_together": len(seeds),
            "peak_memory_mib": peak_memory_mib(),
            "peak_device_memory_mib": peak_device_memory_mib(request.device),
        }
        scores = score_solution(task, solution, evaluations[r])
        _record(request, directory, evaluations[r], facts | scores)


@contextlib.contextmanager
def _failures_recorded(
    request: Request, directories: Sequence[Path], log: RunLog
) -> Iterator[None]:
    """What a solver or a policy raises goes to error.txt in each seed's directory."""
    try:
        yield
    except Interrupted as error:
        total = request.task.transitions
        raise Interrupted(
            f"stopped at {log.transitions:,} of {total:,} transitions per policy"
        ) from error
    except Exception as error:  # a solver is anyone's code: it may raise anything
        paths = [directory / "error.txt" for directory in directories]
        for path in paths:
            write_text(path, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SolverError(
            f"solver {request.solver.name} failed: {reason} (traceback in {paths[0]})"
        ) from error


def _checked_solutions(request: Request, solutions: Any, n_seeds: int) -> list[Solution]:
    if not isinstance(solutions, Sequence) or len(solutions) != n_seeds:
        raise ValueError(f"solve returned {solutions!r}, expected {n_seeds} Solutions")
    task = request.task
    for solution in solutions:
        if not isinstance(solution, Solution):
            raise ValueError(f"solve returned a {type(solution).__name__}, expected Solutions")
        if solution.assignment.shape != (task.n_agents, task.n_representatives):
            raise ValueError(
                f"solve returned an assignment of shape {solution.assignment.shape}, expected "
                f"({task.n_agents}, {task.n_representatives})"
            )
    return list(solutions)


def _save_and_load(
    solution: Solution, directory: Path, display: Display
) -> tuple[Solution, str | None]:
    """The solution as it is read back from its files, and their folder."""
    if not solution.exportable:
        display.message(
            f"warning: the policies of {directory} are scored in memory and not saved; to save "
            f"them, give Solution(export=...) or give each policy to_onnx() -> bytes"
        )
        return solution, None
    save_solution(solution, directory / "solution")
    return load_solution(directory / "solution"), "solution"


def score_solution(task: Task, solution: Solution, evaluation: Evaluation) -> dict[str, Any]:
    """All scores of a solution, named as in `Result`."""
    matrix, assignment = evaluation.welfare_matrix, solution.assignment
    returns = scoring.agent_returns(matrix, assignment)
    welfare = float(scoring.social_welfare(returns))
    ceiling = task.ceiling
    return {
        "agent_returns": returns.tolist(),
        "social_welfare": welfare,
        "worst_agent": float(scoring.worst_agent(returns)),
        "tenth_percentile": float(scoring.tenth_percentile(returns)),
        "gini": float(scoring.gini(returns)),
        "nash_welfare": float(scoring.nash_welfare(returns)),
        "share_of_ceiling": (
            None if ceiling is None else float(scoring.share_of_ceiling(welfare, ceiling))
        ),
        "assignment_regret": float(scoring.assignment_regret(matrix, assignment)),
    }


def _record(
    request: Request, directory: Path, evaluation: Evaluation, facts: dict[str, Any]
) -> None:
    """Write welfare.npz and, last, result.json; then the run needs no checkpoint any more."""
    with replacing(directory / "welfare.npz") as file:
        np.savez_compressed(
            file,
            welfare_matrix=evaluation.welfare_matrix,
            episode_lengths=evaluation.episode_lengths,
        )
    fields = request.identity(facts["seed"]) | facts
    result = Result(
        welfare_matrix="welfare.npz",
        evaluation=EvaluationSettings(
            n_episodes=evaluation.episode_lengths.shape[1], seed=EVALUATION_SEED
        ),
        system=system_record(request.device),
        versions=versions(),
        git_revision=git_revision(),
        **fields,
    )
    write_result(directory, result)
    for path in [*(directory / "checkpoint").glob("*"), directory / "error.txt"]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (directory / "checkpoint").rmdir()


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


def _check_device(device: str) -> None:
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


def check_writable(out: Path) -> None:
    """The folder, or the nearest one above it that exists, must be one we may write to."""
    existing = out.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"cannot write to {out}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {out}: no permission in {existing}")


def _check_same_requests(request: Request) -> None:
    for seed in request.seeds:
        _check_same_request(request, seed)


def _check_same_request(request: Request, seed: int) -> None:
    """Refuse a run directory that was made by another request."""
    path = request.directory(seed) / REQUEST_FILE
    if not path.exists():
        return
    before, now = _flat(read_json(path)), _flat(request.identity(seed))
    changed = [
        f"{key} {before.get(key)!r} instead of {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise ValueError(
            f"{path.parent} was made with {', '.join(changed)}; use the same settings, another "
            f"--out, or delete it"
        )


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    config = identity.get("config")
    settings = config.items() if isinstance(config, dict) else ()
    rest = {key: value for key, value in identity.items() if key != "config"}
    return rest | {f"config.{key}": value for key, value in settings}


@contextlib.contextmanager
def _locked(directory: Path, seed: int) -> Iterator[None]:
    """Hold the lock of a run directory; it is free again even if this process is killed."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except OSError:
            current = False  # held, or released and removed by its holder just now
        if not current:
            raise ValueError(f"seed {seed} is being run by another process ({directory})")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
