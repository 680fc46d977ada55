"""Settings of the training of a conditioned policy, and those that a task replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from baselines.common.settings import check_range
from baselines.online.ppo.settings import TrainingConfig, dense_rewards, game_settings
from rmdp_bench.tasks import OnlineTask


@dataclass(frozen=True)
class ConditionedConfig(TrainingConfig):
    """Settings of the training of one conditioned policy."""

    hidden_size: int = 128
    """Width of the two hidden layers of the actor, and of the critic's."""
    n_envs: int = 32
    """Copies of the world, each with a condition of its own."""
    batch_size: int = 4096
    """Transitions between updates; a multiple of n_envs."""
    minibatch_size: int = 256
    """Transitions in a gradient step; divides batch_size."""
    reward_scale: float = 0.05
    """Factor on the training rewards, which are at most 1 a step for targets."""
    segment: int = 250
    """Steps after which a copy of the world gets a new target; 0: at the end of episodes only."""
    focus: float = 0.0
    """Share of the conditions in training that are those of groups which the best episodes so far
    would serve, a group for each policy of each budget (linear preferences)."""
    imitation: float = 0.0
    """Steps of such episodes that join a batch, as a share of it; only where nothing is random."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range, or the sizes do not divide."""
        super().__post_init__()
        check_range(self, 0, math.inf, "segment")
        check_range(self, 0.0, 1.0, "focus", "imitation")


_SPEEDS: dict[str, Any] = {"final_learning_rate": 5e-5}
"""The own reward, which counts more in the end, is learned in smaller steps."""

_LEGGED: dict[str, Any] = _SPEEDS | {
    "final_learning_rate": 1e-4,
    "log_std": -0.5,
    "entropy_coefficient": 3e-3,
    "final_entropy_coefficient": 5e-4,
    "segment": 1000,
    "n_episodes": 2,
}
"""Robots that can fall: falls are rare events, so that one episode says little."""

_GAME: dict[str, Any] = {
    "total_transitions": 1_000_000,
    "n_candidates": 501,
    "n_proposals": 460,
    "hidden_size": 64,
    "learning_rate": 1e-3,
    "focus": 0.5,
    "entropy_coefficient": 0.05,
    "reward_scale": 0.01,
    "advantage_offset": 0.01,
}
"""Where actions are discrete: those of the other solvers where they have them."""

_MANY_AGENTS: dict[str, Any] = {"n_candidates": 401, "n_proposals": 0}
MANY = 1000
"""Number of agents from which on more candidates are tried."""


def task_settings(task: OnlineTask) -> dict[str, Any]:
    """Settings that a task replaces: they follow from its properties."""
    if not task.continuous:
        repeats = {"imitation": 0.25} if task.deterministic else {}
        return _GAME | repeats | game_settings(task)
    many = task.n_agents >= MANY
    settings = dense_rewards(task) | (_MANY_AGENTS if many else {})
    if task.terminates:
        return settings | _LEGGED
    # With 10,000,000 a seed had forgotten all speeds above 2.3 m/s in the end: 58 % of the ceiling,
    # 95 % half-way.
    return settings | _SPEEDS | {"total_transitions": 4_000_000 if many else 2_000_000}
