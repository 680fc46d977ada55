"""The robots of the velocity worlds: Gymnasium's v5 models, and how to draw them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from typing import Any

import mujoco
import numpy as np

FRAME_SIZE = 480


@dataclass(frozen=True)
class Robot:
    """What distinguishes one of Gymnasium's v5 robots.

    Attributes:
        module: of gymnasium.envs.mujoco, for the camera.
        model: file of Gymnasium's assets.
        frame_skip: physics steps per environment step.
        n_hidden: leading positions left out of the observation.
        settings: the robot's own keywords and their defaults.
        normal_velocity_noise: initial velocities are normal, not uniform.
        velocity_clip: bound of the observed velocities.
        total_mass: kg, to which the masses are scaled; None: as in the file.
        follows_torso: the velocity is that of the torso's frame, not of the first position.
        time_step: s, of a physics step; None: as in the file.
    """

    module: str
    model: str
    frame_skip: int
    n_hidden: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    normal_velocity_noise: bool = False
    velocity_clip: float = np.inf
    total_mass: float | None = None
    follows_torso: bool = False
    time_step: float | None = None


ROBOTS = {
    "half_cheetah": Robot(
        module="half_cheetah_v5",
        model="half_cheetah.xml",
        frame_skip=5,
        n_hidden=1,
        settings={"reset_noise_scale": 0.1},
        normal_velocity_noise=True,
        total_mass=14.0,
    ),
    "ant": Robot(
        module="ant_v5",
        model="ant.xml",
        frame_skip=5,
        n_hidden=2,
        settings={
            "reset_noise_scale": 0.1,
            "terminate_when_unhealthy": True,
            "healthy_z_range": (0.4, 1.0),
        },
        normal_velocity_noise=True,
        follows_torso=True,
    ),
    "hopper": Robot(
        module="hopper_v5",
        model="hopper.xml",
        frame_skip=4,
        n_hidden=1,
        settings={
            "reset_noise_scale": 0.005,
            "terminate_when_unhealthy": True,
            "healthy_z_range": (0.7, np.inf),
            "healthy_angle_range": (-0.2, 0.2),
            "healthy_state_range": (-100.0, 100.0),
        },
        velocity_clip=10.0,
    ),
    "walker2d": Robot(
        module="walker2d_v5",
        model="walker2d_v5.xml",
        frame_skip=4,
        n_hidden=1,
        settings={
            "reset_noise_scale": 0.005,
            "terminate_when_unhealthy": True,
            "healthy_z_range": (0.8, 2.0),
            "healthy_angle_range": (-1.0, 1.0),
        },
        velocity_clip=10.0,
    ),
}


def get_robot(name: str) -> Robot:
    """Give a robot of `ROBOTS`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ROBOTS:
        raise ValueError(f"robot is {name!r}, expected one of {', '.join(ROBOTS)}")
    return ROBOTS[name]


def load_model(robot: Robot) -> Any:
    """Compile Gymnasium's model of a robot.

    half_cheetah.xml sets the total mass by an attribute that MuJoCo has deprecated: it is taken
    out of the text, and the mass is set on the compiled model.
    """
    text = files("gymnasium").joinpath("envs", "mujoco", "assets", robot.model).read_text()
    model = mujoco.MjModel.from_xml_string(re.sub(r'\ssettotalmass="[^"]*"', "", text))
    if robot.total_mass is not None:
        mujoco.mj_setTotalmass(model, robot.total_mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    if robot.time_step is not None:
        model.opt.timestep = robot.time_step
    return model


@contextmanager
def headless() -> Iterator[None]:
    """Without a display, let Gymnasium's renderer take EGL; MUJOCO_GL decides where it is set."""
    with_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if os.environ.get("MUJOCO_GL") or with_display or sys.platform != "linux":
        yield
        return
    os.environ["MUJOCO_GL"] = "egl"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]


def make_renderer(robot: Robot, model: Any, mode: str) -> Any:
    """Give Gymnasium's renderer on a simulation of its own, to be overwritten before rendering.

    Raises:
        RuntimeError: mode "human", and there is no monitor.
    """
    if mode == "human":  # without a monitor, Gymnasium's window ends the process
        glfw = import_module("glfw")
        if not glfw.init() or not glfw.get_primary_monitor():
            raise RuntimeError("no monitor was found")
    rendering = import_module("gymnasium.envs.mujoco.mujoco_rendering")
    camera = import_module(f"gymnasium.envs.mujoco.{robot.module}").DEFAULT_CAMERA_CONFIG
    data = mujoco.MjData(model)
    return rendering.MujocoRenderer(model, data, camera, FRAME_SIZE, FRAME_SIZE)
