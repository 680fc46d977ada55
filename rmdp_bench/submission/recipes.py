"""Recipes: rows without policies, of solvers of the suite, which their command makes again.

Training again on the machine of the record gives the same bits, and the known episodes the same
returns.  Another processor rounds differently, as a CPU does in the place of a GPU, and the run is
another draw of the same random process: then claims may lie as far from their repetition as other
trainings would.  The measured score is that of the repetition, on held-out episodes, and the mark
says on which device it was made.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from rmdp_bench.runs.records import Result
from rmdp_bench.runs.solver_loading import SOLVERS
from rmdp_bench.submission.comparison import (
    CHANCE,
    TOLERANCE,
    Comparison,
    FloatArray,
    compare,
    is_exact,
)
from rmdp_bench.submission.held_out import HeldOut
from rmdp_bench.submission.quick import Checked
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.children import cpu_of_children
from rmdp_bench.submission.sandbox.recipe_player import CHECKED
from rmdp_bench.submission.schema import Row
from rmdp_bench.system import gpu_name
from rmdp_bench.tasks import OnlineTask, Task, get_task

Recipe: TypeAlias = tuple[Sequence[Result], str]
"""The records of a row without policies, and the device on which its command is to run."""
MAX_EPISODES = 200
"""Held-out episodes of a recipe: planners take their time."""


def is_recipe(records: Sequence[Result]) -> bool:
    """Whether a row has no policies to play, but is of a solver of the suite."""
    ours = all(r.solver_sha256 is None and r.solver in SOLVERS for r in records)
    return ours and any(record.solution is None for record in records)


def recipe_arguments(records: Sequence[Result]) -> list[str]:
    """Arguments of the `rmdp-bench` that makes the runs of a row of a solver of the suite.

    They follow from the records, and from nothing that anybody wrote about them.
    """
    first = records[0]
    task = get_task(first.task)
    arguments = ["run", first.solver, first.task, "--seeds", f"0:{len(records)}"]
    arguments += ["--device", first.device]
    if first.transitions != task.transitions:
        arguments += ["--transitions", str(first.transitions)]
    if first.evaluation.n_episodes != task.n_eval_episodes:  # of the time when it could be
        arguments += ["--episodes", str(first.evaluation.n_episodes)]
    return arguments + [f"--set={setting}" for setting in _settings(first)]


def recipe_command(records: Sequence[Result]) -> str:
    """The command line of a recipe."""
    return shlex.join(["rmdp-bench", *recipe_arguments(records)])


def recipe_device(records: Sequence[Result], wanted: str | None = None) -> str:
    """Where a recipe runs: as wanted, else as its records say, or on the CPU if there is no GPU."""
    own = records[0].device
    return wanted or (own if own == "cpu" or gpu_name() is not None else "cpu")


def _settings(record: Result) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in record.config.items()]


def run_again(
    checked: Checked, row: Row, held_out: HeldOut, budget: Budget, device: str
) -> Comparison:
    """Train the solver of a recipe again and play what it gives.

    Args:
        checked: from `check_submission`.
        row: a recipe.
        held_out: the episodes.
        budget: of the submission, which it is charged to. What its records say of times counts
            nothing.
        device: that it runs on, "cpu" or "cuda".

    Raises:
        ValueError: the run fails, or the budget is used up.
    """
    task, records = get_task(row.task), checked.records[row.task, row.solver]
    known, played = _run(task, records, held_out, budget, device)
    claims = [record.social_welfare for record in records]
    comparison = compare(claims, known, played)
    if is_exact(claims, known):
        return comparison
    return _allow_other_training(comparison, claims, known.mean(axis=1))


def _allow_other_training(
    comparison: Comparison, claims: Sequence[float], repeated: FloatArray
) -> Comparison:
    """The comparison of seeds that may be other draws of the same training.

    Allowed is what Student's test of two groups of so many seeds allows, for their means; for one
    seed what the greatest of them would.
    """
    n = len(claims)
    if n < 2:
        return comparison
    spread = float(np.sqrt((np.var(claims, ddof=1) + np.var(repeated, ddof=1)) / 2.0))
    mean = TOLERANCE + float(stats.t.ppf(1 - CHANCE / 2, 2 * n - 2)) * spread * float(
        np.sqrt(2 / n)
    )
    one = TOLERANCE + float(stats.t.ppf(1 - CHANCE / (2 * n), 2 * n - 2)) * spread * float(
        np.sqrt(2)
    )
    return replace(
        comparison,
        row=replace(comparison.row, rounding=mean),
        seeds=[replace(seed, rounding=one) for seed in comparison.seeds],
    )


def check_recipes(recipes: Sequence[Recipe], budget: Budget) -> None:
    """Check that recipes can be run here, without doing it: all of them in one process.

    Args:
        recipes: with the device of each, as in `run_again`.
        budget: of the submission, which it is charged to.

    Raises:
        ValueError: one cannot, as where a dataset is not built.
    """
    if recipes:
        _answer(recipes, None, budget)


def _run(
    task: Task, records: Sequence[Result], held_out: HeldOut, budget: Budget, device: str
) -> tuple[FloatArray, FloatArray]:
    """Welfare of known (S, E) and held-out (S, H) episodes."""
    answer = _answer([(records, device)], held_out, budget)
    return answer["known"], answer["held_out"]


def _request(records: Sequence[Result], device: str) -> dict[str, Any]:
    """What `recipe_player` makes a request of."""
    first = records[0]
    is_online = isinstance(get_task(first.task), OnlineTask)
    return {
        "solver": first.solver,
        "task": first.task,
        "n_seeds": len(records),
        "device": device,
        "transitions": first.transitions if is_online else None,
        "settings": _settings(first),
    }


def _answer(
    recipes: Sequence[Recipe], held_out: HeldOut | None, budget: Budget
) -> dict[str, FloatArray]:
    """What a process gives that may take what is left of the budget; see `recipe_player`."""
    cpu_left, seconds = budget.left()
    cpu_seconds = math.ceil(cpu_left)
    before = cpu_of_children()
    if held_out is not None:
        limit = max(held_out.n_first, min(held_out.limit, MAX_EPISODES))
        held_out = replace(held_out, limit=limit)
    job = {
        "recipes": [_request(*recipe) for recipe in recipes],
        "held_out": None if held_out is None else asdict(held_out),
        "cpu_seconds": cpu_seconds,
    }
    with tempfile.TemporaryDirectory(prefix="rmdp-bench-") as folder:
        command = [sys.executable, "-m", "rmdp_bench.submission.sandbox.recipe_player", folder]
        text = json.dumps(job)

        def culprit() -> str:
            """The command of the recipe that was not done."""
            n_checked = len(list(Path(folder).glob(f"{CHECKED}*")))
            return recipe_command(recipes[min(n_checked, len(recipes) - 1)][0])

        try:
            done = subprocess.run(
                command, input=text.encode(), capture_output=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"the command of the recipe takes more than the {seconds:.0f} s that are left of "
                f"--wall-seconds: {culprit()}"
            ) from error
        finally:
            used = cpu_of_children() - before
            budget.charge(used)
        if -done.returncode in (signal.SIGXCPU, signal.SIGKILL) and used >= cpu_left:
            raise ValueError(
                f"the command of the recipe takes more than the {cpu_seconds} s that are left of "
                f"--cpu-seconds: {culprit()}"
            )
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ValueError(
                f"the command of the recipe fails with exit code {done.returncode}, {lines[-1]}: "
                f"{culprit()}"
            )
        with np.load(Path(folder) / "answer.npz", allow_pickle=False) as arrays:
            return dict(arrays)
