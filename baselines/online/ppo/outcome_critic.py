"""Whose values the critics estimate: every agent's, or those of about 100 nodes.

`critic="agents"` is the paper's critic: one output for each agent, so that time and memory grow
with n. With `critic="outcome"` a critic predicts successor features (Barreto et al., 2017): the
discounted occupancy of the outcome on a basis, whose size does not depend on n. Agents come in only
where something is asked about them, as one product with their weights on the basis:

    rewards and values    r_i = sum_b weights[i, b] r_b        V_i = sum_b weights[i, b] V_b
    groups, before GAE    sum_i alpha^i(j) / m r_i = sum_b g_jb r_b,     g_j = weights' alpha(j) / m
                          with the group's mass m = sum_i alpha^i(j)
    the E-step            Q_i = sum_b weights[i, b] Q_b,   Q_b averaged over episodes (equation 10)

since rewards are linear in the basis and everything that the learner does with rewards is linear
in them. Batches, advantages and tables hold the basis in the place of the agents.

The basis is a small population, the nodes:

  - `LinearPopulation`: node l wants part l of the outcome and nothing else, r_l(x) = x_l; an
    agent's weights are its own. Exact.
  - `TargetPopulation`: nodes want evenly spaced targets, `NODES_PER_WIDTH` to a width (102 in the
    velocity environments), and an agent's weights interpolate linearly between the two nodes
    beside its target. The basis functions are the nodes' rewards, not narrow hats around them.
    Hats would interpolate in the velocity what this interpolates in the target: the same error,
    for a reward depends on the difference only. But so an agent has two weights instead of one for
    every node within its width, and each output is what it is for the agents' critic, the value of
    somebody who wants that speed.

What is lost. The reward of an agent is a mean of those of two nodes at a width's fifth from each
other: it differs from its own by at most peak / (2 NODES_PER_WIDTH), a tenth of the peak, where the
velocity is exactly on a target half-way between nodes, and not at all where both nodes and the
target are on one side of the velocity and within the width, or all beyond it. Returns differ by
less, the more the velocity varies within an episode (`benchmarks.agents` measures it on what was
learned), and a group's by less still, as its members lie differently between nodes: its number of
agents and their mean target are kept. The actors are trained on these rewards too, so that
advantages and values agree: exact rewards would differ in the corners of single agents only, which
matters, by up to half the distance of nodes in the best speed, for groups of one or two.
Evaluation, and so every score, is with each agent's own rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from rmdp_bench.population import LinearPopulation, Population, TargetPopulation, is_on_line

NODES_PER_WIDTH = 5
"""Nodes to the distance at which a target's reward reaches zero."""


@dataclass(frozen=True)
class Nodes:
    """A population of B nodes that stands for n agents."""

    population: Population
    """The nodes."""
    weights: Any = None
    """(n, B) float32, an array or a sparse one; None: the nodes are the agents."""

    @property
    def size(self) -> int:
        """Number of nodes B: outputs of a critic."""
        return self.population.n_agents

    def of_agents(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What nodes have (B, ...), for every agent: (n, ...)."""
        if self.weights is None:
            return values
        agents: npt.NDArray[Any] = self.weights @ values.astype(np.float32)
        return agents.astype(values.dtype)

    def of_groups(self, assignment: Tensor, masses: Tensor) -> Tensor:
        """Weights of the nodes in the mean over each representative's group: (R k, B).

        Args:
            assignment: (R, n, k) of the agents.
            masses: (R k, 1) of the groups, as `group_masses` has them.
        """
        if self.weights is not None:
            by_seed = [self.weights.T @ own for own in assignment.cpu().numpy()]
            assignment = torch.from_numpy(np.stack(by_seed)).to(assignment.device)
        return assignment.transpose(1, 2).reshape(-1, self.size) / masses


def group_masses(assignment: Tensor) -> Tensor:
    """Agents that each representative has, sum_i alpha^i(j): (R k, 1).

    Never below 1e-12, so that nothing is divided by zero: a group without agents has a mean of 0.

    Args:
        assignment: (R, n, k).
    """
    return assignment.sum(1).reshape(-1, 1).clamp(min=1e-12)


def has_nodes(population: Population) -> bool:
    """Whether there are nodes other than the agents: for weights, and for targets on a line."""
    return isinstance(population, LinearPopulation) or is_on_line(population)


def make_nodes(population: Population, critic: str) -> Nodes:
    """The nodes of a population, for `PPOConfig.critic`: "agents" or "outcome"."""
    if critic == "agents":
        return Nodes(population)
    if isinstance(population, LinearPopulation):
        parts = LinearPopulation.tiles(population.outcome_size)
        return Nodes(parts, population.weights.astype(np.float32))
    if not is_on_line(population):
        raise ValueError(
            f"critic is {critic!r}, which needs agents with weights or with targets on a line, and "
            f"this population is a {type(population).__name__} of outcomes "
            f"({population.outcome_size},); use critic=agents"
        )
    targets, spacing = population.targets, population.width / NODES_PER_WIDTH
    place = (targets - targets.min()) / spacing
    below = place.astype(np.int32)
    n_agents, size = len(targets), int(below.max()) + 2
    nodes = targets.min() + spacing * np.arange(size)
    share = (place - below).astype(np.float32)
    weights = csr_array(
        (
            np.stack([1 - share, share], axis=1).ravel(),
            np.stack([below, below + 1], axis=1).ravel(),
            np.arange(0, 2 * n_agents + 1, 2, dtype=np.int32),
        ),
        shape=(n_agents, size),
    )
    return Nodes(TargetPopulation(nodes, population.width, population.peak), weights)
