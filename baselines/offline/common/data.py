"""Logged data of an offline task as tensors, and settings that all offline solvers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.common.settings import check_range
from baselines.offline.common.spaces import action_scale
from rmdp_bench import load_dataset
from rmdp_bench.tasks import OfflineTask, Task


@dataclass(frozen=True)
class LoggedData:
    """N transitions of n agents, agent after agent, each agent's in the order of time.

    Attributes:
        observations: (N, d) float32.
        actions: (N,) int64, from 0, or (N, a) float32 in [-1, 1], whatever the world's units.
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

    def take(self, rows: Tensor | slice, lengths: Tensor) -> LoggedData:
        """Some transitions, of agents who have so many of them (n,), one after the other."""
        parts = {name: getattr(self, name)[rows] for name in COLUMNS}
        parts["agents"] = torch.arange(len(lengths), device=lengths.device)
        parts["agents"] = parts["agents"].repeat_interleave(lengths)
        return LoggedData(**parts, starts=_starts(lengths))

    def trajectory(self, agent: int) -> LoggedData:
        """Transitions of one agent, who is agent 0 there."""
        first, end = self.starts[agent : agent + 2].tolist()
        return self.take(slice(first, end), self.starts.new_tensor([end - first]))


COLUMNS = tuple(name for name in LoggedData.__annotations__ if name != "starts")
"""What there is of each transition."""


def _starts(lengths: Tensor) -> Tensor:
    """Where trajectories of these lengths (n,) begin, and the end: (n + 1,)."""
    return torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))


def join(parts: Sequence[Sequence[LoggedData]]) -> LoggedData:
    """All transitions of each agent's parts, on the CPU; trajectories are no longer told apart."""
    flat = [part for own in parts for part in own]
    columns = {name: torch.cat([getattr(part, name).cpu() for part in flat]) for name in COLUMNS}
    lengths = torch.tensor([sum(len(part.rewards) for part in own) for own in parts])
    return LoggedData(**columns, starts=_starts(lengths)).take(slice(None), lengths)


@dataclass(frozen=True)
class OfflineConfig:
    """Settings of every solver that learns from logged data."""

    n_agents: int = 500
    """Trajectories that are used: those of the first agents, from 5 (the test agents) to 500; all
    where there are fewer."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        check_range(self, 5, 500, "n_agents")


def check_offline(task: Task, config: OfflineConfig) -> None:
    """Refuse tasks without logged data, and data that are missing, damaged or not the task's.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    if not isinstance(task, OfflineTask):
        raise ValueError(
            f"{task.id} is an online task, expected an offline one: this solver learns from "
            "logged data"
        )
    n_policies = len(task.eval_agents) if getattr(config, "scope", None) == "agent" else 1
    if n_policies > task.n_representatives:
        raise ValueError(
            f"scope=agent gives {n_policies} policies, expected at most {task.n_representatives}, "
            f"the budget of {task.id}"
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
    if dataset.total_episodes < min(config.n_agents, task.n_agents):
        raise ValueError(
            f"{task.dataset_id} has {dataset.total_episodes} trajectories, expected at least "
            f"{min(config.n_agents, task.n_agents)} (n_agents)"
        )


def load_data(task: Task, n_agents: int) -> LoggedData:
    """Load the trajectories of agents 0 to n_agents - 1, or of all where there are fewer.

    Raises:
        FileNotFoundError: the dataset is not built; says which command builds it.
        ValueError: its files are damaged.
    """
    dataset = load_dataset(task)
    n_loaded = min(n_agents, int(dataset.total_episodes))
    data, scale = to_tensors(dataset.iterate_episodes(range(n_loaded))), action_scale(task.env_id)
    if scale is None:
        return data
    return replace(data, actions=scale.to_unit(data.actions))


def to_tensors(episodes: Iterable[Any]) -> LoggedData:
    """Tensors of episodes, the first of which is agent 0's, the next agent 1's, and so on.

    Args:
        episodes: Minari's `EpisodeData`, or `rmdp_bench.datasets.Episode`.
    """
    episodes = list(episodes)
    discrete = np.issubdtype(episodes[0].actions.dtype, np.integer)
    lengths = torch.tensor([len(episode.rewards) for episode in episodes])
    columns = {
        "observations": [episode.observations[:-1].astype(np.float32) for episode in episodes],
        "actions": [e.actions.astype(np.int64 if discrete else np.float32) for e in episodes],
        "rewards": [episode.rewards.astype(np.float32) for episode in episodes],
        "next_observations": [episode.observations[1:].astype(np.float32) for episode in episodes],
        "terminated": [np.asarray(episode.terminations, np.bool_) for episode in episodes],
    }
    tensors = {name: torch.from_numpy(np.concatenate(own)) for name, own in columns.items()}
    agents = torch.arange(len(episodes)).repeat_interleave(lengths)
    return LoggedData(**tensors, agents=agents, starts=_starts(lengths))
