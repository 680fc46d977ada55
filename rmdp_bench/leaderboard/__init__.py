"""The leaderboard: submissions beside the exact ceiling, and beside runs of one's own.

    leaderboards/submissions/NAME/     one submission, see `rmdp_bench.submission`

Quality tables ignore hardware.  Cost tables are per class of device, CPU and GPU apart, because
their numbers mean nothing across classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmdp_bench.results import find_results
from rmdp_bench.results.summary import Summary, summarise
from rmdp_bench.tasks import Task, get_task, list_tasks

LOCAL = "this machine"
DEVICE_CLASSES = {"cpu": "CPU", "cuda": "GPU"}


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard.

    Attributes:
        source: name of the submission, or `LOCAL`.
        summary: its scores and costs.
        mark: whether the verifier could reproduce it, see `RowFinding.mark`; None: a run of this
            machine.
    """

    source: str
    summary: Summary
    mark: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether it is a run of this machine and not a submission."""
        return self.source == LOCAL

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        own = {"source": self.source, "new": self.is_new, "mark": self.mark}
        return own | self.summary.to_dict()


@dataclass(frozen=True)
class Table:
    """The entries of one task, the best first, and what they are measured against.

    Attributes:
        task: the task.
        entries: by social welfare, descending.
    """

    task: Task
    entries: list[Entry]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the ceiling is a row of its own, marked as exact."""
        exact = {"source": "exact ceiling", "exact": True, "social_welfare": self.task.ceiling}
        rows = [] if self.task.ceiling is None else [exact]
        rows += [{"exact": False} | entry.to_dict() for entry in self.entries]
        return {
            "task": self.task.id,
            "n_representatives": self.task.n_representatives,
            "ceiling": self.task.ceiling,
            "rows": rows,
        }

    def costs(self, device_class: str) -> list[Entry]:
        """The entries of one class of device, the fastest first."""
        own = [
            entry
            for entry in self.entries
            if DEVICE_CLASSES.get(entry.summary.device) == device_class
        ]
        return sorted(own, key=lambda entry: -(entry.summary.transitions_per_second or 0.0))


def build_tables(root: Path, local: Sequence[Path] = (), task_id: str | None = None) -> list[Table]:
    """Tables of all tasks that have an entry, or of one task.

    Args:
        root: the folder that has `submissions`; missing: there are none.
        local: folders with runs of one's own.
        task_id: None: every task with an entry.

    Raises:
        ValueError: an unknown task, a damaged submission or record, or local folders without a
            result.
    """
    tasks = list_tasks() if task_id is None else [get_task(task_id)]
    entries = _read_submissions(root)
    if local:
        entries += [Entry(LOCAL, summary) for summary in summarise(find_results(local))]
    tables = []
    for task in tasks:
        own = [entry for entry in entries if entry.summary.task == task.id]
        own.sort(key=lambda entry: -entry.summary.social_welfare)
        if own or task_id is not None:
            tables.append(Table(task, own))
    return tables


def _read_submissions(root: Path) -> list[Entry]:
    from rmdp_bench.leaderboard.reading import read_rows  # which stands on this module

    return [Entry(row.submission.name, row.summary, row.finding.mark) for row in read_rows(root)]
