"""The test suite as it would run elsewhere: on other processors, on one core, on a busy machine.

    python -m scripts.test_conditions [CONDITION ...] [--out FOLDER] [-- PYTEST ARGUMENTS]

Each condition is the whole suite once (without `-- ...`), one after the other. A line of each is
printed. With --out, a record of each is appended to test_conditions.jsonl there when it ends, one
line of JSON; what the tests print is beside it. Exit code 1 if one fails.

The records of benchmarks/results make the page there, by `python -m scripts.generate_documents`. Of
those of the same condition, arguments and Python the last counts, so that those of another folder
are put there by `cat FOLDER/test_conditions.jsonl >> benchmarks/results/test_conditions.jsonl`.

A release is tested as its users have it from an unpacked source distribution, with the Python in
whose environment its wheel is: `--revision COMMIT -- --import-mode append` tests what is installed,
and records the commit that it was built from, which git does not know there.

Nothing is run where a package is missing without which tests are skipped or fail: `pip install -e
'.[dev]'`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rmdp_bench.cores import usable_cores
from rmdp_bench.system import cpu_model, git_revision
from scripts.document_blocks import generated, table

ROOT = Path(__file__).resolve().parent.parent
PYTEST = ("-P", "-m", "pytest")
"""Without the current folder: pytest puts it where --import-mode says."""
N_BUSY, N_CROWDED = 4, 12
NEEDED = ("build", "twine")
"""Packages that tests need and that nothing else does."""
RECORDS = "test_conditions.jsonl"
RESULTS = ROOT / "benchmarks" / "results"
HEADER = [
    *("condition", "arguments of pytest", "result", "minutes", "load average", "Python"),
    *("revision", "machine", "note"),
]
_COMMIT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28}\b")
_IN_SECONDS = re.compile(r" in \d+\.\d+s\b")
_COUNT = re.compile(r"(\d+) ([a-z]+)")


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
    parser.add_argument("--revision", help="of the commit, where git does not know it")
    options = parser.parse_args(own)
    unknown = [name for name in options.conditions if name not in CONDITIONS]
    if unknown:
        parser.error(f"unknown condition {unknown[0]!r}; known are {', '.join(CONDITIONS)}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"tests need {', '.join(missing)}: pip install -e '.[dev]'")
    revision = git_revision()
    if revision and options.revision:
        parser.error(f"--revision is given, but this is a checkout of {revision}: leave it out")
    revision = revision or options.revision or f"version {version('rmdp_bench')}"
    failed = False
    for name in options.conditions or CONDITIONS:
        with tempfile.TemporaryDirectory() as folder:
            log_name = f"{name.replace(' ', '-')}-{platform.python_version()}.log"
            log = (options.out or Path(folder)) / log_name
            log.parent.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            code = run_tests(CONDITIONS[name], for_pytest, log)
            minutes = (time.monotonic() - start) / 60
            last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        failed |= code != 0
        record = {
            "condition": name,
            "arguments": for_pytest,
            "exit_code": code,
            "counts": counts_of(last),
            "minutes": round(minutes, 1),
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "revision": revision,
            "machine": f"{cpu_model()}, {usable_cores()} cores",
        }
        if options.out:
            append_record(options.out / RECORDS, record)
        print(f"| {' | '.join(cells_of(record))} |", flush=True)
    return int(failed)


def counts_of(line: str) -> dict[str, int]:
    """What pytest's last line counts: tests by outcome, and warnings; empty for another line."""
    counts, in_time, _ = _IN_SECONDS.sub("\n", line, count=1).partition("\n")
    return {what: int(n) for n, what in _COUNT.findall(counts)} if in_time else {}


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append a line to a file of records, in one piece: others may append to it as well."""
    line = json.dumps(record, allow_nan=False) + "\n"
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read records, in the order of the conditions, then of Python's version.

    Of the same condition, arguments and Python there is only the last.

    Raises:
        ValueError: a line is not a record.
    """
    latest: dict[tuple[str, tuple[str, ...], tuple[int, ...]], dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            python = tuple(int(part) for part in re.findall(r"\d+", record["python"]))
            key = record["condition"], tuple(record["arguments"]), python
            cells_of(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number} is not a record ({error!r}): mend or delete it"
            ) from error
        latest[key] = record
    order = [*CONDITIONS]
    places = {key: order.index(key[0]) if key[0] in order else len(order) for key in latest}
    return [latest[key] for key in sorted(latest, key=lambda key: (places[key], *key))]


def cells_of(record: dict[str, Any]) -> list[str]:
    """A row of the table."""
    counts = ", ".join(f"{n} {what}" for what, n in record["counts"].items())
    arguments = shlex.join(record["arguments"])
    cells = [
        record["condition"],
        f"`{arguments}`" if arguments else "",
        counts or f"exit code {record['exit_code']}",
        _shown(record["minutes"]),
        _shown(record["load_average"]),
        record["python"],
        _COMMIT.sub(r"\1", record["revision"]),
        record["machine"],
        record.get("note", ""),
    ]
    return [cell.replace("|", "/") for cell in cells]


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.1f}"


@generated
def tests_elsewhere() -> str:
    """The runs of the tests that `benchmarks/results` has records of."""
    return table(HEADER, [cells_of(record) for record in read_records(RESULTS / RECORDS)])


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
