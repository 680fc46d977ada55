"""The clinic's controller for the glucose world, and its two gains tuned for k groups of patients.

A constant basal rate; at a meal its carbohydrates over the carbohydrate ratio CR, and a correction
down to 140 mg/dL of readings above 150, by 3.6 CR mg/dL for a unit, unless a meal was announced in
the last three hours. Two numbers, basal rate and CR, are all that patients differ by here.

A grid of gains plays in every patient's world, which gives a matrix patients x gains; the k columns
that serve the patients best are facility location (`facility_location`), exact or with its bound.
Nothing is learned: it is a lower bound of what k policies can reach, and what a learned solver has
to beat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.common.settings import check_range
from rmdp_bench.envs.glucose.boluses import (
    CORRECTION_ABOVE,
    CORRECTION_FACTOR,
    CORRECTION_TARGET,
    MAX_BASAL,
    MAX_BOLUS,
    MEAL,
    MINUTES_SINCE,
    PAUSE,
    READING,
    grams_to_cover,
)
from rmdp_bench.evaluation import EVALUATION_SEED, PairRollout, roll_out_pairs
from rmdp_bench.facility_location import Selection, select
from rmdp_bench.runs import RunLog
from rmdp_bench.scoring import greedy_assignment
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.solution.onnx_graphs import PolicyGraph
from rmdp_bench.tasks import OnlineTask, Task

ENVIRONMENT = "rmdp/Glucose-n100-v0"
BASAL_RANGE = (0.1, 4.0)
"""U/h."""
RATIO_RANGE = (2.0, 40.0)
"""Carbohydrate ratios, g/U."""
N_OBSERVED = 7
"""Components of an observation."""


def bolus_of(observations: Any, insulin_per_gram: float) -> Any:
    """The clinic's bolus (E,), U, for observations (E, d): arrays of NumPy or tensors of torch."""
    return grams_to_cover(observations) * insulin_per_gram


def add_bolus(graph: PolicyGraph, insulin_per_gram: float) -> str:
    """`bolus_of` as a part of a graph: the name of (E, 1)."""

    def column(place: int) -> str:
        return graph.add("Gather", "observation", graph.constant([place]), axis=1)

    def with_number(operator: str, rows: str, number: float) -> str:
        return graph.add(operator, rows, graph.constant(number))

    def if_so(condition: str, rows: str) -> str:
        return graph.add("Mul", rows, graph.add("Cast", condition, to=1))

    reading, meal = column(READING), column(MEAL)
    excess = with_number("Sub", reading, CORRECTION_TARGET)
    excess = if_so(with_number("Greater", reading, CORRECTION_ABOVE), excess)
    excess = if_so(with_number("GreaterOrEqual", column(MINUTES_SINCE), PAUSE), excess)
    bolus = graph.add("Add", meal, with_number("Div", excess, CORRECTION_FACTOR))
    bolus = if_so(with_number("Greater", meal, 0.0), bolus)
    return with_number("Mul", bolus, insulin_per_gram)


def add_doses(graph: PolicyGraph, basal: float, bolus: str, factor: str | None = None) -> str:
    """Doses (E, 2) that the pump accepts: a basal rate and boluses (E, 1), times factors (E, 2)."""
    rate = graph.add("Mul", bolus, graph.constant(0.0))
    doses = graph.add("Concat", graph.add("Add", rate, graph.constant(basal)), bolus, axis=1)
    if factor is not None:
        doses = graph.add("Mul", doses, factor)
    doses = graph.add("Max", doses, graph.constant(0.0))
    return graph.add("Min", doses, graph.constant(np.array([[MAX_BASAL, MAX_BOLUS]])))


@dataclass(frozen=True)
class BasalBolus:
    """A controller; infinite `carbohydrate_ratio`: no boluses.

    Attributes:
        basal: U/h.
        carbohydrate_ratio: g/U.
    """

    basal: float
    carbohydrate_ratio: float = math.inf

    def reset(self, n_envs: int) -> None:
        """Nothing to do: it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Basal rate (U/h) and bolus (U), (E, 2), for observations (E, d) of the glucose world."""
        actions = np.full((len(observations), 2), self.basal, np.float32)
        actions[:, 1] = bolus_of(observations, 1.0 / self.carbohydrate_ratio).clip(0.0, MAX_BOLUS)
        return actions

    def to_onnx(self) -> bytes:
        """The same as a file."""
        graph = PolicyGraph(N_OBSERVED)
        bolus = add_bolus(graph, 1.0 / self.carbohydrate_ratio)
        return graph.finish(add_doses(graph, self.basal, bolus), 2)


@dataclass(frozen=True)
class Tuned:
    """A grid of controllers, and what each of n patients has with each.

    Attributes:
        policies: P controllers.
        rollout: (n, P, E).
    """

    policies: Sequence[BasalBolus]
    rollout: PairRollout

    @property
    def returns(self) -> NDArray[np.float64]:
        """(n, P) mean returns."""
        return np.asarray(self.rollout.returns.mean(axis=2))


def make_grid(n_points: int, *, boluses: bool = True) -> list[BasalBolus]:
    """All pairs of `n_points` basal rates and as many carbohydrate ratios, in equal ratios."""
    rates = np.geomspace(*BASAL_RANGE, n_points).tolist()
    ratios = np.geomspace(*RATIO_RANGE, n_points).tolist() if boluses else [math.inf]
    return [BasalBolus(rate, ratio) for rate in rates for ratio in ratios]


def tune(
    task: OnlineTask, policies: Sequence[BasalBolus], *, n_episodes: int, seed: int = 0
) -> Tuned:
    """Let every controller play in every patient's world.

    Args:
        task: of the glucose world.
        policies: P controllers.
        n_episodes: of three days for each pair.
        seed: of the first episode, below 2**31: those from there on are for evaluation.

    Raises:
        ValueError: the seed is for evaluation.
    """
    if not 0 <= seed < EVALUATION_SEED:
        raise ValueError(f"seed is {seed}, expected 0 to 2**31 - 1, which are for training")
    rollout = roll_out_pairs(task, list[Policy](policies), n_episodes=n_episodes, seed=seed)
    return Tuned(policies, rollout)


def choose(tuned: Tuned, n_chosen: int) -> tuple[Selection, Solution]:
    """The k controllers with which the patients fare best, each patient at its best one.

    Returns:
        What facility location says, on returns above the least one, and the solution.
    """
    return choose_policies(tuned.policies, tuned.returns, n_chosen)


def choose_policies(
    policies: Sequence[Policy], returns: NDArray[np.float64], n_chosen: int
) -> tuple[Selection, Solution]:
    """The same of any P policies, by what each of n patients has with each, returns (n, P)."""
    selection = select(returns - returns.min(), n_chosen)
    assignment = greedy_assignment(returns[:, selection.chosen])
    chosen = [policies[column] for column in selection.chosen]
    return selection, Solution(chosen, assignment)


def grid_within(
    task: OnlineTask, most: int, *, boluses: bool = True, share: float = 1.0
) -> tuple[int, int]:
    """Points of a grid along each gain, and episodes of each pair, within a task's transitions.

    Args:
        task: its transitions count for each of its k policies.
        most: points along a gain; what is left of a greater budget plays more episodes.
        boluses: whether there are two gains.
        share: of the transitions, above 0, at most 1, that tuning may use.

    Raises:
        ValueError: that share is below two points, k controllers and one episode, or `most` is too
            small for k controllers.
    """
    n_gains, k = 2 if boluses else 1, task.n_representatives
    side = max(2, math.ceil(k ** (1.0 / n_gains) - 1e-9))
    if most < side:
        raise ValueError(
            f"n_points is {most}, which makes {most**n_gains} controllers to choose {k} from, "
            f"expected at least {side}"
        )
    per_candidate = task.n_agents * task.max_episode_steps
    n_candidates = int(share * task.transitions) * k // per_candidate
    n_points = min(most, math.floor(n_candidates ** (1.0 / n_gains) + 1e-9))
    if n_points < 2 or n_points**n_gains < k:
        needed = math.ceil(side**n_gains * per_candidate / k)
        least = math.ceil(needed / share)
        least += int(share * least) < needed  # the product was rounded down
        for_tuning = "" if share == 1.0 else f", of which a share of {share:g} is for tuning,"
        raise ValueError(
            f"{task.transitions} transitions per policy{for_tuning} are not enough to try "
            f"controllers on {task.n_agents} patients, expected at least {least}"
        )
    return n_points, min(100, n_candidates // n_points**n_gains)


@dataclass(frozen=True)
class GridSettings:
    """Settings of a control that tunes a grid."""

    n_points: int = 16
    """Most values of each gain, from the least to the greatest in equal ratios. A budget of
    transitions for fewer has fewer; what is left of a greater one plays more episodes."""

    def __post_init__(self) -> None:
        """Refuse what is no grid.

        Raises:
            ValueError: n_points is not from 2 to 64.
        """
        check_range(self, 2, 64, "n_points")


def check_grid(task: Task, config: GridSettings, *, boluses: bool) -> None:
    """Refuse other worlds, and a budget that is too small for any grid.

    Raises:
        ValueError: names the task or its transitions, and what was expected.
    """
    grid_within(check_world(task), config.n_points, boluses=boluses)


def check_world(task: Task) -> OnlineTask:
    """Refuse other worlds, and give the task back.

    Raises:
        ValueError: names the task and what was expected.
    """
    if not isinstance(task, OnlineTask) or task.env_id != ENVIRONMENT:
        raise ValueError(
            f"{task.id} is not a task to act in {ENVIRONMENT}, the one world with an insulin pump"
        )
    return task


def solve_with_grid(
    task: OnlineTask, config: GridSettings, seeds: Sequence[int], log: RunLog, *, boluses: bool
) -> list[Solution]:
    """Tune a grid within the task's transitions and choose k of it, for each seed anew.

    Returns:
        One solution for each seed.
    """
    check_grid(task, config, boluses=boluses)
    n_points, n_episodes = grid_within(task, config.n_points, boluses=boluses)
    grid = make_grid(n_points, boluses=boluses)
    solutions, used, tuned_welfare = [], 0, []
    for seed in seeds:
        # Evaluation seeds begin at 2**31; the hundred episodes after a multiple of it are its own.
        tuned = tune(task, grid, n_episodes=n_episodes, seed=100 * (seed % 10_000_000))
        selection, solution = choose(tuned, task.n_representatives)
        solutions.append(solution)
        tuned_welfare.append(selection.welfare + float(tuned.returns.min()))
        used = math.ceil(int(tuned.rollout.lengths.sum()) / task.n_representatives)
    log.progress(used, {"tuned_return": tuned_welfare})
    return solutions
