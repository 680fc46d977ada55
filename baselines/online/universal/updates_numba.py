"""The update of a conditioned policy on a CPU, by the compiled loops of `kernels`.

Actor and critic share nothing during an update: each is a job of its own, which runs without
Python's lock, with a BLAS that is kept to one thread. So the numbers do not depend on the cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController
from torch import Tensor

from baselines.online.ppo.actions import Actions
from baselines.online.universal import kernels
from baselines.online.universal.settings import TrainingConfig
from rmdp_bench.cores import usable_cores

import_module("scipy.linalg.cython_blas")  # numba's BLAS: loaded now, so that its threads are found
_LIBRARIES = ThreadpoolController()
ADAM_EPSILON = 1e-5


class Batch(NamedTuple):
    """Transitions of one iteration, M = T E of them and those that are imitated."""

    inputs: Tensor
    """(M, d + f) normalised observations and features."""
    actions: Tensor
    """(M, a)"""
    log_probs: Tensor
    """(M,) when the actions were taken."""
    advantages: Tensor
    """(M,) standardised."""
    targets: Tensor
    """(M,) of the critic."""


def train(
    tensors: Mapping[str, Tensor],
    batch: Batch,
    order: npt.NDArray[np.int64],
    config: TrainingConfig,
    kind: Actions,
    *,
    learning_rate: float,
    entropy: float,
) -> None:
    """Makes a gradient step of actor and critic on every mini-batch.

    Args:
        tensors: parameters and Adam's state of both, changed in place.
        batch: of the CPU, like them.
        order: (mini-batches, B) rows.
        config: gives the bounds and sizes.
        kind: of the actions.
        learning_rate: Adam's step size.
        entropy: weight of the entropy bonus.
    """
    inputs, actions = batch.inputs.numpy(), batch.actions.numpy()
    advantages, log_probs = batch.advantages.numpy(), batch.log_probs.numpy()
    n_steps = int(tensors["actor.step"])
    shared = (n_steps, learning_rate, ADAM_EPSILON, config.max_gradient_norm)

    def train_critic() -> None:
        targets = batch.targets.numpy()
        kernels.train_critic(
            tensors["critic"].numpy(),
            tensors["critic.exp_avg"].numpy(),
            tensors["critic.exp_avg_sq"].numpy(),
            config.hidden_size,
            inputs,
            targets,
            order,
            *shared,
        )

    def train_actor() -> None:
        kernels.train_actor(
            tensors["actor"].numpy(),
            tensors["actor.exp_avg"].numpy(),
            tensors["actor.exp_avg_sq"].numpy(),
            config.hidden_size,
            kind.n_outputs,
            kind.has_log_std,
            inputs,
            actions,
            log_probs,
            advantages,
            order,
            *shared,
            config.clip,
            entropy,
        )

    with (
        _LIBRARIES.limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(min(2, usable_cores()), "update") as threads,
    ):
        for done in [threads.submit(job) for job in (train_critic, train_actor)]:
            done.result()
    for name in ("actor", "critic"):
        tensors[f"{name}.step"].add_(len(order))
