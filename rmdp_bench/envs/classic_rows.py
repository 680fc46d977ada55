"""One step of a CartPole or a MountainCar: of one, and of many in a loop that numba compiles.

The single forms make it with Python's numbers. The loops are the same lines, compiled where numba
is installed (it comes with the extra `baselines`) and an environment has `COMPILED_FROM` copies or
more; without it, and for fewer copies, NumPy does for all copies at once what they do one by one.
All give the same bits: only +, -, *, / and comparisons are made here, which round alike everywhere,
in an order that nothing changes. Sines and cosines are NumPy's, always, and handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.core.checks import Rows

FloatArray = NDArray[np.float64]

POLE_MASS = 0.1
TOTAL_MASS = POLE_MASS + 1.0
"""Of pole and cart, kg."""
GRAVITY = 9.8
"""In CartPole, m/s^2."""
TIME_STEP = 0.02
"""Of CartPole, s."""
ENGINE_FORCE = 0.001
"""MountainCar: change of velocity in a step."""
LEFT_END, RIGHT_END = -1.2, 0.6
"""MountainCar: least and greatest position; at the left end there is a wall."""
TOP_SPEED = 0.07
"""MountainCar, per step."""
COMPILED_FROM = 32
"""Copies from which on compiled loops save more than half a second, numba's import, in minutes."""


def push_cart(
    position: Any,
    velocity: Any,
    angle: Any,
    spin: Any,
    cosine: Any,
    sine: Any,
    push: Any,
    half_length: Any,
) -> tuple[Any, Any, Any, Any]:
    """Make one Euler step of a CartPole: Florian's (2007) equations, in Gymnasium's order.

    Args:
        position: m; like all others a number or an array (B,).
        velocity: m/s.
        angle: rad.
        spin: rad/s.
        cosine: of the angle.
        sine: of the angle.
        push: force, N, to the right.
        half_length: of the pole, m.
    """
    moment = POLE_MASS * half_length
    thrust = (push + moment * (spin * spin) * sine) / TOTAL_MASS
    angular_acceleration = (GRAVITY * sine - cosine * thrust) / (
        half_length * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / TOTAL_MASS)
    )
    acceleration = thrust - moment * angular_acceleration * cosine / TOTAL_MASS
    return (
        position + TIME_STEP * velocity,
        velocity + TIME_STEP * acceleration,
        angle + TIME_STEP * spin,
        spin + TIME_STEP * angular_acceleration,
    )


def push_carts(
    states: FloatArray,
    cosines: FloatArray,
    sines: FloatArray,
    parameters: FloatArray,
    rows: Rows,
    actions: NDArray[np.integer[Any]],
) -> None:
    """Make a step of `rows` (B,) of `states` (E, 4), in place.

    Args:
        states: of all carts.
        cosines: of the angles of the rows, (B,).
        sines: of the same.
        parameters: (E, 2), force and half length.
        rows: which carts.
        actions: (B,), 1 for a push to the right.
    """
    for b in range(rows.shape[0]):
        row = rows[b]
        force = parameters[row, 0]
        push = force if actions[b] == 1 else -force
        states[row, 0], states[row, 1], states[row, 2], states[row, 3] = push_cart(
            states[row, 0],
            states[row, 1],
            states[row, 2],
            states[row, 3],
            cosines[b],
            sines[b],
            push,
            parameters[row, 1],
        )


def push_carts_at_once(
    states: FloatArray,
    cosines: FloatArray,
    sines: FloatArray,
    parameters: FloatArray,
    rows: Rows,
    actions: NDArray[np.integer[Any]],
) -> None:
    """Do what `push_carts` does, on arrays."""
    force, half_length = parameters[rows].T
    push = np.where(actions == 1, force, -force)
    position, velocity, angle, spin = states[rows].T
    stepped = push_cart(position, velocity, angle, spin, cosines, sines, push, half_length)
    states[rows] = np.stack(stepped, axis=-1)


def accelerate_car(
    position: float, velocity: float, slope: float, gravity: float, action: int
) -> tuple[float, float]:
    """Make one step of a MountainCar.

    Args:
        position: where it is.
        velocity: per step.
        slope: cosine of three times the position.
        gravity: change of velocity per step on the steepest slope.
        action: 0, 1 or 2.
    """
    velocity = velocity + ((action - 1.0) * ENGINE_FORCE + slope * -gravity)
    if velocity < -TOP_SPEED:
        velocity = -TOP_SPEED
    elif velocity > TOP_SPEED:
        velocity = TOP_SPEED
    position = position + velocity
    if position > RIGHT_END:
        position = RIGHT_END
    elif position <= LEFT_END:
        position = LEFT_END
        if velocity < 0.0:
            velocity = 0.0
    return position, velocity


def accelerate_cars(
    states: FloatArray,
    slopes: FloatArray,
    parameters: FloatArray,
    rows: Rows,
    actions: NDArray[np.integer[Any]],
) -> None:
    """Make a step of `rows` (B,) of `states` (E, 2), in place.

    Args:
        states: of all cars.
        slopes: cosines of three times the positions of the rows, (B,).
        parameters: (E, 1), gravity.
        rows: which cars.
        actions: (B,).
    """
    for b in range(rows.shape[0]):
        row = rows[b]
        states[row, 0], states[row, 1] = accelerate_car(
            states[row, 0], states[row, 1], slopes[b], parameters[row, 0], actions[b]
        )


def accelerate_cars_at_once(
    states: FloatArray,
    slopes: FloatArray,
    parameters: FloatArray,
    rows: Rows,
    actions: NDArray[np.integer[Any]],
) -> None:
    """Do what `accelerate_cars` does, on arrays."""
    position, velocity = states[rows].T
    (gravity,) = parameters[rows].T
    velocity = velocity + ((actions - 1.0) * ENGINE_FORCE + slopes * -gravity)
    velocity = np.clip(velocity, -TOP_SPEED, TOP_SPEED)
    position = np.clip(position + velocity, LEFT_END, RIGHT_END)
    velocity[(position == LEFT_END) & (velocity < 0.0)] = 0.0  # the wall
    states[rows] = np.stack((position, velocity), axis=-1)


@dataclass(frozen=True)
class Loops:
    """What steps many rows."""

    push_carts: Callable[..., None]
    accelerate_cars: Callable[..., None]


@dataclass(frozen=True)
class CompiledLoops(Loops):
    """And what draws for many of them: functions of `core.compiled`."""

    addresses_of: Callable[..., NDArray[np.int64]]
    draw_integers: Callable[..., None]
    draw_doubles: Callable[..., None]


AT_ONCE = Loops(push_carts_at_once, accelerate_cars_at_once)
"""In NumPy."""


@cache
def compile_loops() -> CompiledLoops | None:
    """Compile the loops, or load them from numba's cache; None: there is no numba."""
    try:
        from numba.extending import register_jitable

        from rmdp_bench.envs.core import compiled
    except ImportError:
        return None
    for function in (push_cart, accelerate_car):
        register_jitable(function)
    table, column = "f8[:,::1]", "f8[::1]"
    rows_and_actions = f"{table}, i8[::1], i8[::1]"
    waves = f"{column}, {column}"
    return CompiledLoops(
        compiled.compile_for(f"void({table}, {waves}, {rows_and_actions})")(push_carts),
        compiled.compile_for(f"void({table}, {column}, {rows_and_actions})")(accelerate_cars),
        compiled.addresses_of,
        compiled.draw_integers,
        compiled.draw_doubles,
    )
