"""One policy for every pair of gains, and k of its conditions, for agents with own worlds.

A share of the budget tunes a grid of the clinic's controllers (`controllers`): the two gains that
serve a patient best say what they need. One network (`learner`) then learns around all of these
controllers at once. It is told the gains, as its condition, and multiplies the doses that they
give. In training a patient's condition is their own best gains times e^(spread z), with z normal
and one spread for both: policies are to serve those as well who are near, and with fewer policies
more are far, so that the spread is `spread` over the square root of k (two gains: a k-th of the
patients is in a circle whose radius falls like that).

In the end controllers of the grid are the candidates: first the tuned groups' k, then those that
are best for most patients, as many as the share for selection lets play an episode with everybody.
k of them are chosen by facility location, exactly where that is possible. Each is one policy: its
condition is part of the first layer's bias.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.common.loop import State, report
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.heterogeneous.controllers import (
    BASAL_RANGE,
    RATIO_RANGE,
    BasalBolus,
    Tuned,
    check_world,
    choose,
    choose_policies,
)
from baselines.heterogeneous.groups import (
    Budget,
    FloatArray,
    GroupSettings,
    IntArray,
    deal,
    plan_budget,
    tune_seeds,
)
from baselines.heterogeneous.learner import EPISODE_STEPS, Learner
from baselines.heterogeneous.policies import LearnedPolicy
from rmdp_bench.evaluation import roll_out_pairs
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["Config", "check", "solve"]

MOST_CANDIDATES = 100


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning, of the learner and of the choice."""

    selection_share: float = 0.2
    """Of the budget that tuning leaves, for the choice among conditions."""
    spread: float = 0.6
    """Of the logarithm of a condition's gains around a patient's own, for k = 1."""

    def __post_init__(self) -> None:
        """Refuse values that are out of range.

        Raises:
            ValueError: names the value and the range.
        """
        super().__post_init__()
        check_range(self, 0.01, 0.9, "selection_share")
        check_range(self, 0.0, 3.0, "spread")


def check(task: Task, config: Config) -> None:
    """Refuse other worlds, and a budget that is too small to tune, learn and choose.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    task = check_world(task)
    budget, n_candidates = _plan(task, config)
    if budget.n_updates < 1 or n_candidates < task.n_representatives:
        raise ValueError(
            f"{task.transitions} transitions per policy are not enough to tune, to learn and to "
            f"choose {task.n_representatives} conditions"
        )


def _plan(task: OnlineTask, config: Config) -> tuple[Budget, int]:
    """Tuning, updates of one network with all copies, and how many candidates there are."""
    k, budget = task.n_representatives, plan_budget(task, config)
    left = (task.transitions - budget.tuning) * k
    n_candidates = min(
        *(int(config.selection_share * left) // budget.visit, budget.n_points**2, MOST_CANDIDATES)
    )
    n_updates = config.n_segments(1, left - n_candidates * budget.visit)
    return budget._replace(n_updates=n_updates), n_candidates


def _gains(controllers: Sequence[BasalBolus]) -> FloatArray:
    """Logarithms of basal rate and carbohydrate ratio, (B, 2)."""
    return np.log([(own.basal, own.carbohydrate_ratio) for own in controllers])


def _conditions(gains: FloatArray) -> FloatArray:
    """What the network is told of logarithms of gains (..., 2): from -1 to 1 on the grid."""
    low, high = np.log([BASAL_RANGE, RATIO_RANGE]).T
    return np.asarray(2.0 * (gains - low) / (high - low) - 1.0)


def _policy(learner: Learner, controller: BasalBolus) -> LearnedPolicy:
    """The policy of a controller's gains."""
    return learner.policy(0, controller, _conditions(_gains([controller]))[0])


class _Run:
    """One seed."""

    def __init__(
        self, task: OnlineTask, config: Config, budget: Budget, tuned: Tuned, seed: int
    ) -> None:
        self.task, self.tuned, self.seed = task, tuned, seed
        best = tuned.returns.argmax(axis=1)
        self.own = _gains([tuned.policies[column] for column in best])
        self.spread = config.spread / math.sqrt(task.n_representatives)
        self.learner = Learner(
            *(task, [BasalBolus(1.0, 1.0)], config),
            n_planned=budget.n_updates,
            seed=seed,
            n_conditions=2,
        )

    def play_episode(self) -> float:
        """An episode of all copies, or what is left of the updates; the mean risk of a step."""
        learner = self.learner
        agents: IntArray = deal(np.arange(len(self.own)), learner.n_copies, learner.rng)
        gains = self.own[agents] + self.spread * learner.rng.normal(size=(len(agents), 2))
        controllers = [BasalBolus(*pair) for pair in np.exp(gains).tolist()]
        learner.begin(
            agents[np.newaxis],
            controllers=controllers,
            conditions=_conditions(gains)[np.newaxis],
        )
        n_segments = EPISODE_STEPS // learner.settings.segment
        n_left = min(n_segments, learner.n_planned - learner.n_made)
        return float(np.mean([learner.advance() for _ in range(n_left)]))

    def choose(self, n_candidates: int) -> Solution:
        """The k conditions with which the patients fare best, of the candidates."""
        k, tuned = self.task.n_representatives, self.tuned
        first = choose(tuned, k)[0].chosen.tolist()
        counts = np.bincount(tuned.returns.argmax(axis=1), minlength=len(tuned.policies))
        ranked = np.lexsort((-tuned.returns.mean(axis=0), -counts)).tolist()
        columns = list(dict.fromkeys([*first, *ranked]))[:n_candidates]
        policies = [_policy(self.learner, tuned.policies[column]) for column in columns]
        # Tuning has the hundred seeds from a multiple of it; these are far from all of them.
        played = roll_out_pairs(
            *(self.task, policies),
            n_episodes=1,
            seed=1_000_000_000 + 1_000 * (self.seed % 1_000_000),
        )
        return choose_policies(policies, played.returns.mean(axis=2), k)[1]


@one_thread()
def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Tune, train one network for all gains, and choose k of them.

    Returns:
        One solution for each seed.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    del device  # networks are small: the CPU
    check(task, config)
    budget, n_candidates = _plan(task, config)
    saved = log.load_checkpoint()
    found = tune_seeds(task, budget, seeds, saved and saved[0])
    runs = [
        _Run(task, config, budget, tuned, seed) for tuned, seed in zip(found, seeds, strict=True)
    ]
    if saved is not None:
        for r, run in enumerate(runs):
            run.learner.set_state({n: a[r] for n, a in saved[0].items()}, saved[1][r])

    def get_state() -> State:
        states = [run.learner.get_state() for run in runs]
        arrays: dict[str, NDArray[Any]] = {
            name: np.stack([own[name] for own, _ in states]) for name in states[0][0]
        }
        arrays["tuned_returns"] = np.stack([tuned.returns for tuned in found])
        return arrays, [state for _, state in states]

    def transitions(played: int = 0) -> int:
        """Per policy so far, with as many candidates played."""
        made = runs[0].learner.transitions + played * budget.visit
        return budget.tuning + math.ceil(made / task.n_representatives)

    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.learner.worlds())
        while runs[0].learner.n_made < budget.n_updates:
            risks = [run.play_episode() for run in runs]
            report(log, transitions(), {"train_risk": risks}, get_state, None)
    solutions = [run.choose(n_candidates) for run in runs]
    log.progress(transitions(n_candidates), {})
    return solutions
