"""Make the online rows of the leaderboard: the r-MDP paper's Figures 2 and 3, and what they lack.

    python -m scripts.run_online_table --print                     the commands, not run
    python -m scripts.run_online_table --out runs/online           run them, one after the other
    python -m scripts.run_online_table --parts figure-2 --solvers em clustering

Runs of a submission are in OUT/SUBMISSION, so that a solver can be there with several settings.
What is finished is not run again, and what was interrupted goes on. A run that fails is reported at
the end and does not stop the others. The seeds of a run train as one batch, on all cores.

Parts, in the order in which they run:

    figure-2     Resource Gathering, every budget, five seeds.
    figure-3     HalfCheetah with 100 agents, every budget, three seeds, with the oracle; at k = 5
                 the end-to-end algorithm by equation 12 as written, too.
    comparison   `em` and `em_plus` with the dense training reward and the two hidden layers of 128
                 that `universal` has (HalfCheetah and Walker2d, k = 5).
    robots       Ant, Hopper, Walker2d, k = 5: half of the task's transitions for each policy, and
                 `em` with all of them.

`universal` is trained once for every k that its transitions serve: the other runs find their
records. With k = 1, all of the paper's solvers are one policy for everybody.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.run_offline_table import make_command, run_all

SOLVERS = ("em", "end_to_end", "clustering", "random_assignment", "em_plus", "universal")
ALL_SOLVERS = (*SOLVERS, "oracle")
EQUATION_12 = ("signal=advantage",)
AS_UNIVERSAL = ("training_reward=dense", "hidden_size=128", "n_hidden_layers=2")
REDUCED = 1_000_000
"""Transitions per policy of a robot, where the task has twice as many."""


@dataclass(frozen=True)
class OnlineRow:
    """Solvers on tasks, with the same settings.

    Attributes:
        part: by which they are asked for.
        submission: to which their runs belong.
        tasks: ids.
        solvers: names.
        seeds: as `--seeds` takes them.
        settings: "key=value" for `--set`.
        transitions: per policy; None: the task's.
    """

    part: str
    submission: str
    tasks: tuple[str, ...]
    solvers: tuple[str, ...]
    seeds: str = "0:3"
    settings: tuple[str, ...] = ()
    transitions: int | None = None


def _tasks(environment: str, budgets: tuple[int, ...] = (5,)) -> tuple[str, ...]:
    return tuple(f"{environment}-k{k}-v0" for k in budgets)


_CHEETAH, _ROBOTS = "HalfCheetahVel-n100", ("AntVel-n100", "HopperVel-n100", "Walker2dVel-n100")
_ROBOT_TASKS = tuple(task for robot in _ROBOTS for task in _tasks(robot))
_COMPARED = (*_tasks(_CHEETAH), *_tasks("Walker2dVel-n100"))
ROWS = (
    OnlineRow(
        "figure-2",
        "online",
        _tasks("ResourceGathering-n25", (1, 2, 3, 5, 10, 25)),
        SOLVERS,
        seeds="0:5",
    ),
    OnlineRow("figure-3", "online", _tasks(_CHEETAH, (1, 2, 5, 10)), ALL_SOLVERS),
    OnlineRow(
        "figure-3", "online-equation-12", _tasks(_CHEETAH), ("end_to_end",), settings=EQUATION_12
    ),
    OnlineRow(
        "comparison", "online-as-universal", _COMPARED, ("em", "em_plus"), settings=AS_UNIVERSAL
    ),
    OnlineRow("robots", "online-robots", _ROBOT_TASKS, ALL_SOLVERS, transitions=REDUCED),
    OnlineRow("robots", "online-robots-full", _ROBOT_TASKS, ("em",)),
)
PARTS = tuple(dict.fromkeys(row.part for row in ROWS))


def list_commands(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Arguments of `rmdp-bench` for each run: task after task, all solvers of one side by side."""
    for row in ROWS:
        for task in row.tasks:
            for solver in row.solvers:
                if row.part not in arguments.parts or solver not in arguments.solvers:
                    continue
                yield make_command(
                    solver,
                    task,
                    row.seeds,
                    arguments.out / row.submission,
                    row.settings,
                    device=arguments.device,
                    transitions=row.transitions,
                )


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--solvers", nargs="+", choices=ALL_SOLVERS, default=list(ALL_SOLVERS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/online"))
    parser.add_argument("--print", action="store_true", help="print the commands only")
    return parser


def main() -> None:
    """Run or print what is asked for."""
    arguments = make_parser().parse_args()
    run_all(list_commands(arguments), arguments.print)


if __name__ == "__main__":
    main()
