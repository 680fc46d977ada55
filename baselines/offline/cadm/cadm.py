"""Vanilla CaDM: one deterministic dynamics model with a context encoder, and planning with it.

Lee et al. 2020; see `model`, which has what this shares with the probabilistic ensemble.
The forward loss is the mean squared error of normalised differences. The planner is the one of all
methods here, so that they differ in their model only (CaDM paper: cross-entropy, 200 plans of 30
steps; official code with discrete actions: random shooting).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from baselines.offline.cadm.model import ContextConfig, ForwardHead
from baselines.offline.cadm.solutions import ContextDynamics, check, solve_with
from baselines.offline.planning.planner import planner_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask, Task

__all__ = ["Config", "SquaredError", "check", "config_for", "solve"]


Config = ContextConfig


class SquaredError(ForwardHead):
    """The forward model gives the normalised difference itself."""

    def n_outputs(self, observation_size: int) -> int:
        """One for each coordinate."""
        return observation_size

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error (K,)."""
        return ((outputs - targets) ** 2).mean((1, 2))

    def mean(self, outputs: Tensor) -> Tensor:
        """The outputs."""
        return outputs


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**planner_settings(task))


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train one model for each seed, all as one batch; its policy plans for whoever it meets."""
    return solve_with(
        task,
        config,
        seeds,
        device,
        log,
        make_head=lambda n_members, observation_size: SquaredError(),
        make_dynamics=ContextDynamics,
    )
