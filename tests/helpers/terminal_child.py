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
from collections.abc import Callable, Sequence
from pathlib import Path

from rmdp_bench import leaderboard
from rmdp_bench.cli import listing, main
from scripts.in_terminal import set_width

RECORD = "\x1e"


def cache_slow_parts() -> None:
    """What does not depend on the terminal is found out once."""
    listing._rendering_check = functools.cache(listing._rendering_check)
    build = functools.cache(leaderboard.build_tables)

    def build_tables(
        root: Path | None,
        local: Sequence[Path] = (),
        task_id: str | None = None,
        skip: Callable[[str, str], None] | None = None,
    ) -> list[leaderboard.Table]:
        return build(root, tuple(local), task_id)

    leaderboard.build_tables = build_tables


def note(**record: object) -> None:
    sys.stderr.flush()
    print(f"{RECORD}{json.dumps(record)}{RECORD}", end="", flush=True)


if __name__ == "__main__":
    cache_slow_parts()
    for job in json.loads(sys.argv[1]):
        set_width(sys.stdout.fileno(), job["width"])
        for name in ("NO_COLOR", "TERM"):
            os.environ.pop(name, None)
        os.environ.update(job["variables"])
        note(**job)
        note(code=main(job["arguments"]))
