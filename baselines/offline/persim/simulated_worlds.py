"""The simulators of several agents as one model, in which policies are rolled out as in MOReL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.offline.common.data import LoggedData
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.planning.dynamics import Objective

_SMALLEST_SCALE = 1e-6
"""Floor of a standard deviation: a constant feature stays finite."""
_BLOCK = 2048
"""Rows of data that are predicted at once."""


class SimulatedWorlds:
    """M agents' simulators, and where they are trusted; a `morel.model.Model`.

    Path p is continued by member p mod K of its agent's ensemble, from its start to its end: one
    member is one consistent account of the agent, while a member drawn at each step would throw a
    path from one account to another, noise that no account foresees. Where the members contradict
    each other by more than anywhere in the log, the path ends in HALT.

    Attributes:
        objective: gives rewards and ends.
        halt_reward: (M,) of each step in HALT: below the lowest of the log.
        threshold: (M,) disagreement beyond which a pair of observation and action is unknown.
    """

    def __init__(
        self,
        simulators: Sequence[PersonalSimulator],
        data: LoggedData,
        objective: Objective,
        *,
        pessimism: float,
        halt_penalty: float,
    ) -> None:
        """Measure the thresholds on the log of all agents.

        Args:
            simulators: M, each of one agent and one seed.
            data: the log, on their device.
            objective: gives rewards and ends.
            pessimism: what the largest disagreement over the log is divided by.
            halt_penalty: how far the reward of HALT is below the lowest of the log.
        """
        self.simulators, self.objective = simulators, objective
        self._scale = data.observations.std(0, correction=0).clamp(min=_SMALLEST_SCALE)
        lowest = data.rewards.amin() - halt_penalty
        self.halt_reward = lowest.expand(len(simulators))
        self.threshold = torch.stack([self._largest(one, data) for one in simulators]) / pessimism

    def step(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Next observations (M, P, d) of P paths of each agent, and who is in HALT (M, P).

        Args:
            observations: (M, P, d).
            actions: (M, P) or (M, P, a).
        """
        path = torch.arange(observations.shape[1], device=observations.device)
        following, unknown = [], []
        for simulator, rows, moves, limit in zip(
            self.simulators, observations, actions, self.threshold, strict=True
        ):
            predictions = self._predict(simulator, rows, moves)
            following.append(predictions[path % simulator.n_members, path])
            unknown.append(~(self._disagreement(predictions) <= limit))  # not a number: unknown
        return torch.stack(following), torch.stack(unknown)

    def _predict(self, simulator: PersonalSimulator, rows: Tensor, actions: Tensor) -> Tensor:
        """(K, B, d) of all members."""
        envs = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        return simulator.step(rows.expand(simulator.n_members, -1, -1), actions, envs)

    def _disagreement(self, predictions: Tensor) -> Tensor:
        """(B,) length of the diagonal of the box around K predictions (K, B, d), standardised."""
        spread = (predictions.amax(0) - predictions.amin(0)) / self._scale
        length: Tensor = torch.linalg.vector_norm(spread, dim=-1)
        return length

    @torch.no_grad()
    def _largest(self, simulator: PersonalSimulator, data: LoggedData) -> Tensor:
        """Greatest disagreement at anybody's logged observations and actions."""
        blocks = zip(data.observations.split(_BLOCK), data.actions.split(_BLOCK), strict=True)
        each = [
            self._disagreement(self._predict(simulator, rows, moves)).amax()
            for rows, moves in blocks
        ]
        return torch.stack(each).amax()
