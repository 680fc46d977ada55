"""How torch computes while solvers train and policies act; afterwards as the caller had it."""

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


@contextmanager
def denormals_as_zeros() -> Iterator[None]:
    """Within it this thread takes numbers below 1e-38 for zero, in torch and in compiled loops.

    So do threads that it starts, as long as they live.

    Adam's moments of a unit that has died shrink for hundreds of steps until they are such numbers,
    with which a step takes longer (`benchmarks.offline_learners`). Such moments hardly move a
    parameter: those of BCQ, CQL and MOReL's models had the same bits either way after thousands of
    updates, CaDM's had not.
    """
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes_denormals() -> bool:
    """Whether this thread takes numbers below the smallest normal one for zero."""
    smallest = torch.full((), torch.finfo(torch.float32).tiny)
    return (smallest / 2).item() == 0.0
