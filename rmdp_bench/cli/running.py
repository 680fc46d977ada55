"""`run` and `evaluate`."""

from __future__ import annotations

import os
import signal
import stat
import threading
from pathlib import Path
from typing import Annotated

import typer

from rmdp_bench.cli.counts import parse_count
from rmdp_bench.cli.options import CoresOption
from rmdp_bench.cli.output import (
    JsonOption,
    number,
    print_error,
    print_json,
    print_table,
)
from rmdp_bench.cli.signals import Stopped, on_signals

MAX_SEEDS = 1000


def run_command(
    solver: Annotated[str, typer.Argument(help="Name of a solver, or a file that ends in .py.")],
    task: Annotated[
        str,
        typer.Argument(
            help="Id of a task; of an environment, with --representatives; or a file of a task, "
            "./my_task.py or ./my_task.py:function."
        ),
    ],
    seeds: Annotated[str, typer.Option(help="0:3 is 0, 1, 2; also 0,2,5 or 7.")] = "0",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the run directories.")] = Path("runs"),
    transitions: Annotated[
        int | None,
        typer.Option(
            parser=parse_count,
            metavar="N",
            help="Budget per policy instead of the task's: 1e6, 2M.",
        ),
    ] = None,
    representatives: Annotated[
        int | None,
        typer.Option(
            parser=parse_count, metavar="K", help="Number of policies instead of the task's."
        ),
    ] = None,
    agents: Annotated[
        int | None,
        typer.Option(
            parser=parse_count, metavar="N", help="Number of agents instead of the task's."
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="utilitarian, egalitarian, nash or p_mean=P instead of the task's."),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            parser=parse_count,
            metavar="N",
            help="Episodes that score each policy instead of the task's.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option(help="Write scalars for TensorBoard.")] = False,
    track: Annotated[
        str | None, typer.Option(metavar="TRACKER", help="Send scalars to a tracker: wandb.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(help="Replace runs made with another solver file or other settings."),
    ] = False,
    cores: CoresOption = None,
) -> None:
    """Train a solver on a task, save its policies and score them.

    Finished seeds are skipped, interrupted ones go on from their last checkpoint, or at scoring.
    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop at the next checkpoint, or in scoring at once; Ctrl-C
    after one of them stops at once wherever it comes.
    """
    from rmdp_bench.files import FULL_DISK_CODE, is_of_full_disk
    from rmdp_bench.runs import Interrupted, SolverError, make_request, run
    from rmdp_bench.runs.display import make_display
    from rmdp_bench.runs.solver_loading import SOLVERS

    if task in SOLVERS and solver not in SOLVERS:
        raise ValueError(
            f"task is {task!r}, which is a solver, and comes first: rmdp-bench run {task} {solver}"
        )
    request = make_request(
        solver,
        task,
        seeds=parse_seeds(seeds),
        device=device,
        out=out,
        transitions=transitions,
        n_representatives=representatives,
        n_agents=agents,
        objective=objective,
        n_episodes=episodes,
        settings=settings or (),
        tensorboard=tensorboard,
        track=track,
        overwrite=overwrite,
    )
    display = make_display()
    stop = threading.Event()
    asked = _AskToStop(stop)
    with on_signals(asked):
        try:
            results = run(request, display=display, stop=stop)
        except SolverError as error:
            print_error(str(error))
            raise typer.Exit(FULL_DISK_CODE if is_of_full_disk(error) else 1) from error
        except Interrupted as error:
            display.message(f"rmdp-bench: {error} ({request.directory(request.seeds[0]).parent})")
            raise typer.Exit(asked.exit_code) from error
        except (Stopped, KeyboardInterrupt):
            display.message(
                "rmdp-bench: stopped at once; the same command goes on from what is saved, the "
                "last checkpoint if there is one"
            )
            raise typer.Exit(asked.exit_code) from None
    from rmdp_bench.cli.scoring import print_results

    made = {request.directory(result.seed): result for result in results}
    print_results(made, more="`rmdp-bench score --explain` says more.")


def evaluate_command(
    run_directory: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="OUT/TASK/SOLVER/seed-S of a finished run.")
    ],
    episodes: Annotated[
        int | None,
        typer.Option(
            parser=parse_count, metavar="N", help="Episodes per policy instead of the task's."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="First evaluation seed, counted from 2**31; 0 is the official one.")
    ] = 0,
    cores: CoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the saved policies of a run again; its record stays as it is."""
    from rmdp_bench.evaluation import EVALUATION_SEED, Evaluation, evaluate
    from rmdp_bench.evaluation.offline import OfflineEvaluation, evaluate_offline
    from rmdp_bench.runs import read_result
    from rmdp_bench.runs.records import playable_task_of
    from rmdp_bench.runs.running import score_solution
    from rmdp_bench.solution import load_solution
    from rmdp_bench.tasks import OnlineTask

    if not run_directory.is_dir():
        raise ValueError(f"there is no run directory {run_directory}")
    if episodes is not None and not 1 <= episodes <= 100_000:
        raise ValueError(f"--episodes is {episodes}, expected 1 to 100000")
    if not 0 <= seed < EVALUATION_SEED:
        raise ValueError(f"--seed is {seed}, expected 0 to {EVALUATION_SEED - 1}")
    _check_finished(run_directory)
    record = read_result(run_directory / "result.json")
    if record.solution is None:
        raise ValueError(f"{run_directory} has no saved policies: they were scored in memory")
    task = playable_task_of(record, run_directory)
    solution = load_solution(run_directory / record.solution)
    first = EVALUATION_SEED + seed
    evaluation: Evaluation | OfflineEvaluation
    if isinstance(task, OnlineTask):
        evaluation = evaluate(task, solution, n_episodes=episodes, seed=first)
    else:
        evaluation = evaluate_offline(task, solution, n_episodes=episodes, seed=first)
    scores = score_solution(task, solution, evaluation)
    n_episodes = episodes or task.n_eval_episodes
    if as_json:
        print_json(
            {
                "task": record.task,
                "solver": record.solver,
                "seed": record.seed,
                "evaluation": {"n_episodes": n_episodes, "seed": evaluation.seed},
                "recorded_social_welfare": record.social_welfare,
                **scores,
            }
        )
        return
    rows = [
        [name.replace("_", " "), number(getattr(record, name), 3), number(value, 3)]
        for name, value in scores.items()
        if name not in ("agent_returns", "offline")
    ]
    columns = ["score", "recorded", f"now ({n_episodes} episodes, seed {evaluation.seed})"]
    print_table(f"{record.solver} on {record.task}, seed {record.seed}", columns, rows)


def _check_finished(folder: Path) -> None:
    """Refuse a folder that is not one run directory with a record.

    Raises:
        ValueError: says what it is instead.
    """
    from rmdp_bench.runs.records import RESULT_FILE
    from rmdp_bench.runs.requests import REQUEST_FILE
    from rmdp_bench.submission.rows import RECORDS_FILE

    if (folder / RESULT_FILE).exists():
        return
    if (folder / REQUEST_FILE).exists():
        raise ValueError(f"the run in {folder} is not finished; `rmdp-bench run` goes on with it")
    what = f"expected one run directory, OUT/TASK/SOLVER/seed-S, but {folder}"
    below = sorted(path.parent for path in folder.rglob(RESULT_FILE))
    if below:
        raise ValueError(f"{what} is a folder of {len(below)}; give one, such as {below[0]}")
    if any(folder.rglob(RECORDS_FILE)):
        raise ValueError(f"{what} has rows of a submission, whose policies `verify --full` plays")
    raise ValueError(f"{what} has no {RESULT_FILE}")


def parse_seeds(text: str) -> list[int]:
    """Read "0:3" (0, 1, 2), "0,2,5", "7", or several of these with commas.

    Raises:
        ValueError: anything else, an empty range, or more than 1000 seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        ends = part.strip().split(":")
        if not all(end.isascii() and end.isdecimal() and len(end) < 12 for end in ends):
            raise ValueError(f"--seeds {text}: {part!r} is not a seed or a range such as 0:3")
        if len(ends) == 1:
            seeds.append(int(ends[0]))
            continue
        if len(ends) > 2 or int(ends[1]) <= int(ends[0]):
            raise ValueError(f"--seeds {text}: {part!r} is not a range such as 0:3")
        if int(ends[1]) - int(ends[0]) > MAX_SEEDS:
            raise ValueError(f"--seeds {text}: more than {MAX_SEEDS} seeds")
        seeds.extend(range(int(ends[0]), int(ends[1])))
    if len(seeds) > MAX_SEEDS:
        raise ValueError(f"--seeds: {len(seeds)} seeds, at most {MAX_SEEDS} are run together")
    return seeds


class _AskToStop:
    """What `run` does on signals: the first asks the run to stop, Ctrl-C after it stops it at once.

    Others after the first change nothing. Batch systems send SIGTERM again at the end of the time
    that they had given, `timeout` sends it twice, and a closed terminal its SIGHUP from two sides:
    none of them may cost the checkpoint that is on its way. What is hopeless ends with SIGKILL.

    Attributes:
        exit_code: for the first signal; that of Ctrl-C before one came.
    """

    def __init__(self, stop: threading.Event) -> None:
        """Set `stop` when asked."""
        self._stop = stop
        self.exit_code = 128 + signal.SIGINT

    def __call__(self, number: int) -> None:
        """Ask, and say so.

        Raises:
            Stopped: at Ctrl-C after the first signal.
        """
        again = "Ctrl-C (SIGINT) stops at once"
        if not self._stop.is_set():
            self.exit_code = 128 + number
            self._stop.set()
            again = f"stopping when the solver saves a checkpoint or has trained; {again}"
        elif number == signal.SIGINT:
            raise Stopped(number)
        else:
            again = f"stopping already; {again}"
        try:  # not print(), which the signal may have interrupted
            os.write(2, f"\n{signal.Signals(number).name}: {again}\n".encode())
        except OSError:  # the terminal has gone: whatever else is said there goes nowhere
            silence = os.open(os.devnull, os.O_WRONLY)
            is_file = stat.S_ISREG(os.fstat(1).st_mode) or stat.S_ISFIFO(os.fstat(1).st_mode)
            for stream in (2,) if is_file else (1, 2):
                os.dup2(silence, stream)
            os.close(silence)
