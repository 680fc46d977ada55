"""Loops over many rows that numba compiles, for worlds that have a plain form of the same bits.

To import this module is to import numba, which is optional and takes half a second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from rmdp_bench.envs.core.compiling import FunctionT, compile_loop


def compile_for(signature: str) -> Callable[[FunctionT], FunctionT]:
    """Compile for arguments of these types, at once.

    Nothing is reassociated or fused, so that results are those of Python's and NumPy's arithmetic.
    """
    return lambda function: compile_loop(function, signature)


# NumPy's interface to its generators for compiled code (numpy/random/bitgen.h):
#     struct bitgen_t {
#         void *state;
#         uint64_t (*next_uint64)(void *); uint32_t (*next_uint32)(void *);
#         double (*next_double)(void *); uint64_t (*next_raw)(void *);
#     };
_POINTER = ir.IntType(8).as_pointer()
_NEXT_UINT32, _NEXT_DOUBLE = 2, 3
"""Places in it."""


def _call_member(builder: Any, address: Any, place: int, returned: ir.Type) -> Any:
    """Emit a call of one of the functions of the bitgen_t at an address."""
    members = builder.inttoptr(address, _POINTER.as_pointer())
    state = builder.load(members)
    member = builder.load(builder.gep(members, [ir.Constant(ir.IntType(64), place)]))
    kind = ir.FunctionType(returned, [_POINTER])
    return builder.call(builder.bitcast(member, kind.as_pointer()), [state])


def _emit_next_uint32(context: Any, address: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call_member(builder, arguments[0], _NEXT_UINT32, ir.IntType(32))

    return types.uint32(types.int64), emit


def _emit_next_double(context: Any, address: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call_member(builder, arguments[0], _NEXT_DOUBLE, ir.DoubleType())

    return types.float64(types.int64), emit


_next_uint32: Any = intrinsic(_emit_next_uint32)
"""Draw 32 bits from the generator at an address."""
_next_double: Any = intrinsic(_emit_next_double)
"""Draw a number from [0, 1) from the generator at an address."""

_address_in_capsule = ctypes.pythonapi.PyCapsule_GetPointer
_address_in_capsule.restype = ctypes.c_void_p
_address_in_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]


def addresses_of(generators: Sequence[np.random.Generator]) -> NDArray[np.int64]:
    """Where the bitgen_t of each generator is, (B,); the generators must outlive what uses them."""
    name = b"BitGenerator"
    return np.array(
        [_address_in_capsule(generator.bit_generator.capsule, name) for generator in generators],
        dtype=np.int64,
    )


@compile_for("void(i8[::1], i8, i8[::1])")
def draw_integers(addresses: NDArray[np.int64], n: int, drawn: NDArray[np.int64]) -> None:
    """Draw what `generator.integers(n)` draws, for each of the generators, into `drawn` (B,).

    Lemire's method (2019), as in NumPy: the high half of 32 random bits times n, unless the low
    half is among the few that would make some integers likelier than others.

    Args:
        addresses: (B,), of the generators.
        n: from 1 to 2**31.
        drawn: is written.
    """
    few = (2**32 - n) % n
    for b in range(addresses.shape[0]):
        product = np.int64(0)
        while n > 1:  # of one integer nothing is drawn
            product = np.int64(_next_uint32(addresses[b])) * n
            if (product & 0xFFFFFFFF) >= few:
                break
        drawn[b] = product >> 32


@compile_for("void(i8[::1], f8[:,::1])")
def draw_doubles(addresses: NDArray[np.int64], drawn: NDArray[np.float64]) -> None:
    """Draw what `generator.random(m)` draws, for each of the generators, into `drawn` (B, m)."""
    for b in range(addresses.shape[0]):
        for i in range(drawn.shape[1]):
            drawn[b, i] = _next_double(addresses[b])
