"""What the solvers for agents who differ in dynamics share: tune, group, learn, keep the budget.

A share of the task's transitions tunes the clinic's controllers (`controllers`). By what they are
worth to each patient, or by something else, a rule makes k groups; the controller that is best for
a group is what its representative starts as, and the representatives of all seeds learn side by
side (`learner`), an episode of three days after the other. Before an episode the rule says who
lives with which representative, and after it the rule sees what everybody had.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from baselines.common.loop import State, report
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.heterogeneous.controllers import (
    ENVIRONMENT,
    BasalBolus,
    Tuned,
    grid_within,
    make_grid,
    tune,
)
from baselines.heterogeneous.learner import EPISODE_STEPS, Learner, PPOSettings
from rmdp_bench.evaluation import PairRollout
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OnlineTask, Task

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GroupSettings(PPOSettings):
    """Settings of solvers that tune and learn; those of the learner are in `PPOSettings`."""

    tuning_share: float = 0.3
    """Of the budget, for tuning: greatest."""
    n_points: int = 10
    """Most values of each gain of the controllers."""

    def __post_init__(self) -> None:
        """Refuse values that are out of range.

        Raises:
            ValueError: names the value and the range.
        """
        super().__post_init__()
        check_range(self, 0.0, 1.0, "tuning_share")
        check_range(self, 2, 64, "n_points")


class Episode(NamedTuple):
    """Who lives where in an episode of the learner's copies.

    Attributes:
        agents: (k, copies).
        weights: (k, copies) in the policies' losses; None: all 1.
    """

    agents: IntArray
    weights: FloatArray | None = None


class Rule(Protocol):
    """How patients and representatives come together, for one seed."""

    representatives: IntArray
    """(n,) who serves each patient."""

    def next_episode(self, n_copies: int, rng: np.random.Generator) -> Episode:
        """Say who lives in the copies of each representative."""

    def after_episode(self, agents: IntArray, returns: FloatArray) -> None:
        """See what agents (k, copies) had: their returns, of the same shape."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, by name."""

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `get_state` gave."""


class FixedGroups:
    """Groups that stay as they are."""

    def __init__(self, representatives: IntArray, n_representatives: int) -> None:
        """Keep who serves whom (n,)."""
        self.representatives, self.n_representatives = representatives, n_representatives

    def next_episode(self, n_copies: int, rng: np.random.Generator) -> Episode:
        """Every patient of a group as often as the others of it, to one."""
        members = members_of(self.representatives, self.n_representatives)
        return Episode(np.stack([deal(own, n_copies, rng) for own in members]))

    def after_episode(self, agents: IntArray, returns: FloatArray) -> None:
        """Learn nothing from it."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Nothing changes."""
        return {}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Nothing changes."""


MakeRule = Callable[[OnlineTask, Tuned, int], Rule]
"""From the task, what tuning found, and a seed."""


def check_world(task: Task) -> OnlineTask:
    """Refuse other worlds, and give the task back.

    Raises:
        ValueError: names the task and what was expected.
    """
    if not isinstance(task, OnlineTask) or task.env_id != ENVIRONMENT:
        raise ValueError(f"{task.id} is not of {ENVIRONMENT}, the one world with an insulin pump")
    return task


def check(task: Task, config: GroupSettings) -> None:
    """Refuse other worlds, and a budget that is too small to tune and to learn.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    task = check_world(task)
    left = task.transitions - _tuning_of(task, config).transitions
    if config.n_segments(task.n_representatives, left) < 1:
        update = config.copies_each(task.n_representatives) * config.segment
        raise ValueError(
            f"{task.transitions} transitions per policy leave less than one update of {update} "
            "(copies of a representative x segment) after tuning"
        )


class _Tuning(NamedTuple):
    """Size of a grid, and what it takes of the budget per policy."""

    n_points: int
    n_episodes: int
    transitions: int


def _tuning_of(task: OnlineTask, config: GroupSettings) -> _Tuning:
    share = dataclasses.replace(task, transitions=int(config.tuning_share * task.transitions))
    n_points, n_episodes = grid_within(share, config.n_points)
    used = n_points**2 * n_episodes * task.n_agents * EPISODE_STEPS
    return _Tuning(n_points, n_episodes, -(-used // task.n_representatives))


def members_of(representatives: IntArray, n_representatives: int) -> list[IntArray]:
    """The patients of each group; everybody, for a group that has none."""
    groups = [np.flatnonzero(representatives == j) for j in range(n_representatives)]
    return [own if len(own) else np.arange(len(representatives)) for own in groups]


def deal(members: IntArray, n_copies: int, rng: np.random.Generator) -> IntArray:
    """Who of the members lives in each of some copies: each as often as the others, to one."""
    order = rng.permutation(members)
    return rng.permutation(np.resize(order, n_copies))


def controllers_of(tuned: Tuned, representatives: IntArray, k: int) -> list[BasalBolus]:
    """The controller of the grid that is best for each group, by the mean of its patients."""
    members = members_of(representatives, k)
    return [tuned.policies[int(tuned.returns[own].mean(axis=0).argmax())] for own in members]


def make_solution(policies: Sequence[Policy], representatives: IntArray) -> Solution:
    """Each patient served by one of k policies, (n,)."""
    return Solution(list(policies), np.eye(len(policies))[representatives])


@one_thread()
def solve_with_rule(
    task: OnlineTask,
    config: GroupSettings,
    seeds: Sequence[int],
    log: RunLog,
    make_rule: MakeRule,
) -> list[Solution]:
    """Tune, and train the representatives of every seed while a rule moves the groups.

    A checkpoint holds what an episode ended with.

    Returns:
        One solution for each seed.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    check(task, config)
    k, tuning = task.n_representatives, _tuning_of(task, config)
    grid = make_grid(tuning.n_points)
    saved = log.load_checkpoint()
    if saved is None:
        # Evaluation seeds begin at 2**31; the hundred episodes after a multiple of it are its own.
        found = [
            tune(task, grid, n_episodes=tuning.n_episodes, seed=100 * (seed % 10_000_000))
            for seed in seeds
        ]
    else:
        found = [_as_tuned(grid, returns) for returns in saved[0]["tuned_returns"]]
    n_planned = config.n_segments(k, task.transitions - tuning.transitions)
    rules = [make_rule(task, tuned, seed) for tuned, seed in zip(found, seeds, strict=True)]
    learners = [
        Learner(
            *(task, controllers_of(tuned, rule.representatives, k), config),
            n_planned=n_planned,
            seed=seed,
        )
        for tuned, rule, seed in zip(found, rules, seeds, strict=True)
    ]
    if saved is not None:
        arrays, states = saved
        for r, (learner, rule) in enumerate(zip(learners, rules, strict=True)):
            learner.set_state({n: a[r] for n, a in _part(arrays, "learner").items()}, states[r])
            rule.set_state({n: a[r] for n, a in _part(arrays, "rule").items()})

    def get_state() -> State:
        arrays: dict[str, NDArray[Any]] = {"tuned_returns": np.stack([t.returns for t in found])}
        theirs = [learner.get_state() for learner in learners]
        for name in theirs[0][0]:
            arrays[f"learner.{name}"] = np.stack([own[name] for own, _ in theirs])
        rules_own = [rule.get_state() for rule in rules]
        for name in rules_own[0]:
            arrays[f"rule.{name}"] = np.stack([own[name] for own in rules_own])
        return arrays, [state for _, state in theirs]

    with contextlib.ExitStack() as stack:
        for learner in learners:
            stack.enter_context(learner.worlds())
        while learners[0].n_made < n_planned:
            risks = [
                play_episode(learner, rule) for learner, rule in zip(learners, rules, strict=True)
            ]
            report(
                *(log, tuning.transitions + learners[0].transitions, {"train_risk": risks}),
                *(get_state, None),
            )
    return [
        make_solution(learner.policies(), rule.representatives)
        for learner, rule in zip(learners, rules, strict=True)
    ]


def play_episode(learner: Learner, rule: Rule) -> float:
    """An episode of all copies, or what is left of the budget; the mean risk of a step."""
    episode = rule.next_episode(learner.n_copies, learner.rng)
    learner.begin(episode.agents, weights=episode.weights)
    n_segments = EPISODE_STEPS // learner.settings.segment
    n_left = min(n_segments, learner.n_planned - learner.n_made)
    risks = [learner.advance() for _ in range(n_left)]
    if n_left == n_segments:
        rule.after_episode(episode.agents, learner.returns)
    return float(np.mean(risks))


def _as_tuned(grid: Sequence[BasalBolus], returns: FloatArray) -> Tuned:
    """What tuning found, from mean returns (n, P) alone."""
    lengths = np.full((*returns.shape, 1), EPISODE_STEPS, np.int64)
    return Tuned(grid, PairRollout(returns[:, :, np.newaxis], lengths, {}))


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Those of a checkpoint's arrays whose names begin with a name and a dot."""
    start = f"{name}."
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
