"""Loops are compiled with a cache and without."""

from __future__ import annotations

import errno
from typing import Any

import pytest

compiling: Any = pytest.importorskip("rmdp_bench.envs.core.compiling", reason="needs numba")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cannot cache function: no locator available"),
        OSError(errno.EFBIG, "File too large"),  # as in the verifier's sandbox
    ],
)
def test_loops_are_compiled_where_nothing_can_be_cached(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(signature: str, cache: bool, **options: Any) -> Any:
        assert options.pop("error_model") == "numpy" and not options
        if cache:
            raise error
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", refuse)
    assert compiling.compile_loop(len, "i8(i8)") is len
