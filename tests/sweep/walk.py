"""A solver of sweeps' tests: a random walk with a checkpoint after each of its steps.

It stands still while there is a file `hold` where it runs, and notes its steps in a file `steps`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import Interrupted, RunLog, Solution, Task
from tests.helpers.toys import ScriptedPolicy, discrete_graph

STEPS = 6


@dataclass(frozen=True)
class Config:
    """Settings."""

    noise: float = 0.5
    """Width of the walk."""

    table: tuple[int, ...] = (1,)
    """Not used."""

    fail_beside: str = ""
    """Fail if there is a file with this name where it runs."""

    seconds: float = 0.0
    """That every step takes."""


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Where the walk ends decides the assignment and what the policies do."""
    if config.fail_beside and Path(config.fail_beside).exists():
        raise RuntimeError(f"there is a file {config.fail_beside}")
    k = task.n_representatives
    generators = [np.random.default_rng(seed) for seed in seeds]
    walk, step = np.zeros((len(seeds), task.n_agents, k)), 0
    resumed = log.load_checkpoint()
    if resumed is not None:
        walk, step = resumed[0]["walk"], resumed[1][0]["step"]
        for generator, state in zip(generators, resumed[1], strict=True):
            generator.bit_generator.state = state["generator"]

    def solution(part: NDArray[Any]) -> Solution:
        actions = [int(1000 * abs(total)) % 4 for total in part.sum(axis=0)]
        policies = [ScriptedPolicy([action]) for action in actions]
        return Solution(policies, np.eye(k)[part.argmax(axis=1)], lambda: discrete_graph(actions))

    while step < STEPS:
        while Path("hold").exists() and not log.stop_requested:
            time.sleep(0.01)
        if not log.stop_requested:
            time.sleep(config.seconds)
            step += 1
            for part, generator in zip(walk, generators, strict=True):
                part += config.noise * generator.normal(size=part.shape)
            note_step(f"{task.id} {config.noise} {list(seeds)} {step}\n")
            transitions = step * task.transitions // STEPS
            log.progress(transitions, {"train_social_welfare": [1.0 * step] * len(seeds)})
            if log.evaluation_due(transitions):
                log.evaluate(transitions, [solution(part) for part in walk])
        states = [{"step": step, "generator": g.bit_generator.state} for g in generators]
        log.save_checkpoint(step * task.transitions // STEPS, {"walk": walk}, states)
        if log.stop_requested:
            raise Interrupted
    return [solution(part) for part in walk]


def note_step(line: str) -> None:
    """Add a line to the file; lines of several processes do not mix."""
    descriptor = os.open("steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)
