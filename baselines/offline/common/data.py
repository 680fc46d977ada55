"""Logged data of an offline task as tensors, and settings that all offline solvers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.common.settings import check_range
from rmdp_bench import load_dataset
from rmdp_bench.tasks import OfflineTask, Task


@dataclass(frozen=True)
class LoggedData:
    """N transitions of n agents, agent after agent, each agent's in the order of time.

    Attributes:
        observations: (N, d) float32.
        actions: (N,) int64, from 0, or (N, a) float32.
        rewards: (N,) float32.
        next_observations: (N, d) float32; at the end of a trajectory the last one that was seen.
        terminated: (N,) bool; False where a trajectory was only cut by the time limit.
        agents: (N,) int64, 0 to n - 1.
        starts: (n + 1,) int64: trajectory of agent i is rows starts[i] to starts[i + 1] - 1.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    agents: Tensor
    starts: Tensor

    @property
    def n_agents(self) -> int:
        """The number n of agents."""
        return len(self.starts) - 1

    def to(self, device: str) -> LoggedData:
        """The same on a device."""
        return LoggedData(*(getattr(self, name).to(device) for name in self.__annotations__))

    def trajectory(self, agent: int) -> LoggedData:
        """Transitions of one agent, who is agent 0 there."""
        start, end = self.starts[agent : agent + 2].tolist()
        parts = {name: getattr(self, name)[start:end] for name in self.__annotations__}
        parts["agents"] = torch.zeros_like(parts["agents"])
        parts["starts"] = self.starts.new_tensor([0, end - start])
        return LoggedData(**parts)


@dataclass(frozen=True)
class OfflineConfig:
    """Settings of every solver that learns from logged data."""

    n_agents: int = 500
    """Trajectories that are used: those of the first agents, from 5 (the test agents) to 500."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range.
        """
        check_range(self, 5, 500, "n_agents")


def check_offline(task: Task, config: OfflineConfig) -> None:
    """Refuses tasks without logged data, and data that are missing, damaged or not the task's.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    if not isinstance(task, OfflineTask):
        raise ValueError(
            f"{task.id} is an online task, expected an offline one, such as "
            "CartPoleHet-n500-pure-v1: this solver learns from logged data"
        )
    try:
        dataset = load_dataset(task)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    spec = dataset.spec.env_spec
    made_in = None if spec is None else spec.id
    if made_in != task.env_id:
        raise ValueError(
            f"{task.dataset_id} was collected in {made_in}, expected {task.env_id}; "
            f"`rmdp-bench datasets build {task.dataset_id} --force` builds it again"
        )
    if dataset.total_episodes < config.n_agents:
        raise ValueError(
            f"{task.dataset_id} has {dataset.total_episodes} trajectories, expected at least "
            f"{config.n_agents} (n_agents)"
        )


def load_data(task: OfflineTask, n_agents: int) -> LoggedData:
    """Loads the trajectories of agents 0 to n_agents - 1.

    Raises:
        FileNotFoundError: the dataset is not built; says which command builds it.
        ValueError: its files are damaged.
    """
    dataset = load_dataset(task)
    return to_tensors(dataset.iterate_episodes(range(n_agents)))


def to_tensors(episodes: Iterable[Any]) -> LoggedData:
    """Tensors of episodes, the first of which is agent 0's, the next agent 1's, and so on.

    Args:
        episodes: Minari's `EpisodeData`, or `rmdp_bench.datasets.Episode`.
    """
    parts: dict[str, list[np.ndarray[Any, Any]]] = {
        name: [] for name in LoggedData.__annotations__ if name != "starts"
    }
    starts = [0]
    for agent, episode in enumerate(episodes):
        n_steps = len(episode.rewards)
        parts["observations"].append(episode.observations[:-1].astype(np.float32))
        parts["next_observations"].append(episode.observations[1:].astype(np.float32))
        discrete = np.issubdtype(episode.actions.dtype, np.integer)
        parts["actions"].append(episode.actions.astype(np.int64 if discrete else np.float32))
        parts["rewards"].append(episode.rewards.astype(np.float32))
        parts["terminated"].append(np.asarray(episode.terminations, np.bool_))
        parts["agents"].append(np.full(n_steps, agent))
        starts.append(starts[-1] + n_steps)
    tensors = {name: torch.from_numpy(np.concatenate(arrays)) for name, arrays in parts.items()}
    return LoggedData(**tensors, starts=torch.tensor(starts))
