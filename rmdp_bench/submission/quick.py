"""The quick check of a submission: everything that can be known without playing its policies."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.runs.records import Result
from rmdp_bench.runs.requests import DEVICES
from rmdp_bench.runs.solver_loading import CONTROLS, SOLVERS
from rmdp_bench.submission.files import (
    MANIFEST_FILE,
    MAX_NUMBER_BYTES,
    MAX_RECORD_BYTES,
    check_manifest,
    list_files,
    read_manifest,
)
from rmdp_bench.submission.marks import confusable
from rmdp_bench.submission.rows import RECORDS_FILE, RowFiles, read_record
from rmdp_bench.submission.schema import (
    Row,
    Submission,
    read_submission,
    without_nulls,
)
from rmdp_bench.submission.scores import check_seed
from rmdp_bench.tasks import OfflineTask, Task, get_task

MIN_SECONDS, MAX_SECONDS = 1e-6, 366 * 86_400.0
"""Of a seed: less than any call of a solver takes, and a year."""
MAX_TRANSITIONS_PER_SECOND = 1e9
"""Of all policies and seeds together; the fastest of the suite have 1e5, simulators on GPUs 1e7."""
MAX_UNCOUNTED_PER_SECOND = 1e12
"""The budget over the seconds of training, of solvers that did not count and may not have used any
of it."""
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 8.0, 2.0**24
"""Less than Python alone, and 16 TiB."""
MAX_WATTS = 1e5
MAX_SEEDS_TOGETHER = 10_000
_MAJOR_VERSIONS = ("gymnasium", "mujoco")
"""Packages whose next major version may play other episodes."""


@dataclass(frozen=True)
class Checked:
    """A submission that passed the quick check.

    Attributes:
        folder: where it is.
        submission: its submission.toml.
        records: (task, solver) -> records of the seeds 0, 1, ...
    """

    folder: Path
    submission: Submission
    records: Mapping[tuple[str, str], list[Result]]


def check_submission(folder: Path, beside: Path | None = None) -> Checked:
    """Check structure, schemas, hashes, ranges, versions, seeds, scores and duplicates.

    Args:
        folder: the submission.
        beside: folder of others, among which duplicates and names that look alike are looked for;
            one of the same name is this one as it was. None: the folder that this one is in.

    Raises:
        ValueError: the first thing that is wrong.
    """
    files = list_files(folder)
    submission = read_submission(folder)
    n_seeds = sum(len(row.seeds) for row in submission.rows)
    manifest = check_manifest(folder, files, n_seeds)
    records: dict[tuple[str, str], list[Result]] = {}
    fingerprints: dict[str, list[str]] = {}
    others = neighbours(folder.resolve().parent if beside is None else beside, folder)
    _check_names(folder, submission, others)
    for row in submission.rows:
        task = get_task(row.task)
        if task.unranked is not None:
            raise ValueError(f"{folder}: {row.task} is not ranked: {task.unranked}")
        base = f"{row.task}/{row.solver}"
        own = RowFiles(folder / base)
        _check_size(task, own)
        checked = [_check_record(submission, row, task, own, seed) for seed in row.seeds]
        records[row.task, row.solver] = [record for record, _ in checked]
        fingerprints[base] = [fingerprint for _, fingerprint in checked]
        if row.solver not in CONTROLS:
            _check_seeds_differ(base, fingerprints[base])
    for name in files:
        if name.rpartition("/")[0] not in fingerprints:
            raise ValueError(f"{folder}: {name} is of no row in submission.toml")
    if manifest.seeds != fingerprints:
        raise ValueError(
            f"{folder}: the hashes of seeds in {MANIFEST_FILE} are not those of their policies; "
            f"pack the submission again"
        )
    _check_no_duplicate(folder, fingerprints, others)
    return Checked(folder, submission, records)


def neighbours(beside: Path, folder: Path) -> list[Path]:
    """The submissions in a folder, but for that with the name of `folder`."""
    name = folder.resolve().name
    return [
        other
        for other in sorted(beside.resolve().iterdir())
        if other.name != name and (other / MANIFEST_FILE).is_file()
    ]


def _check_names(folder: Path, submission: Submission, others: Sequence[Path]) -> None:
    """Two rows of a task, or two submissions, may not have names that look alike."""
    seen: dict[tuple[str, str], str] = {}
    for row in submission.rows:
        other = seen.setdefault((row.task, confusable(row.solver)), row.solver)
        if other != row.solver:
            raise ValueError(
                f"{folder}: the solvers {other} and {row.solver} on {row.task} have names that "
                f"look alike"
            )
    for beside in others:
        if confusable(beside.name) == confusable(folder.resolve().name):
            raise ValueError(f"{folder}: its name looks like that of {beside.name}; choose another")


def _check_size(task: Task, files: RowFiles) -> None:
    """Records are no longer than what they have to say."""
    n_numbers = 2 * task.n_agents
    if isinstance(task, OfflineTask):
        n_numbers = 2 * len(task.eval_agents) + len(task.heldout_agents)
    n_lines = sum(len(line) + MAX_NUMBER_BYTES for seed in files.seeds for line in seed.curve or ())
    limit = len(files.seeds) * (MAX_RECORD_BYTES + MAX_NUMBER_BYTES * n_numbers) + n_lines
    path = files.folder / RECORDS_FILE
    if path.stat().st_size > limit:
        raise ValueError(f"{path} has more than the {limit} bytes that its records need")


def _check_record(
    submission: Submission, row: Row, task: Task, files: RowFiles, seed: int
) -> tuple[Result, str]:
    """The record of a seed, checked with all that is beside it, and the seed's fingerprint."""
    result = read_record(row, files, seed)
    try:
        _check_provenance(row, task, result)
        _check_rules(submission, task, result)
        _check_costs(task, result)
    except ValueError as error:
        raise ValueError(f"{files.record_name(seed)}: {error}") from error
    solution = files.solution(seed)
    check_seed(task, result, files, solution)
    return result, files.fingerprint(seed, solution)


def _check_provenance(row: Row, task: Task, result: Result) -> None:
    """Settings, solver, device, versions, and the task of the training."""
    if without_nulls(result.config) != row.settings:
        raise ValueError(f"config is not the settings of {row.solver} in submission.toml")
    ours = result.solver in SOLVERS
    if ours != (result.solver_sha256 is None):
        wanted = "none, it is a solver of the suite" if ours else "the hash of the solver's file"
        raise ValueError(f"solver_sha256 is {result.solver_sha256!r}, expected {wanted}")
    if not ours and not _is_sha256(str(result.solver_sha256)):
        raise ValueError(f"solver_sha256 is {result.solver_sha256!r}, which is not a hash")
    if result.device not in DEVICES or result.system.get("device") != result.device:
        raise ValueError(f"device is {result.device!r}, and in system another or unknown")
    if result.trained_for is not None and get_task(result.trained_for).env_id != task.env_id:
        raise ValueError(f"trained_for is {result.trained_for!r}, which has another environment")
    for package in _MAJOR_VERSIONS:
        recorded, here = result.versions.get(package), importlib.metadata.version(package)
        if recorded is None or recorded.partition(".")[0] != here.partition(".")[0]:
            raise ValueError(f"versions: {package} is {recorded}, but the tasks need {here}")


def _check_rules(submission: Submission, task: Task, result: Result) -> None:
    """What the division and the protocol ask for."""
    protocol = (result.evaluation.seed, result.evaluation.n_episodes)
    if protocol != (EVALUATION_SEED, task.n_eval_episodes):
        raise ValueError(
            f"evaluation: seed {protocol[0]} and {protocol[1]} episodes, expected seed "
            f"{EVALUATION_SEED} and the task's {task.n_eval_episodes} episodes, in both divisions"
        )
    if submission.division == "open":
        return
    if result.transitions != task.transitions:
        raise ValueError(
            f"transitions is {result.transitions}, but the task has {task.transitions}: this "
            f"belongs to the open division, with the difference declared (submit --difference)"
        )
    for name in ("transitions_reported", "transitions_counted"):
        value = getattr(result, name)
        if value is not None and value > task.transitions:
            raise ValueError(f"{name} is {value}, over the budget of {task.transitions}")


def _check_costs(task: Task, result: Result) -> None:
    """Ranges of what only the submitter can know: what clocks, memories and machines allow."""
    rate = MAX_TRANSITIONS_PER_SECOND if result.transitions_reported else MAX_UNCOUNTED_PER_SECOND
    transitions = (result.transitions_reported or result.transitions) * task.n_representatives
    ranges: dict[str, tuple[float | None, float, float]] = {
        "seeds_together": (result.seeds_together, 1, MAX_SEEDS_TOGETHER),
        "wall_seconds": (result.wall_seconds, MIN_SECONDS, MAX_SECONDS),
        "train_seconds": (
            result.train_seconds,
            max(MIN_SECONDS, transitions * result.seeds_together / rate),
            result.wall_seconds,
        ),
        "peak_memory_mib": (result.peak_memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB),
        "peak_device_memory_mib": (result.peak_device_memory_mib, 1e-3, MAX_MEMORY_MIB),
        "energy_joules": (result.energy_joules, 1e-3, MAX_WATTS * result.wall_seconds),
    }
    for name, (value, low, high) in ranges.items():
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name} is {value:g}, expected {low:.3g} to {high:.3g}")


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _check_seeds_differ(base: str, fingerprints: Sequence[str]) -> None:
    """Two seeds of a row may not have the same policies: they would be one run."""
    seen: dict[str, int] = {}
    for seed, own in enumerate(fingerprints):
        if own in seen:
            raise ValueError(
                f"seeds {seen[own]} and {seed} of {base} have the same policies or returns; they "
                f"are one run, submit it once"
            )
        seen[own] = seed


def _check_no_duplicate(
    folder: Path, fingerprints: Mapping[str, Sequence[str]], others: Sequence[Path]
) -> None:
    """Another submission beside this one may not have the same policies for the same task."""
    own = {(name.split("/")[0], value): name for name, value in _by_seed(fingerprints).items()}
    for other in others:
        try:
            theirs = _by_seed(read_manifest(other).seeds)
        except ValueError:
            continue  # the other submission's own check says so
        for name, value in theirs.items():
            mine = own.get((name.split("/")[0], value))
            if mine is not None:
                raise ValueError(
                    f"{folder}: {mine} has the policies of {other.name}/{name}; they are "
                    f"submitted already"
                )


def _by_seed(fingerprints: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """TASK/SOLVER/seed-S -> fingerprint."""
    return {
        f"{row}/seed-{seed}": value
        for row, own in fingerprints.items()
        for seed, value in enumerate(own)
    }
