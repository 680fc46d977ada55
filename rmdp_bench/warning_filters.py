"""Warnings that are left out while something runs; threads do not mix up each other's filters."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()
# In a process forked while another thread is inside, nobody would give back lock and filters.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


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
