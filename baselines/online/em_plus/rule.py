"""Where the representatives are, whom each serves, and when one moves: the rule of `em_plus`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from baselines.common import streams
from baselines.online.em_plus.places import Move, best_move, remember, seed_places
from baselines.online.em_plus.settings import Config
from baselines.online.ppo.assignments import e_step, one_hot, random_even_assignment
from baselines.online.ppo.collection import Collector
from baselines.online.ppo.learner import PPOLearner
from rmdp_bench.scoring import utilities
from rmdp_bench.tasks import OnlineTask

FloatArray = npt.NDArray[np.floating[Any]]

MAX_CANDIDATES = 4096
"""Of all representatives together, in one review; it bounds its memory."""


class PlusRule:
    """EM's E-step and what is added to it, for each of the R seeds (or starts).

    Attributes:
        fraction: share of all transitions made so far.
        moves: rows and moves that were decided on, to be carried out after the update.
    """

    moves_within_update = False
    normalizes_minibatches = False
    _STATE = (
        "representatives",
        "served_by",
        "settling_until",
        "scouting_until",
        "promised",
        "greatest",
        "tables",
        "memory",
        "is_seeded",
    )

    def __init__(
        self,
        task: OnlineTask,
        config: Config,
        collector: Collector,
        seeds: Sequence[int],
        device: str,
    ) -> None:
        """Start every seed from its own random even assignment.

        Args:
            task: with its own number k of representatives.
            config: what is switched on.
            collector: of k representatives, or with a scout as the last of k + 1.
            seeds: R of them.
            device: the learner's.
        """
        self.config, self.collector, self.seeds, self.device = config, collector, seeds, device
        self.objective = task.objective
        self.episode_steps = task.max_episode_steps
        self.k, self.n_heads = task.n_representatives, collector.n_representatives
        self.n_steps, self.fraction = 0, 0.0
        self.moves: list[tuple[int, Move]] = []
        n_seeds, n = len(seeds), task.n_agents
        first = [
            random_even_assignment(n, self.k, np.random.default_rng([seed, streams.PPO.ASSIGNMENT]))
            for seed in seeds
        ]
        self.representatives = np.stack(first)
        self.served_by = self.representatives.copy()
        self.settling_until = np.zeros((n_seeds, self.k), np.intp)
        self.scouting_until = np.zeros_like(self.settling_until)
        self.promised = np.zeros((n_seeds, self.k, n))
        self.greatest = np.zeros((n_seeds, n))
        self.memory = np.zeros((n_seeds, config.memory, n), np.float32)
        self.is_seeded = np.full(n_seeds, not config.seeding)
        self.tables = np.full((n_seeds, n, self.k), np.nan)
        self._set_assignments()

    # What the learner asks of a rule.

    def after_collection(self, average_returns: FloatArray) -> None:
        """Review where representatives are, if it is time, and make the E-step."""
        self.n_steps += 1
        config, self.moves = self.config, []
        average_returns = self._worth(average_returns)
        given = self._given(average_returns)
        self.greatest = np.maximum(self.greatest, given.max(1))
        is_due = self.n_steps % config.review_interval == 0 and self.fraction < config.review_until
        for r in range(len(self.seeds)):
            if config.memory:
                seen = np.concatenate(self._candidates(r))
                self.memory[r] = remember(self.memory[r], seen)
            if self.fraction >= config.seeding_at and not self.is_seeded[r]:
                self._seed(r, given[r])
            elif config.split_merge and is_due:
                self._review(r, given[r])
            self._assign(r, average_returns[r, :, : self.k])
            if (self.greatest[r] >= config.reached).all():
                self.greatest[r] = given[r, : self.k].max(0)
        self._set_assignments()

    def after_update(self, learner: PPOLearner) -> None:
        """Carry out the moves that were decided on before the update."""
        for r, move in self.moves:
            if move.source != move.target:
                learner.copy_representative(r, move.source, move.target)
                learner.collector.average_returns[r, :, move.target] = np.nan

    def descend(self, slope: Tensor) -> None:
        """Leave the assignment as it is during the M-step."""

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays (R, ...)."""
        steps = np.full(len(self.seeds), self.n_steps)
        return {name: getattr(self, name) for name in self._STATE} | {"n_steps": steps}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned."""
        for name in self._STATE:
            setattr(self, name, state[name].copy())
        self.n_steps = int(state["n_steps"][0])
        self._set_assignments()

    # What agents receive and could receive.

    def _worth(self, returns: FloatArray) -> FloatArray:
        """What returns add to the objective, of any shape: the utilities of places and groups."""
        return returns if self.objective == "utilitarian" else utilities(returns, self.objective)

    def _given(self, average_returns: FloatArray) -> FloatArray:
        """What every representative gives to every agent now, (R, heads, n) in percent."""
        if self.config.candidates == "episodes":
            return np.maximum(np.nan_to_num(average_returns), 0.0).transpose(0, 2, 1)
        factor = self.episode_steps / self.collector.config.reward_scale
        means = self.collector.rewards.mean((1, 2)).cpu().numpy() * factor
        given: FloatArray = means.reshape(len(self.seeds), self.n_heads, -1)
        return np.maximum(self._worth(given), 0.0)

    def _candidates(self, r: int) -> list[FloatArray]:
        """Some of what each representative of seed r did last, (m, n) for each head."""
        size = min(self.config.n_candidates, max(1, MAX_CANDIDATES // self.n_heads))
        generator = np.random.default_rng([self.seeds[r], streams.PPO.CANDIDATES, self.n_steps])
        heads = range(r * self.n_heads, (r + 1) * self.n_heads)
        if self.config.candidates == "episodes":
            policies, returns = self.collector.finished
            own = [returns[policies == head] for head in heads]
            chosen = [generator.permutation(rows)[:size].astype(np.float32) for rows in own]
            return [np.maximum(self._worth(rows), 0.0) for rows in chosen]
        factor = self.episode_steps / self.collector.config.reward_scale
        rewards = self.collector.rewards.flatten(1, 2)
        rows = torch.from_numpy(generator.integers(rewards.shape[1], size=(self.n_heads, size)))
        rows = rows.to(rewards.device)
        return [
            np.maximum(self._worth((rewards[head, own] * factor).cpu().numpy()), 0.0)
            for head, own in zip(heads, rows, strict=True)
        ]

    # How the representatives change places.

    def _seed(self, r: int, given: FloatArray) -> None:
        """Promise candidates to all representatives of seed r, each to one that is near."""
        candidates = np.concatenate([*self._candidates(r), self.memory[r]])
        places = seed_places(
            candidates, self.k, np.random.default_rng([self.seeds[r], streams.PPO.PLACES])
        )
        near = (places == places.max(0, initial=0.0)) @ given[: self.k].T
        for place, j in zip(*linear_sum_assignment(near, maximize=True), strict=True):
            self._promise(r, j, places[place])
        self.is_seeded[r] = len(places) > 0

    def _review(self, r: int, given: FloatArray) -> None:
        """Split and merge representatives of seed r, if that gains something."""
        candidates = self._candidates(r)
        own = self.representatives[r] == np.arange(self.k)[:, None]  # (k, n)
        settling = self.settling_until[r] > self.n_steps
        shares = (given[: self.k] * own).sum(1)
        lost = ~settling & (shares < self.config.least_share * shares.mean())
        places = given[: self.k].copy()
        places[settling] = self.promised[r, settling]
        for j in np.flatnonzero(~settling & ~lost):
            if len(candidates[j]):
                places[j] = candidates[j][candidates[j][:, own[j]].sum(1).argmax()]
        move = best_move(
            places,
            np.concatenate([*candidates, self.memory[r]]),
            given,
            least_gain=self.config.least_gain,
            least_given=self.config.least_given,
        )
        if move is not None:
            self._promise(r, move.target, move.promised)
            self.moves.append((r, move))
            self.scouting_until[r, move.target] = 0
        self._send_scouts(r, np.flatnonzero(lost), given)

    def _send_scouts(self, r: int, lost: npt.NDArray[np.intp], given: FloatArray) -> None:
        """Make scouts of representatives that hold no place: copies of ones that do."""
        holding = np.setdiff1d(np.arange(self.k), lost)
        for j in lost:
            busy_until = max(self.scouting_until[r, j], self.settling_until[r, j])
            if len(holding) and busy_until <= self.n_steps:
                generator = np.random.default_rng(
                    [self.seeds[r], streams.PPO.SCOUTS, self.n_steps, int(j)]
                )
                source = int(generator.choice(holding))
                self.moves.append((r, Move(int(j), source, given[source])))
                self.scouting_until[r, j] = self.n_steps + 2 * self.config.patience
                self.greatest[r] = given[holding].max(0)

    def _promise(self, r: int, j: int, promised: FloatArray) -> None:
        self.promised[r, j] = promised
        self.settling_until[r, j] = self.n_steps + self.config.patience

    def _assign(self, r: int, average_returns: FloatArray) -> None:
        """The E-step of seed r, on returns (n, k) and on what was promised."""
        self.served_by[r] = e_step(np.nan_to_num(average_returns), self.representatives[r])
        settling = self.settling_until[r] > self.n_steps
        table = np.where(settling, self.promised[r].T, average_returns)
        if not np.isnan(table).any():
            self.representatives[r] = e_step(table, self.representatives[r])
            self.tables[r] = table

    def _set_assignments(self) -> None:
        """Derive the assignment for training and that of a solution, (R, n, heads) each."""
        n_seeds, n = self.representatives.shape
        self.served = one_hot(self.served_by, self.n_heads, self.device)
        training = np.zeros((n_seeds, n, self.n_heads), np.float32)
        training[:, :, : self.k] = np.eye(self.k)[self.representatives]
        config = self.config
        if config.temperature > 0 and self.fraction < config.annealing:
            progress = self.fraction / config.annealing
            ratio = config.final_temperature / config.temperature
            temperature = config.temperature * ratio**progress
            for r, table in enumerate(self.tables):
                if not np.isnan(table).any():
                    weights = np.exp((table - table.max(1, keepdims=True)) / temperature)
                    training[r, :, : self.k] = weights / weights.sum(1, keepdims=True)
        scouts = training.sum(1) == 0
        scouts[:, : self.k] |= self.scouting_until > self.n_steps
        for r, head in np.argwhere(scouts):
            training[r, :, head] = self.greatest[r] < self.config.reached
        self.assignment = torch.from_numpy(training).to(self.device)
