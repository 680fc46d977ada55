"""An offline solver for tests: learns nothing, but has all that an offline solution can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import RunLog, Solution, Task
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.evaluation.prediction import N_OPEN_LOOP
from tests.helpers.toys import ScriptedPolicy, discrete_graph


@dataclass(frozen=True)
class Config:
    """Settings."""

    export: bool = True
    """Whether the policy can be saved."""

    bare: bool = False
    """Whether there is nothing but a policy."""


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """One policy for all, which pushes to the left in seed 0 and to the right in seed 1."""
    log.progress(3, {"loss": [0.5] * len(seeds)}, total=3)
    solutions = []
    for seed in seeds:
        one = Solution([ScriptedPolicy([seed % 2])], np.ones((5, 1)))
        if config.bare:
            solutions.append(one)
            continue
        solutions.append(
            OfflineSolution(
                one.policies,
                one.assignment,
                export=partial(discrete_graph, [seed % 2]) if config.export else None,
                adapt=partial(serve, one),
                predict=stand_still,
                factors=np.random.default_rng(seed).normal(size=(500, 2)),
            )
        )
    return solutions


def serve(solution: Solution, episodes: Sequence[Episode]) -> Solution:
    """The same policy for everybody."""
    return Solution(solution.policies, np.ones((len(episodes), 1)))


def stand_still(
    agent: int, observations: NDArray[Any], actions: NDArray[Any]
) -> NDArray[np.float64]:
    """Nothing changes."""
    return np.repeat(observations[:, -1:].astype(np.float64), N_OPEN_LOOP, axis=1)
