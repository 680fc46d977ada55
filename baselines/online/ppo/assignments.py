"""Assignments of agents to representatives, and the rules that move them, or do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.ppo import kernels


def random_even_assignment(
    n_agents: int, n_representatives: int, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Representatives (n,) drawn so that their numbers of agents differ by at most one."""
    return generator.permutation(np.arange(n_agents) % n_representatives)


def one_hot(representatives: npt.NDArray[np.intp], n_representatives: int, device: str) -> Tensor:
    """The hard assignment (R, n, k) to representatives (R, n)."""
    matrix = np.zeros((*representatives.shape, n_representatives), np.float32)
    rows = np.arange(0, matrix.size, n_representatives)
    matrix.reshape(-1)[rows + representatives.reshape(-1)] = 1.0
    return torch.from_numpy(matrix).to(device)


def e_step(
    q_table: npt.NDArray[np.floating[Any]], current: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Assign every agent to its best representative (equation 11).

    Args:
        q_table: (n, k) estimated returns.
        current: (n,) representative of each agent, kept where it is among the best.

    Returns:
        (n,) representatives; no agent's entry of `q_table` is lower than before.
    """
    chosen = current.astype(np.int64)
    kernels.choose_best(q_table.astype(np.float64, copy=False), chosen)
    return chosen.astype(np.intp, copy=False)


class AssignmentRule(Protocol):
    """How the assignment moves; the learner knows no more of a solver than this."""

    assignment: Tensor
    """(R, n, k) on the learner's device, rows on the simplex."""
    moves_within_update: bool
    """Whether `descend` is to be called in every gradient step."""
    normalizes_minibatches: bool
    """If so, whether marginal advantages are normalised over the mini-batch, not the batch."""

    @property
    def served(self) -> Tensor:
        """(R, n, k) whom the agents would be served by now: the assignment of a solution.

        It differs from `assignment` where that lends agents for training only.
        """

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """Move the assignment before the update.

        Args:
            average_returns: (R, n, k) moving averages of the agents' returns, in percent; nan for
                a representative that has not finished an episode yet.
        """

    def descend(self, slope: Tensor) -> None:
        """Move the assignment within the update, where it does.

        Args:
            slope: (R, n, k) of the policies' loss (equation 9) by the assignment.
        """

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays (R, ...) from which `set_state` continues bit for bit."""

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned."""


class FixedRule:
    """The assignment (R, n, k) never moves."""

    moves_within_update = False
    normalizes_minibatches = False

    def __init__(self, assignment: Tensor) -> None:
        """Keep the assignment (R, n, k)."""
        self.assignment = assignment

    @property
    def served(self) -> Tensor:
        """The assignment."""
        return self.assignment

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """Leave the assignment as it is."""

    def descend(self, slope: Tensor) -> None:
        """Leave the assignment as it is."""

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """The assignment."""
        return {"assignment": self.assignment.cpu().numpy()}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore the assignment."""
        self.assignment = torch.from_numpy(state["assignment"]).to(self.assignment.device)
