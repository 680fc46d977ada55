"""The robots of the velocity worlds: Gymnasium's v5 models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

import mujoco
import numpy as np

VIEW: Mapping[str, Any] = {"camera_name": "track", "width": 480, "height": 480}
"""Keywords of all robots that say how they are drawn, and their defaults."""


@dataclass(frozen=True)
class Robot:
    """What distinguishes one of Gymnasium's v5 robots.

    Attributes:
        model: file of Gymnasium's assets.
        frame_skip: physics steps per environment step.
        n_hidden: leading positions left out of the observation.
        settings: the robot's own keywords and their defaults.
        normal_velocity_noise: initial velocities are normal, not uniform.
        velocity_clip: bound of the observed velocities.
        total_mass: kg, to which the masses are scaled; None: as in the file.
        follows_torso: the velocity is that of the torso's frame, not of the first position.
        n_directions: 1: the velocity is the forward one; 2: forward and to the left.
        time_step: s, of a physics step; None: as in the file.
    """

    model: str
    frame_skip: int
    n_hidden: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    normal_velocity_noise: bool = False
    velocity_clip: float = np.inf
    total_mass: float | None = None
    follows_torso: bool = False
    n_directions: int = 1
    time_step: float | None = None

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords of its environments that are not those of all, and their defaults."""
        return {**self.settings, **VIEW}


ROBOTS = {
    "half_cheetah": Robot(
        model="half_cheetah.xml",
        frame_skip=5,
        n_hidden=1,
        settings={"reset_noise_scale": 0.1},
        normal_velocity_noise=True,
        total_mass=14.0,
    ),
    "ant": Robot(
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
ROBOTS["ant_2d"] = replace(ROBOTS["ant"], n_directions=2)


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
