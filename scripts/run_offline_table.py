"""Make the offline rows of the leaderboard: every solver, both worlds, four kinds of data.

    python -m scripts.run_offline_table --print               the commands, not run
    python -m scripts.run_offline_table --out runs/offline    run them, one after the other
    python -m scripts.run_offline_table --kinds pure random --solvers persim bcq

Runs of a submission are in OUT/SUBMISSION, so that the same solver can be there with one policy for
all agents and with one for each. What is finished is not run again, and what was interrupted goes
on. A solver that fails is reported at the end and does not stop the others.

All planners have the same reduced size, a tenth of the plans, and play 3 episodes for each agent
instead of 20 (and 1 for each held-out agent); policies that only read a network play all 20. What
the reduction costs is in the rows of `reference-gpu`, PerSim at full size, which run
with `--devices cuda` on a machine with a GPU.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WORLDS = ("CartPoleHet-n500", "MountainCarHet-n500")
KINDS = ("pure", "random", "pure-eps20", "pure-eps40")
SEEDS = "0:3"
PLANNER = ("n_sequences=100",)
PLANNER_EPISODES = 3


@dataclass(frozen=True)
class Row:
    """A solver as it runs on all tasks.

    Attributes:
        submission: to which its runs belong.
        solver: its name.
        settings: "key=value" for `--set`.
        n_episodes: None: the task's.
        kinds: of data.
        device: on which it runs.
    """

    submission: str
    solver: str
    settings: tuple[str, ...] = ()
    n_episodes: int | None = None
    kinds: tuple[str, ...] = KINDS
    device: str = "cpu"


_MOREL = ("model_hidden_size=128", "max_model_updates=1000", "iterations=40")
_AGENT = ("scope=agent", "n_updates=5000")
ROWS = (
    Row("reference-planning", "persim", PLANNER, PLANNER_EPISODES),
    Row("reference-offline", "behaviour", ("n_updates=10000",)),
    Row("reference-offline", "cql", ("n_updates=20000",)),
    Row("reference-offline", "bcq", ("n_updates=20000",)),
    Row("reference-planning", "cadm", (*PLANNER, "n_updates=8000"), PLANNER_EPISODES),
    Row("reference-offline", "morel", _MOREL),
    Row("reference-offline", "persim_bcq"),
    Row("reference-agent", "behaviour", _AGENT),
    Row("reference-agent", "cql", _AGENT),
    Row("reference-agent", "bcq", _AGENT),
    Row("reference-agent", "morel", ("scope=agent", *_MOREL)),
    Row("reference-planning", "true_env_mpc", PLANNER, PLANNER_EPISODES),
    Row("reference-gpu", "persim", kinds=("pure",), device="cuda"),
    Row(
        "reference-planning",
        "pe_cadm",
        (*PLANNER, "n_particles=5", "n_updates=3000"),
        PLANNER_EPISODES,
    ),
)
"""In the order in which they run."""


def list_commands(
    kinds: Sequence[str],
    solvers: Sequence[str] | None,
    worlds: Sequence[str],
    devices: Sequence[str],
    out: Path,
) -> Iterator[list[str]]:
    """Arguments of `rmdp-bench`, a list for each run: all rows for a kind, then the next kind."""
    for kind in kinds:
        for row in ROWS:
            if kind not in row.kinds or row.device not in devices:
                continue
            if solvers and row.solver not in solvers:
                continue
            for world in worlds:
                command = ["run", row.solver, f"{world}-{kind}-v0", "--seeds", SEEDS]
                command += ["--device", row.device, "--out", str(out / row.submission)]
                if row.n_episodes is not None:
                    command += ["--episodes", str(row.n_episodes)]
                yield command + [part for each in row.settings for part in ("--set", each)]


def main() -> None:
    """Run or print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--solvers", nargs="+", choices=sorted({row.solver for row in ROWS}))
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), default=["cpu"])
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    parser.add_argument("--print", action="store_true", help="print the commands only")
    arguments = parser.parse_args()
    failed, program = [], Path(sys.executable).with_name("rmdp-bench")
    chosen = (arguments.kinds, arguments.solvers, arguments.worlds)
    for command in list_commands(*chosen, arguments.devices, arguments.out):
        line = shlex.join(["rmdp-bench", *command])
        print(line, flush=True)
        if arguments.print:
            continue
        done = subprocess.run([program, *command], check=False)
        if done.returncode:
            failed.append(f"exit code {done.returncode}: {line}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
