"""PPO for k representatives, whatever rule moves the assignment of agents to them.

One iteration collects 2048 transitions with every representative (`collection`), turns them into
advantages and targets for all n agents (`agent_advantages`: dynamics are shared, so a transition
of one representative is a sample of everybody's reward), lets the assignment rule move
(`AssignmentRule`), and makes 10 epochs of mini-batch updates (`Learner.update`, equations 8 and 9).
Several seeds are trained as one batch: they are the leading axis R of every tensor, and share
nothing. (A seed trained with others differs from the same seed alone by the rounding of batched
matrix products, nothing else; the same seeds together repeat bit for bit.)

Departures from the paper, and why:
  - Each representative acts in 8 copies of the world for 256 steps, instead of one for 2048: the
    same batch of 2048 transitions in an eighth of the steps. Observation statistics move between
    batches, not within.
  - The learned log standard deviation starts at -1 (the reference code keeps it there for good).
  - A constant (`advantage_offset`) is added to the standard deviation that normalises advantages:
    without it the noise of a representative that has converged is blown up until it destroys it.
  - Equations 8 and 9 are means over transitions (and agents), not sums; the clipping of gradients
    and Adam's epsilon are relative to that.
Departures from the reference code, which are its errors (the paper is followed):
  - The standard deviation is learned; observations are normalised by statistics of the raw ones;
    log-probabilities are those of the sampled action, not of the clipped one; means have no tanh.
  - Time limits bootstrap with the value of the last observation (not in Resource Gathering, where
    the limit is a rule of the game); no transition is dropped.
  - A representative's head is evaluated for its own rows only; one hidden layer, not two.
  - Advantages are normalised over the batch (appendix B), not over the mini-batch; epochs are not
    stopped early at a large divergence. Observation statistics are common to the representatives,
    since the layer that reads the observations is.
Schedules are geometric over the run, as in the code; gamma comes from the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.actions import clipped_surrogate
from baselines.online.assignments import AssignmentRule
from baselines.online.collection import Batch, Collector
from baselines.online.networks import HeadedNetwork
from baselines.online.policies import make_solution
from baselines.online.settings import PPOConfig
from rmdp_bench.results import Interrupted, RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task


class Learner:
    """k representatives in training, for R seeds at once.

    Attributes:
        collector: the worlds in which they act.
        actor, critic: the networks.
        iteration: number of updates made.
    """

    def __init__(
        self,
        task: Task,
        config: PPOConfig,
        seeds: Sequence[int],
        device: str,
    ) -> None:
        """Makes the worlds, the networks and every seed's random generators.

        On the CPU, torch is set to one thread: its products are too small to share out, and its
        waiting threads take the cores from the physics (measured with another process on a
        machine of 2 cores: with 2 threads an update took ten times as long and more).
        """
        if device == "cpu":
            torch.set_num_threads(1)
        self.task, self.config, self.device = task, config, device
        self.n_seeds, self.n_representatives = len(seeds), task.n_representatives
        self.n_policies, self.n_agents = self.n_seeds * task.n_representatives, task.n_agents
        self.collector = collector = Collector(task, config, seeds, device)
        self.observation_size, actions = collector.observation_size, collector.actions
        # A stream for each purpose, so that a wider network does not change the action noise.
        self.order = [np.random.default_rng([seed, 2]) for seed in seeds]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        sizes = (task.n_representatives, collector.observation_size, config.hidden_size)
        self.actor = HeadedNetwork(
            *sizes,
            actions.n_outputs,
            head_gain=0.01,
            generators=generators,
            device=device,
            log_std=config.log_std if actions.has_log_std else None,
        )
        self.critic = HeadedNetwork(
            *sizes, task.n_agents, head_gain=1.0, generators=generators, device=device
        )
        self.optimizers = [
            torch.optim.Adam([network.flat], eps=config.adam_epsilon, fused=True)
            for network in (self.actor, self.critic)
        ]
        self.iteration = 0

    # ---------------------------------------------------------------- updating

    def agent_advantages(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Generalised advantage estimates and critic targets of every agent.

        Returns:
            Advantages and targets, each (R k, T, E, n). The advantages overwrite batch.rewards:
            with n = 1000 agents an array of this size is 400 MB.
        """
        gamma = self.task.gamma
        values = self.critic.evaluate(batch.observations.flatten(1, 2)).view_as(batch.rewards)
        next_value = self.critic.evaluate(batch.last_observations)
        discount = (~batch.ended).unsqueeze(-1).to(values.dtype) * gamma
        decay = discount * self.config.gae_lambda
        advantages = batch.rewards
        if self.config.bootstrap_time_limits and len(batch.final_observations):
            policy, step, copy = batch.truncations
            advantages[policy, step, copy] += gamma * self._values_of(batch)
        next_advantage = torch.zeros_like(next_value)
        for t in reversed(range(advantages.shape[1])):
            advantage = advantages[:, t]
            advantage += discount[:, t] * next_value
            advantage -= values[:, t]
            advantage += decay[:, t] * next_advantage
            next_value, next_advantage = values[:, t], advantage
        return advantages, values.add_(advantages)

    def _values_of(self, batch: Batch) -> Tensor:
        """Values (B, n) of the final observations of truncated episodes.

        They are padded to the same number for every representative, as the heads need it.
        """
        policy = batch.truncations[0]
        counts = np.bincount(policy, minlength=self.n_policies)
        by_policy = np.argsort(policy, kind="stable")
        slot = np.empty_like(policy)
        slot[by_policy] = np.arange(len(policy)) - np.repeat(counts.cumsum() - counts, counts)
        padded = torch.zeros(
            self.n_policies, int(counts.max()), self.observation_size, device=self.device
        )
        padded[policy, slot] = batch.final_observations
        return self.critic.evaluate(padded)[policy, slot]

    def update(self, batch: Batch, rule: AssignmentRule) -> None:
        """Ten epochs of mini-batches: equations 8 and 9 for all representatives at once."""
        config, n_policies, n = self.config, self.n_policies, self.n_agents
        agent_advantages, targets = self.agent_advantages(batch)
        agent_advantages = agent_advantages.view(n_policies, -1, n)
        advantages = self.marginal_advantages(agent_advantages, rule.assignment)  # (R k, M)
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
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = self._anneal(
                config.learning_rate, config.final_learning_rate
            )
        for _ in range(config.n_epochs):
            for indices in self._minibatches():
                minibatch = rows.index_select(0, indices).view(n_policies, -1, rows.shape[-1])
                inputs, actions, log_probs, advantage, target, *rest = minibatch.split(widths, -1)
                inputs = inputs.reshape(self.n_seeds, -1, self.observation_size)
                advantage, log_probs = advantage.squeeze(-1), log_probs.squeeze(-1)
                if rest:
                    advantage = self.marginal_advantages(rest[0], rule.assignment)
                    if rule.normalizes_minibatches:
                        mean, scale = self._mean_and_scale(advantage)
                    advantage = (advantage - mean) / scale
                objective = self._update_actor(inputs, actions, log_probs, advantage)
                if rest:
                    if rule.normalizes_minibatches:
                        objective = slope_through_normalization(objective, advantage)
                    rule.minibatch(objective, rest[0] / (scale * n).unsqueeze(-1))
                self._update_critic(inputs, target)
        self.iteration += 1

    def marginal_advantages(self, agent_advantages: Tensor, assignment: Tensor) -> Tensor:
        """A^j = sum_i alpha^i(j) A^ij, below equation 8, divided by n: (R k, B)."""
        weights = assignment.transpose(1, 2).reshape(self.n_policies, -1, 1) / self.n_agents
        return torch.bmm(agent_advantages, weights).squeeze(-1)

    def _mean_and_scale(self, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """What normalises each representative's advantages (R k, B): two tensors (R k, 1)."""
        deviation = advantages.std(1, keepdim=True)
        return advantages.mean(1, keepdim=True), deviation + self.config.advantage_offset

    def _minibatches(self) -> Tensor:
        """Rows of every mini-batch of one epoch: (batches, R k B), a permutation for each seed."""
        size, per_batch = self.config.batch_size, self.config.minibatch_size
        order = np.stack([generator.permutation(size) for generator in self.order])
        order = order.reshape(self.n_seeds, 1, -1, per_batch)
        first = np.arange(self.n_policies).reshape(self.n_seeds, -1, 1, 1) * size
        indices = np.moveaxis(first + order, 2, 0).reshape(size // per_batch, -1)
        return torch.from_numpy(np.ascontiguousarray(indices)).to(self.device)

    def _update_actor(
        self, inputs: Tensor, actions: Tensor, old_log_probs: Tensor, advantage: Tensor
    ) -> Tensor:
        """A step on equation 9 and the entropy bonus; returns the clipped ratios (R k, B)."""
        config = self.config
        outputs, hidden = self.actor.forward(inputs)
        log_probs, pullback = self.collector.actions.log_probs(self.actor, outputs, actions)
        objective, slope = clipped_surrogate(log_probs, old_log_probs, advantage, config.clip)
        entropy = self._anneal(config.entropy_coefficient, config.final_entropy_coefficient)
        gradient = pullback(slope.unsqueeze(-1) / -outputs.shape[1], entropy)
        self.actor.backward(inputs, hidden, gradient)
        self.actor.clip_gradient(config.max_gradient_norm)
        self.optimizers[0].step()
        return objective

    def _update_critic(self, inputs: Tensor, targets: Tensor) -> None:
        """A step on equation 8."""
        values, hidden = self.critic.forward(inputs)
        gradient = values.sub_(targets).mul_(2.0 / (targets.shape[1] * self.n_agents))
        self.critic.backward(inputs, hidden, gradient)
        self.critic.clip_gradient(self.config.max_gradient_norm)
        self.optimizers[1].step()

    def _anneal(self, start: float, end: float) -> float:
        """Geometric schedule over the task's transitions; linear where an end is zero."""
        fraction = min(1.0, self.transitions / self.task.transitions)
        if start <= 0 or end <= 0:
            return start + (end - start) * fraction
        return float(start * (end / start) ** fraction)

    # ---------------------------------------------------------------- the run

    @property
    def transitions(self) -> int:
        """Transitions made so far with each representative."""
        return self.iteration * self.config.batch_size

    def train_social_welfare(self, assignment: Tensor) -> list[float]:
        """Each seed's welfare by the moving averages of training returns, the paper's measure."""
        table = np.nan_to_num(self.collector.average_returns)
        return [float(w) for w in (assignment.cpu().numpy() * table).sum(2).mean(1)]

    def solutions(self, assignment: Tensor) -> list[Solution]:
        """The representatives as they are, one solution for each seed."""
        networks, statistics = self.actor.split(self.actor.flat), self.collector.statistics
        return [
            make_solution(
                {name: array[seed].copy() for name, array in networks.items()},
                statistics.mean[seed].copy(),
                statistics.scale()[seed].copy(),
                self.config.observation_clip if self.config.normalize_observations else None,
                not self.collector.actions.has_log_std,
                assignment[seed].cpu().numpy().astype(np.float64),
            )
            for seed in range(self.n_seeds)
        ]

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Everything that a run needs to continue bit for bit: arrays (R, ...), and JSON."""
        arrays, states = self.collector.get_state()
        for name, network, optimizer in self._networks():
            for part, flat in self._flat_tensors(network, optimizer).items():
                for key, array in network.split(flat).items():
                    arrays[f"{name}.{part}.{key}"] = array
        own = [{"iteration": self.iteration, "order": g.bit_generator.state} for g in self.order]
        return arrays, [theirs | mine for theirs, mine in zip(states, own, strict=True)]

    def set_state(
        self, arrays: Mapping[str, npt.NDArray[Any]], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restores what `get_state` returned."""
        self.collector.set_state(arrays, states)
        self.iteration = int(states[0]["iteration"])
        for generator, state in zip(self.order, states, strict=True):
            generator.bit_generator.state = state["order"]
        for name, network, optimizer in self._networks():
            for part, flat in self._flat_tensors(network, optimizer).items():
                keys = network.parameters
                network.merge(flat, {key: arrays[f"{name}.{part}.{key}"] for key in keys})
            optimizer.state[network.flat]["step"].fill_(
                self.iteration
                * self.config.n_epochs
                * self.config.batch_size
                // self.config.minibatch_size
            )

    def _networks(self) -> list[tuple[str, HeadedNetwork, torch.optim.Adam]]:
        return [
            ("actor", self.actor, self.optimizers[0]),
            ("critic", self.critic, self.optimizers[1]),
        ]

    def _flat_tensors(
        self, network: HeadedNetwork, optimizer: torch.optim.Adam
    ) -> dict[str, Tensor]:
        """A network's parameters and Adam's two moments."""
        state = optimizer.state[network.flat]
        if not state:  # Adam makes its moments at the first step; a resumed run needs them before
            state["step"] = torch.zeros((), device=self.device)
            state["exp_avg"] = torch.zeros_like(network.flat)
            state["exp_avg_sq"] = torch.zeros_like(network.flat)
        return {
            "parameters": network.flat,
            "exp_avg": state["exp_avg"],
            "exp_avg_sq": state["exp_avg_sq"],
        }

    def close(self) -> None:
        """Closes the worlds."""
        self.collector.envs.close()


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


def train(
    learner: Learner, rule: AssignmentRule, log: RunLog, *, preparation: bool = False
) -> None:
    """Trains to the end of the task's transitions, with curve points and checkpoints on the way.

    Args:
        learner: the representatives.
        rule: how the assignment moves.
        log: where progress, curve and checkpoints go.
        preparation: whether this is not yet the training that is scored; it has no curve, and its
            transitions do not count as the task's.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    n_iterations = learner.task.transitions // learner.config.batch_size
    while learner.iteration < n_iterations:
        batch = learner.collector.collect(learner.actor)
        rule.after_collection(learner.collector.average_returns)
        learner.update(batch, rule)
        welfare = learner.train_social_welfare(rule.served)
        transitions = 0 if preparation else learner.transitions
        log.progress(transitions, {"train_social_welfare": welfare})
        if not preparation and log.evaluation_due(transitions):
            log.evaluate(transitions, learner.solutions(rule.served))
        if log.checkpoint_due():
            arrays, states = learner.get_state()
            rule_state = {f"rule.{name}": array for name, array in rule.get_state().items()}
            states = [state | {"preparation": preparation} for state in states]
            log.save_checkpoint(transitions, arrays | rule_state, states)
            if log.stop_requested:
                raise Interrupted


def resume(
    learner: Learner, rule: AssignmentRule, log: RunLog, *, preparation: bool = False
) -> bool:
    """Continues from a checkpoint of this training, if there is one; says whether it did."""
    checkpoint = log.load_checkpoint()
    if checkpoint is None or checkpoint[1][0]["preparation"] != preparation:
        return False
    arrays, states = checkpoint
    learner.set_state(arrays, states)
    rule.set_state({n.removeprefix("rule."): a for n, a in arrays.items() if n.startswith("rule.")})
    return True


def solve_with_rule(
    task: Task,
    config: PPOConfig,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
    rule: AssignmentRule,
) -> list[Solution]:
    """Trains the representatives of every seed while `rule` moves the assignment.

    Returns:
        One solution for each seed.
    """
    learner = Learner(task, config, seeds, device)
    resume(learner, rule, log)
    train(learner, rule, log)
    learner.close()
    return learner.solutions(rule.served)
