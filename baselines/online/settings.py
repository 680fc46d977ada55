"""Settings of the learner, and those that a task replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class PPOConfig:
    """Settings of the learner (paper, appendix B, unless said otherwise)."""

    hidden_size: int = 64
    """Width of the hidden layer that the actors share, and of the critics'."""
    n_envs: int = 8
    """Copies of the world in which each representative acts."""
    batch_size: int = 2048
    """Transitions of each representative between updates; a multiple of n_envs."""
    minibatch_size: int = 64
    """Transitions of each representative in a gradient step; divides batch_size."""
    n_epochs: int = 10
    """Passes over a batch."""
    learning_rate: float = 3e-4
    """Adam's step size at the start."""
    final_learning_rate: float = 1e-4
    """Adam's step size at the end."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    clip: float = 0.2
    """Bound on the change of the probability ratio."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the start."""
    final_entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the end."""
    max_gradient_norm: float = 0.5
    """Bound on the norm of the actors' and of the critics' gradient (reference code)."""
    log_std: float = -1.0
    """Initial log standard deviation of continuous actions."""
    normalize_observations: bool = True
    """Whether observations are standardised by their running mean and variance."""
    observation_clip: float = 5.0
    """Bound on the standardised observations (reference code)."""
    normalization: Literal["batch", "minibatch"] = "batch"
    """Over what end-to-end learning normalises advantages; the other solvers: the batch."""
    advantage_offset: float = 1e-3
    """Added to the standard deviation of a representative's advantages, in percent of welfare
    times reward_scale."""
    bootstrap_time_limits: bool = True
    """Whether a truncated episode is continued by the value of its last observation."""
    reward_scale: float = 1.0
    """Factor on the rewards, which are in percent of a perfect episode."""
    mixing: float = 0.05
    """Lambda of equation 10: weight of a new return in the moving average of returns."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range, or the sizes do not divide.
        """
        for name in ("hidden_size", "n_envs", "batch_size", "minibatch_size", "n_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "final_learning_rate", "adam_epsilon", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("gae_lambda", "mixing"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 < {name} <= 1")
        for size, unit in (("batch_size", "n_envs"), ("batch_size", "minibatch_size")):
            if getattr(self, size) % getattr(self, unit):
                raise ValueError(
                    f"{size} is {getattr(self, size)}; expected a multiple of {unit}, "
                    f"{getattr(self, unit)}"
                )


RESOURCE_GATHERING_SETTINGS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "adam_epsilon": 1e-8,
    "entropy_coefficient": 0.05,
    "normalize_observations": False,
    "reward_scale": 0.01,
    "advantage_offset": 0.01,
    "bootstrap_time_limits": False,
}
"""Resource Gathering's own settings (reference code): they replace the defaults above.

Its limit of 40 steps is a rule of the game: who is not home by then gets nothing. With gamma = 1, a
value beyond the limit would make wandering as good as returning, and the one policy of k = 1 never
returns (measured: welfare 0).
"""


def task_settings(task: Task) -> dict[str, Any]:
    """Settings that a task replaces, by name of the field."""
    if task.env_id == "rmdp/ResourceGathering-n25-v0":
        return RESOURCE_GATHERING_SETTINGS
    return {}
