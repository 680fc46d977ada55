"""What the benchmarks share: the machine and what it can do, and how results are written."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mujoco.batch import Batch
from numpy.typing import NDArray

from rmdp_bench.cores import usable_cores
from rmdp_bench.envs.robots import get_robot, load_model
from rmdp_bench.files import write_json, write_text
from rmdp_bench.system import cpu_model

PACKAGES = ("mujoco", "gymnasium", "numpy", "numba", "torch")


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, load, and versions."""
    return {
        "processor": cpu_model(),
        "cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def measure_arithmetic(repetitions: int, n_threads: int | None = None) -> float:
    """Operations per second of float32 matrix products, on all cores or fewer: the best of some.

    On one thread seconds are of the processor, which no other process makes longer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or usable_cores())
    clock = time.process_time if n_threads == 1 else time.perf_counter
    matrix = torch.ones(1024, 1024)
    best = 0.0
    for _ in range(repetitions):
        start = clock()
        for _ in range(4):
            torch.mm(matrix, matrix)
        best = max(best, 4 * 2 * 1024**3 / (clock() - start))
    torch.set_num_threads(before)
    return best


def make_bare_loop(robot: str, n_envs: int) -> tuple[Batch, Callable[[NDArray[Any]], None]]:
    """A bare batch of simulations on all cores, and what steps it through actions (T, E, ...)."""
    batch = Batch(load_model(get_robot(robot)), n_envs, min(usable_cores(), n_envs))
    frame_skip, controls = get_robot(robot).frame_skip, batch.bind("ctrl")

    def run(actions: NDArray[Any]) -> None:
        for action in actions:
            controls[:] = action
            batch.step(nstep=frame_skip)

    return batch, run


def positive(text: str) -> int:
    """An integer from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer >= 1")
    return int(text)


def make_parser(about: str, quick: str) -> argparse.ArgumentParser:
    """A command line with the options that every benchmark has; `quick` says what that does."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, help="folder for the table and all that was measured")
    return parser


def _without_paths(words: Sequence[str]) -> list[str]:
    """Words of a command line; where a path of this machine stood, the name of its option."""
    before = ["", *words]
    return [
        option.lstrip("-").replace("-", "_").upper() if Path(word).is_absolute() else word
        for option, word in zip(before, words, strict=False)
    ]


def report(
    name: str,
    out: Path | None,
    header: Sequence[str],
    measured: Iterable[tuple[dict[str, Any], Sequence[str]]],
) -> None:
    """Print each row as soon as it is measured; into a folder, write all to NAME.json and NAME.md.

    Args:
        name: of the benchmark's module.
        out: the folder.
        header: of the table.
        measured: what was measured and its row in the table, one after the other.
    """
    machine = describe_machine()
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    print(about)
    print(" | ".join(header))
    results, rows = [], []
    for result, row in measured:
        results.append(result)
        rows.append(row)
        print(" | ".join(row), flush=True)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    given = [word for word in sys.argv[1:] if word not in ("--out", str(out))]
    command = " ".join([f"python -m benchmarks.{name}", *_without_paths(given)])
    record = {"command": command, "machine": machine, "results": results}
    write_json(out / f"{name}.json", json.loads(json.dumps(record)))
    lines = [" | ".join(row) for row in (header, ["---"] * len(header), *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    write_text(out / f"{name}.md", f"`{command}` on: {about}\n\n{table}\n")
