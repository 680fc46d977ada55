"""What the models and factors of offline solvers foresee.

- prediction: a model follows test trajectories of the behaviour policies for 10 steps and then
foresees 50 observations from the actions alone.  The protocol is that of PerSim's code (Agarwal
et al. 2021, arXiv 2102.06961), with all behaviour policies in turn where it has one test policy;
- forecasts: in some environments one component of the observation is what matters, some minutes
ahead: from many points of each trajectory, of agents under the policies of the data;
- factors: how well hidden parameters follow from what was learned about the agents.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.datasets.behaviour import load_behaviour_policies
from rmdp_bench.datasets.table import get_dataset
from rmdp_bench.evaluation.playing import EVALUATION_SEED, ask_to_go_on, call, play
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import OfflineTask

N_FORCED = 10
"""Steps of a prediction for which the true observations are given."""
N_OPEN_LOOP = 50
"""Steps that are predicted after them, each from the prediction before it."""
N_PREDICTIONS = 200
"""Test trajectories of each scored agent."""
PREDICTION_SEED = EVALUATION_SEED + 2**21
DIVERGED = 1e6
"""Bound on predictions, so that one that runs away counts as very bad and not as infinite."""
N_FOLDS = 5


@dataclass(frozen=True)
class Forecast:
    """How a component of the observation is foreseen.

    Attributes:
        component: of the observation.
        n_forced: steps of the past that are given.
        minutes: minutes ahead -> steps ahead.
        every: steps from one point at which is foreseen to the next.
        n_episodes: trajectories of each scored agent.
    """

    component: int
    n_forced: int
    minutes: Mapping[int, int]
    every: int
    n_episodes: int

    @property
    def n_ahead(self) -> int:
        """Steps that are foreseen."""
        return max(self.minutes.values())


FORECASTS: Mapping[str, Forecast] = {
    "rmdp/Glucose-n100-v0": Forecast(
        component=0, n_forced=72, minutes={30: 6, 60: 12}, every=12, n_episodes=2
    )
}
"""Environment id -> how readings of the sensor are foreseen: from six hours of the past and the
doses to come, whose boluses tell of meals; announcements to come are not given."""


@dataclass(frozen=True)
class Prediction:
    """Errors of open-loop prediction for A agents, a row of N_PREDICTIONS trajectories each.

    A trajectory that is too short for the comparison has NaN.

    Attributes:
        rmse: (A, N) root of the mean square over steps and components of the observation.
        r2: (A, N) 1 - sum of squares / sum of squares around the trajectory's own mean, both over
            steps and components (the variance-weighted coefficient of determination).
    """

    rmse: NDArray[np.float64]
    r2: NDArray[np.float64]


@dataclass(frozen=True)
class TestTrajectories:
    """The first steps of N episodes of each of A agents.

    Attributes:
        observations: (A, N, T + 1, d).
        actions: (A, N, T, ...).
        lengths: (A, N) steps that were played, at most T = N_FORCED + N_OPEN_LOOP.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    lengths: NDArray[np.int64]


@functools.lru_cache(maxsize=2)
def play_test_trajectories(task: OfflineTask) -> TestTrajectories:
    """Let the behaviour policies act for the scored agents, each in as many episodes."""
    policies: list[Policy] = load_behaviour_policies(task.env_id)
    agents = task.eval_agents
    n_each, n_agents = N_PREDICTIONS // len(policies), len(agents)
    rows = [(agent, episode) for agent in agents for episode in range(n_each)]
    played = play(
        task,
        policies,
        [len(rows)] * len(policies),
        [PREDICTION_SEED + p * n_each + e for p in range(len(policies)) for _, e in rows],
        agents=[agent for _ in policies for agent, _ in rows],
        record=True,
        max_steps=N_FORCED + N_OPEN_LOOP,
    )

    def by_agent(values: NDArray[Any]) -> NDArray[Any]:
        """(policies x agents x episodes, ...) to (agents, policies x episodes, ...)."""
        parts = values.reshape(len(policies), n_agents, n_each, *values.shape[1:])
        return parts.swapaxes(0, 1).reshape(n_agents, -1, *values.shape[1:])

    return TestTrajectories(
        by_agent(played.observations.swapaxes(0, 1)),
        by_agent(played.actions.swapaxes(0, 1)),
        by_agent(played.lengths),
    )


def score_predictions(
    task: OfflineTask, predict: Callable[[int, NDArray[Any], NDArray[Any]], NDArray[Any]]
) -> Prediction:
    """Compare what a model foresees with test trajectories.

    Args:
        task: an offline task.
        predict: as in `OfflineSolution`.

    Raises:
        ValueError: predictions of another shape.
    """
    agents = task.eval_agents
    test = play_test_trajectories(task)
    rmse = np.full(test.lengths.shape, np.nan)
    r2 = np.full(test.lengths.shape, np.nan)
    for a in range(len(agents)):
        ask_to_go_on()
        long = np.flatnonzero(test.lengths[a] > N_FORCED + 1)
        observations, actions = test.observations[a, long], test.actions[a, long]
        horizon = actions.shape[1]
        known = observations[:, : N_FORCED + 1]
        given = call("the solution", "predict", predict, a, known, actions)
        truth = observations[:, N_FORCED + 1 :].astype(np.float64)
        if np.shape(given) != truth.shape:
            raise ValueError(f"predict gives shape {np.shape(given)}, expected {truth.shape}")
        foreseen = np.nan_to_num(given, nan=DIVERGED, posinf=DIVERGED, neginf=-DIVERGED)
        foreseen = foreseen.astype(np.float64).clip(-DIVERGED, DIVERGED)
        steps = np.arange(N_FORCED + 1, horizon + 1)
        seen = (steps <= test.lengths[a, long, np.newaxis])[..., np.newaxis]  # (E, steps, 1)
        n_seen = seen.sum(axis=1)  # (E, 1)
        squares = (seen * (foreseen - truth) ** 2).sum(axis=(1, 2))
        mean = (seen * truth).sum(axis=1) / n_seen
        spread = (seen * (truth - mean[:, np.newaxis]) ** 2).sum(axis=(1, 2))
        rmse[a, long] = np.sqrt(squares / (n_seen[:, 0] * truth.shape[-1]))
        r2[a, long] = 1.0 - squares / np.maximum(spread, 1e-12)
    return Prediction(rmse, r2)


def score_forecasts(
    task: OfflineTask, predict: Callable[[int, NDArray[Any], NDArray[Any]], NDArray[Any]]
) -> dict[int, Prediction]:
    """Compare what a model foresees with readings, some minutes later.

    Args:
        task: an offline task whose environment is in `FORECASTS`.
        predict: as in `OfflineSolution`.

    Returns:
        Minutes ahead -> RMSE and R2 of each trajectory, over the points at which is foreseen; R2 is
        around the trajectory's own mean.

    Raises:
        ValueError: predictions of another shape.
    """
    plan, agents = FORECASTS[task.env_id], task.eval_agents
    observations, actions = _play_forecast_trajectories(task)
    n_steps = actions.shape[2]
    points = np.arange(plan.n_forced, n_steps - plan.n_ahead + 1, plan.every)
    past = points[:, np.newaxis] + np.arange(-plan.n_forced, 1)
    acting = points[:, np.newaxis] + np.arange(-plan.n_forced, plan.n_ahead)
    shape = (len(agents), plan.n_episodes)
    found = {m: Prediction(np.zeros(shape), np.zeros(shape)) for m in plan.minutes}
    for a in range(len(agents)):
        ask_to_go_on()
        known = observations[a][:, past].reshape(-1, plan.n_forced + 1, observations.shape[-1])
        given = actions[a][:, acting].reshape(len(known), acting.shape[1], actions.shape[-1])
        foreseen = call("the solution", "predict", predict, a, known, given)
        expected = (len(known), plan.n_ahead, observations.shape[-1])
        if np.shape(foreseen) != expected:
            raise ValueError(f"predict gives shape {np.shape(foreseen)}, expected {expected}")
        own = np.nan_to_num(foreseen, nan=DIVERGED, posinf=DIVERGED, neginf=-DIVERGED)
        own = own[..., plan.component].astype(np.float64).clip(-DIVERGED, DIVERGED)
        own = own.reshape(plan.n_episodes, len(points), plan.n_ahead)
        for minutes, ahead in plan.minutes.items():
            truth = observations[a][:, points + ahead, plan.component].astype(np.float64)
            squares = (own[:, :, ahead - 1] - truth) ** 2
            spread = (truth - truth.mean(axis=1, keepdims=True)) ** 2
            found[minutes].rmse[a] = np.sqrt(squares.mean(axis=1))
            found[minutes].r2[a] = 1.0 - squares.sum(axis=1) / np.maximum(spread.sum(axis=1), 1e-12)
    return found


@functools.lru_cache(maxsize=2)
def _play_forecast_trajectories(task: OfflineTask) -> tuple[NDArray[Any], NDArray[Any]]:
    """Observations (A, N, T + 1, d) and actions (A, N, T, ...) under the policies of the data."""
    plan, agents = FORECASTS[task.env_id], task.eval_agents
    loaded = get_dataset(task.dataset_id).load_policies
    assert loaded is not None
    policies, n_each = loaded(), plan.n_episodes
    played = play(
        task,
        [policies[agent] for agent in agents],
        [n_each] * len(agents),
        [PREDICTION_SEED + episode for _ in agents for episode in range(n_each)],
        agents=np.repeat(agents, n_each).tolist(),
        record=True,
    )
    observations, actions = (
        part.swapaxes(0, 1).reshape(len(agents), n_each, len(part), -1)
        for part in (played.observations, played.actions)
    )
    return observations, actions


def factor_correlation(task: OfflineTask, factors: NDArray[np.floating[Any]]) -> dict[str, float]:
    """How well the hidden parameters follow from learned factors, -1 to 1 for each parameter.

    Spearman's rank correlation between a parameter and its linear prediction from the factors,
    where each fifth of the agents is predicted from a fit on the others.

    Args:
        task: an offline task.
        factors: (n, r) of agents 0 to n - 1, n from N_FOLDS to the number in the data.

    Raises:
        ValueError: not a finite matrix of so many rows.
    """
    from scipy import stats  # a second to load, and seldom needed

    factors = np.asarray(factors, np.float64)
    n_agents = len(factors) if factors.ndim == 2 else 0
    if not N_FOLDS <= n_agents <= task.n_agents or not np.isfinite(factors).all():
        raise ValueError(
            f"factors have shape {factors.shape}, expected (n, r) finite numbers, n from {N_FOLDS} "
            f"to {task.n_agents}"
        )
    population = task.hidden_population
    parameters = population.parameters[:n_agents]
    inputs = np.concatenate((factors, np.ones((len(factors), 1))), axis=1)
    fold = np.arange(len(factors)) % N_FOLDS
    predicted = np.zeros_like(parameters)
    for number in range(N_FOLDS):
        others, own = fold != number, fold == number
        weights = np.linalg.lstsq(inputs[others], parameters[others], rcond=None)[0]
        predicted[own] = inputs[own] @ weights
    return {
        name: float(np.nan_to_num(stats.spearmanr(predicted[:, p], parameters[:, p]).statistic))
        for p, name in enumerate(population.names)
    }
