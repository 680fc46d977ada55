"""The process that plays the policies of a stranger: `python -m rmdp_bench.submission.player`.

It reads a job from standard input, closes itself in, loads the policies and plays. On standard
output go the returns as a .npz file, or one line of text that begins with "refused: ".

The first line is that an ONNX graph of standard operators has no means to reach files or a network.
The second, which holds when that does not, are the layers of `confinement`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rmdp_bench.evaluation import evaluate
from rmdp_bench.offline import evaluate_offline, normalise
from rmdp_bench.solution import Solution, load_solution
from rmdp_bench.submission.confinement import answer_job
from rmdp_bench.submission.scores import assignment_shape
from rmdp_bench.tasks import Task, get_task


def play_job(job: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Play what a job asks for.

    Args:
        job: directory, task, and episodes: name -> [seed, number of episodes].

    Returns:
        name -> (number of episodes, m) returns in percent: of every agent under every policy,
        m = n k; offline of the scored agents, m = A.

    Raises:
        ValueError: the policies cannot be loaded, or fail.
    """
    task = get_task(job["task"])
    solution = load_solution(Path(job["directory"]), assignment_shape(task))
    return {
        name: _episode_returns(task, solution, seed, n_episodes)
        for name, (seed, n_episodes) in job["episodes"].items()
    }


def _episode_returns(
    task: Task, solution: Solution, seed: int, n_episodes: int
) -> NDArray[np.float64]:
    if task.track == "online":
        returns = evaluate(task, solution, n_episodes=n_episodes, seed=seed).episode_returns
        return returns.reshape(-1, n_episodes).T
    played = evaluate_offline(task, solution, n_episodes=n_episodes, seed=seed).returns
    agents = task.eval_agents or ()
    return np.array([normalise(task, agents, episode) for episode in played.T])


def answer(job: dict[str, Any]) -> bytes:
    """The returns that a job asks for as a .npz file; see `play_job`."""
    onnxruntime.set_default_logger_severity(4)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = play_job(job)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


if __name__ == "__main__":
    answer_job(answer)
