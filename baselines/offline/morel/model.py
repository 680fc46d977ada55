"""The pessimistic MDP of MOReL: an ensemble of dynamics models and where it is not to be trusted.

Kidambi, Rajeswaran, Netrapalli, Joachims, "MOReL: Model-Based Offline Reinforcement Learning",
NeurIPS 2020 (arXiv 2005.05951), section 4; official code `aravindr93/mjrl`, projects/morel.

K networks predict the standardised difference of the next observation and this one; they differ in
their initial weights and in the order of their batches. The detector of unknown state-action pairs
(USAD) looks at the largest distance between two of their predictions, and calls a pair unknown if
it exceeds a threshold: the largest distance over the data, divided by the pessimism coefficient.
A step from an unknown pair leads to HALT, an absorbing state whose reward is lower, by a constant,
than the lowest in the data.

M members (agents, seeds) are a leading axis of everything; each has its own ensemble.

Where we depart from the official code, and why:
  - HALT pays its reward for every step that is left of the horizon, discounted, at once: the
    paper's absorbing state. The code adds one constant (0 in its examples) to the last reward,
    which would make halting the goal wherever rewards are negative, as in MountainCar.
  - The pair at which a rollout halts does not earn its own reward: it would be computed from a
    prediction that is not trusted.
  - A path is rolled out by one of the K models, path p by model p mod K. (The code rolls each path
    out once by each model: K times the work.)
  - Inputs and targets are standardised by the standard deviation, as in the paper; the code takes
    the mean absolute deviation. Actions are left as they are: one-hot, or within [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from baselines.offline.common.networks import MemberMLP, action_features, take_members
from baselines.offline.common.replay import MemberRows
from baselines.offline.planning.dynamics import Dynamics, Objective

_SMALLEST_SCALE = 1e-6
"""Floor of a standard deviation: a constant feature stays finite."""
_BLOCK = 2048
"""Rows of data that are predicted at once."""


def standardisation(values: Tensor, rows: MemberRows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (M, 1, d) of `values` (N, d) over each member's rows."""
    parts = [values[rows.of_member(m)] for m in range(len(rows.ranges))]
    mean = torch.stack([part.mean(0, keepdim=True) for part in parts])
    scale = torch.stack([part.std(0, correction=0, keepdim=True) for part in parts])
    return mean, scale.clamp(min=_SMALLEST_SCALE)


class PessimisticModel:
    """The ensembles of M members, their thresholds and the reward of HALT.

    Attributes:
        networks: M * K of them, those of one member beside each other.
        threshold: (M,) disagreement beyond which a pair is unknown; infinite until
            `measure_threshold`.
        halt_reward: (M,) of each step in HALT.
    """

    def __init__(
        self,
        rows: MemberRows,
        objective: Objective,
        n_actions: int | None,
        n_models: int,
        hidden_sizes: Sequence[int],
        halt_penalty: float,
        generators: Sequence[torch.Generator],
    ) -> None:
        """Draw the networks.

        Args:
            rows: the members' data.
            objective: gives rewards and ends.
            n_actions: number of discrete actions; None: actions are vectors in [-1, 1].
            n_models: K, at least 2.
            hidden_sizes: of every network.
            halt_penalty: how far the reward of HALT is below the lowest in a member's data.
            generators: M * K.
        """
        data = rows.data
        self.rows, self.objective, self.n_models = rows, objective, n_models
        self.n_actions = n_actions
        n_features = data.observations.shape[1]
        n_inputs = n_features + (n_actions or data.actions.shape[-1])
        device = data.observations.device
        sizes = (n_inputs, *hidden_sizes, n_features)
        self.networks = MemberMLP(sizes, generators).to(device)
        self.mean, self.scale = standardisation(data.observations, rows)
        differences = data.next_observations - data.observations
        self.difference_mean, self.difference_scale = standardisation(differences, rows)
        self.threshold = torch.full((len(rows.ranges),), torch.inf, device=device)
        lowest = [data.rewards[rows.of_member(m)].amin() for m in range(len(rows.ranges))]
        self.halt_reward = torch.stack(lowest) - halt_penalty
        first, second = torch.triu_indices(n_models, n_models, 1)
        self._pairs = first.to(device), second.to(device)

    def loss(self, batch: Tensor) -> Tensor:
        """(M * K,) mean squared errors of the standardised differences in rows (M * K, B)."""
        data = self.rows.data
        observations = data.observations[batch]
        inputs = (observations - self._each(self.mean)) / self._each(self.scale)
        actions = action_features(data.actions[batch], self.n_actions)
        outputs = self.networks(torch.cat((inputs, actions), -1))
        differences = data.next_observations[batch] - observations
        targets = (differences - self._each(self.difference_mean)) / self._each(
            self.difference_scale
        )
        errors: Tensor = (outputs - targets).square().mean((1, 2))
        return errors

    def predict(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(M, K, B, d) next observations by each model, at observations (M, B, d)."""
        inputs = (observations - self.mean) / self.scale
        features = action_features(actions, self.n_actions)
        rows = torch.cat((inputs, features), -1).repeat_interleave(self.n_models, 0)
        outputs: Tensor = self.networks(rows)
        differences = outputs.unflatten(0, (-1, self.n_models)) * self.difference_scale.unsqueeze(1)
        following: Tensor = observations.unsqueeze(1) + (
            differences + self.difference_mean.unsqueeze(1)
        )
        return following

    def disagreement(self, predictions: Tensor) -> Tensor:
        """(M, B) largest distance between two of the predictions (M, K, B, d)."""
        first, second = self._pairs
        apart = predictions[:, first] - predictions[:, second]
        largest: Tensor = torch.linalg.vector_norm(apart, dim=-1).amax(1)
        return largest

    @torch.no_grad()
    def measure_threshold(self, pessimism: float) -> None:
        """Set the threshold to the largest disagreement over the data, divided by `pessimism`."""
        largest = torch.zeros_like(self.threshold)
        data = self.rows.data
        for block in self.rows.blocks(_BLOCK):
            predictions = self.predict(data.observations[block], data.actions[block])
            largest = torch.maximum(largest, self.disagreement(predictions).amax(1))
        self.threshold = largest / pessimism

    def step(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Make one step of P paths of each member: next observations (M, P, d), and who is in HALT.

        Path p is continued by model p mod K.

        Args:
            observations: (M, P, d).
            actions: (M, P) or (M, P, a).
        """
        predictions = self.predict(observations, actions)
        unknown = self.disagreement(predictions) > self.threshold.unsqueeze(1)
        path = torch.arange(observations.shape[1], device=observations.device)
        return predictions[:, path % self.n_models, path], unknown

    def _each(self, values: Tensor) -> Tensor:
        """(M * K, ...) of what every member has once."""
        return values.repeat_interleave(self.n_models, 0)


class MemberDynamics(Dynamics):
    """One member's ensemble, each of whose models goes its own way."""

    def __init__(self, model: PessimisticModel, member: int) -> None:
        """Copy the networks of a member of a trained model."""
        k, one = model.n_models, slice(member, member + 1)
        self.n_members, self.device, self._n_actions = k, model.threshold.device, model.n_actions
        self._networks = take_members(model.networks, slice(member * k, (member + 1) * k))
        self._mean, self._scale = model.mean[one], model.scale[one]
        self._difference = model.difference_mean[one], model.difference_scale[one]

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Roll every model one step on."""
        features = action_features(actions, self._n_actions).expand(len(states), -1, -1)
        rows = torch.cat(((states - self._mean) / self._scale, features), -1)
        mean, scale = self._difference
        following: Tensor = states + (self._networks(rows) * scale + mean)
        return following


class Model(Protocol):
    """What a rollout asks of a model."""

    objective: Objective
    halt_reward: Tensor

    def step(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Next observations (M, P, d) and unknown (M, P)."""


@dataclass(frozen=True)
class Paths:
    """P rollouts of M members over a horizon H, padded after their ends.

    Attributes:
        observations: (M, P, H, d).
        actions: (M, P, H) or (M, P, H, a).
        rewards: (M, P, H), the last of a halted path is what HALT pays; 0 after the end.
        lengths: (M, P) steps, at least 1.
        halted: (M, P) bool.
        returns: (M, P) undiscounted sums of rewards, without what HALT pays.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    lengths: Tensor
    halted: Tensor
    returns: Tensor


@torch.no_grad()
def roll_out(
    model: Model,
    act: Callable[[Tensor, Tensor], Tensor],
    starts: Tensor,
    noise: Tensor,
    gamma: float,
) -> Paths:
    """Roll all paths of all members out, one batched step after another.

    Args:
        model: of M members.
        act: actions at observations (M, P, d) with noise (M, P, o); vectors are clipped to [-1, 1]
            where they are applied, but kept as they are.
        starts: (M, P, d).
        noise: (H, M, P, o); H is the horizon.
        gamma: discount, for what HALT pays.
    """
    objective, horizon = model.objective, len(noise)
    steps_left = horizon - torch.arange(horizon, device=starts.device)
    halt_pays = model.halt_reward * torch.cumsum(
        gamma ** torch.arange(horizon, device=starts.device), 0
    )[steps_left - 1].unsqueeze(1)  # (H, M)
    observations = starts
    alive = torch.ones(starts.shape[:2], dtype=torch.bool, device=starts.device)
    halted = torch.zeros_like(alive)
    all_observations = starts.new_zeros(*starts.shape[:2], horizon, starts.shape[2])
    all_actions: Tensor | None = None
    rewards, earned = starts.new_zeros(2, *starts.shape[:2], horizon)
    lengths = torch.zeros_like(alive, dtype=torch.int64)
    for t in range(horizon):
        actions = act(observations, noise[t])
        if all_actions is None:
            shape = (*starts.shape[:2], horizon, *actions.shape[2:])
            all_actions = torch.zeros(shape, dtype=actions.dtype, device=actions.device)
        all_observations[:, :, t], all_actions[:, :, t] = observations, actions
        applied = actions.clamp(-1.0, 1.0) if actions.is_floating_point() else actions
        following, unknown = model.step(observations, applied)
        halts = alive & unknown
        reward = objective.reward(observations, applied, following)
        earned[:, :, t] = torch.where(alive & ~unknown, reward, 0.0)
        rewards[:, :, t] = torch.where(halts, halt_pays[t].unsqueeze(1), earned[:, :, t])
        lengths += alive
        halted |= halts
        alive = alive & ~unknown & ~objective.terminated(observations, applied, following)
        observations = torch.where(alive.unsqueeze(2), following, observations)
        if not alive.any():
            break
    assert all_actions is not None
    return Paths(all_observations, all_actions, rewards, lengths, halted, earned.sum(2))
