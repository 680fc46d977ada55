"""Settings of `em_plus`, and those that a task replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from baselines.common.settings import check_range
from baselines.online.ppo.settings import PPOConfig


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and what is added to EM; each addition has a switch."""

    seeding: bool = True
    """Whether places for all are chosen among the candidates; else only the first groups are, which
    are random and even."""
    seeding_at: float = 0.0
    """Share of all transitions after which they are; 0 for the first batch."""
    split_merge: bool = True
    """Whether representatives are split and merged."""
    scout: bool = True
    """Whether one more representative explores at first, for agents to whom nobody gave much."""
    exploration: float = 0.2
    """Share of all transitions in which there are a scout and several starts, if at all."""
    temperature: float = 0.0
    """Percent of return: softness of the assignment at the start; 0 for hard ones throughout."""
    final_temperature: float = 0.1
    """The same at the end of the annealing; after it, assignments are hard."""
    annealing: float = 0.5
    """Share of all transitions over which the temperature falls, geometrically."""
    n_starts: int = 1
    """Independent starts; the best goes on after the exploration."""
    candidates: Literal["steps", "episodes"] = "steps"
    """What a representative could repeat: one transition, or a whole episode."""
    memory: int = 0
    """Candidates that are remembered, of those that no other is better than for all agents; else
    they are those of the last batch."""
    review_interval: int = 10
    """Updates between two reviews of where the representatives are."""
    review_until: float = 0.75
    """Share of all transitions after which there are none."""
    patience: int = 25
    """Updates for which a representative that moved keeps the agents that it was promised."""
    least_gain: float = 0.01
    """Smallest gain of welfare, as a share, for which a representative moves."""
    least_given: float = 0.1
    """Share of what a candidate promises that a representative must give already."""
    least_share: float = 0.25
    """What a representative must give to its agents, as a share of what one gives on average; one
    that gives less is lost."""
    reached: float = 10.0
    """Percent of return that an agent has to have received from someone, to be of no interest to
    the scout."""
    n_candidates: int = 256
    """Candidates that are drawn from each representative's last batch for a review."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range, or the critic is not the agents'."""
        super().__post_init__()
        if self.critic != "agents":
            raise ValueError(
                f"critic is {self.critic!r}; expected 'agents': reviews look at what every agent "
                f"receives from single transitions"
            )
        shares = ("exploration", "annealing", "seeding_at", "review_until")
        check_range(self, 0.0, 1.0, *shares, "least_gain", "least_given", "least_share")
        check_range(self, 0, math.inf, "memory")
        check_range(self, 0.0, 100.0, "temperature", "reached")
        check_range(self, 1e-6, 100.0, "final_temperature")
        counts = ("n_starts", "review_interval", "patience", "n_candidates")
        check_range(self, 1, math.inf, *counts)


EPISODE_CANDIDATES: dict[str, Any] = {
    "candidates": "episodes",
    "memory": 2048,
    "seeding_at": 0.2,
    "exploration": 0.6,
    "n_starts": 3,
    "patience": 100,
    "least_gain": 0.001,
    "scout": False,
}
"""Settings where actions are discrete: rewards come at the end of an episode for the most part."""
