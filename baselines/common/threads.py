"""Threads of torch: one while solvers train and their policies act, the caller's own after that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, as a block or as a function's decorator, torch computes on one thread of the CPU.

    Products of small networks are not worth sharing out: threads that wait take the cores from the
    physics (measured with another process on a machine of 2 cores: with 2 threads an update took
    ten times as long and more), and sums would depend on how many threads there are. All cores are
    used by simulators, compiled loops and planners, with threads of their own, each of which calls
    torch without more threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
