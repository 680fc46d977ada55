"""Cover the agents' preferences with k balls, then train a policy for each: after PACMAN.

Ge et al., "Learning Policy Committees for Effective Personalization in MDPs with Diverse Tasks"
(ICML 2025, https://arxiv.org/abs/2503.01885), choose a committee of k policies so that with high
probability a task has a member that is near-optimal for it. Tasks have parameters, and tasks with
close ones share near-optimal policies, so that it suffices to cover all but a share delta of them:
k representatives such that all others are within epsilon of one. The greedy algorithm takes the
place whose ball holds most tasks that no ball has yet, k times; a policy is then trained for each
cluster.

Here an agent is a task, and its preferences are the parameters, which the paper's algorithms for
r-MDPs do not read. Distances are in the maximum norm. Nothing of the budget is spent on the cover.

Departures:
  - epsilon is not given but the least found (by bisection) with which the greedy cover holds the
    share `coverage` of the agents, 1 - delta. `radius` gives one instead.
  - Everybody has to be represented: an agent outside all balls joins the nearest centre, and is
    trained for, where PACMAN trains for the tasks of the cluster only. Of centres at the same
    distance it joins that with the fewest agents, in a random order: where preferences are all
    equally far apart, as in Resource Gathering, groups are random and even.
  - On a line balls may stand anywhere. With several parameters they stand around agents, where the
    paper intersects balls; its gradient-based cover, for embeddings of tasks by a language model,
    is left out.
  - A member of the committee is this suite's PPO for its group's rewards, as in the other solvers,
    where the paper has a multi-task or meta-learner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.online.ppo.assignments import FixedRule, one_hot
from baselines.online.ppo.learner import PPOLearner, resume, train
from baselines.online.ppo.settings import PPOConfig, check, critic_settings, task_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["Config", "check", "config_for", "solve"]

FloatArray = npt.NDArray[np.floating[Any]]
N_BISECTIONS = 40


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and those of the cover."""

    coverage: float = 0.9
    """Share of the agents that the balls have to hold; 1 - delta of the paper."""
    radius: float = 0.0
    """Of the balls, in units of the preferences, epsilon of the paper; 0: the least that suffices
    for `coverage`."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range."""
        super().__post_init__()
        check_range(self, 1e-3, 1.0, "coverage")
        check_range(self, 0.0, math.inf, "radius")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task), **critic_settings(task))


def greedy_cover(preferences: FloatArray, n_balls: int, radius: float) -> tuple[FloatArray, int]:
    """Place balls one after the other, each where it holds most agents that none has yet.

    Args:
        preferences: (n, p)
        n_balls: k.
        radius: of each, in the maximum norm.

    Returns:
        Centres (k, p), and the number of agents whom they hold. Balls that would hold nobody stand
        where the first one does.
    """
    is_left = np.ones(len(preferences), bool)
    centres: list[FloatArray] = []
    for _ in range(n_balls):
        left = preferences[is_left]
        if not len(left):
            centres.append(centres[0])
            continue
        if preferences.shape[1] == 1:
            # A ball that holds most can be moved until its lower end is at an agent.
            places = np.sort(left[:, 0])
            held = np.searchsorted(places, places + 2 * radius, "right") - np.arange(len(places))
            centre = places[held.argmax()] + np.array([radius])
            is_held = (preferences[:, 0] >= places[held.argmax()]) & (
                preferences[:, 0] <= places[held.argmax()] + 2 * radius
            )
        else:
            held = np.array([(np.abs(left - own).max(1) <= radius).sum() for own in left])
            centre = left[held.argmax()]
            is_held = np.abs(preferences - centre).max(1) <= radius
        centres.append(centre)
        is_left &= ~is_held
    return np.stack(centres), int((~is_left).sum())


def least_radius(preferences: FloatArray, n_balls: int, coverage: float) -> float:
    """The least radius found with which the greedy cover holds a share of the agents."""
    needed = math.ceil(coverage * len(preferences))
    low, high = 0.0, float(np.ptp(preferences, axis=0).max())
    if greedy_cover(preferences, n_balls, low)[1] >= needed:
        return low
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        if greedy_cover(preferences, n_balls, middle)[1] >= needed:
            high = middle
        else:
            low = middle
    return high


def cover_groups(
    preferences: FloatArray, n_groups: int, config: Config, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Representative (n,) of each agent (n, p): the nearest centre, ties to the smallest group."""
    radius = config.radius or least_radius(preferences, n_groups, config.coverage)
    centres, _ = greedy_cover(preferences, n_groups, radius)
    groups = np.zeros(len(preferences), np.intp)
    sizes = np.zeros(n_groups, np.intp)
    distances = np.stack([np.abs(preferences - centre).max(1) for centre in centres], axis=1)
    is_nearest = distances <= distances.min(1, keepdims=True) + 1e-12
    order = generator.permutation(len(preferences))
    # Those with one nearest centre first, so that ties even the sizes out.
    for i in order[np.argsort(is_nearest[order].sum(1), kind="stable")]:
        nearest = np.flatnonzero(is_nearest[i])
        groups[i] = nearest[sizes[nearest].argmin()]
        sizes[groups[i]] += 1
    return groups


@one_thread()
def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Cover, and train k representatives for the groups of every seed.

    Returns:
        One solution for each seed.
    """
    learner = PPOLearner(task, config, seeds, device)
    preferences = np.asarray(learner.collector.envs.population.preferences, np.float64)
    k = task.n_representatives
    groups = [
        cover_groups(preferences, k, config, np.random.default_rng([seed, streams.PPO.TIES]))
        for seed in seeds
    ]
    rule = FixedRule(one_hot(np.stack(groups), k, device))
    resume(learner, rule, log)
    train(learner, rule, log)
    learner.close()
    return learner.solutions(rule.served)
