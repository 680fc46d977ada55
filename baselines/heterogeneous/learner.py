"""PPO for one group of patients, from the clinic's controller on.

The policy multiplies what its group's tuned controller gives: basal rate and bolus times the
exponential of an action within +-3, which a network of two layers draws from a normal distribution
(Schulman et al. 2017). It starts as the controller itself. The critic, which is not needed later,
sees who the patient is; the policy does not. Gradients are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from baselines.heterogeneous.controllers import ENVIRONMENT, MAX_BOLUS, BasalBolus, bolus_of
from rmdp_bench import export_policy
from rmdp_bench.tasks import OnlineTask

GREATEST_ACTION = 3.0
"""Doses are at most e^3 = 20 times the controller's, and at least a twentieth."""
MAX_BASAL = 6.0
"""What the pump accepts, U/h."""
CENTRES = (130.0, 0.0, 5.0, 0.0, 120.0, 0.0, 0.0)
SCALES = (50.0, 2.0, 5.0, 50.0, 120.0, 1.0, 1.0)
"""Of the components of an observation, roughly their mean and spread."""
RISK_SCALE, MAX_RISK = 20.0, 100.0
"""A reward in training is minus the risk, at most 100, over 20."""


@dataclass(frozen=True)
class PPOSettings:
    """Settings of the learner."""

    n_copies: int = 800
    """Patients who live side by side, drawn from the group anew for each episode."""
    segment: int = 96
    """Steps of each copy to an update; divides the 864 of an episode."""
    n_epochs: int = 4
    """Passes over the steps of an update."""
    minibatch_size: int = 4096
    """Steps in a gradient step."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    hidden_size: int = 128
    """Units of each of the two layers."""
    gae_lambda: float = 0.95
    """Decay of the generalised advantage estimate."""
    clip: float = 0.2
    """Of the ratio of probabilities."""
    value_weight: float = 0.5
    """Of the critic's loss beside the actor's."""
    max_gradient_norm: float = 0.5
    """Bound of the gradient's Euclidean norm."""
    initial_log_std: float = -1.0
    """Of the actions' normal distribution."""


class Actor(nn.Module):
    """Actions (E, 2) of a policy around a controller."""

    def __init__(self, controller: BasalBolus, hidden_size: int) -> None:
        """Start as the controller itself."""
        super().__init__()
        self.basal, self.per_gram = controller.basal, 1.0 / controller.carbohydrate_ratio
        self.body = _layers(len(CENTRES), hidden_size, 2)
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def mean(self, observation: torch.Tensor) -> torch.Tensor:
        """Mean of the normal distribution of actions, (E, 2)."""
        mean: torch.Tensor = self.body(features(observation))
        return mean

    def doses(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Basal rates, U/h, and boluses, U, (E, 2), that actions (E, 2) stand for."""
        factor = action.clip(-GREATEST_ACTION, GREATEST_ACTION).exp()
        basal = (self.basal * factor[:, 0]).clip(0.0, MAX_BASAL)
        bolus = (bolus_of(observation, self.per_gram) * factor[:, 1]).clip(0.0, MAX_BOLUS)
        return torch.stack((basal, bolus), dim=1)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Doses of the most likely actions."""
        return self.doses(observation, self.mean(observation))


class LearnedPolicy:
    """An actor that gives its most likely doses."""

    def __init__(self, actor: Actor) -> None:
        """Keep the actor."""
        self.actor = actor

    def reset(self, n_envs: int) -> None:
        """Nothing to do: it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Basal rate (U/h) and bolus (U), (E, 2)."""
        with torch.no_grad():
            doses = self.actor(torch.from_numpy(np.ascontiguousarray(observations, np.float32)))
        actions: NDArray[np.float32] = doses.numpy()
        return actions

    def to_onnx(self) -> bytes:
        """The same as a file."""
        env = gym.make(ENVIRONMENT)
        policy = export_policy(self.actor, env.observation_space, env.action_space)
        exported: bytes = policy.to_onnx()
        return exported


def features(observation: torch.Tensor) -> torch.Tensor:
    """What networks see of observations (E, 7)."""
    return (observation - torch.tensor(CENTRES)) / torch.tensor(SCALES)


def learn(
    task: OnlineTask,
    controller: BasalBolus,
    patients: Sequence[int],
    settings: PPOSettings,
    *,
    n_steps: int,
    seed: int,
    report: Callable[[int, float], None],
) -> LearnedPolicy:
    """Improve a controller for some patients.

    Args:
        task: of the glucose world; gives gamma and the length of an episode.
        controller: to start from.
        patients: who draws episodes, evenly.
        settings: of the learner.
        n_steps: environment steps; whole segments of all copies are made, so many as fit.
        seed: of everything random.
        report: called after each update with steps made and the mean risk of a step in it.

    Returns:
        The policy after the last update.
    """
    torch_generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng([seed, len(patients)])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # no GPU's, which is not restored
        actor = Actor(controller, settings.hidden_size)
        critic = _layers(len(CENTRES) + len(patients), settings.hidden_size, 1)
    log_std = nn.Parameter(torch.full((2,), settings.initial_log_std))
    parameters = [*actor.parameters(), *critic.parameters(), log_std]
    optimizer = torch.optim.Adam(parameters, settings.learning_rate)
    n, length = settings.n_copies, settings.segment
    envs: Any = gym.make_vec(task.env_id, num_envs=n, autoreset_mode="DISABLED")
    made, places, observations = 0, np.arange(n), None
    while made + n * length <= n_steps:
        if observations is None:
            # Everybody as often as the others, to one; the rest is drawn.
            places = rng.permutation(np.arange(n) % len(patients))
            options = {"agent": np.asarray(patients)[places]}
            observations, _ = envs.reset(seed=rng.integers(2**31, size=n).tolist(), options=options)
            who = nn.functional.one_hot(torch.from_numpy(places), len(patients)).float()
        seen, taken, log_probabilities, rewards, values = [], [], [], [], []
        ended = np.zeros(n, np.bool_)
        with torch.no_grad():
            for _ in range(length):
                observation = torch.from_numpy(observations)
                mean = actor.mean(observation)
                noise = torch.randn(mean.shape, generator=torch_generator)
                action = mean + log_std.exp() * noise
                doses = actor.doses(observation, action).numpy()
                seen.append(observation)
                taken.append(action)
                log_probabilities.append(_log_probability(action, mean, log_std))
                values.append(_value(critic, observation, who))
                observations, reward, _, ended, _ = envs.step(doses)
                rewards.append(torch.from_numpy(reward).float())
            last = _value(critic, torch.from_numpy(observations), who)
        scaled = torch.stack(rewards).clip(min=-MAX_RISK) / RISK_SCALE
        # An episode is cut off, not over: what follows it is worth what the critic says.
        advantages = _advantages(scaled, torch.stack(values), last, task.gamma, settings.gae_lambda)
        batch = {
            "observation": torch.cat(seen),
            "action": torch.cat(taken),
            "log_probability": torch.cat(log_probabilities),
            "advantage": advantages.flatten(),
            "return": (advantages + torch.stack(values)).flatten(),
            "who": who.repeat(length, 1),
        }
        _update(actor, critic, log_std, parameters, optimizer, batch, settings, torch_generator)
        made += n * length
        report(made, -float(torch.stack(rewards).mean()))
        if ended.all():
            observations = None
    envs.close()
    return LearnedPolicy(actor.eval())


def _update(
    actor: Actor,
    critic: nn.Sequential,
    log_std: nn.Parameter,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch: dict[str, torch.Tensor],
    settings: PPOSettings,
    generator: torch.Generator,
) -> None:
    """Clipped steps on the steps of one segment, in mini-batches."""
    n_rows = len(batch["advantage"])
    for _ in range(settings.n_epochs):
        order = torch.randperm(n_rows, generator=generator)
        for rows in order.split(settings.minibatch_size):
            part = {name: values[rows] for name, values in batch.items()}
            advantage = part["advantage"]
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
            mean = actor.mean(part["observation"])
            ratio = (
                _log_probability(part["action"], mean, log_std) - part["log_probability"]
            ).exp()
            clipped = ratio.clip(1.0 - settings.clip, 1.0 + settings.clip)
            policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
            error = _value(critic, part["observation"], part["who"]) - part["return"]
            loss = policy_loss + settings.value_weight * error.square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
            optimizer.step()


def _advantages(
    rewards: torch.Tensor, values: torch.Tensor, last: torch.Tensor, gamma: float, lambda_: float
) -> torch.Tensor:
    """Generalised advantage estimates (T, E); `last` (E,) is the value after the last step."""
    advantages = torch.zeros_like(rewards)
    following, advantage = last, torch.zeros_like(last)
    for t in reversed(range(len(rewards))):
        error = rewards[t] + gamma * following - values[t]
        advantage = error + gamma * lambda_ * advantage
        advantages[t], following = advantage, values[t]
    return advantages


def _log_probability(
    action: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor
) -> torch.Tensor:
    """Of actions (E, 2) under a normal distribution, (E,)."""
    scaled = (action - mean) / log_std.exp()
    densities = -0.5 * scaled.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    return densities.sum(dim=1)


def _value(critic: nn.Sequential, observation: torch.Tensor, who: torch.Tensor) -> torch.Tensor:
    """(E,)."""
    value: torch.Tensor = critic(torch.cat((features(observation), who), dim=1)).squeeze(1)
    return value


def _layers(n_inputs: int, hidden_size: int, n_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_inputs, hidden_size),
        nn.Tanh(),
        nn.Linear(hidden_size, hidden_size),
        nn.Tanh(),
        nn.Linear(hidden_size, n_outputs),
    )
