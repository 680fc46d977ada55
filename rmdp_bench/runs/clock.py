"""The clock of a run: how long it took, and how long its training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Clock:
    """Wall and training seconds of each seed, over all sessions of its run."""

    def __init__(self, n_seeds: int) -> None:
        """Start it."""
        self._wall_before = [0.0] * n_seeds
        self._train_before = [0.0] * n_seeds
        self._wall_started = self._train_started = time.perf_counter()
        self._paused = 0.0

    @property
    def wall_seconds(self) -> list[float]:
        """Time of each seed's run so far."""
        here = time.perf_counter() - self._wall_started
        return [before + here for before in self._wall_before]

    @property
    def train_seconds(self) -> list[float]:
        """The same without pauses and without what was before `start_training`."""
        here = time.perf_counter() - self._train_started - self._paused
        return [before + here for before in self._train_before]

    def start_training(self) -> None:
        """Start this session's training seconds anew."""
        self._train_started, self._paused = time.perf_counter(), 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count what happens inside as no training."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    def set_before(self, wall_seconds: Sequence[float], train_seconds: Sequence[float]) -> None:
        """Say how much time of each seed earlier sessions took."""
        self._wall_before, self._train_before = list(wall_seconds), list(train_seconds)
