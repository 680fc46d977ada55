"""Make the offline rows of the leaderboard: every solver, both worlds, four kinds of data.

    python -m scripts.run_offline_table --print               the commands, not run
    python -m scripts.run_offline_table --out runs/offline    run them, one after the other
    python -m scripts.run_offline_table --kinds pure random --solvers persim bcq --jobs 2
    python -m scripts.run_offline_table --submissions reference-gpu --device cuda

Runs of a submission are in OUT/SUBMISSION, so that the same solver can be there with one policy for
all agents and with one for each. What is finished is not run again, and what was interrupted goes
on. A solver that fails is reported at the end and does not stop the others. Each of several jobs at
once is kept on one core, and its output goes to a file OUT/SUBMISSION/TASK-SOLVER.log.

All planners have the same reduced size, a tenth of the plans, and play 3 episodes for each agent
instead of 20 (and 1 for each held-out agent); policies that only read a network play all 20. What
the reduction costs is in the rows of `reference-gpu`, PerSim at full size, which are left out
unless they are named. `true_env_mpc` reads no data and is there once for each world, with 1,000
plans that look further ahead, and all episodes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rmdp_bench.tasks import find_logged_task

WORLDS = ("CartPoleHet-n500", "MountainCarHet-n500")
KINDS = ("pure", "random", "pure-eps20", "pure-eps40")
SEEDS = "0:3"
PLANNER = ("n_sequences=100",)
PLANNER_EPISODES = 3
LONG_PLANNER = ("n_sequences=1000", "horizon=80")
"""Of `true_env_mpc`, whose score solvers exceeded with 100 plans of 50 steps."""


@dataclass(frozen=True)
class OfflineRow:
    """A solver as it runs on all tasks.

    Attributes:
        submission: to which its runs belong.
        solver: its name.
        settings: "key=value" for `--set`.
        n_episodes: None: the task's.
        kinds: of data.
    """

    submission: str
    solver: str
    settings: tuple[str, ...] = ()
    n_episodes: int | None = None
    kinds: tuple[str, ...] = KINDS


_MOREL = ("model_hidden_size=128", "max_model_updates=1000", "iterations=40")
_SMALLER = ("hidden_dims=[128,128]",)
"""Half as wide as the papers', which makes what is stored a quarter: four numbers are observed."""
_AGENT = ("scope=agent", "n_updates=5000", "hidden_dims=[64,64]")
"""Smaller networks: one trajectory is what each learns from, and five are stored for each seed."""
FULL_SIZE = "reference-gpu"
ROWS = (
    OfflineRow("reference-planning", "persim", PLANNER, PLANNER_EPISODES),
    OfflineRow("reference-offline", "behaviour", (*_SMALLER, "n_updates=10000")),
    OfflineRow("reference-offline", "cql", (*_SMALLER, "n_updates=20000")),
    OfflineRow("reference-offline", "bcq", (*_SMALLER, "n_updates=20000")),
    OfflineRow("reference-planning", "cadm", (*PLANNER, "n_updates=8000"), PLANNER_EPISODES),
    OfflineRow("reference-offline", "morel", _MOREL),
    OfflineRow("reference-offline", "persim_bcq", ("policy_hidden_dims=[64,64]",)),
    OfflineRow("reference-agent", "behaviour", _AGENT),
    OfflineRow("reference-agent", "cql", _AGENT),
    OfflineRow("reference-agent", "bcq", _AGENT),
    OfflineRow("reference-agent", "morel", ("scope=agent", *_MOREL)),
    OfflineRow("reference-planning", "true_env_mpc", LONG_PLANNER, kinds=("pure",)),
    OfflineRow(FULL_SIZE, "persim", kinds=("pure",)),
    OfflineRow(
        "reference-planning",
        "pe_cadm",
        (*PLANNER, "n_particles=5", "n_updates=3000"),
        PLANNER_EPISODES,
    ),
)
"""In the order in which they run."""


SUBMISSIONS = tuple(dict.fromkeys(row.submission for row in ROWS))


def make_command(
    solver: str,
    task: str,
    seeds: str,
    out: Path,
    settings: Sequence[str] = (),
    *,
    device: str = "cpu",
    n_episodes: int | None = None,
    transitions: int | None = None,
) -> list[str]:
    """Arguments of `rmdp-bench` for a run; also those of the other tables."""
    command = ["run", solver, task, "--seeds", seeds, "--device", device, "--out", str(out)]
    for name, number in (("--episodes", n_episodes), ("--transitions", transitions)):
        command += [] if number is None else [name, str(number)]
    return command + [part for each in settings for part in ("--set", each)]


def list_commands(arguments: argparse.Namespace) -> Iterator[tuple[Path, list[str]]]:
    """Log and arguments of `rmdp-bench` for each run: all rows for a kind, then the next kind."""
    for kind in arguments.kinds:
        for row in ROWS:
            if kind not in row.kinds or row.submission not in arguments.submissions:
                continue
            if arguments.solvers and row.solver not in arguments.solvers:
                continue
            for world in arguments.worlds:
                task, out = find_logged_task(world, kind).id, arguments.out / row.submission
                how = {"device": arguments.device, "n_episodes": row.n_episodes}
                command = make_command(row.solver, task, SEEDS, out, row.settings, **how)
                yield out / f"{task}-{row.solver}.log", command


def run(command: Sequence[str], log: Path | None = None) -> str | None:
    """Run a command, its output to the end of a log if one is given; what went wrong, or None.

    Raises:
        SystemExit: it was stopped by hand, so that the rest shall not begin.
    """
    line = shlex.join(["rmdp-bench", *command])
    print(line, flush=True)
    program = Path(sys.executable).with_name("rmdp-bench")
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext() if log is None else log.open("a") as file:
        code = subprocess.run([program, *command], stdout=file, stderr=file, check=False).returncode
    if code == 130:
        sys.exit(code)
    return f"exit code {code}: {line}" if code else None


def run_all(commands: Iterable[Sequence[str]], only_print: bool = False) -> None:
    """Run commands one after the other, or print them; at the end say what went wrong."""
    if only_print:
        print("\n".join(shlex.join(["rmdp-bench", *command]) for command in commands))
        return
    sys.exit("\n".join(filter(None, map(run, commands))) or 0)


def main() -> None:
    """Run or print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--solvers", nargs="+", choices=sorted({row.solver for row in ROWS}))
    parser.add_argument(
        "--submissions",
        nargs="+",
        choices=SUBMISSIONS,
        default=[name for name in SUBMISSIONS if name != FULL_SIZE],
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    parser.add_argument("--print", action="store_true", help="print the commands only")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs is {arguments.jobs}, expected at least 1")
    if arguments.jobs > 1 and not hasattr(os, "sched_setaffinity"):
        parser.error("--jobs above 1 needs Linux, where a run can be kept on one core")
    commands = list(list_commands(arguments))
    if arguments.print or arguments.jobs == 1:
        run_all([command for _, command in commands], arguments.print)
    else:
        cores = itertools.cycle(sorted(os.sched_getaffinity(0)))

        def pin() -> None:
            os.sched_setaffinity(0, {next(cores)})  # of this thread and what it starts

        with ThreadPoolExecutor(arguments.jobs, initializer=pin) as pool:
            started = [pool.submit(run, command, log) for log, command in commands]
            try:
                failed = [each.result() for each in started]
            except BaseException:  # an interrupt too: what has not begun shall not
                pool.shutdown(cancel_futures=True)
                raise
        sys.exit("\n".join(filter(None, failed)) or 0)


if __name__ == "__main__":
    main()
