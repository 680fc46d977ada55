"""Run command lines in the terminal that this process has, many in one process.

On stdin's place stands the terminal, so the command lines come as one JSON argument: a list of
{"width", "variables", "arguments"}. What each prints is between two records of JSON in RECORD
characters, the second with its exit code.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from types import ModuleType
from typing import Any

from rmdp_bench import leaderboard, runs
from rmdp_bench.cli import listing, main
from rmdp_bench.runs import summary
from rmdp_bench.submission.sandbox import checker, confinement
from scripts.in_terminal import set_width

RECORD = "\x1e"
SLOW: list[tuple[ModuleType, str]] = [
    *((listing, "_rendering_check"), (leaderboard, "build_tables"), (runs, "find_results")),
    *((summary, "summarise"), (checker, "check_in_sandbox"), (confinement, "describe_layers")),
]
"""What does not depend on the terminal: found out once, as long as the command stays the same."""


class Remembered:
    """The n-th call within a command gives what the n-th within the same one before it gave."""

    def __init__(self) -> None:
        self._command: list[str] | None = None
        self._results: dict[str, list[Any]] = {}
        self._n_calls: dict[str, int] = {}
        for module, name in SLOW:
            function = getattr(module, name)
            setattr(module, name, functools.partial(self._call, name, function))

    def begin(self, command: list[str]) -> None:
        if command != self._command:
            self._command = command
            self._results = {name: [] for _, name in SLOW}
        self._n_calls = dict.fromkeys(self._results, 0)

    def _call(self, name: str, function: Any, *arguments: Any, **keywords: Any) -> Any:
        results, place = self._results[name], self._n_calls[name]
        self._n_calls[name] += 1
        if place == len(results):
            results.append(function(*arguments, **keywords))
        return results[place]


def note(**record: object) -> None:
    sys.stderr.flush()
    print(f"{RECORD}{json.dumps(record)}{RECORD}", end="", flush=True)


if __name__ == "__main__":
    remembered = Remembered()
    for job in json.loads(sys.argv[1]):
        set_width(sys.stdout.fileno(), job["width"])
        for name in ("NO_COLOR", "TERM"):
            os.environ.pop(name, None)
        os.environ.update(job["variables"])
        remembered.begin(job["arguments"])
        note(**job)
        note(code=main(job["arguments"]))
