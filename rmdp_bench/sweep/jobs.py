"""Jobs: what is run in one process, and running it, once and by one driver only.

Several drivers, on one machine or on several, may work on one folder. Each takes the lock of a seed
(its claim) before it starts a process for it, and `rmdp-bench run` takes that of the run directory.
Both are flock's: they are free again when their holder is killed. On file systems without flock
nothing is run.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from rmdp_bench.cores import THREAD_VARIABLES, VARIABLE
from rmdp_bench.files import FULL_DISK_CODE, is_locked, locked, read_json, remove, write_json
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.runs.running import is_finished
from rmdp_bench.runs.trained import TRAINED_FILE

SWEEP_FOLDER = "sweep"
MAX_KILLED = 3
"""How often a job is started again, from its checkpoint, after its process was killed; a process
that has saved a checkpoint before that does not count."""
POLL_SECONDS = 0.2
STOP_SECONDS = 2.0
"""Between two looks for the file that asks to stop, which may be on another machine's disk."""
_STOPS = [128 + getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")]
"""Exit codes of a run that a signal has stopped."""


class Outcome(StrEnum):
    """What became of a job."""

    done = "done"
    failed = "failed"
    busy = "busy"
    """Somebody else runs some of its seeds: ask again."""
    stopped = "stopped"


class Stop(IntEnum):
    """Whether a driver wants its jobs to stop."""

    no = 0
    checkpoint = 1
    """When they have saved a checkpoint."""
    now = 2


@dataclass(frozen=True)
class Job:
    """What one process after the other runs: its tasks with the same solver and seeds.

    Attributes:
        folder: of the runs, below the sweep's; its last part is the address.
        solver: name, or the path of a file.
        solver_name: what its run directories are called.
        solver_sha256: of the file; None for a solver of the suite.
        tasks: ids; more than one where the training of the first solves the others.
        seeds: that train as one batch.
        settings: "key=value" for `--set`.
        transitions: per policy; None: the task's.
        episodes: that score each policy; None: the task's.
        device: "cpu" or "cuda".
        cores: that it uses; None: the launcher decides.
        gpus: share of one; 0 on the CPU.
    """

    folder: str
    solver: str
    solver_name: str
    solver_sha256: str | None
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...] = ()
    transitions: int | None = None
    episodes: int | None = None
    device: str = "cpu"
    cores: int | None = None
    gpus: float = 0.0

    @property
    def title(self) -> str:
        """Solver, seeds and tasks in words; what may be cut off comes last."""
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {as_text(self.seeds)}"
        return f"{self.solver_name}, {seeds} on {', '.join(self.tasks)}"

    def directory(self, out: Path, task: str, seed: int) -> Path:
        """The run directory of a seed."""
        return out / self.folder / task / self.solver_name / f"seed-{seed}"

    def command(self, out: Path, task: str, seeds: Sequence[int]) -> list[str]:
        """Arguments of `rmdp-bench`."""
        words = ["run", self.solver, task, "--seeds", as_text(seeds), "--device", self.device]
        words += ["--out", str(out / self.folder)]
        for name, number in (("--episodes", self.episodes), ("--transitions", self.transitions)):
            words += [] if number is None else [name, str(number)]
        return words + [part for each in self.settings for part in ("--set", each)]

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Job:
        """The reverse of `to_dict`.

        Raises:
            ValueError: it has other fields, as those of another version of the package.
        """
        try:
            lists = {n: tuple(document[n]) for n in ("tasks", "seeds", "settings")}
            return cls(**{**document, **lists})
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"not a job of this version of rmdp_bench ({error}); `rmdp-bench sweep PLAN.toml` "
                "with the same folder writes it anew"
            ) from error


def as_text(seeds: Sequence[int]) -> str:
    """Seeds as `--seeds` takes them: ranges where several follow each other."""
    parts: list[str] = []
    start = 0
    for end in range(1, len(seeds) + 1):
        if end == len(seeds) or seeds[end] != seeds[end - 1] + 1:
            first, last = seeds[start], seeds[end - 1]
            parts.append(str(first) if first == last else f"{first}:{last + 1}")
            start = end
    return ",".join(parts)


def seed_name(job: Job, task: str, seed: int) -> str:
    """A name of a file or folder for a seed, wherever its runs are."""
    key = "/".join([job.folder, task, job.solver_name, str(seed)])
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def claims_folder(out: Path) -> Path:
    """Where the seeds are locked whose jobs are under way."""
    return out / SWEEP_FOLDER / "claims"


def failures_folder(out: Path) -> Path:
    """Where it is noted which seeds failed."""
    return out / SWEEP_FOLDER / "failures"


def failure_file(out: Path, job: Job, task: str, seed: int) -> Path:
    """The note that a seed failed."""
    return failures_folder(out) / f"{seed_name(job, task, seed)}.json"


class Launch:
    """Jobs that one command started, and the request to stop them, which any machine can make."""

    def __init__(self, out: Path, name: str) -> None:
        """Refer to one; `start` makes one."""
        self.out, self.name = out, name
        self._folder = out / SWEEP_FOLDER / "launches" / name
        self._looked, self._stopped = -STOP_SECONDS, False

    @classmethod
    def start(cls, out: Path, about: Mapping[str, Any]) -> Launch:
        """Make it known, and forget those that were stopped; `about` says whose it is."""
        for other in list_launches(out):
            if (other._folder / "stop").exists():
                other.end()
        launch = cls(out, uuid.uuid4().hex[:12])
        launch._folder.mkdir(parents=True)
        write_json(launch._folder / "launch.json", {"started": time.time(), **about})
        return launch

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Drive it from here, and forget it at the end."""
        try:
            with locked(self._folder, "another process drives this launch"):
                yield
        finally:
            self.end()

    def is_driven(self) -> bool:
        """Whether its driver is at work; one that was killed is not."""
        return is_locked(self._folder)

    def is_submitted(self) -> bool:
        """Whether its jobs are SLURM's, and it has no driver."""
        try:
            return read_json(self._folder / "launch.json").get("launcher") == "slurm"
        except ValueError:  # it has just begun or ended
            return False

    def stop(self) -> None:
        """Ask its jobs to stop, if it has not ended."""
        with suppress(FileNotFoundError):
            (self._folder / "stop").touch()

    def is_stopped(self) -> bool:
        """Whether somebody has asked, at most `STOP_SECONDS` ago."""
        now = time.monotonic()
        if not self._stopped and now - self._looked >= STOP_SECONDS:
            self._looked = now
            self._stopped = (self._folder / "stop").exists() or not self._folder.exists()
        return self._stopped

    def end(self) -> None:
        """Forget it."""
        remove(self._folder)


def list_launches(out: Path) -> list[Launch]:
    """Those that have not ended; a driver that was killed has not said that it did."""
    return [Launch(out, p.name) for p in sorted((out / SWEEP_FOLDER / "launches").glob("*"))]


def is_to_run(out: Path, job: Job, task: str, seed: int) -> bool:
    """Whether a seed is neither finished nor known to fail."""
    finished = is_finished(job.directory(out, task, seed))
    return not finished and not failure_file(out, job, task, seed).exists()


def is_left(out: Path, job: Job) -> bool:
    """Whether any seed of a job is to be run."""
    return any(is_to_run(out, job, task, seed) for task in job.tasks for seed in job.seeds)


def execute(
    out: Path, job: Job, stop: Callable[[], Stop], environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run what is left of a job and nobody else runs, and note what fails.

    Args:
        out: the sweep's folder.
        job: to run, in processes that start from this thread, on the cores that it may use.
        stop: asked several times in a second.
        environment: variables of the processes beside those of this one.

    Raises:
        OSError: the job's disk is full, which is no failure of its own, or what failed cannot be
            noted.
    """
    outcome = Outcome.done
    for task in job.tasks:
        n_killed = 0
        reached: list[tuple[int, bool]] | None = None
        while True:
            if stop():
                return Outcome.stopped
            with ExitStack() as claims:
                seeds = [s for s in job.seeds if _claim(out, job, task, s, claims)]
                if not seeds:
                    break
                code, log = _run_process(out, job, task, seeds, stop, environment or {})
                left = [s for s in seeds if not is_finished(job.directory(out, task, s))]
                if not left:
                    continue
                if stop():
                    return Outcome.stopped
                if any(is_locked(job.directory(out, task, s)) for s in left):
                    return Outcome.busy  # of a `rmdp-bench run` by hand, or of a killed driver
                if code == FULL_DISK_CODE:
                    reason = f"no space was left for {job.title} ({log} says where)"
                    raise OSError(errno.ENOSPC, reason)
                if code < 0 or code in _STOPS:
                    before, reached = reached, _reached(out, job, task, left)
                    n_killed = n_killed + 1 if reached == before or before is None else 1
                    if n_killed <= MAX_KILLED:
                        continue
                _note_failure(out, job, task, left, code, log)
        outcome = max(outcome, _outcome(out, job, task), key=list(Outcome).index)
        if outcome == Outcome.busy:
            return outcome
    return outcome


def _reached(out: Path, job: Job, task: str, seeds: Iterable[int]) -> list[tuple[int, bool]]:
    """Which checkpoints there are, and what is trained: it changes as a job gets on."""
    directories = [job.directory(out, task, seed) for seed in seeds]
    return [
        (max(list_checkpoints(directory), default=0), (directory / TRAINED_FILE).exists())
        for directory in directories
    ]


def _outcome(out: Path, job: Job, task: str) -> Outcome:
    """What became of the seeds of a task, none of which is ours to run."""
    left = [s for s in job.seeds if not is_finished(job.directory(out, task, s))]
    if not left:
        return Outcome.done
    failed = all(failure_file(out, job, task, s).exists() for s in left)
    return Outcome.failed if failed else Outcome.busy


def _claim(out: Path, job: Job, task: str, seed: int, claims: ExitStack) -> bool:
    """Take a seed that is to be run; says whether it was there to take."""
    if not is_to_run(out, job, task, seed):
        return False
    folder = claims_folder(out) / seed_name(job, task, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as own:
        try:
            own.enter_context(locked(folder, _HELD))
        except ValueError as error:
            if str(error).startswith(_HELD):
                return False
            raise OSError(str(error)) from error
        if not is_to_run(out, job, task, seed):  # who held it has finished just now
            return False
        claims.push(own.pop_all())
    return True


_HELD = "another driver runs this seed"


def _run_process(
    out: Path,
    job: Job,
    task: str,
    seeds: Sequence[int],
    stop: Callable[[], Stop],
    environment: Mapping[str, str],
) -> tuple[int, Path]:
    """Run a process to its end, whatever that is; its exit code and its log."""
    log = log_file(out, job, task, seeds)
    log.parent.mkdir(parents=True, exist_ok=True)
    words = job.command(out, task, seeds)
    program = [sys.executable, "-P", "-m", "rmdp_bench.runs.child"]
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(['rmdp-bench', *words])}\n".encode())
        file.flush()
        if changed := _changed_solver(job):
            file.write(changed.encode())
            return 2, log
        process = subprocess.Popen(
            [*program, *words],
            stdin=subprocess.PIPE,  # closed when this process ends, see runs/child.py
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,  # a terminal's Ctrl-C is for the driver, which passes it on
        )
        try:
            return _wait(process, stop), log
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _wait(process: subprocess.Popen[bytes], stop: Callable[[], Stop]) -> int:
    sent = Stop.no
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_SECONDS)
        wanted = stop()
        if wanted > sent:
            number = signal.SIGTERM if sent == Stop.no else signal.SIGINT
            process.send_signal(number)
            sent = Stop(sent + 1)


def _changed_solver(job: Job) -> str:
    """What is wrong if a solver's file is not the one that the address is of."""
    if job.solver_sha256 is None:
        return ""
    try:
        found = hashlib.sha256(Path(job.solver).read_bytes()).hexdigest()
    except OSError as error:
        return f"cannot read {job.solver}: {error.strerror}\n"
    if found == job.solver_sha256:
        return ""
    return f"{job.solver} has changed since the sweep was planned; start `rmdp-bench sweep` anew\n"


def log_file(out: Path, job: Job, task: str, seeds: Sequence[int]) -> Path:
    """Where the output of a job's processes goes, one after the other."""
    address = job.folder.rpartition("/")[2]
    name = f"{task}-{job.solver_name}-{address}-seed-{seeds[0]}"
    return out / SWEEP_FOLDER / "logs" / f"{name}.log"


def _note_failure(
    out: Path, job: Job, task: str, seeds: Iterable[int], code: int, log: Path
) -> None:
    if code < 0:
        error = f"killed by {signal.Signals(-code).name}, {MAX_KILLED + 1} times"
    else:
        error = last_error(log) or f"exit code {code}"
    note_failure(out, job, task, seeds, error, log)


def note_failure(
    out: Path, job: Job, task: str, seeds: Iterable[int], error: str, log: Path | None
) -> None:
    """Note that seeds failed, so that they are not run again before `sweep retry`."""
    failures_folder(out).mkdir(parents=True, exist_ok=True)
    document = {
        "task": task,
        "solver": job.solver_name,
        "folder": job.folder,
        "error": error,
        "log": None if log is None else str(log.relative_to(out)),
    }
    for seed in seeds:
        write_json(failure_file(out, job, task, seed), document | {"seed": seed})


def last_error(log: Path) -> str:
    """The last line of a log that says what went wrong; empty if there is none."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").split("\n$ ")[-1].splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    marked = [line for line in lines if line.startswith("rmdp-bench: error: ")]
    return (marked or lines or [""])[-1].removeprefix("rmdp-bench: error: ")[:500]


def job_environment(cores: int) -> dict[str, str]:
    """What tells a job's process how many cores it has, and libraries that were not told yet."""
    untold = [name for name in THREAD_VARIABLES if name not in os.environ]
    return {name: str(cores) for name in [VARIABLE, *untold]}


def write_plan(out: Path, name: str, document: Mapping[str, Any], jobs: Sequence[Job]) -> None:
    """Store what a plan has asked for; an earlier version of it is replaced."""
    folder = out / SWEEP_FOLDER / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", {**document, "jobs": [job.to_dict() for job in jobs]})


def list_plans(out: Path) -> list[Path]:
    """The files of the stored plans.

    Raises:
        ValueError: there is none, so that the folder is no sweep's.
    """
    paths = sorted((out / SWEEP_FOLDER / "plans").glob("*.json"))
    if not paths:
        raise ValueError(f"{out} is not the folder of a sweep: there is no {SWEEP_FOLDER}/plans")
    return paths


def read_plans(out: Path) -> dict[str, dict[str, Any]]:
    """The stored plans: name -> document, with "jobs" as `Job`s.

    Raises:
        ValueError: as `list_plans`, or one is not as this version of the package writes them.
    """
    documents: dict[str, dict[str, Any]] = {}
    for path in list_plans(out):
        document = read_json(path)
        written = document.get("jobs")
        if not isinstance(written, list):
            raise ValueError(f"{path} is not a stored plan: it has no list of jobs")
        try:
            document["jobs"] = [Job.from_dict(job) for job in written]
        except ValueError as error:
            raise ValueError(f"cannot read {path}: {error}") from error
        documents[path.stem] = document
    return documents
