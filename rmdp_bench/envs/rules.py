"""The worlds of heterogeneous agents, as far as they are known without a simulator.

Who the agents are, what a transition is worth, and whether it ends the episode.  Planners need the
last two.  A reward or termination function takes observations (..., d), actions (..., a), or (...)
where they are discrete, and next observations (..., d), all NumPy arrays or all torch tensors, and
gives (...): rewards in the floating dtype of the observations, or booleans.  It is the same for all
agents: parameters change what the next observation is, not what it is worth.

The environments use these functions on their own float64 states; on the float32 observations of
CartPole and MountainCar they can only differ where rounding carries a state across a bound.

Source of ranges, test agents and rewards: PerSim (Agarwal et al. 2021, arXiv 2102.06961) and its
code.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rmdp_bench.population import DynamicsPopulation

POSITION_LIMIT = 2.4
"""CartPole: distance of the cart from the middle beyond which an episode ends, m."""
ANGLE_LIMIT = 12 * 2 * math.pi / 360
"""CartPole: angle of the pole beyond which an episode ends, rad."""
GOAL_POSITION = 0.5
"""MountainCar: where the flag stands."""
CONTROL_COST = 0.1
"""HalfCheetah: cost of the squared norm of the torques."""
SPEED_LIMIT = 25.0
"""HalfCheetah: speed at which an episode ends, m/s; see `half_cheetah_terminated`."""


def cart_pole_population(population_seed: int = 0) -> DynamicsPopulation:
    """500 agents who differ in the force of a push (N) and in half the length of the pole (m)."""
    return DynamicsPopulation.uniform(
        {"force": ("N", 2.0, 18.0), "half_length": ("m", 0.15, 0.85)},
        [(2.0, 0.5), (10.0, 0.5), (18.0, 0.5), (10.0, 0.85), (10.0, 0.15)],
        seed=population_seed,
    )


def mountain_car_population(population_seed: int = 0) -> DynamicsPopulation:
    """500 agents who differ in gravity, as a change of velocity per step on the steepest slope."""
    return DynamicsPopulation.uniform(
        {"gravity": ("", 1e-4, 3.5e-3)},
        [(1e-4,), (5e-4,), (1e-3,), (2.5e-3,), (3.5e-3,)],
        seed=population_seed,
    )


def half_cheetah_population(population_seed: int = 0) -> DynamicsPopulation:
    """500 agents who differ in the scales of all masses and of all joints' damping."""
    return DynamicsPopulation.uniform(
        {"mass_scale": ("", 0.2, 1.8), "damping_scale": ("", 0.2, 1.8)},
        [(0.3, 1.7), (1.7, 0.3), (0.3, 0.3), (1.7, 1.7), (1.0, 1.0)],
        seed=population_seed,
    )


def cart_pole_reward(observations: Any, actions: Any, next_observations: Any) -> Any:
    """1 for every step, the last one included."""
    return _constant(1.0, next_observations)


def cart_pole_terminated(observations: Any, actions: Any, next_observations: Any) -> Any:
    """Whether the cart is farther than 2.4 m from the middle, or the pole leans over 12 degrees."""
    return cart_pole_is_out(next_observations[..., 0], next_observations[..., 2])


def cart_pole_is_out(position: Any, angle: Any) -> Any:
    """`cart_pole_terminated`, of a position (...) and an angle (...), which may be numbers."""
    return (abs(position) > POSITION_LIMIT) | (abs(angle) > ANGLE_LIMIT)


def mountain_car_reward(observations: Any, actions: Any, next_observations: Any) -> Any:
    """-1 for every step, 0 for the one that reaches the flag."""
    there = mountain_car_terminated(observations, actions, next_observations)
    return _constant(-1.0, next_observations) + there


def mountain_car_terminated(observations: Any, actions: Any, next_observations: Any) -> Any:
    """Whether the car is at or beyond the flag, and does not roll back."""
    return mountain_car_is_there(next_observations[..., 0], next_observations[..., 1])


def mountain_car_is_there(position: Any, velocity: Any) -> Any:
    """`mountain_car_terminated`, of a position (...) and a velocity (...), which may be numbers."""
    return (position >= GOAL_POSITION) & (velocity >= 0.0)


def half_cheetah_reward(observations: Any, actions: Any, next_observations: Any) -> Any:
    """x-velocity (m/s) minus 0.1 times the squared norm of the torques; 0 for a failed step."""
    rewards = next_observations[..., 0] - CONTROL_COST * (actions * actions).sum(-1)
    failed = half_cheetah_terminated(observations, actions, next_observations)
    if isinstance(failed, np.ndarray | np.bool_):
        return np.where(failed, 0.0, rewards)[()]  # a number where there is one transition
    return rewards.masked_fill(failed, 0.0)


def half_cheetah_terminated(observations: Any, actions: Any, next_observations: Any) -> Any:
    """Whether the simulation failed: the speed along the track is not below the limit.

    Steps of 0.01 s, HalfCheetah-v5's and v0's, are too long for light robots that are fast: a
    planner that knows the dynamics makes them roll, ever faster, to hundreds of m/s and until
    MuJoCo puts them back to the start. With v1's steps of 0.002 s the same planner does not get
    agents 2 and 600 beyond 16.9 and 24.7 m/s in 260 steps. The limit bounds what can be won by
    rolling; it does not tell it from running.
    """
    return ~(abs(next_observations[..., 0]) < SPEED_LIMIT)


def _constant(value: float, next_observations: Any) -> Any:
    """An array or tensor (...) of one value."""
    like = next_observations[..., 0]
    if isinstance(like, np.ndarray):
        return np.full_like(like, value)
    return like.new_full(like.shape, value)
