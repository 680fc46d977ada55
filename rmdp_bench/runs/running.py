"""Running a solver on a checked request: train, save, score, record.

Policies are scored from the files that were saved, not from memory, so that a record says what
anybody gets who loads the folder.

A solver may give solutions of other tasks from the same training (`RunLog.add_solutions`): they are
recorded as runs of those tasks, beside its own.

Seeds that train as one batch are recorded together: their checkpoints go when all have a record, so
that a batch that is killed in between is continued with the same seeds, if it has a checkpoint.

What is trained is kept before it is scored (`trained.py`), which can take longer than training: a
run that is stopped or killed while it is scored goes on at scoring.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import scoring
from rmdp_bench.energy import EnergyMeter, find_counters
from rmdp_bench.evaluation import Evaluation, before_each_step, evaluate_all
from rmdp_bench.evaluation.offline import (
    OfflineEvaluation,
    OfflineSolution,
    check_budget,
    check_one_policy_each,
    evaluate_offline,
    normalise,
    normalise_mean,
)
from rmdp_bench.evaluation.prediction import Prediction
from rmdp_bench.files import (
    LOCK_FILE,
    locked,
    remove,
    remove_temporaries,
    replacing,
    write_json,
    write_text,
)
from rmdp_bench.messages import shown
from rmdp_bench.runs.checkpoints import group_by_checkpoint, list_checkpoints
from rmdp_bench.runs.display import PROGRESS_FILE, Display, NoDisplay, RecordedDisplay
from rmdp_bench.runs.log import Interrupted, OtherTask, RunLog
from rmdp_bench.runs.records import (
    RESULT_FILE,
    EvaluationSettings,
    Result,
    describe_custom,
    objective_value_of,
    read_result,
    write_population,
    write_result,
)
from rmdp_bench.runs.requests import (
    REQUEST_FILE,
    Request,
    check_same_request,
    differences,
    keeps_training,
)
from rmdp_bench.runs.trained import (
    OTHERS_FOLDER,
    TRAINED_FILE,
    Trained,
    read_trained,
    trained_together,
    write_trained,
)
from rmdp_bench.solution import Solution, load_solution, save_solution
from rmdp_bench.solution.storage import SOLUTION_FOLDER
from rmdp_bench.system import (
    git_revision,
    peak_device_memory_mib,
    peak_memory_mib,
    system_record,
    versions,
)
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task


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
        stop: set from outside to ask the solver to stop at its next checkpoint, or scoring to stop
            before its next step.

    Returns:
        The results of all seeds of the request, in its order.

    Raises:
        Interrupted: the run stopped because it was asked to; run again to go on.
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
            if not _is_done(request, seed):
                held = f"seed {seed} is being run by another process"
                stack.enter_context(locked(request.directory(seed), held))
                if not _is_done(request, seed):
                    directories[seed] = request.directory(seed)
        check_same_request(request)
        for seed in directories:
            _remove_other_run(request, seed)
        for seed, directory in directories.items():
            remove_temporaries(directory)  # of a process that was killed while it wrote
            write_json(directory / REQUEST_FILE, request.document(seed))
        trained = _group_trained(request, directories)
        rest = {s: d for s, d in directories.items() if not any(s in seeds for seeds in trained)}
        groups = [(seeds, None) for seeds in trained] + group_by_checkpoint(rest)
        for seeds, resume_at in groups:
            if all(_is_recorded(directories[seed]) for seed in seeds):
                _remove_leftovers([directories[seed] for seed in seeds])
                continue
            if stop.is_set():
                raise Interrupted(f"seeds {seeds} are left; the same command goes on with them")
            if seeds in trained:  # records that are there are of the same policies
                left = [seed for seed in seeds if not _is_recorded(directories[seed])]
                _Group(request, left, None, display, stop).score_again()
                _remove_leftovers([directories[seed] for seed in seeds])
            else:
                _Group(request, seeds, resume_at, display, stop).train_and_score()
    return [read_result(request.directory(seed) / RESULT_FILE) for seed in request.seeds]


def _is_recorded(directory: Path) -> bool:
    return (directory / RESULT_FILE).exists()


def is_finished(directory: Path) -> bool:
    """Whether nothing is left to do: there is a record, and all seeds of its batch have theirs."""
    if not _is_recorded(directory):
        return False
    return not (list_checkpoints(directory) or (directory / TRAINED_FILE).exists())


def _group_trained(request: Request, directories: Mapping[int, Path]) -> list[list[int]]:
    """Those seeds that only have to be scored, in the groups that they trained in.

    A process that was killed before it had kept all seeds of a group has kept none.
    """
    groups: list[list[int]] = []
    for seed, directory in directories.items():
        together = trained_together(directory)
        kept = (request.directory(other) for other in together)
        is_whole = all(_is_recorded(d) or (d / TRAINED_FILE).exists() for d in kept)
        if seed in together and is_whole and not any(seed in group for group in groups):
            groups.append([other for other in together if other in directories])
    return groups


def _is_done(request: Request, seed: int) -> bool:
    """Whether a seed is finished, and not one to replace."""
    finished = is_finished(request.directory(seed))
    return finished and not (request.overwrite and differences(request, seed))


def _remove_other_run(request: Request, seed: int) -> None:
    """Empty a locked directory that another request made, if it may be replaced.

    What says whose it is goes last: a process that is killed in between leaves no record that looks
    like one of this request.
    """
    directory = request.directory(seed)
    replaceable = request.overwrite or not keeps_training(directory)
    if replaceable and differences(request, seed):
        for path in directory.iterdir():
            if path.name not in (LOCK_FILE, REQUEST_FILE):
                remove(path)
        remove(directory / REQUEST_FILE)


class _Group:
    """Seeds that are trained as one batch, and then scored and recorded."""

    def __init__(
        self,
        request: Request,
        seeds: Sequence[int],
        resume_at: int | None,
        display: Display,
        stop: threading.Event,
    ) -> None:
        """Take what `run` was given, and the number of the checkpoint that all seeds have."""
        self._request, self._stop = request, stop
        self._seeds, self._resume_at = seeds, resume_at
        self._directories = [request.directory(seed) for seed in seeds]
        self._display = RecordedDisplay(display, self._directories[0] / PROGRESS_FILE)

    def train_and_score(self) -> None:
        """Train, keep what is trained, score and record it."""
        request, log = self._request, self._make_log()
        meter = EnergyMeter(find_counters(request.device))
        with meter, contextlib.closing(log), _failures_recorded(request, self._directories, log):
            trained = self._train(log)
            evaluations = self._score(log, trained)
        energy = meter.joules if self._resume_at is None else None
        self._record(log, trained, evaluations, energy)

    def score_again(self) -> None:
        """Score and record what is trained, of a process that ended before it had done so."""
        request, log = self._request, self._make_log()
        with contextlib.closing(log), _failures_recorded(request, self._directories, log):
            trained = read_trained(request.task, self._directories, log)
            evaluations = self._score(log, trained)
        self._record(log, trained, evaluations, None)

    def _make_log(self) -> RunLog:
        request = self._request
        names = ", ".join(str(seed) for seed in self._seeds)
        title = f"{request.solver.name}, seed{'s' * (len(self._seeds) > 1)} {names}"
        self._display.start(title, request.task.transitions or None)  # offline it has none
        return RunLog(
            request.task,
            self._seeds,
            self._directories,
            resume_at=self._resume_at,
            display=self._display,
            tensorboard=request.tensorboard,
            track=request.track,
            stop=self._stop,
        )

    def _train(self, log: RunLog) -> Trained:
        request, seeds = self._request, list(self._seeds)
        solve = request.solver.module.solve
        solutions = solve(request.task, request.config, seeds, request.device, log)
        states, counted = log.get_state(log.transitions), log.steps_counted
        solutions = _checked_solutions(request, solutions, len(seeds))
        for other in log.others:
            _checked_solutions(replace(request, task=other.task), other.solutions, len(seeds))
        saved = [
            _save_and_load(solution, directory, self._display)
            for solution, directory in zip(solutions, self._directories, strict=True)
        ]
        trained = Trained(
            solutions=[solution for solution, _ in saved],
            folders=[folder for _, folder in saved],
            others=log.others,
            train_seconds=[state["train_seconds"] for state in states],
            steps_counted=counted,
            seeds=seeds,
            peak_memory_mib=peak_memory_mib(),
            peak_device_memory_mib=peak_device_memory_mib(request.device),
        )
        write_trained(trained, self._directories, states)
        return trained

    def _score(self, log: RunLog, trained: Trained) -> Sequence[Evaluation | OfflineEvaluation]:
        """Finish the tasks that the training gave too, end the curve, and score each seed."""

        def stop_if_asked() -> None:
            if self._stop.is_set():
                raise Interrupted("stopped while it was scored")

        task = self._request.task
        log.begin_scoring()
        with before_each_step(stop_if_asked):
            for other in trained.others:
                _finish_other(self._request, other, log, trained, self._display)
            log.complete_curve(trained.solutions)
            if isinstance(task, OnlineTask):
                return evaluate_all(task, trained.solutions)
            return [evaluate_offline(task, solution) for solution in trained.solutions]

    def _record(
        self,
        log: RunLog,
        trained: Trained,
        evaluations: Sequence[Evaluation | OfflineEvaluation],
        energy: float | None,
    ) -> None:
        task = self._request.task
        reported = log.transitions if isinstance(task, OnlineTask) else 0
        results = []
        for r, directory in enumerate(self._directories):
            facts = _facts(self._request, log, r, trained, reported)
            facts |= {
                "solution": trained.folders[r],
                "curve": "curve.csv" if log.curves[r] else None,
                "energy_joules": energy,
            }
            solution, evaluation = trained.solutions[r], evaluations[r]
            results.append(_record(self._request, directory, solution, evaluation, facts))
        _remove_leftovers(self._directories)
        without = [r.seed for r in results if r.objective_value is None]
        if isinstance(task, OnlineTask) and task.objective != "utilitarian" and without:
            self._display.message(
                f"rmdp-bench: warning: an agent's return is negative with seed "
                f"{', '.join(map(str, without))}, where {task.objective} has no meaning: "
                "there is no value of the objective; egalitarian has one"
            )
        per_policy = _per_policy(task, trained)
        if per_policy is not None and per_policy > task.transitions:
            self._display.message(
                f"rmdp-bench: warning: {per_policy:,} transitions per policy were counted, more "
                f"than the budget of {task.transitions:,}; the closed division of "
                "the leaderboard refuses this run"
            )


def _per_policy(task: Task, trained: Trained) -> int | None:
    """Steps of all seeds and policies as `Result.transitions_counted` has them."""
    n_policies = task.n_representatives if isinstance(task, OnlineTask) else 1
    counted = trained.steps_counted
    return None if counted is None else -(-counted // (n_policies * len(trained.seeds)))


def _facts(
    request: Request, log: RunLog, r: int, trained: Trained, transitions: int
) -> dict[str, Any]:
    """What a record says about the training of the r-th seed."""
    on_device = peak_device_memory_mib(request.device)
    return {
        "seed": log.seeds[r],
        "transitions_reported": transitions,
        "transitions_counted": _per_policy(request.task, trained),
        "train_seconds": trained.train_seconds[r],
        "wall_seconds": log.wall_seconds[r],
        "seeds_together": len(trained.seeds),
        "peak_memory_mib": max(trained.peak_memory_mib, peak_memory_mib()),
        "peak_device_memory_mib": (
            None if on_device is None else max(trained.peak_device_memory_mib or 0.0, on_device)
        ),
    }


def _finish_other(
    request: Request,
    other: OtherTask,
    log: RunLog,
    trained: Trained,
    display: Display,
) -> None:
    """Save, score and record what a run gives for another task, where nothing else is there.

    The task of the run is recorded last, so that a run that is killed in between repeats this.
    """
    for r, seed in enumerate(log.seeds):
        directory = replace(request, task=other.task).directory(seed)
        # Nobody asked to replace runs of the other task, only what this training gave for it.
        overwrite = request.overwrite and _trained_for(directory) == request.task.id
        own = replace(request, task=other.task, seeds=(seed,), overwrite=overwrite)
        if _is_done(own, seed):
            continue
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(directory, "another process runs it"))
                check_same_request(own)
            except ValueError as error:
                display.message(f"rmdp-bench: warning: {directory} is left as it is: {error}")
                continue
            _remove_other_run(own, seed)
            write_json(directory / REQUEST_FILE, own.document(seed))
            solution, folder = _save_and_load(other.solutions[r], directory, display)
            (evaluation,) = evaluate_all(own.task, [solution])
            facts = _facts(own, log, r, trained, other.transitions)
            facts |= {"solution": folder, "curve": None, "trained_for": request.task.id}
            _record(own, directory, solution, evaluation, facts)
            _remove_leftovers([directory])


def _trained_for(directory: Path) -> str | None:
    """The task whose run gave the record in a directory; None: its own, or there is no record."""
    return read_result(directory / RESULT_FILE).trained_for if _is_recorded(directory) else None


_MAX_REASON = 300
"""Characters of what a solver failed with, before the place of the traceback."""


@contextlib.contextmanager
def _failures_recorded(
    request: Request, directories: Sequence[Path], log: RunLog
) -> Iterator[None]:
    """What a solver or a policy raises goes to error.txt in each seed's directory."""
    try:
        yield
    except Interrupted as error:
        where = str(error) or f"stopped at {log.reached}"
        raise Interrupted(f"{where}; {_what_goes_on(directories)}") from error
    except (Exception, SystemExit) as error:  # a solver is anyone's code: it may raise anything
        paths = [directory / "error.txt" for directory in directories]
        for path in paths:
            write_text(path, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if len(reason) > _MAX_REASON:
            reason = f"{reason[:_MAX_REASON]}..."
        if log.restoring is not None:  # such as an array that this version of the solver expects
            reason = f"cannot go on from {log.restoring} ({reason}); delete it to start this seed"
        raise SolverError(
            f"solver {request.solver.name} failed: {reason} (traceback in {paths[0]})"
        ) from error


def _what_goes_on(directories: Sequence[Path]) -> str:
    """What another call does with seeds that were stopped."""
    if all((directory / TRAINED_FILE).exists() for directory in directories):
        return "the same command goes on from there"
    if all(list_checkpoints(directory) for directory in directories):
        return "the same command goes on from the last checkpoint"
    return "there is no checkpoint, so that the same command starts again"


def _checked_solutions(request: Request, solutions: Any, n_seeds: int) -> list[Solution]:
    if not isinstance(solutions, Sequence) or len(solutions) != n_seeds:
        raise ValueError(
            f"solve returned {shown(solutions)}, expected a list with one Solution for each "
            f"seed, {n_seeds} in all"
        )
    task = request.task
    for solution in solutions:
        if not isinstance(solution, Solution):
            raise ValueError(f"solve returned a {type(solution).__name__}, expected Solutions")
        if isinstance(task, OfflineTask):
            check_one_policy_each(solution, task.eval_agents)
            check_budget(task, solution)
        elif solution.assignment.shape != (task.n_agents, task.n_representatives):
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
            f"rmdp-bench: warning: the policies of {directory} are scored in memory and not "
            f"saved; to save them, give Solution(export=...) or give each policy to_onnx() -> bytes"
        )
        return solution, None
    save_solution(solution, directory / SOLUTION_FOLDER)
    loaded = load_solution(directory / SOLUTION_FOLDER)
    if isinstance(solution, OfflineSolution):  # what is asked about agents beyond the policies
        loaded = replace(solution, policies=loaded.policies, export=None)
    return loaded, SOLUTION_FOLDER


def score_solution(
    task: Task, solution: Solution, evaluation: Evaluation | OfflineEvaluation
) -> dict[str, Any]:
    """All scores of a solution, named as in `Result`."""
    if isinstance(evaluation, OfflineEvaluation):
        assert isinstance(task, OfflineTask)
        own = evaluation.returns.mean(axis=1)
        returns = normalise(task, task.eval_agents, own)
        regret, reassigned, offline = None, None, _offline_scores(task, evaluation)
        measures = {name: float(own.mean()) for name, own in evaluation.measures.items()}
    else:
        matrix, assignment = evaluation.welfare_matrix, solution.assignment
        returns = scoring.agent_returns(matrix, assignment)
        regret, offline = float(scoring.assignment_regret(matrix, assignment)), None
        reassigned = float(scoring.reassigned_welfare(matrix))
        measures = {
            name: float(scoring.agent_returns(values, assignment).mean())
            for name, values in evaluation.measures.items()
        }
    welfare = float(scoring.social_welfare(returns))
    ceiling, negative = task.ceiling, bool((returns < 0.0).any())
    return {
        "agent_returns": returns.tolist(),
        "social_welfare": welfare,
        "reassigned_welfare": reassigned,
        "worst_agent": float(scoring.worst_agent(returns)),
        "tenth_percentile": float(scoring.tenth_percentile(returns)),
        "gini": None if negative else float(scoring.gini(returns)),
        "nash_welfare": None if negative else float(scoring.nash_welfare(returns)),
        "share_of_ceiling": (
            None if ceiling is None else float(scoring.share_of_ceiling(welfare, ceiling))
        ),
        "assignment_regret": regret,
        "offline": offline,
        "measures": measures or None,
    }


def score_objective(
    task: OnlineTask, evaluation: Evaluation, returns: Sequence[float]
) -> dict[str, Any]:
    """What a record has beyond `score_solution`, which no verifier can compute from its arrays."""
    return {
        "custom": describe_custom(task),
        "objective": task.objective,
        "objective_value": (
            None  # which social_welfare is
            if task.objective == "utilitarian"
            else objective_value_of(returns, task.objective)
        ),
        "heldout": score_heldout(task, evaluation),
    }


def score_heldout(task: OnlineTask, evaluation: Evaluation) -> dict[str, Any] | None:
    """How agents fare who were not there, named as in `HeldOutScores`; None: there are none."""
    others, n_episodes = task.heldout_population, evaluation.episode_lengths.shape[1]
    if others is None or evaluation.outcomes is None or n_episodes < 2:
        return None
    welfare, regret = _match(evaluation.returns_of(others))
    return {
        "n_agents": others.n_agents,
        "welfare": welfare,
        "regret": regret,
        "own_welfare": _match(evaluation.episode_returns)[0],
    }


def _match(returns: NDArray[np.float64]) -> tuple[float, float]:
    """Welfare and regret in the second half of episodes (n, k, E) of who is matched by the first.

    The rest of an odd number belongs to the second.
    """
    half = returns.shape[2] // 2
    assignment = scoring.greedy_assignment(returns[:, :, :half].mean(axis=2))
    matrix = returns[:, :, half:].mean(axis=2)
    welfare = scoring.social_welfare(scoring.agent_returns(matrix, assignment))
    return welfare, float(scoring.assignment_regret(matrix, assignment))


def _offline_scores(task: OfflineTask, evaluation: OfflineEvaluation) -> dict[str, Any]:
    """Named as in `OfflineScores`."""
    returns = evaluation.returns.mean(axis=1)
    groups: dict[str, Any] = {}
    unseen = set(task.hidden_population.unseen_agents)
    for name, inside in (("unseen", True), ("extrapolating", False)):
        rows = [i for i, agent in enumerate(task.heldout_agents) if (agent in unseen) == inside]
        groups |= {f"{name}_returns": None, f"{name}_welfare": None}
        if evaluation.heldout_returns is not None:
            own = evaluation.heldout_returns[rows].mean(axis=1)
            agents = [task.heldout_agents[i] for i in rows]
            groups[f"{name}_returns"] = own.tolist()
            groups[f"{name}_welfare"] = normalise_mean(task, agents, own)
    return groups | {
        "returns": returns.tolist(),
        "mean_return": float(returns.mean()),
        "factor_correlation": evaluation.factor_correlation,
        "evaluation_seconds": evaluation.seconds,
        "prediction": _prediction_scores(evaluation.prediction),
        "forecasts": {
            f"{minutes} minutes": _prediction_scores(errors)
            for minutes, errors in evaluation.forecasts.items()
        }
        or None,
    }


def _prediction_scores(errors: Prediction | None) -> dict[str, float] | None:
    """Named as in `PredictionScores`."""
    if errors is None:
        return None
    return {
        "rmse_mean": float(np.nanmean(errors.rmse)),
        "rmse_sd": float(np.nanstd(errors.rmse)),
        "r2_mean": float(np.nanmean(errors.r2)),
        "r2_median": float(np.nanmedian(errors.r2)),
    }


def _record(
    request: Request,
    directory: Path,
    solution: Solution,
    evaluation: Evaluation | OfflineEvaluation,
    facts: dict[str, Any],
) -> Result:
    """Write the arrays and, last, result.json, which is returned."""
    if isinstance(evaluation, OfflineEvaluation):
        names: dict[str, Any] = {"welfare_matrix": None, "returns": "returns.npz"}
        arrays = _offline_arrays(solution, evaluation)
        n_episodes = evaluation.lengths.shape[1]
    else:
        names = {"welfare_matrix": "welfare.npz"}
        arrays = {
            "welfare_matrix": evaluation.welfare_matrix,
            "episode_lengths": evaluation.episode_lengths,
            **measure_arrays(evaluation),
        }
        n_episodes = evaluation.episode_lengths.shape[1]
    with replacing(directory / (names.get("returns") or names["welfare_matrix"])) as file:
        np.savez_compressed(file, **arrays)
    fields = request.identity(facts["seed"]) | facts | names
    scores = score_solution(request.task, solution, evaluation)
    if isinstance(request.task, OnlineTask) and isinstance(evaluation, Evaluation):
        scores |= score_objective(request.task, evaluation, scores["agent_returns"])
        write_population(request.task, directory)
    result = Result(
        **scores,
        evaluation=EvaluationSettings(n_episodes=n_episodes, seed=evaluation.seed),
        system=system_record(request.device),
        versions=versions(),
        git_revision=git_revision(),
        **fields,
    )
    write_result(directory, result)
    return result


def _offline_arrays(solution: Solution, evaluation: OfflineEvaluation) -> dict[str, Any]:
    """What returns.npz holds: returns, lengths (A, E), and what else there is."""
    arrays: dict[str, Any] = {
        "episode_returns": evaluation.returns,
        "episode_lengths": evaluation.lengths,
        **measure_arrays(evaluation),
    }
    if evaluation.heldout_returns is not None:
        arrays["heldout_returns"] = evaluation.heldout_returns
    predictions = dict(evaluation.forecasts)
    if evaluation.prediction is not None and not predictions:  # else it is one of them
        predictions[0] = evaluation.prediction
    for minutes, errors in predictions.items():
        arrays |= dict(zip(prediction_arrays(minutes), (errors.rmse, errors.r2), strict=True))
    if isinstance(solution, OfflineSolution) and solution.factors is not None:
        arrays["factors"] = solution.factors
    return arrays


MEASURE = "measure_"
"""With which the name of an array begins that a world measures beside the reward."""


def prediction_arrays(minutes: int) -> tuple[str, str]:
    """Names of the arrays of errors, RMSE and R2, (A, N); 0: of what is no forecast."""
    name = f"forecast_{minutes}" if minutes else "prediction"
    return f"{name}_rmse", f"{name}_r2"


def measure_arrays(evaluation: Evaluation | OfflineEvaluation) -> dict[str, NDArray[np.float64]]:
    """What the world measures beside the reward, (n, k) or offline (A,), by the arrays' names."""
    return {f"{MEASURE}{name}": values for name, values in evaluation.measures.items()}


def _remove_leftovers(directories: Sequence[Path]) -> None:
    """Remove what recorded runs need no more."""
    for directory in directories:
        names = TRAINED_FILE, PROGRESS_FILE, "error.txt"
        for path in [*(directory / "checkpoint").glob("*"), *map(directory.joinpath, names)]:
            path.unlink(missing_ok=True)
        remove(directory / OTHERS_FOLDER)
        with contextlib.suppress(OSError):
            (directory / "checkpoint").rmdir()
