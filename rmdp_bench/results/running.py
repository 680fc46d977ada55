"""Running a solver on a checked request: train, save, score, record.

Policies are scored from the files that were saved, not from memory, so that a record says what
anybody gets who loads the folder.

Seeds that train as one batch are recorded together: their checkpoints go when all have a record, so
that a batch that is killed in between is continued with the same seeds, if it has a checkpoint.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench import scoring
from rmdp_bench.evaluation import Evaluation, evaluate_all
from rmdp_bench.files import locked, remove_temporaries, replacing, write_json, write_text
from rmdp_bench.results.checkpoints import group_by_checkpoint, list_checkpoints
from rmdp_bench.results.progress import Display, NoDisplay
from rmdp_bench.results.records import (
    RESULT_FILE,
    EvaluationSettings,
    Result,
    read_result,
    write_result,
)
from rmdp_bench.results.requests import REQUEST_FILE, Request, check_same_request
from rmdp_bench.results.run_log import Interrupted, RunLog
from rmdp_bench.solution import Solution, load_solution, save_solution
from rmdp_bench.system import (
    git_revision,
    peak_device_memory_mib,
    peak_memory_mib,
    system_record,
    versions,
)
from rmdp_bench.tasks import Task


class SolverError(Exception):
    """A solver failed while it ran; the message names the file with the traceback."""


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
    git_revision()  # now, before anybody changes the code that is running
    with contextlib.ExitStack() as stack:
        stack.callback(display.stop)
        directories = {}
        for seed in request.seeds:
            if not _is_finished(request.directory(seed)):
                held = f"seed {seed} is being run by another process"
                stack.enter_context(locked(request.directory(seed), held))
                if not _is_finished(request.directory(seed)):
                    directories[seed] = request.directory(seed)
        check_same_request(request)
        for seed, directory in directories.items():
            remove_temporaries(directory)  # of a process that was killed while it wrote
            write_json(directory / REQUEST_FILE, request.identity(seed))
        for seeds, resume_at in group_by_checkpoint(directories):
            if all(_is_recorded(directories[seed]) for seed in seeds):
                _remove_leftovers([directories[seed] for seed in seeds])
                continue
            if stop.is_set():
                raise Interrupted(f"seeds {seeds} are not started")
            _run_group(request, seeds, resume_at, display, stop)
    return [read_result(request.directory(seed) / RESULT_FILE) for seed in request.seeds]


def _is_recorded(directory: Path) -> bool:
    return (directory / RESULT_FILE).exists()


def _is_finished(directory: Path) -> bool:
    """Whether nothing is left to do: there is a record, and all seeds of its batch have theirs."""
    return _is_recorded(directory) and not list_checkpoints(directory)


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
        final = [solution for solution, _ in saved]
        log.complete_curve(final)
        evaluations = evaluate_all(task, final)
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
    _remove_leftovers(directories)


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
    except (Exception, SystemExit) as error:  # a solver is anyone's code: it may raise anything
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
    """Write welfare.npz and, last, result.json."""
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
            n_episodes=evaluation.episode_lengths.shape[1], seed=evaluation.seed
        ),
        system=system_record(request.device),
        versions=versions(),
        git_revision=git_revision(),
        **fields,
    )
    write_result(directory, result)


def _remove_leftovers(directories: Sequence[Path]) -> None:
    """Remove what recorded runs need no more."""
    for directory in directories:
        for path in [*(directory / "checkpoint").glob("*"), directory / "error.txt"]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (directory / "checkpoint").rmdir()
