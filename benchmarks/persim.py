"""Speed of PerSim's training beside a plain loop, and how far it is from its arithmetic.

    batched    as it is run: all members at once, in compiled loops, on all cores
    plain      the named alternative: one member after the other, a module, autograd and Adam, as in
               the paper's code; on one thread, since products of this size are too small to share
    floor      multiplications and additions of the matrix products over what products of 1024 x
               1024 reach on all cores

A step is one mini-batch of every member. Both ways take steps in turn, so that they share what else
the machine does; numbers are medians over repetitions. The data are noise of the size of the real
ones, and "training minutes" is what all steps of a run of one seed take.

    python -m benchmarks.persim [--quick] [--worlds NAME ...] [--out DIR]
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.offline.common.data import LoggedData
from baselines.offline.persim.model import FactoredConfig, model_settings
from baselines.offline.persim.training import FactoredLearner
from benchmarks.common import make_parser, measure_arithmetic, positive, report
from rmdp_bench.tasks import get_task

HEADER = (
    *("world", "members", "batch", "plain steps/s", "batched steps/s", "of plain"),
    *("floor steps/s", "of the floor", "training minutes"),
)


@dataclass(frozen=True)
class LogSize:
    """A task, and the size of its data.

    Attributes:
        task: gives the model's settings.
        observation_size: d.
        n_actions: A.
        n_transitions: N of all agents.
    """

    task: str
    observation_size: int
    n_actions: int
    n_transitions: int


WORLDS = {
    "cart_pole": LogSize("CartPoleHet-n500-pure-v1", 4, 2, 92_929),
    "mountain_car": LogSize("MountainCarHet-n500-pure-v1", 2, 3, 67_140),
}
N_AGENTS = 500


class PlainModel(nn.Module):
    """One member, as it would be written down."""

    def __init__(self, world: LogSize, config: FactoredConfig) -> None:
        """Draw the parameters."""
        super().__init__()
        self.size, self.rank = world.observation_size, config.rank
        self.agent = nn.Linear(N_AGENTS, config.rank)
        self.action = nn.Linear(world.n_actions, config.rank)
        (width,) = config.state_layers
        self.state = nn.Sequential(
            nn.Linear(self.size, width), nn.ReLU(), nn.Linear(width, self.size * config.rank)
        )

    def forward(self, states: Tensor, agents: Tensor, actions: Tensor) -> Tensor:
        """Changes (B, d), from one-hot agents and actions."""
        factors = (self.agent(agents) * self.action(actions)).unsqueeze(1)
        changes: Tensor = (self.state(states).view(-1, self.size, self.rank) * factors).sum(2)
        return changes


def make_data(world: LogSize, n_transitions: int) -> LoggedData:
    """Noise: the first transitions of a task's data, agents in turn."""
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(n_transitions, world.observation_size, generator=generator)
    agents = torch.arange(n_transitions) % N_AGENTS
    return LoggedData(
        observations=observations,
        actions=torch.randint(world.n_actions, (n_transitions,), generator=generator),
        rewards=torch.zeros(n_transitions),
        next_observations=observations + 0.1 * torch.sin(observations),
        terminated=torch.zeros(n_transitions, dtype=torch.bool),
        agents=agents,
        starts=torch.arange(N_AGENTS + 1),
    )


def run_plainly(world: LogSize, config: FactoredConfig, data: LoggedData) -> None:
    """One pass of each member."""
    agents = nn.functional.one_hot(data.agents, N_AGENTS).float()
    actions = nn.functional.one_hot(data.actions, world.n_actions).float()
    changes = data.next_observations - data.observations
    for _ in range(config.n_models):
        model = PlainModel(world, config)
        adam = torch.optim.Adam(model.parameters(), config.learning_rate)
        for rows in torch.randperm(len(changes)).split(config.batch_size):
            adam.zero_grad()
            guess = model(data.observations[rows], agents[rows], actions[rows])
            nn.functional.mse_loss(guess, changes[rows]).backward()
            adam.step()


def count_operations(world: LogSize, config: FactoredConfig) -> float:
    """Multiplications and additions of the products of one step of all members."""
    (width,) = config.state_layers
    d, outputs = world.observation_size, world.observation_size * config.rank
    # Forward; slopes by the weights; slopes by the hidden layer.
    products = (d + outputs) + (d + outputs) + outputs
    return float(2 * config.n_models * config.batch_size * width * products)


def measure(name: str, n_steps: int, repetitions: int) -> dict[str, Any]:
    """Seconds of both ways for a pass of so many steps, one number for each repetition."""
    world = WORLDS[name]
    config = replace(FactoredConfig(), **model_settings(get_task(world.task)))
    data = make_data(world, n_steps * config.batch_size)
    training = FactoredLearner(config, data, world.n_actions, [0], "cpu")
    seconds: dict[str, list[float]] = {"plain": [], "batched": []}
    torch.set_num_threads(1)
    for _ in range(repetitions + 1):
        times = [time.perf_counter()]
        run_plainly(world, config, data)
        times.append(time.perf_counter())
        training.run(1)
        times.append(time.perf_counter())
        for way, value in zip(seconds, np.diff(times), strict=True):
            seconds[way].append(float(value))
    return {
        "world": name,
        "members": config.n_models,
        "batch_size": config.batch_size,
        "n_steps": n_steps,
        "steps_of_a_run": config.n_epochs * -(-world.n_transitions // config.batch_size),
        "seconds": {way: row[1:] for way, row in seconds.items()},
        "operations": count_operations(world, config),
        "operations_per_second": measure_arithmetic(3),
    }


def summarize(result: dict[str, Any]) -> dict[str, float]:
    """Steps per second of both ways and of the floor, and minutes of a whole training."""
    row = {way: result["n_steps"] / float(np.median(s)) for way, s in result["seconds"].items()}
    row["floor"] = result["operations_per_second"] / result["operations"]
    return row | {"minutes": result["steps_of_a_run"] / row["batched"] / 60}


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    row = summarize(result)
    return [
        *(result["world"], str(result["members"]), str(result["batch_size"])),
        *(f"{row[name]:,.0f}" for name in ("plain", "batched")),
        f"{row['batched'] / row['plain']:.1f} x",
        f"{row['floor']:,.0f}",
        f"{row['batched'] / row['floor']:.2f}",
        f"{row['minutes']:.1f}",
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed of PerSim's training.", "one repetition of few steps")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--steps", type=positive, default=1500, help="of each repetition")
    parser.add_argument("--repetitions", type=positive, default=5, help="of each row")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.repetitions = 20, 1
    results = (measure(name, arguments.steps, arguments.repetitions) for name in arguments.worlds)
    report("persim", arguments.out, HEADER, ((result, format_row(result)) for result in results))


if __name__ == "__main__":
    main()
