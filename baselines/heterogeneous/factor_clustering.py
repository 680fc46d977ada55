"""Groups by the factors of PerSim's simulators, and CQL or BCQ on the records of each group.

The factors (`simulators`) tell how a patient's glucose answers to insulin, meals and itself;
k-means groups the patients by them, in standard deviations, and by how much lows count. Each
group's policy is learned from the records of its patients by the offline solver that is asked for,
which knows nothing of simulators. With k = 1 it is that solver on all data, with k = n on each
record alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.heterogeneous.clinic_records import check, group, load_records, standardised
from baselines.heterogeneous.simulators import make_simulators
from baselines.offline.common.data import join, load_data
from baselines.offline.common.networks import member_keys
from baselines.offline.common.policies import ReplayLearner, in_units_of
from baselines.offline.common.replay import MemberRows, Replay
from baselines.offline.common.training import train
from baselines.offline.model_free import bcq, cql
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OfflineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config:
    """Settings; those of the solver of a group are its defaults for the task."""

    learner: Literal["cql", "bcq"] = "cql"
    """What learns from a group's records."""
    n_updates: int = 5_000
    """Gradient steps."""
    batch_size: int = 256
    """Transitions in a gradient step."""
    hidden_dims: tuple[int, ...] = (256, 256)
    """Hidden layers of CQL's networks; BCQ has its own."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        check_range(self, 1, 10**9, "n_updates", "batch_size")


def make_learner(task: OfflineTask, config: Config, replay: Replay) -> ReplayLearner:
    """The learner of all groups, as one batch."""
    given: dict[str, Any] = {"n_updates": config.n_updates, "batch_size": config.batch_size}
    if config.learner == "bcq":
        own = dataclasses.replace(bcq.config_for(task), **given)
        return bcq.make_learner(replay, own, task.gamma, None)
    settings = dataclasses.replace(cql.config_for(task), hidden_dims=config.hidden_dims, **given)
    return cql.make_learner(replay, settings, task.gamma, None)


@one_thread()
def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Fit, group, and learn; the groups of all seeds are one batch.

    Returns:
        An `OfflineSolution` for each seed.
    """
    check(task, config)
    simulators = make_simulators(load_records(task))
    known = np.concatenate([simulators.mean, simulators.low_weight[:, np.newaxis]], axis=1)
    known, data, k = standardised(known), load_data(task, task.n_agents), task.n_representatives
    groups = [group(known, k, seed) for seed in seeds]
    parts = [
        [data.trajectory(int(agent)) for agent in np.flatnonzero(group_of == j)]
        for group_of in groups
        for j in range(k)
    ]
    joined = join(parts)
    rows = MemberRows.of_agents(joined, list(range(len(parts))))
    keys = member_keys(seeds, k)
    learner = make_learner(
        task, config, Replay(rows, keys, config.batch_size, device, normalize=True)
    )
    train(learner, log)
    policies = [learner.policy(member) for member in range(len(keys))]
    policies = in_units_of(task.env_id, policies)
    return [
        OfflineSolution(
            list[Policy](policies[r * k : (r + 1) * k]),
            np.eye(k)[group_of],
            factors=known[:, :-1],
        )
        for r, group_of in enumerate(groups)
    ]
