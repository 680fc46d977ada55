"""Loops that numba compiles: how, and Adam's step, which all of them end with.

They run without Python and without its lock, so that jobs that share nothing use all cores as
threads. Products are BLAS calls; what stands between them are loops that the compiler fuses and
vectorises. All numbers are float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rmdp_bench.envs.core.compiling import FunctionT, compile_loop

Array = npt.NDArray[Any]
Number = float | np.floating[Any]
f32 = np.float32

# Reassociation lets sums be vectorised. "nnan" and "ninf" are left out: a diverged network must
# stay not a number.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}
F1, F2, F3 = "f4[::1]", "f4[:,::1]", "f4[:,:,::1]"  # contiguous arrays of float32

_FIRST_DECAY, _SECOND_DECAY = 0.9, 0.999  # of Adam's moments: torch's defaults


def inner(function: FunctionT) -> FunctionT:
    """Compile what only compiled functions call, as a part of each of them.

    Were it a function of its own, the process that compiles would optimise across the call, and
    those that load the cache would not: other last bits for the same seed.
    """
    return compile_loop(function, inline="always", **_OPTIONS)


def outer(types: str) -> Callable[[FunctionT], FunctionT]:
    """Compile what Python calls, for arguments of these types.

    So it happens when this module is imported for the first time, not within a run, and arrays of
    other types are refused.
    """
    return lambda function: compile_loop(function, f"void({types})", **_OPTIONS)


_get_item_pointer: Any = cgutils.get_item_pointer


def _generate_fetch_add(typing_context: Any, array: Any, index: Any, amount: Any) -> Any:
    """The type of `fetch_add`, and what writes its instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        own = context.make_array(kind)(context, builder, arguments[0])
        pointer = _get_item_pointer(context, builder, kind, own, [arguments[1]])
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


_fetch_add: Any = intrinsic(_generate_fetch_add)


@inner
def fetch_add(counters: Array, index: int, amount: int) -> Any:
    """Add to one of the counters (int64) as if no other thread ran meanwhile; return what it was.

    What a thread wrote before it is seen by those whose own `fetch_add` of that counter comes
    after; numba has no such operation of its own on a CPU.
    """
    return _fetch_add(counters, index, amount)


_sched_yield = types.ExternalFunction("sched_yield", types.intc())


@inner
def yield_core() -> None:
    """Let another thread that waits for this core run."""
    _sched_yield()


@inner
def adam_move(
    parameters: Array,
    gradient: Array,
    first: Array,
    second: Array,
    n_steps: int,
    learning_rate: float,
    epsilon: float,
    clip: Number,
) -> None:
    """Make Adam's step number `n_steps` with `clip` times the gradient (P,)."""
    step = f32(learning_rate / (1.0 - _FIRST_DECAY**n_steps))
    root = f32(1.0 / math.sqrt(1.0 - _SECOND_DECAY**n_steps))
    floor = f32(epsilon)
    new, new_square = f32(1.0 - _FIRST_DECAY), f32(1.0 - _SECOND_DECAY)
    old_square = f32(_SECOND_DECAY)
    for i in range(parameters.shape[0]):
        g = gradient[i] * clip
        m = first[i] + (g - first[i]) * new
        v = second[i] * old_square + g * g * new_square
        first[i] = m
        second[i] = v
        parameters[i] -= step * m / (np.sqrt(v) * root + floor)


@inner
def adam_step(
    parameters: Array,
    gradient: Array,
    first: Array,
    second: Array,
    n_steps: int,
    learning_rate: float,
    epsilon: float,
    max_norm: float,
) -> None:
    """Clip the gradient (P,) to `max_norm` and make Adam's step number `n_steps`."""
    total = f32(0.0)
    for i in range(gradient.shape[0]):
        total += gradient[i] * gradient[i]
    clip = f32(max_norm) / (np.sqrt(total) + f32(1e-6))
    clip = f32(1.0) if clip > f32(1.0) else clip
    adam_move(parameters, gradient, first, second, n_steps, learning_rate, epsilon, clip)
