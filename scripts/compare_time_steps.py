"""How fast HalfCheetah gets with the time step of HalfCheetah-v5, and with shorter ones.

    python -m scripts.compare_time_steps
    python -m scripts.compare_time_steps --agents 2 --divisions 1 --steps 260

The planner of `true_env_mpc` (40 plans of 20 steps) drives one robot, planning with the very
dynamics in which it acts.  Nothing ends at the speed limit of `rules.half_cheetah_terminated`,
which rests on this.  A division of 5 makes five physics steps of each.  Printed: the greatest
forward speed so far, m/s; a step in which MuJoCo puts the robot back to the start counts as 25.
"""

from __future__ import annotations

import argparse
from typing import cast

import numpy as np
import torch
from torch import Tensor

from baselines.offline.dynamics import Objective
from baselines.offline.planning import CrossEntropy, PlannerConfig, PlannerPolicy
from baselines.offline.true_dynamics import HalfCheetahDynamics
from rmdp_bench import get_population
from rmdp_bench.envs.rules import CONTROL_COST
from rmdp_bench.population import DynamicsPopulation

PLANNER = PlannerConfig(n_sequences=40, horizon=20, n_elites=8)


def reward(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """As in HalfCheetah-v5."""
    return next_observations[..., 0] - CONTROL_COST * actions.square().sum(-1)


def never(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """No transition ends an episode."""
    return torch.zeros_like(next_observations[..., 0], dtype=torch.bool)


def main() -> None:
    """Print a row for each agent and each time step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--agents", nargs="+", type=int, default=[2, 600])
    parser.add_argument("--divisions", nargs="+", type=int, default=[1, 5], help="of a time step")
    parser.add_argument("--steps", type=int, default=200, help="of the environment")
    parser.add_argument("--every", type=int, default=20, help="steps between columns")
    arguments = parser.parse_args()
    population = cast(DynamicsPopulation, get_population("rmdp/HalfCheetahHet-n500-v0"))
    columns = range(arguments.every, arguments.steps + 1, arguments.every)
    print("agent | masses, damping | time step s |", " | ".join(f"{t}" for t in columns))
    for agent in arguments.agents:
        scales = population.parameters[agent]
        for n_divisions in arguments.divisions:
            dynamics = HalfCheetahDynamics(scales, n_divisions=n_divisions)
            planner = CrossEntropy(PLANNER, 6, dynamics.device, (0, agent))
            policy = PlannerPolicy(dynamics, planner, Objective(reward, never), 0)
            policy.reset(1)
            state = torch.zeros(1, 18, dtype=dynamics.dtype)
            state[0, 1:] = torch.from_numpy(0.1 * np.random.default_rng(agent).normal(size=17))
            speeds = []
            for _ in range(arguments.steps):
                actions = torch.from_numpy(policy.act(state.numpy()))
                state = dynamics.step(state[None], actions, torch.zeros(1, dtype=torch.int64))[0]
                speeds.append(float(state[0, 0]))
            row = " | ".join(f"{max(speeds[:t]):.1f}" for t in columns)
            scale = ", ".join(f"{value:.2f}" for value in scales)
            print(f"{agent} | {scale} | {0.01 / n_divisions:g} | {row}", flush=True)


if __name__ == "__main__":
    main()
