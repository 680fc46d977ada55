"""Offline solutions and how they are scored: policies for agents with hidden dynamics.

An offline solver learns from one logged trajectory for each of n agents.  Its `solve` gives an
`OfflineSolution` for each seed: policies and who acts for which of the task's `eval_agents`, as a
one-hot assignment, and what else it can tell.  Scored are

  - returns: the policy of each scored agent plays E episodes as that agent (A agents: (A, E));
  - held-out agents, who are not in the data: `adapt` gets one logged episode of each, collected as
    the data were, and its policies play a quarter as many episodes;
  - prediction and factors: see `prediction`.

A task may have a budget of k policies, fewer than agents. Where all agents have one scale
(`OfflineTask.has_common_scale`), returns are normalised as those of online tasks with agents who
differ in dynamics. Else they are for each agent so that uniform actions are 0 and the agent's
reference is 100 (`normalise`; `normalise_mean` for groups of held-out agents).  The reference is
the optimum, as an expectation over starts, where it is known (`reference_is`); scoring plays 20
starts, which may be better or worse than the average, so that a little more than 100 is possible.
Episode e of every agent starts from EVALUATION_SEED + e.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.datasets import HIDDEN_PARAMETERS, Episode, collect, get_dataset
from rmdp_bench.evaluation.pairs import percent
from rmdp_bench.evaluation.playing import (
    EVALUATION_SEED,
    Played,
    ask_to_go_on,
    call,
    check_episodes,
    play,
)
from rmdp_bench.evaluation.prediction import (
    FORECASTS,
    Prediction,
    factor_correlation,
    score_forecasts,
    score_predictions,
)
from rmdp_bench.references import check_references, references
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OfflineTask


@dataclass(frozen=True)
class OfflineSolution(Solution):
    """Policies for the agents that a task scores, and what is asked about agents beyond that.

    Attributes:
        policies: k policies; a planner is one that plans in `act`.
        assignment: (len(task.eval_agents), k), rows one-hot: who acts for which scored agent.
        adapt: serves agents who are not in the data. Given one logged episode for each of H such
            agents, collected as the data were, it gives a `Solution` with an assignment (H, k').
            `episode.metadata["agent"]` says who it is, of the environment's population; only an
            oracle looks that up. None: the solver cannot.
        predict: what the solver's model of scored agent a foresees: `predict(a, observations
            (E, N_FORCED + 1, d), actions (E, N_FORCED + N_OPEN_LOOP, ...))` gives the observations
            (E, N_OPEN_LOOP, d) after each of the last N_OPEN_LOOP actions. None: no model. Where
            `prediction.FORECASTS` has the environment, its numbers are in the place of these.
        factors: (n, r) what was learned about each of the n agents in the data; None: nothing of
            this kind.
    """

    adapt: Callable[[Sequence[Episode]], Solution] | None = None
    predict: Callable[[int, NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None
    factors: NDArray[np.floating[Any]] | None = None

    def assign_by_records(self, records: Sequence[Episode]) -> Solution:
        """Match agents who were not there with policies, by a logged record of each.

        Args:
            records: H episodes, of a day of patients at least, Minari's or the suite's.

        Returns:
            What `adapt` gives: policies and an assignment (H, k').

        Raises:
            ValueError: the solver cannot (`adapt` is None), or a record is too short for it.
        """
        if self.adapt is None:
            raise ValueError("this solution cannot match new agents: its solver gave no `adapt`")
        return self.adapt(records)


@dataclass(frozen=True)
class OfflineEvaluation:
    """What scoring needs of one offline solution.

    Attributes:
        returns: (A, E) undiscounted return of every scored agent.
        lengths: (A, E) steps.
        heldout_returns: (H, E') of the task's held-out agents; None: the solver does not adapt.
        prediction: errors of its model; None: it has none.
        factor_correlation: hidden parameter -> `factor_correlation`; None: no factors.
        forecasts: minutes ahead -> errors of its model, where `FORECASTS` has the environment;
            `prediction` is that of the most minutes then.
        measures: name -> (A,), means of what the world measures beside the reward.
        seed: of the first episode.
        seconds: that the episodes took, the actions in them, and adapting to held-out agents.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    heldout_returns: NDArray[np.float64] | None
    prediction: Prediction | None
    factor_correlation: dict[str, float] | None
    seed: int
    seconds: float
    forecasts: Mapping[int, Prediction] = field(default_factory=dict)
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def evaluate_offline(
    task: OfflineTask,
    solution: Solution,
    *,
    n_episodes: int | None = None,
    seed: int = EVALUATION_SEED,
) -> OfflineEvaluation:
    """Score the policies of an offline solution, and its model and factors if it has them.

    Args:
        task: an offline task.
        solution: an `OfflineSolution`, or a `Solution` with an assignment of the scored agents.
        n_episodes: per agent; None: the task's number. Held-out agents have a quarter.
        seed: of the first episode, from 2**31 on.

    Raises:
        ValueError: the solution does not fit the task, a policy or model fails, or gives values of
            another shape or outside of the action space.
    """
    n_episodes = task.n_eval_episodes if n_episodes is None else n_episodes
    check_episodes(task, n_episodes, seed)
    if isinstance(solution, OfflineSolution) and solution.adapt is not None:
        heldout_episodes(task)  # collected once for all solutions: not the time of the first
    began = time.perf_counter()
    agents = task.eval_agents
    check_budget(task, solution)
    played = _play_agents(task, solution, agents, n_episodes, seed)
    shape = (len(agents), n_episodes)
    returns, lengths = played.returns[:, 0].reshape(shape), played.lengths.reshape(shape)
    measures = {name: own.reshape(shape).mean(axis=1) for name, own in played.measures.items()}
    heldout = prediction = correlation = None
    forecasts: dict[int, Prediction] = {}
    if isinstance(solution, OfflineSolution):
        if solution.adapt is not None:
            adapted = call("the solution", "adapt", solution.adapt, heldout_episodes(task))
            if not isinstance(adapted, Solution):
                raise ValueError(f"adapt gives a {type(adapted).__name__}, expected a Solution")
            if task.n_representatives < task.n_agents:  # new agents have no policies of their own
                check_budget(task, adapted)
            n_heldout = max(1, n_episodes // 4)
            heldout, _ = play_agents(task, adapted, task.heldout_agents, n_heldout, seed)
    seconds = time.perf_counter() - began
    if isinstance(solution, OfflineSolution):
        if solution.predict is not None and task.env_id in FORECASTS:
            forecasts = score_forecasts(task, solution.predict)
            prediction = forecasts[max(forecasts)]
        elif solution.predict is not None:
            prediction = score_predictions(task, solution.predict)
        if solution.factors is not None:
            correlation = factor_correlation(task, solution.factors)
    return OfflineEvaluation(
        *(returns, lengths, heldout, prediction, correlation, seed, seconds), forecasts, measures
    )


@runtime_checkable
class _JoinablePolicy(Protocol):
    """A policy that can act together with others, faster than each alone."""

    def join_policies(self, policies: Sequence[Policy], n_rows: Sequence[int]) -> Policy | None:
        """One policy for the rows of all, in their order; None if there is none for them."""


def play_agents(
    task: OfflineTask, solution: Solution, agents: Sequence[int], n_episodes: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Play E episodes of each of A agents, each under its policy, all at once.

    Args:
        task: an offline task.
        solution: its assignment (A, k) is one-hot.
        agents: (A,) of the environment's `population.parameters`.
        n_episodes: E.
        seed: episode e of every agent has seed + e.

    Returns:
        Undiscounted returns (A, E) and lengths (A, E).

    Raises:
        ValueError: as in `evaluate_offline`.
    """
    played, shape = _play_agents(task, solution, agents, n_episodes, seed), (len(agents), -1)
    return played.returns[:, 0].reshape(shape), played.lengths.reshape(shape)


def _play_agents(
    task: OfflineTask, solution: Solution, agents: Sequence[int], n_episodes: int, seed: int
) -> Played:
    """The same with what the world measures; agent after agent."""
    check_one_policy_each(solution, agents)
    policy_of = solution.assignment.argmax(axis=1)
    used = np.unique(policy_of)
    order = np.argsort(policy_of, kind="stable")  # the rows of one policy stand together
    n_rows = [int((policy_of == j).sum()) * n_episodes for j in used]
    policies = [solution.policies[j] for j in used]
    names = [f"policy {j}" for j in used]
    if isinstance(policies[0], _JoinablePolicy):
        joined = call(names[0], "join_policies", policies[0].join_policies, policies, n_rows)
        if joined is not None:
            policies, n_rows, names = [joined], [sum(n_rows)], ["the joined policy"]
    played = play(
        task,
        policies,
        n_rows,
        [seed + episode for _ in agents for episode in range(n_episodes)],
        agents=np.repeat(np.asarray(agents)[order], n_episodes).tolist(),
        names=names,
    )
    back = (np.argsort(order)[:, np.newaxis] * n_episodes + np.arange(n_episodes)).ravel()
    return replace(
        played,
        returns=played.returns[back],
        lengths=played.lengths[back],
        measures={name: values[back] for name, values in played.measures.items()},
    )


def check_budget(task: OfflineTask, solution: Solution) -> None:
    """Refuse a solution of more policies than the task's budget.

    Raises:
        ValueError: names both numbers.
    """
    n_policies, k = len(solution.policies), task.n_representatives
    if n_policies > k:
        raise ValueError(f"the solution has {n_policies} policies, expected at most {k}: {task.id}")


def check_one_policy_each(solution: Solution, agents: Sequence[int]) -> None:
    """Refuse a solution that does not give each of some agents one policy.

    Raises:
        ValueError: names what the assignment is and what was expected.
    """
    if len(solution.assignment) != len(agents):
        raise ValueError(
            f"the assignment has {len(solution.assignment)} rows, expected {len(agents)}, one for "
            f"each of the agents {', '.join(map(str, agents))}"
        )
    mixed = (solution.assignment.max(axis=1) < 1.0 - 1e-6).nonzero()[0]
    if len(mixed):
        raise ValueError(
            f"row {mixed[0]} of the assignment is {solution.assignment[mixed[0]].tolist()}, "
            "expected one policy for each agent of an offline task"
        )


@functools.lru_cache(maxsize=4)
def heldout_episodes(task: OfflineTask) -> list[Episode]:
    """One logged episode of each held-out agent, as the data set would have it.

    Their metadata say who acted and for whom, but not the hidden parameters.
    """
    entry = get_dataset(task.dataset_id)
    return [
        replace(
            episode,
            metadata={k: v for k, v in episode.metadata.items() if k != HIDDEN_PARAMETERS},
        )
        for episode in collect(
            entry, agents=task.heldout_agents, report=lambda share: ask_to_go_on()
        )
    ]


def normalise(
    task: OfflineTask, agents: Sequence[int], returns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns of agents (A,) in percent: uniform actions 0, the agent's reference 100.

    On a common scale it is `pairs.percent`.

    Raises:
        ValueError: there are no references for the environment or for an agent.
    """
    if task.has_common_scale:
        return percent(task, returns)
    random, best = _references_of(task, agents)
    normalised: NDArray[np.float64] = 100.0 * (returns - random) / (best - random)
    return normalised


def normalise_mean(task: OfflineTask, agents: Sequence[int], returns: NDArray[np.float64]) -> float:
    """The mean of returns (A,), where 0 and 100 are the means over the same agents.

    For held-out agents, some of whom need hardly more than uniform actions: the score of one of
    those alone would be a division by almost nothing.

    Raises:
        ValueError: as in `normalise`.
    """
    if task.has_common_scale:
        return float(percent(task, returns).mean())
    random, best = _references_of(task, agents).mean(axis=1)
    return float(100.0 * (returns.mean() - random) / (best - random))


def _references_of(task: OfflineTask, agents: Sequence[int]) -> NDArray[np.float64]:
    """(2, A): uniform actions, reference."""
    check_references(task.env_id, agents)
    rows = references(task.env_id)
    return np.array([rows[agent] for agent in agents]).T
