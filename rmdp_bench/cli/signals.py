"""Signals that ask a command to stop: Ctrl-C, and what batch systems and terminals send."""

from __future__ import annotations

import signal
import sys
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
        """Raise `Stopped`; while that cleans up only Ctrl-C does it again.

        It may have been lost on its way, as in a policy that catches all: the next signal raises.
        """
        if number == signal.SIGINT or not _is_being_handled(self.stopped):
            self.stopped = self.stopped or Stopped(number)
            raise self.stopped


def _is_being_handled(error: BaseException | None) -> bool:
    """Whether a `finally`, `except` or `with` is at work on an error, or on one that came of it."""
    handled = sys.exception()
    while handled is not None and handled is not error:
        handled = handled.__context__
    return handled is not None


@contextmanager
def on_signals(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` with the number of each signal that comes; signals do as before at the end.

    Those that are ignored, as `nohup` does with SIGHUP, stay so, except Ctrl-C. Only the main
    thread may do this; in others nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    waiting: list[int] = []
    is_ready = False

    def handle(number: int, frame: FrameType | None) -> None:
        if is_ready:
            act(number)
        else:  # not all handlers are set, or set back
            waiting.append(number)

    before: dict[int, Any] = {}
    try:
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows lacks some
            if number is None:
                continue
            if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                continue
            before[number] = signal.getsignal(number)
            signal.signal(number, handle)
        is_ready = True
        while waiting:
            act(waiting.pop(0))
        yield
    finally:
        is_ready = False
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)
