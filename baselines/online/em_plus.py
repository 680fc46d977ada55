"""placeholder docstring (to be written once the measurements decide)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.assignments import e_step, random_even_assignment
from baselines.online.collection import Collector
from baselines.online.learner import Learner
from baselines.online.narrowing import narrow
from baselines.online.policies import RepresentativePolicy, export_onnx
from baselines.online.restructuring import Move, best_move, seed_candidates
from baselines.online.settings import PPOConfig, check, task_settings
from baselines.settings import check_range
from rmdp_bench.results import Interrupted, RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task

__all__ = ["Config", "check", "config_for", "solve"]

FloatArray = npt.NDArray[np.floating[Any]]

MAX_CANDIDATES = 4096
"""Of all representatives together, in one review; it bounds its memory."""


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and what is added to EM; each addition has a switch."""

    seeding: bool = True
    """Whether the first groups come from `seed_candidates`, or are random and even."""
    split_merge: bool = True
    """Whether representatives are split and merged."""
    scout: bool = True
    """Whether one more representative explores at first, for agents to whom nobody gave much."""
    exploration: float = 0.2
    """Share of all transitions in which there are a scout and several starts, if at all."""
    temperature: float = 0.0
    """Percent of return: softness of the assignment at the start; 0 for hard ones throughout."""
    final_temperature: float = 0.1
    """The same at the end of the annealing; after it, assignments are hard."""
    annealing: float = 0.5
    """Share of all transitions over which the temperature falls, geometrically."""
    n_starts: int = 1
    """Independent starts; the best goes on after the exploration."""
    candidates: Literal["steps", "episodes"] = "steps"
    """What a representative could repeat: one transition, or a whole episode."""
    review_interval: int = 10
    """Updates between two reviews of where the representatives are."""
    review_until: float = 0.75
    """Share of all transitions after which there are none."""
    patience: int = 25
    """Updates for which a representative that moved keeps the agents that it was promised."""
    least_gain: float = 0.01
    """Smallest gain of welfare, as a share, for which a representative moves."""
    least_given: float = 0.1
    """Share of what a candidate promises that a representative must give already."""
    reached: float = 10.0
    """Percent of return that an agent has to have received from someone, to be of no interest to
    the scout."""
    n_candidates: int = 256
    """Candidates that are drawn from each representative's last batch for a review."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range.
        """
        super().__post_init__()
        shares = ("exploration", "annealing", "review_until", "least_gain", "least_given")
        check_range(self, 0.0, 1.0, *shares)
        check_range(self, 0.0, 100.0, "temperature", "reached")
        check_range(self, 1e-6, 100.0, "final_temperature")
        counts = ("n_starts", "review_interval", "patience", "n_candidates")
        check_range(self, 1, math.inf, *counts)


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task))


class PlusRule:
    """EM's E-step and what is added to it, for each of the R seeds (or starts).

    Attributes:
        fraction: share of all transitions made so far, set from outside.
        moves: the seeds and moves of the last review, to be carried out after the update.
    """

    moves_within_update = False
    normalizes_minibatches = False
    _STATE = (
        "representatives",
        "settling_until",
        "scouting_until",
        "promised",
        "greatest",
        "tables",
    )

    def __init__(
        self, task: Task, config: Config, collector: Collector, seeds: Sequence[int], device: str
    ) -> None:
        """Starts every seed from its own random even assignment.

        Args:
            task: with its own number k of representatives.
            config: what is switched on.
            collector: of k representatives, or with a scout as the last of k + 1.
            seeds: R of them.
            device: the learner's.
        """
        self.config, self.collector, self.seeds, self.device = config, collector, seeds, device
        self.episode_steps = task.max_episode_steps
        self.k, self.n_heads = task.n_representatives, collector.n_representatives
        self.n_steps, self.fraction = 0, 0.0
        self.moves: list[tuple[int, Move]] = []
        n_seeds, n = len(seeds), task.n_agents
        first = [
            random_even_assignment(n, self.k, np.random.default_rng([seed, 4])) for seed in seeds
        ]
        self.representatives = np.stack(first)
        self.settling_until = np.zeros((n_seeds, self.k), np.intp)
        self.scouting_until = np.zeros_like(self.settling_until)
        self.promised = np.zeros((n_seeds, self.k, n))
        self.greatest = np.zeros((n_seeds, n))
        self.tables = np.full((n_seeds, n, self.k), np.nan)
        self._set_assignments()

    # What the learner asks of a rule.

    def after_collection(self, average_returns: FloatArray) -> None:
        """Reviews where representatives are, if it is time, and makes the E-step."""
        self.n_steps += 1
        config, self.moves = self.config, []
        given = self._given(average_returns)
        self.greatest = np.maximum(self.greatest, given.max(1))
        is_due = self.n_steps % config.review_interval == 0 and self.fraction < config.review_until
        for r in range(len(self.seeds)):
            if config.seeding and self.n_steps == 1:
                self._seed(r)
            if config.split_merge and is_due:
                self._review(r, given[r])
            self._assign(r, average_returns[r, :, : self.k])
            if (self.greatest[r] >= config.reached).all():
                self.greatest[r] = given[r, : self.k].max(0)
        self._set_assignments()

    def minibatch(self, objective: Tensor, agent_advantages: Tensor) -> None:
        """Does nothing: the assignment is fixed during the M-step."""

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays (R, ...)."""
        steps = np.full(len(self.seeds), self.n_steps)
        return {name: getattr(self, name) for name in self._STATE} | {"n_steps": steps}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restores what `get_state` returned."""
        for name in self._STATE:
            setattr(self, name, state[name].copy())
        self.n_steps = int(state["n_steps"][0])
        self._set_assignments()

    # What agents receive and could receive.

    def _given(self, average_returns: FloatArray) -> FloatArray:
        """What every representative gives to every agent now, (R, heads, n) in percent."""
        if self.config.candidates == "episodes":
            return np.nan_to_num(average_returns).transpose(0, 2, 1)
        factor = self.episode_steps / self.collector.config.reward_scale
        means = self.collector.rewards.mean((1, 2)).cpu().numpy() * factor
        given: FloatArray = means.reshape(len(self.seeds), self.n_heads, -1)
        return given

    def _candidates(self, r: int) -> list[FloatArray]:
        """Some of what each representative of seed r did last, (m, n) for each head."""
        size = min(self.config.n_candidates, max(1, MAX_CANDIDATES // self.n_heads))
        generator = np.random.default_rng([self.seeds[r], 5, self.n_steps])
        heads = range(r * self.n_heads, (r + 1) * self.n_heads)
        if self.config.candidates == "episodes":
            policies, returns = self.collector.finished
            own = [returns[policies == head] for head in heads]
            return [generator.permutation(rows)[:size].astype(np.float32) for rows in own]
        factor = self.episode_steps / self.collector.config.reward_scale
        rewards = self.collector.rewards.flatten(1, 2)
        rows = torch.from_numpy(generator.integers(rewards.shape[1], size=(self.n_heads, size)))
        rows = rows.to(rewards.device)
        return [
            (rewards[head, own] * factor).cpu().numpy()
            for head, own in zip(heads, rows, strict=True)
        ]

    # How the representatives change places.

    def _seed(self, r: int) -> None:
        """Promises every representative of seed r a candidate drawn as by k-means++."""
        candidates = np.concatenate(self._candidates(r))
        generator = np.random.default_rng([self.seeds[r], 6])
        if len(candidates):
            for j, row in enumerate(seed_candidates(candidates, self.k, generator)):
                self._promise(r, j, candidates[row])

    def _review(self, r: int, given: FloatArray) -> None:
        """Splits and merges representatives of seed r, if that gains something."""
        candidates = self._candidates(r)
        places = given[: self.k].copy()
        settling = self.settling_until[r] > self.n_steps
        places[settling] = self.promised[r, settling]
        lost = np.flatnonzero(~settling)
        for j in lost:
            own = self.representatives[r] == j
            totals = candidates[j][:, own].sum(1)
            if len(totals) and 0 < self.config.least_given * totals.max() <= given[j, own].sum():
                places[j], lost = candidates[j][totals.argmax()], lost[lost != j]
        move = best_move(
            places,
            np.concatenate(candidates),
            given,
            least_gain=self.config.least_gain,
            least_given=self.config.least_given,
        )
        if move is not None:
            self._promise(r, move.target, move.promised)
            self.moves.append((r, move))
            self.scouting_until[r, move.target] = 0
        self._send_scouts(r, lost, given)

    def _send_scouts(self, r: int, lost: npt.NDArray[np.intp], given: FloatArray) -> None:
        """Makes scouts of representatives that hold no place: copies of ones that do."""
        holding = np.setdiff1d(np.arange(self.k), lost)
        for j in lost:
            busy_until = max(self.scouting_until[r, j], self.settling_until[r, j])
            if len(holding) and busy_until <= self.n_steps:
                generator = np.random.default_rng([self.seeds[r], 8, self.n_steps, int(j)])
                source = int(generator.choice(holding))
                self.moves.append((r, Move(int(j), source, given[source])))
                self.scouting_until[r, j] = self.n_steps + 2 * self.config.patience
                self.greatest[r] = given[holding].max(0)

    def _promise(self, r: int, j: int, promised: FloatArray) -> None:
        self.promised[r, j] = promised
        self.settling_until[r, j] = self.n_steps + self.config.patience

    def _assign(self, r: int, average_returns: FloatArray) -> None:
        """The E-step of seed r, on returns (n, k) and on what was promised."""
        settling = self.settling_until[r] > self.n_steps
        table = np.where(settling, self.promised[r].T, average_returns)
        if not np.isnan(table).any():
            self.representatives[r] = e_step(table, self.representatives[r])
            self.tables[r] = table

    def _set_assignments(self) -> None:
        """Derives the assignment for training and that of a solution, (R, n, heads) each."""
        n_seeds, n = self.representatives.shape
        training = np.zeros((n_seeds, n, self.n_heads), np.float32)
        training[:, :, : self.k] = np.eye(self.k)[self.representatives]
        self.served = torch.from_numpy(training.copy()).to(self.device)
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


@dataclass(frozen=True)
class Stage:
    """A part of the training with one learner."""

    n_heads: int
    """Representatives, the scout among them."""
    n_starts: int
    first: int
    """Iterations of k representatives that all transitions before amount to."""
    length: int
    """Own iterations."""

    def spent(self, iteration: int, k: int) -> float:
        """The same for all transitions up to an iteration of this stage."""
        return self.first + iteration * self.n_heads * self.n_starts / k


def make_stages(task: Task, config: Config) -> list[Stage]:
    """The exploration, if there is any, and the rest."""
    k, total = task.n_representatives, task.transitions // config.batch_size
    n_heads = k + (config.scout and k < task.n_agents)
    cost = n_heads * config.n_starts / k
    length = int(config.exploration * total / cost)
    if cost == 1 or length == 0:
        return [Stage(k, 1, 0, total)]
    first = math.ceil(length * cost)
    stages = [Stage(n_heads, config.n_starts, 0, length), Stage(k, 1, first, total - first)]
    return stages


def start_seeds(seeds: Sequence[int], n_starts: int) -> list[int]:
    """The seeds of every start, those of one seed side by side; the first is the seed itself."""
    return [
        seed if start == 0 else int(np.random.SeedSequence([seed, 7, start]).generate_state(1)[0])
        for seed in seeds
        for start in range(n_starts)
    ]


class Training:
    """The learner of one stage and its rule."""

    def __init__(
        self, task: Task, config: Config, stage: Stage, seeds: Sequence[int], device: str
    ) -> None:
        self.task, self.config, self.stage, self.seeds = task, config, stage, seeds
        self.k = task.n_representatives
        own = start_seeds(seeds, stage.n_starts)
        heads = dataclasses.replace(task, n_representatives=stage.n_heads)
        self.learner = Learner(heads, config, own, device)
        self.rule = PlusRule(task, config, self.learner.collector, own, device)

    @property
    def transitions(self) -> int:
        """Transitions so far, all together, per policy of the k."""
        spent = self.stage.spent(self.learner.iteration - self.stage.first, self.k)
        return math.ceil(spent) * self.config.batch_size

    def step(self) -> None:
        learner, rule = self.learner, self.rule
        rule.fraction = self.transitions / self.task.transitions
        batch = learner.collect()
        rule.after_collection(learner.collector.average_returns)
        learner.update(batch, rule)
        for r, move in rule.moves:
            if move.source != move.target:
                learner.updates.copy_representative(r, move.source, move.target)
                learner.collector.average_returns[r, :, move.target] = np.nan

    def welfare(self) -> FloatArray:
        """(R, starts)"""
        welfare = np.array(self.learner.train_social_welfare(self.rule.served))
        return welfare.reshape(len(self.seeds), -1)

    def best(self) -> npt.NDArray[np.intp]:
        """Row of each seed's best start."""
        first = np.arange(len(self.seeds)) * self.stage.n_starts
        return first + self.welfare().argmax(1)

    def solutions(self) -> list[Solution]:
        everything = self.learner.solutions(self.rule.served)
        return [without_scout(everything[row], self.k) for row in self.best()]

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], list[Any]]:
        arrays, states = self.learner.get_state()
        arrays |= {f"rule.{name}": array for name, array in self.rule.get_state().items()}
        return arrays, states

    def set_state(self, arrays: Mapping[str, npt.NDArray[Any]], states: Sequence[Any]) -> None:
        self.learner.set_state(arrays, states)
        own = {n.removeprefix("rule."): a for n, a in arrays.items() if n.startswith("rule.")}
        self.rule.set_state(own)


def without_scout(solution: Solution, k: int) -> Solution:
    """The first k policies of a solution."""
    if len(solution.policies) == k:
        return solution
    policy = solution.policies[0]
    assert isinstance(policy, RepresentativePolicy)
    actors = policy.actors
    actors = dataclasses.replace(
        actors, head_weight=actors.head_weight[:k], head_bias=actors.head_bias[:k]
    )
    policies = [RepresentativePolicy(actors, j) for j in range(k)]
    return Solution(policies, solution.assignment[:, :k], lambda: export_onnx(actors))


def go_on(before: Training, stage: Stage, device: str) -> Training:
    """The next stage with the best start of each seed, without the scout."""
    after = Training(before.task, before.config, stage, before.seeds, device)
    chosen = before.best()
    arrays, states = before.learner.get_state()
    arrays = narrow(arrays, chosen, before.stage.n_heads, stage.n_heads)
    arrays |= {f"rule.{n}": a[chosen] for n, a in before.rule.get_state().items()}
    before.learner.close()
    after.set_state(arrays, [states[row] | {"iteration": stage.first} for row in chosen])
    return after


def save(training: Training, number: int, log: RunLog) -> None:
    arrays, states = training.get_state()
    n_starts = training.stage.n_starts
    by_seed = {n: a.reshape(len(training.seeds), n_starts, *a.shape[1:]) for n, a in arrays.items()}
    log.save_checkpoint(
        training.transitions,
        by_seed,
        [
            {"preparation": False, "stage": number, "starts": states[first : first + n_starts]}
            for first in range(0, len(states), n_starts)
        ],
    )


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Trains the k representatives of every seed, as one batch.

    Returns:
        One solution for each seed.
    """
    stages = make_stages(task, config)
    checkpoint = log.load_checkpoint()
    number = 0 if checkpoint is None else checkpoint[1][0]["stage"]
    training = Training(task, config, stages[number], seeds, device)
    if checkpoint is not None:
        arrays, states = checkpoint
        training.set_state(
            {n: a.reshape(-1, *a.shape[2:]) for n, a in arrays.items()},
            [own for state in states for own in state["starts"]],
        )
    while True:
        end = training.stage.first + training.stage.length
        while training.learner.iteration < end:
            training.step()
            welfare = [float(w) for w in training.welfare().max(1)]
            log.progress(training.transitions, {"train_social_welfare": welfare})
            if log.evaluation_due(training.transitions):
                log.evaluate(training.transitions, training.solutions())
            if log.checkpoint_due():
                save(training, number, log)
                if log.stop_requested:
                    raise Interrupted
        number += 1
        if number == len(stages):
            break
        training = go_on(training, stages[number], device)
    training.learner.close()
    return training.solutions()
