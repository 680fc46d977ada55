"""PE-CaDM: a probabilistic ensemble of CaDM models, and planning with particles.

Lee et al. 2020, "PE-TS + CaDM" (see `model`); the ensemble is that of PETS (Chua et al.
2018, "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models").
Each member is trained on a bootstrap sample of its own, has an encoder of its own, and gives a mean
and a log-variance, held softly between two learned bounds. In a plan a particle stays with
one member (TS-infinity) and every step draws from its normal distribution.

Departure from the official code: the bounds of log-variances belong to a member, as all else; there
the ensemble shares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from baselines.common.settings import check_range
from baselines.offline.cadm.model import ContextConfig, ContextModel, ForwardHead
from baselines.offline.cadm.solutions import ContextDynamics, check, solve_with
from baselines.offline.planning.planner import planner_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask, Task

__all__ = ["Config", "GaussianLikelihood", "ParticleDynamics", "check", "config_for", "solve"]

BOUND_PENALTY = 0.01
"""Weight of the distance between the bounds of log-variances (PETS)."""


@dataclass(frozen=True)
class Config(ContextConfig):
    """Settings of the ensemble, its training and the planner."""

    n_updates: int = 6_000
    """Gradient updates of each member; an update costs five times that of one network."""
    ensemble_size: int = 5
    """Members of the ensemble."""
    n_particles: int = 20
    """Trajectories of each plan, a multiple of the ensemble's size."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range, and particles that cannot be shared out evenly."""
        super().__post_init__()
        check_range(self, 1, 1000, "ensemble_size")
        if self.n_particles < 1 or self.n_particles % self.ensemble_size:
            raise ValueError(
                f"n_particles is {self.n_particles}; expected a multiple of ensemble_size, "
                f"{self.ensemble_size}"
            )


class GaussianLikelihood(ForwardHead):
    """The forward model gives a normalised difference's mean and log-variance.

    Attributes:
        least, greatest: (K, 1, d), learned bounds of log-variances, from -10 and 0.5.
    """

    def __init__(self, n_members: int, observation_size: int) -> None:
        """Bounds for K = n_members."""
        super().__init__()
        shape = (n_members, 1, observation_size)
        self.least = nn.Parameter(torch.full(shape, -10.0))
        self.greatest = nn.Parameter(torch.full(shape, 0.5))

    def n_outputs(self, observation_size: int) -> int:
        """Mean and log-variance of each coordinate."""
        return 2 * observation_size

    def distribution(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and bounded log-variances (K, B, d) of outputs (K, B, 2 d)."""
        means, log_variances = outputs.chunk(2, -1)
        log_variances = self.greatest - softplus(self.greatest - log_variances)
        return means, self.least + softplus(log_variances - self.least)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Twice the negative log-likelihood (less a constant) plus the bounds' penalty, (K,)."""
        means, log_variances = self.distribution(outputs)
        misfit = ((targets - means) ** 2 * torch.exp(-log_variances) + log_variances).mean((1, 2))
        return misfit + BOUND_PENALTY * (self.greatest - self.least).sum((1, 2))

    def mean(self, outputs: Tensor) -> Tensor:
        """The means."""
        return outputs.chunk(2, -1)[0]


class ParticleDynamics(ContextDynamics):
    """Particles of an ensemble; particle p stays with member p // (particles per member)."""

    stochastic = True

    def __init__(self, model: ContextModel, n_particles: int) -> None:
        """Plan with n_particles trajectories, a multiple of the members of the model."""
        self.per_member = n_particles // model.n_members
        super().__init__(model, self.per_member)

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the next states of every particle."""
        model, head = self.model, self.model.head
        assert isinstance(head, GaussianLikelihood)
        particles = states.unflatten(0, (model.n_members, self.per_member))
        shape = particles.shape  # (K, particles of a member, B, d)
        contexts = self.contexts[:, None, envs].expand(*shape[:3], -1).flatten(1, 2)
        rows = particles.flatten(1, 2)
        outputs = model.forward_model(
            model.inputs(
                rows, actions.repeat(self.per_member, *[1] * (actions.dim() - 1)), contexts
            )
        )
        means, log_variances = head.distribution(outputs)
        noise = torch.randn(means.shape, generator=generator, device=means.device)
        mean, scale = model.differences_scales
        differences = means + noise * torch.exp(log_variances / 2)
        next_states: Tensor = rows + differences * scale + mean
        return next_states.view(shape).flatten(0, 1)


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**planner_settings(task))


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train an ensemble for each seed, as one batch; its policy plans for whoever it meets."""
    return solve_with(
        task,
        config,
        seeds,
        device,
        log,
        ensemble_size=config.ensemble_size,
        make_head=GaussianLikelihood,
        make_dynamics=lambda model: ParticleDynamics(model, config.n_particles),
    )
