"""Groups by the patients' true parameters, which nobody else may see, and a policy for each group.

By Hovorka's equations a patient's parameters say which basal rate keeps 6 mmol/L, and how many
grams of carbohydrates a unit of insulin stands for there (more glucose at a small constant rate
needs so much more insulin). k-means on the logarithms of both, and on the taste, each in units of
its spread, makes the groups. It knows what differs, not what policies can make of it: no bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.heterogeneous.controllers import Tuned
from baselines.heterogeneous.groups import (
    FixedGroups,
    FloatArray,
    GroupSettings,
    check,
    cluster,
    solve_with_rule,
)
from rmdp_bench.envs.glucose.hovorka import MMOL_PER_GRAM, PARAMETERS, steady_state
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "needs", "solve"]

LEVEL = 6.0
"""mmol/L that are kept."""
GRAMS = 0.01
"""Carbohydrates, g/min, by which the ratio is found."""


@dataclass(frozen=True)
class Config(GroupSettings):
    """Settings of tuning and of the learner."""


def needs(parameters: FloatArray) -> FloatArray:
    """Basal rate (U/h) and carbohydrate ratio (g/U) of patients (n, >= 16), (n, 2)."""
    model = parameters.T[: len(PARAMETERS)]
    basal = steady_state(model, LEVEL)[1]
    names = list(PARAMETERS)
    weight, share = model[names.index("BW")], model[names.index("AG")]
    fed = model.copy()  # what is eaten is as if so much less were used
    fed[names.index("F01")] -= share * GRAMS * MMOL_PER_GRAM / weight
    more = steady_state(fed, LEVEL)[1] - basal
    return np.stack((0.06 * basal, 1000.0 * GRAMS / more), axis=1)


def _make_rule(task: OnlineTask, tuned: Tuned, seed: int) -> FixedGroups:
    del tuned
    parameters = task.hidden_population.parameters[: task.n_agents]
    points = np.column_stack((np.log(needs(parameters)), parameters[:, -1]))
    scaled = (points - points.mean(axis=0)) / (points.std(axis=0) + 1e-12)
    k = task.n_representatives
    return FixedGroups(cluster(scaled, k, seed), k)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Group by what is hidden, tune, and learn a policy for each group.

    Returns:
        One solution for each seed.
    """
    del device  # networks are small: the CPU
    return solve_with_rule(task, config, seeds, log, _make_rule)
