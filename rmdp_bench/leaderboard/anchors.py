"""What the rows of a task are measured against beside its exact ceiling, and what was reached.

best known             k of the policies of all verified rows of the environment, whatever their
                       budget, pooled and chosen exactly: no single solver needs to have found it;
                       no verified row of the task is above it
reachable reference    k of specialists for evenly spaced speeds (`scripts/train_specialists.py`),
                       chosen exactly; for environments that have been measured

Both are by the recorded episodes, and of the best of many estimates, which makes them a little
high. They are computed when the board is built and stored with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from rmdp_bench.facility_location import FloatArray, select
from rmdp_bench.files import read_json
from rmdp_bench.leaderboard.reading import SubmittedRow
from rmdp_bench.tasks import OnlineTask, list_tasks

BEST_KNOWN, REACHABLE = "best known", "reachable reference"
REACHABLE_FOLDER = Path(str(files("rmdp_bench"))) / "data" / "reachable"
"""ENVIRONMENT.json, as `scripts/train_specialists.py` writes its reachable.json."""
_MATRIX = "welfare_matrix"
_SECONDS = 600.0
"""Of a choice, which takes a few."""
_EXACT = 1e-6
"""Percent below its bound at which a choice counts as exact."""


def find_anchors(
    rows: Sequence[SubmittedRow], reachable: Path = REACHABLE_FOLDER
) -> dict[str, dict[str, float]]:
    """Task -> name -> welfare in percent, of online tasks that have any.

    Args:
        rows: of the board.
        reachable: folder with what specialists reach.

    Raises:
        ValueError: the welfare matrix of a verified row is damaged.
    """
    anchors: dict[str, dict[str, float]] = {}
    for task in list_tasks():
        if not isinstance(task, OnlineTask):
            continue
        own = {}
        pooled = pool_columns(task, rows)
        k = task.n_representatives
        if pooled is not None and pooled.shape[1] >= k:
            # What a choice is made of must not be negative, as returns can be. Of any k policies an
            # agent's best is at least the agent's k-th worst of all, which is taken as zero.
            least = np.partition(pooled, k - 1, axis=1)[:, k - 1 : k]
            chosen = select(np.maximum(pooled, least) - least, k, seconds=_SECONDS)
            if chosen.bound <= chosen.welfare + _EXACT:
                # Of other episodes than the verifier's, on which a row may do better by chance.
                reached = chosen.welfare + float(least.mean())
                own[BEST_KNOWN] = max([reached, *_scores(task, rows)])
        path = reachable / f"{task.env_id.removeprefix('rmdp/')}.json"
        if path.is_file():
            welfare = read_json(path)["welfare"]
            if str(task.n_representatives) in welfare:
                own[REACHABLE] = float(welfare[str(task.n_representatives)])
        if own:
            anchors[task.id] = own
    return anchors


def pool_columns(task: OnlineTask, rows: Sequence[SubmittedRow]) -> FloatArray | None:
    """Welfare (n, m) of all agents under the m policies that are known; None: there are none.

    Those of the verified rows of all tasks with the same environment, whose agents are the same.

    Raises:
        ValueError: a welfare matrix is damaged.
    """
    known_as = {
        other.id: other
        for other in list_tasks()
        if isinstance(other, OnlineTask) and other.env_id == task.env_id
    }
    matrices = [
        row.files.array(
            result.seed, _MATRIX, (task.n_agents, known_as[row.summary.task].n_representatives)
        )
        for row in rows
        if row.kind == "verified" and row.summary.task in known_as
        for result in row.results
        if _MATRIX in row.files.array_names(result.seed)
    ]
    return np.concatenate(matrices, axis=1).astype(np.float64) if matrices else None


def _scores(task: OnlineTask, rows: Sequence[SubmittedRow]) -> list[float]:
    """What the verifier measured of the task's verified rows, in percent."""
    own = [row for row in rows if row.kind == "verified" and row.summary.task == task.id]
    return [row.score for row in own if row.score is not None]
