"""The velocity worlds are Gymnasium's v5 robots, and their own settings and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.envs.robots import ROBOTS, get_robot, load_model
from rmdp_bench.envs.velocity import VelocityWorld
from rmdp_bench.population import TargetPopulation

NAMES = {
    "half_cheetah": ("rmdp/HalfCheetahVel-n100-v0", "HalfCheetah-v5"),
    "ant": ("rmdp/AntVel-n100-v0", "Ant-v5"),
    "ant_2d": ("rmdp/AntVel2d-n100-v0", "Ant-v5"),
    "hopper": ("rmdp/HopperVel-n100-v0", "Hopper-v5"),
    "walker2d": ("rmdp/Walker2dVel-n100-v0", "Walker2d-v5"),
}
BOUNDS = {"half_cheetah": 4.0, "ant": 3.0, "hopper": 2.5, "walker2d": 2.5}


def make_reference(robot: str, **keywords: Any) -> gym.Env[Any, Any]:
    if robot.startswith("ant"):
        ours = {"include_cfrc_ext_in_observation": False, "healthy_z_range": (0.4, 1.0)}
        keywords = {**ours, **keywords}
    return gym.make(NAMES[robot][1], **keywords)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("noise", [{}, {"reset_noise_scale": 0.3}])
def test_it_is_gymnasiums_robot(robot: str, noise: dict[str, Any]) -> None:
    """1,500 steps with resets: observations, velocities and ends, bit for bit."""
    env, reference = gym.make(NAMES[robot][0], **noise), make_reference(robot, **noise)
    assert env.observation_space == reference.observation_space
    assert env.action_space == reference.action_space
    assert env.metadata["render_fps"] == reference.metadata["render_fps"]
    np.testing.assert_array_equal(env.reset(seed=3)[0], reference.reset(seed=3)[0])
    env.action_space.seed(0)
    n_ended = 0
    for step in range(1_500):
        action = env.action_space.sample()
        observation, _, terminated, truncated, info = env.step(action)
        expected, _, *expected_ends, expected_info = reference.step(action)
        assert observation.tobytes() == np.asarray(expected).tobytes(), step
        assert [terminated, truncated] == [bool(end) for end in expected_ends], step
        velocity = [expected_info["x_velocity"], expected_info.get("y_velocity")]
        assert info["outcome"].tolist() == velocity[: len(info["outcome"])], step
        if terminated or truncated:
            n_ended += 1
            np.testing.assert_array_equal(env.reset()[0], reference.reset()[0])
    assert n_ended >= 1


@pytest.mark.parametrize("robot", ["ant", "hopper", "walker2d"])
def test_unhealthy_robots_may_go_on(robot: str) -> None:
    keywords: Any = {"terminate_when_unhealthy": False}
    env, reference = gym.make(NAMES[robot][0], **keywords), make_reference(robot, **keywords)
    env.reset(seed=1)
    reference.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(300):
        action = env.action_space.sample()
        observation, _, terminated, _, _ = env.step(action)
        np.testing.assert_array_equal(observation, reference.step(action)[0])
        assert not terminated


@pytest.mark.parametrize("robot", ["ant", "hopper", "walker2d"])
def test_healthy_ranges_are_gymnasiums(robot: str) -> None:
    """With ranges that end episodes at other times."""
    ranges: dict[str, Any] = {"healthy_z_range": (0.5, 0.8 if robot == "ant" else 1.23)}
    if robot == "walker2d":
        ranges["healthy_angle_range"] = (-0.1, 0.3)
    if robot == "hopper":
        ranges |= {"healthy_angle_range": (-0.1, 0.3), "healthy_state_range": (-2.0, 3.0)}
    env, reference = gym.make(NAMES[robot][0], **ranges), make_reference(robot, **ranges)
    plain = gym.make(NAMES[robot][0])
    for candidate in (env, reference, plain):
        candidate.reset(seed=2)
    env.action_space.seed(2)
    lengths: dict[str, list[int]] = {"env": [], "plain": []}
    for step in range(400):
        action = env.action_space.sample()
        terminated = env.step(action)[2]
        assert terminated == reference.step(action)[2], step
        if terminated:
            lengths["env"].append(step)
            env.reset()
            reference.reset()
        if plain.step(action)[2]:
            lengths["plain"].append(step)
            plain.reset()
    assert lengths["env"] and lengths["env"] != lengths["plain"]


@pytest.mark.parametrize("robot", BOUNDS)
def test_population_is_the_papers(robot: str) -> None:
    for n_agents in (100, 1000):
        env: Any = gym.make(NAMES[robot][0].replace("n100", f"n{n_agents}"), population_seed=5)
        expected = np.random.RandomState(5).uniform(0.0, BOUNDS[robot], n_agents)
        np.testing.assert_array_equal(env.unwrapped.population.targets, expected)
        env.reset(seed=0)
        _, reward, _, _, info = env.step(env.action_space.sample())
        distance = 20 * np.abs(expected - info["outcome"]) / BOUNDS[robot]
        np.testing.assert_allclose(info["agent_rewards"], 0.1 * (1 - np.minimum(1, distance)))
        assert reward == pytest.approx(info["agent_rewards"].mean())


def test_half_cheetah_weighs_what_gymnasiums_does(capfd: pytest.CaptureFixture[str]) -> None:
    """Every number of the compiled model, without MuJoCo's warning."""
    model = load_model(get_robot("half_cheetah"))
    assert capfd.readouterr() == ("", "")
    reference: Any = gym.make("HalfCheetah-v5").unwrapped
    assert mujoco.mj_getTotalmass(model) == pytest.approx(14.0)
    for name in ("body_mass", "body_inertia", "body_invweight0", "dof_invweight0", "dof_M0"):
        np.testing.assert_array_equal(getattr(model, name), getattr(reference.model, name))


@pytest.mark.parametrize("robot", ROBOTS)
def test_number_of_threads_changes_nothing(robot: str) -> None:
    envs = [gym.make_vec(NAMES[robot][0], 5, n_threads=n_threads) for n_threads in (1, 2, 8)]
    for env in envs:
        env.reset(seed=1)
    envs[0].action_space.seed(0)
    for _ in range(50):
        actions = envs[0].action_space.sample()
        observations = [env.step(actions)[0] for env in envs]
        assert len({array.tobytes() for array in observations}) == 1


def test_rows_do_not_disturb_each_other() -> None:
    """Stepping, resetting and observing a few rows leaves the others as they are."""
    world = VelocityWorld("ant", TargetPopulation.uniform(10, 3.0, seed=0), 4)
    generators = [np.random.default_rng(seed) for seed in range(4)]
    rows = np.arange(4)
    world.reset(rows, generators)
    before = world.get_state()
    some = np.array([1, 3])
    world.step(some, np.ones((2, 8)))
    world.reset(np.array([3]), [np.random.default_rng(9)])
    after = world.get_state()
    for name in before:
        assert (before[name][[0, 2]] == after[name][[0, 2]]).all()
        assert (before[name][some] != after[name][some]).any(axis=-1).all()
    np.testing.assert_array_equal(world.observe(rows)[some], world.observe(some))


@pytest.mark.parametrize(
    ("robot", "keywords", "message"),
    [
        ("hopper", {"reset_noise_scale": -0.1}, "reset_noise_scale is -0.1"),
        ("hopper", {"reset_noise_scale": np.inf}, "reset_noise_scale is inf"),
        ("hopper", {"reset_noise_scale": "big"}, "reset_noise_scale is 'big'"),
        ("hopper", {"terminate_when_unhealthy": 1}, "terminate_when_unhealthy is 1"),
        ("hopper", {"healthy_z_range": (1.0, 0.5)}, r"healthy_z_range is \(1.0, 0.5\)"),
        ("hopper", {"healthy_z_range": 0.5}, "healthy_z_range is 0.5"),
        ("hopper", {"healthy_angle_range": (0.0, np.nan)}, "healthy_angle_range is"),
        ("hopper", {"healthy_state_range": (0, 1, 2)}, r"healthy_state_range is \(0, 1, 2\)"),
        ("half_cheetah", {"camera_name": "side"}, r"camera_name is 'side', .* one of \['track'\]"),
        ("ant", {"camera_name": 0}, "camera_name is 0"),
        ("hopper", {"width": 0}, "width is 0, expected an integer from 1 to 8192"),
        ("hopper", {"height": 480.0}, "height is 480.0"),
        ("half_cheetah", {"robot": "snail"}, "robot is 'snail', expected one of half_cheetah, ant"),
        ("half_cheetah", {"n_agents": 0}, "n_agents is 0"),
        ("half_cheetah", {"target_bound": -1.0}, "bound is -1.0"),
    ],
)
def test_bad_settings(robot: str, keywords: dict[str, Any], message: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=message):
            make(NAMES[robot][0], **keywords)


@pytest.mark.parametrize(
    ("robot", "name"),
    [
        ("walker2d", "healthy_state_range"),
        ("ant", "healthy_angle_range"),
        ("half_cheetah", "healthy_z_range"),
        ("half_cheetah", "frame_skip"),
    ],
)
def test_keywords_of_other_robots(robot: str, name: str) -> None:
    message = f"unexpected keyword argument '{name}'; accepted are .*reset_noise_scale"
    keywords: dict[str, Any] = {name: 1}
    for make in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match=message):
            make(NAMES[robot][0], **keywords)


@pytest.mark.parametrize("n_threads", [0, -1, 1.5, True, "two"])
def test_bad_number_of_threads(n_threads: Any) -> None:
    with pytest.raises(ValueError, match="n_threads is"):
        gym.make_vec(NAMES["hopper"][0], 2, n_threads=n_threads)


RENDER = """
import sys
import gymnasium as gym
import rmdp_bench
mode, n_envs, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
env = gym.make_vec(name, n_envs, render_mode=mode) if n_envs else gym.make(name, render_mode=mode)
try:
    env.reset(seed=0)
    frames = [env.render()] if not n_envs else env.render()
except gym.error.DependencyNotInstalled as error:
    print("refused:", error)
else:
    for frame in frames:
        print(frame.shape, frame.dtype, frame.std() > 5)
env.close()
env.close()
"""


def render(mode: str, n_envs: int, name: str = NAMES["hopper"][0]) -> str:
    """In a process of its own, without a display."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONPATH"] = str(Path(rmdp_bench.__file__).parents[1])
    command = [sys.executable, "-c", RENDER, mode, str(n_envs), name]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", [NAMES["hopper"][0], "rmdp/HalfCheetahHet-n500-v0"])
@pytest.mark.parametrize("n_envs", [0, 2])
def test_frames(n_envs: int, name: str) -> None:
    """One per row where the machine has OpenGL, else one clear error."""
    output = render("rgb_array", n_envs, name)
    needs = "refused: render mode 'rgb_array' needs OpenGL (MUJOCO_GL=egl or osmesa, headless)"
    assert output == "(480, 480, 3) uint8 True\n" * max(n_envs, 1) or output.startswith(needs)


def test_human_mode_without_a_display_is_refused() -> None:
    assert render("human", 0).startswith("refused: render mode 'human' needs a display")


def test_render_without_a_mode_gives_nothing() -> None:
    for env in (gym.make(NAMES["hopper"][0]), gym.make_vec(NAMES["hopper"][0], 2)):
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render"):
            assert env.render() is None
