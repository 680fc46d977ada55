"""What HalfCheetah wins from the error of the integration, with physics steps of several lengths.

    python -m scripts.compare_time_steps
    python -m scripts.compare_time_steps --agents 2 --variants euler:0.01 euler:0.002 --steps 260

The planner of `true_env_mpc` (40 plans of 20 steps) drives one robot, planning with the very
dynamics in which it acts.  Nothing ends at the speed limit of `rules.half_cheetah_terminated`,
which rests on this.  Then its actions are played again with an account of the energy, kinetic,
potential and of the springs: what it has gained, less the work of the motors, of contacts and of
the damping, is the integration's.  Work of a force in a physics step is its product with the mean
of the velocities before and after.  Printed for each robot and variant: the greatest forward speed
(a step in which MuJoCo puts the robot back to the start counts as 25) and the mean one, m/s; the
work of the motors, J; what the integration gave, in percent of it; and seconds of processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, cast

import mujoco
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from baselines.offline.planning.dynamics import Objective
from baselines.offline.planning.planner import CrossEntropy, PlannerConfig, PlannerPolicy
from baselines.offline.planning.true_dynamics import HalfCheetahDynamics
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


INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    "rk4": mujoco.mjtIntegrator.mjINT_RK4,
}
HEADER = ("agent", "masses, damping", "integrator", "step s", "top", "mean", "work J", "error %")


class VariantDynamics(HalfCheetahDynamics):
    """With an integrator of one's choice."""

    def __init__(self, parameters: ArrayLike, integrator: str, time_step: float) -> None:
        """Take the agent's parameters (2,), a name of `INTEGRATORS` and a length, s."""
        super().__init__(parameters, time_step=time_step)
        self._model.opt.integrator = INTEGRATORS[integrator]

    def account(self, start: NDArray[Any], actions: Sequence[NDArray[Any]]) -> tuple[float, float]:
        """Work of the motors and energy from the integration, J, from an observation (18,)."""
        model, n_positions = self._model, self._model.nq
        model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
        data = mujoco.MjData(model)
        data.qpos[1:], data.qvel[:] = start[1:n_positions], start[n_positions:]
        mujoco.mj_forward(model, data)
        first, motors, others = data.energy.sum(), 0.0, 0.0
        for action in actions:
            data.ctrl[:] = action
            for _ in range(self._frame_skip):
                mujoco.mj_forward(model, data)
                before, forces = data.qvel.copy(), data.qfrc_actuator.copy()
                contacts = data.qfrc_constraint.copy()
                mujoco.mj_step(model, data)
                moved = model.opt.timestep * (before + data.qvel) / 2
                motors += forces @ moved
                # Damping is implicit: the force is that of the velocity after the step.
                others += (contacts - model.dof_damping * data.qvel) @ moved
        mujoco.mj_forward(model, data)
        return float(motors), float(data.energy.sum() - first - motors - others)


def main() -> None:
    """Print a row for each agent and variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--agents", nargs="+", type=int, default=[2, 600])
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["euler:0.01", "euler:0.005", "implicit:0.005", "euler:0.002"],
        metavar="INTEGRATOR:SECONDS",
    )
    parser.add_argument("--steps", type=int, default=80, help="of the environment")
    arguments = parser.parse_args()
    population = cast(DynamicsPopulation, get_population("rmdp/HalfCheetahHet-n500-v1"))
    print(" | ".join((*HEADER, "CPU s")))
    for agent in arguments.agents:
        for variant in arguments.variants:
            integrator, _, time_step = variant.partition(":")
            scales = population.parameters[agent]
            dynamics = VariantDynamics(scales, integrator, float(time_step))
            row = drive(dynamics, agent, arguments.steps)
            scale = ", ".join(f"{value:.2f}" for value in scales)
            print(f"{agent} | {scale} | {integrator} | {time_step} | {row}", flush=True)


def drive(dynamics: VariantDynamics, agent: int, n_steps: int) -> str:
    """Let the planner drive a robot; the last columns of its row."""
    planner = CrossEntropy(PLANNER, 6, dynamics.device, (0, agent))
    policy = PlannerPolicy(dynamics, planner, Objective(reward, never), 0)
    policy.reset(1)
    state = torch.zeros(1, 18, dtype=dynamics.dtype)
    state[0, 1:] = torch.from_numpy(0.1 * np.random.default_rng(agent).normal(size=17))
    start, began = state[0].numpy().copy(), time.process_time()
    speeds, actions = [], []
    for _ in range(n_steps):
        chosen = policy.act(state.numpy())
        actions.append(chosen[0])
        rows = torch.zeros(1, dtype=torch.int64)
        state = dynamics.step(state[None], torch.from_numpy(chosen), rows)[0]
        speeds.append(float(state[0, 0]))
    seconds = time.process_time() - began
    motors, error = dynamics.account(start, actions)
    share = 100 * error / motors
    return f"{max(speeds):.1f} | {np.mean(speeds):.1f} | {motors:.0f} | {share:.1f} | {seconds:.0f}"


if __name__ == "__main__":
    main()
