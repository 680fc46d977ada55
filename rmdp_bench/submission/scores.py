"""Scores recomputed from raw returns: what a record says must follow from the arrays beside it."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation import Evaluation
from rmdp_bench.evaluation.offline import OfflineEvaluation, check_one_policy_each
from rmdp_bench.evaluation.prediction import N_PREDICTIONS, Prediction, factor_correlation
from rmdp_bench.runs.curve import parse_curve
from rmdp_bench.runs.records import TOLERANCE, Result
from rmdp_bench.runs.running import score_solution
from rmdp_bench.solution import Solution
from rmdp_bench.solution.storage import check_saved_solution
from rmdp_bench.submission.bounded import MAX_HEADER_BYTES, read_arrays, read_text
from rmdp_bench.submission.files import MAX_ARRAY_BYTES, STRAY_FILE
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task

MAX_FACTORS = 1000
_CORRELATION_TOLERANCE = 0.02
"""Ranks may swap where another processor rounds differently."""
MAX_CURVE_BYTES = 2**20
MAX_CURVE_WELFARE = 1e6
"""Percent, offline, where a policy may be much worse than uniform actions. So far below 0 may also
be what a solver says of its training, from which it may subtract costs of its own."""


class _Unused:
    """Stands for a policy where only the assignment matters."""

    def reset(self, n_envs: int) -> None:
        raise NotImplementedError

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError


def check_seed(task: Task, result: Result, directory: Path) -> None:
    """Check everything in the folder of a seed against its record; nothing is run.

    Args:
        task: of the record.
        result: the record.
        directory: its folder.

    Raises:
        ValueError: a file is missing, damaged, or contradicts the record.
    """
    _check_files(task, result, directory)
    solution = _check_solution(task, result, directory)
    evaluation = read_evaluation(task, result, directory)
    if solution is None and isinstance(evaluation, Evaluation):
        _check_bounds(result, evaluation.welfare_matrix)
        return
    scores = score_solution(task, solution or any_solution(len(result.agent_returns)), evaluation)
    _check_same(scores, result.model_dump(mode="json"), str(directory / "result.json"))


def read_evaluation(task: Task, result: Result, directory: Path) -> Evaluation | OfflineEvaluation:
    """What was measured: the arrays beside a record.

    Args:
        task: that is scored; for an offline one the record may be of another with the same agents.
        result: the record.
        directory: its folder.

    Raises:
        ValueError: a file is missing or damaged.
    """
    if isinstance(task, OnlineTask):
        return _read_welfare(task, result, directory)
    return _read_returns(task, result, directory)


def _check_files(task: Task, result: Result, directory: Path) -> None:
    """The files that the record names are there, and no others."""
    names = {"result.json", result.welfare_matrix or result.returns, result.curve, result.solution}
    expected = {name for name in names if name is not None}
    found = {path.name for path in directory.iterdir()} - {STRAY_FILE}
    for name in sorted(expected ^ found):
        what = "missing" if name in expected else "not what result.json names"
        raise ValueError(f"{directory}: {name} is {what}")
    if result.curve is not None:
        _check_curve(directory / result.curve, task, result)


def _check_curve(path: Path, task: Task, result: Result) -> None:
    """A curve that is one, with values that its task and its record allow."""
    curve = parse_curve(read_text(path, MAX_CURVE_BYTES), str(path))
    welfare = (
        (0.0, 100.0) if isinstance(task, OnlineTask) else (-MAX_CURVE_WELFARE, MAX_CURVE_WELFARE)
    )
    ranges = {
        "transitions": (0.0, float(result.transitions)),
        "wall_seconds": (0.0, result.wall_seconds),
        "social_welfare": welfare,
        "train_social_welfare": (-MAX_CURVE_WELFARE, welfare[1]),
    }
    for name, (low, high) in ranges.items():
        known = np.array([value for value in curve[name] if not math.isnan(value)])
        _check_range(known, low, high, f"{name} in {path}")


def _check_solution(task: Task, result: Result, directory: Path) -> Solution | None:
    """The assignment with stand-ins for the policies; None without saved policies."""
    if result.solution is None:
        return None
    n_observations, n_actions = _sizes(task)
    assignment = check_saved_solution(
        directory / "solution", n_observations, n_actions, assignment_shape(task)
    )
    solution = Solution([_Unused() for _ in assignment.T], assignment)
    if isinstance(task, OfflineTask):
        check_one_policy_each(solution, task.eval_agents)
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


def _read_welfare(task: OnlineTask, result: Result, directory: Path) -> Evaluation:
    path = directory / "welfare.npz"
    n, k, n_episodes = task.n_agents, task.n_representatives, result.evaluation.n_episodes
    arrays = _arrays(path, {"welfare_matrix": (n, k), "episode_lengths": (k, n_episodes)})
    matrix, lengths = arrays["welfare_matrix"], arrays["episode_lengths"]
    _check_range(matrix, 0.0, 100.0, f"welfare_matrix in {path}")
    _check_lengths(task, lengths, path)
    return Evaluation(matrix, matrix[:, :, np.newaxis], lengths, result.evaluation.seed)


def _read_returns(task: OfflineTask, result: Result, directory: Path) -> OfflineEvaluation:
    path = directory / "returns.npz"
    n_agents, n_episodes = len(task.eval_agents), result.evaluation.n_episodes
    own = (n_agents, n_episodes)
    predictions = (n_agents, N_PREDICTIONS)
    optional: dict[str, tuple[int | None, ...]] = {
        "heldout_returns": (len(task.heldout_agents), max(1, n_episodes // 4)),
        "prediction_rmse": predictions,
        "prediction_r2": predictions,
        "factors": (None, None),
    }
    arrays = _arrays(path, {"episode_returns": own, "episode_lengths": own}, optional)
    assert result.offline is not None
    _check_lengths(task, arrays["episode_lengths"], path)
    for name in ("episode_returns", "heldout_returns"):
        if name in arrays:
            _check_range(arrays[name], -1e9, 1e9, f"{name} in {path}")
    if ("prediction_rmse" in arrays) != ("prediction_r2" in arrays):
        raise ValueError(f"{path}: one of prediction_rmse and prediction_r2 is missing")
    prediction = correlation = None
    if "prediction_rmse" in arrays:
        prediction = Prediction(arrays["prediction_rmse"], arrays["prediction_r2"])
        if not (np.isfinite(prediction.rmse).any() and np.isfinite(prediction.r2).any()):
            raise ValueError(f"{path}: no prediction is a finite number")
    if "factors" in arrays:
        factors = arrays["factors"]
        if factors.shape[0] > task.n_agents or factors.shape[1] > MAX_FACTORS:
            raise ValueError(f"{path}: factors have shape {factors.shape}, which is too large")
        _check_range(factors, -1e6, 1e6, f"factors in {path}")
        correlation = factor_correlation(task, factors)
    return OfflineEvaluation(
        arrays["episode_returns"],
        arrays["episode_lengths"],
        arrays.get("heldout_returns"),
        prediction,
        correlation,
        result.evaluation.seed,
        result.offline.evaluation_seconds,
    )


def _arrays(
    path: Path,
    required: dict[str, tuple[int, ...]],
    optional: dict[str, tuple[int | None, ...]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Arrays of expected names and shapes; None is any size up to `MAX_FACTORS`."""
    shapes = required | (optional or {})
    sizes = [math.prod(size or MAX_FACTORS for size in shape) for shape in shapes.values()]
    limit = min(MAX_ARRAY_BYTES, sum(8 * size + MAX_HEADER_BYTES for size in sizes))
    arrays = read_arrays(path, limit, shapes)
    for name in sorted(required.keys() - arrays.keys()):
        raise ValueError(f"{path} has no {name}")
    for name, array in arrays.items():
        if array.dtype.kind == "b":
            raise ValueError(f"{name} in {path} holds true and false, expected numbers")
    return arrays


def _check_lengths(task: Task, lengths: NDArray[Any], path: Path) -> None:
    """Episodes have whole steps, one at least."""
    _check_range(lengths, 1, task.max_episode_steps, f"episode_lengths in {path}")
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"episode_lengths in {path} are {lengths.dtype}, expected whole numbers")


def _check_range(values: NDArray[Any], low: float, high: float, what: str) -> None:
    outside = ~((values >= low - TOLERANCE) & (values <= high + TOLERANCE))  # NaN is outside
    if outside.any():
        index = tuple(np.argwhere(outside)[0].tolist())
        raise ValueError(f"{what}: {values[index]} at {list(index)}, expected {low} to {high}")


def _check_bounds(result: Result, matrix: NDArray[np.float64]) -> None:
    """Without an assignment: no agent has more than its best policy gives, or less than the worst.

    What depends on the assignment alone cannot be recomputed.
    """
    returns = np.array(result.agent_returns)
    low, high = matrix.min(axis=1) - TOLERANCE, matrix.max(axis=1) + TOLERANCE
    if ((returns < low) | (returns > high)).any():
        raise ValueError("agent_returns: an agent has a return that no policy of welfare.npz gives")
    scores = {"tenth_percentile": float(np.percentile(returns, 10.0))}
    _check_same(scores, result.model_dump(mode="json"), "result.json")


def _check_same(computed: dict[str, Any], claimed: dict[str, Any], where: str) -> None:
    """Compare scores by name, at any depth."""
    for name, value in computed.items():
        given = claimed.get(name)
        field = f"{where}: {name}"
        if isinstance(value, dict) and isinstance(given, dict):
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
