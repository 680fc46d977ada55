"""Evaluation: every policy in the world, every agent scored on the same episodes.

Each of the k policies plays E deterministic episodes, all k x E of them in one vector environment.
The dynamics are shared, so one episode gives the return of all n agents (where they are not, each
agent has episodes of its own: `pairs`):

    returns (n, k, E)  --mean over episodes-->  welfare matrix (n, k), percent of a perfect episode

Episode e starts from seed EVALUATION_SEED + e for every policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation.pairs import percent, plays_pairs, roll_out_pairs
from rmdp_bench.evaluation.playing import (
    EVALUATION_SEED,
    _most_episodes,
    check_episodes,
    play,
)
from rmdp_bench.population import Population
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class Rollout:
    """E episodes of each of P policies; after the end of an episode its entries are zero.

    Attributes:
        returns: (n, P, E) undiscounted return of every agent, percent.
        lengths: (P, E) steps; where agents differ in dynamics, of the agent with the longest.
        measures: name -> (n, P, E), where agents differ in dynamics: see `PairRollout`.
        observations: (T + 1, P, E, d) if recorded, T the longest length, the first from the reset.
        outcomes: (T, P, E, m).
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    observations: NDArray[Any] | None = None
    outcomes: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What scoring needs of one solution.

    Attributes:
        welfare_matrix: (n, k) mean return of agent i under policy j, percent.
        episode_returns: (n, k, E) the returns it is the mean of.
        episode_lengths: (k, E) steps.
        seed: seed of the first episode.
        measures: name -> (n, k), means of what a world measures beside the reward, such as the time
            in range of patients; {} where the agents share the dynamics.
        outcomes: (T, k, E, m) of every step, 0 after an episode's end; None: not kept.
    """

    welfare_matrix: NDArray[np.float64]
    episode_returns: NDArray[np.float64]
    episode_lengths: NDArray[np.int64]
    seed: int
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    outcomes: NDArray[np.float64] | None = None

    def returns_of(self, population: Population) -> NDArray[np.float64]:
        """What other agents would have received in these episodes: (n, k, E), percent.

        Args:
            population: n agents, for outcomes (m,).

        Raises:
            ValueError: outcomes were not kept, or the population is for others.
        """
        if self.outcomes is None:
            raise ValueError("this evaluation has no outcomes, expected one that `evaluate` gave")
        if population.outcome_size != self.outcomes.shape[-1]:
            raise ValueError(
                f"population is for outcomes ({population.outcome_size},), expected one for "
                f"outcomes ({self.outcomes.shape[-1]},), which these episodes have"
            )
        returns = np.empty((population.n_agents, *self.episode_lengths.shape))
        for (j, e), length in np.ndenumerate(self.episode_lengths):
            returns[:, j, e] = population.total_rewards(self.outcomes[:length, j, e])
        return returns


def evaluate(
    task: Task, solution: Solution, *, n_episodes: int | None = None, seed: int = EVALUATION_SEED
) -> Evaluation:
    """Play every policy of a solution and give the return of every agent under each.

    Args:
        task: what the solution is for.
        solution: k policies; the assignment is not used here.
        n_episodes: episodes per policy; None: the task's number.
        seed: of the first episode, from 2**31 on; episode e has seed + e.

    Raises:
        ValueError: the solution does not fit the task, a policy fails, or it gives actions that are
            not in the action space; the message names policy and value.
    """
    return evaluate_all(task, [solution], n_episodes=n_episodes, seed=seed)[0]


def evaluate_all(
    task: Task,
    solutions: Sequence[Solution],
    *,
    n_episodes: int | None = None,
    seed: int = EVALUATION_SEED,
    is_counted: bool = True,
) -> list[Evaluation]:
    """Evaluate several solutions of one task together; each gets what `evaluate` would give it.

    The harness has its own evaluations not counted: `is_counted`, see `envs.counting`.
    """
    n_episodes = task.n_eval_episodes if n_episodes is None else n_episodes
    check_episodes(task, n_episodes, seed)
    for solution in solutions:
        _check_fit(task, solution)
    k = task.n_representatives
    n_together = max(1, min(_most_episodes(task) // (k * n_episodes), len(solutions)))
    if n_together < len(solutions):  # the others wait: a policy acts on its own rows only
        return [
            evaluation
            for first in range(0, len(solutions), n_together)
            for evaluation in evaluate_all(
                task,
                solutions[first : first + n_together],
                n_episodes=n_episodes,
                seed=seed,
                is_counted=is_counted,
            )
        ]
    policies = [policy for solution in solutions for policy in solution.policies]
    rollout = roll_out(
        task,
        policies,
        n_episodes=n_episodes,
        seed=seed,
        names=[f"policy {j}" for _ in solutions for j in range(k)],
        is_counted=is_counted,
    )
    evaluations = []
    for start in range(0, len(policies), k):
        returns = rollout.returns[:, start : start + k]
        lengths = rollout.lengths[start : start + k]
        measures = {
            name: values[:, start : start + k].mean(axis=2)
            for name, values in rollout.measures.items()
        }
        outcomes = rollout.outcomes[:, start : start + k] if rollout.outcomes is not None else None
        evaluations.append(
            Evaluation(returns.mean(axis=2), returns, lengths, seed, measures, outcomes)
        )
    return evaluations


def roll_out(
    task: Task,
    policies: Sequence[Policy],
    *,
    n_episodes: int,
    seed: int = EVALUATION_SEED,
    record: bool = False,
    names: Sequence[str] | None = None,
    is_counted: bool = True,
) -> Rollout:
    """Play `n_episodes` episodes of each policy, all at once.

    Args:
        task: names the environment.
        policies: P of them, of any solutions.
        n_episodes: E >= 1 for each.
        seed: of the first episode, from 2**31 on; episode e has seed + e, for every policy.
        record: whether to keep observations and outcomes.
        names: what messages call the policies; by default "policy 0" and so on.
        is_counted: whether these steps are among `steps_made`.

    Raises:
        ValueError: as in `evaluate`.
    """
    check_episodes(task, n_episodes, seed, n_policies=len(policies))
    if plays_pairs(task):
        if record:
            raise ValueError(f"episodes of {task.id} are not recorded: each pair has its own")
        pairs = roll_out_pairs(
            *(task, policies),
            n_episodes=n_episodes,
            seed=seed,
            names=names,
            is_counted=is_counted,
        )
        returns, lengths = percent(task, pairs.returns), pairs.lengths.max(axis=0)
        return Rollout(returns, lengths, pairs.measures)
    seeds = [seed + episode for _ in policies for episode in range(n_episodes)]
    n_rows = [n_episodes] * len(policies)
    played = play(
        task,
        policies,
        n_rows,
        seeds,
        names=names,
        record=record,
        is_counted=is_counted,
        keep_outcomes=True,
    )
    shape = (len(policies), n_episodes)
    n_seen, n_steps = len(played.observations), len(played.outcomes)
    return Rollout(
        returns=np.ascontiguousarray(played.returns.T).reshape(-1, *shape),
        lengths=played.lengths.reshape(shape),
        observations=played.observations.reshape(n_seen, *shape, -1) if record else None,
        outcomes=played.outcomes.reshape(n_steps, *shape, -1) if n_steps else None,
    )


def _check_fit(task: Task, solution: Solution) -> None:
    n, k = solution.assignment.shape
    if (n, k) != (task.n_agents, task.n_representatives):
        raise ValueError(
            f"the solution has {n} agents and {k} policies, expected {task.n_agents} and "
            f"{task.n_representatives} for {task.id}"
        )
