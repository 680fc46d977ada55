"""Speed of the offline learners' updates: beside their arithmetic, and what denormal numbers cost.

    kept       numbers below 1e-38 are computed with, as torch does by itself
    zeros      they are zeros, as `train` has it
    floor      multiplications and additions of the matrix products over what products of 1024 x
               1024 reach on a core

Two learners of the same seed train in turn on CartPole's pure data, one each way, for a run of so
many updates with the solver's own networks and mini-batches. Milliseconds are of the processor, of
an update of one seed on one thread, as they train; "late" is the last eighth of the run, since
denormal numbers come with time. MOReL's are updates of its models; its policy follows.

    python -m benchmarks.offline_learners [--quick] [--learners NAME ...] [--out DIR]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.common.threads import denormals_as_zeros, one_thread
from baselines.offline.cadm import cadm
from baselines.offline.cadm.solutions import make_learner as make_context_learner
from baselines.offline.common.policies import load_learner
from baselines.offline.common.training import MemberLearner
from baselines.offline.model_free import bcq, cql
from baselines.offline.morel import solver as morel
from benchmarks.common import make_parser, measure_arithmetic, positive, report
from rmdp_bench.tasks import get_offline_task

HEADER = (
    *("learner", "networks", "batch", "kept ms", "zeros ms", "kept / zeros"),
    *("late kept ms", "late zeros ms", "late kept / zeros", "floor ms", "of the floor"),
)
TASK = get_offline_task("CartPoleHet-n500-pure-v1")
SEEDS = [0]
UPDATES = 3200
"""Of a run."""
N_PARTS = 8
"""Of a run: the two learners take turns, and the last is late."""
WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "kept": nullcontext,
    "zeros": denormals_as_zeros,
}


def make_model_free(solver: Any, n_updates: int) -> MemberLearner:
    """Make the learner of bcq or cql for a run of so many updates."""
    config = replace(solver.config_for(TASK), n_updates=n_updates)
    return load_learner(TASK, config, SEEDS, "cpu", solver.make_learner)


def make_cadm(n_updates: int) -> MemberLearner:
    """Make cadm's learner for a run of so many updates."""
    config = replace(cadm.config_for(TASK), n_updates=n_updates)
    return make_context_learner(TASK, config, SEEDS, "cpu", lambda *sizes: cadm.SquaredError())


def make_morel(n_updates: int) -> MemberLearner:
    """Make morel's learner, whose models make more updates than that before its policy's."""
    more = n_updates + 1
    config = replace(morel.config_for(TASK), min_model_updates=more, max_model_updates=more)
    return morel.make_learner(TASK, config, SEEDS, "cpu")


@dataclass(frozen=True)
class Learner:
    """What is measured.

    Attributes:
        make: makes the learner for a run of so many updates.
        networks: that an update trains.
        config: the solver's settings.
    """

    make: Callable[[int], MemberLearner]
    networks: str
    config: Any


LEARNERS = {
    "bcq": Learner(partial(make_model_free, bcq), "values, imitation", bcq.config_for(TASK)),
    "cql": Learner(partial(make_model_free, cql), "values", cql.config_for(TASK)),
    "cadm": Learner(make_cadm, "encoder, forward, backward", cadm.config_for(TASK)),
    "morel": Learner(make_morel, "models", morel.config_for(TASK)),
}


def advance_to(learner: MemberLearner, n_updates: int) -> float:
    """Train until so many updates are made; gives seconds of the processor."""
    start = time.process_time()
    while learner.done < n_updates:
        learner.advance()
    return time.process_time() - start


def count_operations(learner: MemberLearner) -> float:
    """Multiplications and additions of the products of an update, of the first ones."""
    with FlopCounterMode(display=False) as counter:
        learner.advance()
    return float(counter.get_total_flops()) / learner.done


@one_thread()
def measure(name: str, n_updates: int) -> dict[str, Any]:
    """Milliseconds of an update each way, for each part of the run."""
    measured = LEARNERS[name]
    operations = count_operations(measured.make(n_updates))
    learners = {way: measured.make(n_updates) for way in WAYS}
    milliseconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for part in range(1, N_PARTS + 1):
        for way, learner in learners.items():
            before = learner.done
            with WAYS[way]():
                seconds = advance_to(learner, part * n_updates // N_PARTS)
            milliseconds[way].append(1e3 * seconds / (learner.done - before))
    own, other = (learner.tensors() for learner in learners.values())
    return {
        "learner": name,
        "networks": measured.networks,
        "batch_size": measured.config.batch_size,
        "updates": n_updates,
        "milliseconds": milliseconds,
        "same_parameters": all(
            torch.equal(own[key], other[key]) for key in own if "exp_avg" not in key
        ),
        "operations": operations,
        "operations_per_second": measure_arithmetic(30, n_threads=1),
    }


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    kept, zeros = result["milliseconds"].values()
    floor = 1e3 * result["operations"] / result["operations_per_second"]
    mean = sum(zeros) / len(zeros)
    return [
        *(result["learner"], result["networks"], str(result["batch_size"])),
        *(f"{sum(kept) / len(kept):.2f}", f"{mean:.2f}", f"{sum(kept) / sum(zeros):.2f} x"),
        *(f"{kept[-1]:.2f}", f"{zeros[-1]:.2f}", f"{kept[-1] / zeros[-1]:.2f} x"),
        *(f"{floor:.2f}", f"{floor / mean:.2f}"),
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed of the offline learners' updates.", "160 updates")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--updates", type=positive, default=UPDATES, help="of a run")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.updates = 160
    if arguments.updates < 160:  # a part is one report of cadm's updates at least
        parser.error(f"--updates is {arguments.updates}, expected at least 160")
    results = (measure(name, arguments.updates) for name in arguments.learners)
    rows = ((result, format_row(result)) for result in results)
    report("offline_learners", arguments.out, HEADER, rows)


if __name__ == "__main__":
    main()
