"""Speed of training, with collection, update and evaluation apart, beside the simulator's floor.

    compiled   EM as it is run: acting and updates in compiled loops, on all cores
    plain      the same in torch (`--set compiled=false`), as on a GPU: the named alternative,
               measured with the first of the numbers of seeds
    outcome    compiled, with the critic of about 100 nodes (`--set critic=outcome`)
    alone      compiled, with one thread for a seed's critics as before their heads were shared out:
               every compiled repetition is followed by one of these, in the same process
    floor      the simulator alone, on the same states and actions: `mujoco.batch.Batch` without
               anything around it; for Resource Gathering, which has no other, its vector form
    products   the update's matrix products alone, in their sizes and numbers, by the same BLAS in
               as many threads: what no update can do without, whatever stands between them

Every repetition collects one batch, makes one update (E-step included), replays the batch's actions
in the bare simulator and makes the products, so that these share what else the machine does; "of
both" is the share of floor and products in an iteration. Numbers are medians
over repetitions, in transitions per second of all seeds together; "of alone" is the median of the
ratios of whole iterations, pair by pair. Evaluation is one point of the learning curve, and is not
part of the speed (as in `train_seconds`). "cores busy" is the processor time of collection and of
update by their seconds: what is missing to the number of cores is all that could be gained by doing
more at the same time, such as one iteration's critic beside the next collection. "curve" is the
share of the curve's points in the time of training, curve and final scoring of a short run, 60,000
transitions per policy: with the points that `count_points` gives it, and with the 20 of a long one.
Every row runs in a process of its own, one after the other, whose peak memory is shown; "of plain"
compares two of them.

    python -m benchmarks.training [--quick] [--tasks NAME ...] [--seeds 1 10] [--out DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any, Literal
from unittest import mock

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.online.em import EMRule, config_for
from baselines.online.ppo import updates_numba
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.updates_numba import run_in_threads
from benchmarks.common import make_bare_loop, make_parser, positive, report
from rmdp_bench.envs.core.compiling import compile_loop
from rmdp_bench.evaluation import evaluate_all
from rmdp_bench.runs.curve import CURVE_EPISODES, CURVE_POINTS, CURVE_SEED, count_points
from rmdp_bench.system import peak_memory_mib
from rmdp_bench.tasks import OnlineTask, get_online_task, get_task

TASKS = (
    "HalfCheetahVel-n100-k5-v0",
    "HalfCheetahVel-n1000-k5",
    "HalfCheetahVel-n1000-k50-v0",
    "ResourceGathering-n25-k5-v0",
)
PHASES = ("collection", "update", "floor", "products")
SHORT_RUN = 60_000
HEADER = (
    *("task", "seeds", "path", "collection s", "update s", "evaluation s", "transitions/s"),
    *("floor", "of the floor", "products s", "of both", "cores busy", "of plain", "of alone"),
    *("curve", "curve of 20", "memory GiB"),
)


def find_task(name: str) -> OnlineTask:
    """One of TASKS: a listed one, or a thousand agents with five policies."""
    if name == "HalfCheetahVel-n1000-k5":
        task = get_task("HalfCheetahVel-n1000-v0", n_representatives=5)
        assert isinstance(task, OnlineTask)
        return task
    return get_online_task(name)


def helping(is_alone: bool) -> AbstractContextManager[Any]:
    """Give a context in which no thread helps with a seed's critics, if `is_alone`."""
    if not is_alone:
        return nullcontext()
    return mock.patch.object(updates_numba, "count_helpers", lambda *sizes: 0)


@contextmanager
def open_floor(learner: PPOLearner) -> Iterator[Callable[[dict[str, Any], CollectedBatch], float]]:
    """A function that steps the bare simulator as a batch was, and says how long it took.

    What it steps is closed after the block.
    """
    envs = learner.collector.envs
    kind, n_rows = learner.collector.actions, envs.num_envs
    run: Callable[[NDArray[Any]], None]
    restore: Callable[[dict[str, Any]], None]
    bare: Any = None
    if learner.task.env_id.startswith("rmdp/ResourceGathering"):
        bare = gym.make_vec(
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

    def measure(state: dict[str, Any], batch: CollectedBatch) -> float:
        by_step = batch.actions.transpose(0, 1).cpu().numpy()  # (T, R k, E, a)
        actions = np.stack([kind.for_envs(step) for step in by_step])
        restore(state)
        start = time.perf_counter()
        run(actions)
        return time.perf_counter() - start

    try:
        yield measure
    finally:
        if bare is not None:
            bare.close()


@functools.partial(compile_loop, nogil=True)
def multiply(n_inputs: int, hidden_size: int, n_outputs: int, n_rows: int, n_steps: int) -> None:
    """Make the products of one representative's network, forward and backward, so many times."""
    inputs = np.ones((n_rows, n_inputs), np.float32)
    weight = np.ones((n_inputs, hidden_size), np.float32)
    head = np.ones((hidden_size, n_outputs), np.float32)
    hidden = np.empty((n_rows, hidden_size), np.float32)
    outputs = np.empty((n_rows, n_outputs), np.float32)
    head_gradient, weight_gradient = np.empty_like(head), np.empty_like(weight)
    slope = np.empty_like(hidden)
    for _ in range(n_steps):
        np.dot(inputs, weight, hidden)
        np.dot(hidden, head, outputs)
        np.dot(hidden.T, outputs, head_gradient)
        np.dot(outputs, head.T, slope)
        np.dot(inputs.T, slope, weight_gradient)


def time_products(learner: PPOLearner) -> float:
    """Make the products of an update, and give the seconds that it took."""
    config = learner.config
    n_inputs = learner.observation_size
    n_outputs = [own.parameters["head_bias"].shape[-1] for own in (learner.critic, learner.actor)]

    def job(size: int) -> None:
        multiply(n_inputs, config.hidden_size, size, config.minibatch_size, config.gradient_steps)

    start = time.perf_counter()
    run_in_threads([(job, size) for size in n_outputs for _ in range(learner.n_policies)])
    return time.perf_counter() - start


def measure(
    task_id: str, n_seeds: int, path: str, repetitions: int, least_seconds: float
) -> dict[str, Any]:
    """Seconds of every phase, a list of one number for each repetition, and what follows.

    Repetitions go on until there are enough of them and they took `least_seconds` together; those
    of a compiled path take turns with those of "alone", whose seconds are of a whole iteration.
    """
    task, seeds = find_task(task_id), range(n_seeds)
    critic: Literal["agents", "outcome"] = "outcome" if path == "outcome" else "agents"
    config = dataclasses.replace(config_for(task), compiled=path != "plain", critic=critic)
    learner = PPOLearner(task, config, seeds, "cpu")
    rule = EMRule(task, config, seeds, "cpu")
    seconds: dict[str, list[float]] = {name: [] for name in (*PHASES, "alone")}
    busy: dict[str, list[float]] = {name: [] for name in PHASES[:2]}

    def iterate(is_alone: bool) -> tuple[CollectedBatch, NDArray[np.float64]]:
        """Collect and update; seconds of both (2, 2), by the clock and of the processor."""
        times = [(time.perf_counter(), time.process_time())]
        batch = learner.collect()
        times.append((time.perf_counter(), time.process_time()))
        rule.after_collection(learner.collector.average_returns)
        with helping(is_alone):
            learner.update(batch, rule)
        times.append((time.perf_counter(), time.process_time()))
        return batch, np.diff(np.array(times), axis=0)

    with closing(learner), open_floor(learner) as floor:
        iterate(False)  # everything that happens once
        time_products(learner)
        while (
            len(seconds["floor"]) < repetitions or sum(map(sum, seconds.values())) < least_seconds
        ):
            state = learner.collector.envs.get_state()
            batch, spent = iterate(False)
            own = [*spent[:, 0].tolist(), floor(state, batch), time_products(learner)]
            for name, value in zip(PHASES, own, strict=True):
                seconds[name].append(value)
            for name, (by_clock, of_processor) in zip(busy, spent.tolist(), strict=True):
                busy[name].append(of_processor / by_clock)
            if path != "plain":
                seconds["alone"].append(float(iterate(True)[1][:, 0].sum()))
        start = time.perf_counter()
        evaluate_all(
            task, learner.solutions(rule.served), n_episodes=CURVE_EPISODES, seed=CURVE_SEED
        )
        evaluation = time.perf_counter() - start
    return {
        "task": task_id,
        "seeds": n_seeds,
        "path": path,
        "transitions": learner.n_policies * config.batch_size,
        "short_run": n_seeds * task.n_representatives * SHORT_RUN,
        "curve_points": count_points(task, SHORT_RUN),
        "scoring_points": task.n_eval_episodes / CURVE_EPISODES,
        "seconds": seconds,
        "cores_busy": busy,
        "evaluation_seconds": evaluation,
        "peak_memory_mib": peak_memory_mib(),
    }


def summarize(result: dict[str, Any]) -> dict[str, float]:
    """Medians over repetitions: seconds of each phase, speeds, ratios; shares of the curve."""
    seconds = {name: np.array(row) for name, row in result["seconds"].items() if row}
    total = seconds["collection"] + seconds["update"]
    speed = float(np.median(result["transitions"] / total))
    point = result["evaluation_seconds"]
    others = result["short_run"] / speed + result["scoring_points"] * point
    shares = {
        name: n_points * point / (n_points * point + others)
        for name, n_points in (("curve", result["curve_points"]), ("long_curve", CURVE_POINTS))
    }
    of_alone = (
        {"of_alone": float(np.median(seconds["alone"] / total))} if "alone" in seconds else {}
    )
    return {
        **{name: float(np.median(row)) for name, row in seconds.items()},
        "speed": speed,
        "floor_speed": float(np.median(result["transitions"] / seconds["floor"])),
        "of_floor": float(np.median(seconds["floor"] / total)),
        **{f"{name}_busy": float(np.median(row)) for name, row in result["cores_busy"].items()},
        "of_both": float(np.median((seconds["floor"] + seconds["products"]) / total)),
        **of_alone,
        **shares,
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
        f"{row['products']:.3f}",
        f"{row['of_both']:.2f}",
        f"{row['collection_busy']:.2f}, {row['update_busy']:.2f}",
        f"{row['speed'] / plain_speed:.1f} x",
        f"{row['of_alone']:.2f} x" if "of_alone" in row else "-",
        *(f"{100 * row[name]:.0f} %" for name in ("curve", "long_curve")),
        f"{result['peak_memory_mib'] / 1024:.2f}",
    ]


def measure_all(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each result and its row; every one is measured in a process of its own."""
    for task in arguments.tasks:
        plain_speed = None
        for n_seeds in arguments.seeds:
            paths = ["compiled"]
            if plain_speed is None:
                paths = ["plain", "compiled"]
                if find_task(task).n_agents >= 1000:
                    paths.append("outcome")
            for path in paths:
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
