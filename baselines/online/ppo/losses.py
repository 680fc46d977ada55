"""What PPO minimises, in the order of the paper, for autograd: equations 7 to 9.

All of it is for P policies at once: the k representatives of R seeds, or the one conditioned policy
of `universal`. Losses are means over transitions (and agents) where the paper has sums. The sum
over the P losses has the gradient of each by its own parameters. This is the plain path, which a
GPU runs; `kernels` states the same for a CPU, with slopes written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.online.ppo.actions import Actions
from baselines.online.ppo.networks import HeadedNetwork, forward


class Transitions(NamedTuple):
    """What an update learns from: M transitions of each of P policies, or a mini-batch of them."""

    observations: Tensor
    """(P, M, d) as the networks read them."""
    actions: Tensor
    """(P, M, a)"""
    log_probs: Tensor
    """(P, M) of the actions when they were taken."""
    advantages: Tensor
    """(P, M) standardised."""
    targets: Tensor
    """(P, M, n) of the critic's outputs."""


class StepSettings(NamedTuple):
    """What is the same for all mini-batches of an update."""

    learning_rate: float
    entropy_coefficient: float
    clip: float
    max_gradient_norm: float
    max_kl: float = float("inf")
    min_log_std: float = float("-inf")


def marginal_advantages(agent_advantages: Tensor, weights: Tensor) -> Tensor:
    """A^j = sum_i alpha^i(j) A^ij, below equation 8: the slope of equation 7 by a policy's acting.

    Args:
        agent_advantages: (P, B, n) A^ij of every agent i.
        weights: (P, n) alpha^i(j), here divided by their sum over the agents.
    """
    return torch.bmm(agent_advantages, weights.unsqueeze(-1)).squeeze(-1)


def critic_losses(critic: Mapping[str, Tensor], rows: Transitions) -> Tensor:
    """Equation 8, (P,): the values of all agents against their targets."""
    return (forward(critic, rows.observations) - rows.targets).square().mean((1, 2))


def actor_losses(
    actor: Mapping[str, Tensor], rows: Transitions, kind: Actions, settings: StepSettings
) -> tuple[Tensor, Tensor]:
    """Equation 9 with the entropy bonus, (P,), and the divergence from the policy that acted (P,).

    The divergence is the mean of ratio - 1 - log ratio, which is unbiased for the KL divergence.
    """
    outputs = forward(actor, rows.observations)
    log_probs, entropies = kind.log_probs(outputs, actor.get("log_std"), rows.actions)
    change = log_probs - rows.log_probs
    ratio, clip = change.exp(), settings.clip
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    surrogate = torch.min(ratio * rows.advantages, clipped * rows.advantages)
    losses = -(surrogate + settings.entropy_coefficient * entropies).mean(1)
    return losses, (ratio.detach() - 1.0 - change.detach()).mean(1)


def make_step(
    actor: HeadedNetwork,
    critic: HeadedNetwork,
    rows: Transitions,
    kind: Actions,
    settings: StepSettings,
    learns: Tensor,
) -> None:
    """Make a gradient step of actor and critic on a mini-batch.

    Policies that have diverged beyond `max_kl` are struck off `learns` (P, 1, 1): the actor gets no
    gradient from them any more.
    """
    how = (settings.learning_rate, settings.max_gradient_norm)
    own = actor.own_parameters()
    losses, divergences = actor_losses(own, rows, kind, settings)
    losses.sum().backward()
    learns &= ~(divergences > settings.max_kl).view(-1, 1, 1)
    actor.descend(own, *how, learns)
    if kind.has_log_std:
        actor.parameters["log_std"].clamp_(min=settings.min_log_std)
    own = critic.own_parameters()
    critic_losses(own, rows).sum().backward()
    critic.descend(own, *how, torch.ones_like(learns))
