"""Velocity: a robot runs, and every agent wants another speed (Ivanov & Ben-Porat 2024, section 4).

Description:
    Gymnasium's v5 robot with its model, reset noise and frame skip; states and observations are
    those of `gym.make("<robot>-v5")` bit for bit.
    HalfCheetahVel: HalfCheetah; of half_cheetah.xml the deprecated attribute settotalmass is
    removed and the mass is set on the compiled model instead, to the same effect.
    AntVel, AntVel2d: Ant.
    HopperVel: Hopper.
    Walker2dVel: Walker2d.

Population:
    The id sets n_agents to 100 or 1000; the keyword changes it. Agents of the same seed are the
    same, however many there are. Agents of one's own are any population of outcomes of this shape,
    such as `TargetPopulation(targets, width)`.
    HalfCheetahVel: `TargetPopulation.uniform(n_agents, b)`: agent i wants the velocity
    v_i ~ U[0, b], with b = 4 m/s; outcomes are (1,).
    AntVel: `TargetPopulation.uniform(n_agents, b)`: agent i wants the velocity v_i ~ U[0, b], with
    b = 3 m/s; outcomes are (1,).
    HopperVel, Walker2dVel: `TargetPopulation.uniform(n_agents, b)`: agent i wants the velocity
    v_i ~ U[0, b], with b = 2.5 m/s; outcomes are (1,).
    AntVel2d: `TargetPopulation.in_disc(n_agents, b)`: agent i wants the velocity v_i, in any
    direction, of at most b = 3 m/s; outcomes are (2,).

Observation:
    float64, joint positions without the horizontal ones, then joint velocities. The target is not
    in it.
    HalfCheetahVel: Shape (17,).
    AntVel, AntVel2d: Shape (27,), without contact forces, as in the paper.
    HopperVel: Shape (11,), velocities clipped to [-10, 10].
    Walker2dVel: Shape (17,), velocities clipped to [-10, 10].

Action:
    float32 in [-1, 1], joint torques before gearing.
    HalfCheetahVel, Walker2dVel: Shape (6,).
    AntVel, AntVel2d: Shape (8,).
    HopperVel: Shape (3,).

Reward:
    `info["outcome"]` is the velocity v of the step, m/s: displacement over the time of the step.
    1000 perfect steps are 100 percent; the scalar reward is the mean over agents. No control cost,
    no healthy reward, no contact cost.
    HalfCheetahVel, HopperVel, Walker2dVel: It is (1,), forward. Agent i receives
    0.1 (1 - min(1, 20 |v_i - v| / b)).
    AntVel: It is (1,), forward, of the torso's frame. Agent i receives
    0.1 (1 - min(1, 20 |v_i - v| / b)).
    AntVel2d: It is (2,), forward and to the left, of the torso's frame. Agent i receives
    0.1 (1 - min(1, 2 |v_i - v| / b)).

Episode end:
    Truncated after 1000 steps.
    HalfCheetahVel: Never terminates.
    AntVel, AntVel2d: Terminates when the robot is unhealthy, by Gymnasium's rules and ranges, but
    that of the height is [0.4, 1.0], as in the paper's code.
    HopperVel, Walker2dVel: Terminates when the robot is unhealthy, by Gymnasium's rules and ranges.

Arguments:
    population: agents of one's own; None: those above. population_seed and n_agents are not given
    then. Observations and resets do not depend on it.
    population_seed: seed of the targets (0: the paper's code's).
    n_agents: number of agents n >= 1. With many, a step of the single form takes as long as n
    rewards; the vector form with agent_rewards=False hardly depends on n.
    render_mode: "rgb_array", "human" (single form only) or None.
    camera_name: of the model's cameras; "track", which follows the robot. None: one at rest.
    width, height: of a frame, pixels; 480.
    reset_noise_scale: >= 0; 0.1 (HalfCheetah, Ant), 0.005 (Hopper, Walker2d).
    terminate_when_unhealthy: bool, True; not HalfCheetah.
    healthy_z_range: (low, high), m; not HalfCheetah.
    healthy_angle_range: (low, high), rad; Hopper, Walker2d.
    healthy_state_range: (low, high), of all other state variables; Hopper.
    n_threads: threads of the vector form; default: the available cores, at most num_envs. Results
    do not depend on it.
    agent_rewards: False leaves `info["agent_rewards"]` out; vector form, True.
    robot, target_bound: set by the id.

Version history:
    v0: first version.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from mujoco.batch import Batch
from numpy.typing import NDArray

from rmdp_bench.cores import usable_cores
from rmdp_bench.envs.core.base import RepresentedEnv, RepresentedVectorEnv, RepresentedWorld
from rmdp_bench.envs.core.checks import (
    ALONE,
    Array,
    Rows,
    check_integer,
    check_keywords,
    check_n_envs,
    check_range,
    choose_population,
)
from rmdp_bench.envs.core.drawing import Renderer, check_fork, make_renderer
from rmdp_bench.envs.core.world import Alone, mean_over_agents
from rmdp_bench.envs.robots import VIEW, Robot, get_robot, load_model
from rmdp_bench.messages import shown
from rmdp_bench.population import Population, TargetPopulation

RENDER_MODES = ["human", "rgb_array"]
LARGEST_FRAME = 8192
"""Pixels of a side."""


class _LostInFork:
    """What a forked process has in the place of simulations whose threads stayed in its parent."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(
            "these simulations run on threads of the process that made them, and this one was "
            "forked from it: make the environment in the child, or with n_threads=1, or start the "
            "child with multiprocessing's 'spawn' and send it the environment"
        )


def _lose_threads() -> None:
    """In a forked process: raise an error where there would be a wait for ever."""
    for world in _with_threads:
        # To free them would be to wait for their threads to end, also when the process ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(world._batch))
        world._batch = _LostInFork()


os.register_at_fork(after_in_child=_lose_threads)


class VelocityWorld(RepresentedWorld):
    """E simulations of one robot on `mujoco.batch.Batch`: one C++ call steps them all."""

    def __init__(
        self,
        robot: str | Robot,
        population: Population,
        n_envs: int,
        *,
        n_threads: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the simulations.

        Args:
            robot: one, or a name of `ROBOTS`.
            population: agents whose outcome is a velocity (1,).
            n_envs: E.
            n_threads: None: the available cores, at most E.
            settings: values of `Robot.keywords` that differ from their defaults.

        Raises:
            ValueError: a value or a name is wrong.
        """
        self._robot = get_robot(robot) if isinstance(robot, str) else robot
        self._settings = _check_settings(self._robot, settings or {})
        self._can_fall = bool(self._settings.get("terminate_when_unhealthy", False))
        self.population = population
        self.n_envs = check_n_envs(n_envs)
        self._model = load_model(self._robot)
        _check_camera(self._settings["camera_name"], self._model)
        self._batch: Any = Batch(self._model, self.n_envs, _check_n_threads(n_threads, self.n_envs))
        if self._batch.nthread > 1:
            _with_threads.add(self)
        self._qpos = self._batch.bind("qpos")  # (E, nq), live
        self._seen_positions = self._qpos[:, self._robot.n_hidden :]
        self._qvel = self._batch.bind("qvel")  # (E, nv), live
        self._ctrl = self._batch.bind("ctrl")  # (E, nu), live
        torso = 1
        follows_torso = self._robot.follows_torso
        source = self._batch.bind("xpos")[:, torso] if follows_torso else self._qpos
        n_directions = self._robot.n_directions
        self._position = source[:, :n_directions]  # (E, m), live
        self._previous_position = np.zeros((self.n_envs, n_directions))
        self._step_seconds = self._model.opt.timestep * self._robot.frame_skip
        self._initial_qpos = self._model.qpos0.copy()
        self._n_positions = self._model.nq - self._robot.n_hidden
        self._renderers: dict[str, Renderer] = {}

        size = self._n_positions + self._model.nv
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        low, high = self._model.actuator_ctrlrange.astype(np.float32).T
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.outcome_space = gym.spaces.Box(-np.inf, np.inf, (n_directions,), np.float64)
        self.metadata = {"render_modes": RENDER_MODES, "render_fps": round(1 / self._step_seconds)}

    @property
    def batch(self) -> Any:
        """The simulations, for a world that changes their models."""
        return self._batch

    def reset(self, rows: Rows, generators: Sequence[np.random.Generator]) -> None:
        """Draw the initial state as Gymnasium does, positions first."""
        scale = self._settings["reset_noise_scale"]
        n_positions, n_velocities = self._model.nq, self._model.nv
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        for row, generator in zip(rows, generators, strict=True):
            noise = generator.uniform(low=-scale, high=scale, size=n_positions)
            self._qpos[row] = self._initial_qpos + noise
            if self._robot.normal_velocity_noise:
                self._qvel[row] = scale * generator.standard_normal(n_velocities)
            else:
                self._qvel[row] = generator.uniform(low=-scale, high=scale, size=n_velocities)
        self._batch.forward(rows)
        self._previous_position[rows] = self._position[rows]

    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Apply the torques for `frame_skip` physics steps; the outcome is the velocity."""
        if len(rows) == self.n_envs:
            self._ctrl[:] = actions
            self._batch.step(nstep=self._robot.frame_skip)
            position = self._position.copy()
            velocity = position - self._previous_position
            velocity /= self._step_seconds
            self._previous_position = position
            return velocity, self._terminated(self._qpos, self._qvel)
        self._ctrl[rows] = actions
        self._batch.step(rows, nstep=self._robot.frame_skip)
        position = self._position[rows]
        velocity = (position - self._previous_position[rows]) / self._step_seconds
        self._previous_position[rows] = position
        return velocity, self._terminated(self._qpos[rows], self._qvel[rows])

    def advance_alone(self, action: Any) -> Alone:
        """Step the only row: what `advance` does, in fewer calls."""
        if self._robot.n_directions > 1:
            return super().advance_alone(action)
        self.count(ALONE)
        self._ctrl[0] = action
        self._batch.step(nstep=self._robot.frame_skip)
        position = self._position[0, 0]
        outcomes = np.empty((1, 1))
        outcomes[0, 0] = (position - self._previous_position[0, 0]) / self._step_seconds
        self._previous_position[0, 0] = position
        agent_rewards = self.rewards_of(outcomes)[0]
        reward = float(mean_over_agents(agent_rewards))
        terminated = self._can_fall and bool(self._terminated(self._qpos, self._qvel)[0])
        info = {"agent_rewards": agent_rewards, "outcome": outcomes[0]}
        return self.observe(ALONE)[0], reward, terminated, info

    def _terminated(self, qpos: Array, qvel: Array) -> NDArray[np.bool_]:
        """Whether the robot is unhealthy: Gymnasium's rules."""
        settings = self._settings
        if not self._can_fall:
            return np.zeros(len(qpos), dtype=np.bool_)
        low, high = settings["healthy_z_range"]
        if self._robot.follows_torso:  # Ant: three coordinates, closed range
            healthy = (low <= qpos[:, 2]) & (qpos[:, 2] <= high)
            healthy &= np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1)
            return np.asarray(~healthy)
        healthy = (low < qpos[:, 1]) & (qpos[:, 1] < high)
        low, high = settings["healthy_angle_range"]
        healthy &= (low < qpos[:, 2]) & (qpos[:, 2] < high)
        if "healthy_state_range" in settings:
            low, high = settings["healthy_state_range"]
            for part in (qpos[:, 2:], qvel):
                healthy &= ((low < part) & (part < high)).all(axis=1)
        return np.asarray(~healthy)

    def observe(self, rows: Rows) -> NDArray[np.float64]:
        """Positions without the hidden ones, and (clipped) velocities."""
        n_positions, clip = self._n_positions, self._robot.velocity_clip
        if len(rows) == self.n_envs:
            positions, qvel = self._seen_positions, self._qvel
        else:
            positions, qvel = self._seen_positions[rows], self._qvel[rows]
        observations = np.empty((len(rows), n_positions + qvel.shape[1]))
        observations[:, :n_positions] = positions
        if clip < np.inf:
            np.clip(qvel, -clip, clip, out=observations[:, n_positions:])
        else:
            observations[:, n_positions:] = qvel
        return observations

    def get_state(self) -> dict[str, Array]:
        """MuJoCo's integration state, and the position that the next velocity starts from."""
        return {name: array.copy() for name, array in self._live_state().items()}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `get_state` gave.

        Raises:
            ValueError: an array is missing, unknown, or has another shape.
        """
        own = self._live_state()
        shapes = {name: np.shape(array) for name, array in state.items()}
        expected = {name: array.shape for name, array in own.items()}
        if shapes != expected:
            raise ValueError(f"state has the arrays {shapes}, expected {expected}")
        for name, array in own.items():
            array[:] = state[name]

    def _live_state(self) -> dict[str, Array]:
        """Of `get_state`; a position on a line is (E,)."""
        on_line = self._robot.n_directions == 1
        position = self._previous_position[:, 0] if on_line else self._previous_position
        return {"physics": self._batch.state, "previous_position": position}

    def render(self, row: int, mode: str) -> Any:
        """Draw one row.

        Raises:
            gymnasium.error.DependencyNotInstalled: there is no OpenGL, or no display for "human".
            RuntimeError: the process was forked from one that has drawn frames, or that steps these
                simulations on threads.
        """
        check_fork()
        get_data = self._batch.get_data  # where it is lost, this says why, and not that OpenGL is
        try:
            if mode not in self._renderers:
                view = {name: self._settings[name] for name in VIEW}
                self._renderers[mode] = make_renderer(self._model, mode, **view)
            renderer = self._renderers[mode]
            get_data(row, renderer.data)
            mujoco.mj_forward(self._model, renderer.data)
            return renderer.render()
        except Exception as error:
            need = "a display" if mode == "human" else "OpenGL (MUJOCO_GL=egl or osmesa, headless)"
            raise gym.error.DependencyNotInstalled(
                f"render mode {mode!r} needs {need}; it failed with: {error}"
            ) from error

    def close(self) -> None:
        """Close the windows and free the graphics contexts."""
        while self._renderers:
            self._renderers.popitem()[1].close()


_with_threads: weakref.WeakSet[VelocityWorld] = weakref.WeakSet()
"""Worlds that step on several threads."""


class VelocityEnv(RepresentedEnv):
    """The single form; see the module's docstring."""

    metadata = {"render_modes": RENDER_MODES}

    def __init__(
        self,
        robot: str,
        default_n_agents: int,
        target_bound: float,
        *,
        population: Population | None = None,
        population_seed: int | None = None,
        n_agents: int | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        """Build one simulation; arguments are in the module's docstring.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is wrong.
        """
        check_keywords(settings, (*_KEYWORDS, *get_robot(robot).keywords))
        make = _draw_targets(
            robot, default_n_agents if n_agents is None else n_agents, target_bound
        )
        size = get_robot(robot).n_directions
        agents = choose_population(population, population_seed, size, make, n_agents=n_agents)
        world = VelocityWorld(robot, agents, 1, settings=settings)
        super().__init__(world, render_mode=render_mode)


class VelocityVectorEnv(RepresentedVectorEnv):
    """The vector form; see the module's docstring."""

    metadata = {"render_modes": RENDER_MODES[1:], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        robot: str,
        default_n_agents: int,
        target_bound: float,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        population: Population | None = None,
        population_seed: int | None = None,
        n_agents: int | None = None,
        render_mode: str | None = None,
        n_threads: int | None = None,
        agent_rewards: bool = True,
        **settings: Any,
    ) -> None:
        """Build num_envs simulations; arguments are in the module's docstring.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is wrong.
        """
        own = ("n_threads", "agent_rewards", "autoreset_mode", "max_episode_steps")
        check_keywords(settings, (*_KEYWORDS, *own, *get_robot(robot).keywords))
        make = _draw_targets(
            robot, default_n_agents if n_agents is None else n_agents, target_bound
        )
        size = get_robot(robot).n_directions
        agents = choose_population(population, population_seed, size, make, n_agents=n_agents)
        world = VelocityWorld(robot, agents, num_envs, n_threads=n_threads, settings=settings)
        super().__init__(
            world,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            agent_rewards=agent_rewards,
        )


_KEYWORDS = ("population", "population_seed", "render_mode", "n_agents")


def _draw_targets(robot: str, n_agents: int, bound: float) -> Callable[[int], TargetPopulation]:
    """Give the function of population_seed that draws a robot's agents."""
    planar = get_robot(robot).n_directions == 2
    draw = TargetPopulation.in_disc if planar else TargetPopulation.uniform
    return lambda population_seed: draw(n_agents, bound, seed=population_seed)


def _check_settings(robot: Robot, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The robot's keywords with the given values in place of the defaults."""
    check_keywords(settings, tuple(robot.keywords))
    checked = {**robot.keywords, **settings}
    noise = checked["reset_noise_scale"]
    if not isinstance(noise, int | float | np.number) or not 0.0 <= noise < np.inf:
        raise ValueError(f"reset_noise_scale is {shown(noise)}, expected a finite number >= 0")
    if not isinstance(checked.get("terminate_when_unhealthy", True), bool):
        value = checked["terminate_when_unhealthy"]
        raise ValueError(f"terminate_when_unhealthy is {shown(value)}, expected True or False")
    for name, value in checked.items():
        if name.endswith("_range"):
            checked[name] = check_range(name, value)
    for name in ("width", "height"):
        checked[name] = check_integer(name, checked[name], 1, LARGEST_FRAME)
    return checked


def _check_camera(camera_name: Any, model: Any) -> None:
    names = [model.camera(number).name for number in range(model.ncam)]
    if camera_name is not None and camera_name not in names:
        raise ValueError(f"camera_name is {camera_name!r}, expected None or one of {names}")


def _check_n_threads(n_threads: int | None, n_envs: int) -> int:
    """The number of threads; by default the cores this process may use, at most one per row."""
    if n_threads is None:
        return min(usable_cores(), n_envs)
    if not isinstance(n_threads, int) or isinstance(n_threads, bool) or n_threads < 1:
        raise ValueError(f"n_threads is {shown(n_threads)}, expected an integer >= 1")
    return n_threads
