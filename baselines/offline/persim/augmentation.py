"""Data augmented by an agent's own simulator: where actions would have led it.

A generated trajectory begins at a logged observation, of anybody's trajectory. Either it repeats
the actions that follow there in the log, or it explores; the agent's simulator says where that
leads. Exploring is uniform actions, each kept for a while: for k steps on average, k drawn for each
trajectory, log-uniformly. Actions that change at every step cancel out, and do not come far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.offline.common.data import LoggedData
from baselines.offline.persim.simulator import PersonalSimulator, simulate
from baselines.offline.planning.dynamics import Objective


@dataclass(frozen=True)
class GenerationConfig:
    """How much is generated for an agent, and how; see the module's docstring."""

    n_trajectories: int = 200
    """Trajectories that are generated for each agent, beside planned ones."""
    trajectory_length: int = 200
    """Steps after which one of these is cut."""
    first_share: float = 0.5
    """Probability that one starts where a trajectory of the log does, not anywhere in it."""
    exploration: float = 0.5
    """Probability that one explores; others repeat logged actions."""
    longest_hold: float = 50.0
    """Exploring trajectories keep an action for k steps on average, k from 1 to this, drawn
    log-uniformly for each of them."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        check_range(self, 1, math.inf, "n_trajectories", "trajectory_length", "longest_hold")
        check_range(self, 0, 1, "first_share", "exploration")


class GeneratingPolicy:
    """Repeats the log or explores, in each of E episodes, whatever the observations are."""

    def __init__(
        self,
        data: LoggedData,
        rows: NDArray[np.int64],
        config: GenerationConfig,
        n_actions: int | None,
        rng: np.random.Generator,
    ) -> None:
        """Draw which episodes explore.

        Args:
            data: the log.
            rows: (E,) where each episode begins in it; after the end of that trajectory all
                explore.
            config: how they do.
            n_actions: A; None: actions are continuous, from -1 to 1.
            rng: draws, here and in `act`.
        """
        n = len(rows)
        self._actions = data.actions.cpu().numpy()
        starts = data.starts.cpu().numpy()
        self._explores_from = starts[np.searchsorted(starts, rows, "right")]
        self._explores_from[rng.random(n) < config.exploration] = 0
        self._change = config.longest_hold ** -rng.random(n)
        self._rows, self._n_actions, self._rng = rows, n_actions, rng
        self._step, self._held = 0, self._draw()

    def _draw(self) -> NDArray[Any]:
        shape = (len(self._rows), *self._actions.shape[1:])
        if self._n_actions is None:
            return self._rng.uniform(-1.0, 1.0, shape).astype(self._actions.dtype)
        return self._rng.integers(self._n_actions, size=shape)

    def reset(self, n_envs: int) -> None:
        """Go back to the first rows."""
        self._step, self._held = 0, self._draw()

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E,) or (E, a)."""
        rows = self._rows + self._step
        logged = self._actions[np.minimum(rows, len(self._actions) - 1)]
        column = (-1, *[1] * (logged.ndim - 1))
        changes = self._rng.random(len(rows)) < self._change
        self._held = np.where(changes.reshape(column), self._draw(), self._held)
        self._step += 1
        explores = rows >= self._explores_from
        actions: NDArray[Any] = np.where(explores.reshape(column), self._held, logged)
        return actions


def generate(
    simulator: PersonalSimulator,
    objective: Objective,
    data: LoggedData,
    n_actions: int | None,
    config: GenerationConfig,
    key: tuple[int, int],
) -> LoggedData:
    """Trajectories of one agent in its simulator, whose members' mean is what happens.

    Args:
        simulator: of the agent.
        objective: gives rewards and ends.
        data: the log, of all agents.
        n_actions: A; None: actions are continuous.
        config: how many, and so on.
        key: seed of the run and number of the agent, from which the random numbers follow.

    Returns:
        E = n_trajectories of them, as if of agents 0 to E - 1.
    """
    rng = np.random.default_rng([key[0], streams.PerSim.SIMULATED_EPISODES, key[1]])
    rows = rng.integers(len(data.rewards), size=config.n_trajectories)
    firsts = rng.integers(data.n_agents, size=config.n_trajectories)
    is_first = rng.random(config.n_trajectories) < config.first_share
    rows = np.where(is_first, data.starts.cpu().numpy()[firsts], rows)
    policy = GeneratingPolicy(data, rows, config, n_actions, rng)
    starts = data.observations[torch.from_numpy(rows).to(data.observations.device)]
    made = simulate(simulator, objective, policy, starts, config.trajectory_length)
    return keep_near(made, data)


def keep_near(made: LoggedData, data: LoggedData) -> LoggedData:
    """Transitions that stay near the log's observations: elsewhere a model may run away.

    Near is in each component's range, widened by its own width on either side.
    """
    low, high = data.observations.amin(0).cpu(), data.observations.amax(0).cpu()
    low, high = low - (high - low), high + (high - low)
    inside = [
        ((rows >= low) & (rows <= high)).all(1)
        for rows in (made.observations, made.next_observations)
    ]
    kept = inside[0] & inside[1]
    return made.take(kept, torch.bincount(made.agents[kept], minlength=made.n_agents))


def first_observations(data: LoggedData, n: int, key: tuple[int, int]) -> Tensor:
    """First observations (n, d) of trajectories in the log, drawn with replacement."""
    rng = np.random.default_rng([key[0], streams.PerSim.FIRST_OBSERVATIONS, key[1]])
    rows = torch.from_numpy(rng.integers(data.n_agents, size=n)).to(data.starts.device)
    return data.observations[data.starts[rows]]
