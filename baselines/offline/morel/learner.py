"""Training of MOReL: models, behaviour cloning, then planning in the pessimistic model.

Sources, and where we depart from them: see `solver`, `model` and `natural_policy_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common import streams
from baselines.common.divergence import check_finite
from baselines.common.settings import check_range
from baselines.offline.common.data import OfflineConfig
from baselines.offline.common.networks import make_generators
from baselines.offline.common.optimization import MemberAdam, minimize
from baselines.offline.common.stages import TrainingLog
from baselines.offline.morel.actors import Actor
from baselines.offline.morel.model import (
    MemberRows,
    Model,
    Paths,
    PessimisticModel,
    World,
    roll_out,
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
from rmdp_bench.results import Interrupted

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
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range.
        """
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


class Learner:
    """M members in training: an ensemble, a policy and its baseline for each.

    Attributes:
        model: the pessimistic model.
        actor: the policies.
        done: gradient steps and iterations made, of all three stages.
        total: how many there are.
    """

    def __init__(
        self,
        rows: MemberRows,
        world: World,
        config: MorelConfig,
        seeds: Sequence[int],
    ) -> None:
        """Draws the networks.

        Args:
            rows: of M members, the first seed's first.
            world: the rules.
            config: the settings.
            seeds: R; each has M / R members.
        """
        self.rows, self.world, self.config, self.n_seeds = rows, world, config, len(seeds)
        own = len(rows.first) // len(seeds)

        def generators(purpose: int, times: int = 1) -> list[torch.Generator]:
            return [g for seed in seeds for g in make_generators(seed, purpose, own * times)]

        hidden = (config.model_hidden_size,) * 2
        self.model = PessimisticModel(
            rows,
            world,
            config.n_models,
            hidden,
            config.halt_penalty,
            generators(streams.MOReL.MODEL, config.n_models),
        )
        self.actor = Actor(
            self.model.mean,
            self.model.scale,
            world.n_actions or rows.data.actions.shape[-1],
            (config.policy_hidden_size,) * 2,
            generators(streams.MOReL.ACTOR),
            log_std=None if world.n_actions else config.log_std,
            min_log_std=config.min_log_std,
        )
        self.baseline = Baseline(
            self.actor, world.horizon, config.gamma, generators(streams.MOReL.BASELINE)
        )
        self.generators = {
            "model": generators(streams.MOReL.MODEL_MINIBATCHES, config.n_models),
            "policy": generators(streams.MOReL.POLICY),
        }
        self.parts = {
            "model": MemberAdam(self.model.networks, config.model_learning_rate),
            "actor": MemberAdam(self.actor, 1e-3),
            "baseline": MemberAdam(self.baseline.network, config.baseline_learning_rate),
        }
        self.done = 0
        batches = config.model_epochs * int(rows.count.max()) / config.batch_size
        self.model_updates = int(
            min(max(batches, config.min_model_updates), config.max_model_updates)
        )
        self.total = self.model_updates + config.cloning_updates + config.iterations

    def advance(self) -> dict[str, Tensor]:
        """Makes the next gradient step or iteration; scalars (M,) by name."""
        n_before_planning = self.model_updates + self.config.cloning_updates
        if self.done < self.model_updates:
            scalars = {"loss": self._update_model()}
        elif self.done < n_before_planning:
            scalars = {"cloning_loss": self._clone()}
        else:
            scalars = self._plan()
        self.done += 1
        if self.done == self.model_updates:
            self.model.measure_threshold(self.config.pessimism)
        return scalars

    def _update_model(self) -> Tensor:
        batch = self.rows.draw(self.config.batch_size, self.generators["model"])
        losses = self.model.loss(batch)
        minimize(losses.sum(), self.parts["model"])
        return losses.detach().reshape(-1, self.config.n_models).mean(1)

    def _clone(self) -> Tensor:
        batch = self.rows.draw(self.config.batch_size, self.generators["policy"])
        data = self.rows.data
        losses = self.actor.cloning_loss(data.observations[batch], data.actions[batch])
        minimize(losses.sum(), self.parts["actor"])
        return losses.detach()

    def _plan(self) -> dict[str, Tensor]:
        """Rolls out, takes a natural gradient step, and fits the baseline to the returns."""
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
            self.parts["baseline"],
            generators,
        )
        from_start = slice(0, self._n_initial)
        return {
            "halted": paths.halted[:, from_start].float().mean(1),
            "model_return": paths.returns[:, from_start].mean(1),
            "path_length": paths.lengths.float().mean(1),
        }

    @property
    def worlds(self) -> Model:
        """What policies are rolled out in."""
        return self.model

    @property
    def _n_initial(self) -> int:
        """Paths that start at a first observation."""
        return self.config.n_paths - int(self.config.buffer_fraction * self.config.n_paths)

    def roll_out(self) -> Paths:
        """Rolls all policies out; the first paths start at first observations of the data."""
        generators, rows = self.generators["policy"], self.rows
        n_initial = self._n_initial
        n_first = rows.initial.shape[1]
        chosen = torch.stack(
            [torch.randint(n_first, (n_initial,), generator=g) for g in generators]
        )
        first = rows.initial.gather(1, chosen.to(rows.initial.device))
        anywhere = rows.draw(self.config.n_paths - n_initial, generators)
        starts = rows.data.observations[torch.cat((first, anywhere), 1)]
        noise = self.actor.draw_noise(self.world.horizon, self.config.n_paths, generators)
        return roll_out(self.worlds, self.actor.act, starts, noise, self.config.gamma)

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Everything that training needs to continue bit for bit: arrays (R, ...), and JSON."""
        tensors = self.measured_tensors() | self.part_tensors()
        for name, generators in self.generators.items():
            tensors[f"generators.{name}"] = torch.stack([g.get_state() for g in generators])
        arrays = {
            name: tensor.detach().cpu().numpy().reshape(self.n_seeds, -1, *tensor.shape[1:]).copy()
            for name, tensor in tensors.items()
        }
        return arrays, [{"done": self.done} for _ in range(self.n_seeds)]

    def set_state(
        self, arrays: Mapping[str, npt.NDArray[Any]], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restores what `get_state` returned."""
        self.done = int(states[0]["done"])
        past_models = max(0, self.done - self.model_updates)
        planned = max(0, past_models - self.config.cloning_updates)
        n_steps = {
            "model": min(self.done, self.model_updates),
            "actor": min(past_models, self.config.cloning_updates),
            "baseline": planned * self.config.baseline_updates,
        }
        for name, part in self.parts.items():
            part.set_steps(n_steps[name])
        tensors = self.measured_tensors() | self.part_tensors()
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(arrays[name]).reshape(tensor.shape))
        for name, generators in self.generators.items():
            states_of = torch.from_numpy(arrays[f"generators.{name}"]).flatten(0, 1)
            for generator, own in zip(generators, states_of, strict=True):
                generator.set_state(own.clone())  # set_state reads a tensor of its own storage

    def measured_tensors(self) -> dict[str, Tensor]:
        """What the learner cannot compute again without the training before."""
        return {"threshold": self.model.threshold}

    def part_tensors(self) -> dict[str, Tensor]:
        """Parameters by name; with Adam's moments, where more of its steps are to come."""
        finished = {
            "model": self.done >= self.model_updates,
            "actor": self.done >= self.model_updates + self.config.cloning_updates,
            "baseline": self.done >= self.total,
        }
        return {
            f"{name}.{own}": tensor
            for name, part in self.parts.items()
            for own, tensor in part.tensors().items()
            if not (finished[name] and own.endswith(("exp_avg", "exp_avg_sq")))
        }


def train(learner: Learner, log: TrainingLog) -> None:
    """Trains to the end, from a checkpoint if there is one.

    Raises:
        FloatingPointError: training has diverged.
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    resumed = log.load_checkpoint()
    if resumed is not None:
        learner.set_state(*resumed)
    while learner.done < learner.total:
        scalars = learner.advance()
        planning = learner.done > learner.total - learner.config.iterations
        if planning or learner.done % _REPORT_EVERY == 0:
            check_finite(learner.part_tensors().values(), f"{learner.done:,} updates")
            per_seed = {
                name: values.reshape(learner.n_seeds, -1).mean(1).tolist()
                for name, values in scalars.items()
            }
            log.progress(learner.done, per_seed, total=learner.total)
        if log.checkpoint_due() or learner.done == learner.total:
            check_finite(learner.part_tensors().values(), f"{learner.done:,} updates")
            log.save_checkpoint(learner.done, *learner.get_state())
            if log.stop_requested:
                raise Interrupted
