"""A solver for tests: learns nothing, but has arrays, a generator and checkpoints like a real one.

It runs as a file of its own, as anyone's solver would.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmdp_bench import RunLog, Solution, Task
from rmdp_bench.runs import Interrupted
from tests.helpers.toys import ScriptedPolicy, discrete_graph


@dataclass(frozen=True)
class Config:
    """Settings."""

    action: int = 1
    """What every policy does; 1 is home at once in Resource Gathering."""

    noise: float = 0.5
    """Width of the random walk."""

    sizes: tuple[int, ...] = (2, 3)
    """Of the arrays."""

    name: str = "toy"
    """Not used."""

    export: bool = True
    """Whether the solution can be saved."""

    kill_at: int = -1
    """Kill the process at this iteration if the file `armed` exists; not before a checkpoint."""

    interrupt_at: int = -1
    """Behave as if Ctrl-C had been pressed at this iteration, if the file `armed` exists."""

    fail: str = ""
    """Raise this message."""

    def __post_init__(self) -> None:
        """Check."""
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, expected 0 or more")


def config_for(task: Task) -> Config:
    """Other noise where gamma is 1."""
    return Config(noise=0.25) if task.gamma == 1.0 else Config()


def check(task: Task, config: Config) -> None:
    """Ten iterations need ten transitions."""
    if task.transitions < 10:
        raise ValueError(f"transitions is {task.transitions}, expected at least 10")


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """A random walk of ten iterations; its end decides the assignment."""
    if config.fail:
        raise RuntimeError(config.fail)
    k = task.n_representatives
    generators = [np.random.default_rng(seed) for seed in seeds]
    walk = np.zeros((len(seeds), *config.sizes, task.n_agents, k))
    iteration = 0
    resumed = log.load_checkpoint()
    if resumed is not None:
        arrays, states = resumed
        walk, iteration = arrays["walk"], states[0]["iteration"]
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state["generator"]

    def solutions() -> list[Solution]:
        assignments = [np.eye(k)[part.sum(axis=(0, 1)).argmax(axis=1)] for part in walk]
        export = (lambda: discrete_graph([config.action] * k)) if config.export else None
        policies = [ScriptedPolicy([config.action]) for _ in range(k)]
        return [Solution(policies, assignment, export) for assignment in assignments]

    while iteration < 10:
        iteration += 1
        for part, generator in zip(walk, generators, strict=True):
            part += config.noise * generator.normal(size=part.shape)
        transitions = iteration * task.transitions // 10
        means = [float(part.mean()) for part in walk]
        welfare = [abs(mean) for mean in means]  # percent of a perfect episode
        log.progress(transitions, {"train_social_welfare": welfare, "loss": means})
        if log.evaluation_due(transitions):
            log.evaluate(transitions, solutions())
        if iteration == config.kill_at and Path("armed").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if iteration == config.interrupt_at and Path("armed").exists():
            os.kill(os.getpid(), signal.SIGINT)
        if log.checkpoint_due() or iteration % 3 == 0:
            states = [
                {"iteration": iteration, "generator": generator.bit_generator.state}
                for generator in generators
            ]
            log.save_checkpoint(transitions, {"walk": walk}, states)
            if log.stop_requested:
                raise Interrupted
    return solutions()
