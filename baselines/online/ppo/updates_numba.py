"""The updates of `updates` on all cores of a CPU, by the compiled loops of `kernels`.

Actors and critics share nothing during an update, and seeds never do: each seed's actors and each
seed's critics are a job of their own, which runs without Python's lock. Threads that find no other
job left help with critics, head by head: those of a thousand agents are most of an update. A seed
gets the same numbers whoever is trained with it, and on however many cores.

Threads: one for each usable core, each with a BLAS that is kept to one thread. The products of a
mini-batch (64 rows for each representative) are too small to be shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from baselines.online.ppo import kernels
from baselines.online.ppo.actions import Actions
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.losses import StepSettings, Transitions
from baselines.online.ppo.networks import HeadedNetwork
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.cores import usable_cores

import_module("scipy.linalg.cython_blas")  # numba's BLAS: loaded now, so that its threads are found
_LIBRARIES = ThreadpoolController()

SHARED_HEAD_SIZE = 2**15
"""Weights of a head from which threads share a seed's: 512 agents at a width of 64. Those of a
hundred agents take as long as the actors do, so that both cores of two are busy anyway, and a head
is done in the time in which a thread waits for another: on a busy machine twice as slow."""


def run_in_threads(jobs: Sequence[tuple[Callable[[int], None], int]]) -> None:
    """Call functions, each with its number, in threads."""
    with (
        _LIBRARIES.limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(usable_cores(), "updates") as threads,
    ):
        for done in [threads.submit(job, number) for job, number in jobs]:
            done.result()


def count_helpers(k: int, head_size: int) -> int:
    """Threads that may help the one that trains a seed's k critics, of heads of so many numbers."""
    return min(usable_cores(), k) - 1 if head_size >= SHARED_HEAD_SIZE else 0


def estimate_advantages(
    critic: HeadedNetwork,
    batch: CollectedBatch,
    weights: Tensor,
    gamma: float,
    config: PPOConfig,
) -> tuple[Tensor, Tensor]:
    """Marginal advantages (R k, M), standardised, and the critic's targets (R k, T, E, n).

    Args:
        critic: of all representatives; it has one hidden layer.
        batch: whose rewards are overwritten by the targets.
        weights: (R k, n) of the agents (or nodes) in each representative's group.
        gamma: discount.
        config: of the estimates.
    """
    k, hidden_size = critic.n_representatives, critic.parameters["hidden_bias"].shape[-1]
    parameters = critic.rows(critic.flat)
    advantages = np.empty(batch.ended.shape, np.float32)
    truncated, *where = batch.truncations
    final_rows, finals = np.stack(where, axis=1), batch.final_observations.numpy()

    def estimate(policy: int) -> None:
        own = (truncated == policy) & config.bootstrap_time_limits
        kernels.estimate_advantages(
            parameters[policy // k],
            hidden_size,
            k,
            policy % k,
            batch.observations[policy].numpy(),
            batch.last_observations[policy].numpy(),
            finals[own],
            final_rows[own],
            batch.rewards[policy].numpy(),
            batch.ended[policy].numpy(),
            np.ascontiguousarray(weights[policy].numpy()),
            gamma,
            config.gae_lambda,
            advantages[policy],
        )

    run_in_threads([(estimate, policy) for policy in range(len(advantages))])
    advantages = advantages.reshape(len(advantages), -1)
    spread = advantages.std(1, keepdims=True, ddof=1) + np.float32(config.advantage_offset)
    advantages = (advantages - advantages.mean(1, keepdims=True)) / spread
    return torch.from_numpy(advantages), batch.rewards


def train(
    actor: HeadedNetwork,
    critic: HeadedNetwork,
    transitions: Transitions,
    kind: Actions,
    order: npt.NDArray[np.int64],
    settings: StepSettings,
    *,
    bounds_sum: bool = False,
) -> None:
    """Make the steps of `losses.make_step` on every mini-batch, to rounding.

    Args:
        actor: changed in place, like the critic.
        critic: has as many hidden layers.
        transitions: of the CPU.
        kind: of the actions.
        order: (R, mini-batches, B) rows.
        settings: of every step.
        bounds_sum: whether `max_gradient_norm` bounds the sum of the representatives' gradients,
            not each: where there is only one they differ in rounding.
    """
    observations, actions, log_probs, advantages, targets = (
        np.ascontiguousarray(part.numpy()).reshape(len(order), -1, *part.shape[1:])
        for part in transitions
    )
    of_each, of_all = settings.max_gradient_norm, np.inf
    if bounds_sum:
        of_each, of_all = of_all, of_each
    n_layers = 2 if "hidden_weight_2" in actor.parameters else 1
    sizes = (actor.parameters["hidden_bias"].shape[-1], n_layers)
    networks = (actor, critic)
    actors, critics = ([n.rows(flat) for flat in n.tensors.values()] for n in networks)
    n_steps = int(actor.steps)
    adam = (settings.learning_rate, actor.adam_epsilon, of_each, of_all)

    k, n_parameters = critic.n_representatives, critics[0].shape[1]
    n_shared = n_parameters - k * (sizes[0] + 1) * targets.shape[-1]
    scratch = [
        np.empty((len(order), *shape), np.float32)
        for shape in ((n_parameters,), (k, n_shared), (k,))
    ]
    progress = np.zeros((len(order), kernels.N_COUNTERS), np.int64)

    def train_critics(seed: int) -> None:
        parameters, first, second = (part[seed] for part in critics)
        own = (observations[seed], targets[seed], order[seed])
        gradient, own_gradients, clips = (part[seed] for part in scratch)
        work = (gradient, own_gradients, clips, progress[seed])
        kernels.train_critics(parameters, first, second, *sizes, *own, n_steps, *adam, *work)

    def train_actors(seed: int) -> None:
        parameters, first, second = (part[seed] for part in actors)
        outputs = (kind.n_outputs, kind.has_log_std)
        own = (observations[seed], actions[seed], log_probs[seed], advantages[seed], order[seed])
        how = (settings.clip, settings.entropy_coefficient, settings.min_log_std, settings.max_kl)
        kernels.train_actors(
            parameters, first, second, *sizes, *outputs, *own, n_steps, *adam, *how
        )

    # The longer jobs first; then threads without one help with critics that are not done yet.
    helpers = [train_critics] * count_helpers(k, sizes[0] * targets.shape[-1])
    jobs = (train_critics, train_actors, *helpers)
    run_in_threads([(job, seed) for job in jobs for seed in range(len(order))])
    for network, rows in zip(networks, (actors, critics), strict=True):
        for flat, own in zip(network.tensors.values(), rows, strict=True):
            network.set_rows(flat, own)
        network.steps += order.shape[1]
