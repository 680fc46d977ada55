"""What solvers share that learn from the patients' logged records."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2

from baselines.heterogeneous.controllers import ENVIRONMENT
from baselines.heterogeneous.simulators import Record, read_records
from baselines.offline.common.data import OfflineConfig, check_offline
from rmdp_bench import load_dataset
from rmdp_bench.tasks import OfflineTask, Task


def check(task: Task, config: Any) -> None:
    """Refuse tasks without records of patients.

    Raises:
        ValueError: names the task, or what is wrong with its data.
    """
    del config
    if not isinstance(task, OfflineTask) or task.env_id != ENVIRONMENT:
        raise ValueError(
            f"{task.id} has no logged records of {ENVIRONMENT}, expected a task of the clinic"
        )
    check_offline(task, OfflineConfig())  # the records of all


def load_records(task: OfflineTask) -> list[Record]:
    """The logged record of each patient."""
    return records_of(load_episodes(task))


def load_episodes(task: OfflineTask) -> list[Any]:
    """Minari's episodes, one of each patient."""
    return list(load_dataset(task).iterate_episodes(range(task.n_agents)))


def records_of(episodes: Sequence[Any]) -> list[Record]:
    """Records of episodes, Minari's or the suite's, as long as the shortest of them.

    One whose rewards are None says nothing of what the patient fears.
    """
    n_steps = min(len(episode.actions) for episode in episodes)
    return read_records(
        np.stack([episode.observations[: n_steps + 1] for episode in episodes]),
        np.stack([episode.actions[:n_steps] for episode in episodes]),
        np.stack(
            [
                np.full(n_steps, np.nan) if episode.rewards is None else episode.rewards[:n_steps]
                for episode in episodes
            ]
        ),
    )


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns (n, p) in standard deviations of the rows, around their mean."""
    return np.asarray((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-12))


def group(values: NDArray[np.float64], k: int, seed: int) -> NDArray[np.int64]:
    """The group (n,) of each row of values (n, p), by k-means; none is empty.

    Args:
        values: whose columns count alike, whatever their units.
        k: groups; from n on, everybody is one.
        seed: of the first centres.

    Raises:
        ValueError: there are fewer than k different rows.
    """
    if k >= len(values):
        return np.arange(len(values))
    if len(np.unique(values, axis=0)) >= k:
        for attempt in range(100):
            generator = np.random.default_rng([seed, attempt])
            with contextlib.suppress(ClusterError):  # a group is empty
                _, found = kmeans2(
                    standardised(values), k, minit="++", missing="raise", rng=generator
                )
                if len(np.unique(found)) == k:
                    return np.asarray(found, np.int64)
    raise ValueError(f"the records fall into fewer than {k} groups")
