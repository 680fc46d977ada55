"""The simulators as dynamics for planners, given an agent's hidden parameters.

    CartPoleDynamics, MountainCarDynamics    the environment's equations in torch, float64
    HalfCheetahDynamics                      the environment's simulations, `mujoco.batch.Batch`

All start from an observation. HalfCheetah's leaves out the horizontal position, on which nothing
depends, and the solver's last solution, from which its next search begins: predictions are the
environment's to the tolerance of that search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from baselines.offline.planning.dynamics import Dynamics, Objective
from rmdp_bench.cores import usable_cores
from rmdp_bench.envs import classic_het, classic_rows, get_environment, half_cheetah_het, rules
from rmdp_bench.envs.robots import load_model


class CartPoleDynamics(Dynamics):
    """One Euler step of `classic_het.CartPoleWorld`, for an agent's (force, half length)."""

    dtype = torch.float64
    chunk_rows = 10_000

    def __init__(self, parameters: ArrayLike, device: str = "cpu") -> None:
        """Take the agent's parameters (2,)."""
        self.force, self.half_length = np.asarray(parameters, np.float64).tolist()
        self.device = torch.device(device)

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Make one step of the environment's equations."""
        position, velocity, angle, spin = states.unbind(-1)
        push = self.force * (2.0 * actions.to(states.dtype) - 1.0)
        cosine, sine = angle.cos(), angle.sin()
        moment, total = classic_rows.POLE_MASS * self.half_length, classic_rows.TOTAL_MASS
        thrust = (push + moment * spin.square() * sine) / total
        inertia = 4.0 / 3.0 - classic_rows.POLE_MASS * cosine.square() / total
        angular = (classic_rows.GRAVITY * sine - cosine * thrust) / (self.half_length * inertia)
        acceleration = thrust - moment * angular * cosine / total
        change = torch.stack((velocity, acceleration, spin, angular), -1)
        return states + classic_rows.TIME_STEP * change


class MountainCarDynamics(Dynamics):
    """One step of `classic_het.MountainCarWorld`, for an agent's (gravity,)."""

    dtype = torch.float64
    chunk_rows = 10_000

    def __init__(self, parameters: ArrayLike, device: str = "cpu") -> None:
        """Take the agent's parameters (1,)."""
        (self.gravity,) = np.asarray(parameters, np.float64).tolist()
        self.device = torch.device(device)

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Make one step of the environment's equations."""
        (least, greatest), (slowest, fastest) = classic_het.MountainCarWorld.bounds
        position, velocity = states.unbind(-1)
        slope = (3 * position).cos()
        engine = (actions.to(states.dtype) - 1.0) * classic_rows.ENGINE_FORCE
        velocity = velocity + engine - slope * self.gravity
        velocity = velocity.clamp(slowest, fastest)
        position = (position + velocity).clamp(least, greatest)
        at_the_wall = (position == least) & (velocity < 0.0)
        return torch.stack((position, velocity.masked_fill(at_the_wall, 0.0)), -1)


class HalfCheetahDynamics(Dynamics):
    """Simulations of `half_cheetah_het`, for an agent's (mass scale, damping scale).

    They run on the CPU whatever the device, in a batch of at most `chunk_rows`, on all cores.
    """

    dtype = torch.float64
    chunk_rows = 1000

    def __init__(
        self,
        parameters: ArrayLike,
        device: str = "cpu",
        *,
        time_step: float = half_cheetah_het.TIME_STEP,
    ) -> None:
        """Take the agent's parameters (2,), and the length of a physics step, s."""
        self.device = torch.device(device)
        mass_scale, damping_scale = np.asarray(parameters, np.float64).tolist()
        robot = half_cheetah_het.robot_with(time_step)
        self._model = load_model(robot)
        self._model.body_mass *= mass_scale
        self._model.dof_damping *= damping_scale
        mujoco.mj_setConst(self._model, mujoco.MjData(self._model))
        self._frame_skip = robot.frame_skip
        self._batch: Any = None

    def _simulate(self, states: NDArray[Any], plans: NDArray[Any]) -> NDArray[np.float64]:
        """Observations (B, T, 18) after each action of plans (B, T, 6) from states (B, 18)."""
        if self._batch is None or self._batch.nsim < len(states):
            n_threads = min(usable_cores(), len(states))
            self._batch = Batch(self._model, len(states), n_threads)
        rows, n_positions = np.arange(len(states)), self._model.nq
        qpos, qvel, ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        qpos[rows, 0] = 0.0
        qpos[rows, 1:] = states[:, 1:n_positions]
        qvel[rows] = states[:, n_positions:]
        seconds = self._model.opt.timestep * self._frame_skip
        observations = np.empty((*plans.shape[:2], states.shape[1]))
        n_failures = self._batch.warning[:, half_cheetah_het.RESETS, 1]  # 0 since the reset
        for t in range(plans.shape[1]):
            before = qpos[rows, 0]
            ctrl[rows] = plans[:, t]
            self._batch.step(rows, nstep=self._frame_skip)
            failed = n_failures[rows].any(1)
            velocities = (qpos[rows, 0] - before) / seconds
            observations[:, t, 0] = np.where(failed, rules.SPEED_LIMIT, velocities)
            observations[:, t, 1:n_positions] = qpos[rows, 1:]
            observations[:, t, n_positions:] = qvel[rows]
        return observations

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Simulate one step of the environment; M is 1."""
        after = self._simulate(states[0].cpu().numpy(), actions[:, None].cpu().numpy())
        return torch.from_numpy(after).to(self.device).transpose(0, 1)

    def evaluate(
        self, objective: Objective, observations: Tensor, plans: Tensor, envs: Tensor
    ) -> Tensor:
        """Give the return of every plan; there is no bonus in this world."""
        returns = plans.new_empty(plans.shape[:2], dtype=self.dtype).flatten()
        starts = observations.repeat_interleave(plans.shape[1], dim=0)  # (B, 18)
        for first in range(0, len(starts), self.chunk_rows):
            rows = slice(first, first + self.chunk_rows)
            states, actions = starts[rows], plans.flatten(0, 1)[rows]
            after = self._simulate(states.cpu().numpy(), actions.cpu().numpy())
            path = torch.cat((states[:, None], torch.from_numpy(after).to(self.device)), dim=1)
            transitions = path[:, :-1], actions, path[:, 1:]
            ended = objective.terminated(*transitions).cumsum(1).bool()
            returns[rows] = torch.where(ended, 0.0, objective.reward(*transitions)).sum(1)
        return returns.reshape(plans.shape[:2])


_WORLDS: dict[str, Callable[..., Dynamics]] = {
    "rmdp/CartPoleHet-n500-v0": CartPoleDynamics,
    "rmdp/MountainCarHet-n500-v0": MountainCarDynamics,
    "rmdp/HalfCheetahHet-n500-v0": HalfCheetahDynamics,
    "rmdp/HalfCheetahHet-n500-v1": HalfCheetahDynamics,
}


def make_true_dynamics(env_id: str, parameters: ArrayLike, device: str = "cpu") -> Dynamics:
    """The dynamics of an agent with these parameters.

    Args:
        env_id: of an environment whose agents differ in dynamics.
        parameters: (p,), a row of its population's.
        device: of the planner.
    """
    own = get_environment(env_id).kwargs
    settings = {name: own[name] for name in ("time_step",) if name in own}
    return _WORLDS[env_id](parameters, device, **settings)
