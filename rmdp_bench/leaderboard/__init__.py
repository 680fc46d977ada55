"""The leaderboard: submissions beside the exact ceiling, and beside runs of one's own.

    leaderboards/submissions/NAME/     one submission, see `rmdp_bench.submission`

Quality tables ignore hardware.  Cost tables are per class of device, CPU and GPU apart, because
their numbers mean nothing across classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmdp_bench.runs.summary import Summary
from rmdp_bench.tasks import Task, get_task, list_tasks

if TYPE_CHECKING:
    from rmdp_bench.leaderboard.reading import SubmittedRow

LOCAL = "this machine"
DEVICE_CLASSES = {"cpu": "CPU", "cuda": "GPU"}


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard.

    Attributes:
        source: name of the submission, or `LOCAL`.
        summary: its scores and costs; measured ones where there are any.
        claimed: social welfare that its records say.
        mark: what the verifier found, see `SubmittedRow.status`; None: a run of this machine.
        score: measured by the verifier, which ranks; None: not measured.
        rank: among the measured rows of the task.
    """

    source: str
    summary: Summary
    claimed: float
    mark: str | None = None
    score: float | None = None
    rank: int | None = None

    @property
    def is_new(self) -> bool:
        """Whether it is a run of this machine and not a submission."""
        return self.source == LOCAL

    @property
    def place(self) -> tuple[bool, float]:
        """What the rows of a task are sorted by: measured ones first, the best of them first."""
        return (True, -self.claimed) if self.score is None else (False, -self.score)

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; "reported" names those that no verifier can play again."""
        offline = self.summary.offline or {}
        reported = sorted(name for name in offline if name != "mean_return")
        names = ("source", "mark", "rank", "score", "claimed")
        own = {name: getattr(self, name) for name in names} | {"new": self.is_new}
        measures = sorted(self.summary.measures or {})
        own |= {
            "reported": [
                *(f"offline.{name}" for name in reported),
                *(f"measures.{name}" for name in measures),
            ]
        }
        return own | self.summary.to_dict()


@dataclass(frozen=True)
class Table:
    """The entries of one task and what they are measured against.

    Attributes:
        task: the task.
        entries: those that were measured by their score, descending; then the others by what they
            claim, without a rank.
        anchors: what was reached at best, name -> welfare in percent, see
            `rmdp_bench.leaderboard.anchors`; of the board as it was built, else empty.
    """

    task: Task
    entries: list[Entry]
    anchors: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the ceiling is a row of its own, marked as exact."""
        exact = {"source": "exact ceiling", "exact": True, "social_welfare": self.task.ceiling}
        rows = [] if self.task.ceiling is None else [exact]
        rows += [{"exact": False} | entry.to_dict() for entry in self.entries]
        return {
            "task": self.task.id,
            "n_representatives": self.task.n_representatives,
            "ceiling": self.task.ceiling,
            "anchors": dict(self.anchors),
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


def build_tables(
    root: Path | None,
    local: Sequence[Summary] = (),
    task_id: str | None = None,
    skip: Callable[[str, str], None] | None = None,
) -> list[Table]:
    """Tables of all tasks that have an entry, or of one task.

    Args:
        root: the folder that has `submissions`; missing: there are none. None: the suite's board as
            it is in the package.
        local: of runs of one's own; those of tasks that are not listed have no table.
        task_id: None: every task with an entry.
        skip: gets the name of each broken submission, which is left out, and the reason; None: the
            first broken one is an error.

    Raises:
        ValueError: an unknown task, or a damaged submission and there is no `skip`.
    """
    tasks = list_tasks() if task_id is None else [get_task(task_id)]
    entries, anchors = _read_submissions(root, skip)
    entries += [Entry(LOCAL, summary, summary.social_welfare) for summary in local]
    tables = []
    for task in tasks:
        own = [entry for entry in entries if entry.summary.task == task.id]
        own.sort(key=lambda entry: entry.place)
        if own or task_id is not None:
            tables.append(Table(task, own, anchors.get(task.id, {})))
    return tables


def _read_submissions(
    root: Path | None, skip: Callable[[str, str], None] | None
) -> tuple[list[Entry], dict[str, dict[str, float]]]:
    """The rows, and the anchors of each task where they are stored."""
    from rmdp_bench.leaderboard.snapshot import read_anchors, read_snapshot  # they stand on this

    stored = read_snapshot(root)
    if stored is not None:
        return stored, read_anchors()
    if root is None:
        return [], {}
    from rmdp_bench.leaderboard.reading import read_rows  # slow, and stands on it too

    return make_entries(read_rows(root, skip)), {}


def make_entries(rows: Sequence[SubmittedRow]) -> list[Entry]:
    """What tables need to know of submitted rows; tasks in their order."""
    from rmdp_bench.leaderboard.reading import ranks

    entries: list[Entry] = []
    for task in list_tasks():
        own = [row for row in rows if row.summary.task == task.id]
        entries += [
            Entry(row.submission.name, row.summary, row.claimed, row.status, row.score, rank)
            for row, rank in zip(own, ranks(own), strict=True)
        ]
    return entries
