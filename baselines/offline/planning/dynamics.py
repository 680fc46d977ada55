"""One agent's world as a planner sees it: learned or true, one interface.

A plan is a sequence of H actions. Each of the M members of a dynamics (an ensemble, particles)
rolls every plan along a trajectory of its own, and the plan's return is the mean over members.
There is no discount (PerSim, Agarwal et al. 2021, arXiv 2102.06961).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common.threads import one_thread
from rmdp_bench.cores import usable_cores
from rmdp_bench.envs import TransitionFunction, get_environment
from rmdp_bench.evaluation.prediction import N_FORCED
from rmdp_bench.tasks import OfflineTask, Task


@dataclass(frozen=True)
class Objective:
    """What plans are for: functions of torch tensors, the same for all agents.

    Attributes:
        reward: of observations (..., d), actions and next observations: rewards (...).
        terminated: of the same: whether the transition ends the episode. Rewards count until then;
            that of the transition itself does not, as in the paper's code, so that a plan which
            ends with its last step is worse than one that goes on.
        bonus: of next observations (..., d): numbers (...), the greatest of which along the
            trajectory, until it ends, is added to the plan's return once. None: no bonus.
    """

    reward: TransitionFunction
    terminated: TransitionFunction
    bonus: Callable[[Tensor], Tensor] | None = None


def _mountain_car_bonus(next_observations: Tensor) -> Tensor:
    """0.01 times the position, so that plans which do not reach the flag differ in value.

    (The paper's code adds it at each of the H steps; a plan that reaches the flag sooner is better
    in both ways.)
    """
    return 0.01 * next_observations[..., 0]


_BONUSES: dict[str, Callable[[Tensor], Tensor]] = {
    "rmdp/MountainCarHet-n500-v0": _mountain_car_bonus
}


def objective_for(env_id: str) -> Objective:
    """The objective of an environment.

    Raises:
        ValueError: its agents do not share a reward that is known.
    """
    entry = get_environment(env_id)
    if entry.reward_function is None or entry.termination_function is None:
        raise ValueError(
            f"the agents of {env_id} want different things, or their reward is hidden; planners "
            "need one reward function: choose an environment of agents with different dynamics"
        )
    return Objective(entry.reward_function, entry.termination_function, _BONUSES.get(env_id))


def check_reward(task: Task) -> None:
    """Refuse logged data of agents whose reward is not known; an online task is refused as such.

    Raises:
        ValueError: as `objective_for`.
    """
    if isinstance(task, OfflineTask):
        objective_for(task.env_id)


class Dynamics(ABC):
    """One agent's world, as a planner sees it.

    A learned dynamics needs `step` and a few attributes; `evaluate` may be replaced by something
    faster with the same result.

    Attributes:
        n_members: M, trajectories of each plan, over which its return is averaged.
        device: on which all tensors are.
        dtype: of observations and returns.
        stochastic: whether `step` draws; only then it is given a generator.
        chunk_rows: plans that are rolled together, so that what they need stays in the cache.
    """

    n_members: int = 1
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    stochastic: bool = False
    chunk_rows: int = 256

    def begin(self, n_envs: int, seed: int) -> None:
        """Begin E = n_envs new episodes: forgets what `observe` was told.

        Args:
            n_envs: E; environments are called 0 to E - 1 until the next call.
            seed: of the noise of a stochastic dynamics, 0 to 2**63 - 1.
        """
        self._seed, self._n_evaluations = seed, 0

    def observe(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> None:
        """Take note of the real transition that each of the E environments has made.

        Rows of episodes that have ended may hold anything.

        Args:
            observations: (E, d).
            actions: (E,) int64 or (E, a).
            next_observations: (E, d).
        """
        return  # most have no memory

    def join(self, others: Sequence[Dynamics]) -> Dynamics | None:
        """One dynamics for several agents, whose environment g is that of `others[g]`.

        Args:
            others: dynamics of one or more agents, this one first.

        Returns:
            A dynamics without memory and noise, or None: there is none for them.
        """
        return None

    @abstractmethod
    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Roll every member one step on; called without gradients, and from several threads.

        Args:
            states: (M, B, d); in the first step of a plan an expanded view.
            actions: (B,) int64 or (B, a), the same for all members.
            envs: (B,) int64, from 0 to E - 1: whose context counts for the row.
            generator: of the device, for the noise; None unless `stochastic`.

        Returns:
            (M, B, d).
        """

    @torch.no_grad()
    def evaluate(
        self, objective: Objective, observations: Tensor, plans: Tensor, envs: Tensor
    ) -> Tensor:
        """Give the return of every plan, averaged over members.

        Args:
            objective: what counts.
            observations: (A, d), where the plans begin, in A of the E environments.
            plans: (A, S, H) int64 or (A, S, H, a).
            envs: (A,) int64, which environments they are, ascending.

        Returns:
            (A, S); -inf where a return is not a number.
        """
        n_plans = plans.shape[1]
        # A chunk is a part of one environment's plans, or all plans of several environments; of one
        # with noise, so that no environment's noise depends on how many there are.
        n_parts = max(1, math.ceil(n_plans / self.chunk_rows))
        n_together = 1 if self.stochastic else max(1, self.chunk_rows // n_plans)
        chunks = [
            (slice(first, first + n_together), slice(part, None, n_parts))
            for first in range(0, len(plans), n_together)
            for part in range(n_parts)
        ]
        returns = plans.new_empty(plans.shape[:2], dtype=self.dtype)

        def roll(chunk: tuple[slice, slice]) -> None:
            rows, part = chunk
            generator = self._noise(int(envs[rows.start]), part.start) if self.stochastic else None
            returns[chunk] = self._roll(
                objective, observations[rows], plans[chunk], envs[rows], generator
            )

        n_threads = min(usable_cores(), len(chunks)) if self.device.type == "cpu" else 1
        if n_threads == 1:
            for chunk in chunks:
                roll(chunk)
        else:
            with one_thread(), ThreadPoolExecutor(n_threads, "planning") as threads:
                list(threads.map(torch.no_grad()(roll), chunks))
        self._n_evaluations += 1
        return returns

    def _noise(self, env: int, part: int) -> torch.Generator:
        """The generator of one chunk, which no other chunk or evaluation has."""
        return make_generator(self.device, self._seed, self._n_evaluations, env, part)

    def _roll(
        self,
        objective: Objective,
        observations: Tensor,
        plans: Tensor,
        envs: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Returns (A, S) of one chunk; arguments as in `evaluate`."""
        shape = plans.shape[:2]
        plans = plans.flatten(0, 1)  # (B, H, ...)
        envs = envs.repeat_interleave(shape[1])
        states = observations.repeat_interleave(shape[1], dim=0).expand(self.n_members, -1, -1)
        running = states.new_ones(states.shape[:2], dtype=torch.bool)  # (M, B)
        totals = states.new_zeros(states.shape[:2])
        bonuses = torch.full_like(totals, -torch.inf)
        returns, rows = totals[0].clone(), torch.arange(len(plans), device=plans.device)
        for t in range(plans.shape[1]):
            actions = plans[:, t]
            next_states = self.step(states, actions, envs, generator)
            rewards = objective.reward(states, actions, next_states)
            ended = objective.terminated(states, actions, next_states)
            totals += torch.where(running & ~ended, rewards, 0.0)
            if objective.bonus is not None:
                bonus = objective.bonus(next_states)
                bonuses = torch.where(running, torch.maximum(bonuses, bonus), bonuses)
            running &= ~ended
            states = next_states
            if t % 4 == 3 and self.device.type == "cpu":
                # Plans that have ended for every member cost nothing more. (A GPU would have to
                # wait for their number.)
                alive = running.any(0)
                if int(alive.sum()) <= 0.75 * len(alive):
                    returns[rows] = _finish(totals, bonuses, objective)
                    plans, envs, rows = plans[alive], envs[alive], rows[alive]
                    states, running = states[:, alive], running[:, alive]
                    totals, bonuses = totals[:, alive], bonuses[:, alive]
                if not len(rows):
                    break
        returns[rows] = _finish(totals, bonuses, objective)
        return returns.reshape(shape)


def _finish(totals: Tensor, bonuses: Tensor, objective: Objective) -> Tensor:
    """Returns (B,) of rewards and bonuses (M, B)."""
    returns = (totals if objective.bonus is None else totals + bonuses).mean(0)
    return returns.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def make_generator(device: torch.device, *key: int) -> torch.Generator:
    """A generator of a device whose seed is a hash of integers >= 0."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed >> 1)


@torch.no_grad()
@one_thread()
def predict(
    dynamics: Dynamics, observations: NDArray[Any], actions: NDArray[Any]
) -> NDArray[np.floating[Any]]:
    """What `OfflineSolution.predict` asks: open-loop steps with the mean over members.

    Args:
        dynamics: of the agent; told of the first N_FORCED transitions.
        observations: (E, N_FORCED + 1, d).
        actions: (E, N_FORCED + T, ...).

    Returns:
        (E, T, d): after each of the last T actions.
    """
    seen = torch.as_tensor(observations, dtype=dynamics.dtype, device=dynamics.device)
    moves = torch.as_tensor(actions, device=dynamics.device)
    if moves.is_floating_point():
        moves = moves.to(dynamics.dtype)
    n_envs, envs = len(seen), torch.arange(len(seen), device=dynamics.device)
    dynamics.begin(n_envs, 0)
    for t in range(N_FORCED):
        dynamics.observe(seen[:, t], moves[:, t], seen[:, t + 1])
    generator = make_generator(dynamics.device, 0) if dynamics.stochastic else None
    states, predictions = seen[:, N_FORCED], []
    for t in range(N_FORCED, moves.shape[1]):
        members = states.expand(dynamics.n_members, -1, -1)
        states = dynamics.step(members, moves[:, t], envs, generator).mean(0)
        predictions.append(states)
    result: NDArray[np.floating[Any]] = torch.stack(predictions, 1).cpu().numpy()
    return result
