"""Progress on stderr: a live bar in a terminal, a plain line now and then elsewhere.

What a run shows is also in a file of its directory, for whoever watches it from elsewhere.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from rmdp_bench.files import read_json, write_json
from rmdp_bench.terminal import USUAL_WIDTH, can_redraw, fit_terminal, terminal_width

LINE_SECONDS = 30.0
"""Least time between two plain lines."""
PROGRESS_FILE = "progress.json"
PROGRESS_SECONDS = 5.0
"""Least time between two changes of the file."""
SCORE_WIDTH, BAR_WIDTH = 60, 100
"""Least width of a terminal with room for the score, and for the bar beside it."""
BAR, SHARE, LEFT = 14, 4, 12
"""Columns of the bar, of the percentage and of the time that is left."""


class Display(Protocol):
    """Where a run says how far it is."""

    def start(self, title: str, total: int | None) -> None:
        """Begin a run of `total` transitions per policy; None: nobody knows how long it is."""

    def set_total(self, total: int | None, unit: str) -> None:
        """Change what is counted, and how much there is of it, if that is known."""

    def update(self, done: int, score: str) -> None:
        """Say how far it is; `score` tells the welfare so far, and whether it is scoring."""

    def begin_scoring(self) -> None:
        """Show the next update however short a time it is since the last; training has ended.

        What is done stays as it is, so that from now on nothing says how long it still takes.
        """

    def message(self, text: str) -> None:
        """Print one line."""

    def stop(self) -> None:
        """End; may be called more than once."""


class NoDisplay:
    """Says nothing."""

    def start(self, title: str, total: int | None) -> None:
        """Nothing."""

    def set_total(self, total: int | None, unit: str) -> None:
        """Nothing."""

    def update(self, done: int, score: str) -> None:
        """Nothing."""

    def begin_scoring(self) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class RecordedDisplay:
    """Passes everything on to another display, and writes how far the run is into a file."""

    def __init__(self, display: Display, path: Path) -> None:
        """Write nothing before there is something to say."""
        self._display, self._path = display, path
        self._total: int | None = None
        self._unit = ""
        self._first: tuple[float, int] | None = None
        self._last, self._is_scoring = 0.0, False

    def start(self, title: str, total: int | None) -> None:
        """Begin."""
        self._display.start(title, total)
        self._total, self._unit = total, "transitions per policy"
        self._first, self._last = None, time.perf_counter()
        self._is_scoring = False

    def set_total(self, total: int | None, unit: str) -> None:
        """Keep them for the file."""
        self._display.set_total(total, unit)
        self._total, self._unit = total, unit

    def update(self, done: int, score: str) -> None:
        """Write the file if it is time."""
        self._display.update(done, score)
        now = time.perf_counter()
        self._first = self._first or (now, done)
        if now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        began, before = self._first
        document = {
            "done": done,
            "total": self._total,
            "unit": self._unit,
            "per_second": (done - before) / (now - began) if now > began else 0.0,
            "score": score,
            "scoring": self._is_scoring,
        }
        with suppress(OSError):  # such as a full disk: it is no reason to end the run
            write_json(self._path, document)

    def begin_scoring(self) -> None:
        """Write the next one too."""
        self._display.begin_scoring()
        self._last, self._is_scoring = -math.inf, True

    def message(self, text: str) -> None:
        """Pass it on."""
        self._display.message(text)

    def stop(self) -> None:
        """End."""
        self._display.stop()


def read_progress(directory: Path) -> dict[str, Any] | None:
    """What a run's `RecordedDisplay` wrote last, or None.

    Returns:
        done, total, unit, per_second, score, and scoring: whether training has ended.
    """
    try:
        return read_json(directory / PROGRESS_FILE)
    except ValueError:
        return None


class PlainDisplay:
    """Lines on stderr, one per `LINE_SECONDS` at most."""

    def __init__(self) -> None:
        """Nothing is printed yet."""
        self._title, self._unit = "", ""
        self._total: int | None = None
        self._first: tuple[float, int] | None = None
        self._last, self._ended, self._is_scoring = 0.0, False, False

    def start(self, title: str, total: int | None) -> None:
        """Begin."""
        self._title = title
        self.set_total(total, "transitions per policy")
        self._first, self._last, self._ended = None, time.perf_counter(), False
        self._is_scoring = False

    def set_total(self, total: int | None, unit: str) -> None:
        """Keep them for the lines."""
        self._total, self._unit = total, unit

    def update(self, done: int, score: str) -> None:
        """Print a line if it is time."""
        now = time.perf_counter()
        self._first = self._first or (now, done)
        total = self._total
        ends = total is not None and done >= total and not self._ended
        if now - self._last < LINE_SECONDS and not ends:
            return
        self._last, self._ended = now, self._ended or ends
        began, before = self._first
        rate = (done - before) / (now - began) if now > began else 0.0
        rest = 0 if total is None else max(0, total - done)
        left = (
            f", {clock(rest / rate)} left" if rate > 0 and rest > 0 and not self._is_scoring else ""
        )
        of_total, share = "", ""
        if total is not None:
            of_total, share = f" of {total:,}", f" ({100 * done / total:.0f} %)"
        parts = [f"{done:,}{of_total} {self._unit}{share}", score]
        self.message(f"{self._title}: {', '.join(part for part in parts if part)}{left}")

    def begin_scoring(self) -> None:
        """Print the next one."""
        self._last, self._is_scoring = -math.inf, True

    def message(self, text: str) -> None:
        """Print one line."""
        print(fit_terminal(text, sys.stderr), file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Nothing is open."""


class BarDisplay:
    """A live bar on stderr; a narrow terminal does without the bar, then without the score."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            Task,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column
        from rich.text import Text

        class TimeLeft(TimeRemainingColumn):
            """Nothing once training has ended: what it took says nothing about scoring."""

            def render(self, task: Task) -> Text:
                return super().render(task) if task.fields["left"] else Text("")

        width = terminal_width(sys.stderr) or USUAL_WIDTH
        # A long title ends in "…"; without a bound it would push the others out.
        text = Column(no_wrap=True, overflow="ellipsis", max_width=width // 3)
        parts: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False, table_column=text)
        ]
        bar = BAR + 1 if width >= BAR_WIDTH else 0
        self._room = max(0, width - (width // 3 + 1) - bar - (SHARE + 1) - (LEFT + 1))
        if width >= BAR_WIDTH:
            parts.append(BarColumn(bar_width=None, table_column=Column(min_width=BAR, ratio=1)))
        parts.append(TaskProgressColumn(table_column=Column(no_wrap=True, min_width=SHARE)))
        if width >= SCORE_WIDTH:
            column = Column(no_wrap=True)
            parts.append(TextColumn("{task.fields[score]}", markup=False, table_column=column))
        parts += [
            TimeLeft(table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=4)),
        ]
        self._progress = Progress(*parts, console=Console(stderr=True), expand=True)

    def start(self, title: str, total: int | None) -> None:
        """Begin; a bar before it stays as it is. Without a total it pulses, and has no share."""
        for task_id in self._progress.task_ids:
            self._progress.remove_task(task_id)
        self._bar = self._progress.add_task(title, total=total, score="", left="left")
        self._progress.start()

    def set_total(self, total: int | None, unit: str) -> None:
        """Change the length of the bar, which does not say what it counts."""
        self._progress.update(self._bar, total=total)

    def update(self, done: int, score: str) -> None:
        """Move the bar; what there is no room for of the score is left out in whole parts."""
        while len(score) > self._room:
            score = score.rpartition(", ")[0]
        self._progress.update(self._bar, completed=done, score=score)

    def begin_scoring(self) -> None:
        """Show no time that is left."""
        self._progress.update(self._bar, left="")

    def message(self, text: str) -> None:
        """Print one line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


def make_display() -> Display:
    """A bar if stderr is a terminal on which one can move, else lines."""
    return BarDisplay() if can_redraw(sys.stderr) else PlainDisplay()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
