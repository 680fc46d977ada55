"""How a driver shows its sweep on stderr: all running jobs in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rmdp_bench.runs.display import LINE_SECONDS, SCORE_WIDTH, clock, read_progress
from rmdp_bench.runs.running import is_finished
from rmdp_bench.sweep.jobs import Job, Outcome, failure_file
from rmdp_bench.terminal import USUAL_WIDTH, can_redraw, fit_terminal, terminal_width

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_SECONDS = 1.0
"""Between two looks at what is running."""
COUNT_SECONDS = 5.0
"""Between two counts of all that is done, by other drivers too."""
BAR, BAR_WIDTH = 20, 80
"""Columns of a bar, and least width of a terminal with room for it."""
FRAME = 3
"""Lines of a terminal that running jobs leave free."""


class SweepDisplay:
    """A line for each job that ends; in a terminal a bar for each that runs, below these lines."""

    def __init__(self, out: Path, jobs: Sequence[Job]) -> None:
        """Begin to count."""
        self._out = out
        self._left = {(job, task, seed) for job in jobs for task in job.tasks for seed in job.seeds}
        self._n_seeds, self._failed = len(self._left), set[tuple[Job, str, int]]()
        self._began = time.monotonic()
        self._looked = self._counted = self._printed = -1e9
        self._count(self._left)
        self._n_before = self._n_done
        self._started: list[Job] = []
        self._live = None
        if can_redraw(sys.stderr):
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()

    def message(self, text: str) -> None:
        """Print one line."""
        if self._live is None:
            print(fit_terminal(text, sys.stderr), file=sys.stderr, flush=True)
        else:
            self._live.console.print(text, markup=False, highlight=False)

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Say how a job has ended."""
        self._count((job, task, seed) for task in job.tasks for seed in job.seeds)
        self._started = [other for other in self._started if other is not job]
        if self._live is not None:  # what stands below a message is drawn again with it
            self._live.update(self._draw(self._started), refresh=True)
        if outcome != Outcome.stopped:
            self.message(f"{outcome}: {job.title} ({self._summary()})")

    def refresh(self, started: Sequence[Job]) -> None:
        """Draw what is running; where nothing can be drawn, say it now and then."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, self._started = now, list(started)
        if now - self._counted >= COUNT_SECONDS:
            self._counted = now
            self._count(self._left)
        if self._live is not None:
            self._live.update(self._draw(started), refresh=True)
        elif now - self._printed >= LINE_SECONDS:
            self._printed = now
            running = ", ".join(self._describe(job) for job in started[:4])
            more = f" and {len(started) - 4} more" if len(started) > 4 else ""
            self.message(f"sweep: {self._summary()}; running: {running}{more}")

    def stop(self) -> None:
        """Leave what is drawn as it is."""
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(self._summary()), refresh=True)
            self._live.stop()

    @property
    def _n_done(self) -> int:
        return self._n_seeds - len(self._left)

    def _count(self, keys: Iterable[tuple[Job, str, int]]) -> None:
        """Look which of these (job, task, seed) are finished or have failed."""
        for job, task, seed in list(keys):
            if is_finished(job.directory(self._out, task, seed)):
                self._left.discard((job, task, seed))
                self._failed.discard((job, task, seed))
            elif failure_file(self._out, job, task, seed).exists():
                self._failed.add((job, task, seed))

    def _summary(self) -> str:
        failed = f", {len(self._failed)} failed" if self._failed else ""
        rate = (self._n_done - self._n_before) / (time.monotonic() - self._began)
        rest = len(self._left) - len(self._failed)
        left = f", about {clock(rest / rate)} left" if rate > 0 and rest > 0 else ""
        return f"{self._n_done} of {self._n_seeds} runs done{failed}{left}"

    def _progress(self, job: Job) -> tuple[float, float, float | None]:
        """Share of what is done, transitions or updates in a second, seconds left.

        A run that is finished says no more how far it is.
        """
        folders = [job.directory(self._out, task, seed) for task in job.tasks for seed in job.seeds]
        for folder in folders:
            known = read_progress(folder)
            if known is not None and known["total"]:
                rest, rate = max(0, known["total"] - known["done"]), known["per_second"]
                is_known = rate > 0 and not known.get("scoring")
                return 1.0 - rest / known["total"], rate, rest / rate if is_known else None
        return sum(map(is_finished, folders)) / len(folders), 0.0, None

    def _describe(self, job: Job) -> str:
        return f"{job.title} {100 * self._progress(job)[0]:.0f} %"

    def _draw(self, started: Sequence[Job]) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        assert self._live is not None
        width = terminal_width(sys.stderr) or USUAL_WIDTH
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = [(width >= BAR_WIDTH, BAR), (True, 5), (width >= SCORE_WIDTH, 11), (True, 13)]
        for is_shown, size in columns:
            if is_shown:
                table.add_column(no_wrap=True, width=size, justify="right")
        room = max(1, self._live.console.height - FRAME)
        for job in started[:room]:
            share, rate, left = self._progress(job)
            cells: list[RenderableType] = [
                ProgressBar(total=1.0, completed=share, width=BAR),
                f"{100 * share:.0f} %",
                f"{rate:,.0f}/s" if rate else "",
                "" if left is None else f"{clock(left)} left",
            ]
            shown = [c for c, (is_shown, _) in zip(cells, columns, strict=True) if is_shown]
            table.add_row(Text(job.title), *shown)
        more = f", {len(started) - room} more running" if len(started) > room else ""
        return Group(table, Text(self._summary() + more))
