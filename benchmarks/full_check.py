"""How long the full check of a row takes: `rmdp-bench verify --full` of ten seeds.

em is trained for a moment, packed, and checked as anybody's submission is, each seed in a process
of its own: the quick check, the comparison of what policies do, known and held-out episodes.

    python -m benchmarks.full_check [--quick] [--task ID] [--seeds 10] [--out DIR]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import make_parser, positive, report
from rmdp_bench.runs import make_request, run
from rmdp_bench.submission.packing import pack

TASK, QUICK_TASK = "HalfCheetahVel-n100-k5-v0", "ResourceGathering-n25-k1-v0"
TRANSITIONS = 20_000
"""Of each policy: the check takes as long whatever the policies have learned."""
HEADER = ("task", "seeds", "held-out episodes", "minutes", "minutes of processor time")


def measure(task: str, n_seeds: int) -> dict[str, Any]:
    """Seconds of the check of one row, its processes' processor seconds among them."""
    with tempfile.TemporaryDirectory() as folder:
        runs, code = Path(folder) / "runs", "import sys; from rmdp_bench.cli import main; "
        run(make_request("em", task, seeds=range(n_seeds), out=runs, transitions=TRANSITIONS))
        about = {
            "authors": ["nobody"],
            "method": "em",
            "differences": [f"{TRANSITIONS} transitions"],
            "licence": "MIT",
            "n_online_evaluations": 0,
        }
        submission = pack([runs], "timed", Path(folder) / "submissions", about)
        command = [sys.executable, "-c", f"{code}sys.exit(main())", "verify", str(submission)]
        before, start = _processor_seconds(), time.perf_counter()
        done = subprocess.run(
            [*command, "--full", "--json"], stdout=subprocess.PIPE, check=True, cwd=folder
        )
        seconds, processor_seconds = time.perf_counter() - start, _processor_seconds() - before
    (row,) = json.loads(done.stdout)["rows"]
    return {
        "task": task,
        "seeds": n_seeds,
        "episodes": row["mark"]["n_episodes"],
        "seconds": seconds,
        "processor_seconds": processor_seconds,
    }


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, print, and write the files."""
    parser = make_parser("Time of a full check.", f"two seeds of {QUICK_TASK}")
    parser.add_argument("--task", default=TASK)
    parser.add_argument("--seeds", type=positive, default=10)
    arguments = parser.parse_args()
    row = (QUICK_TASK, 2) if arguments.quick else (arguments.task, arguments.seeds)
    report("full_check", arguments.out, HEADER, measure_all(*row))


def measure_all(task_id: str, n_seeds: int) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The result and its row."""
    result = measure(task_id, n_seeds)
    minutes = [f"{result[name] / 60:.2f}" for name in ("seconds", "processor_seconds")]
    yield result, [result["task"], str(result["seeds"]), str(result["episodes"]), *minutes]


if __name__ == "__main__":
    main()
