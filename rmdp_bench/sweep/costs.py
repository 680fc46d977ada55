"""How long jobs will take, from records of what has run before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rmdp_bench.files import read_json
from rmdp_bench.leaderboard.snapshot import read_snapshot
from rmdp_bench.runs.records import RESULT_FILE
from rmdp_bench.sweep.jobs import Job
from rmdp_bench.tasks import OnlineTask, get_task

MAX_RECORDS = 3
"""Of the same runs, that are read: their seeds take about as long as each other."""


@dataclass(frozen=True)
class Cost:
    """What one seed took, its evaluation included.

    Attributes:
        seconds: of its own share of a batch.
        transitions: per policy; 0 offline.
    """

    seconds: float
    transitions: int


Costs = Mapping[tuple[str, ...], list[Cost]]
"""(folder, task, solver, device) of records here, and (task, solver, device) of these and of the
suite's board."""


def read_costs(out: Path, jobs: Iterable[Job]) -> Costs:
    """Costs of what has run in a sweep's folder; of the suite's rows, where nothing has."""
    costs: defaultdict[tuple[str, ...], list[Cost]] = defaultdict(list)
    for job in jobs:
        for task in job.tasks:
            own = costs[job.folder, task, job.solver_name, job.device]
            for seed in job.seeds:
                if len(own) >= MAX_RECORDS:
                    break
                cost = _read_cost(job.directory(out, task, seed) / RESULT_FILE)
                if cost is not None:
                    own.append(cost)
                    costs[task, job.solver_name, job.device].append(cost)
    for entry in read_snapshot(None) or []:
        row = entry.summary
        key = (row.task, row.solver, row.device)
        if key not in costs:
            costs[key] = [Cost(row.wall_hours * 3600, row.transitions)]
    return costs


def _read_cost(path: Path) -> Cost | None:
    try:
        document = read_json(path)
        seconds = document["wall_seconds"] / document["seeds_together"]
        return Cost(float(seconds), int(document["transitions"]))
    except (ValueError, KeyError, TypeError):
        return None


def estimate_seconds(job: Job, task: str, costs: Costs) -> float | None:
    """What one seed of a job's task will take; None: nothing like it has run.

    Seconds grow with the transitions; other settings and machines are taken for the same.
    """
    same = costs.get((job.folder, task, job.solver_name, job.device))
    if same:
        return math.fsum(cost.seconds for cost in same) / len(same)
    alike = costs.get((task, job.solver_name, job.device))
    if not alike:
        return None
    seconds = math.fsum(cost.seconds for cost in alike) / len(alike)
    transitions = math.fsum(cost.transitions for cost in alike) / len(alike)
    checked = get_task(task)
    if isinstance(checked, OnlineTask) and transitions > 0:
        seconds *= (job.transitions or checked.transitions) / transitions
    return seconds


def longest_first(jobs: Iterable[Job], costs: Costs) -> list[Job]:
    """Sort jobs so that none that takes long begins last; those of unknown length come first."""

    def length(job: Job) -> float:
        # The first of several tasks trains for all of them.
        seconds = estimate_seconds(job, job.tasks[0], costs)
        return math.inf if seconds is None else seconds * len(job.seeds)

    return sorted(jobs, key=length, reverse=True)
