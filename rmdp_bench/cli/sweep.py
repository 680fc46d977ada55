"""`sweep`: many runs from one plan, and the state of a sweep."""

from __future__ import annotations

import difflib
import os
import platform
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from rmdp_bench.cli.options import CoresOption
from rmdp_bench.cli.output import JsonOption, print_json, print_table, warn
from rmdp_bench.cli.signals import on_signals

if TYPE_CHECKING:
    from rmdp_bench.sweep import Job, Plan
    from rmdp_bench.sweep.jobs import Launch, Stop

MAX_SHOWN = 20
"""Failed runs that are shown; --json has all."""


class LauncherName(StrEnum):
    """Where the jobs of a sweep run."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


LauncherOption = Annotated[
    LauncherName,
    typer.Option(help="This machine; a Ray cluster ($RAY_ADDRESS, else this machine); SLURM."),
]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a sweep.")]


class _SweepGroup(TyperGroup):
    """`sweep PLAN` is `sweep start PLAN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in where it was left out."""
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            self._check_plan(args[0])
            args = ["start", *args]
        return super().parse_args(ctx, args)

    def _check_plan(self, word: str) -> None:
        """Refuse a word that is a command mistyped rather than a plan."""
        if word.startswith("-") or Path(word).name != word or "." in word or Path(word).exists():
            return
        close = difflib.get_close_matches(word, self.commands)
        hint = (
            f"did you mean {', '.join(close)}?"
            if close
            else f"known are {', '.join(self.commands)}"
        )
        raise typer.BadParameter(
            f"sweep has no command {word!r}, and there is no such plan; {hint}"
        )

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Show those of the command that may be left out, too."""
        super().format_options(ctx, formatter)
        rows = [option.get_help_record(ctx) for option in self.commands["start"].params]
        with formatter.section("Options of `sweep PLAN`"):
            formatter.write_dl([row for row in rows if row is not None])


app = typer.Typer(
    cls=_SweepGroup,
    help="Run a plan: `rmdp-bench sweep PLAN.toml [OPTIONS]`, or look after one.",
    rich_markup_mode=None,
)


@app.command("start")
def start_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan, PLAN.toml.")],
    launcher: LauncherOption = LauncherName.local,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; default: runs/ and the plan's name.")
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the commands of what is left, and run nothing.")
    ] = False,
    cores: CoresOption = None,
) -> None:
    """Run all of a plan that has not run yet; `start` may be left out.

    What is finished is not run again, what was interrupted goes on, and runs that have failed
    before wait for `sweep retry`. Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop all jobs when they have
    saved a checkpoint; Ctrl-C after that stops them at once. The exit code is 1 if runs failed or
    were cancelled.
    """
    from rmdp_bench.sweep import read_plan

    read = read_plan(plan)
    out = Path("runs") / read.name if out is None else out
    if only_print:
        _print_commands(read, out, cores)
        return
    code = _launch([read], out, launcher)
    if code:
        raise typer.Exit(code)


@app.command("retry")
def retry_command(
    directory: FolderArgument,
    launcher: LauncherOption = LauncherName.local,
    cores: CoresOption = None,
) -> None:
    """Run what failed once more, and what is left of the folder's plans."""
    from rmdp_bench.sweep.jobs import read_plans
    from rmdp_bench.sweep.plan import parse_plan

    plans = []
    for name, document in read_plans(directory).items():
        text, folder = document.get("text"), document.get("folder")
        if not isinstance(text, str) or not isinstance(folder, str):
            raise ValueError(f"the stored plan {name} of {directory} has no text and folder")
        plans.append(parse_plan(text, name, Path(folder), name))
    code = _launch(plans, directory, launcher, retries=True)
    if code:
        raise typer.Exit(code)


@app.command("cancel")
def cancel_command(directory: FolderArgument) -> None:
    """Stop all drivers of a sweep, on any machine, when their jobs have saved checkpoints.

    The same `rmdp-bench sweep PLAN` goes on from these.
    """
    from rmdp_bench.sweep import cancel

    n_drivers, n_submitted = cancel(directory)
    print(f"asked to stop: {n_drivers} driver{'' if n_drivers == 1 else 's'}")
    if n_submitted:
        launches = f"{n_submitted} launch{'' if n_submitted == 1 else 'es'}"
        print(f"asked to stop: SLURM jobs of {launches}, as far as any are left")


@app.command("status")
def status_command(directory: FolderArgument, as_json: JsonOption = False) -> None:
    """Say what is done, running, failed and waiting, and how long it will take."""
    from rmdp_bench.runs.display import clock
    from rmdp_bench.sweep import read_status

    status = read_status(directory)
    if as_json:
        print_json(status.to_dict())
        return
    counts = ", ".join(f"{number} {state}" for state, number in status.counts.items())
    left = f"; about {clock(status.seconds_left)} left" if status.seconds_left else ""
    print(f"{len(status.seeds)} runs: {counts}{left}\n")
    rows = [
        [
            seed.solver,
            seed.task,
            str(seed.seed),
            *_progress_cells(seed.progress),
            "–" if seed.seconds_left is None else clock(seed.seconds_left),
        ]
        for seed in status.seeds
        if seed.state == "running"
    ]
    if rows:
        columns = ["solver", "task", "seed", "done", "of", "per second", "left"]
        print_table("Running", columns, rows, n_left=2, optional=["of", "left", "per second"])
    failed = [seed for seed in status.seeds if seed.state == "failed"]
    rows = [[s.solver, s.task, str(s.seed), s.error or "", s.log or ""] for s in failed[:MAX_SHOWN]]
    if rows:
        more = f", the first {MAX_SHOWN} of {len(failed)}" if len(failed) > MAX_SHOWN else ""
        columns = ["solver", "task", "seed", "error", "log"]
        print_table(f"Failed{more}", columns, rows, n_left=5, optional=["log"])


def _progress_cells(progress: dict[str, Any] | None) -> list[str]:
    if progress is None or not progress["total"]:
        return ["–", "–", "–"]
    share = f"{100 * progress['done'] / progress['total']:.0f} %"
    return [share, f"{progress['total']:,}", f"{progress['per_second']:,.0f}"]


def _print_commands(plan: Plan, out: Path, cores: int | None) -> None:
    """Print a command for each job and task of which something is left, with its limit of cores."""
    from rmdp_bench.runs.running import is_finished
    from rmdp_bench.sweep import make_jobs
    from rmdp_bench.sweep.local import count_places

    for job in make_jobs(plan, count_places([row.cores for row in plan.rows])):
        limit = min((number for number in (job.cores, cores) if number is not None), default=None)
        options = [] if limit is None else ["--cores", str(limit)]
        for task in job.tasks:
            left = [s for s in job.seeds if not is_finished(job.directory(out, task, s))]
            if left:
                print(shlex.join(["rmdp-bench", *job.command(out, task, left), *options]))


def _launch(plans: Sequence[Plan], out: Path, launcher: LauncherName, retries: bool = False) -> int:
    """Run plans, and what failed before if that is to be tried again; gives the exit code."""
    from rmdp_bench.files import check_writable
    from rmdp_bench.runs.requests import check_device
    from rmdp_bench.sweep import make_jobs
    from rmdp_bench.sweep.local import count_places
    from rmdp_bench.sweep.on_ray import import_ray
    from rmdp_bench.sweep.on_slurm import import_submitit
    from rmdp_bench.sweep.status import failures_forgotten

    check_writable(out)
    if launcher == LauncherName.ray:
        import_ray()
    elif launcher == LauncherName.slurm:
        import_submitit()
    rows = [row for plan in plans for row in plan.rows]
    n_places: float | None = None
    if launcher == LauncherName.local:
        n_places = count_places([row.cores for row in rows])
        for device in sorted({row.device for row in rows}):
            check_device(device)
    made = {plan.name: make_jobs(plan, n_places) for plan in plans}
    with failures_forgotten(out) if retries else nullcontext():
        return _run_jobs(plans, out, launcher, made)


def _run_jobs(
    plans: Sequence[Plan], out: Path, launcher: LauncherName, made: Mapping[str, Sequence[Job]]
) -> int:
    """Run what is left of checked plans; gives the exit code."""
    from rmdp_bench.sweep.costs import longest_first, read_costs
    from rmdp_bench.sweep.jobs import Launch, is_left, write_plan

    for plan in plans:
        document = {"text": plan.text, "folder": str(plan.folder)}
        write_plan(out, plan.name, document, made[plan.name])
    jobs = [job for own in made.values() for job in own]
    left = longest_first((job for job in jobs if is_left(out, job)), read_costs(out, jobs))
    if not left:
        return _report(out, jobs, 0)
    about = {"launcher": launcher.value, "host": platform.node(), "process": os.getpid()}
    launch = Launch.start(out, about)
    if launcher == LauncherName.slurm:
        return _submit(plans, out, left, launch)
    with launch.driven(), _asking_to_stop() as asked:
        _drive(out, jobs, left, launch, launcher, asked)
    return _report(out, jobs, asked.exit_code)


def _drive(
    out: Path,
    jobs: Sequence[Job],
    left: Sequence[Job],
    launch: Launch,
    launcher: LauncherName,
    asked: _AskedToStop,
) -> None:
    """Run what is left of the jobs from here."""
    from rmdp_bench.sweep.display import SweepDisplay
    from rmdp_bench.sweep.driving import Engine, drive
    from rmdp_bench.sweep.local import LocalEngine
    from rmdp_bench.sweep.on_ray import RayEngine

    def stop() -> Stop:
        return asked.level(launch.is_stopped())

    engine: Engine
    if launcher == LauncherName.ray:
        engine = RayEngine(out, launch, left, stop)
    else:
        engine = LocalEngine(out, left, stop)
    display = SweepDisplay(out, jobs)
    try:
        drive(out, left, engine, display, stop)
    finally:
        display.stop()
        engine.close()


def _submit(plans: Sequence[Plan], out: Path, left: Sequence[Job], launch: Launch) -> int:
    """Give what is left to SLURM."""
    from rmdp_bench.sweep.on_slurm import submit

    parameters = {name: value for plan in plans for name, value in plan.slurm.items()}
    try:
        submitted = submit(out, left, launch, parameters)
    except BaseException:
        launch.end()
        raise
    where = shlex.quote(str(out))
    print(
        f"submitted {len(submitted)} jobs; `rmdp-bench sweep status {where}` says how far they are"
    )
    return 0


def _report(out: Path, jobs: Sequence[Job], stopped: int) -> int:
    """Say at the end what failed and what is left; gives the exit code."""
    from rmdp_bench.sweep.status import status_of

    status = status_of(out, jobs)
    failed = [seed for seed in status.seeds if seed.state == "failed"]
    for seed in failed[:MAX_SHOWN]:
        where = f"{seed.solver} on {seed.task}, seed {seed.seed}"
        warn(f"{where} failed: {seed.error} ({out / seed.log if seed.log else 'no log'})")
    counts = ", ".join(f"{number} {state}" for state, number in status.counts.items() if number)
    print(f"{len(status.seeds)} runs: {counts} ({out})")
    if failed:
        print(f"`rmdp-bench sweep retry {shlex.quote(str(out))}` runs what failed once more.")
    if stopped:
        return stopped
    return 0 if status.counts["done"] == len(status.seeds) else 1


class _AskedToStop:
    """What signals have asked for.

    Attributes:
        exit_code: for the first signal; 0: there was none.
    """

    def __init__(self) -> None:
        """Nobody has asked."""
        self.exit_code, self._now = 0, False

    def __call__(self, number: int) -> None:
        """Stop at checkpoints, or at the second Ctrl-C at once."""
        said = "stopping when all jobs have saved a checkpoint; Ctrl-C (SIGINT) stops at once"
        if not self.exit_code:
            self.exit_code = 128 + number
        elif number == signal.SIGINT:
            self._now, said = True, "stopping at once"
        else:
            said = "stopping already; Ctrl-C (SIGINT) stops at once"
        try:  # not print(), which the signal may have interrupted
            os.write(2, f"\n{signal.Signals(number).name}: {said}\n".encode())
        except OSError:  # the terminal has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def level(self, is_cancelled: bool) -> Stop:
        """How soon to stop."""
        from rmdp_bench.sweep.jobs import Stop

        if self._now:
            return Stop.now
        return Stop.checkpoint if self.exit_code or is_cancelled else Stop.no


@contextmanager
def _asking_to_stop() -> Iterator[_AskedToStop]:
    asked = _AskedToStop()
    with on_signals(asked):
        yield asked
