"""Training in stages: more representatives and several starts of each seed first, then fewer.

All of it is paid from the task's transitions: a stage that trains h representatives in s starts
makes h s batches in an iteration, of the k N that the task allows in all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from baselines.common import streams
from baselines.common.threads import one_thread
from baselines.online.ppo.assignments import AssignmentRule
from baselines.online.ppo.collection import Collector
from baselines.online.ppo.learner import Learner
from baselines.online.ppo.policies import RepresentativePolicy, export_onnx
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

Arrays = dict[str, npt.NDArray[Any]]

BY_SEED = ("mean", "variance", "count")
"""Last parts of the names of a learner's arrays that have no axis of representatives."""


class StagedRule(AssignmentRule, Protocol):
    """A rule that knows how far the training is, and may copy representatives."""

    fraction: float
    """Share of all transitions made so far; set before each update."""

    def after_update(self, learner: Learner) -> None:
        """May change the learner's representatives between an update and the next collection."""


MakeRule = Callable[[Collector, Sequence[int]], StagedRule]
"""From the collector of a stage and the seeds of its starts."""


@dataclass(frozen=True)
class Stage:
    """A part of the training that has one learner.

    Attributes:
        n_heads: representatives in training.
        n_starts: starts of each seed.
        first: where it begins, in iterations of k representatives of one start.
        length: its own iterations.
    """

    n_heads: int
    n_starts: int
    first: int
    length: int

    def spent(self, iteration: int, n_representatives: int) -> int:
        """Where it is after some own iterations, in iterations of k representatives, rounded up."""
        return self.first + math.ceil(iteration * self.n_heads * self.n_starts / n_representatives)


def make_stages(
    task: OnlineTask, batch_size: int, n_extra: int, n_starts: int, share: float
) -> list[Stage]:
    """A first stage for a share of all transitions, if it differs from the rest, and the rest.

    Args:
        task: the budget.
        batch_size: transitions of a representative in an iteration.
        n_extra: representatives more than k in the first stage.
        n_starts: starts of each seed in the first stage.
        share: of all transitions.
    """
    k, total = task.n_representatives, task.transitions // batch_size
    length = int(share * total * k / ((k + n_extra) * n_starts))
    if length == 0 or (n_extra == 0 and n_starts == 1):
        return [Stage(k, 1, 0, total)]
    first = Stage(k + n_extra, n_starts, 0, length)
    spent = first.spent(length, k)
    return [first, Stage(k, 1, spent, total - spent)]


def start_seeds(seeds: Sequence[int], n_starts: int) -> list[int]:
    """The seeds of all starts, those of one seed side by side; the first is the seed itself."""
    return [
        int(np.random.SeedSequence([seed, streams.PPO.STARTS, start]).generate_state(1)[0])
        if start
        else seed
        for seed in seeds
        for start in range(n_starts)
    ]


class StagedTraining:
    """The learner of one stage, and its rule.

    Attributes:
        learner: of `stage.n_heads` representatives, with the starts of all seeds as its seeds.
        rule: its own.
    """

    def __init__(
        self,
        task: OnlineTask,
        config: PPOConfig,
        seeds: Sequence[int],
        device: str,
        stage: Stage,
        make_rule: MakeRule,
    ) -> None:
        """Makes the learner and the rule."""
        self.task, self.config, self.seeds, self.device = task, config, seeds, device
        self.stage, self.make_rule = stage, make_rule
        starts = start_seeds(seeds, stage.n_starts)
        wider = dataclasses.replace(task, n_representatives=stage.n_heads)
        self.learner = Learner(wider, config, starts, device)
        self.rule = make_rule(self.learner.collector, starts)

    @property
    def is_over(self) -> bool:
        """Whether all iterations of the stage have been made."""
        return self.learner.iteration == self.stage.first + self.stage.length

    @property
    def transitions(self) -> int:
        """All transitions so far, of all starts and representatives, divided by k."""
        own = self.learner.iteration - self.stage.first
        return self.stage.spent(own, self.task.n_representatives) * self.config.batch_size

    def step(self) -> None:
        """One iteration."""
        self.rule.fraction = self.transitions / self.task.transitions
        batch = self.learner.collect()
        self.rule.after_collection(self.learner.collector.average_returns)
        self.learner.update(batch, self.rule)
        self.rule.after_update(self.learner)

    def welfare(self) -> npt.NDArray[np.float64]:
        """Welfare of every start by the moving averages of returns, (R, starts)."""
        welfare = np.array(self.learner.train_social_welfare(self.rule.served))
        return welfare.reshape(len(self.seeds), -1)

    def best_starts(self) -> npt.NDArray[np.intp]:
        """Each seed's best start, (R,) rows of the learner."""
        first = np.arange(len(self.seeds)) * self.stage.n_starts
        return np.asarray(first + self.welfare().argmax(1), np.intp)

    def solutions(self) -> list[Solution]:
        """The first k representatives of each seed's best start."""
        solutions = self.learner.solutions(self.rule.served)
        k = self.task.n_representatives
        return [first_representatives(solutions[row], k) for row in self.best_starts()]

    def get_state(self) -> tuple[Arrays, list[dict[str, Any]]]:
        """Arrays and JSON of every start, from which `set_state` continues bit for bit."""
        arrays, states = self.learner.get_state()
        return arrays | {f"rule.{n}": a for n, a in self.rule.get_state().items()}, states

    def set_state(self, arrays: Arrays, states: Sequence[Mapping[str, Any]]) -> None:
        """Restores what `get_state` returned."""
        self.learner.set_state(arrays, states)
        own = {n.removeprefix("rule."): a for n, a in arrays.items() if n.startswith("rule.")}
        self.rule.set_state(own)

    def go_on(self, stage: Stage) -> StagedTraining:
        """The training of the next stage, from each seed's best start; this one is closed."""
        k, chosen = stage.n_heads, self.best_starts()
        arrays, states = self.get_state()
        arrays = {
            name: narrow(name, array[chosen], self.stage.n_heads, k)
            for name, array in arrays.items()
        }
        self.learner.close()
        after = StagedTraining(
            self.task, self.config, self.seeds, self.device, stage, self.make_rule
        )
        after.set_state(arrays, [states[row] | {"iteration": stage.first} for row in chosen])
        return after


def narrow(name: str, array: npt.NDArray[Any], n_before: int, n_after: int) -> npt.NDArray[Any]:
    """The part of one array of a learner's state that its first representatives need.

    Args:
        name: of the array; a rule's own, "rule...", are for the rule to keep in one form.
        array: (R, ...).
        n_before: number of representatives.
        n_after: how many of them remain.
    """
    own = name.rsplit(".", 1)[-1]
    if name.startswith("rule.") or own in BY_SEED or own.startswith("hidden_"):
        return array
    if name == "average_returns":
        return array[:, :, :n_after].copy()
    return array[:, : array.shape[1] // n_before * n_after].copy()


def first_representatives(solution: Solution, k: int) -> Solution:
    """The first k policies of a learner's solution, who serve all agents."""
    if len(solution.policies) == k:
        return solution
    policy = solution.policies[0]
    assert isinstance(policy, RepresentativePolicy)
    heads = (policy.actors.head_weight[:k], policy.actors.head_bias[:k])
    actors = dataclasses.replace(policy.actors, head_weight=heads[0], head_bias=heads[1])
    policies = [RepresentativePolicy(actors, j) for j in range(k)]
    return Solution(policies, solution.assignment[:, :k], lambda: export_onnx(actors))


@one_thread()
def solve_in_stages(
    task: OnlineTask,
    config: PPOConfig,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
    stages: Sequence[Stage],
    make_rule: MakeRule,
) -> list[Solution]:
    """Trains through all stages.

    Returns:
        One solution for each seed.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    checkpoint = log.load_checkpoint()
    number = 0 if checkpoint is None else int(checkpoint[1][0]["stage"])
    training = StagedTraining(task, config, seeds, device, stages[number], make_rule)
    if checkpoint is not None:
        arrays = {
            name: array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
            for name, array in checkpoint[0].items()
        }
        training.set_state(arrays, [own for state in checkpoint[1] for own in state["starts"]])
    while not (training.is_over and number + 1 == len(stages)):
        if training.is_over:
            number += 1
            training = training.go_on(stages[number])
        training.step()
        welfare = [float(best) for best in training.welfare().max(1)]
        log.progress(training.transitions, {"train_social_welfare": welfare})
        if log.evaluation_due(training.transitions):
            log.evaluate(training.transitions, training.solutions())
        if log.checkpoint_due():
            save(training, number, log)
            if log.stop_requested:
                raise Interrupted
    training.learner.close()
    return training.solutions()


def save(training: StagedTraining, number: int, log: RunLog) -> None:
    """Saves a checkpoint, with the starts of a seed as the second axis of every array."""
    arrays, states = training.get_state()
    n_seeds, n_starts = len(training.seeds), training.stage.n_starts
    arrays = {name: a.reshape(n_seeds, n_starts, *a.shape[1:]) for name, a in arrays.items()}
    by_seed = [
        {"preparation": False, "stage": number, "starts": states[first : first + n_starts]}
        for first in range(0, len(states), n_starts)
    ]
    log.save_checkpoint(training.transitions, arrays, by_seed)
