"""HalfCheetah with 500 agents of different masses and damping (Agarwal et al. 2021, PerSim).

Description:
    Gymnasium's HalfCheetah-v5 with the masses of all bodies multiplied by one number and the
    damping of all joints by another; states are those of `gym.make("HalfCheetah-v5")` with these
    changes (v1: and with 25 physics steps of 0.002 s to an action instead of 5 of 0.01 s), bit for
    bit. Moments of inertia stay as they are, as in the paper's code. The constants
    that MuJoCo derives from masses are computed again (`mj_setConst`); the paper's code does not.

Population:
    `DynamicsPopulation` of 500 agents, 100 unseen and 20 extrapolating ones: the scale of the
    masses and that of the damping, both in [0.2, 1.8]. The test agents are (0.3, 1.7), (1.7, 0.3),
    (0.3, 0.3), (1.7, 1.7) and (1, 1).

Observation:
    float64 (18,): the forward velocity of the step that led here, m/s (0 at reset); then
    HalfCheetah-v5's 8 positions and 9 velocities. No parameter is in it.

Action:
    float32 (6,) in [-1, 1], joint torques before gearing.

Reward:
    Forward velocity minus 0.1 times the squared norm of the action. As a function of transitions:
    `get_environment(id).reward_function`.

Episode end:
    Truncated after 1000 steps. Terminates, with a reward of 0, only where the simulation failed:
    the speed, forward or backward, is 25 m/s or more, or MuJoCo put the robot back to the start
    because it diverged, for which a velocity of 25 m/s stands. `rules.half_cheetah_terminated` says
    why; HalfCheetah-v5 and the paper's code go on, and the jump to the start counts as speed.

Arguments:
    population_seed: seed of the agents other than the test agents (0).
    parameters: (n, p) in the range, agents to put in the place of all others; agent i is row i.
    render_mode: "rgb_array", "human" (single form only) or None.
    camera_name: of the model's cameras; "track", which follows the robot. None: one at rest.
    width, height: of a frame, pixels; 480.
    reset_noise_scale: >= 0; 0.1, as in HalfCheetah-v5. The paper's code starts all episodes almost
    alike: 0.001.
    n_threads: threads of the vector form; default: the available cores, at most num_envs. Results
    do not depend on it.
    time_step: set by the id.

Version history:
    v0: first version, with HalfCheetah-v5's physics steps of 0.01 s. They are too long for light
    robots, which win energy from the error of the integration: where a planner drives agents 2 and
    600, a fifth of what their motors give (`scripts.compare_time_steps`).
    v1: physics steps of 0.002 s; agents, actions and rewards are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.envs import rules
from rmdp_bench.envs.core.checks import Array, Rows, check_keywords
from rmdp_bench.envs.core.heterogeneous import (
    HeterogeneousEnv,
    HeterogeneousVectorEnv,
    HeterogeneousWorld,
    choose_population,
)
from rmdp_bench.envs.core.world import State
from rmdp_bench.envs.robots import Robot, get_robot
from rmdp_bench.envs.velocity import RENDER_MODES, VelocityWorld
from rmdp_bench.population import DynamicsPopulation, LinearPopulation

ROBOT = "half_cheetah"
RESETS = slice(mujoco.mjtWarning.mjWARN_BADQPOS.value, mujoco.mjtWarning.mjWARN_BADQACC.value + 1)
"""MuJoCo's warnings that it has put a simulation back to the start."""


DECISION_SECONDS = 0.05
"""From one action to the next."""
TIME_STEP = 0.01
"""HalfCheetah-v5's, s."""


def robot_with(time_step: float) -> Robot:
    """HalfCheetah-v5's robot, simulated in steps of another length.

    Args:
        time_step: s; divides the time between actions.

    Raises:
        ValueError: it does not.
    """
    frame_skip = round(DECISION_SECONDS / time_step) if time_step > 0.0 else 0
    if frame_skip < 1 or abs(frame_skip * time_step - DECISION_SECONDS) > 1e-9:
        raise ValueError(
            f"time_step is {time_step!r}, expected {DECISION_SECONDS} s divided by an integer"
        )
    return replace(get_robot("half_cheetah"), time_step=time_step, frame_skip=frame_skip)


class HalfCheetahWorld(HeterogeneousWorld):
    """E robots, each with the masses and the damping of the agent that lives in it."""

    def __init__(
        self,
        population: DynamicsPopulation,
        n_envs: int = 1,
        *,
        time_step: float = TIME_STEP,
        n_threads: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the simulations, in which agent 0 lives.

        Args:
            population: agents with two parameters, the scales of masses and of damping.
            n_envs: E.
            time_step: s, of a physics step; divides 0.05.
            n_threads: None: the available cores, at most E.
            settings: values of `Robot.keywords` that differ from their defaults.

        Raises:
            ValueError: a value or a name is wrong.
        """
        self.population = population
        # The robot of the velocity worlds, whose outcome is the velocity that is rewarded here.
        # Its own agents are not asked.
        nobody = LinearPopulation.tiles(1)
        self._robots = VelocityWorld(
            robot_with(time_step), nobody, n_envs, n_threads=n_threads, settings=settings
        )
        self.n_envs = self._robots.n_envs
        self._masses = self._robots.batch.expand("body_mass")  # (E, nbody), live
        self._damping = self._robots.batch.expand("dof_damping")  # (E, nv), live
        self._model_masses, self._model_damping = self._masses[0].copy(), self._damping[0].copy()
        self._n_failures = self._robots.batch.warning[:, RESETS, 1]  # (E, 3), live
        self._velocities = np.zeros((self.n_envs, 1))
        self.agents = np.zeros(self.n_envs, dtype=np.int64)
        self.set_agents(np.arange(self.n_envs), self.agents.copy())

        size = self.observe(np.arange(self.n_envs)).shape[1]
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = self._robots.action_space
        self.metadata = self._robots.metadata

    def set_agents(self, rows: Rows, agents: Rows) -> None:
        """Let `agents` (B,) live in `rows` (B,)."""
        self.agents[rows] = agents
        mass_scale, damping_scale = self.population.parameters[agents].T
        self._masses[rows] = self._model_masses * mass_scale[:, np.newaxis]
        self._damping[rows] = self._model_damping * damping_scale[:, np.newaxis]
        # The solver works with constants that depend on the masses. Without this it would go on
        # with those of the old masses, and nothing would say so.
        self._robots.batch.set_const(rows)

    def reset(self, rows: Rows, generators: Sequence[np.random.Generator]) -> None:
        """Draw the initial state as Gymnasium does, positions first."""
        self._robots.reset(rows, generators)
        self._velocities[rows] = 0.0

    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Apply the torques for `frame_skip` physics steps."""
        self._n_failures[rows] = 0
        velocities, _ = self._robots.step(rows, actions)
        velocities[self._n_failures[rows].any(axis=1)] = rules.SPEED_LIMIT
        self._velocities[rows] = velocities
        transitions = velocities, actions, velocities
        return rules.half_cheetah_reward(*transitions), rules.half_cheetah_terminated(*transitions)

    def observe(self, rows: Rows) -> NDArray[np.float64]:
        """The velocity, and what HalfCheetah-v5 observes, (B, 18)."""
        return np.concatenate((self._velocities[rows], self._robots.observe(rows)), axis=1)

    def get_state(self) -> State:
        """Copy "agent" (E,), "velocity" (E, 1), and the state of the robots."""
        own = {"agent": self.agents.copy(), "velocity": self._velocities.copy()}
        return {**own, **self._robots.get_state()}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `get_state` gave.

        Raises:
            ValueError: an array is missing, unknown or has another shape, or there is no such
                agent.
        """
        self._set_agents_of_state(state, self.get_state())
        self._velocities[:] = state["velocity"]
        self._robots.set_state({name: state[name] for name in self._robots.get_state()})

    def render(self, row: int, mode: str) -> Any:
        """Draw one row, as `VelocityWorld.render`."""
        return self._robots.render(row, mode)

    def close(self) -> None:
        """Close the windows and free the graphics contexts."""
        self._robots.close()


_KEYWORDS = ("population_seed", "render_mode", "parameters", *get_robot(ROBOT).keywords)


class HalfCheetahHetEnv(HeterogeneousEnv):
    """The single form; see the module."""

    metadata = {"render_modes": RENDER_MODES}

    def __init__(
        self,
        time_step: float = TIME_STEP,
        *,
        population_seed: int = 0,
        parameters: ArrayLike | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        """Build one simulation.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        check_keywords(settings, _KEYWORDS)
        population = choose_population(rules.half_cheetah_population, population_seed, parameters)
        world = HalfCheetahWorld(population, time_step=time_step, settings=settings)
        super().__init__(world, render_mode=render_mode)


class HalfCheetahHetVectorEnv(HeterogeneousVectorEnv):
    """The vector form; see the module."""

    metadata = {"render_modes": RENDER_MODES[1:], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        time_step: float = TIME_STEP,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        population_seed: int = 0,
        parameters: ArrayLike | None = None,
        render_mode: str | None = None,
        n_threads: int | None = None,
        **settings: Any,
    ) -> None:
        """Build `num_envs` simulations.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        common = ("n_threads", "autoreset_mode", "max_episode_steps")
        check_keywords(settings, (*_KEYWORDS, *common))
        population = choose_population(rules.half_cheetah_population, population_seed, parameters)
        super().__init__(
            HalfCheetahWorld(
                population, num_envs, time_step=time_step, n_threads=n_threads, settings=settings
            ),
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
