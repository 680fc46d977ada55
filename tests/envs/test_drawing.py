"""Frames: of an environment's own state whatever others do, and with the robot in the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.envs import EnvironmentEntry
from tests.helpers.environments import ONE_PER_WORLD, assert_same

CHEETAH = "rmdp/HalfCheetahVel-n100-v0"
ROBOTS = [
    param
    for param in ONE_PER_WORLD
    if param.values[0].entry_point.endswith(("VelocityEnv", "HalfCheetahHetEnv"))  # type: ignore[union-attr]
]
ROBOT_IDS = [param.id for param in ROBOTS]
SIZE: dict[str, Any] = {"width": 64, "height": 48}


@pytest.fixture(autouse=True)
def _headless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Environments with small frames, closed at the end; skips where the machine cannot draw."""
    made = []

    def make_one(env_id: str, *, seed: int | None = 0, **keywords: Any) -> Any:
        size = SIZE if env_id in ROBOT_IDS else {}
        env = gym.make(env_id, render_mode="rgb_array", **{**size, **keywords})
        made.append(env)
        if seed is not None:
            env.reset(seed=seed)
        try:
            env.render()
        except gym.error.DependencyNotInstalled as error:
            pytest.skip(f"nothing can be drawn here: {error}")
        return env

    yield make_one
    for env in made:
        env.close()


def step(env: Any, n_steps: int = 8) -> Any:
    env.action_space.seed(3)
    for _ in range(n_steps):
        env.step(env.action_space.sample())
    return env.render()


@pytest.mark.parametrize("entry", ONE_PER_WORLD)
def test_frames_are_an_environments_own(entry: EnvironmentEntry, make: Callable[..., Any]) -> None:
    """Whatever others were made, drawn and closed, before and after, in whatever order."""
    alone = make(entry.id)
    before = alone.render()
    expected = step(alone, 2)
    assert before.std() > 5 and (before != expected).any()
    alone.close()

    first = make(entry.id)
    other, last = make(entry.id, seed=7), make(entry.id)
    assert_same(first.render(), before)
    assert_same(step(last, 2), expected)
    other.close()
    assert_same(first.render(), before)
    assert_same(last.render(), expected)
    last.close()
    assert_same(step(first, 2), expected)
    del other, last
    assert_same(first.render(), expected)
    first.close()
    assert_same(first.render(), expected)  # in a new context


@pytest.mark.parametrize("entry", ROBOTS)
def test_rows_and_copies_are_drawn_as_single_environments(
    entry: EnvironmentEntry, make: Callable[..., Any]
) -> None:
    singles = [make(entry.id, seed=seed) for seed in (3, 4)]
    expected = [env.render() for env in singles]
    assert (expected[0] != expected[1]).any()
    envs: Any = gym.make_vec(entry.id, 2, render_mode="rgb_array", **SIZE)
    envs.reset(seed=3)
    assert_same(envs.render(), tuple(expected))
    singles[1].close()
    assert_same(envs.render(), tuple(expected))
    if entry.heterogeneous:
        copies: Any = rmdp_bench.heterogeneous_parallel_env(
            entry.id, [0, 1], render_mode="rgb_array", **SIZE
        )
    else:
        copies = rmdp_bench.parallel_env(entry.id, 2, render_mode="rgb_array", **SIZE)
    copies.reset(seed=3)
    envs.close()
    frame = copies.render()
    assert frame.shape == (48, 128, 3)
    if not entry.heterogeneous:
        assert_same(frame, np.concatenate(expected, axis=1))
    copies.close()
    assert_same(singles[0].render(), expected[0])


def test_frames_of_other_sizes_and_threads(make: Callable[..., Any]) -> None:
    """An environment is made in one thread, drawn in others, and closed in a third."""
    here = make(CHEETAH)
    expected = here.render()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        wide = one.submit(make, CHEETAH, width=800, height=600).result()
        small = other.submit(make, CHEETAH).result()
        frame = other.submit(wide.render).result()
        assert frame.shape == (600, 800, 3) and frame.std() > 5
        for executor in (one, other, one):
            assert_same(executor.submit(here.render).result(), expected)
            assert_same(executor.submit(small.render).result(), expected)
        one.submit(small.close).result()
        assert_same(here.render(), expected)
        assert_same(wide.render(), frame)
        both = one.submit(step, here), other.submit(step, wide)
        here_frame, wide_frame = both[0].result(), both[1].result()
    assert (here_frame != expected).any() and (wide_frame != frame).any()
    assert_same(here.render(), here_frame)


def test_the_callers_graphics_context_stays(make: Callable[..., Any]) -> None:
    """Gymnasium's own renderer never asks for its context again: nobody may take it away."""
    make(CHEETAH)
    egl: Any = pytest.importorskip("mujoco.egl")
    theirs = egl.GLContext(64, 48)
    theirs.make_current()
    address = theirs._context.address
    env = make(CHEETAH)
    assert egl.EGL.eglGetCurrentContext().address == address
    env.render()
    assert egl.EGL.eglGetCurrentContext().address == address
    env.close()
    assert egl.EGL.eglGetCurrentContext().address == address
    theirs.free()


@pytest.mark.parametrize("entry", ROBOTS)
def test_the_camera_follows(entry: EnvironmentEntry, make: Callable[..., Any]) -> None:
    """Far down the track the robot fills as much of the picture; the camera at rest loses it."""

    def colours(camera_name: str | None, position: float) -> Any:
        env = make(entry.id, camera_name=camera_name)
        bare: Any = env.unwrapped
        world = getattr(bare.world, "_robots", bare.world)
        world._qpos[0, 0] += position
        frame = env.render().astype(int)
        return (frame[..., 0] > frame[..., 2] + 15).mean()  # of skin; the ground is grey and green

    near, far = colours("track", 0.0), colours("track", 40.0)
    assert near > 0.005 and far > 0.5 * near
    assert colours(None, 0.0) > 0.0 and colours(None, 40.0) == 0.0


def test_frame_size(make: Callable[..., Any]) -> None:
    assert gym.make(CHEETAH).unwrapped.world._settings["width"] == 480  # type: ignore[attr-defined]
    for width, height in ((480, 480), (1, 1), (1000, 30), (30, 1000)):
        assert make(CHEETAH, width=width, height=height).render().shape == (height, width, 3)


def test_unknown_graphics_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "pencil")
    env = gym.make(CHEETAH, render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(gym.error.DependencyNotInstalled, match="MUJOCO_GL is 'pencil', expected"):
        env.render()
