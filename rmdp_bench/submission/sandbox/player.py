"""The process that plays the policies of a stranger; run as a module.

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

from rmdp_bench.solution.storage import parse_solution
from rmdp_bench.submission.replay import play_shuffled
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.submission.sandbox.confinement import answer_job
from rmdp_bench.submission.scores import assignment_shape
from rmdp_bench.tasks import get_task


def play_job(job: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Play what a job asks for.

    Args:
        job: row (its folder), seed, task, episodes (name of a group -> [seed, number]), the names
            of those that are nudged and of those whose welfare is all that is wanted, whether the
            claim is wanted (online), and the entropy that shuffles them; see `replay`.

    Returns:
        NAME_welfare (number of episodes,) and NAME_entries (m,) of each group, as in
        `replay.EpisodeReturns`; and claimed (n k,), the welfare matrix that is beside the record,
        if the job asks for the claim.

    Raises:
        ValueError: the policies cannot be loaded, fail, or act by more than their observation.
    """
    task = get_task(job["task"])
    row, seed = RowFiles(Path(job["row"])), job["seed"]
    solution = parse_solution(row.solution(seed), row.where(seed), assignment_shape(task))
    episodes = {name: (seed, number) for name, (seed, number) in job["episodes"].items()}
    rng = np.random.default_rng(job["entropy"])
    played = play_shuffled(task, solution, episodes, rng, job["nudged"], job["welfare_only"])
    arrays = {f"{name}_welfare": returns.welfare for name, returns in played.items()}
    arrays |= {f"{name}_entries": returns.entries for name, returns in played.items()}
    if job["claim"]:
        shape = (task.n_agents, task.n_representatives)
        claimed = row.array(seed, "welfare_matrix", shape)
        arrays["claimed"] = claimed.ravel().astype(np.float64)
    return arrays


def answer(job: dict[str, Any]) -> bytes:
    """The returns that a job asks for as a .npz file; see `play_job`."""
    onnxruntime.set_default_logger_severity(4)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = play_job(job)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


if __name__ == "__main__":
    answer_job(answer)
