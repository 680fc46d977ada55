"""Speed of planning beside a plain loop, and how far it is from the arithmetic that is needed.

    batched    the planner as it is run: the plans of all environments and all members in one call
    plain      the named alternative, a loop as in the paper's code: one environment after the
               other, one member after the other, one step after the other, all plans in one call
               of torch; on one thread by default, since these products are small and sharing them
               out is many times slower wherever another process has one of the cores
    floor      multiplications and additions of one decision over what matrix products of 1024 x
               1024 reach on all cores, with the agent's and the action's factor folded into the
               last layer

The dynamics are PerSim's (an ensemble of 5, one hidden layer of 256) with random parameters, with
which observations hardly change, so that no plan ends early: the longest case. Decisions are
counted for each environment: E in a call. Both ways decide from the same observations in turn, so
that they share what else the machine does; seconds are medians over repetitions. Every row checks
that both give every plan the same return.

    python -m benchmarks.planning [--quick] [--worlds NAME ...] [--num-envs 1 20] [--out DIR]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.offline.data import LoggedData
from baselines.offline.dynamics import Objective, objective_for
from baselines.offline.factored import FactoredConfig, FactoredModel
from baselines.offline.networks import make_generators
from baselines.offline.planning import PlannerConfig, RandomShooting, decide
from baselines.offline.simulators import PersonalSimulator
from benchmarks.common import describe_machine, measure_arithmetic, write_results
from rmdp_bench.cores import usable_cores

N_MEMBERS, N_HIDDEN = 5, 256
CHANGE = 1e-4
"""Scale of the changes of a step, small so that no episode ends."""
HEADER = (
    *("world", "environments", "plain s", "batched s", "plain decisions/s"),
    *("batched decisions/s", "of plain", "floor decisions/s", "of the floor"),
)


@dataclass(frozen=True)
class World:
    """An environment, and the rank of its model.

    Attributes:
        env_id: whose rewards count.
        observation_size: d.
        n_actions: A.
        rank: r of the factors.
        start: where plans begin, (d,).
    """

    env_id: str
    observation_size: int
    n_actions: int
    rank: int
    start: tuple[float, ...]


WORLDS = {
    "cart_pole": World("rmdp/CartPoleHet-n500-v0", 4, 2, 5, (0.0, 0.0, 0.0, 0.0)),
    "mountain_car": World("rmdp/MountainCarHet-n500-v0", 2, 3, 3, (-0.5, 0.0)),
}


def make_model(world: World) -> FactoredModel:
    """Random parameters of PerSim's model, of one agent."""
    config = FactoredConfig(rank=world.rank, state_layers=(N_HIDDEN,))
    row = torch.zeros(1, world.observation_size)
    nothing = torch.zeros(1, dtype=torch.int64)
    data = LoggedData(row, nothing, row[:, 0], row, nothing == 1, nothing, torch.tensor([0, 1]))
    model = FactoredModel(config, data, world.n_actions, make_generators(0, 0, N_MEMBERS))
    model.agent_network.weights[0].data.mul_(CHANGE)
    model.agent_network.biases[0].data.mul_(CHANGE)
    return model.requires_grad_(False)


@torch.no_grad()
def evaluate_plainly(
    model: FactoredModel, objective: Objective, observations: Tensor, plans: Tensor
) -> Tensor:
    """Returns (E, S), a member and an environment at a time, nothing folded."""
    network, shape = model.state_network, (model.observation_size, model.rank)
    (weights, last), (biases, last_bias) = network.weights, network.biases
    table = model.action_network.weights[0] + model.action_network.biases[0]
    products = model.agent_factors() * table  # (M, A, r)
    returns = torch.zeros(plans.shape[:2])
    for e in range(len(plans)):
        for m in range(N_MEMBERS):
            states = observations[e].expand(plans.shape[1], -1)
            running = torch.ones(len(states), dtype=torch.bool)
            bonuses = torch.full((len(states),), -torch.inf)
            for t in range(plans.shape[2]):
                actions = plans[e, :, t]
                hidden = torch.addmm(biases[m], states, weights[m]).relu()
                values = torch.addmm(last_bias[m], hidden, last[m])
                values = values.unflatten(-1, shape)
                after = states + (values * products[m][actions][:, None]).sum(-1)
                ended = objective.terminated(states, actions, after)
                rewards = objective.reward(states, actions, after)
                returns[e] += torch.where(running & ~ended, rewards, 0.0) / N_MEMBERS
                if objective.bonus is not None:
                    bonuses = torch.where(running, bonuses.maximum(objective.bonus(after)), bonuses)
                running &= ~ended
                states = after
            if objective.bonus is not None:
                returns[e] += bonuses / N_MEMBERS
    return returns


def count_operations(world: World, config: PlannerConfig) -> float:
    """Multiplications and additions of one decision; only the chosen action's outputs count."""
    each = 2 * N_HIDDEN * (world.observation_size + world.observation_size)
    return float(each * N_MEMBERS * config.n_sequences * config.horizon)


def measure(
    name: str, n_envs: int, config: PlannerConfig, repetitions: int, plain_threads: int = 1
) -> dict[str, Any]:
    """Seconds of both ways to decide for E environments, one number for each repetition."""
    world = WORLDS[name]
    model, objective = make_model(world), objective_for(world.env_id)
    dynamics = PersonalSimulator(model, slice(0, N_MEMBERS), model.agent_factors()[:, 0])
    observations = torch.tensor([world.start] * n_envs)
    envs = torch.arange(n_envs)

    def batched(plans: Tensor) -> Tensor:
        return dynamics.evaluate(objective, observations, plans, envs)

    def plain(plans: Tensor) -> Tensor:
        return evaluate_plainly(model, objective, observations, plans)

    ways: dict[str, Callable[[Tensor], Tensor]] = {"plain": plain, "batched": batched}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    returns: dict[str, Tensor] = {}
    for _ in range(repetitions + 1):
        for way, evaluate in ways.items():
            planner = RandomShooting(config, world.n_actions, dynamics.device, (0, 0))
            planner.reset(n_envs)
            dynamics.begin(n_envs, 0)

            def record(
                plans: Tensor, way: str = way, evaluate: Callable[[Tensor], Tensor] = evaluate
            ) -> Tensor:
                returns[way] = evaluate(plans)
                return returns[way]

            torch.set_num_threads(plain_threads if way == "plain" else usable_cores())
            start = time.perf_counter()
            decide(planner.propose(envs), record)
            seconds[way].append(time.perf_counter() - start)
    torch.testing.assert_close(returns["plain"], returns["batched"], rtol=1e-4, atol=1e-4)
    return {
        "world": name,
        "environments": n_envs,
        "n_sequences": config.n_sequences,
        "horizon": config.horizon,
        "plain_threads": plain_threads,
        "seconds": {way: row[1:] for way, row in seconds.items()},
        "operations": count_operations(world, config),
        "operations_per_second": measure_arithmetic(3),
    }


def summarize(result: dict[str, Any]) -> dict[str, float]:
    """Medians of seconds, decisions per second of both ways and of the floor."""
    row = {f"{way}_seconds": float(np.median(s)) for way, s in result["seconds"].items()}
    speeds = {way: result["environments"] / row[f"{way}_seconds"] for way in result["seconds"]}
    floor = result["operations_per_second"] / result["operations"]
    return row | speeds | {"floor": floor}


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    row = summarize(result)
    return [
        *(result["world"], str(result["environments"])),
        *(f"{row[name]:.3f}" for name in ("plain_seconds", "batched_seconds")),
        *(f"{row[name]:,.1f}" for name in ("plain", "batched")),
        f"{row['batched'] / row['plain']:.1f} x",
        f"{row['floor']:,.0f}",
        f"{row['batched'] / row['floor']:.2f}",
    ]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of planning.")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 20])
    parser.add_argument("--plain-threads", type=int, default=1, help="of the plain loop")
    parser.add_argument("--repetitions", type=int, default=5, help="of each row, after a first")
    parser.add_argument("--quick", action="store_true", help="one repetition of a small planner")
    parser.add_argument("--out", type=Path, help="also write planning.json and planning.md there")
    arguments = parser.parse_args()
    if min(arguments.repetitions, arguments.plain_threads, *arguments.num_envs) < 1:
        parser.error("--repetitions, --plain-threads and --num-envs are integers >= 1")
    return arguments


def main() -> None:
    """Measure, print a row as soon as it is known, and write the files."""
    arguments = parse_arguments()
    config, repetitions = PlannerConfig(), arguments.repetitions
    if arguments.quick:
        config, repetitions = PlannerConfig(n_sequences=100, horizon=10), 1
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(" | ".join(HEADER))
    results, rows = [], []
    for name in arguments.worlds:
        for n_envs in arguments.num_envs:
            how = (config, repetitions, arguments.plain_threads)
            results.append(measure(name, n_envs, *how))
            rows.append(format_row(results[-1]))
            print(" | ".join(rows[-1]), flush=True)
    if arguments.out:
        write_results(arguments.out, "planning", machine, results, HEADER, rows)


if __name__ == "__main__":
    main()
