"""Speed of planning beside a plain loop, and how far it is from the arithmetic that is needed.

    batched    the planner as it is run: the plans of all environments and all members in one call
    plain      the named alternative, a loop as in the paper's code: one environment after the
               other, one member after the other, one step after the other, all plans in one call
               of torch; on one thread by default, since these products are small and sharing them
               out is many times slower wherever another process has one of the cores
    floor      multiplications and additions of one decision over what matrix products of 1024 x
               1024 reach on all cores, with the agent's and the action's factor folded into the
               last layer where actions are discrete

The dynamics are PerSim's (an ensemble of 5, layers as in its settings) with random parameters, with
which observations hardly change, so that no plan ends early: the longest case. The environments of
CartPole and MountainCar are one agent's, each of HalfCheetah's is another agent's; its planner is a
small one (20 plans of 10 steps, twice). Decisions are counted for each environment: E in a call.
Both ways decide from the same observations in turn, so that they share what else the machine does;
seconds are medians over repetitions. Every row checks that both give every plan the same return.

    python -m benchmarks.planning [--quick] [--worlds NAME ...] [--num-envs 1 20] [--out DIR]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import MemberMLP, member_generators, member_keys
from baselines.offline.common.spaces import action_space, n_discrete_actions
from baselines.offline.persim.model import FactoredConfig, FactoredModel, model_settings
from baselines.offline.persim.simulator import PersonalSimulator
from baselines.offline.planning.dynamics import Objective, objective_for
from baselines.offline.planning.planner import PlannerConfig, decide, make_policy
from benchmarks.common import make_parser, measure_arithmetic, positive, report
from rmdp_bench.cores import usable_cores
from rmdp_bench.tasks import get_offline_task, get_task

N_MEMBERS = 5
CHANGE = 1e-4
"""Scale of the changes of a step, small so that no episode ends."""
HEADER = (
    *("world", "environments", "plain s", "batched s", "plain decisions/s"),
    *("batched decisions/s", "of plain", "floor decisions/s", "of the floor"),
)


@dataclass(frozen=True)
class PlannedWorld:
    """An environment, and its planner.

    Attributes:
        task: gives the model's settings.
        start: where plans begin, (d,).
        config: of the planner; None: the default.
    """

    task: str
    start: tuple[float, ...]
    config: PlannerConfig | None = None

    @property
    def env_id(self) -> str:
        """Whose rewards count."""
        return get_task(self.task).env_id

    @property
    def n_actions(self) -> int | None:
        """A; None: actions are continuous."""
        return n_discrete_actions(get_offline_task(self.task))


SMALL = PlannerConfig(n_sequences=20, horizon=10, n_elites=5, n_iterations=1)
WORLDS = {
    "cart_pole": PlannedWorld("CartPoleHet-n500-pure-v1", (0.0,) * 4),
    "mountain_car": PlannedWorld("MountainCarHet-n500-pure-v1", (-0.5, 0.0)),
    "half_cheetah": PlannedWorld("HalfCheetahHet-n500-pure-v1", (0.0,) * 18, SMALL),
}


def make_model(world: PlannedWorld, n_agents: int) -> FactoredModel:
    """Random parameters of PerSim's model."""
    rows = torch.zeros(n_agents, len(world.start))
    agents = torch.arange(n_agents)
    size = action_space(world.env_id).shape
    actions = agents if world.n_actions is not None else torch.zeros(n_agents, *(size or ()))
    bounds = torch.arange(n_agents + 1)
    data = LoggedData(rows, actions, rows[:, 0], rows, agents < 0, agents, bounds)
    config = replace(FactoredConfig(**model_settings(get_task(world.task))), normalize=False)
    model = FactoredModel(
        config, data, world.n_actions, member_generators(member_keys([0], N_MEMBERS), 0)
    )
    model.agent_network.weights[0].data.mul_(CHANGE)
    model.agent_network.biases[0].data.mul_(CHANGE)
    return model.requires_grad_(False)


def apply_network(network: MemberMLP, member: int, rows: Tensor) -> Tensor:
    """What one member makes of rows (B, i)."""
    layers = zip(network.weights, network.biases, strict=True)
    for layer, (weight, bias) in enumerate(layers):
        rows = torch.addmm(bias[member], rows.relu() if layer else rows, weight[member])
    return rows


@torch.no_grad()
def evaluate_plainly(
    model: FactoredModel, objective: Objective, observations: Tensor, plans: Tensor
) -> Tensor:
    """Returns (E, S), a member and an environment at a time, nothing folded into a layer."""
    shape = (model.observation_size, model.rank)
    agents = model.agent_factors()  # (M, n, r); one is everybody's where actions are discrete
    if model.n_actions is not None:
        table = (model.action_network.weights[0] + model.action_network.biases[0]) * agents
    returns = torch.zeros(plans.shape[:2])
    for e in range(len(plans)):
        for m in range(N_MEMBERS):
            states = observations[e].expand(plans.shape[1], -1)
            running = torch.ones(len(states), dtype=torch.bool)
            bonuses = torch.full((len(states),), -torch.inf)
            for t in range(plans.shape[2]):
                actions = plans[e, :, t]
                if model.n_actions is not None:
                    factors = table[m][actions]
                else:
                    factors = apply_network(model.action_network, m, actions) * agents[m, e]
                values = apply_network(model.state_network, m, states).unflatten(-1, shape)
                after = states + (values * factors[:, None]).sum(-1)
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


def count_operations(model: FactoredModel, config: PlannerConfig) -> float:
    """Multiplications and additions of one decision; only the chosen action's outputs count."""
    *hidden, last = model.state_network.weights
    products = sum(weight[0].numel() for weight in hidden)
    if model.n_actions is not None:
        products += last.shape[1] * model.observation_size
    else:
        products += last[0].numel() + model.observation_size * model.rank
        products += sum(weight[0].numel() for weight in model.action_network.weights)
    n_evaluations = 1 if model.n_actions is not None else config.n_iterations + 1
    each = 2 * products * N_MEMBERS * config.n_sequences * config.horizon
    return float(each * n_evaluations)


def measure(
    name: str, n_envs: int, config: PlannerConfig, repetitions: int, plain_threads: int = 1
) -> dict[str, Any]:
    """Seconds of both ways to decide for E environments, one number for each repetition."""
    world = WORLDS[name]
    config, objective = world.config or config, objective_for(world.env_id)
    model = make_model(world, n_envs if world.n_actions is None else 1)
    factors = model.agent_factors().unbind(1)
    simulators = [PersonalSimulator(model, own) for own in factors]
    dynamics = simulators[0].join(simulators) or simulators[0]
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
            planner = make_policy(world.env_id, dynamics, config, seed=0, agent=0).planner
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
        "operations": count_operations(model, config),
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


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed of planning.", "one repetition of a small planner")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--num-envs", nargs="+", type=positive, default=[1, 20])
    parser.add_argument("--plain-threads", type=positive, default=1, help="of the plain loop")
    parser.add_argument("--repetitions", type=positive, default=5, help="of each row")
    arguments = parser.parse_args()
    config, repetitions = PlannerConfig(), arguments.repetitions
    if arguments.quick:
        config, repetitions = PlannerConfig(n_sequences=100, horizon=10), 1
    results = (
        measure(name, n_envs, config, repetitions, arguments.plain_threads)
        for name in arguments.worlds
        for n_envs in arguments.num_envs
    )
    report("planning", arguments.out, HEADER, ((result, format_row(result)) for result in results))


if __name__ == "__main__":
    main()
