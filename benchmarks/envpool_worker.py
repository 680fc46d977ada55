"""Step one of EnvPool's environments when asked to; `benchmarks.peers` talks to it.

    python benchmarks/envpool_worker.py TASK NUM_ENVS NUM_THREADS

Runs in an environment with EnvPool, which need not have anything else of this repository. For each
line on its standard input, a number of steps, it makes so many with random actions and prints the
seconds that they took.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

import numpy as np


def main(task: str, n_envs: int, n_threads: int) -> None:
    """Make the environments, and answer each line."""
    envpool: Any = importlib.import_module("envpool")
    envs = envpool.make(task, env_type="gymnasium", num_envs=n_envs, num_threads=n_threads, seed=0)
    envs.reset()
    rng = np.random.default_rng(0)
    print(envpool.__version__, flush=True)
    for line in sys.stdin:
        actions = draw_actions(envs.action_space, (int(line), n_envs), rng)
        start = time.perf_counter()
        for action in actions:
            envs.step(action)
        print(time.perf_counter() - start, flush=True)


def draw_actions(space: Any, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Random actions (T, E, ...) of a space of one environment."""
    if hasattr(space, "n"):
        return rng.integers(space.n, size=shape)
    return rng.uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
