"""Signals that ask a command to stop: Ctrl-C, and what batch systems and terminals send."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Ctrl-C; the end of a batch job, or `kill`; a closed terminal; a batch system's warning."""


class Stopped(BaseException):
    """One of the signals has come; it is raised where the program is.

    Not a KeyboardInterrupt, of which typer makes an error of its own.
    """

    def __init__(self, number: int) -> None:
        """Keep the number of the signal."""
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number


class RaiseStopped:
    """Ends what is running: `with` and `finally` clean up.

    Attributes:
        stopped: the first signal that came; None: there was none.
    """

    def __init__(self) -> None:
        """No signal has come."""
        self.stopped: Stopped | None = None

    def __call__(self, number: int) -> None:
        """Raise `Stopped`; after the first signal only for Ctrl-C, so that cleaning up goes on."""
        if self.stopped is None or number == signal.SIGINT:
            self.stopped = self.stopped or Stopped(number)
            raise self.stopped


@contextmanager
def on_signals(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` with the number of each signal that comes; signals do as before at the end.

    Those that are ignored, as `nohup` does with SIGHUP, stay so, except Ctrl-C. Only the main
    thread may do this; in others nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        act(number)

    before: dict[int, Any] = {}
    try:
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows lacks some
            if number is None:
                continue
            if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                continue
            before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
