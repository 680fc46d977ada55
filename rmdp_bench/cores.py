"""How many threads and processes are worth starting.

It imports the standard library only: the command line runs this file before the libraries whose
threads it limits are loaded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "RMDP_BENCH_CORES"
"""Environment variable: the most cores to use. The option --cores sets it."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # torch, and all that uses OpenMP
    "OPENBLAS_NUM_THREADS",  # numpy, scipy
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What libraries read when they are loaded."""


def usable_cores() -> int:
    """Cores that this process may use, at least 1.

    The least of three: the cores that it may run on (affinity); the CPU quota of its control groups
    (version 1 or 2, those that it is nested in too), rounded up; and RMDP_BENCH_CORES.

    Python 3.13's `os.process_cpu_count` knows the first only, and joblib's `cpu_count` no nested
    groups, which batch systems use.

    Raises:
        ValueError: RMDP_BENCH_CORES is not an integer of at least 1.
    """
    given = os.environ.get(VARIABLE)
    cores = _available_cores()
    return cores if given is None else min(cores, _parse(given, VARIABLE))


@contextmanager
def limited_cores(cores: int | None) -> Iterator[None]:
    """Let this process, its children, and libraries that are not loaded yet use so many cores.

    The environment is as before at the end.

    Args:
        cores: None: as RMDP_BENCH_CORES says, if it is set.

    Raises:
        ValueError: `cores` is less than 1.
    """
    before = dict(os.environ)
    try:
        if cores is not None:
            os.environ[VARIABLE] = str(_parse(str(cores), "--cores"))
        _limit_libraries()
        yield
    finally:
        for name in (VARIABLE, *THREAD_VARIABLES):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def limit_command(arguments: Sequence[str], parse_count: Callable[[str], int]) -> None:
    """Do the same for the rest of this process, which runs a command with these arguments.

    A wrong number is left to the command to refuse.

    Args:
        arguments: of the command.
        parse_count: reads the number after --cores.
    """
    with suppress(Exception):  # of whatever kind the parser raises
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if argument == "--cores":
                os.environ[VARIABLE] = str(parse_count(following))
            elif argument.startswith("--cores="):
                os.environ[VARIABLE] = str(parse_count(argument.partition("=")[2]))
        _limit_libraries()


def _limit_libraries() -> None:
    """Tell libraries of fewer cores than they would find, unless the user has told them."""
    cores = usable_cores()
    if cores < _affinity():  # which they know themselves
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(cores))


def _parse(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise ValueError(f"{name} is {text!r}, expected an integer of at least 1")
    return int(text)


def _available_cores(root: Path = Path("/")) -> int:
    """Cores without RMDP_BENCH_CORES; the files of the control groups are below `root`."""
    return max(1, min([_affinity(), *map(math.ceil, _quotas(root))]))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in ("", "cpu", "cpu,cpuacct"):
            folder = root / "sys/fs/cgroup" / mount
            # A container may see its own group as the root, and its name as on the host.
            for part in ("", *Path(path).parts[1:]):
                folder /= part
                yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """The quota of one control group, if it has one."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / name).read_text() for name in names)
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError):  # no such files, or of another form
        return
