"""The updates of `updates.Updates` on all cores of a CPU, by the compiled loops of `kernels`.

Actors and critics share nothing during an update, and seeds never do: each seed's actors and each
seed's critics are a job of their own, which runs without Python's lock. So a seed gets the same
numbers whoever is trained with it, and on however many cores.

Threads: one for each usable core, each with a BLAS that is kept to one thread. The products of a
mini-batch (64 rows for each representative) are too small to be shared out.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController
from torch import Tensor

from baselines.online.ppo import kernels
from baselines.online.ppo.assignments import AssignmentRule
from baselines.online.ppo.collection import Batch
from baselines.online.ppo.outcome_critic import group_masses
from baselines.online.ppo.updates import Updates
from rmdp_bench.cores import usable_cores

import_module("scipy.linalg.cython_blas")  # numba's BLAS: loaded now, so that its threads are found


class CompiledUpdates(Updates):
    """See the module's docstring; a rule that moves within an update is served by torch."""

    def __init__(self, *arguments: Any) -> None:
        """Takes what `Updates` takes; the device is the CPU."""
        super().__init__(*arguments)
        self._libraries = ThreadpoolController()

    def apply(
        self, batch: Batch, rule: AssignmentRule, learning_rate: float, entropy: float
    ) -> None:
        """Makes the update of `Updates.apply`, to rounding."""
        if rule.moves_within_update:
            return super().apply(batch, rule, learning_rate, entropy)
        with (
            self._libraries.limit(limits=1, user_api="blas"),
            ThreadPoolExecutor(usable_cores(), "updates") as threads,
        ):
            advantages = self._advantages(batch, rule.assignment, threads)
            self._train(batch, advantages, learning_rate, entropy, threads)

    def _advantages(
        self, batch: Batch, assignment: Tensor, threads: Executor
    ) -> np.ndarray[Any, Any]:
        """Marginal advantages (R k, M) normalised; batch.rewards become the critics' targets."""
        k = self.n_representatives
        critics = self.critic.rows(self.critic.flat)
        weights = self.nodes.of_groups(assignment, group_masses(assignment)).numpy()
        advantages = np.empty(batch.ended.shape, np.float32)
        truncated, *where = batch.truncations
        final_rows, finals = np.stack(where, axis=1), batch.final_observations.numpy()

        def estimate(policy: int) -> None:
            own = (truncated == policy) & self.config.bootstrap_time_limits
            kernels.estimate_advantages(
                critics[policy // k],
                self.config.hidden_size,
                k,
                policy % k,
                batch.observations[policy].numpy(),
                batch.last_observations[policy].numpy(),
                finals[own],
                final_rows[own],
                batch.rewards[policy].numpy(),
                batch.ended[policy].numpy(),
                np.ascontiguousarray(weights[policy]),
                self.gamma,
                self.config.gae_lambda,
                advantages[policy],
            )

        list(threads.map(estimate, range(self.n_policies)))
        advantages = advantages.reshape(self.n_policies, -1)
        scale = advantages.std(1, keepdims=True, ddof=1) + np.float32(self.config.advantage_offset)
        normalized: np.ndarray[Any, Any] = (
            (advantages - advantages.mean(1, keepdims=True)) / scale
        ).reshape(self.n_seeds, k, -1)
        return normalized

    def _train(
        self,
        batch: Batch,
        advantages: np.ndarray[Any, Any],
        learning_rate: float,
        entropy: float,
        threads: Executor,
    ) -> None:
        """Ten epochs of mini-batches."""
        config = self.config

        def by_seed(tensor: Tensor) -> np.ndarray[Any, Any]:
            array: np.ndarray[Any, Any] = tensor.numpy()
            return array.reshape(self.n_seeds, self.n_representatives, config.batch_size, -1)

        observations, actions = by_seed(batch.observations), by_seed(batch.actions)
        targets, log_probs = by_seed(batch.rewards), by_seed(batch.log_probs)[..., 0]
        order = np.concatenate(
            [
                self._draw_order().reshape(self.n_seeds, -1, config.minibatch_size)
                for _ in range(config.n_epochs)
            ],
            axis=1,
        )
        rows = {
            name: {part: network.rows(flat) for part, flat in self._flat_tensors(name).items()}
            for name, network in self._networks.items()
        }
        n_steps = int(self._adam_state("actor")["step"])

        def train_critics(seed: int) -> None:
            parameters, first, second = (part[seed] for part in rows["critic"].values())
            kernels.train_critics(
                parameters,
                first,
                second,
                config.hidden_size,
                observations[seed],
                targets[seed],
                order[seed],
                n_steps,
                learning_rate,
                config.adam_epsilon,
                config.max_gradient_norm,
            )

        def train_actors(seed: int) -> None:
            parameters, first, second = (part[seed] for part in rows["actor"].values())
            kernels.train_actors(
                parameters,
                first,
                second,
                config.hidden_size,
                self.actions.n_outputs,
                self.actions.has_log_std,
                observations[seed],
                actions[seed],
                np.ascontiguousarray(log_probs[seed]),
                advantages[seed],
                order[seed],
                n_steps,
                learning_rate,
                config.adam_epsilon,
                config.max_gradient_norm,
                config.clip,
                entropy,
                config.min_log_std,
                config.max_kl,
            )

        # The longer jobs first.
        jobs = [
            (job, seed) for job in (train_critics, train_actors) for seed in range(self.n_seeds)
        ]
        for done in [threads.submit(job, seed) for job, seed in jobs]:
            done.result()
        for name, network in self._networks.items():
            for part, flat in self._flat_tensors(name).items():
                network.set_rows(flat, rows[name][part])
            self._adam_state(name)["step"].add_(config.gradient_steps)
