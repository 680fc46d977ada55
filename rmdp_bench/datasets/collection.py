"""Collection: the episodes of a dataset, in memory.

    row of the vector environment:     0  1  2  ...  E-1
    episodes that are played in it:    0  1  2  ...  E-1
                                       E  ...                a row that is free takes the next one

An episode is what its number and the dataset's seed make it, whichever row it is played in and
whoever is in the other rows: environments treat rows on their own, every episode has generators of
its own, and policies are asked for one observation at a time (in a batch they would round
differently than alone).  So the number of rows changes the speed and nothing else.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rmdp_bench.datasets.table import DatasetEntry
from rmdp_bench.envs import get_population
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.solution import Policy

HIDDEN_PARAMETERS = "hidden_parameters_for_evaluation_only"
UNIFORM = -1
"""Behaviour policy of an episode in which all actions are uniform."""

Report = Callable[[float], None]
"""Called with the share that is done, from 0 to 1; what it raises ends the work."""


@dataclass(frozen=True)
class Episode:
    """One episode of T steps, in Minari's form.

    Attributes:
        observations: (T + 1, d), the first from the reset.
        actions: (T,) or (T, a).
        rewards: (T,) float64: of the agent who lives in the episode, or the mean over agents.
        terminations: (T,) bool.
        truncations: (T,) bool; where the entry says `ends_twice`, True beside a termination too.
        infos: name -> (T + 1, ...): "agent" (T + 1,) where agents differ in dynamics, else
            "outcome" (T + 1, m), zeros at the reset.
        metadata: "seed" and "options" of the reset, "behaviour_policy" (its index, or `UNIFORM`),
            and where agents differ in dynamics "agent" and `HIDDEN_PARAMETERS` by name.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    infos: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, Any]

    @property
    def n_steps(self) -> int:
        """T."""
        return len(self.rewards)

    def cut(self, n_steps: int) -> Episode:
        """The first `n_steps` steps, as an episode that was truncated there."""
        truncations = self.truncations[:n_steps].copy()
        truncations[-1] = True
        return replace(
            self,
            observations=self.observations[: n_steps + 1],
            actions=self.actions[:n_steps],
            rewards=self.rewards[:n_steps],
            terminations=self.terminations[:n_steps],
            truncations=truncations,
            infos={name: values[: n_steps + 1] for name, values in self.infos.items()},
        )


def collect(
    entry: DatasetEntry,
    *,
    agents: Sequence[int] | None = None,
    n_rows: int | None = None,
    report: Report | None = None,
) -> list[Episode]:
    """Play the episodes of a dataset, or those that it would have if it had other agents.

    Args:
        entry: what to collect.
        agents: where agents differ in dynamics: whose episodes to play, agents of the environment's
            `population.parameters`. None: the dataset's own.
        n_rows: episodes that are played at the same time; None: as many as are surely needed.
        report: told how far it is.

    Raises:
        ValueError: the files of the policies are missing or damaged, or a policy fails.
    """
    limit = entry.max_episode_steps
    policies = () if entry.load_policies is None else tuple(entry.load_policies())
    if agents is not None:
        entry = replace(entry, n_episodes=len(agents))
    size = entry.n_episodes or math.ceil((entry.n_steps or 0) / limit)
    n_rows = min(n_rows or size, entry.n_episodes or sys.maxsize)
    numbers = count() if agents is None else iter(agents)
    envs: Any = gym.make_vec(
        entry.env_id,
        num_envs=n_rows,
        autoreset_mode=AutoresetMode.DISABLED,
        **entry.env_kwargs,
    )
    try:
        collector = _Collector(entry, envs, limit, policies, numbers)
        episodes = collector.collect(report or (lambda share: None))
    finally:
        envs.close()
    if entry.n_steps is not None:
        excess = sum(episode.n_steps for episode in episodes) - entry.n_steps
        episodes[-1] = episodes[-1].cut(episodes[-1].n_steps - excess) if excess else episodes[-1]
    return episodes


class _Collector:
    """A vector environment of E rows, and what has happened in each since its last reset."""

    def __init__(
        self,
        entry: DatasetEntry,
        envs: Any,
        limit: int,
        policies: Sequence[Policy],
        numbers: Iterator[int],
    ) -> None:
        self._entry, self._envs, self._limit, self._policies = entry, envs, limit, policies
        self._numbers = numbers
        """Of the episodes that are still to be started; a number is all that an episode needs."""
        population = get_population(entry.env_id)
        self._population = population if isinstance(population, DynamicsPopulation) else None
        self._info_name = "outcome" if self._population is None else "agent"
        observation_space, action_space = envs.single_observation_space, envs.single_action_space
        n_rows = envs.num_envs
        shape, after = (n_rows, limit), (n_rows, limit + 1)
        self._observations = np.zeros((*after, *observation_space.shape), observation_space.dtype)
        self._actions = np.zeros((*shape, *action_space.shape), action_space.dtype)
        self._uniform = np.ones(shape, np.bool_)
        """Where `_actions` is final; elsewhere the policy's action will take its place."""
        self._rewards = np.zeros(shape)
        self._terminations = np.zeros(shape, np.bool_)
        self._truncations = np.zeros(shape, np.bool_)
        self._infos: NDArray[Any] | None = None
        self._steps = np.zeros(n_rows, np.int64)
        self._episode_of = np.full(n_rows, -1)
        """-1: the row is only kept going."""
        self._metadata: list[dict[str, Any]] = [{} for _ in range(n_rows)]
        self._n_started = 0
        self._n_steps_ended = 0
        self._ended: dict[int, Episode] = {}

    def collect(self, report: Report) -> list[Episode]:
        """All episodes, in order."""
        for policy in self._policies:
            policy.reset(1)
        self._begin(np.ones(self._envs.num_envs, np.bool_))
        episodes: list[Episode] = []
        n_steps = 0
        while True:
            ended = self._step()
            for row in np.flatnonzero(ended & (self._episode_of >= 0)).tolist():
                self._keep(row)
            while len(episodes) in self._ended:
                episodes.append(self._ended.pop(len(episodes)))
                n_steps += episodes[-1].n_steps
                if len(episodes) == self._entry.n_episodes or n_steps >= (
                    self._entry.n_steps or math.inf
                ):
                    report(1.0)
                    return episodes
            report(self._share(len(episodes) + len(self._ended)))
            if ended.any():
                self._begin(ended)

    def _share(self, n_ended: int) -> float:
        """How much is done, but for the last bit."""
        steps = float(self._steps[self._episode_of >= 0].sum())
        if self._entry.n_steps is not None:
            return min((self._n_steps_ended + steps) / self._entry.n_steps, 0.999)
        assert self._entry.n_episodes is not None
        return min((n_ended + steps / self._limit) / self._entry.n_episodes, 0.999)

    def _begin(self, rows: NDArray[np.bool_]) -> None:
        """Start the next episodes in these rows (E,) bool."""
        for row in np.flatnonzero(rows).tolist():
            if self._n_started == self._entry.n_episodes:
                self._episode_of[row] = -1  # its last episode again, for nobody
            else:
                self._episode_of[row] = self._n_started
                self._metadata[row] = self._plan(row, next(self._numbers))
                self._n_started += 1
        options: dict[str, Any] = {"reset_mask": rows}
        if self._population is not None:
            options["agent"] = [metadata["agent"] for metadata in self._metadata]
        seeds = [
            metadata["seed"] if start else None
            for metadata, start in zip(self._metadata, rows, strict=True)
        ]
        observations, infos = self._envs.reset(seed=seeds, options=options)
        info = infos[self._info_name]
        if self._infos is None:
            shape = (len(rows), self._limit + 1, *info.shape[1:])
            self._infos = np.zeros(shape, info.dtype)
        self._steps[rows] = 0
        self._observations[rows, 0] = observations[rows]
        self._infos[rows, 0] = info[rows]

    def _plan(self, row: int, episode: int) -> dict[str, Any]:
        """Draw all that is random in an episode but the environment, and give its metadata."""
        seed = self._entry.seed + episode
        generator = np.random.default_rng((seed, 1))  # another stream than the environment's
        space = self._envs.single_action_space
        if self._policies:
            drawn = int(generator.integers(len(self._policies)))
            policy = episode if self._entry.own_policies else drawn
            self._uniform[row] = generator.random(self._limit) < self._entry.epsilon
        else:
            policy = UNIFORM
            self._uniform[row] = True
        actions: NDArray[Any]
        if isinstance(space, gym.spaces.Discrete):
            actions = generator.integers(space.start, space.start + space.n, self._limit)
        else:
            actions = generator.uniform(space.low, space.high, (self._limit, *space.shape))
        self._actions[row] = actions
        metadata: dict[str, Any] = {"seed": seed, "behaviour_policy": policy}
        if self._population is not None:
            values = self._population.parameters[episode].tolist()
            metadata["agent"] = episode
            metadata["options"] = {"agent": episode}
            metadata[HIDDEN_PARAMETERS] = dict(zip(self._population.names, values, strict=True))
        return metadata

    def _step(self) -> NDArray[np.bool_]:
        """Step all rows, and say which have ended (E,)."""
        assert self._infos is not None
        rows, steps = np.arange(len(self._steps)), self._steps
        for row in np.flatnonzero(~self._uniform[rows, steps] & (self._episode_of >= 0)):
            step = steps[row]
            policy = self._policies[self._metadata[row]["behaviour_policy"]]
            self._actions[row, step] = policy.act(self._observations[row, step : step + 1])[0]
        observations, rewards, terminations, truncations, infos = self._envs.step(
            self._actions[rows, steps]
        )
        self._rewards[rows, steps] = rewards
        self._terminations[rows, steps] = terminations
        self._truncations[rows, steps] = truncations
        self._observations[rows, steps + 1] = observations
        self._infos[rows, steps + 1] = infos[self._info_name]
        self._steps += 1
        ended: NDArray[np.bool_] = terminations | truncations
        return ended

    def _keep(self, row: int) -> None:
        """Copy the episode that has ended in a row."""
        assert self._infos is not None
        n_steps = int(self._steps[row])
        single = self._terminations[row, :n_steps] & (not self._entry.ends_twice)
        self._n_steps_ended += n_steps
        self._ended[int(self._episode_of[row])] = Episode(
            observations=self._observations[row, : n_steps + 1].copy(),
            actions=self._actions[row, :n_steps].copy(),
            rewards=self._rewards[row, :n_steps].copy(),
            terminations=self._terminations[row, :n_steps].copy(),
            truncations=self._truncations[row, :n_steps] & ~single,
            infos={self._info_name: self._infos[row, : n_steps + 1].copy()},
            metadata=self._metadata[row],
        )
