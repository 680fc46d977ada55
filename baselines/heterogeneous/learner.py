"""PPO for all k representatives at once, from the clinic's controllers on.

A policy multiplies what a tuned controller gives: basal rate and bolus times the exponential of an
action within +-3, which a network of two layers draws from a normal distribution (Schulman et al.
2017). It starts as the controller itself.

k networks are one stack of matrices, (k, inputs, outputs), and learn side by side: representative j
acts in its own row of a block of copies of the world, (k, copies), with patients that the caller
chooses for every episode. So k = 100 representatives, one for each patient, are one training and
not a hundred. Gradients, their clipping and Adam's moments are each network's own; only the critic
is shared. It is not needed later, and sees who the patient is and whose policy it judges, which the
policy does not.

What is learned from is minus the risk, at most 100, over 20. A hundred steps of it, which gamma =
0.99 comes to, are the critic's unit, and what it predicts at first is that everybody goes on as in
the first segment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from baselines.common.divergence import check_finite
from baselines.common.settings import check_range
from baselines.heterogeneous.controllers import BasalBolus, bolus_of
from baselines.heterogeneous.policies import (
    GREATEST_ACTION,
    N_FEATURES,
    NETWORK,
    LearnedPolicy,
    features,
)
from rmdp_bench.envs.glucose.boluses import MAX_BASAL, MAX_BOLUS
from rmdp_bench.tasks import OnlineTask

EPISODE_STEPS = 864
RISK_SCALE, MAX_RISK = 20.0, 100.0
"""A reward in training is minus the risk, at most 100, over 20."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class PPOSettings:
    """Settings of the learner."""

    n_copies: int = 400
    """Patients who live side by side, as many with each representative; one each at least."""
    segment: int = 96
    """Steps of each copy to an update; divides the 864 of an episode."""
    n_epochs: int = 2
    """Passes over the steps of an update."""
    n_minibatches: int = 16
    """Gradient steps of a pass."""
    learning_rate: float = 5e-3
    """Adam's step size; it falls to nothing in a line."""
    hidden_size: int = 32
    """Units of each of the two layers."""
    gae_lambda: float = 0.98
    """Decay of the generalised advantage estimate."""
    clip: float = 0.2
    """Of the ratio of probabilities."""
    max_gradient_norm: float = 0.5
    """Bound of the Euclidean norm of each network's gradient."""
    initial_log_std: float = 0.0
    """Of the actions' normal distribution."""

    def __post_init__(self) -> None:
        """Refuse values that are out of range.

        Raises:
            ValueError: names the value and the range.
        """
        check_range(self, 0.0, 1.0, "gae_lambda", "clip")
        check_range(self, 1, 10**6, "n_copies", "n_epochs", "n_minibatches", "hidden_size")
        if not 1 <= self.segment <= EPISODE_STEPS or EPISODE_STEPS % self.segment:
            raise ValueError(f"segment is {self.segment}, expected a divisor of {EPISODE_STEPS}")

    def copies_each(self, n_representatives: int) -> int:
        """Copies of the world in which each of k representatives acts."""
        return max(1, self.n_copies // n_representatives)

    def n_segments(self, n_representatives: int, transitions: int) -> int:
        """Updates that transitions per policy are enough for."""
        return transitions // (self.copies_each(n_representatives) * self.segment)


class Learner:
    """k policies in training.

    Attributes:
        n_representatives: k.
        n_copies: with each of them.
        n_made: updates so far.
        n_planned: updates in all, which the learning rate falls over.
    """

    def __init__(
        self,
        task: OnlineTask,
        controllers: Sequence[BasalBolus],
        settings: PPOSettings,
        *,
        n_planned: int,
        seed: int,
        n_conditions: int = 0,
    ) -> None:
        """Start every policy as its controller.

        Args:
            task: of the glucose world; gives gamma and the number of patients.
            controllers: k of them.
            settings: of the learner.
            n_planned: updates.
            seed: of everything random.
            n_conditions: q, numbers beside the observation that a policy is told.
        """
        self.task, self.settings, self.controllers = task, settings, list(controllers)
        self.n_representatives, self.n_planned, self.n_made = len(controllers), n_planned, 0
        self.n_copies = settings.copies_each(self.n_representatives)
        self.rng = np.random.default_rng([seed, self.n_representatives])
        self._generator = torch.Generator().manual_seed(seed)
        self._envs: Any = None
        self._observations: FloatArray | None = None
        k, hidden, n = self.n_representatives, settings.hidden_size, task.n_agents
        n_inputs = N_FEATURES + n_conditions
        self.actor = self._layers(k, n_inputs, hidden, 2) | {
            "log_std": torch.full((k, 1, 2), settings.initial_log_std)
        }
        self.actor["weight_3"].zero_()
        self.critic = self._layers(1, n_inputs, hidden, 1) | {
            "agent": torch.zeros(n, hidden),
            "representative": torch.zeros(k, hidden),
            "level": torch.zeros(n, 1),
        }
        for tensor in (*self.actor.values(), *self.critic.values()):
            tensor.requires_grad_()
        self._optimizer = torch.optim.Adam([*self.actor.values(), *self.critic.values()])

    def _layers(self, k: int, n_inputs: int, hidden: int, n_out: int) -> dict[str, torch.Tensor]:
        """Stacks of three layers; uniform weights of unit gain, as torch's, and no bias."""
        layers = {}
        sizes = ((n_inputs, hidden), (hidden, hidden), (hidden, n_out))
        for number, (rows, columns) in enumerate(sizes, 1):
            bound = math.sqrt(3.0 / rows) if number < 3 else 0.1 / math.sqrt(rows)
            weight = torch.rand((k, rows, columns), generator=self._generator) * 2.0 - 1.0
            layers[f"weight_{number}"] = weight * bound
            layers[f"bias_{number}"] = torch.zeros(k, 1, columns)
        return layers

    @contextmanager
    def worlds(self) -> Iterator[None]:
        """Open the copies of the world; they are closed whatever happens."""
        n = self.n_representatives * self.n_copies
        self._envs = gym.make_vec(self.task.env_id, num_envs=n, autoreset_mode="DISABLED")
        try:
            yield
        finally:
            self._envs.close()
            self._envs, self._observations = None, None

    def begin(
        self,
        agents: NDArray[np.intp],
        *,
        controllers: Sequence[BasalBolus] | None = None,
        conditions: NDArray[Any] | None = None,
    ) -> None:
        """Begin an episode in every copy.

        Args:
            agents: (k, copies) who lives where.
            controllers: k * copies of them, if they are not the representatives' own.
            conditions: (k, copies, q) that the policies are told; None: nothing.
        """
        k, m = agents.shape
        seeds = self.rng.integers(2**31, size=k * m).tolist()
        options = {"agent": agents.ravel()}
        self._observations, _ = self._envs.reset(seed=seeds, options=options)
        self._agents = torch.from_numpy(np.ascontiguousarray(agents.ravel()))
        if controllers is None:
            controllers = [own for own in self.controllers for _ in range(m)]
        gains = [(own.basal, 1.0 / own.carbohydrate_ratio) for own in controllers]
        self._gains = torch.tensor(gains, dtype=torch.float32)
        self._conditions = None
        if conditions is not None:
            self._conditions = torch.from_numpy(conditions.astype(np.float32))
        self.returns = np.zeros((k, m))

    def advance(self) -> float:
        """Act for a segment in every copy, and update; give the mean risk of a step.

        `returns` (k, copies) gain what the patients had. It is up to the caller to begin the next
        episode after 864 steps.

        Raises:
            FloatingPointError: training has diverged.
        """
        k, m, length = self.n_representatives, self.n_copies, self.settings.segment
        inputs = torch.empty(length, k, m, self.actor["weight_1"].shape[1])
        actions, noise = torch.empty(length, k, m, 2), torch.empty(length, k, m, 2)
        rewards, values = torch.empty(length, k * m), torch.empty(length + 1, k * m)
        std = self.actor["log_std"].detach().exp()
        with torch.no_grad():
            for t in range(length + 1):
                observation = torch.from_numpy(self._observations)
                row = self._inputs(observation)
                values[t] = self._value(row.view(k * m, -1), self._agents, m)
                if t == length:
                    break
                inputs[t] = row
                noise[t].normal_(generator=self._generator)
                actions[t] = self._means(row) + std * noise[t]
                doses = self._doses(observation, actions[t].view(k * m, 2))
                self._observations, reward, *_ = self._envs.step(doses)
                rewards[t] = torch.from_numpy(reward)
                self.returns += reward.reshape(k, m)
        # An episode is cut off, not over: what follows it is worth what the critic says.
        advantages = _advantages(
            rewards.clip(min=-MAX_RISK) / RISK_SCALE,
            *(values, self.task.gamma, self.settings.gae_lambda),
        )
        if self.n_made == 0:
            self._set_level(rewards)
        log_probability = _log_density(noise, self.actor["log_std"].detach())
        self._update(inputs, actions, log_probability, advantages, advantages + values[:-1])
        self.n_made += 1
        networks = list(self.actor.values())
        check_finite(networks, f"{self.transitions:,} transitions per policy")
        return -float(rewards.mean())

    @property
    def transitions(self) -> int:
        """Steps that each representative has made."""
        return self.n_made * self.n_copies * self.settings.segment

    def get_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that training goes on from after an episode: arrays, and JSON."""
        arrays: dict[str, NDArray[Any]] = {
            "generator": self._generator.get_state().numpy(),
            "n_made": np.asarray(self.n_made),
        }
        for tensor, name in self._named():
            moments = self._optimizer.state[tensor]
            for moment in ("exp_avg", "exp_avg_sq", "step"):
                arrays[f"{name}.{moment}"] = moments[moment].numpy().copy()
            arrays[name] = tensor.detach().numpy().copy()
        return arrays, {"rng": self.rng.bit_generator.state}

    def set_state(self, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Restore what `get_state` gave."""
        self.n_made = int(arrays["n_made"])
        self._generator.set_state(torch.from_numpy(arrays["generator"].copy()))
        self.rng.bit_generator.state = state["rng"]
        for tensor, name in self._named():
            tensor.data.copy_(torch.from_numpy(arrays[name]))
            self._optimizer.state[tensor] = {
                moment: torch.from_numpy(np.array(arrays[f"{name}.{moment}"]))
                for moment in ("exp_avg", "exp_avg_sq", "step")
            }

    def _named(self) -> list[tuple[torch.Tensor, str]]:
        """What is learned, with names."""
        networks = {"actor": self.actor, "critic": self.critic}
        return [
            (tensor, f"{network}.{name}")
            for network, layers in networks.items()
            for name, tensor in layers.items()
        ]

    def policies(self) -> list[LearnedPolicy]:
        """The representatives as they are."""
        return [self.policy(j, controller) for j, controller in enumerate(self.controllers)]

    def policy(
        self, j: int, controller: BasalBolus, condition: NDArray[Any] | None = None
    ) -> LearnedPolicy:
        """Representative j around a controller, told a condition (q,) or nothing."""
        arrays = {name: self.actor[name][j].detach().numpy().copy() for name in NETWORK}
        if condition is not None:
            told = arrays["weight_1"][N_FEATURES:]
            arrays["weight_1"] = arrays["weight_1"][:N_FEATURES].copy()
            arrays["bias_1"] = arrays["bias_1"] + condition.astype(np.float32) @ told
        return LearnedPolicy(controller.basal, 1.0 / controller.carbohydrate_ratio, **arrays)

    def _inputs(self, observation: torch.Tensor) -> torch.Tensor:
        """What policies see of observations (E, 7), with their conditions, (k, copies, d)."""
        rows: torch.Tensor = features(observation)
        rows = rows.view(self.n_representatives, self.n_copies, -1)
        return rows if self._conditions is None else torch.cat((rows, self._conditions), dim=2)

    def _means(self, inputs: torch.Tensor) -> torch.Tensor:
        """Means of the distributions of actions, (..., k, B, 2), at inputs (..., k, B, d)."""
        return _forward(self.actor, inputs)

    def _doses(self, observation: torch.Tensor, action: torch.Tensor) -> FloatArray:
        """Basal rates, U/h, and boluses, U, (E, 2), that actions (E, 2) stand for."""
        factor = action.clip(-GREATEST_ACTION, GREATEST_ACTION).exp()
        doses = factor * self._gains
        doses[:, 0].clip_(0.0, MAX_BASAL)
        doses[:, 1] = (doses[:, 1] * bolus_of(observation, 1.0)).clip_(0.0, MAX_BOLUS)
        return doses.numpy()

    def _value(self, rows: torch.Tensor, agents: torch.Tensor, n_each: int) -> torch.Tensor:
        """Values (B,) of rows (B, d), in which each representative has n_each that follow."""
        critic = self.critic
        who = critic["representative"].repeat_interleave(n_each, dim=0) + critic["agent"][agents]
        value = _forward(critic, rows, who)[0] + critic["level"][agents]
        return value.squeeze(1) / (1.0 - self.task.gamma)

    def _set_level(self, rewards: torch.Tensor) -> None:
        """Let the critic expect that everybody goes on as in rewards (T, E)."""
        means = rewards.clip(min=-MAX_RISK).mean(dim=0, keepdim=True).T / RISK_SCALE
        n = self.task.n_agents
        counts = torch.zeros(n, 1).index_add_(0, self._agents, torch.ones_like(means))
        sums = torch.zeros(n, 1).index_add_(0, self._agents, means)
        with torch.no_grad():
            level = torch.where(counts > 0, sums / counts.clip(min=1.0), means.mean())
            self.critic["level"].copy_(level)

    def _update(
        self,
        inputs: torch.Tensor,
        actions: torch.Tensor,
        log_probabilities: torch.Tensor,
        advantages: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Clipped steps on a segment (T, k, m, ...), in mini-batches of the same rows of each."""
        settings, k, m = self.settings, self.n_representatives, self.n_copies
        n_steps = len(inputs)
        n_rows = n_steps * m

        def by_representative(values: torch.Tensor) -> torch.Tensor:
            return values.view(n_steps, k, m, -1).transpose(0, 1).reshape(k, n_rows, -1)

        inputs, actions = by_representative(inputs), by_representative(actions)
        log_probabilities = by_representative(log_probabilities)
        targets = by_representative(targets)
        agents = self._agents.view(k, m).repeat(1, n_steps)
        advantages = _normalise(by_representative(advantages))
        share = 1.0 - self.n_made / max(1, self.n_planned)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * share
        size = max(1, n_rows // settings.n_minibatches)
        unit = 1.0 / (1.0 - self.task.gamma)
        for _ in range(settings.n_epochs):
            order = torch.randperm(n_rows, generator=self._generator)
            for rows in order.split(size):
                if len(rows) < size:  # the odd rest
                    continue
                given, log_std = inputs[:, rows], self.actor["log_std"]
                scaled = (actions[:, rows] - self._means(given)) / log_std.exp()
                ratio = (_log_density(scaled, log_std) - log_probabilities[:, rows]).exp()
                clipped = ratio.clip(1.0 - settings.clip, 1.0 + settings.clip)
                own = advantages[:, rows]
                gain = torch.minimum(ratio * own, clipped * own)
                found = self._value(given.reshape(k * size, -1), agents[:, rows].ravel(), size)
                error = (found - targets[:, rows].ravel()) / unit
                loss = error.square().mean() - gain.sum() / size
                self._optimizer.zero_grad()
                loss.backward()
                self._clip_gradients()
                self._optimizer.step()

    def _clip_gradients(self) -> None:
        """Bound each network's gradient by its own norm."""
        bound = self.settings.max_gradient_norm
        for network, n in ((self.actor, self.n_representatives), (self.critic, 1)):
            gradients = [tensor.grad for tensor in network.values() if tensor.grad is not None]
            squares = torch.stack([g.view(n, -1).square().sum(dim=1) for g in gradients])
            factor = (bound / (squares.sum(dim=0).sqrt() + 1e-6)).clip(max=1.0)
            for gradient in gradients:
                gradient.view(n, -1).mul_(factor[:, None])


def _forward(
    layers: Mapping[str, torch.Tensor], rows: torch.Tensor, first: torch.Tensor | None = None
) -> torch.Tensor:
    """Outputs (k, B, o) for rows (k, B, d); `first` (B, h) is added before the first tanh."""
    hidden = torch.matmul(rows, layers["weight_1"]) + layers["bias_1"]
    hidden = torch.tanh(hidden if first is None else hidden + first)
    hidden = torch.tanh(torch.matmul(hidden, layers["weight_2"]) + layers["bias_2"])
    return torch.matmul(hidden, layers["weight_3"]) + layers["bias_3"]


def _log_density(scaled: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Log-density (..., 1) of actions whose standardised values are (..., 2)."""
    terms = -0.5 * scaled.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    return terms.sum(dim=-1, keepdim=True)


def _advantages(
    rewards: torch.Tensor, values: torch.Tensor, gamma: float, lambda_: float
) -> torch.Tensor:
    """Generalised advantage estimates (T, E) of rewards (T, E) and values (T + 1, E)."""
    advantages = torch.empty_like(rewards)
    errors = rewards + gamma * values[1:] - values[:-1]
    advantage = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        advantage = errors[t] + gamma * lambda_ * advantage
        advantages[t] = advantage
    return advantages


def _normalise(advantages: torch.Tensor) -> torch.Tensor:
    """Advantages (k, B, 1), with mean 0 and spread 1 for each representative."""
    centred = advantages - advantages.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + 1e-8)
