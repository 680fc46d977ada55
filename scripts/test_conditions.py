"""The test suite as it would run elsewhere: on other processors, on one core, on a busy machine.

    python -m scripts.test_conditions [CONDITION ...] [--out FOLDER] [-- PYTEST ARGUMENTS]

Each condition is the whole suite once (without `-- ...`), one after the other. A line of each is
printed. With --out, test_conditions.md there is written anew after each, from test_conditions.json
beside it: a row of the same condition, arguments and Python is replaced, the others stay; what the
tests print is beside them. Exit code 1 if one fails.

A release is tested as its users have it from an unpacked source distribution, with the Python in
whose environment its wheel is: `-- --import-mode append` tests what is installed.

Nothing is run where a package is missing without which tests are skipped or fail: `pip install -e
'.[dev]'`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from rmdp_bench.cores import usable_cores
from rmdp_bench.files import write_json, write_text
from rmdp_bench.system import cpu_model, git_revision

ROOT = Path(__file__).resolve().parent.parent
PYTEST = ("-P", "-m", "pytest")
"""Without the current folder: pytest puts it where --import-mode says."""
N_BUSY, N_CROWDED = 4, 12
NEEDED = ("build", "twine")
"""Packages that tests need and that nothing else does."""
PAGE, ROWS = "test_conditions.md", "test_conditions.json"
HEADER = """The tests as they would run elsewhere. `python -m scripts.test_conditions` wrote this.

| condition | tests | result | minutes | load average | revision | machine | Python |
|---|---|---|---:|---:|---|---|---|
"""
NOTE = """
Load average: processes that ran or waited to, in the last minute of the tests, those of the
condition and those that somebody else had started.
"""


@dataclass(frozen=True)
class Condition:
    """How the tests are run.

    Attributes:
        variables: set in the environment.
        n_busy: processes that only count, beside the tests.
        one_core: whether the tests share one core.
    """

    variables: dict[str, str] = field(default_factory=dict)
    n_busy: int = 0
    one_core: bool = False


CONDITIONS = {
    "as it is": Condition(),
    "torch without vector instructions": Condition({"ATEN_CPU_CAPABILITY": "default"}),
    "torch with AVX2": Condition({"ATEN_CPU_CAPABILITY": "avx2"}),
    "OpenBLAS for Haswell": Condition({"OPENBLAS_CORETYPE": "Haswell"}),
    "numba for any processor": Condition({"NUMBA_CPU_NAME": "generic"}),
    "one core": Condition(one_core=True),
    f"beside {N_BUSY} busy loops": Condition(n_busy=N_BUSY),
    f"beside {N_CROWDED} busy loops": Condition(n_busy=N_CROWDED),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests under the conditions asked for."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, for_pytest = _split(given)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("conditions", nargs="*", metavar="CONDITION", help=", ".join(CONDITIONS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(own)
    unknown = [name for name in options.conditions if name not in CONDITIONS]
    if unknown:
        parser.error(f"unknown condition {unknown[0]!r}; known are {', '.join(CONDITIONS)}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"tests need {', '.join(missing)}: pip install -e '.[dev]'")
    failed, revision = False, git_revision()
    for name in options.conditions or CONDITIONS:
        with tempfile.TemporaryDirectory() as folder:
            log = (options.out or Path(folder)) / f"{name.replace(' ', '-')}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            code = run_tests(CONDITIONS[name], for_pytest, log)
            minutes = (time.monotonic() - start) / 60
            last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        failed |= code != 0
        row = {
            "condition": name,
            "tests": " ".join(for_pytest) or "all",
            "result": last.strip("= ") or f"exit code {code}",
            "minutes": f"{minutes:.1f}",
            "load average": f"{os.getloadavg()[0]:.1f}",
            "revision": revision[:12] if revision else f"version {version('rmdp_bench')}",
            "machine": f"{cpu_model()}, {usable_cores()} cores",
            "Python": platform.python_version(),
        }
        print(format_row(row), flush=True)
        if options.out:
            write_page(options.out, row)
    return int(failed)


def format_row(row: Mapping[str, str]) -> str:
    """A line of the table."""
    return f"| {' | '.join(text.replace('|', '/') for text in row.values())} |"


def write_page(folder: Path, row: Mapping[str, str]) -> None:
    """Put a row in its place among those of earlier conditions, and write the page of all."""
    rows: list[Mapping[str, str]] = []
    if (folder / ROWS).exists():
        rows = json.loads((folder / ROWS).read_text(encoding="utf-8"))
    keys = "condition", "tests", "Python"
    rows = [old for old in rows if any(old[key] != row[key] for key in keys)] + [row]
    order = [*CONDITIONS]
    rows.sort(key=lambda one: order.index(one["condition"]) if one["condition"] in order else -1)
    write_json(folder / ROWS, rows)
    lines = "".join(f"{format_row(one)}\n" for one in rows)
    write_text(folder / PAGE, f"{HEADER}{lines}{NOTE}")


def run_tests(condition: Condition, arguments: Sequence[str], log: Path) -> int:
    """Exit code of pytest under a condition; what it prints goes to a file."""
    workers = "1" if condition.one_core else "auto"
    command = [sys.executable, *PYTEST, "-q", "--numprocesses", workers]
    limit: Callable[[], None] | None = _keep_to_one_core if condition.one_core else None
    with ExitStack() as stack, log.open("w") as file:
        for _ in range(condition.n_busy):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        return subprocess.run(
            [*command, "--dist", "worksteal", *arguments],
            cwd=ROOT,
            env=os.environ | condition.variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
            check=False,
        ).returncode


def _keep_to_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    """Words before and after the first `--`."""
    if "--" not in given:
        return given, []
    at = given.index("--")
    return given[:at], given[at + 1 :]


if __name__ == "__main__":
    raise SystemExit(main())
