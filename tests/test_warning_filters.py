"""Warnings that are left out, by threads side by side."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import warnings

import pytest

from rmdp_bench.warning_filters import ignored_warnings
from tests.helpers.checkout import ROOT


def test_only_what_is_named_is_left_out() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ignored_warnings(UserWarning, "one"), ignored_warnings(DeprecationWarning):
            warnings.warn("one of them", UserWarning, stacklevel=1)
            warnings.warn("another", UserWarning, stacklevel=1)
            warnings.warn("one", RuntimeWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert list(warnings.filters) == before
        with ignored_warnings():
            warnings.warn("any", RuntimeWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["another", "one"]


def test_threads_leave_the_filters_as_they_were() -> None:
    """The second comes while the first is at it, and would end last."""
    inside, release, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with ignored_warnings():
            inside.set()
            release.wait(timeout=60)

    def second() -> None:
        with ignored_warnings():
            pass
        ended.set()

    before = list(warnings.filters)
    threads = [threading.Thread(target=run) for run in (first, second)]
    threads[0].start()
    assert inside.wait(timeout=60)
    threads[1].start()
    assert not ended.wait(timeout=0.2)  # it waits
    release.set()
    for thread in threads:
        thread.join()
    assert ended.is_set() and list(warnings.filters) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_other_threads() -> None:
    """Their filters would be the child's for good."""
    code = """
import os, threading, time, warnings
from rmdp_bench.warning_filters import ignored_warnings
before, inside = list(warnings.filters), threading.Event()
def run():
    with ignored_warnings():
        inside.set()
        time.sleep(0.2)
thread = threading.Thread(target=run)
thread.start()
inside.wait()
child = os.fork()
with ignored_warnings():
    pass
if not child:
    os._exit(list(warnings.filters) != before)
thread.join()
assert os.waitpid(child, 0)[1] == 0 and list(warnings.filters) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_error_leaves_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="x"), ignored_warnings():
        raise ValueError("x")
    assert list(warnings.filters) == before


def test_nothing_else_changes_filters() -> None:
    """Two locks would be none."""
    changes = re.compile(r"catch_warnings|warnings\.(simplefilter|filterwarnings|resetwarnings)")
    paths = [path for part in ("rmdp_bench", "baselines") for path in (ROOT / part).rglob("*.py")]
    found = [path.name for path in paths if changes.search(path.read_text(encoding="utf-8"))]
    assert found == ["warning_filters.py"]
