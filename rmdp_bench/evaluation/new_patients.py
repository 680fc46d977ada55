"""New patients of the glucose world: what is known of them at once, and after some days.

    profile      weight, insulin need at rest and taste (`envs.glucose.patients.clinic_profile`)
    first days   what the readings of one or three days say, under the same controller for everybody

Either is a row of numbers for each patient, by which `Solution.assign_like` matches new patients
with the policies of a solution, as those who are most like them fare with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.datasets.clinic import ClinicController, tuned_gains
from rmdp_bench.evaluation.playing import play
from rmdp_bench.tasks import Task

STEPS_PER_DAY = 288
LOW, HIGH = 70.0, 180.0
"""Ends of the target range, mg/dL."""
AFTER_MEAL = 24
"""Steps after an announced meal, two hours, by which its rise is told."""
FIRST_VISIT_SEED = 95_000_000
"""Of the episode in which everybody has the default controller; no data set has it."""


@dataclass(frozen=True)
class FirstDays:
    """The first days of a patient: what Minari's episodes have of it.

    Attributes:
        observations: (T + 1, 7).
        actions: (T, 2).
        rewards: None: nobody tells the risk of a first visit.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: None = None


def default_controller() -> ClinicController:
    """What everybody begins with: the medians of the tuned gains of the 100 patients."""
    basal, ratio = np.median(tuned_gains()[:100], axis=0)
    return ClinicController(float(basal), float(ratio))


def record_first_days(task: Task, agents: Sequence[int], n_days: int) -> list[FirstDays]:
    """Let agents live some days under the default controller.

    Args:
        task: of the glucose world.
        agents: m indices of the population's parameters.
        n_days: 1 to 3.

    Raises:
        ValueError: so many days are no episode.
    """
    if not 1 <= n_days <= task.max_episode_steps // STEPS_PER_DAY:
        raise ValueError(f"n_days is {n_days}, expected 1 to 3, as long as an episode is")
    played = play(
        task,
        [default_controller()],
        [len(agents)],
        [FIRST_VISIT_SEED + agent for agent in agents],
        agents=list(agents),
        record=True,
        max_steps=n_days * STEPS_PER_DAY,
    )
    return [
        FirstDays(played.observations[:, row], played.actions[:, row]) for row in range(len(agents))
    ]


def features_of(days: Sequence[FirstDays]) -> NDArray[np.float64]:
    """What the readings of some days say of each of m patients.

    Returns:
        (m, 7): mean and standard deviation of readings, shares below and above range, the mean from
        midnight to six, the change over the time in all, and the mean rise in the two hours after a
        meal; mg/dL.
    """
    rows = []
    for own in days:
        readings = own.observations[:, 0].astype(np.float64)
        hours = np.arange(len(readings)) % STEPS_PER_DAY / (STEPS_PER_DAY / 24)
        meals = np.flatnonzero(own.observations[: -AFTER_MEAL - 1, 3] > 0.0)
        rises = readings[meals + AFTER_MEAL] - readings[meals]
        row = [
            *(readings.mean(), readings.std()),
            *((readings < LOW).mean(), (readings > HIGH).mean()),
            *(readings[hours < 6.0].mean(), readings[-12:].mean() - readings[:12].mean()),
            rises.mean() if len(meals) else 0.0,
        ]
        rows.append(row)
    return np.array(rows)
