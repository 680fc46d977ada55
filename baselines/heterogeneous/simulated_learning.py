"""k policies that learn inside personal simulators.

    grid of the clinic's controllers in all simulators -> k of them (facility location), groups
    repeat:  M-step: each policy on from there, by the gradient of the mean risk of its patients
             E-step: every policy in every simulator, each patient to its best one

The policies are those of `learner`: networks that multiply what a controller gives. As a simulator
is differentiable, so is the risk of an episode in the policy's weights; no critic is needed. All k
policies learn side by side, as one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.common import streams
from baselines.heterogeneous.controllers import BasalBolus, bolus_of, make_grid
from baselines.heterogeneous.learner import MAX_RISK, RISK_SCALE
from baselines.heterogeneous.policies import (
    GREATEST_ACTION,
    N_FEATURES,
    NETWORK,
    LearnedPolicy,
    features,
)
from baselines.heterogeneous.simulators import Act, Simulators, draw_episodes, simulate
from rmdp_bench.envs.glucose.boluses import MAX_BASAL, MAX_BOLUS
from rmdp_bench.facility_location import select

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Learning:
    """Settings of what happens in simulators."""

    n_points: int = 10
    """Values of each gain of the controllers that policies start from."""
    n_rounds: int = 3
    """Of an M-step and an E-step."""
    n_gradient_steps: int = 40
    """In each M-step."""
    n_episodes: int = 64
    """Simulated episodes of each policy in a gradient step, drawn evenly from its patients."""
    train_days: int = 1
    """Length of these."""
    eval_days: int = 2
    """Length of those by which patients are assigned."""
    eval_episodes: int = 2
    """Of each patient under each policy, to assign."""
    learning_rate: float = 3e-3
    """Adam's step size; it falls to a tenth over the rounds."""
    hidden_size: int = 32
    """Units of each of the two layers."""
    max_gradient_norm: float = 1.0
    """Bound of each policy's gradient."""


class Actors(nn.Module):
    """k actors around k controllers, as one batch."""

    def __init__(self, controllers: Sequence[BasalBolus], settings: Learning, seed: int) -> None:
        """Start as the controllers themselves."""
        super().__init__()
        self.controllers = list(controllers)
        generator, hidden = torch.Generator().manual_seed(seed), settings.hidden_size
        k, sizes = len(controllers), ((N_FEATURES, hidden), (hidden, hidden), (hidden, 2))
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for rows, columns in sizes:
            # Uniform weights, as torch's layers begin; the last are zero.
            weight = torch.rand((k, rows, columns), generator=generator) * 2.0 - 1.0
            scale = rows**-0.5 if columns == hidden else 0.0
            self.weights.append(nn.Parameter(weight * scale))
            self.biases.append(nn.Parameter(torch.zeros(k, 1, columns)))
        basal = [controller.basal for controller in controllers]
        per_gram = [1.0 / controller.carbohydrate_ratio for controller in controllers]
        self.register_buffer("basal", torch.tensor(basal)[:, None])
        self.register_buffer("per_gram", torch.tensor(per_gram)[:, None])

    def forward(self, observation: Tensor) -> Tensor:
        """Doses (k B, 2) at observations (k B, 7): B rows of each policy, one after the other."""
        k = len(self.controllers)
        hidden = features(observation).unflatten(0, (k, -1))
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            hidden = hidden.tanh() if place + 1 < len(self.weights) else hidden
        factor = hidden.clip(-GREATEST_ACTION, GREATEST_ACTION).exp()
        plain = bolus_of(observation, 1.0).unflatten(0, (k, -1)) * self.per_gram
        basal = (self.basal * factor[..., 0]).clip(0.0, MAX_BASAL)
        bolus = (plain * factor[..., 1]).clip(0.0, MAX_BOLUS)
        return torch.stack((basal, bolus), dim=-1).flatten(0, 1)

    def policy(self, j: int) -> LearnedPolicy:
        """Policy j as it is."""
        controller = self.controllers[j]
        tensors = [t for pair in zip(self.weights, self.biases, strict=True) for t in pair]
        arrays = {
            name: tensor[j].detach().numpy().copy()
            for name, tensor in zip(NETWORK, tensors, strict=True)
        }
        return LearnedPolicy(controller.basal, 1.0 / controller.carbohydrate_ratio, **arrays)


def risks_in(
    simulators: Simulators,
    act: Act,
    n_policies: int,
    *,
    n_days: int,
    n_episodes: int,
    stream: Sequence[int],
) -> FloatArray:
    """Mean risk (n, P) of every patient under every policy, on the same simulated days.

    Args:
        simulators: of n patients.
        act: P policies: rows of one stand together, one policy's after the other's.
        n_policies: P.
        n_days: of an episode.
        n_episodes: E of each pair.
        stream: seed, purpose and number of the days.
    """
    n, generator = simulators.n_patients, np.random.default_rng(stream)
    patients = np.repeat(np.arange(n), n_episodes)
    episodes = draw_episodes(simulators, patients, n_days, generator)
    with torch.no_grad():
        risks = simulate(episodes.repeat(n_policies), act).clip(max=MAX_RISK).mean(dim=1)
    return risks.reshape(n_policies, n, n_episodes).mean(dim=2).T.double().numpy()


def controllers_act(controllers: Sequence[BasalBolus]) -> Act:
    """What several controllers do, each in as many rows as the others."""
    basal = torch.tensor([controller.basal for controller in controllers])
    per_gram = torch.tensor([1.0 / controller.carbohydrate_ratio for controller in controllers])

    def act(observation: Tensor) -> Tensor:
        n_each = len(observation) // len(controllers)
        bolus = bolus_of(observation, 1.0) * per_gram.repeat_interleave(n_each)
        doses = (basal.repeat_interleave(n_each), bolus.clip(0.0, MAX_BOLUS))
        return torch.stack(doses, dim=1)

    return act


def tune_in(
    simulators: Simulators, n_chosen: int, settings: Learning, seed: int
) -> tuple[list[BasalBolus], NDArray[np.int64]]:
    """The k controllers of a grid that serve the simulators best, and each patient's (n,)."""
    grid = make_grid(settings.n_points)
    risks = np.concatenate(
        [
            risks_in(
                *(simulators, controllers_act(part), len(part)),
                n_days=settings.eval_days,
                n_episodes=1,
                stream=[seed, streams.PerSim.FIRST_OBSERVATIONS, 0],
            )
            for part in (grid[at : at + 50] for at in range(0, len(grid), 50))
        ],
        axis=1,
    )
    welfare = MAX_RISK - risks
    if n_chosen == simulators.n_patients:  # everybody's own, which may be the same for two
        best = welfare.argmax(axis=1)
        return [grid[column] for column in best], np.arange(n_chosen)
    chosen = select(welfare, n_chosen).chosen
    return [grid[column] for column in chosen], welfare[:, chosen].argmax(axis=1)


def learn_in(
    simulators: Simulators,
    n_policies: int,
    settings: Learning,
    seed: int,
    report: Callable[[int, float], None],
) -> tuple[list[LearnedPolicy], NDArray[np.int64], FloatArray]:
    """Learn k policies and who is served by which.

    Args:
        simulators: of n patients.
        n_policies: k, 1 to n; with n everybody keeps their own.
        settings: of what happens.
        seed: of everything random.
        report: called after each gradient step with their number and the mean simulated risk.

    Returns:
        The policies, each patient's policy (n,), and the simulated risks (n, k) that say so; where
        everybody has their own, (n, 0).
    """
    controllers, group_of = tune_in(simulators, n_policies, settings, seed)
    actors = Actors(controllers, settings, seed)
    optimizer = torch.optim.Adam(actors.parameters(), settings.learning_rate)
    total = settings.n_rounds * settings.n_gradient_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1 ** (step / total))
    generator = np.random.default_rng([seed, streams.PerSim.SIMULATED_EPISODES])
    done, n = 0, simulators.n_patients
    risks = np.zeros((n, 0))
    for round_ in range(settings.n_rounds):
        for _ in range(settings.n_gradient_steps):
            rows = [
                _draw_evenly(np.flatnonzero(group_of == j), n, settings.n_episodes, generator)
                for j in range(n_policies)
            ]
            episodes = draw_episodes(
                simulators, np.concatenate(rows), settings.train_days, generator
            )
            risk = simulate(episodes, actors)
            # Beyond the greatest risk there is no gradient, as in the learner's rewards.
            loss = risk.clip(max=MAX_RISK).mean(dim=1).unflatten(0, (n_policies, -1)).mean(dim=1)
            optimizer.zero_grad()
            (loss.sum() / RISK_SCALE).backward()
            _clip_gradients(actors, settings.max_gradient_norm)
            optimizer.step()
            schedule.step()
            done += 1
            report(done, float(loss.detach().mean()))
        if n_policies < n:
            risks = risks_in(
                *(simulators, actors, n_policies),
                n_days=settings.eval_days,
                n_episodes=settings.eval_episodes,
                stream=[seed, streams.PerSim.FIRST_OBSERVATIONS, round_ + 1],
            )
            group_of = risks.argmin(axis=1)
    return [actors.policy(j) for j in range(n_policies)], group_of, risks


def _draw_evenly(
    patients: NDArray[np.int64], n_all: int, size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """So many of some patients, each as often as the others, to one; of all where there are none.

    A policy that nobody prefers learns for everybody, and may be preferred again.
    """
    if not len(patients):
        patients = np.arange(n_all)
    repeats = math.ceil(size / len(patients))
    drawn = np.concatenate([generator.permutation(patients) for _ in range(repeats)])
    return np.asarray(drawn[:size])


def _clip_gradients(actors: Actors, greatest: float) -> None:
    """Bound each policy's gradient, and drop one that is not finite."""
    gradients = [p.grad for p in actors.parameters() if p.grad is not None]
    squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    norms = squares.sqrt()
    scale = torch.where(norms.isfinite(), (greatest / norms.clip(min=1e-12)).clip(max=1.0), 0.0)
    for gradient in gradients:
        gradient.nan_to_num_(0.0, 0.0, 0.0)
        gradient.mul_(scale.view(-1, *([1] * (gradient.dim() - 1))))
