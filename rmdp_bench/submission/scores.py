"""Scores recomputed from raw returns: what a record says must follow from the arrays beside it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs import get_environment
from rmdp_bench.evaluation import Evaluation
from rmdp_bench.evaluation.offline import OfflineEvaluation, check_budget, check_one_policy_each
from rmdp_bench.evaluation.prediction import (
    FORECASTS,
    N_PREDICTIONS,
    Prediction,
    factor_correlation,
)
from rmdp_bench.runs.curve import parse_curve
from rmdp_bench.runs.records import TOLERANCE, Result
from rmdp_bench.runs.running import MEASURE, prediction_arrays, score_solution
from rmdp_bench.solution import Solution
from rmdp_bench.solution.storage import check_saved_solution
from rmdp_bench.submission.bounded import Shapes
from rmdp_bench.submission.rows import ARRAYS_FILE, ASSIGNMENT, MAX_SIZE, RowFiles
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task

_CORRELATION_TOLERANCE = 0.02
"""Ranks may swap where another processor rounds differently."""
MAX_CURVE_BYTES = 2**20
MAX_WELFARE = 1e6
"""Percent, where 0 and 100 are no bounds (`welfare_range`). So far below 0 may also be what a
solver says of its training, from which it may subtract costs of its own."""

Read: TypeAlias = Callable[[Shapes], dict[str, NDArray[Any]]]
"""Gives the arrays of these names and shapes, as far as they are there; no others may be."""


class _Unused:
    """Stands for a policy where only the assignment matters."""

    def reset(self, n_envs: int) -> None:
        raise NotImplementedError

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError


def check_seed(task: Task, result: Result, row: RowFiles, saved: Mapping[str, bytes]) -> None:
    """Check everything that a row has of a seed against its record; nothing is run.

    Args:
        task: of the record.
        result: the record.
        row: that it is in.
        saved: its solution; see `RowFiles.solution`.

    Raises:
        ValueError: something is missing, damaged, or contradicts the record.
    """
    where = row.where(result.seed)
    _check_parts(result, row, saved)
    if result.curve is not None:
        _check_curve(row.curve(result.seed) or "", f"{where}/{result.curve}", task, result)
    solution = _check_solution(task, result, saved, where)
    evaluation = read_evaluation(task, result, functools.partial(row.measured, result.seed), where)
    if solution is None and isinstance(evaluation, Evaluation):
        _check_bounds(result, evaluation)
        return
    scores = score_solution(task, solution or any_solution(len(result.agent_returns)), evaluation)
    _check_same(scores, result.model_dump(mode="json"), row.record_name(result.seed))


def read_evaluation(
    task: Task, result: Result, read: Read, where: str
) -> Evaluation | OfflineEvaluation:
    """What was measured: the arrays beside a record.

    Args:
        task: that is scored; for an offline one the record may be of another with the same agents.
        result: the record.
        read: gives the arrays of these names and shapes, as far as they are there.
        where: what messages call the seed.

    Raises:
        ValueError: an array is missing or damaged.
    """
    if isinstance(task, OnlineTask):
        return _read_welfare(task, result, read, where)
    return _read_returns(task, result, read, where)


def _check_parts(result: Result, row: RowFiles, saved: Mapping[str, bytes]) -> None:
    """What the record names is there, and nothing else."""
    seed = result.seed
    arrays = result.welfare_matrix or result.returns
    named = {arrays, result.curve, result.solution}
    measured = [name for name in row.array_names(seed) if name != ASSIGNMENT]
    there = {
        (arrays or ARRAYS_FILE) if measured else None,
        None if row.curve(seed) is None else "curve.csv",
        "solution" if saved else None,
    }
    for name in sorted(filter(None, named ^ there)):
        what = "missing" if name in named else "not what its record names"
        raise ValueError(f"{row.where(seed)}: {name} is {what}")


def _check_curve(text: str, name: str, task: Task, result: Result) -> None:
    """A curve that is one, with values that its task and its record allow."""
    if len(text) > MAX_CURVE_BYTES:
        raise ValueError(
            f"{name} has {len(text)} characters, at most {MAX_CURVE_BYTES} are allowed"
        )
    curve = parse_curve(text, name)
    welfare = welfare_range(task)
    ranges = {
        "transitions": (0.0, float(result.transitions)),
        "wall_seconds": (0.0, result.wall_seconds),
        "social_welfare": welfare,
        "train_social_welfare": (-MAX_WELFARE, welfare[1]),
    }
    for column, (low, high) in ranges.items():
        known = np.array([value for value in curve[column] if not math.isnan(value)])
        _check_range(known, low, high, f"{column} in {name}")


def welfare_range(task: Task) -> tuple[float, float]:
    """Least and greatest welfare of an agent, percent.

    The suite's represented worlds pay from 0 to 100. In those of MO-Gymnasium steps may cost
    something, and where agents differ in dynamics 0 and 100 are what two references reach.
    """
    if isinstance(task, OfflineTask) or task.heterogeneous:
        return -MAX_WELFARE, MAX_WELFARE
    return (0.0 if task.is_native else -MAX_WELFARE), 100.0


def _check_solution(
    task: Task, result: Result, saved: Mapping[str, bytes], where: str
) -> Solution | None:
    """The assignment with stand-ins for the policies; None without saved policies."""
    if result.solution is None:
        return None
    n_observations, n_actions = _sizes(task)
    assignment = check_saved_solution(
        saved, where, n_observations, n_actions, assignment_shape(task)
    )
    solution = Solution([_Unused() for _ in assignment.T], assignment)
    if isinstance(task, OfflineTask):
        check_one_policy_each(solution, task.eval_agents)
        check_budget(task, solution)
    return solution


def assignment_shape(task: Task) -> tuple[int, int | None]:
    """That saved assignments of a task have; offline, there may be any number of policies."""
    if isinstance(task, OnlineTask):
        return task.n_agents, task.n_representatives
    return len(task.eval_agents), None


@functools.cache
def _sizes(task: Task) -> tuple[int, int | None]:
    """Lengths of an observation and of an action, None where actions are discrete."""
    envs = gym.make_vec(task.env_id, num_envs=1)
    observations, actions = envs.single_observation_space, envs.single_action_space
    envs.close()
    assert observations.shape is not None
    if isinstance(actions, gym.spaces.Discrete):
        return observations.shape[0], None
    assert actions.shape is not None
    return observations.shape[0], actions.shape[0]


def any_solution(n_agents: int) -> Solution:
    """For n agents of an offline task, whose scores do not depend on the assignment."""
    return Solution([_Unused()], np.ones((n_agents, 1)))


def _read_welfare(task: OnlineTask, result: Result, read: Read, where: str) -> Evaluation:
    n, k, n_episodes = task.n_agents, task.n_representatives, result.evaluation.n_episodes
    shapes = {"welfare_matrix": (n, k), "episode_lengths": (k, n_episodes)}
    arrays = _arrays(read, where, shapes | dict.fromkeys(_measures(task), (n, k)))
    matrix, lengths = arrays["welfare_matrix"], arrays["episode_lengths"]
    _check_range(matrix, *welfare_range(task), f"welfare_matrix in {where}")
    _check_lengths(task, lengths, where)
    measures = _read_measures(task, arrays, where)
    return Evaluation(matrix, matrix[:, :, np.newaxis], lengths, result.evaluation.seed, measures)


def _read_measures(
    task: Task, arrays: Mapping[str, NDArray[Any]], where: str
) -> dict[str, NDArray[Any]]:
    """What the world measures beside the reward -> its array."""
    measures = {name.removeprefix(MEASURE): arrays[name] for name in _measures(task)}
    for name, values in measures.items():
        low, high = get_environment(task.env_id).measures[name]
        _check_range(values, low, high, f"{MEASURE}{name} in {where}")
    return measures


def _measures(task: Task) -> list[str]:
    """Names of those arrays."""
    if isinstance(task, OnlineTask) and not task.heterogeneous:
        return []
    return [f"{MEASURE}{name}" for name in get_environment(task.env_id).measures]


def _read_returns(task: OfflineTask, result: Result, read: Read, where: str) -> OfflineEvaluation:
    n_agents, n_episodes = len(task.eval_agents), result.evaluation.n_episodes
    required = dict.fromkeys(("episode_returns", "episode_lengths"), (n_agents, n_episodes))
    shapes: dict[str, tuple[int | None, ...]] = {
        **required,
        **dict.fromkeys(_measures(task), (n_agents,)),
    }
    plan = FORECASTS.get(task.env_id)
    n_predictions = N_PREDICTIONS if plan is None else plan.n_episodes
    predicted = {m: prediction_arrays(m) for m in (plan.minutes if plan else (0,))}
    optional: dict[str, tuple[int | None, ...]] = {
        "heldout_returns": (len(task.heldout_agents), max(1, n_episodes // 4)),
        **{name: (n_agents, n_predictions) for names in predicted.values() for name in names},
        "factors": (None, None),
    }
    arrays = _arrays(read, where, shapes, optional)
    assert result.offline is not None
    _check_lengths(task, arrays["episode_lengths"], where)
    for name in ("episode_returns", "heldout_returns"):
        if name in arrays:
            _check_range(arrays[name], -1e9, 1e9, f"{name} in {where}")
    errors = _read_predictions(predicted, arrays, where)
    correlation = None
    if "factors" in arrays:
        factors = arrays["factors"]
        if factors.shape[0] > task.n_agents or factors.shape[1] > MAX_SIZE:
            raise ValueError(f"{where}: factors have shape {factors.shape}, which is too large")
        _check_range(factors, -1e6, 1e6, f"factors in {where}")
        correlation = factor_correlation(task, factors)
    return OfflineEvaluation(
        *(arrays["episode_returns"], arrays["episode_lengths"], arrays.get("heldout_returns")),
        prediction=errors.get(max(errors)) if errors else None,
        factor_correlation=correlation,
        seed=result.evaluation.seed,
        seconds=result.offline.evaluation_seconds,
        forecasts=errors if plan else {},
        measures=_read_measures(task, arrays, where),
    )


def _read_predictions(
    names: Mapping[int, tuple[str, str]], arrays: Mapping[str, NDArray[Any]], where: str
) -> dict[int, Prediction]:
    """Minutes ahead, or 0 -> errors; all or none."""
    missing = [name for pair in names.values() for name in pair if name not in arrays]
    if len(missing) == 2 * len(names):
        return {}
    if missing:
        raise ValueError(f"{where}: of the errors of its predictions, {missing[0]} is missing")
    errors = {
        minutes: Prediction(*(arrays[name] for name in pair)) for minutes, pair in names.items()
    }
    for prediction in errors.values():
        if not (np.isfinite(prediction.rmse).any() and np.isfinite(prediction.r2).any()):
            raise ValueError(f"{where}: no prediction is a finite number")
    return errors


def _arrays(
    read: Read,
    where: str,
    required: Shapes,
    optional: Shapes | None = None,
) -> dict[str, NDArray[Any]]:
    """Arrays of expected names and shapes."""
    arrays = read({**required, **(optional or {})})
    for name in sorted(required.keys() - arrays.keys()):
        old = name.startswith(MEASURE)
        hint = "; if an earlier version made it, run it again" if old else ""
        raise ValueError(f"{where} has no {name}{hint}")
    for name, array in arrays.items():
        if array.dtype.kind == "b":
            raise ValueError(f"{name} in {where} holds true and false, expected numbers")
    return arrays


def _check_lengths(task: Task, lengths: NDArray[Any], where: str) -> None:
    """Episodes have whole steps, one at least."""
    _check_range(lengths, 1, task.max_episode_steps, f"episode_lengths in {where}")
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"episode_lengths in {where} are {lengths.dtype}, expected whole numbers")


def _check_range(values: NDArray[Any], low: float, high: float, what: str) -> None:
    outside = ~((values >= low - TOLERANCE) & (values <= high + TOLERANCE))  # NaN is outside
    if outside.any():
        index = tuple(np.argwhere(outside)[0].tolist())
        raise ValueError(f"{what}: {values[index]} at {list(index)}, expected {low} to {high}")


def _check_bounds(result: Result, evaluation: Evaluation) -> None:
    """Without an assignment: no agent has more than its best policy gives, or less than the worst.

    What depends on the assignment alone cannot be recomputed.
    """
    matrix, returns = evaluation.welfare_matrix, np.array(result.agent_returns)
    low, high = matrix.min(axis=1) - TOLERANCE, matrix.max(axis=1) + TOLERANCE
    if ((returns < low) | (returns > high)).any():
        raise ValueError("agent_returns: an agent has a return that no policy of welfare.npz gives")
    if (result.measures or {}).keys() != evaluation.measures.keys():
        raise ValueError(
            f"measures has {sorted(result.measures or {})}, expected {sorted(evaluation.measures)}"
        )
    for name, values in evaluation.measures.items():
        bounds = values.min(axis=1).mean(), values.max(axis=1).mean()
        _check_range(np.array([(result.measures or {})[name]]), *bounds, f"measures.{name}")
    scores = {"tenth_percentile": float(np.percentile(returns, 10.0))}
    _check_same(scores, result.model_dump(mode="json"), f"seed {result.seed}")


def _check_same(computed: dict[str, Any], claimed: dict[str, Any], where: str) -> None:
    """Compare scores by name, at any depth."""
    for name, value in computed.items():
        given = claimed.get(name)
        field = f"{where}: {name}"
        if isinstance(value, dict) and isinstance(given, dict):
            more = sorted(given.keys() - value.keys())
            if more:
                raise ValueError(
                    f"{field} has {_short(more[0])}, which the raw returns do not give"
                )
            _check_same(value, given, field)
            continue
        tolerance = _CORRELATION_TOLERANCE if "factor_correlation" in where else TOLERANCE
        if value is not None and given is not None and np.shape(value) == np.shape(given):
            same = bool(
                np.allclose(value, np.asarray(given, np.float64), rtol=1e-9, atol=tolerance)
            )
        else:
            same = value is None and given is None
        if not same:
            raise ValueError(
                f"{field} is {_short(given)}, but the raw returns give {_short(value)}"
            )


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
