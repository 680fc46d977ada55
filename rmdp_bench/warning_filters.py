"""Warnings that are left out while something runs; threads do not mix up each other's filters."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def _renew_lock() -> None:
    """In a process forked while another thread held the lock, nobody would give it back."""
    global _lock
    _lock = threading.RLock()


_lock = threading.RLock()
os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def ignored_warnings(category: type[Warning] = Warning, message: str = "") -> Iterator[None]:
    """Leave out some warnings for as long as the block takes, and the filters as they were.

    Filters are the process's: of two threads that change them at once, the one that ends last would
    leave the other's there. So threads wait here for each other.

    Args:
        category: which, and what is derived from it.
        message: regular expression that the beginning of the text matches.
    """
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield
