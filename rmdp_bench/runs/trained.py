"""What is kept of seeds that are trained and not scored yet, so that nobody trains them again.

    seed-S/trained.json         what was measured while they trained, and the state of the log;
                                written last
    seed-S/trained/TASK/        solutions of other tasks, which the same training gave
    seed-S/solution/            its own, where it stays

Solutions that files cannot hold whole (planners, models) are not kept: a solver that has saved a
checkpoint at the end of its training makes them again from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs.log import OtherTask, RunLog
from rmdp_bench.solution import Solution, load_solution, save_solution
from rmdp_bench.solution.storage import SOLUTION_FOLDER
from rmdp_bench.tasks import Task, get_task

TRAINED_FILE = "trained.json"
OTHERS_FOLDER = "trained"


@dataclass(frozen=True)
class Trained:
    """A group of seeds after `solve`.

    Attributes:
        solutions: one of each seed, as they are scored.
        folders: where they are saved; None: nowhere.
        others: solutions of other tasks.
        train_seconds: of each seed.
        steps_counted: of all seeds that trained together; None: not known.
        seeds: that trained together; more than those here, if the others are scored apart.
        peak_memory_mib: of the process that trained.
        peak_device_memory_mib: on its GPU; None without one.
    """

    solutions: Sequence[Solution]
    folders: Sequence[str | None]
    others: Sequence[OtherTask]
    train_seconds: Sequence[float]
    steps_counted: int | None
    seeds: Sequence[int]
    peak_memory_mib: float
    peak_device_memory_mib: float | None


def write_trained(
    trained: Trained, directories: Sequence[Path], states: Sequence[Mapping[str, Any]]
) -> bool:
    """Keep a group whose own solutions are saved; says whether files can hold all that it is.

    Args:
        trained: the group.
        directories: of its seeds.
        states: of the log, `RunLog.get_state`.
    """
    solutions = [*trained.solutions, *(s for other in trained.others for s in other.solutions)]
    if None in trained.folders or not all(_is_whole_in_files(s) for s in solutions):
        return False
    for other in trained.others:
        for directory, solution in zip(directories, other.solutions, strict=True):
            save_solution(solution, directory / OTHERS_FOLDER / other.task.id)
    for directory, seconds, state in zip(directories, trained.train_seconds, states, strict=True):
        document = {
            "seeds": list(trained.seeds),
            "train_seconds": seconds,
            "steps_counted": trained.steps_counted,
            "peak_memory_mib": trained.peak_memory_mib,
            "peak_device_memory_mib": trained.peak_device_memory_mib,
            "others": {other.task.id: other.transitions for other in trained.others},
            "log": state,
        }
        write_json(directory / TRAINED_FILE, document)
    return True


def read_trained(task: Task, directories: Sequence[Path], log: RunLog) -> Trained:
    """Read what `write_trained` kept of seeds that trained together, and set the log's state.

    Raises:
        ValueError: a file is missing or damaged.
    """
    documents = []
    for directory in directories:
        log.restoring = directory / TRAINED_FILE
        documents.append(read_json(log.restoring))
    first = documents[0]
    alike = {name: getattr(task, name) for name in ("transitions", "n_eval_episodes")}
    try:
        others = [
            OtherTask(
                replace(get_task(task_id), **alike),
                [load_solution(directory / OTHERS_FOLDER / task_id) for directory in directories],
                transitions,
            )
            for task_id, transitions in first["others"].items()
        ]
        trained = Trained(
            solutions=[load_solution(directory / SOLUTION_FOLDER) for directory in directories],
            folders=[SOLUTION_FOLDER] * len(directories),
            others=others,
            train_seconds=[document["train_seconds"] for document in documents],
            steps_counted=first["steps_counted"],
            seeds=first["seeds"],
            peak_memory_mib=first["peak_memory_mib"],
            peak_device_memory_mib=first["peak_device_memory_mib"],
        )
        log.set_state([document["log"] for document in documents])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks {error}") from error
    log.restoring = None
    return trained


def trained_together(directory: Path) -> list[int]:
    """Seeds that trained with this one, it among them, if it is trained and not scored; else [].

    A file that cannot be read is taken for none: the seed trains again, and it is replaced.
    """
    try:
        seeds = read_json(directory / TRAINED_FILE)["seeds"]
        return [int(seed) for seed in seeds]
    except (ValueError, KeyError, TypeError):
        return []


def _is_whole_in_files(solution: Solution) -> bool:
    """Whether `load_solution` gives all that is scored of it."""
    if not solution.exportable:
        return False
    return not isinstance(solution, OfflineSolution) or (
        solution.adapt is None and solution.predict is None and solution.factors is None
    )
