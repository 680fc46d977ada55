"""Acting with k representatives in many copies of their world, for several seeds at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common import streams
from baselines.common.statistics import RunningStatistics
from baselines.online.ppo import kernels
from baselines.online.ppo.actions import make_actions
from baselines.online.ppo.networks import HeadedNetwork
from baselines.online.ppo.outcome_critic import make_nodes
from baselines.online.ppo.settings import PPOConfig
from baselines.online.ppo.shaping import DenseReward
from rmdp_bench.population import TargetPopulation, check_rewards, is_own
from rmdp_bench.tasks import OnlineTask

FloatArray = npt.NDArray[np.floating[Any]]

Act = Callable[..., None]
"""From raw observations (R k, E, d) and noise (R k, E, o) of one step, writes the normalised
observations (R k, E, d), the actors' outputs (R k, E, o) and the actions (R k, E, a)."""


@dataclass
class CollectedBatch:
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
    """(R k, T, E, n) to learn from, of every agent, or of every node with the outcome critic; the
    next batch takes their place."""
    ended: Tensor
    """(R k, T, E) whether the episode terminated or was truncated at this step."""
    truncations: tuple[npt.NDArray[np.intp], ...]
    """Three arrays: representative, step and copy of every truncated episode."""
    final_observations: Tensor
    """(number of truncations, d) normalised: where the truncated episodes ended."""


class Collector:
    """The worlds of R k representatives, E copies for each, and what is known of their returns.

    Attributes:
        nodes: whose rewards are collected, and how those of the agents follow.
        actions: discrete or continuous.
        observation_size: d.
        statistics: of the raw observations of each seed.
        node_returns: (R, B, k) moving average of each node's return with each representative
            (equation 10), in percent; nan where no episode has ended yet.
        average_returns: (R, n, k) the same of each agent.
        rewards: (R k, T, E, B) own rewards of the last batch, times reward_scale, until an update
            uses them up.
        dense: what training rewards are mixed with, if they are.
        finished: the episodes that ended in the last batch: the representative, out of R k, of each
            (F,), and all nodes' returns (F, B) in percent.
    """

    def __init__(
        self, task: OnlineTask, config: PPOConfig, seeds: Sequence[int], device: str
    ) -> None:
        """Start every world."""
        self.config, self.device = config, device
        self.n_seeds, self.n_representatives = len(seeds), task.n_representatives
        self.n_policies = self.n_seeds * self.n_representatives
        self.n_steps = config.batch_size // config.n_envs
        n_rows = self.n_representatives * config.n_envs
        envs: Any = task.make(self.n_seeds * n_rows, agent_rewards=False)
        self.nodes, self.envs = make_nodes(envs.population, config.critic), envs
        self._checks_rewards = is_own(self.nodes.population)
        self.actions = make_actions(envs.single_action_space)
        self.observation_size = int(envs.single_observation_space.shape[0])
        self.noise = [np.random.default_rng([seed, streams.PPO.ACTION_NOISE]) for seed in seeds]
        # Below 2^31: the seeds above are kept for evaluation.
        env_seeds = [
            np.random.SeedSequence([seed, streams.PPO.WORLDS]).generate_state(n_rows) >> 1
            for seed in seeds
        ]
        observations, _ = envs.reset(seed=[int(s) for s in np.concatenate(env_seeds)])
        self.observations = np.asarray(observations)
        self.statistics = RunningStatistics(self.n_seeds, self.observation_size)
        rows, n = (self.n_policies, config.n_envs), self.nodes.size
        self.episode_returns = torch.zeros(*rows, n, device=device)
        self._set_node_returns(np.full((self.n_seeds, n, self.n_representatives), np.nan))
        self.finished = np.empty(0, np.intp), np.empty((0, n))
        # The only array of its size, written anew by each `collect`: fresh memory is slower.
        self.rewards = torch.empty(rows[0], self.n_steps, rows[1], n, device=device)
        self.dense: DenseReward | None = None
        if config.training_reward == "dense":
            population = self.nodes.population
            assert isinstance(population, TargetPopulation), "see settings.check"
            self.dense = DenseReward(population, config, rows)

    def collect(self, actor: HeadedNetwork, shaping: float) -> CollectedBatch:
        """Act for T steps in every copy of the world, and update `average_returns`.

        Args:
            actor: of all representatives.
            shaping: share of a dense training reward, if there is one.
        """
        shape = (self.n_policies, self.n_steps, self.config.n_envs)
        raw = np.empty((*shape, self.observation_size))
        observations = np.empty((*shape, self.observation_size), np.float32)
        outputs = np.empty((*shape, self.actions.n_outputs), np.float32)
        actions = np.empty((*shape, self.actions.width), np.float32)
        outcomes = np.empty((*shape, self.nodes.population.outcome_size), np.float32)
        ended = np.empty(shape, bool)
        where, finals = [np.empty((3, 0), np.intp)], list[FloatArray]()
        size = (self.n_representatives, *shape[1:])
        noise = np.concatenate([self.actions.draw_noise(size, own) for own in self.noise])
        act = self._compiled(actor) if self.config.is_compiled(self.device) else self._plain(actor)
        for t in range(self.n_steps):
            raw[:, t] = self.observations.reshape(shape[0], shape[2], -1)
            act(raw[:, t], noise[:, t], observations[:, t], outputs[:, t], actions[:, t])
            step = self.envs.step(self.actions.for_envs(actions[:, t]))
            self.observations, _, terminated, truncated, info = step
            ended[:, t] = (terminated | truncated).reshape(shape[0], shape[2])
            step_outcomes = info["outcome"]
            if ended[:, t].any():
                over = (terminated | truncated)[:, None]
                step_outcomes = np.where(over, info["final_info"]["outcome"], step_outcomes)
                cut = np.flatnonzero(truncated & ~terminated)
                policy, copy = np.divmod(cut, shape[2])
                where.append(np.stack([policy, np.full_like(cut, t), copy]))
                finals.extend(info["final_obs"][cut])
            outcomes[:, t] = step_outcomes.reshape(shape[0], shape[2], -1)
        truncations = tuple(np.concatenate(where, axis=1))
        last = self.normalize(self.observations.reshape(shape[0], shape[2], -1))
        final = np.array(finals, np.float64).reshape(-1, self.observation_size)
        final_observations = self.normalize(final, truncations[0])
        if self.config.normalize_observations:
            self.statistics.update(raw.reshape(self.n_seeds, -1, self.observation_size))

        def tensor(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(self.device)

        return CollectedBatch(
            observations=tensor(observations),
            last_observations=tensor(last),
            actions=tensor(actions),
            log_probs=self.actions.log_probs_of_samples(
                tensor(outputs), actor.parameters.get("log_std"), tensor(actions), tensor(noise)
            ),
            rewards=self._rewards(outcomes, ended, shaping),
            ended=tensor(ended),
            truncations=truncations,
            final_observations=tensor(final_observations),
        )

    def _rewards(
        self, outcomes: npt.NDArray[np.float32], ended: npt.NDArray[np.bool_], shaping: float
    ) -> Tensor:
        """What to learn from (R k, T, E, B); own rewards are kept, and averaged over episodes."""
        for policy, own in enumerate(torch.from_numpy(outcomes).to(self.device)):
            rewards = self.nodes.population.rewards(own)
            if self._checks_rewards:
                flat = (part.reshape(-1, part.shape[-1]).cpu().numpy() for part in (own, rewards))
                check_rewards(self.nodes.population, *flat)
            torch.mul(rewards, self.config.reward_scale, out=self.rewards[policy])
        self._average_returns(self.rewards, ended)
        if self.dense is None:
            return self.rewards
        return self.dense.mix(self.rewards, outcomes, ended, shaping)

    def _plain(self, actor: HeadedNetwork) -> Act:
        """Act with torch."""
        std = actor.parameters["log_std"].exp().cpu().numpy() if self.actions.has_log_std else None

        def act(*step: npt.NDArray[Any]) -> None:
            raw, noise, observations, outputs, actions = step
            observations[:] = self.normalize(raw)
            inputs = torch.from_numpy(observations).to(self.device)
            outputs[:] = actor.evaluate(inputs).cpu().numpy()
            actions[:] = self.actions.sample(outputs, noise, std)

        return act

    def _compiled(self, actor: HeadedNetwork) -> Act:
        """Act with one compiled call for all representatives and seeds."""
        own = {name: tensor.numpy() for name, tensor in actor.parameters.items()}
        layer, heads = (own["hidden_weight"], own["hidden_bias"]), own["head_weight"]
        biases, is_normal = own["head_bias"], self.actions.has_log_std
        log_std = own.get("log_std", biases)
        mean, scale, bound = self._normalization()

        def act(*step: FloatArray) -> None:
            kernels.act(*layer, heads, biases, log_std, is_normal, mean, scale, bound, *step)

        return act

    def normalize(
        self, observations: FloatArray, policies: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float32]:
        """Standardise and clip observations.

        Args:
            observations: (R k, ..., d) raw; with `policies`, (B, d).
            policies: (B,) the representative, out of R k, of each row.
        """
        mean, scale, bound = self._normalization()
        seeds = (np.arange(self.n_policies) if policies is None else policies) // (
            self.n_representatives
        )
        mean, scale = mean[seeds], scale[seeds]
        if policies is None:
            mean, scale = mean[:, None], scale[:, None]
        return np.clip((observations - mean) * scale, -bound, bound).astype(np.float32)

    def _normalization(self) -> tuple[FloatArray, FloatArray, float]:
        """What is subtracted from observations (R, d), the factor (R, d), and the bound."""
        if not self.config.normalize_observations:
            shape = self.statistics.mean.shape
            return np.zeros(shape), np.ones(shape), math.inf
        return self.statistics.mean, self.statistics.scale(), self.config.observation_clip

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
            self.finished = np.empty(0, np.intp), np.empty((0, rewards.shape[-1]))
            return
        policy, values = np.concatenate(policies), np.concatenate(returns)
        by_policy = np.argsort(policy, kind="stable")
        policy, values = policy[by_policy], values[by_policy].astype(np.float64)
        values /= self.config.reward_scale
        self.finished = policy, values
        mixing = self.config.mixing
        table = self.node_returns.transpose(0, 2, 1).reshape(self.n_policies, -1)
        for p in np.unique(policy):
            returns_of_p = values[policy == p]
            weights = mixing * (1 - mixing) ** np.arange(len(returns_of_p))[::-1]
            if np.isnan(table[p, 0]):
                weights[0] /= mixing
                table[p] = weights @ returns_of_p
            else:
                table[p] = (1 - mixing) ** len(returns_of_p) * table[p] + weights @ returns_of_p
        shape = (self.n_seeds, self.n_representatives, -1)
        self._set_node_returns(table.reshape(shape).transpose(0, 2, 1).copy())

    def _set_node_returns(self, node_returns: FloatArray) -> None:
        """Keep the table (R, B, k), and that of the agents, which follows from it or is it."""
        self.node_returns = self.average_returns = node_returns
        if self.nodes.weights is not None:
            self.average_returns = np.stack([self.nodes.of_agents(own) for own in node_returns])

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Everything that acting on needs to continue bit for bit: arrays (R, ...), and JSON."""
        by_row = {
            "observations": self.observations,
            "episode_returns": self.episode_returns.cpu().numpy(),
        }
        if self.dense is not None:
            by_row["smoothed"] = self.dense.smoothed
        by_row |= {f"env.{name}": array for name, array in self.envs.get_state().items()}
        arrays = {name: a.reshape(self.n_seeds, -1, *a.shape[1:]) for name, a in by_row.items()}
        arrays |= {name: getattr(self.statistics, name) for name in ("mean", "variance", "count")}
        arrays["average_returns"] = self.node_returns
        return arrays, [{"noise": noise.bit_generator.state} for noise in self.noise]

    def set_state(
        self, arrays: Mapping[str, npt.NDArray[Any]], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restore what `get_state` returned."""
        shapes = {name: array.shape for name, array in self.envs.get_state().items()}
        self.envs.set_state({n: arrays[f"env.{n}"].reshape(s) for n, s in shapes.items()})
        goes_on = bool(shapes)  # else these worlds begin new episodes
        if goes_on:
            self.observations = arrays["observations"].reshape(self.observations.shape)
        for name in ("mean", "variance", "count"):
            setattr(self.statistics, name, arrays[name].copy())
        if self.dense is not None and goes_on:
            self.dense.smoothed[:] = arrays["smoothed"].reshape(self.dense.smoothed.shape)
        if goes_on:
            returns = torch.from_numpy(arrays["episode_returns"]).view(self.episode_returns.shape)
            self.episode_returns.copy_(returns)
        self._set_node_returns(arrays["average_returns"].copy())
        for noise, state in zip(self.noise, states, strict=True):
            noise.bit_generator.state = state["noise"]
