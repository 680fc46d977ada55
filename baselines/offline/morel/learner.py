"""Training of MOReL: models, behaviour cloning, then planning in the pessimistic model.

Sources, and where we depart from them: see `solver`, `model` and `natural_policy_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.offline.common.data import OfflineConfig
from baselines.offline.common.networks import MemberKey, member_generators
from baselines.offline.common.optimization import MemberAdam, minimize
from baselines.offline.common.replay import MemberRows
from baselines.offline.common.training import MemberLearner
from baselines.offline.morel.actors import Actor
from baselines.offline.morel.model import (
    Model,
    Paths,
    PessimisticModel,
    roll_out,
    standardisation,
)
from baselines.offline.morel.natural_policy_gradient import (
    Baseline,
    draw_visited,
    gather_rows,
    natural_gradient,
    policy_gradient,
    take_step,
    valid_steps,
    whiten,
)
from baselines.offline.planning.dynamics import Objective

_REPORT_EVERY = 50
"""Gradient steps between two reports of progress."""


@dataclass(frozen=True)
class MorelConfig(OfflineConfig):
    """Settings (official code, D4RL hopper-medium, unless said otherwise)."""

    n_models: int = 4
    """Networks of an ensemble."""
    model_hidden_size: int = 512
    """Width of their two hidden layers."""
    model_learning_rate: float = 1e-3
    """Adam's step size for them."""
    batch_size: int = 256
    """Transitions in a gradient step of models, cloning and baseline, drawn with replacement."""
    model_epochs: int = 25
    """Passes over the data."""
    min_model_updates: int = 1000
    """Gradient steps of a model at least: a few hundred transitions are one batch."""
    max_model_updates: int = 4000
    """Gradient steps of a model at most."""
    pessimism: float = 3.0
    """Threshold of an unknown pair: the largest disagreement over the data, divided by this."""
    halt_penalty: float = 1.0
    """How far the reward of HALT is below the lowest of the data (paper: left to the user)."""
    cloning_updates: int = 1000
    """Gradient steps of behaviour cloning, at Adam's step size of 1e-3."""
    policy_hidden_size: int = 64
    """Width of the policy's two hidden layers."""
    iterations: int = 500
    """Steps of the natural policy gradient."""
    n_paths: int = 50
    """Rollouts in an iteration."""
    horizon: int = 500
    """Steps of a rollout; the task's limit of an episode where that is shorter."""
    buffer_fraction: float = 0.5
    """Share of rollouts that start at any observation of the data, not at a first one."""
    gamma: float = 0.999
    """Discount in the model."""
    gae_lambda: float = 0.97
    """Lambda of generalised advantage estimation."""
    step_size: float = 0.02
    """Twice the KL divergence of a step."""
    fisher_rows: int = 2000
    """Visited states over which the Fisher matrix is a mean."""
    conjugate_gradient_iterations: int = 20
    """Fisher-vector products of a step."""
    damping: float = 1e-3
    """Added to the diagonal of the Fisher matrix."""
    baseline_learning_rate: float = 1e-3
    """Adam's step size for the baseline."""
    baseline_updates: int = 40
    """Gradient steps of the baseline in an iteration (code: one pass)."""
    log_std: float = -0.25
    """Initial log standard deviation of continuous actions."""
    min_log_std: float = -1.0
    """Its lower bound."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        at_least_one = ("model_hidden_size", "batch_size", "model_epochs", "min_model_updates")
        check_range(self, 1, math.inf, *at_least_one, "policy_hidden_size", "n_paths", "horizon")
        check_range(self, 1, math.inf, "fisher_rows", "conjugate_gradient_iterations")
        check_range(self, self.min_model_updates, math.inf, "max_model_updates")
        check_range(self, 2, 64, "n_models")
        check_range(self, 0, math.inf, "cloning_updates", "iterations", "baseline_updates")
        check_range(self, 1e-12, 1.0, "model_learning_rate", "baseline_learning_rate", "step_size")
        check_range(self, 1e-12, math.inf, "pessimism", "damping")
        check_range(self, 0.0, math.inf, "halt_penalty")
        check_range(self, 0.0, 1.0, "buffer_fraction", "gamma", "gae_lambda")
        check_range(self, -10.0, 1.0, "min_log_std")
        check_range(self, self.min_log_std, 1.0, "log_std")


class NaturalGradientLearner(MemberLearner):
    """M policies and their baselines, trained in a model: MOReL's last two stages.

    Attributes:
        model: in which policies are rolled out.
        actor: the policies.
        ends: part -> number of updates after which it stays as it is.
    """

    def __init__(
        self,
        model: Model,
        rows: MemberRows,
        config: MorelConfig,
        n_actions: int | None,
        horizon: int,
        keys: Sequence[MemberKey],
        purposes: type[streams.MOReL] | type[streams.PerSim],
        *,
        model_updates: int = 0,
    ) -> None:
        """Draw the networks.

        Args:
            model: of M members.
            rows: of M members: what is cloned, and where paths begin.
            config: the settings.
            n_actions: number of discrete actions; None: actions are vectors in [-1, 1].
            horizon: steps of a path.
            keys: of the members, the first seed's first.
            purposes: of random numbers.
            model_updates: of the model, before the policies'.
        """
        self.model, self.rows, self.config, self.horizon = model, rows, config, horizon
        self.n_seeds = len({seed for seed, _ in keys})
        self.actor = Actor(
            *standardisation(rows.data.observations, rows),
            n_actions or rows.data.actions.shape[-1],
            (config.policy_hidden_size,) * 2,
            member_generators(keys, purposes.ACTOR),
            log_std=None if n_actions else config.log_std,
            min_log_std=config.min_log_std,
        )
        generators = member_generators(keys, purposes.BASELINE)
        self.baseline = Baseline(self.actor, horizon, config.gamma, generators)
        self._actor_adam = MemberAdam(self.actor, 1e-3)
        self._baseline_adam = MemberAdam(self.baseline.network, config.baseline_learning_rate)
        self.parts = {"actor": self._actor_adam, "baseline": self._baseline_adam}
        self.generators = {"policy": member_generators(keys, purposes.POLICY)}
        self.model_updates, n_cloned = model_updates, model_updates + config.cloning_updates
        self.total = n_cloned + config.iterations
        self.ends = {"actor": n_cloned, "baseline": self.total}

    def advance(self) -> dict[str, Tensor]:
        """Make the next gradient step of cloning, or the next iteration."""
        is_cloning = self.done < self.ends["actor"]
        scalars = {"cloning_loss": self._clone()} if is_cloning else self._plan()
        self.done += 1
        return {} if is_cloning and self.done % _REPORT_EVERY else scalars

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by name; with Adam's moments, where more of its steps are to come."""
        return {
            name: tensor
            for name, tensor in super().tensors().items()
            if self.done < self.ends[name.partition(".")[0]]
            or not name.endswith(("exp_avg", "exp_avg_sq"))
        }

    def set_steps(self) -> None:
        """Let each part know how many steps it has made."""
        n_cloned = min(self.done, self.ends["actor"]) - self.model_updates
        n_planned = max(0, self.done - self.ends["actor"])
        self._actor_adam.set_steps(max(0, n_cloned))
        self._baseline_adam.set_steps(n_planned * self.config.baseline_updates)

    def _clone(self) -> Tensor:
        batch = self.rows.draw(self.config.batch_size, self.generators["policy"])
        data = self.rows.data
        losses = self.actor.cloning_loss(data.observations[batch], data.actions[batch])
        minimize(losses.sum(), self._actor_adam)
        return losses

    def _plan(self) -> dict[str, Tensor]:
        """Roll out, take a natural gradient step, and fit the baseline to the returns."""
        config, generators = self.config, self.generators["policy"]
        paths = self.roll_out()
        advantages = self.baseline.advantages(paths, config.gamma, config.gae_lambda)
        advantages = whiten(advantages, valid_steps(paths))
        gradient = policy_gradient(self.actor, paths, advantages)
        visited = draw_visited(paths, config.fisher_rows, generators)
        observations = gather_rows(paths.observations, visited)
        direction = natural_gradient(
            self.actor,
            observations,
            gradient,
            config.damping,
            config.conjugate_gradient_iterations,
        )
        take_step(self.actor, observations, gradient, direction, config.step_size)
        self.baseline.fit(
            paths,
            config.gamma,
            config.batch_size,
            config.baseline_updates,
            self._baseline_adam,
            generators,
        )
        from_start = slice(0, self._n_initial)
        return {
            "halted": paths.halted[:, from_start].float().mean(1),
            "model_return": paths.returns[:, from_start].mean(1),
            "path_length": paths.lengths.float().mean(1),
        }

    @property
    def _n_initial(self) -> int:
        """Paths that start at a first observation."""
        return self.config.n_paths - int(self.config.buffer_fraction * self.config.n_paths)

    def roll_out(self) -> Paths:
        """Roll all policies out; the first paths start at first observations of the data."""
        generators, rows = self.generators["policy"], self.rows
        n_initial = self._n_initial
        n_first = rows.initial.shape[1]
        chosen = torch.stack(
            [torch.randint(n_first, (n_initial,), generator=g) for g in generators]
        )
        first = rows.initial.gather(1, chosen.to(rows.initial.device))
        anywhere = rows.draw(self.config.n_paths - n_initial, generators)
        starts = rows.data.observations[torch.cat((first, anywhere), 1)]
        noise = self.actor.draw_noise(self.horizon, self.config.n_paths, generators)
        return roll_out(self.model, self.actor.act, starts, noise, self.config.gamma)


class MorelLearner(NaturalGradientLearner):
    """The same, with an ensemble for each member, which is trained before its policy."""

    model: PessimisticModel

    def __init__(
        self,
        rows: MemberRows,
        objective: Objective,
        config: MorelConfig,
        n_actions: int | None,
        horizon: int,
        keys: Sequence[MemberKey],
    ) -> None:
        """Draw the networks; arguments as above, and what gives rewards and ends."""
        networks = [
            (seed, index * config.n_models + own)
            for seed, index in keys
            for own in range(config.n_models)
        ]
        model = PessimisticModel(
            rows,
            objective,
            n_actions,
            config.n_models,
            (config.model_hidden_size,) * 2,
            config.halt_penalty,
            member_generators(networks, streams.MOReL.MODEL),
        )
        batches = config.model_epochs * max(count for _, count in rows.ranges) / config.batch_size
        model_updates = int(min(max(batches, config.min_model_updates), config.max_model_updates))
        super().__init__(
            model,
            rows,
            config,
            n_actions,
            horizon,
            keys,
            streams.MOReL,
            model_updates=model_updates,
        )
        self._model_adam = MemberAdam(model.networks, config.model_learning_rate)
        self.parts = {"model": self._model_adam, **self.parts}
        self.ends["model"] = model_updates
        drawn = member_generators(networks, streams.MOReL.MODEL_MINIBATCHES)
        self.generators = {"model": drawn, **self.generators}

    def advance(self) -> dict[str, Tensor]:
        """Make the next gradient step of the model; after these, what follows."""
        if self.done >= self.model_updates:
            return super().advance()
        batch = self.rows.draw(self.config.batch_size, self.generators["model"])
        losses = self.model.loss(batch)
        minimize(losses.sum(), self._model_adam)
        self.done += 1
        if self.done == self.model_updates:
            self.model.measure_threshold(self.config.pessimism)
        each = losses.detach().reshape(-1, self.config.n_models).mean(1)
        return {} if self.done % _REPORT_EVERY else {"loss": each}

    def tensors(self) -> dict[str, Tensor]:
        """The thresholds, too, once they are measured."""
        if self.done < self.model_updates:
            return super().tensors()
        return {"threshold": self.model.threshold, **super().tensors()}

    def set_steps(self) -> None:
        """Let each part know how many steps it has made."""
        super().set_steps()
        self._model_adam.set_steps(min(self.done, self.model_updates))
