"""What the solvers for agents who differ in dynamics share: tune, group, learn, keep the budget.

A share of the task's transitions tunes the clinic's controllers (`controllers`). By what they are
worth to each patient, or by something else, a rule makes k groups; the controller that is best for
a group is what its representative starts as, and the representatives of all seeds learn side by
side (`learner`), an episode of three days after the other. Before an episode the rule says who
lives with which representative, and after it the rule sees what everybody had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq

from baselines.common import streams
from baselines.common.loop import State, report
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.heterogeneous.controllers import (
    BasalBolus,
    Tuned,
    check_world,
    choose,
    grid_within,
    make_grid,
    tune,
)
from baselines.heterogeneous.learner import EPISODE_STEPS, Learner, PPOSettings
from rmdp_bench.evaluation import PairRollout, roll_out_pairs
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
        check_range(self, 1e-6, 1.0, "tuning_share")
        check_range(self, 2, 64, "n_points")


class Rule(Protocol):
    """How patients and representatives come together, for one seed."""

    @property
    def representatives(self) -> IntArray:
        """Who serves each patient, (n,)."""

    def next_episode(self, n_copies: int, rng: np.random.Generator) -> IntArray:
        """Say who lives in the copies of each representative, (k, copies)."""

    def after_episode(self, agents: IntArray, returns: FloatArray) -> None:
        """See what agents (k, copies) had in an episode of training: returns of that shape."""

    def after_visits(self, returns: FloatArray) -> None:
        """See what every patient has with every policy as it is, without noise: (n, k)."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, by name."""

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `get_state` gave."""


class FixedGroups:
    """Groups that stay as they are."""

    def __init__(self, representatives: IntArray, n_representatives: int) -> None:
        """Keep who serves whom (n,)."""
        self.representatives, self.n_representatives = representatives, n_representatives

    def next_episode(self, n_copies: int, rng: np.random.Generator) -> IntArray:
        """Every patient of a group as often as the others of it, to one."""
        return deal_groups(self.representatives, self.n_representatives, n_copies, rng)

    def after_episode(self, agents: IntArray, returns: FloatArray) -> None:
        """Learn nothing from it."""

    def after_visits(self, returns: FloatArray) -> None:
        """Learn nothing from it."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Nothing changes."""
        return {}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Nothing changes."""


N_STARTS, N_ROUNDS = 20, 50
"""Of k-means, and of each start; the tightest groups count."""


MakeRule = Callable[[OnlineTask, Tuned, int], Rule]
"""From the task, what tuning found, and a seed."""


def check(task: Task, config: GroupSettings) -> None:
    """Refuse other worlds, and a budget that is too small to tune and to learn.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    check_budget(task, config)


def check_budget(task: Task, config: GroupSettings, visit_share: float = 0.0) -> Budget:
    """The same for a solver whose visits take a share of what tuning leaves; give the plan.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    task = check_world(task)
    budget = plan_budget(task, config, visit_share)
    if budget.n_updates < 1:
        update = config.copies_each(task.n_representatives) * config.segment
        raise ValueError(
            f"{task.transitions} transitions per policy leave less than one update of {update} "
            "(copies of a representative x segment) after tuning and visits"
        )
    return budget


class Budget(NamedTuple):
    """Where a task's transitions go.

    Attributes:
        n_points: of each gain of the grid of controllers.
        n_episodes: that each of them plays with each patient.
        tuning: transitions per policy that this takes.
        n_visits: times that every policy plays an episode with every patient.
        visit: transitions per policy that one of them takes.
        n_updates: of the learner, in what is left.
    """

    n_points: int
    n_episodes: int
    tuning: int
    n_visits: int
    visit: int
    n_updates: int


def plan_budget(task: OnlineTask, config: GroupSettings, visit_share: float = 0.0) -> Budget:
    """Share out a task's transitions: tuning first, visits, and learning with all that is left.

    One policy needs no visits.

    Raises:
        ValueError: the budget is too small to tune.
    """
    k = task.n_representatives
    n_points, n_episodes = grid_within(task, config.n_points, share=config.tuning_share)
    visit = task.n_agents * EPISODE_STEPS
    tuning = -(-(n_points**2 * n_episodes * visit) // k)
    left = task.transitions - tuning
    n_visits = int(visit_share * left) // visit if k > 1 else 0
    n_updates = config.n_segments(k, left - n_visits * visit)
    return Budget(n_points, n_episodes, tuning, n_visits, visit, n_updates)


def members_of(representatives: IntArray, n_representatives: int) -> list[IntArray]:
    """The patients of each group; everybody, for a group that has none."""
    groups = [np.flatnonzero(representatives == j) for j in range(n_representatives)]
    return [own if len(own) else np.arange(len(representatives)) for own in groups]


def deal(members: IntArray, n_copies: int, rng: np.random.Generator) -> IntArray:
    """Who of the members lives in each of some copies: each as often as the others, to one."""
    order = rng.permutation(members)
    return rng.permutation(np.resize(order, n_copies))


def deal_groups(
    representatives: IntArray, k: int, n_copies: int, rng: np.random.Generator
) -> IntArray:
    """The same in the copies of each of k representatives, (k, copies), from its own patients."""
    return np.stack([deal(own, n_copies, rng) for own in members_of(representatives, k)])


def best_columns(tuned: Tuned, representatives: IntArray, k: int) -> IntArray:
    """Which controller of the grid is best for each of k groups, by the mean of its patients."""
    means = [tuned.returns[own].mean(axis=0) for own in members_of(representatives, k)]
    return np.asarray(np.stack(means).argmax(axis=1))


def controllers_of(tuned: Tuned, representatives: IntArray, k: int) -> list[BasalBolus]:
    """These controllers."""
    return [tuned.policies[column] for column in best_columns(tuned, representatives, k)]


def tuned_groups(tuned: Tuned, n_representatives: int) -> IntArray:
    """The groups (n,) in which k of the controllers serve best."""
    _, solution = choose(tuned, n_representatives)
    return np.asarray(solution.assignment.argmax(axis=1))


def cluster(points: FloatArray, k: int, seed: int) -> IntArray:
    """The group (n,) of each of n points (n, d), by k-means from several starts."""
    rng = np.random.default_rng([seed, streams.PPO.ASSIGNMENT])
    best, least = np.zeros(len(points), np.intp), np.inf
    for _ in range(N_STARTS):
        centres = points[rng.choice(len(points), k, replace=False)]
        for _ in range(N_ROUNDS):
            groups, _ = vq(points, centres)
            sizes = np.bincount(groups, minlength=k)[:, np.newaxis]
            sums = np.zeros_like(centres)
            np.add.at(sums, groups, points)
            # An empty group keeps its centre; a tighter start has none. (scipy's kmeans2 warns.)
            centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
        distance = float(np.square(points - centres[groups]).sum())
        if distance < least:
            best, least = groups.astype(np.intp), distance
    return best


def make_solution(policies: Sequence[Policy], representatives: IntArray) -> Solution:
    """Each patient served by one of k policies, (n,)."""
    return Solution(list(policies), np.eye(len(policies))[representatives])


class _Run:
    """One seed: its rule and its representatives."""

    def __init__(
        self,
        task: OnlineTask,
        config: GroupSettings,
        budget: Budget,
        rule: Rule,
        tuned: Tuned,
        seed: int,
    ) -> None:
        """Start the representatives as the best controllers of the rule's groups."""
        self.task, self.budget, self.rule, self.tuned, self.seed = task, budget, rule, tuned, seed
        controllers = controllers_of(tuned, rule.representatives, task.n_representatives)
        self.learner = Learner(task, controllers, config, n_planned=budget.n_updates, seed=seed)
        self.n_visited = 0

    @property
    def transitions(self) -> int:
        """Per policy so far."""
        budget = self.budget
        return budget.tuning + self.n_visited * budget.visit + self.learner.transitions

    def advance(self) -> float:
        """Play an episode, and the visits that are due; the mean risk of a step of the episode."""
        risk = play_episode(self.learner, self.rule)
        reached = self.learner.n_made / self.budget.n_updates
        while self.n_visited < int(reached * self.budget.n_visits):
            # Training has the seeds of a generator; visits those that follow the tuning's hundred.
            self.n_visited += 1
            visits = roll_out_pairs(
                *(self.task, list[Policy](self.learner.policies())),
                n_episodes=1,
                seed=1_000_000_000 + 1_000 * (self.seed % 1_000_000) + self.n_visited,
            )
            self.rule.after_visits(visits.returns.mean(axis=2))
        return risk

    def get_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that training goes on from: arrays, and JSON."""
        arrays, state = self.learner.get_state()
        named = {f"learner.{name}": array for name, array in arrays.items()}
        named |= {f"rule.{name}": array for name, array in self.rule.get_state().items()}
        return named, state | {"n_visited": self.n_visited}

    def set_state(self, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Restore what `get_state` gave."""
        parts: dict[str, dict[str, NDArray[Any]]] = {"learner": {}, "rule": {}}
        for name, array in arrays.items():
            part, _, own = name.partition(".")
            if part in parts:
                parts[part][own] = array
        self.learner.set_state(parts["learner"], state)
        self.rule.set_state(parts["rule"])
        self.n_visited = int(state["n_visited"])


@one_thread()
def solve_with_rule(
    task: OnlineTask,
    config: GroupSettings,
    seeds: Sequence[int],
    log: RunLog,
    make_rule: MakeRule,
    *,
    visit_share: float = 0.0,
) -> list[Solution]:
    """Tune, and train the representatives of every seed while a rule moves the groups.

    A checkpoint holds what an episode ended with.

    Args:
        task: of the glucose world.
        config: of tuning and of the learner.
        seeds: of everything random.
        log: where progress and checkpoints go.
        make_rule: makes the rule of a seed.
        visit_share: of what tuning leaves, for episodes that only tell the rule how every policy
            serves every patient; they are spread evenly over training, and the last ends it.

    Returns:
        One solution for each seed.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    budget = check_budget(task, config, visit_share)
    saved = log.load_checkpoint()
    found = tune_seeds(task, budget, seeds, saved and saved[0])
    runs = [
        _Run(task, config, budget, make_rule(task, tuned, seed), tuned, seed)
        for tuned, seed in zip(found, seeds, strict=True)
    ]
    if saved is not None:
        for r, run in enumerate(runs):
            run.set_state({name: array[r] for name, array in saved[0].items()}, saved[1][r])

    def get_state() -> State:
        states = [run.get_state() for run in runs]
        arrays = {name: np.stack([own[name] for own, _ in states]) for name in states[0][0]}
        arrays["tuned_returns"] = np.stack([run.tuned.returns for run in runs])
        return arrays, [state for _, state in states]

    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.learner.worlds())
        while runs[0].learner.n_made < budget.n_updates:
            risks = [run.advance() for run in runs]
            report(log, runs[0].transitions, {"train_risk": risks}, get_state, None)
    return [make_solution(run.learner.policies(), run.rule.representatives) for run in runs]


def tune_seeds(
    task: OnlineTask,
    budget: Budget,
    seeds: Sequence[int],
    saved: Mapping[str, NDArray[Any]] | None,
) -> list[Tuned]:
    """What a grid of controllers is worth to each patient, for each seed: played, or saved."""
    grid = make_grid(budget.n_points)
    if saved is not None:
        return [_as_tuned(grid, returns) for returns in saved["tuned_returns"]]
    # Evaluation seeds begin at 2**31; the hundred episodes after a multiple of it are its own.
    return [
        tune(task, grid, n_episodes=budget.n_episodes, seed=100 * (seed % 10_000_000))
        for seed in seeds
    ]


def play_episode(learner: Learner, rule: Rule) -> float:
    """An episode of all copies, or what is left of the updates; the mean risk of a step."""
    agents = rule.next_episode(learner.n_copies, learner.rng)
    learner.begin(agents)
    n_segments = EPISODE_STEPS // learner.settings.segment
    n_left = min(n_segments, learner.n_planned - learner.n_made)
    risks = [learner.advance() for _ in range(n_left)]
    if n_left == n_segments:
        rule.after_episode(agents, learner.returns)
    return float(np.mean(risks))


def _as_tuned(grid: Sequence[BasalBolus], returns: FloatArray) -> Tuned:
    """What tuning found, from mean returns (n, P) alone."""
    lengths = np.full((*returns.shape, 1), EPISODE_STEPS, np.int64)
    return Tuned(grid, PairRollout(returns[:, :, np.newaxis], lengths, {}))
