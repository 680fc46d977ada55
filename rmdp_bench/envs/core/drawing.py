"""Frames of a MuJoCo simulation.

Gymnasium's renderer makes its graphics context current once, and draws into whichever context is
current later: after another environment was closed, into none, and the frame is black.  Here a
context is current only while its own frame is drawn, or its buffers are freed, and the caller's
context is then current again.  So a frame is that of its own simulation whatever other environments
do, in whatever thread they do it.
"""

from __future__ import annotations

import os
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

BACKENDS = ("glfw", "egl", "osmesa")
"""Values of MUJOCO_GL, Gymnasium's; modules of mujoco that have a GLContext."""
MAX_GEOMS = 1000

_drawn = False
"""Whether this process has had a graphics context."""
_forked = False
"""Whether the process was forked from one that had: the driver's threads are not there."""


def _note_fork() -> None:
    global _forked
    egl: Any = sys.modules.get("mujoco.egl")
    _forked = _forked or _drawn or (egl is not None and egl.EGL_DISPLAY is not None)
    if egl is not None:
        egl.EGL_DISPLAY = None  # MuJoCo would end it at exit, and wait for the driver's threads


os.register_at_fork(after_in_child=_note_fork)


def check_fork() -> None:
    """Refuse to draw where it would never end.

    Raises:
        RuntimeError: this process was forked from one that has drawn frames.
    """
    if _forked:  # a driver waits for its threads for ever
        raise RuntimeError(
            "frames were drawn before this process was forked, and a forked process cannot draw: "
            "start processes with multiprocessing's 'spawn' or 'forkserver'"
        )


class Renderer(Protocol):
    """Draws one simulation.

    Attributes:
        data: its state, to be written before each frame.
    """

    data: Any

    def render(self) -> Any:
        """Draw `data`; give the frame (height, width, 3) uint8, or None where a window shows it."""

    def close(self) -> None:
        """Free the context; may be called more than once."""


def make_renderer(
    model: Any, mode: str, *, width: int, height: int, camera_name: str | None
) -> Renderer:
    """Make what draws simulations of a model in the mode "rgb_array" or "human".

    Args:
        model: the MjModel; its offscreen buffer grows if frames are larger.
        mode: "human" opens a window of Gymnasium's.
        width: of a frame, pixels.
        height: of a frame, pixels.
        camera_name: of the model; None: MuJoCo's free camera, which does not move.

    Raises:
        Exception: of the libraries, of many kinds: there is no OpenGL, or no monitor for "human".
    """
    global _drawn
    camera = mujoco.MjvCamera()
    if camera_name is None:
        mujoco.mjv_defaultFreeCamera(model, camera)
    else:
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = model.camera(camera_name).id
    make = _Window if mode == "human" else _Offscreen
    renderer = make(model, camera, width, height)
    _drawn = True
    return renderer


class _Offscreen:
    """Frames as arrays."""

    def __init__(self, model: Any, camera: Any, width: int, height: int) -> None:
        size = model.vis.global_
        size.offwidth, size.offheight = max(size.offwidth, width), max(size.offheight, height)
        self.data = mujoco.MjData(model)
        self._model, self._camera = model, camera
        self._scene = mujoco.MjvScene(model, MAX_GEOMS)
        self._options = mujoco.MjvOption()
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._context = _make_context(width, height)
        with self._context.as_current():
            self._buffers = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._buffers)
        # Left to the garbage collector, they would be freed in any order, and the buffers in
        # whichever context is current then.
        self.close = weakref.finalize(self, _free, self._context, self._buffers)

    def render(self) -> NDArray[np.uint8]:
        everything = mujoco.mjtCatBit.mjCAT_ALL
        scene = self._model, self.data, self._options, None, self._camera, everything, self._scene
        mujoco.mjv_updateScene(*scene)
        frame = np.empty((self._viewport.height, self._viewport.width, 3), dtype=np.uint8)
        with self._context.as_current():
            mujoco.mjr_render(self._viewport, self._scene, self._buffers)
            mujoco.mjr_readPixels(frame, None, self._viewport, self._buffers)
        return np.ascontiguousarray(frame[::-1])  # the first row of OpenGL is the lowest


def _make_context(width: int, height: int) -> Any:
    """A context of MUJOCO_GL; where it is not set, of GLFW, or of EGL on Linux without a display.

    Raises:
        ValueError: MUJOCO_GL is something else.
    """
    with_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    headless = sys.platform == "linux" and not with_display
    backend = os.environ.get("MUJOCO_GL") or ("egl" if headless else "glfw")
    if backend not in BACKENDS:
        raise ValueError(f"MUJOCO_GL is {backend!r}, expected one of {', '.join(BACKENDS)}")
    make = import_module(f"mujoco.{backend}").GLContext
    if backend != "egl":
        return make(width, height)
    # The constructor lets go of the context that is current in its thread: not in the caller's.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(make, width, height).result()


def _free(context: Any, buffers: Any) -> None:
    if not _forked:
        with context.as_current():
            buffers.free()
        context.free()


class _Window:
    """A window of Gymnasium's."""

    def __init__(self, model: Any, camera: Any, width: int, height: int) -> None:
        self._glfw = import_module("glfw")
        if not self._glfw.init() or not self._glfw.get_primary_monitor():
            raise RuntimeError("no monitor was found")  # Gymnasium's window would end the process
        rendering = import_module("gymnasium.envs.mujoco.mujoco_rendering")
        self.data = mujoco.MjData(model)
        self._current = self._glfw.get_current_context()
        self._viewer: Any = rendering.WindowViewer(model, self.data, width, height)
        self._viewer.cam = camera
        self._glfw.make_context_current(self._current)

    def render(self) -> None:
        current = self._glfw.get_current_context()
        self._viewer.make_context_current()
        self._viewer.render()
        self._glfw.make_context_current(current)

    def close(self) -> None:
        if self._viewer is not None:
            self._viewer.make_context_current()
            self._viewer.con.free()
            self._viewer.free()  # its close() ends the windows of all others
            self._viewer = None
