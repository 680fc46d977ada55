"""How loops are compiled, by numba: those of worlds and those of learners.

To import this module is to import numba, which is optional and takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def compile_loop(function: FunctionT, signature: str | None = None, **options: Any) -> FunctionT:
    """Compile a function, and keep the machine's code on disk if that can be written.

    Divisions follow NumPy: Python's errors would keep loops from being vectorised.

    Args:
        function: in numba's subset of Python.
        signature: types of its arguments, for which it is compiled at once; None: when it is
            called, for those it has then.
        options: more of numba's `njit`.
    """
    options["error_model"] = "numpy"
    try:
        return cast(FunctionT, njit(signature, cache=True, **options)(function))
    except (OSError, RuntimeError):  # the cache cannot be written: compile every time
        return cast(FunctionT, njit(signature, cache=False, **options)(function))
