"""Speed of training, with collection, update and evaluation apart, beside the simulator's floor.

    compiled   EM as it is run: acting and updates in compiled loops, on all cores
    plain      the same in torch (`--set compiled=false`), as on a GPU: the named alternative,
               measured with the first of the numbers of seeds
    floor      the simulator alone, on the same states and actions: `mujoco.batch.Batch` without
               anything around it; for Resource Gathering, which has no other, its vector form

Every repetition collects one batch, makes one update (E-step included), and replays the batch's
actions in the bare simulator, so that these share what else the machine does. Numbers are medians
over repetitions, in transitions per second of all seeds together; evaluation is one point of the
learning curve, of which a run has about 20, and is not part of the speed (as in `train_seconds`).
Every row runs in a process of its own, one after the other, whose peak memory is shown; "of plain"
compares two of them.

    python -m benchmarks.training [--quick] [--tasks NAME ...] [--seeds 1 10] [--out DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.online.em import EMRule, config_for
from baselines.online.ppo.collection import Batch
from baselines.online.ppo.learner import Learner
from benchmarks.common import make_bare_loop, make_parser, positive, report
from rmdp_bench.evaluation import evaluate_all
from rmdp_bench.runs.curve import CURVE_EPISODES, CURVE_SEED
from rmdp_bench.system import peak_memory_mib
from rmdp_bench.tasks import get_online_task

TASKS = ("HalfCheetahVel-n100-k5-v0", "HalfCheetahVel-n1000-k50-v0", "ResourceGathering-n25-k5-v0")
PHASES = ("collection", "update", "floor")
HEADER = (
    *("task", "seeds", "path", "collection s", "update s", "evaluation s", "transitions/s"),
    *("floor", "of the floor", "of plain", "memory GiB"),
)


def make_floor(learner: Learner) -> Callable[[dict[str, Any], Batch], float]:
    """A function that steps the bare simulator as a batch was, and says how long it took."""
    envs = learner.collector.envs
    kind, n_rows = learner.collector.actions, envs.num_envs
    run: Callable[[NDArray[Any]], None]
    restore: Callable[[dict[str, Any]], None]
    if learner.task.env_id.startswith("rmdp/ResourceGathering"):
        bare: Any = gym.make_vec(
            learner.task.env_id, num_envs=n_rows, autoreset_mode="SameStep", agent_rewards=False
        )
        bare.reset(seed=0)

        def run(actions: NDArray[Any]) -> None:
            for action in actions:
                bare.step(action)

        restore = bare.set_state
    else:
        simulations, run = make_bare_loop(gym.spec(learner.task.env_id).kwargs["robot"], n_rows)

        def restore(state: dict[str, Any]) -> None:
            simulations.state[:] = state["physics"]

    def measure(state: dict[str, Any], batch: Batch) -> float:
        by_step = batch.actions.transpose(0, 1).cpu().numpy()  # (T, R k, E, a)
        actions = np.stack([kind.for_envs(step) for step in by_step])
        restore(state)
        start = time.perf_counter()
        run(actions)
        return time.perf_counter() - start

    return measure


def measure(
    task_id: str, n_seeds: int, path: str, repetitions: int, least_seconds: float
) -> dict[str, Any]:
    """Seconds of every phase, a list of one number for each repetition, and what follows.

    Repetitions go on until there are enough of them and they took `least_seconds` together.
    """
    task, seeds = get_online_task(task_id), range(n_seeds)
    config = dataclasses.replace(config_for(task), compiled=path == "compiled")
    learner = Learner(task, config, seeds, "cpu")
    rule = EMRule(task, config, seeds, "cpu")
    floor = make_floor(learner)
    seconds: dict[str, list[float]] = {name: [] for name in PHASES}
    warm = False
    while len(seconds["floor"]) < repetitions or sum(map(sum, seconds.values())) < least_seconds:
        state = learner.collector.envs.get_state()
        times = [time.perf_counter()]
        batch = learner.collect()
        times.append(time.perf_counter())
        rule.after_collection(learner.collector.average_returns)
        learner.update(batch, rule)
        times.append(time.perf_counter())
        row = (*np.diff(times), floor(state, batch))
        if warm:
            for name, value in zip(PHASES, row, strict=True):
                seconds[name].append(float(value))
        warm = True
    start = time.perf_counter()
    evaluate_all(task, learner.solutions(rule.served), n_episodes=CURVE_EPISODES, seed=CURVE_SEED)
    evaluation = time.perf_counter() - start
    learner.close()
    return {
        "task": task_id,
        "seeds": n_seeds,
        "path": path,
        "transitions": learner.n_policies * config.batch_size,
        "seconds": seconds,
        "evaluation_seconds": evaluation,
        "peak_memory_mib": peak_memory_mib(),
    }


def summarize(result: dict[str, Any]) -> dict[str, float]:
    """Medians over repetitions: seconds of each phase, speeds, and their ratio."""
    seconds = {name: np.array(row) for name, row in result["seconds"].items()}
    total = seconds["collection"] + seconds["update"]
    return {name: float(np.median(row)) for name, row in seconds.items()} | {
        "speed": float(np.median(result["transitions"] / total)),
        "floor_speed": float(np.median(result["transitions"] / seconds["floor"])),
        "of_floor": float(np.median(seconds["floor"] / total)),
    }


def format_row(result: dict[str, Any], plain_speed: float) -> list[str]:
    """One line of the table."""
    row = summarize(result)
    return [
        *(result["task"], str(result["seeds"]), result["path"]),
        *(f"{row[name]:.3f}" for name in ("collection", "update")),
        f"{result['evaluation_seconds']:.1f}",
        f"{row['speed']:,.0f}",
        f"{row['floor_speed']:,.0f}",
        f"{row['of_floor']:.2f}",
        f"{row['speed'] / plain_speed:.1f} x",
        f"{result['peak_memory_mib'] / 1024:.2f}",
    ]


def measure_all(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each result and its row; every one is measured in a process of its own."""
    for task in arguments.tasks:
        plain_speed = None
        for n_seeds in arguments.seeds:
            for path in ("plain", "compiled") if plain_speed is None else ("compiled",):
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    how = (arguments.repetitions, arguments.least_seconds)
                    result = pool.submit(measure, task, n_seeds, path, *how).result()
                plain_speed = plain_speed or summarize(result)["speed"]
                yield result, format_row(result, plain_speed)


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed of training.", "one repetition, without n = 1000")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=positive, default=[1, 10], help="in a batch")
    parser.add_argument("--repetitions", type=positive, default=3, help="at least so many")
    parser.add_argument("--least-seconds", type=float, default=10.0, help="of each row")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.least_seconds = 1, 0.0
        arguments.tasks = [task for task in arguments.tasks if "n1000" not in task]
    report("training", arguments.out, HEADER, measure_all(arguments))


if __name__ == "__main__":
    main()
