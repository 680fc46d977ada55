"""Acting with k representatives in many copies of their world, for several seeds at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.networks import HeadedNetwork
from baselines.online.settings import PPOConfig
from rmdp_bench.tasks import Task

FloatArray = npt.NDArray[np.floating[Any]]


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


class Collector:
    """The worlds of R k representatives, E copies for each, and what is known of their returns.

    Attributes:
        population: the agents.
        discrete: whether actions are discrete.
        n_actions: number of discrete actions, or of components of a continuous one.
        observation_size: d.
        statistics: of the raw observations of each seed.
        average_returns: (R, n, k) moving average of each agent's return with each representative
            (equation 10), in percent; nan where no episode has ended yet.
    """

    def __init__(self, task: Task, config: PPOConfig, seeds: Sequence[int], device: str) -> None:
        """Starts every world."""
        self.config, self.device = config, device
        self.n_seeds, self.n_representatives = len(seeds), task.n_representatives
        self.n_policies = self.n_seeds * self.n_representatives
        self.n_steps = config.batch_size // config.n_envs
        n_rows = self.n_representatives * config.n_envs
        envs: Any = gym.make_vec(
            task.env_id, num_envs=self.n_seeds * n_rows, autoreset_mode="SameStep"
        )
        self.population = envs.population
        self.envs = envs
        space = envs.single_action_space
        self.discrete = isinstance(space, gym.spaces.Discrete)
        self.n_actions = int(space.n) if self.discrete else int(space.shape[0])
        self.observation_size = int(envs.single_observation_space.shape[0])
        self.noise = [np.random.default_rng([seed, 1]) for seed in seeds]
        # Below 2^31: the seeds above are kept for evaluation.
        env_seeds = [
            np.random.SeedSequence([seed, 3]).generate_state(n_rows) >> 1 for seed in seeds
        ]
        observations, _ = envs.reset(seed=[int(s) for s in np.concatenate(env_seeds)])
        self.observations = np.asarray(observations)
        self.statistics = RunningStatistics(self.n_seeds, self.observation_size)
        shape = (self.n_policies, config.n_envs, task.n_agents)
        self.episode_returns = torch.zeros(shape, device=device)
        self.average_returns = np.full(
            (self.n_seeds, task.n_agents, shape[0] // self.n_seeds), np.nan
        )

    def collect(self, actor: HeadedNetwork) -> Batch:
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
        std = None if self.discrete else actor.parameters["log_std"].exp().cpu().numpy()
        for t in range(self.n_steps):
            raw[:, t] = self.observations.reshape(shape[0], shape[2], -1)
            normalised[:, t] = self.normalize(raw[:, t])
            inputs = torch.from_numpy(normalised[:, t]).to(self.device)
            outputs[:, t] = actor.evaluate(inputs).cpu().numpy()
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
        rewards *= self.config.reward_scale
        batch = Batch(
            observations=torch.from_numpy(normalised).to(to),
            last_observations=torch.from_numpy(last).to(to),
            actions=torch.from_numpy(actions).to(to),
            log_probs=self._log_probs(actor, torch.from_numpy(outputs).to(to), actions, noise),
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
        self,
        actor: HeadedNetwork,
        outputs: Tensor,
        actions: FloatArray,
        noise: npt.NDArray[np.float32],
    ) -> Tensor:
        """Log-probabilities (R k, T, E) of the actions taken."""
        if self.discrete:
            indices = torch.from_numpy(actions).to(self.device).long()
            return outputs.log_softmax(-1).gather(-1, indices).squeeze(-1)
        log_std = actor.parameters["log_std"].unsqueeze(1)
        z = torch.from_numpy(noise).to(self.device)
        log_probs: Tensor = (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        return log_probs

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
        shape = (self.n_seeds, self.n_representatives, -1)
        self.average_returns = table.reshape(shape).transpose(0, 2, 1).copy()

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Everything that acting on needs to continue bit for bit: arrays (R, ...), and JSON."""
        by_row = {
            "observations": self.observations,
            "episode_returns": self.episode_returns.cpu().numpy(),
        }
        by_row |= {f"env.{name}": array for name, array in self.envs.get_state().items()}
        arrays = {name: a.reshape(self.n_seeds, -1, *a.shape[1:]) for name, a in by_row.items()}
        arrays |= {name: getattr(self.statistics, name) for name in ("mean", "variance", "count")}
        arrays["average_returns"] = self.average_returns
        return arrays, [{"noise": noise.bit_generator.state} for noise in self.noise]

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
        for noise, state in zip(self.noise, states, strict=True):
            noise.bit_generator.state = state["noise"]


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
