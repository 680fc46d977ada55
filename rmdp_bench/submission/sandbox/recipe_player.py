"""The process that makes a recipe again; run as a module, with a folder.

It reads a job from standard input: recipes, each of which is checked first.  If the job has
held-out episodes there is one recipe, and it trains the solver of the suite, plays its policies on
the known episodes as a run does, and then on held-out ones, and writes both to FOLDER/answer.npz.
Exit code 2 and one line on stderr if the job cannot be done.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation import EVALUATION_SEED, evaluate
from rmdp_bench.evaluation.offline import normalise, play_agents
from rmdp_bench.runs.log import RunLog
from rmdp_bench.runs.requests import make_request
from rmdp_bench.solution import Solution
from rmdp_bench.submission.held_out import HeldOut, play_in_rounds
from rmdp_bench.tasks import OnlineTask, Task

CHECKED = "checked-"
"""Files in the folder that begin so are as many as recipes that can be run."""


def make_again(job: Mapping[str, Any], folder: Path) -> dict[str, NDArray[np.float64]]:
    """Train and play.

    Args:
        job: as `recipes` writes it.
        folder: gets a file for each recipe that can be run.

    Returns:
        known (S, E) and held_out (S, H) social welfare of each seed's episodes; nothing if the job
        has no held-out episodes: then recipes are only checked.

    Raises:
        ValueError: no such solver or setting, or policies fail.
    """
    for place, recipe in enumerate(job["recipes"]):
        request = make_request(
            recipe["solver"],
            recipe["task"],
            seeds=range(recipe["n_seeds"]),
            device=recipe["device"],
            out=folder / "runs",
            transitions=recipe["transitions"],
            settings=recipe["settings"],
        )
        (folder / f"{CHECKED}{place}").touch()
    if job["held_out"] is None:
        return {}
    task, held_out = request.task, HeldOut(**job["held_out"])
    log = RunLog(task, request.seeds)
    solutions = request.solver.module.solve(
        task, request.config, list(request.seeds), request.device, log
    )

    def play(seed: int, number: int) -> NDArray[np.float64]:
        return np.stack([_welfare(task, solution, seed, number) for solution in solutions])

    known = play(EVALUATION_SEED, task.n_eval_episodes)
    played = play_in_rounds(
        lambda start, number: play(held_out.seed + start, number),
        held_out.n_first,
        held_out.limit,
        held_out.cpu_seconds - time.process_time(),  # training took some of it
        time.process_time,
    )
    return {"known": known, "held_out": played}


def _welfare(task: Task, solution: Solution, seed: int, number: int) -> NDArray[np.float64]:
    """Social welfare of each of some episodes."""
    if isinstance(task, OnlineTask):
        returns = evaluate(task, solution, n_episodes=number, seed=seed).episode_returns
        welfare: NDArray[np.float64] = np.einsum("nke,nk->e", returns, solution.assignment)
        return welfare / task.n_agents
    agents = task.eval_agents
    returns, _ = play_agents(task, solution, agents, number, seed)
    return np.array([normalise(task, agents, episode).mean() for episode in returns.T])


def main() -> int:
    """Read a job, do it, and write the answer."""
    folder, job = Path(sys.argv[1]), json.loads(sys.stdin.read())
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_seconds"], job["cpu_seconds"]))
    try:
        answer: dict[str, Any] = make_again(job, folder)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    np.savez(folder / "answer.npz", **answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
