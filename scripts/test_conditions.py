"""The test suite as it would run elsewhere: on other processors, on one core, on a busy machine.

    python -m scripts.test_conditions [CONDITION ...] [--out FOLDER] [-- PYTEST ARGUMENTS]

Each condition is the whole suite once (without `-- ...`), one after the other. A line of each is
printed and, with --out, added to test_conditions.md there; what the tests print is beside it. Exit
code 1 if one fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rmdp_bench.system import cpu_model, git_revision

ROOT = Path(__file__).resolve().parent.parent
N_BUSY = 4
HEADER = "| condition | result | minutes | revision | machine |\n|---|---|---:|---|---|\n"


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
    failed = False
    for name in options.conditions or CONDITIONS:
        with tempfile.TemporaryDirectory() as folder:
            log = (options.out or Path(folder)) / f"{name.replace(' ', '-')}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            code = run_tests(CONDITIONS[name], for_pytest, log)
            minutes = (time.monotonic() - start) / 60
            last = log.read_text(errors="replace").strip().splitlines()[-1]
        failed |= code != 0
        summary = last.strip("= ") or f"exit code {code}"
        cells = (name, summary, f"{minutes:.1f}", str(git_revision())[:12], cpu_model())
        line = f"| {' | '.join(cells)} |"
        print(line, flush=True)
        if options.out:
            table = options.out / "test_conditions.md"
            text = table.read_text() if table.exists() else HEADER
            table.write_text(f"{text}{line}\n")
    return int(failed)


def run_tests(condition: Condition, arguments: Sequence[str], log: Path) -> int:
    """Exit code of pytest under a condition; what it prints goes to a file."""
    workers = "1" if condition.one_core else "auto"
    command = [sys.executable, "-m", "pytest", "-q", "--numprocesses", workers]
    limit: Callable[[], None] | None = _keep_to_one_core if condition.one_core else None
    with ExitStack() as stack, log.open("w") as file:
        for _ in range(condition.n_busy):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        return subprocess.run(
            [*command, "--dist", "loadfile", *arguments],
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
