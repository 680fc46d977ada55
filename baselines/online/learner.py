"""PPO for k representatives, whatever rule moves the assignment of agents to them.

One iteration collects 2048 transitions with every representative (`Collector`), turns them into
advantages and targets for all n agents (`agent_advantages`: dynamics are shared, so a transition
of one representative is a sample of everybody's reward), lets the assignment rule move
(`AssignmentRule`), and makes 10 epochs of mini-batch updates (`Learner.update`, equations 8 and 9).
Several seeds are trained as one batch: they are the leading axis R of every tensor, and share
nothing. (A seed trained with others differs from the same seed alone by the rounding of batched
matrix products, nothing else; the same seeds together repeat bit for bit.)

Departures from the paper, and why:
  - Each representative acts in 8 copies of the world for 256 steps, instead of one for 2048: the
    same batch of 2048 transitions, collected 8 times as fast.
  - The learned log standard deviation starts at -1 (the reference code keeps it there for good).
  - A constant (`advantage_offset`) is added to the standard deviation that normalises advantages:
    without it the noise of a representative that has converged is blown up until it destroys it.
  - Equations 8 and 9 are means over transitions (and agents), not sums: Adam does not care.
Departures from the reference code, which are its errors (the paper is followed):
  - The standard deviation is learned; observations are normalised by statistics of the raw ones;
    log-probabilities are those of the sampled action, not of the clipped one; means have no tanh.
  - Time limits bootstrap with the value of the last observation; no transition is dropped.
  - A representative's head is evaluated for its own rows only; one hidden layer, not two.
  - Advantages are normalised over the batch (appendix B), not over the mini-batch; epochs are not
    stopped early at a large divergence. Observation statistics are common to the representatives,
    since the layer that reads the observations is.
Schedules are geometric over the run, as in the code; gamma comes from the task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.networks import HeadedNetwork
from baselines.online.policies import make_solution
from rmdp_bench.results import Interrupted, RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PPOConfig:
    """Settings of the learner (paper, appendix B, unless said otherwise)."""

    hidden_size: int = 64
    """Width of the hidden layer that the actors share, and of the critics'."""
    n_envs: int = 8
    """Copies of the world in which each representative acts."""
    batch_size: int = 2048
    """Transitions of each representative between updates; a multiple of n_envs."""
    minibatch_size: int = 64
    """Transitions of each representative in a gradient step; divides batch_size."""
    n_epochs: int = 10
    """Passes over a batch."""
    learning_rate: float = 3e-4
    """Adam's step size at the start."""
    final_learning_rate: float = 1e-4
    """Adam's step size at the end."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    clip: float = 0.2
    """Bound on the change of the probability ratio."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the start."""
    final_entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the end."""
    max_gradient_norm: float = 0.5
    """Bound on the norm of the actors' and of the critics' gradient (reference code)."""
    log_std: float = -1.0
    """Initial log standard deviation of continuous actions."""
    normalize_observations: bool = True
    """Whether observations are standardised by their running mean and variance."""
    observation_clip: float = 5.0
    """Bound on the standardised observations (reference code)."""
    advantage_offset: float = 1e-3
    """Added to the standard deviation of a representative's advantages, in percent of welfare
    times reward_scale."""
    reward_scale: float = 1.0
    """Factor on the rewards, which are in percent of a perfect episode."""
    mixing: float = 0.05
    """Lambda of equation 10: weight of a new return in the moving average of returns."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range, or the sizes do not divide.
        """
        for name in ("hidden_size", "n_envs", "batch_size", "minibatch_size", "n_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "final_learning_rate", "adam_epsilon", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("gae_lambda", "mixing"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 < {name} <= 1")
        for size, unit in (("batch_size", "n_envs"), ("batch_size", "minibatch_size")):
            if getattr(self, size) % getattr(self, unit):
                raise ValueError(
                    f"{size} is {getattr(self, size)}; expected a multiple of {unit}, "
                    f"{getattr(self, unit)}"
                )


RESOURCE_GATHERING_SETTINGS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "adam_epsilon": 1e-8,
    "entropy_coefficient": 0.05,
    "normalize_observations": False,
    "reward_scale": 0.01,
    "advantage_offset": 0.01,
}
"""Resource Gathering's own settings (reference code): they replace the defaults above."""


class AssignmentRule(Protocol):
    """How the assignment moves; the learner knows no more of a solver than this."""

    assignment: Tensor
    """(R, n, k) on the learner's device, rows on the simplex."""
    served: Tensor
    """(R, n, k) whom the agents would be served by now: the assignment of a solution. It differs
    from `assignment` where that lends agents for training only."""
    moves_within_update: bool
    """Whether `minibatch` is to be called in every gradient step."""

    def after_collection(self, average_returns: FloatArray) -> None:
        """Moves the assignment before the update.

        Args:
            average_returns: (R, n, k) moving averages of the agents' returns, in percent; nan for
                a representative that has not finished an episode yet.
        """

    def minibatch(self, objective: Tensor, agent_advantages: Tensor) -> None:
        """Moves the assignment within the update.

        Args:
            objective: (R k, B) clipped probability ratios, the factor of the advantages in (12).
            agent_advantages: (R k, B, n), divided by the scale of each representative's.
        """

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays (R, ...) from which `set_state` continues bit for bit."""

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restores what `get_state` returned."""


@dataclass
class Batch:
    """Transitions of one iteration: T steps of E copies for each of R k representatives."""

    observations: Tensor
    """(R k, T, E, d) normalised."""
    last_observations: Tensor
    """(R k, E, d) normalised, after the last step."""
    actions: Tensor
    """(R k, T, E, a), a = 1 for discrete actions."""
    log_probs: Tensor
    """(R k, T, E) of the actions when they were taken."""
    rewards: Tensor
    """(R k, T, E, n) of every agent."""
    ended: Tensor
    """(R k, T, E) whether the episode terminated or was truncated at this step."""
    truncations: tuple[npt.NDArray[np.intp], ...]
    """Three arrays: representative, step and copy of every truncated episode."""
    final_observations: Tensor
    """(number of truncations, d) normalised: where the truncated episodes ended."""


class Learner:
    """k representatives in training, for R seeds at once.

    Attributes:
        average_returns: (R, n, k) moving average of each agent's return with each representative
            (equation 10), in percent; nan where no episode has ended yet.
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
        waiting threads would take the cores from the physics (measured: 2 threads on 2 cores make
        an update slower, many times so on a busy machine).
        """
        if device == "cpu":
            torch.set_num_threads(1)
        self.task, self.config, self.device = task, config, device
        self.n_seeds = len(seeds)
        n_representatives = self.n_representatives = task.n_representatives
        self.n_agents = task.n_agents
        n_policies = self.n_policies = self.n_seeds * n_representatives
        self.n_steps = config.batch_size // config.n_envs
        self.envs: Any = gym.make_vec(
            task.env_id, num_envs=n_policies * config.n_envs, autoreset_mode="SameStep"
        )
        self.population = self.envs.population
        space = self.envs.single_action_space
        self.discrete = not space.shape
        self.n_actions = int(space.n) if self.discrete else int(space.shape[0])
        self.observation_size = int(self.envs.single_observation_space.shape[0])

        # One stream for each purpose, so that a longer network does not change the action noise.
        self.noise = [np.random.default_rng([seed, 1]) for seed in seeds]
        self.order = [np.random.default_rng([seed, 2]) for seed in seeds]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        sizes = (n_representatives, self.observation_size, config.hidden_size)
        self.actor = HeadedNetwork(
            *sizes,
            self.n_actions,
            head_gain=0.01,
            generators=generators,
            device=device,
            log_std=None if self.discrete else config.log_std,
        )
        self.critic = HeadedNetwork(
            *sizes, self.n_agents, head_gain=1.0, generators=generators, device=device
        )
        self.optimizers = [
            torch.optim.Adam([network.flat], eps=config.adam_epsilon, fused=True)
            for network in (self.actor, self.critic)
        ]

        rows = n_representatives * config.n_envs
        env_seeds = [np.random.SeedSequence([seed, 3]).generate_state(rows) >> 1 for seed in seeds]
        observations, _ = self.envs.reset(seed=[int(s) for s in np.concatenate(env_seeds)])
        self.observations = np.asarray(observations)
        self.statistics = RunningStatistics(self.n_seeds, self.observation_size)
        self.episode_returns = torch.zeros(n_policies, config.n_envs, self.n_agents, device=device)
        self.average_returns = np.full((self.n_seeds, self.n_agents, n_representatives), np.nan)
        self.iteration = 0

    # ---------------------------------------------------------------- collecting

    def collect(self) -> Batch:
        """Acts for T steps in every copy of the world, and updates `average_returns`."""
        shape = (self.n_policies, self.n_steps, self.config.n_envs)
        raw = np.empty((*shape, self.observation_size))
        normalised = np.empty((*shape, self.observation_size), np.float32)
        outputs = np.empty((*shape, self.n_actions), np.float32)
        actions = np.empty((*shape, 1 if self.discrete else self.n_actions), np.float32)
        outcomes = np.empty((*shape, self.population.outcome_size), np.float32)
        ended = np.empty(shape, bool)
        truncations: list[npt.NDArray[np.intp]] = []
        final_observations: list[FloatArray] = []
        noise = self._draw_noise(actions.shape)
        std = None if self.discrete else self.actor.parameters["log_std"].exp().cpu().numpy()
        for t in range(self.n_steps):
            raw[:, t] = self.observations.reshape(shape[0], shape[2], -1)
            normalised[:, t] = self.normalize(raw[:, t])
            inputs = torch.from_numpy(normalised[:, t]).to(self.device)
            outputs[:, t] = self.actor.evaluate(inputs).cpu().numpy()
            if std is None:  # the largest logit plus Gumbel noise is a sample of the softmax
                chosen = (outputs[:, t] + noise[:, t]).argmax(-1)
                actions[:, t, :, 0] = chosen
                step_actions = chosen.reshape(-1)
            else:
                actions[:, t] = outputs[:, t] + std * noise[:, t]
                step_actions = actions[:, t].reshape(-1, self.n_actions).clip(-1.0, 1.0)
            self.observations, _, terminated, truncated, info = self.envs.step(step_actions)
            ended[:, t] = (terminated | truncated).reshape(shape[0], shape[2])
            step_outcomes = info["outcome"]
            if ended[:, t].any():
                rows = np.flatnonzero(terminated | truncated)
                step_outcomes = step_outcomes.copy()
                step_outcomes[rows] = info["final_info"]["outcome"][rows]
                for row in np.flatnonzero(truncated & ~terminated):
                    policy, copy = divmod(int(row), shape[2])
                    truncations.append(np.array([policy, t, copy], np.intp))
                    final_observations.append(info["final_obs"][row])
            outcomes[:, t] = step_outcomes.reshape(shape[0], shape[2], -1)

        where = np.array(truncations, np.intp).reshape(-1, 3)
        finals = np.array(final_observations, np.float64).reshape(-1, self.observation_size)
        last = self.normalize(self.observations.reshape(shape[0], shape[2], -1))
        to = self.device
        rewards = self.population.rewards(torch.from_numpy(outcomes).to(to))
        rewards = rewards * self.config.reward_scale
        batch = Batch(
            observations=torch.from_numpy(normalised).to(to),
            last_observations=torch.from_numpy(last).to(to),
            actions=torch.from_numpy(actions).to(to),
            log_probs=self._log_probs(torch.from_numpy(outputs).to(to), actions, noise),
            rewards=rewards,
            ended=torch.from_numpy(ended).to(to),
            truncations=tuple(where.T),
            final_observations=torch.from_numpy(self.normalize(finals, where[:, 0])).to(to),
        )
        if self.config.normalize_observations:
            self.statistics.update(raw.reshape(self.n_seeds, -1, self.observation_size))
        self._average_returns(batch.rewards, ended)
        return batch

    def normalize(
        self, observations: FloatArray, policies: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float32]:
        """Standardises and clips observations.

        Args:
            observations: (R k, ..., d) raw; with `policies`, (B, d).
            policies: (B,) the representative, out of R k, of each row.
        """
        if not self.config.normalize_observations:
            return observations.astype(np.float32)
        seeds = (np.arange(self.n_policies) if policies is None else policies) // (
            self.n_representatives
        )
        mean, scale = self.statistics.mean[seeds], self.statistics.scale()[seeds]
        if policies is None:
            mean, scale = mean[:, None], scale[:, None]
        bound = self.config.observation_clip
        return np.clip((observations - mean) * scale, -bound, bound).astype(np.float32)

    def _draw_noise(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Noise of a whole batch of actions (R k, T, E, a), from each seed's own stream."""
        if self.discrete:
            size = (self.n_representatives, *shape[1:3], self.n_actions)
            draws = [generator.gumbel(size=size).astype(np.float32) for generator in self.noise]
        else:
            size = (self.n_representatives, *shape[1:])
            draws = [g.standard_normal(size, dtype=np.float32) for g in self.noise]
        return np.concatenate(draws)

    def _log_probs(
        self, outputs: Tensor, actions: FloatArray, noise: npt.NDArray[np.float32]
    ) -> Tensor:
        """Log-probabilities (R k, T, E) of the actions taken."""
        if self.discrete:
            indices = torch.from_numpy(actions).to(self.device).long()
            return outputs.log_softmax(-1).gather(-1, indices).squeeze(-1)
        log_std = self.actor.parameters["log_std"].unsqueeze(1)
        z = torch.from_numpy(noise).to(self.device)
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def _average_returns(self, rewards: Tensor, ended: npt.NDArray[np.bool_]) -> None:
        """Equation 10 for every episode that ended, in order: Q <- (1 - lambda) Q + lambda R_0.

        Returns are undiscounted, as in the code and as they are scored; the first one of a
        representative is taken whole, so that no table starts with a bias towards zero.
        """
        policies, returns = [], []
        for t in range(self.n_steps):
            self.episode_returns += rewards[:, t]
            if ended[:, t].any():
                policy, copy = np.nonzero(ended[:, t])
                policies.append(policy)
                returns.append(self.episode_returns[policy, copy].cpu().numpy())
                self.episode_returns[policy, copy] = 0.0
        if not policies:
            return
        policy, values = np.concatenate(policies), np.concatenate(returns)
        by_policy = np.argsort(policy, kind="stable")
        policy, values = policy[by_policy], values[by_policy].astype(np.float64)
        mixing = self.config.mixing
        table = self.average_returns.transpose(0, 2, 1).reshape(self.n_policies, -1)
        for p in np.unique(policy):
            returns_of_p = values[policy == p] / self.config.reward_scale
            weights = mixing * (1 - mixing) ** np.arange(len(returns_of_p))[::-1]
            if np.isnan(table[p, 0]):
                weights[0] /= mixing
                table[p] = weights @ returns_of_p
            else:
                table[p] = (1 - mixing) ** len(returns_of_p) * table[p] + weights @ returns_of_p
        shape = (self.n_seeds, self.n_representatives, self.n_agents)
        self.average_returns = table.reshape(shape).transpose(0, 2, 1).copy()

    # ---------------------------------------------------------------- updating

    def agent_advantages(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Generalised advantage estimates and critic targets of every agent.

        Returns:
            Advantages and targets, each (R k, T, E, n). The advantages overwrite batch.rewards,
            so that n = 1000 agents need two arrays of this size, not five.
        """
        gamma = self.task.gamma
        values = self.critic.evaluate(batch.observations.flatten(1, 2)).view_as(batch.rewards)
        next_value = self.critic.evaluate(batch.last_observations)
        discount = (~batch.ended).unsqueeze(-1).to(values.dtype) * gamma
        decay = discount * self.config.gae_lambda
        advantages = batch.rewards
        if len(batch.final_observations):
            policy, step, copy = batch.truncations
            advantages[policy, step, copy] += gamma * self._values_of(batch)
        next_advantage = torch.zeros_like(next_value)
        for t in reversed(range(self.n_steps)):
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
        mean = advantages.mean(1, keepdim=True)
        scale = advantages.std(1, keepdim=True) + config.advantage_offset
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
                    marginal = self.marginal_advantages(rest[0], rule.assignment)
                    advantage = (marginal - mean) / scale
                objective = self._update_actor(inputs, actions, log_probs, advantage)
                if rest:
                    rule.minibatch(objective, rest[0] / (scale * n).unsqueeze(-1))
                self._update_critic(inputs, target)
        self.iteration += 1

    def marginal_advantages(self, agent_advantages: Tensor, assignment: Tensor) -> Tensor:
        """A^j = sum_i alpha^i(j) A^ij, below equation 8, divided by n: (R k, B)."""
        weights = assignment.transpose(1, 2).reshape(self.n_policies, -1, 1) / self.n_agents
        return torch.bmm(agent_advantages, weights).squeeze(-1)

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
        outputs, hidden = self.actor.forward(inputs)
        entropy = self._anneal(
            self.config.entropy_coefficient, self.config.final_entropy_coefficient
        )
        n_rows = outputs.shape[1]
        if self.discrete:
            log_softmax = outputs.log_softmax(-1)
            indices = actions.long()
            log_probs = log_softmax.gather(-1, indices).squeeze(-1)
        else:
            log_std = self.actor.parameters["log_std"]
            z = (actions - outputs) * (-log_std).exp()
            log_probs = (-0.5 * z.square() - log_std).sum(-1) - (
                0.5 * math.log(2 * math.pi) * self.n_actions
            )
        ratio = (log_probs - old_log_probs).exp()
        clipped = ratio.clamp(1 - self.config.clip, 1 + self.config.clip)
        # min(ratio A, clipped A): its slope is zero where the clipped term is the smaller one.
        taken = ratio * advantage <= clipped * advantage
        objective = torch.where(taken, ratio, clipped)
        slope = (torch.where(taken, ratio, 0.0) * advantage).unsqueeze(-1) / -n_rows
        if self.discrete:
            probabilities = log_softmax.exp()
            entropies = -(probabilities * log_softmax).sum(-1, keepdim=True)
            gradient = probabilities * (log_softmax + entropies) * (entropy / n_rows)
            gradient -= probabilities * slope
            gradient.scatter_add_(-1, indices, slope)
        else:
            gradient = slope * z
            self.actor.gradients["log_std"].copy_(
                (gradient * z - slope).sum(1, keepdim=True) - entropy
            )
            gradient *= (-log_std).exp()
        self.actor.backward(inputs, hidden, gradient)
        self.actor.clip_gradient(self.config.max_gradient_norm)
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
        table = np.nan_to_num(self.average_returns)
        return [float(w) for w in (assignment.cpu().numpy() * table).sum(2).mean(1)]

    def solutions(self, assignment: Tensor) -> list[Solution]:
        """The representatives as they are, one solution for each seed."""
        networks = self.actor.split(self.actor.flat)
        return [
            make_solution(
                {name: array[seed].copy() for name, array in networks.items()},
                self.statistics.mean[seed].copy(),
                self.statistics.scale()[seed].copy(),
                self.config.observation_clip if self.config.normalize_observations else None,
                self.discrete,
                assignment[seed].cpu().numpy().astype(np.float64),
            )
            for seed in range(self.n_seeds)
        ]

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Everything that a run needs to continue bit for bit: arrays (R, ...), and JSON."""
        by_row = {
            "observations": self.observations,
            "episode_returns": self.episode_returns.cpu().numpy(),
        }
        by_row |= {f"env.{name}": array for name, array in self.envs.get_state().items()}
        arrays = {name: a.reshape(self.n_seeds, -1, *a.shape[1:]) for name, a in by_row.items()}
        arrays |= {name: getattr(self.statistics, name) for name in ("mean", "variance", "count")}
        arrays["average_returns"] = self.average_returns
        for name, network, optimizer in self._networks():
            for part, flat in self._flat_tensors(network, optimizer).items():
                for key, array in network.split(flat).items():
                    arrays[f"{name}.{part}.{key}"] = array
        states = [
            {
                "iteration": self.iteration,
                "noise": noise.bit_generator.state,
                "order": order.bit_generator.state,
            }
            for noise, order in zip(self.noise, self.order, strict=True)
        ]
        return arrays, states

    def set_state(
        self, arrays: Mapping[str, npt.NDArray[Any]], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restores what `get_state` returned."""
        shapes = {name: array.shape for name, array in self.envs.get_state().items()}
        self.envs.set_state({n: arrays[f"env.{n}"].reshape(s) for n, s in shapes.items()})
        self.observations = arrays["observations"].reshape(self.observations.shape)
        for name in ("mean", "variance", "count"):
            setattr(self.statistics, name, arrays[name].copy())
        returns = torch.from_numpy(arrays["episode_returns"]).view(self.episode_returns.shape)
        self.episode_returns.copy_(returns)
        self.average_returns = arrays["average_returns"].copy()
        self.iteration = int(states[0]["iteration"])
        for seed, state in enumerate(states):
            self.noise[seed].bit_generator.state = state["noise"]
            self.order[seed].bit_generator.state = state["order"]
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
        self.envs.close()


class RunningStatistics:
    """Mean and variance of each seed's observations so far (Chan et al.'s parallel update)."""

    def __init__(self, n_seeds: int, size: int) -> None:
        """Starts with mean 0 and variance 1, as if nothing were normalised."""
        self.mean = np.zeros((n_seeds, size))
        self.variance = np.ones((n_seeds, size))
        self.count = np.zeros((n_seeds, 1))

    def update(self, observations: FloatArray) -> None:
        """Adds raw observations (R, B, d)."""
        new = observations.shape[1]
        total = self.count + new
        difference = observations.mean(1) - self.mean
        spread = self.variance * self.count + observations.var(1) * new
        self.variance = (spread + difference**2 * self.count * new / total) / total
        self.mean = self.mean + difference * new / total
        self.count = total

    def scale(self) -> FloatArray:
        """One over the standard deviation, (R, d)."""
        return np.asarray(1.0 / (np.sqrt(self.variance) + 1e-5))


def train(learner: Learner, rule: AssignmentRule, log: RunLog, phase: str = "training") -> None:
    """Trains to the end of the task's transitions, with curve points and checkpoints on the way.

    Args:
        learner: the representatives.
        rule: how the assignment moves.
        log: where progress, curve and checkpoints go.
        phase: stored with checkpoints; only "training" has a curve.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    n_iterations = learner.task.transitions // learner.config.batch_size
    while learner.iteration < n_iterations:
        batch = learner.collect()
        rule.after_collection(learner.average_returns)
        learner.update(batch, rule)
        welfare = learner.train_social_welfare(rule.served)
        log.progress(learner.transitions, {"train_social_welfare": welfare})
        if phase == "training" and log.evaluation_due(learner.transitions):
            log.evaluate(learner.transitions, learner.solutions(rule.served))
        if log.checkpoint_due():
            arrays, states = learner.get_state()
            rule_state = {f"rule.{name}": array for name, array in rule.get_state().items()}
            states = [state | {"phase": phase} for state in states]
            log.save_checkpoint(learner.transitions, arrays | rule_state, states)
            if log.stop_requested:
                raise Interrupted


def resume(learner: Learner, rule: AssignmentRule, log: RunLog, phase: str = "training") -> bool:
    """Continues from a checkpoint of this phase, if there is one; says whether it did."""
    checkpoint = log.load_checkpoint()
    if checkpoint is None or checkpoint[1][0]["phase"] != phase:
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


def task_settings(task: Task) -> dict[str, Any]:
    """Settings that a task replaces, by name of the field."""
    if task.env_id == "rmdp/ResourceGathering-n25-v0":
        return RESOURCE_GATHERING_SETTINGS
    return {}
