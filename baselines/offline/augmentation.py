"""Data augmented by an agent's own simulator: what logged behaviour would have led it to.

A generated trajectory begins at a logged observation, of anybody's trajectory, and takes the
actions that follow it in the log, some of them replaced by uniform ones; the agent's simulator says
where they lead. So observations and actions are those that the model was trained on, as long as
trajectories are short, and what is new is what they do to this agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.offline.data import LoggedData
from baselines.offline.dynamics import Objective
from baselines.offline.simulators import PersonalSimulator, simulate

_AUGMENTATION = 3
"""Purpose of random numbers; those of `factored_training` are 1 and 2."""


class LoggedActions:
    """A policy that repeats logged actions from E rows on, mixed with uniform ones."""

    def __init__(
        self,
        data: LoggedData,
        rows: NDArray[np.int64],
        exploration: float,
        n_actions: int | None,
        rng: np.random.Generator,
    ) -> None:
        """Takes what it repeats.

        Args:
            data: the log.
            rows: (E,) where each episode begins in it.
            exploration: share of the actions that are uniform; all are after the end of the
                logged trajectory.
            n_actions: A; None: actions are continuous, from -1 to 1.
            rng: draws the uniform actions.
        """
        self._actions = data.actions.cpu().numpy()
        starts = data.starts.cpu().numpy()
        self._rows, self._ends = rows, starts[np.searchsorted(starts, rows, "right")]
        self._exploration, self._n_actions, self._rng = exploration, n_actions, rng
        self._step = 0

    def reset(self, n_envs: int) -> None:
        """Goes back to the first rows."""
        self._step = 0

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E,) or (E, a), whatever the observations (E, d) are."""
        rows, n = self._rows + self._step, len(self._rows)
        self._step += 1
        actions = self._actions[np.minimum(rows, self._ends - 1)]
        if self._n_actions is None:
            uniform = self._rng.uniform(-1.0, 1.0, actions.shape).astype(actions.dtype)
        else:
            uniform = self._rng.integers(self._n_actions, size=actions.shape)
        replaced = (self._rng.random(n) < self._exploration) | (rows >= self._ends)
        mixed: NDArray[Any] = np.where(
            replaced.reshape(n, *[1] * (actions.ndim - 1)), uniform, actions
        )
        return mixed


@dataclass(frozen=True)
class Generation:
    """How much is generated for an agent, and how; see the module's docstring."""

    n_trajectories: int
    length: int
    exploration: float
    first_share: float


def generate(
    simulator: PersonalSimulator,
    objective: Objective,
    data: LoggedData,
    n_actions: int | None,
    config: Generation,
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
    rng = np.random.default_rng([key[0], _AUGMENTATION, key[1]])
    rows = rng.integers(len(data.rewards), size=config.n_trajectories)
    firsts = rng.integers(data.n_agents, size=config.n_trajectories)
    is_first = rng.random(config.n_trajectories) < config.first_share
    rows = np.where(is_first, data.starts.cpu().numpy()[firsts], rows)
    policy = LoggedActions(data, rows, config.exploration, n_actions, rng)
    starts = data.observations[torch.from_numpy(rows).to(data.observations.device)]
    made = simulate(simulator, objective, policy, starts, config.length)
    return _within(made, data)


def _within(made: LoggedData, data: LoggedData) -> LoggedData:
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
    names = [name for name in LoggedData.__annotations__ if name != "starts"]
    counts = torch.bincount(made.agents[kept], minlength=made.n_agents)
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return LoggedData(**{name: getattr(made, name)[kept] for name in names}, starts=starts)


def join(*parts: LoggedData) -> LoggedData:
    """All transitions as if of one agent; its trajectories are no longer told apart."""
    names = [name for name in LoggedData.__annotations__ if name not in ("agents", "starts")]
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    n = len(joined["rewards"])
    return LoggedData(
        **joined, agents=torch.zeros(n, dtype=torch.int64), starts=torch.tensor([0, n])
    )
