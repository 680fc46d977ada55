"""Settings of the training of a conditioned policy, and those that a task replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from baselines.common.settings import check_range
from baselines.online.ppo.settings import DENSE_REWARDS


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training of one conditioned policy; plain PPO unless said otherwise."""

    hidden_size: int = 128
    """Width of the two hidden layers of the actor, and of the critic's."""
    n_envs: int = 32
    """Copies of the world, each with a condition of its own."""
    batch_size: int = 4096
    """Transitions between updates; a multiple of n_envs."""
    minibatch_size: int = 256
    """Transitions in a gradient step; divides batch_size."""
    n_epochs: int = 10
    """Passes over a batch."""
    learning_rate: float = 3e-4
    """Adam's step size at the start."""
    final_learning_rate: float = 1e-4
    """Adam's step size at the end."""
    clip: float = 0.2
    """Bound on the change of the probability ratio."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the start."""
    final_entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the end."""
    max_gradient_norm: float = 0.5
    """Bound on the norm of the actor's and of the critic's gradient."""
    log_std: float = -1.0
    """Initial log standard deviation of continuous actions."""
    normalize_observations: bool = True
    """Whether observations are standardised by their running mean and variance."""
    observation_clip: float = 5.0
    """Bound on the standardised observations."""
    reward_scale: float = 0.05
    """Factor on the training rewards, which are at most 1 a step for targets."""
    advantage_offset: float = 1e-3
    """Added to the standard deviation of a batch's advantages."""
    bootstrap_time_limits: bool = True
    """Whether a truncated episode is continued by the value of its last observation."""
    segment: int = 250
    """Steps after which a copy of the world gets a new target; 0: at the end of episodes only."""
    shaping: float = 0.5
    """Share of the dense term in the training reward of a target, at the start; no score has it."""
    final_shaping: float = 0.5
    """The same at the end; linear between."""
    smoothing: float = 1.0
    """Steps over which the dense term averages the outcome: a gait's speed oscillates."""
    shaping_reach: float = 20.0
    """Distance from the target at which the dense term is zero, in widths of the reward."""
    focus: float = 0.0
    """Share of the conditions in training that are those of groups which the best episodes so far
    would serve, a group for each policy of each budget (linear preferences)."""
    imitation: float = 0.0
    """Steps of such episodes that join a batch, as a share of it; only where nothing is random."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range, or the sizes do not divide.
        """
        check_range(self, 1, math.inf, "hidden_size", "n_envs", "minibatch_size", "n_epochs")
        positive = ("learning_rate", "final_learning_rate", "clip", "gae_lambda")
        check_range(self, 1e-12, 1.0, *positive)
        check_range(self, 0.0, math.inf, "entropy_coefficient", "final_entropy_coefficient")
        check_range(self, 0.0, math.inf, "advantage_offset", "segment")
        check_range(self, 1e-12, math.inf, "max_gradient_norm", "observation_clip")
        check_range(self, 1e-12, math.inf, "reward_scale", "shaping_reach")
        check_range(self, 0.0, 1.0, "shaping", "final_shaping", "focus", "imitation")
        check_range(self, 1.0, math.inf, "smoothing")
        check_range(self, -10.0, 2.0, "log_std")
        for unit in ("n_envs", "minibatch_size"):
            if self.batch_size < 1 or self.batch_size % getattr(self, unit):
                raise ValueError(
                    f"batch_size is {self.batch_size}; expected a multiple of {unit}, "
                    f"{getattr(self, unit)}"
                )


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

_RESOURCE_GATHERING: dict[str, Any] = {
    "total_transitions": 1_000_000,
    "n_candidates": 501,
    "n_proposals": 460,
    "hidden_size": 64,
    "learning_rate": 1e-3,
    "focus": 0.5,
    "imitation": 0.25,
    "entropy_coefficient": 0.05,
    "normalize_observations": False,
    "reward_scale": 0.01,
    "advantage_offset": 0.01,
    "bootstrap_time_limits": False,
}
"""Those of the other solvers where they have them: its limit of 40 steps is a rule of the game."""

_MANY_AGENTS: dict[str, Any] = {"n_candidates": 401, "n_proposals": 0}
_CHEETAH: dict[int, dict[str, Any]] = {
    100: {"total_transitions": 2_000_000},
    # With 10,000,000 a seed had forgotten all speeds above 2.3 m/s in the end: 58 % of the ceiling,
    # 95 % half-way.
    1000: _MANY_AGENTS | {"total_transitions": 4_000_000},
}

_OWN: dict[str, dict[str, Any]] = {
    **{f"rmdp/HalfCheetahVel-n{n}-v0": _SPEEDS | own for n, own in _CHEETAH.items()},
    **{
        f"rmdp/{robot}Vel-n{n}-v0": _LEGGED | (_MANY_AGENTS if n == 1000 else {})
        for robot in ("Hopper", "Walker2d", "Ant")
        for n in (100, 1000)
    },
    "rmdp/ResourceGathering-n25-v0": _RESOURCE_GATHERING,
}
TASK_SETTINGS = {env_id: DENSE_REWARDS.get(env_id, {}) | own for env_id, own in _OWN.items()}
"""Settings that a task replaces, by id of its environment."""
