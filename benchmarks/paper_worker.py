"""Make iterations of the paper's code when asked to; `benchmarks.peers` talks to it.

    python benchmarks/paper_worker.py FOLDER_OF_THE_CODE ENV_ID

Runs in an environment with what that code needs, and changes nothing of it but what `train` does:
for each line on the standard input, a number, so many iterations of EM, after which it prints the
seconds that they took.  Its log goes to a folder that is removed at the end.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ANSWERS = sys.stdout


def train(solver: Any) -> None:
    """Take the place of the solver's own training: start as it does, then answer each line."""
    solver.M_step()
    print("ready", file=ANSWERS, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            solver.M_step()
            solver.E_step()
            solver.iteration += 1
        print(time.perf_counter() - start, file=ANSWERS, flush=True)


def main(folder: str, env_id: str) -> None:
    """Build 100 agents and 5 policies as the code does, and hand them to `train`."""
    sys.path.insert(0, str(Path(folder).resolve()))
    front: Any = importlib.import_module("core.main")
    front.PolicyEMRL.train = train
    with tempfile.TemporaryDirectory() as logs, redirect_stdout(sys.stderr):
        os.chdir(logs)
        front.run_gym(env_id, "em", front.Config(), seed=0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
