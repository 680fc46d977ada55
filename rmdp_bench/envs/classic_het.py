"""CartPole and MountainCar with 500 agents in 500 worlds (Agarwal et al. 2021, PerSim).

Description:
    A world of Gymnasium with parameters of the agent that lives in the episode; states and
    observations are Gymnasium's with these parameters set.
    CartPoleHet: CartPole, with Euler steps of 0.02 s. What differs is the length of the episodes.
    MountainCarHet: MountainCar. What differs is the reward and the length of the episodes.

Population:
    `DynamicsPopulation` of 500 agents, 100 unseen and 20 extrapolating ones.
    CartPoleHet: The force of a push, [2, 18] N, and half the length of the pole, [0.15, 0.85] m, on
    which the pole's moment depends too; the test agents are (2, 0.5), (10, 0.5), (18, 0.5),
    (10, 0.85), (10, 0.15).
    MountainCarHet: Gravity, [1e-4, 3.5e-3]; test agents 1e-4, 5e-4, 1e-3, 2.5e-3, 3.5e-3.

Observation:
    float32. No parameter is in it.
    CartPoleHet: Shape (4,): position in [-4.8, 4.8] m, velocity m/s, angle in [-36, 36] degrees, as
    rad, angular velocity rad/s.
    MountainCarHet: Shape (2,): position in [-1.2, 0.6], velocity in [-0.07, 0.07] per step.

Action:
    CartPoleHet: `Discrete(2)`, push to the left, to the right.
    MountainCarHet: `Discrete(3)`, accelerate to the left, not at all, to the right.

Reward:
    As functions of transitions: `get_environment(id).reward_function` and `.termination_function`.
    CartPoleHet: 1 for every step, the last one included; 200 is the best return.
    MountainCarHet: -1 for every step, 0 for the one that reaches the flag.

Episode end:
    CartPoleHet: Terminates when the cart is farther than 2.4 m from the middle or the pole leans
    over 12 degrees; truncated after 200 steps.
    MountainCarHet: Terminates at position 0.5 or beyond, unless the car rolls back; truncated after
    500 steps.

Arguments:
    population_seed: seed of the agents other than the test agents (0).
    parameters: (n, p) in the range, agents to put in the place of all others; agent i is row i.
    render_mode: "rgb_array" (400 x 600), "human" (single form only) or None. Drawn by Gymnasium,
    with pygame, which `gymnasium[classic-control]` brings.
    world: set by the id.

Version history:
    v0: first version. Of CartPole's observation space the angle was bounded by 24 degrees, as in
    Gymnasium: the last step of an agent who extrapolates can lead beyond, to 31 degrees with the
    greatest force and the shortest pole that a population can have. Dynamics are as they were.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.envs import classic_rows, rules
from rmdp_bench.envs.core.checks import ALONE, Array, Rows, check_keywords, check_n_envs
from rmdp_bench.envs.core.heterogeneous import (
    HeterogeneousEnv,
    HeterogeneousVectorEnv,
    HeterogeneousWorld,
    choose_population,
)
from rmdp_bench.envs.core.world import Alone, Details, State
from rmdp_bench.messages import shown
from rmdp_bench.population import DynamicsPopulation

RENDER_MODES = ["human", "rgb_array"]


class ClassicWorld(HeterogeneousWorld):
    """E states (E, d) and the parameters (E, p) of the agents that live in them."""

    bounds: Sequence[tuple[float, float]]
    """Of the observation, (d, 2)."""
    n_actions: int
    n_drawn: int
    """Numbers that are drawn for an initial state."""
    drawn_by: tuple[str, str]
    """Module of gymnasium.envs.classic_control, and class."""

    def __init__(self, population: DynamicsPopulation, n_envs: int = 1) -> None:
        """Make E copies, in which agent 0 lives.

        Raises:
            ValueError: n_envs is not an integer >= 1.
        """
        self.population = population
        self.n_envs = check_n_envs(n_envs)
        self.agents = np.zeros(self.n_envs, dtype=np.int64)
        self._parameters = population.parameters[self.agents]  # (E, p)
        low, high = np.array(self.bounds, dtype=np.float32).T
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Discrete(self.n_actions)
        self._states = np.zeros((self.n_envs, len(low)))
        many = self.n_envs >= classic_rows.COMPILED_FROM
        self._compiled = classic_rows.compile_loops() if many else None
        self._loops = self._compiled or classic_rows.AT_ONCE
        self._renderer: Any = None

    def set_agents(self, rows: Rows, agents: Rows) -> None:
        """Let `agents` (B,) live in `rows` (B,)."""
        self.agents[rows] = agents
        self._parameters[rows] = self.population.parameters[agents]

    def start(
        self, rows: Rows, generators: Sequence[np.random.Generator], agents: Rows | None = None
    ) -> Details:
        """Let agents live in the rows, drawn first if they are not given, and reset."""
        if self._compiled is None:
            return super().start(rows, generators, agents)
        addresses = self._compiled.addresses_of(generators)
        if agents is None:
            agents = np.empty(len(rows), dtype=np.int64)
            self._compiled.draw_integers(addresses, self.population.n_agents, agents)
        self.set_agents(rows, agents)
        drawn = np.empty((len(rows), self.n_drawn))
        self._compiled.draw_doubles(addresses, drawn)
        self._states[rows] = self._initial_states(drawn)
        return {"agent": self.agents[rows]}

    def reset(self, rows: Rows, generators: Sequence[np.random.Generator]) -> None:
        """Draw the initial states as Gymnasium does."""
        drawn = np.array([generator.random(self.n_drawn) for generator in generators])
        self._states[rows] = self._initial_states(drawn)

    @abstractmethod
    def _initial_states(self, drawn: NDArray[np.float64]) -> Array:
        """States (B, d) from numbers (B, n_drawn) in [0, 1)."""

    def advance_alone(self, action: Any) -> Alone:
        """Step the only row, in Python's numbers."""
        self.count(ALONE)
        state = self._states[0]
        reward, terminated = self._step_alone(state, int(action))
        return state.astype(np.float32), reward, terminated, {"agent": self.agents[0]}

    @abstractmethod
    def _step_alone(self, state: NDArray[np.float64], action: int) -> tuple[float, bool]:
        """Step a state (d,) in place; give reward and terminated."""

    def observe(self, rows: Rows) -> NDArray[np.float32]:
        """The states of `rows`, rounded to float32."""
        return self._of(rows, self._states).astype(np.float32)

    def _of(self, rows: Rows, values: Array) -> Array:
        """The rows (B, ...) of `values` (E, ...), which are not copied if they are all."""
        return values if len(rows) == self.n_envs else values[rows]

    def get_state(self) -> State:
        """Copy "agent" (E,) and "state" (E, d)."""
        return {"agent": self.agents.copy(), "state": self._states.copy()}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `get_state` gave.

        Raises:
            ValueError: an array is missing, unknown or has another shape, or there is no such
                agent.
        """
        self._set_agents_of_state(state, {"agent": self.agents, "state": self._states})
        self._states[:] = state["state"]

    def render(self, row: int, mode: str) -> Any:
        """Render one row with Gymnasium's drawing.

        Raises:
            gymnasium.error.DependencyNotInstalled: there is no pygame.
        """
        if self._renderer is None:
            module, name = self.drawn_by
            classes = import_module(f"gymnasium.envs.classic_control.{module}")
            self._renderer = getattr(classes, name)(render_mode=mode)
        self._show(self._renderer, row)
        return self._renderer.render()

    def _show(self, renderer: Any, row: int) -> None:
        """Let Gymnasium's environment be in the state of a row."""
        renderer.state = self._states[row].copy()

    def close(self) -> None:
        """Close the window."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class CartPoleWorld(ClassicWorld):
    """E carts; parameters are force and half length, states position, angle and their speeds."""

    metadata = {"render_modes": RENDER_MODES, "render_fps": 50}
    # An episode ends outside the limits, so only its last step, of TIME_STEP times a speed, leads
    # there. A speed W that is gained at a rate of at most a takes a way of W^2 / 2a, less what the
    # Euler steps add, and the way is at most twice the limit. Of all agents that a population can
    # have, 22 N on 0.075 m gain most: 17 rad/s, and 15 m/s.
    bounds = [
        (-2 * rules.POSITION_LIMIT, 2 * rules.POSITION_LIMIT),
        (-np.inf, np.inf),
        (-3 * rules.ANGLE_LIMIT, 3 * rules.ANGLE_LIMIT),
        (-np.inf, np.inf),
    ]
    n_actions = 2
    n_drawn = 4
    drawn_by = ("cartpole", "CartPoleEnv")

    def _initial_states(self, drawn: NDArray[np.float64]) -> Array:
        return -0.05 + (0.05 - -0.05) * drawn

    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Push the carts of `rows` by `actions` (B,): one Euler step."""
        angles = self._of(rows, self._states[:, 2])
        waves = np.cos(angles), np.sin(angles)
        self._loops.push_carts(
            self._states, *waves, self._parameters, rows, actions.astype(np.int64)
        )
        transitions = None, actions, self._states
        return (
            self._of(rows, rules.cart_pole_reward(*transitions)),
            self._of(rows, rules.cart_pole_terminated(*transitions)),
        )

    def _step_alone(self, state: NDArray[np.float64], action: int) -> tuple[float, bool]:
        force, half_length = self._parameters[0].tolist()
        position, velocity, angle, spin = state.tolist()
        push = force if action == 1 else -force
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        position, velocity, angle, spin = classic_rows.push_cart(
            position, velocity, angle, spin, cosine, sine, push, half_length
        )
        state[:] = position, velocity, angle, spin
        return 1.0, rules.cart_pole_is_out(position, angle)

    def _show(self, renderer: Any, row: int) -> None:
        super()._show(renderer, row)
        renderer.length = self._parameters[row, 1]


class MountainCarWorld(ClassicWorld):
    """E cars; the parameter is gravity, states are position and velocity."""

    metadata = {"render_modes": RENDER_MODES, "render_fps": 30}
    bounds = [
        (classic_rows.LEFT_END, classic_rows.RIGHT_END),
        (-classic_rows.TOP_SPEED, classic_rows.TOP_SPEED),
    ]
    n_actions = 3
    n_drawn = 1
    drawn_by = ("mountain_car", "MountainCarEnv")

    def _initial_states(self, drawn: NDArray[np.float64]) -> Array:
        return np.hstack((-0.6 + (-0.4 - -0.6) * drawn, np.zeros_like(drawn)))

    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Accelerate the cars of `rows` by `actions` (B,)."""
        slopes = np.cos(3 * self._of(rows, self._states[:, 0]))
        self._loops.accelerate_cars(
            self._states, slopes, self._parameters, rows, actions.astype(np.int64)
        )
        transitions = None, actions, self._states
        return (
            self._of(rows, rules.mountain_car_reward(*transitions)),
            self._of(rows, rules.mountain_car_terminated(*transitions)),
        )

    def _step_alone(self, state: NDArray[np.float64], action: int) -> tuple[float, bool]:
        position, velocity = state.tolist()
        slope = float(np.cos(3 * position))
        position, velocity = classic_rows.accelerate_car(
            position, velocity, slope, float(self._parameters[0, 0]), action
        )
        state[:] = position, velocity
        there = rules.mountain_car_is_there(position, velocity)
        return there - 1.0, there


_WORLDS: dict[str, tuple[type[ClassicWorld], Callable[[int], DynamicsPopulation]]] = {
    "cart_pole": (CartPoleWorld, rules.cart_pole_population),
    "mountain_car": (MountainCarWorld, rules.mountain_car_population),
}
_KEYWORDS = ("population_seed", "render_mode", "parameters")


def _make_world(
    world: str, n_envs: int, population_seed: Any, parameters: ArrayLike | None
) -> ClassicWorld:
    if world not in _WORLDS:
        raise ValueError(f"world is {shown(world)}, expected one of {', '.join(_WORLDS)}")
    make, make_population = _WORLDS[world]
    return make(choose_population(make_population, population_seed, parameters), n_envs)


class ClassicHetEnv(HeterogeneousEnv):
    """The single form; see the module."""

    metadata = {"render_modes": RENDER_MODES}

    def __init__(
        self,
        world: str,
        *,
        population_seed: int = 0,
        parameters: ArrayLike | None = None,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        """Make one copy.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        check_keywords(unknown, _KEYWORDS)
        super().__init__(
            _make_world(world, 1, population_seed, parameters), render_mode=render_mode
        )


class ClassicHetVectorEnv(HeterogeneousVectorEnv):
    """The vector form; see the module."""

    metadata = {"render_modes": RENDER_MODES[1:], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        world: str,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        population_seed: int = 0,
        parameters: ArrayLike | None = None,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        """Make `num_envs` copies.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        check_keywords(unknown, (*_KEYWORDS, "autoreset_mode", "max_episode_steps"))
        super().__init__(
            _make_world(world, num_envs, population_seed, parameters),
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
