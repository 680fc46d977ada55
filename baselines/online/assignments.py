"""Assignments of agents to representatives, and the rule that leaves them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def random_even_assignment(
    n_agents: int, n_representatives: int, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Representatives (n,) drawn so that their numbers of agents differ by at most one."""
    return generator.permutation(np.arange(n_agents) % n_representatives)


def one_hot(
    representatives: npt.NDArray[np.intp], n_representatives: int, device: str
) -> torch.Tensor:
    """The hard assignment (R, n, k) to representatives (R, n)."""
    matrix = np.eye(n_representatives, dtype=np.float32)[representatives]
    return torch.from_numpy(matrix).to(device)


class FixedRule:
    """The assignment (R, n, k) never moves."""

    moves_within_update = False

    def __init__(self, assignment: torch.Tensor) -> None:
        """Keeps the assignment (R, n, k)."""
        self.assignment = assignment

    @property
    def served(self) -> torch.Tensor:
        """The assignment."""
        return self.assignment

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """Does nothing."""

    def minibatch(self, objective: torch.Tensor, agent_advantages: torch.Tensor) -> None:
        """Does nothing."""

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """The assignment."""
        return {"assignment": self.assignment.cpu().numpy()}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restores the assignment."""
        self.assignment = torch.from_numpy(state["assignment"]).to(self.assignment.device)
