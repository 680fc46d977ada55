"""How many environment steps this process has made: those of every copy of every world.

What a harness counts is the difference between two calls of `steps_made`. Steps of child processes
are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident

_made: dict[int, int] = {}
"""Thread -> its steps: each thread writes its own entry only, so that no lock is needed."""
_is_counting: ContextVar[bool] = ContextVar("is_counting", default=True)


def steps_made() -> int:
    """Steps of all copies of all counted worlds since the process began."""
    return sum(list(_made.values()))


def add_steps(n_steps: int) -> None:
    """Count steps."""
    thread = get_ident()
    try:
        _made[thread] += n_steps
    except KeyError:
        _made[thread] = n_steps


def is_counting() -> bool:
    """Whether worlds that are made now are counted."""
    return _is_counting.get()


@contextmanager
def uncounted() -> Iterator[None]:
    """Leave out the steps of worlds that this thread makes here; for the making alone.

    A solver's policies must not run within it: what they make would be free for ever.
    """
    token = _is_counting.set(False)
    try:
        yield
    finally:
        _is_counting.reset(token)
