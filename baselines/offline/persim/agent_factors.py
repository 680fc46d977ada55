"""Factors of agents: of new ones, from a trajectory or from parameters, and of all for a picture.

Every member of an ensemble has factors u (r) of its own for the same agent, determined up to an
invertible map that differs from member to member. So each member is treated on its own, and
factors are compared by what they do, not by their numbers.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.offline.common.data import LoggedData
from baselines.offline.persim.model import FactoredModel

FloatArray = npt.NDArray[np.float64]
DEGREE = 3
RIDGE = 1e-3
MAX_ROWS = 2000


@torch.no_grad()
def fit_factors(model: FactoredModel, losses: FloatArray, data: LoggedData) -> Tensor:
    """Factors of H agents, each from its own transitions, with v and w as they are.

    Predictions are linear in the factors: least squares, in closed form, with a ridge towards the
    agents of the data. That is the mean of the posterior of u if agents are normal with the mean
    and covariance of those in the data, and the prediction's error is normal with the mean square
    that training ended with: what a short trajectory does not show stays as it is on average.

    Args:
        model: trained, of M members.
        losses: (M,) mean squared error of each, of normalised changes.
        data: of the new agents 0 to H - 1.

    Returns:
        (M, H, r).
    """
    known = model.agent_factors().double()
    mean = known.mean(1, keepdim=True)  # (M, 1, r)
    spread = (known - mean).mT @ (known - mean) / known.shape[1]  # (M, r, r)
    scale = spread.diagonal(dim1=1, dim2=2).mean(1)
    eye = torch.eye(model.rank, dtype=torch.float64, device=known.device)
    precision = torch.linalg.inv(spread + 1e-6 * scale[:, None, None] * eye)
    errors = torch.as_tensor(losses, device=known.device).clamp_min(1e-12)
    ridge = errors[:, None, None] * precision
    inputs = model.normalize(data.observations)
    changes = model.normalize_changes(data).double()
    factors = []
    for agent in range(data.n_agents):
        own = slice(*data.starts[agent : agent + 2].tolist())
        actions = data.actions[own].expand(model.n_members, *data.actions[own].shape)
        parts = model.parts(inputs[own].expand(model.n_members, -1, -1), actions)
        rows = parts.double().flatten(1, 2)  # (M, T d, r)
        left = changes[own].flatten()[:, None] - rows @ mean.mT
        factors.append(mean.mT + torch.linalg.solve(rows.mT @ rows + ridge, rows.mT @ left))
    return torch.cat(factors, 2).mT.to(model.agent_factors().dtype).contiguous()


def regress_factors(model: FactoredModel, known: FloatArray, wanted: FloatArray) -> Tensor:
    """An oracle: factors of agents by a polynomial of their hidden parameters.

    Args:
        model: trained, of n agents.
        known: (n, p) parameters of the agents in the data.
        wanted: (H, p) parameters of others.

    Returns:
        (M, H, r).
    """
    low, high = known.min(0), known.max(0)
    inputs, others = (_monomials(2 * (x - low) / (high - low) - 1) for x in (known, wanted))
    factors = model.agent_factors().detach().cpu().double().numpy()
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ factors)  # (M, monomials, r)
    return torch.as_tensor(others @ weights).to(model.agent_factors())


def _monomials(inputs: FloatArray) -> FloatArray:
    """All products of at most DEGREE of the columns of (n, p)."""
    n_columns = inputs.shape[1]
    return np.stack(
        [
            inputs[:, list(columns)].prod(1)
            for degree in range(DEGREE + 1)
            for columns in combinations_with_replacement(range(n_columns), degree)
        ],
        axis=1,
    )


@torch.no_grad()
def embed_agents(model: FactoredModel, data: LoggedData) -> npt.NDArray[Any] | None:
    """What an ensemble has learned about the agents in the data, (n, r); None: it has diverged.

    In each member, factors are put into coordinates in which the distance of two agents is how far
    the member's predictions for them differ over the data (root mean square, components of the
    change standardised). These of all members, side by side, are projected on their r first
    principal components.
    """
    index = torch.linspace(0, len(data.agents) - 1, min(len(data.agents), MAX_ROWS)).long()
    observations, actions = data.observations[index], data.actions[index]
    changes = model.normalize_changes(data)
    shape = (model.n_members,)
    parts = model.parts(
        model.normalize(observations).expand(*shape, -1, -1), actions.expand(*shape, *actions.shape)
    )
    if not (parts.isfinite().all() and model.agent_factors().isfinite().all()):
        return None
    parts = (parts / changes.std(0, correction=0).clamp_min(1e-12)[:, None]).double().flatten(1, 2)
    values, vectors = torch.linalg.eigh(parts.mT @ parts / len(index))
    factors = model.agent_factors().double() @ vectors * values.clamp_min(0).sqrt()[:, None]
    rows = factors.permute(1, 0, 2).flatten(1)
    rows = rows - rows.mean(0)
    left, singular, _ = torch.linalg.svd(rows, full_matrices=False)
    embedded: npt.NDArray[Any] = (left * singular)[:, : model.rank].cpu().numpy()
    return embedded
