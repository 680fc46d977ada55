"""MOReL: a pessimistic model of the world from logged data, and a policy planned in it.

Kidambi, Rajeswaran, Netrapalli, Joachims, "MOReL: Model-Based Offline Reinforcement Learning",
NeurIPS 2020 (arXiv 2005.05951), algorithm 1; settings of the official code `aravindr93/mjrl`,
projects/morel, example D4RL hopper-medium. Three stages:

  1. an ensemble of models and the region where they are trusted (`pessimistic_model`);
  2. behaviour cloning, from which the policy starts;
  3. natural policy gradient on rollouts in the model (`policy_gradient`).

Nothing here knows of hidden dynamics. scope=population learns one model and one policy from all
trajectories, which serve everybody; scope=agent learns, for each test agent alone, from its one
trajectory. All members (seeds, times agents) are trained as one batch.

Rollouts start, half and half, at first observations of the data and at any observation of it
(`buffer_fraction`, the code's start_state=buffer; its examples use first observations only).
One agent has a single first observation, and in MountainCar no rollout from the start comes to the
goal by chance, while some of the data is near it.

The number of iterations is below the code's 500, and the models are trained for less, so that a
solver takes minutes on a CPU: see `SETTINGS`. The agents' rewards and ends are known functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.offline.data import LoggedData, OfflineConfig, load_data
from baselines.offline.networks import make_generators
from baselines.offline.pessimistic_model import (
    MemberRows,
    Paths,
    PessimisticModel,
    World,
    make_world,
    roll_out,
)
from baselines.offline.policy_gradient import (
    Actor,
    Baseline,
    draw_visited,
    natural_gradient,
    policy_gradient,
    take_step,
    valid_steps,
    whiten,
)
from baselines.settings import check_range
from rmdp_bench import load_dataset
from rmdp_bench.offline import N_FORCED, OfflineSolution
from rmdp_bench.results import Interrupted, RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task

_REPORT_EVERY = 50
"""Updates of a network between two reports of progress."""


@dataclass(frozen=True)
class Config(OfflineConfig):
    """Settings (official code, D4RL hopper-medium, unless said otherwise)."""

    scope: Literal["population", "agent"] = "population"
    """Whether one policy is learned from all data, or one for each test agent from its own."""
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


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "rmdp/CartPoleHet-n500-v0": {"iterations": 200},
    "rmdp/MountainCarHet-n500-v0": {"iterations": 100},
    "rmdp/HalfCheetahHet-n500-v0": {"iterations": 100},
}
"""What an environment replaces."""


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**SETTINGS.get(task.env_id, {}))


def check(task: Task, config: Config) -> None:
    """Refuses a task that is not offline or whose data is not there.

    Raises:
        ValueError: says which.
    """
    if task.track != "offline":
        raise ValueError(f"{task.id} is online; expected an offline task")
    try:
        load_dataset(task)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error


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
        config: Config,
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
            rows, world, config.n_models, hidden, config.halt_penalty,
            generators(0, config.n_models),
        )
        self.actor = Actor(
            self.model.mean,
            self.model.scale,
            world.n_actions or rows.data.actions.shape[-1],
            (config.policy_hidden_size,) * 2,
            generators(1),
            log_std=None if world.n_actions else config.log_std,
            min_log_std=config.min_log_std,
        )
        self.baseline = Baseline(self.actor, world.horizon, config.gamma, generators(2))
        self.generators = {"model": generators(3, config.n_models), "policy": generators(4)}
        self.networks = {
            "model": self.model.networks,
            "actor": self.actor,
            "baseline": self.baseline.network,
        }
        rates = {
            "model": config.model_learning_rate,
            "actor": 1e-3,
            "baseline": config.baseline_learning_rate,
        }
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), lr=rates[name], fused=True)
            for name, network in self.networks.items()
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

    def _descend(self, name: str, losses: Tensor) -> None:
        """One gradient step for the sum of losses."""
        self.optimizers[name].zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()

    def _update_model(self) -> Tensor:
        batch = self.rows.draw(self.config.batch_size, self.generators["model"])
        losses = self.model.loss(batch)
        self._descend("model", losses)
        return losses.detach().unflatten(0, (-1, self.config.n_models)).mean(1)

    def _clone(self) -> Tensor:
        batch = self.rows.draw(self.config.batch_size, self.generators["policy"])
        data = self.rows.data
        losses = self.actor.cloning_loss(data.observations[batch], data.actions[batch])
        self._descend("actor", losses)
        return losses.detach()

    def _plan(self) -> dict[str, Tensor]:
        """Rolls out, takes a natural gradient step, and fits the baseline to the returns."""
        config, generators = self.config, self.generators["policy"]
        paths = self.roll_out()
        advantages = self.baseline.advantages(paths, config.gamma, config.gae_lambda)
        advantages = whiten(advantages, valid_steps(paths))
        gradient = policy_gradient(self.actor, paths, advantages)
        visited = draw_visited(paths, config.fisher_rows, generators)
        direction = natural_gradient(
            self.actor,
            gather_rows(paths.observations, visited),
            gradient,
            config.damping,
            config.conjugate_gradient_iterations,
        )
        take_step(self.actor, gradient, direction, config.step_size)
        self.baseline.fit(
            paths, config.gamma, config.batch_size, config.baseline_updates,
            self.optimizers["baseline"], generators,
        )
        from_start = slice(0, self._n_initial)
        return {
            "halted": paths.halted[:, from_start].float().mean(1),
            "model_return": paths.returns[:, from_start].mean(1),
            "path_length": paths.lengths.float().mean(1),
        }
