"""PPO updates of k representatives in plain torch: the statement of the algorithm.

`updates_numba.CompiledUpdates` makes the same updates faster on a CPU; `tests/test_compiled.py`
holds the one against the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common import streams
from baselines.online.ppo.actions import Actions, clipped_surrogate
from baselines.online.ppo.assignments import AssignmentRule
from baselines.online.ppo.collection import Batch
from baselines.online.ppo.networks import HeadedNetwork
from baselines.online.ppo.outcome_critic import Nodes, group_masses
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.tasks import OnlineTask


class Updates:
    """Actors and critics of k representatives, for R seeds at once, and how a batch moves them.

    Attributes:
        actor, critic: the networks.
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
        """Makes the networks, Adam, and every seed's random generators."""
        self.config, self.device, self.gamma, self.actions = config, device, task.gamma, actions
        self.n_seeds, self.n_representatives = len(seeds), task.n_representatives
        self.n_policies = self.n_seeds * task.n_representatives
        self.nodes, self.observation_size = nodes, observation_size
        # A stream for each purpose, so that a wider network does not change the action noise.
        self._order = [np.random.default_rng([seed, streams.PPO.MINIBATCHES]) for seed in seeds]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        sizes = (task.n_representatives, observation_size, config.hidden_size)
        self.actor = HeadedNetwork(
            *sizes,
            actions.n_outputs,
            head_gain=0.01,
            generators=generators,
            device=device,
            n_hidden_layers=config.n_hidden_layers,
            log_std=config.log_std if actions.has_log_std else None,
        )
        self.critic = HeadedNetwork(
            *sizes,
            nodes.size,
            head_gain=1.0,
            generators=generators,
            device=device,
            n_hidden_layers=config.n_hidden_layers,
        )
        self._networks = {"actor": self.actor, "critic": self.critic}
        self._optimizers = {
            name: _make_adam(network, config.adam_epsilon)
            for name, network in self._networks.items()
        }

    def agent_advantages(self, batch: Batch) -> tuple[Tensor, Tensor]:
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

    def _bootstrap(self, batch: Batch) -> None:
        """Adds the values of the last observations to the rewards of truncated episodes."""
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
        self, batch: Batch, rule: AssignmentRule, learning_rate: float, entropy: float
    ) -> None:
        """Ten epochs of mini-batches: equations 8 and 9 for all representatives at once.

        Args:
            batch: transitions of all representatives; its rewards are used up.
            rule: the assignment of agents to representatives, and how it moves meanwhile.
            learning_rate: Adam's step size.
            entropy: weight of the entropy bonus.
        """
        config, n_policies, n = self.config, self.n_policies, self.nodes.size
        agent_advantages, targets = self.agent_advantages(batch)
        agent_advantages = agent_advantages.view(n_policies, -1, n)
        # The unit of advantages throughout the update, as are their mean and scale over the batch.
        masses = group_masses(rule.assignment)
        advantages = self.marginal_advantages(agent_advantages, rule.assignment, masses)  # (R k, M)
        mean, scale = self._mean_and_scale(advantages)
        # One row for each transition, so that a mini-batch is gathered in one go.
        columns = [
            batch.observations.view(n_policies, -1, self.observation_size),
            batch.actions.view(n_policies, config.batch_size, -1),
            batch.log_probs.view(n_policies, -1, 1),
            ((advantages - mean) / scale).unsqueeze(-1),
            targets.view(n_policies, -1, n),
        ]
        if rule.moves_within_update:
            columns.append(agent_advantages)
        widths = [column.shape[-1] for column in columns]
        rows = torch.cat(columns, -1).view(n_policies * config.batch_size, -1)
        for optimizer in self._optimizers.values():
            optimizer.param_groups[0]["lr"] = learning_rate
        learns = torch.ones(n_policies, 1, device=self.device)
        for _ in range(config.n_epochs):
            for indices in self._minibatches():
                minibatch = rows.index_select(0, indices).view(n_policies, -1, rows.shape[-1])
                inputs, actions, log_probs, advantage, target, *rest = minibatch.split(widths, -1)
                inputs = inputs.reshape(self.n_seeds, -1, self.observation_size)
                advantage, log_probs = advantage.squeeze(-1), log_probs.squeeze(-1)
                if rest:
                    advantage = self.marginal_advantages(rest[0], rule.assignment, masses)
                    if rule.normalizes_minibatches:
                        mean, scale = self._mean_and_scale(advantage)
                    advantage = (advantage - mean) / scale
                objective = self._update_actor(
                    inputs, actions, log_probs, advantage, entropy, learns
                )
                if rest:
                    if rule.normalizes_minibatches:
                        objective = slope_through_normalization(objective, advantage)
                    rule.minibatch(objective, rest[0] / (scale * masses).unsqueeze(-1))
                self._update_critic(inputs, target)

    def marginal_advantages(
        self, agent_advantages: Tensor, assignment: Tensor, masses: Tensor
    ) -> Tensor:
        """A^j = sum_i alpha^i(j) A^ij, below equation 8, divided by the masses: (R k, B)."""
        weights = self.nodes.of_groups(assignment, masses).unsqueeze(-1)
        return torch.bmm(agent_advantages, weights).squeeze(-1)

    def _mean_and_scale(self, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """What normalises each representative's advantages (R k, B): two tensors (R k, 1)."""
        deviation = advantages.std(1, keepdim=True)
        return advantages.mean(1, keepdim=True), deviation + self.config.advantage_offset

    def _draw_order(self) -> npt.NDArray[np.int64]:
        """The transitions of one epoch in a new order for each seed: (R, M)."""
        return np.stack([order.permutation(self.config.batch_size) for order in self._order])

    def _minibatches(self) -> Tensor:
        """Rows of every mini-batch of one epoch: (batches, R k B), a permutation for each seed."""
        size, per_batch = self.config.batch_size, self.config.minibatch_size
        order = self._draw_order().reshape(self.n_seeds, 1, -1, per_batch)
        first = np.arange(self.n_policies).reshape(self.n_seeds, -1, 1, 1) * size
        indices = np.moveaxis(first + order, 2, 0).reshape(size // per_batch, -1)
        return torch.from_numpy(np.ascontiguousarray(indices)).to(self.device)

    def _update_actor(
        self,
        inputs: Tensor,
        actions: Tensor,
        old_log_probs: Tensor,
        advantage: Tensor,
        entropy: float,
        learns: Tensor,
    ) -> Tensor:
        """A step on equation 9 and the entropy bonus; returns the clipped ratios (R k, B).

        Representatives beyond `max_kl` are struck off `learns` (R k, 1), and those that are not on
        it get no gradient.
        """
        config = self.config
        outputs, layers = self.actor.forward(inputs)
        log_probs, pullback = self.actions.log_probs(self.actor, outputs, actions)
        objective, slope = clipped_surrogate(log_probs, old_log_probs, advantage, config.clip)
        change = log_probs - old_log_probs
        divergence = (change.exp() - 1.0 - change).mean(1, keepdim=True)
        learns.masked_fill_(divergence > config.max_kl, 0.0)
        gradient = pullback(slope.unsqueeze(-1) / -outputs.shape[1], entropy)
        gradient.mul_(learns.unsqueeze(-1))
        if self.actions.has_log_std:
            self.actor.gradients["log_std"].mul_(learns.unsqueeze(-1))
        self.actor.backward(layers, gradient, config.max_gradient_norm)
        self._optimizers["actor"].step()
        if self.actions.has_log_std:
            self.actor.parameters["log_std"].clamp_(min=config.min_log_std)
        return objective

    def _update_critic(self, inputs: Tensor, targets: Tensor) -> None:
        """A step on equation 8."""
        values, layers = self.critic.forward(inputs)
        gradient = values.sub_(targets).mul_(2.0 / (targets.shape[1] * self.nodes.size))
        self.critic.backward(layers, gradient, self.config.max_gradient_norm)
        self._optimizers["critic"].step()

    def copy_representative(self, seed: int, source: int, target: int) -> None:
        """Makes a seed's representative `target` a copy of `source`: heads and Adam's moments."""
        first = seed * self.n_representatives
        for name, network in self._networks.items():
            for flat in self._flat_tensors(name).values():
                network.copy_head(flat, first + source, first + target)

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Networks, Adam's moments and generators: arrays (R, ...), and JSON for each seed."""
        arrays = {
            f"{name}.{part}.{key}": array
            for name, network in self._networks.items()
            for part, flat in self._flat_tensors(name).items()
            for key, array in network.split(flat).items()
        }
        return arrays, [{"order": order.bit_generator.state} for order in self._order]

    def set_state(
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        states: Sequence[Mapping[str, Any]],
        n_updates: int,
    ) -> None:
        """Restores what `get_state` returned after `n_updates` updates."""
        for generator, state in zip(self._order, states, strict=True):
            generator.bit_generator.state = state["order"]
        for name, network in self._networks.items():
            for part, flat in self._flat_tensors(name).items():
                keys = network.parameters
                network.merge(flat, {key: arrays[f"{name}.{part}.{key}"] for key in keys})
            self._adam_state(name)["step"].fill_(n_updates * self.config.gradient_steps)

    def _adam_state(self, name: str) -> dict[str, Tensor]:
        """Adam's "step", "exp_avg" and "exp_avg_sq" of a network."""
        state: dict[str, Tensor] = self._optimizers[name].state[self._networks[name].flat]
        return state

    def _flat_tensors(self, name: str) -> dict[str, Tensor]:
        """A network's parameters and Adam's two moments."""
        moments = {part: self._adam_state(name)[part] for part in ("exp_avg", "exp_avg_sq")}
        return {"parameters": self._networks[name].flat} | moments


def _make_adam(network: HeadedNetwork, epsilon: float) -> torch.optim.Adam:
    """Adam whose state is there from the start: a resumed run and the compiled loops need it."""
    adam = torch.optim.Adam([network.flat], eps=epsilon, fused=True)
    state = adam.state[network.flat]
    state["step"] = torch.zeros((), device=network.flat.device)
    state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(network.flat) for _ in range(2))
    return adam


def slope_through_normalization(slope: Tensor, normalized: Tensor) -> Tensor:
    """The slope (R k, B) of a loss by the raw advantages, times their scale.

    Args:
        slope: (R k, B) slope of the loss by the normalised advantages.
        normalized: (R k, B), (A - mean) / (standard deviation + offset).
    """
    # With deviation s and scale s + c:  d normalized_t / d A_u = (1_{t=u} - 1/B) / (s + c)
    # - normalized_t normalized_u / ((B - 1) s); and s / (s + c) is the deviation of `normalized`.
    centred = slope - slope.mean(1, keepdim=True)
    share = normalized.std(1, keepdim=True).clamp(min=1e-6) * (normalized.shape[1] - 1)
    return centred - normalized * ((slope * normalized).sum(1, keepdim=True) / share)
