"""How a batch moves k representatives: advantages of every agent, and epochs of mini-batches.

On a CPU `updates_numba` makes the same faster;
`tests/baselines/online/ppo/test_compiled_loops.py` holds the one against the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common import streams
from baselines.online.ppo import updates_numba
from baselines.online.ppo.actions import Actions
from baselines.online.ppo.assignments import AssignmentRule
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.losses import (
    StepSettings,
    Transitions,
    make_step,
    marginal_advantages,
)
from baselines.online.ppo.networks import HeadedNetwork
from baselines.online.ppo.outcome_critic import Nodes, group_masses
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.tasks import OnlineTask


class Updates:
    """Actors and critics of k representatives, for R seeds at once, and how a batch moves them.

    Attributes:
        actor, critic: the networks.
        agent_weights: (R, n, 1) dW / dV^i, how much each agent counts in the marginal advantage,
            relative to their mean; None: all alike, which is utilitarian.
    """

    def __init__(
        self,
        task: OnlineTask,
        config: PPOConfig,
        seeds: Sequence[int],
        device: str,
        actions: Actions,
        observation_size: int,
        nodes: Nodes,
    ) -> None:
        """Make the networks and every seed's random generators."""
        self.config, self.device, self.gamma, self.actions = config, device, task.gamma, actions
        self.n_seeds, self.n_policies = len(seeds), len(seeds) * task.n_representatives
        self.nodes, self.observation_size = nodes, observation_size
        self.agent_weights: Tensor | None = None
        self._order = [np.random.default_rng([seed, streams.PPO.MINIBATCHES]) for seed in seeds]
        sizes = (task.n_representatives, observation_size, config.hidden_size)
        shared: dict[str, Any] = {
            "generators": [torch.Generator().manual_seed(seed) for seed in seeds],
            "device": device,
            "n_hidden_layers": config.n_hidden_layers,
            "adam_epsilon": config.adam_epsilon,
        }
        log_std = config.log_std if actions.has_log_std else None
        self.actor = HeadedNetwork(
            *sizes, actions.n_outputs, head_gain=0.01, log_std=log_std, **shared
        )
        self.critic = HeadedNetwork(*sizes, nodes.size, head_gain=1.0, **shared)
        self._networks = {"actor": self.actor, "critic": self.critic}

    def agent_advantages(self, batch: CollectedBatch) -> tuple[Tensor, Tensor]:
        """Generalised advantage estimates and critic targets of every agent (or node).

        Returns:
            Advantages and targets, each (R k, T, E, n). The advantages overwrite batch.rewards:
            with n = 1000 agents an array of this size is 400 MB.
        """
        self._bootstrap(batch)
        values = self.critic.evaluate(batch.observations.flatten(1, 2)).view_as(batch.rewards)
        next_value = self.critic.evaluate(batch.last_observations)
        discount = (~batch.ended).unsqueeze(-1).to(values.dtype) * self.gamma
        decay = discount * self.config.gae_lambda
        advantages = batch.rewards
        next_advantage = torch.zeros_like(next_value)
        for t in reversed(range(advantages.shape[1])):
            advantage = advantages[:, t]
            advantage += discount[:, t] * next_value
            advantage -= values[:, t]
            advantage += decay[:, t] * next_advantage
            next_value, next_advantage = values[:, t], advantage
        return advantages, values.add_(advantages)

    def _bootstrap(self, batch: CollectedBatch) -> None:
        """Add the values of the last observations to the rewards of truncated episodes."""
        if not self.config.bootstrap_time_limits or not len(batch.final_observations):
            return
        policy, step, copy = batch.truncations
        # Padded to the same number for every representative, as the heads need it.
        counts = np.bincount(policy, minlength=self.n_policies)
        by_policy = np.argsort(policy, kind="stable")
        slot = np.empty_like(policy)
        slot[by_policy] = np.arange(len(policy)) - np.repeat(counts.cumsum() - counts, counts)
        padded = torch.zeros(
            self.n_policies, int(counts.max()), self.observation_size, device=self.device
        )
        padded[policy, slot] = batch.final_observations
        values = self.critic.evaluate(padded)[policy, slot]
        batch.rewards[policy, step, copy] += self.gamma * values

    def apply(
        self, batch: CollectedBatch, rule: AssignmentRule, learning_rate: float, entropy: float
    ) -> None:
        """Make the epochs of mini-batches for the assignment of `rule`.

        Args:
            batch: transitions of all representatives; its rewards are used up.
            rule: the assignment of agents to representatives. One that moves meanwhile is served by
                torch.
            learning_rate: Adam's step size.
            entropy: weight of the entropy bonus.
        """
        config = self.config
        bounds = (config.clip, config.max_gradient_norm, config.max_kl, config.min_log_std)
        settings = StepSettings(learning_rate, entropy, *bounds)
        if config.is_compiled(self.device) and not rule.moves_within_update:
            assignment = self._weighted(rule.assignment)
            advantages, targets = updates_numba.estimate_advantages(
                self.critic,
                batch,
                self.nodes.of_groups(assignment, group_masses(assignment)),
                self.gamma,
                config,
            )
            transitions = _flatten(batch, advantages, targets)
            networks = (self.actor, self.critic)
            updates_numba.train(*networks, transitions, self.actions, self._draw_order(), settings)
        else:
            self._apply_plain(batch, rule, settings)

    def _apply_plain(
        self, batch: CollectedBatch, rule: AssignmentRule, settings: StepSettings
    ) -> None:
        """Do the same in torch, with the steps of a rule that moves within an update."""
        by_agent, targets = self.agent_advantages(batch)
        by_agent = by_agent.flatten(1, 2)
        # The unit of advantages throughout the update, as are their mean and spread over the batch.
        weighted = self._weighted(rule.assignment)
        masses = group_masses(weighted)
        advantages = marginal_advantages(by_agent, self.nodes.of_groups(weighted, masses))
        mean, spread = self._mean_and_spread(advantages)
        transitions = _flatten(batch, (advantages - mean) / spread, targets)
        learns = torch.ones(self.n_policies, 1, 1, dtype=torch.bool, device=self.device)
        policies = torch.arange(self.n_policies, device=self.device).unsqueeze(-1)
        order = self._draw_order().repeat(self.n_policies // self.n_seeds, axis=0)
        for indices in torch.from_numpy(order).to(self.device).unbind(1):  # (R k, B)
            rows = Transitions(*(part[policies, indices] for part in transitions))
            if not rule.moves_within_update:
                make_step(self.actor, self.critic, rows, self.actions, settings, learns)
                continue
            # Equation 12 is the loss of equation 9, as a function of the assignment.
            assignment = rule.assignment.detach().requires_grad_()
            weights = self.nodes.of_groups(self._weighted(assignment), masses)
            advantages = marginal_advantages(by_agent[policies, indices], weights)
            if rule.normalizes_minibatches:
                mean, spread = self._mean_and_spread(advantages)
            rows = rows._replace(advantages=(advantages - mean) / spread)
            make_step(self.actor, self.critic, rows, self.actions, settings, learns)
            assert assignment.grad is not None
            rule.descend(assignment.grad)

    def _weighted(self, assignment: Tensor) -> Tensor:
        """The assignment (R, n, k), with each agent's row times its weight in the objective."""
        return assignment if self.agent_weights is None else assignment * self.agent_weights

    def _mean_and_spread(self, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """What standardises each representative's advantages (R k, B): two tensors (R k, 1)."""
        # With a slope where all are alike, which that of a standard deviation has not.
        deviation = (advantages.var(1, keepdim=True) + 1e-12).sqrt()
        return advantages.mean(1, keepdim=True), deviation + self.config.advantage_offset

    def _draw_order(self) -> npt.NDArray[np.int64]:
        """Rows of every mini-batch of all epochs: (R, mini-batches, B), shuffled in every epoch."""
        config = self.config
        epochs = [
            [order.permutation(config.batch_size) for order in self._order]
            for _ in range(config.n_epochs)
        ]
        return np.stack(epochs, 1).reshape(self.n_seeds, -1, config.minibatch_size)

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Networks, Adam's moments and generators: arrays (R, ...), and JSON for each seed."""
        arrays = {
            f"{name}.{part}.{key}": array
            for name, network in self._networks.items()
            for part, flat in network.tensors.items()
            for key, array in network.split(flat).items()
        }
        return arrays, [{"order": order.bit_generator.state} for order in self._order]

    def set_state(
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        states: Sequence[Mapping[str, Any]],
        n_updates: int,
    ) -> None:
        """Restore what `get_state` returned after `n_updates` updates."""
        for generator, state in zip(self._order, states, strict=True):
            generator.bit_generator.state = state["order"]
        for name, network in self._networks.items():
            for part, flat in network.tensors.items():
                keys = network.parameters
                network.merge(flat, {key: arrays[f"{name}.{part}.{key}"] for key in keys})
            network.steps.fill_(n_updates * self.config.gradient_steps)


def _flatten(batch: CollectedBatch, advantages: Tensor, targets: Tensor) -> Transitions:
    """All M = T E transitions of a batch, with advantages (R k, M) and targets (R k, T, E, n)."""
    parts = (batch.observations, batch.actions, batch.log_probs)
    observations, actions, log_probs = (part.flatten(1, 2) for part in parts)
    return Transitions(observations, actions, log_probs, advantages, targets.flatten(1, 2))
