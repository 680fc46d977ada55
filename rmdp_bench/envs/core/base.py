"""What every environment shares: a world, its single and its vector form.

    World (world.py)    E copies ("rows") of one world, stepped together on arrays
      WorldEnv          gymnasium.Env: a world with one row
      WorldVectorEnv    gymnasium.vector.VectorEnv: a world with num_envs rows

Both forms run the same world, so they agree bit for bit.  There are two kinds of worlds: agents
differ in what they want (here: `RepresentedEnv`, `RepresentedVectorEnv`), or in the dynamics they
live in (heterogeneous.py).

In a represented MDP the scalar reward is the mean over the agents (percent of a perfect episode);
every agent's own reward is in `info["agent_rewards"]` (n,), and the outcome that the population
turns into rewards is in `info["outcome"]` (m,), both float64, at every step and, as zeros, at
reset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rmdp_bench.envs.core.checks import (
    ALONE,
    ActionCheck,
    Array,
    Rows,
    as_array,
    check_autoreset_mode,
    check_max_episode_steps,
    check_options,
    check_render_mode,
)
from rmdp_bench.envs.core.world import (
    Details,
    RepresentedWorld,
    State,
    World,
    decode_generators,
    encode_generators,
    info_of_row,
)
from rmdp_bench.messages import shown
from rmdp_bench.population import Population

__all__ = [
    "Array",
    "RepresentedEnv",
    "RepresentedVectorEnv",
    "RepresentedWorld",
    "Rows",
    "State",
    "World",
    "WorldEnv",
    "WorldVectorEnv",
]


WorldT = TypeVar("WorldT", bound=World)

_SHARED = ("population", "render_mode", "spec", "reward_dim")
"""Attributes of the single form that all rows of a vector form have in common."""
_OF_A_ROW = (
    "observation_space",
    "action_space",
    "metadata",
    "np_random_seed",
    "render",
    "has_wrapper_attr",
    "get_wrapper_attr",
)
"""Its other attributes that a vector form has for each row."""
_OF_SEPARATE_ENVIRONMENTS = ("unwrapped", "world", "env")
"""What only environments of their own have."""


class WorldEnv(gym.Env[Any, Any], Generic[WorldT]):
    """A world with one row as a Gymnasium environment.

    Attributes:
        world: the world, of one row.
        population: the agents.
    """

    def __init__(self, world: WorldT, *, render_mode: str | None = None) -> None:
        """Wrap a world of one row.

        Raises:
            ValueError: the world has several rows, or does not know the render mode.
        """
        if world.n_envs != 1:
            raise ValueError(f"the single form needs a world of 1 row, got {world.n_envs}")
        self.world = world
        self.population = world.population
        self.metadata = dict(world.metadata)
        self.render_mode = check_render_mode(render_mode, world.metadata["render_modes"])
        self.observation_space = world.observation_space
        self.action_space = world.action_space
        self._check_actions = ActionCheck(world.action_space)
        self._needs_reset = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode.

        Raises:
            ValueError: options; there are none.
        """
        check_options(options, ())
        return self._reset(seed, None)

    def _reset(self, seed: int | None, agents: Rows | None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        details = self.world.start(ALONE, [self.np_random], agents)
        self._needs_reset = False
        if self.render_mode == "human":
            self.render()
        return self.world.observe(ALONE)[0], info_of_row(details)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Step once.

        Raises:
            ValueError: the action has the wrong dtype or shape, or is NaN or out of range.
            gymnasium.error.ResetNeeded: before the first reset, or after the step that terminated.
                A step after the one that TimeLimit truncated is truncated again, as in all of
                Gymnasium: this environment does not know of the limit, nor has `unwrapped` one.
        """
        if self._needs_reset:
            raise ResetNeeded(
                "the episode has terminated, or none has begun: call reset() before step()"
            )
        checked = self._check_actions.alone(action)
        observation, reward, self._needs_reset, info = self.world.advance_alone(checked)
        if self.render_mode == "human":
            self.render()
        return observation, reward, self._needs_reset, False, info

    def render(self) -> Any:
        """Render in the mode the environment was made with; None without one."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: pass one to gym.make")
            return None
        return self.world.render(0, self.render_mode)

    def get_state(self) -> State:
        """Copy the state of the world and of the generator, arrays of leading axis 1.

        The step count of a TimeLimit wrapper is not part of it: the wrapper keeps it.
        """
        return {
            **self.world.get_state(),
            "generator": encode_generators([self.np_random]),
            "needs_reset": np.array([self._needs_reset]),
        }

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore `get_state` of an environment of the same id: it continues bit for bit."""
        rest = dict(state)
        (generator,) = decode_generators(_take(rest, "generator", (1, 6)))
        needs_reset = _take(rest, "needs_reset", (1,))
        self.world.set_state(rest)
        self.np_random = generator
        self._needs_reset = bool(needs_reset[0])

    def close(self) -> None:
        """Close the windows."""
        self.world.close()


class RepresentedEnv(WorldEnv[RepresentedWorld]):
    """The single form of a represented MDP.

    `unwrapped.reward_space` and `unwrapped.reward_dim` describe the rewards of all agents, as
    MO-Gymnasium's wrappers expect it. Through wrappers (`get_wrapper_attr`), as TorchRL reads it,
    an environment has a `reward_space` only where `step` returns such rewards: `VectorReward`.
    """

    population: Population

    @property
    def reward_space(self) -> gym.spaces.Box:
        """Bounds of `info["agent_rewards"]`, Box (n,) float64, percent."""
        return self.world.reward_space

    @property
    def reward_dim(self) -> int:
        """Number of agents n."""
        return self.population.n_agents

    def has_wrapper_attr(self, name: str) -> bool:
        """Whether wrappers see an attribute; not the `reward_space`."""
        return name != "reward_space" and super().has_wrapper_attr(name)

    def get_wrapper_attr(self, name: str) -> Any:
        """Give an attribute to wrappers.

        Raises:
            AttributeError: there is none, or it is the `reward_space`.
        """
        if name == "reward_space":
            raise AttributeError("the reward is a number; VectorReward has a reward_space")
        return super().get_wrapper_attr(name)


class WorldVectorEnv(gym.vector.VectorEnv[Any, Any, Array], Generic[WorldT]):
    """A world with num_envs rows as a Gymnasium vector environment.

    Conventions are SyncVectorEnv's, and so are the results, bit for bit, for the same seeds and
    actions: autoreset modes, `final_obs` and `final_info`, the masks `_key` of infos, seeds (an
    integer s seeds row r with s + r), `options["reset_mask"]`.  Two things are stricter: nothing is
    stepped when any action is invalid, and to step a finished row in the mode DISABLED is a
    ResetNeeded error instead of an assertion.

    Attributes:
        world: the world.
        population: the agents.
        max_episode_steps: episodes are truncated after so many steps; None: never.
        autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.
    """

    def __init__(
        self,
        world: WorldT,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        """Wrap a world.

        Args:
            world: of num_envs rows.
            max_episode_steps: None or -1: no limit.
            autoreset_mode: Gymnasium's enum, its value ("NextStep") or its name ("NEXT_STEP").
            render_mode: a mode that gives frames; "human" is for the single form.

        Raises:
            ValueError: a value is out of range.
        """
        self.world = world
        self.num_envs = world.n_envs
        self.population = world.population
        self.max_episode_steps = check_max_episode_steps(max_episode_steps)
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        modes = [mode for mode in world.metadata["render_modes"] if mode != "human"]
        self.render_mode = check_render_mode(render_mode, modes)
        self.metadata = {
            **world.metadata,
            "render_modes": modes,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = world.observation_space
        self.single_action_space = world.action_space
        self.observation_space = batch_space(world.observation_space, self.num_envs)
        self.action_space = batch_space(world.action_space, self.num_envs)

        self._check_actions = ActionCheck(world.action_space)
        self._all_rows = np.arange(self.num_envs)
        self._everyone = np.ones(self.num_envs, dtype=np.bool_)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds = [-1] * self.num_envs
        self._clock = 0
        """Steps that were made."""
        self._started = np.zeros(self.num_envs, dtype=np.int64)
        """What it showed when the episode of each row began."""
        self._first_start = 0
        """The least of these."""
        self._has_reset = np.zeros(self.num_envs, dtype=np.bool_)
        self._autoreset = np.zeros(self.num_envs, dtype=np.bool_)
        """Rows whose episode has ended and that have not been reset since."""
        self._set_by_user: dict[str, list[Any]] = {}
        """Values of `set_attr`, one for each row."""

    @property
    def np_random(self) -> Any:
        """The generator of every row, a tuple."""
        return tuple(self._generator(row) for row in range(self.num_envs))

    @np_random.setter
    def np_random(self, value: Any) -> None:
        self._generators = list(value)
        self._seeds = [-1] * self.num_envs

    @property
    def np_random_seed(self) -> Any:
        """The seed of every row, a tuple; -1 where it is not known."""
        generators = self.np_random
        return tuple(self._seeds[: len(generators)])

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode in every row, or in the rows of `options["reset_mask"]` (E,) bool.

        Args:
            seed: s: row r is seeded with s + r; a sequence: one seed per row, None to go on with
                the row's generator; None: every row goes on with its own.
            options: {"reset_mask": mask} or none.

        Raises:
            ValueError: a sequence of seeds of another length, an unknown option, or a mask of
                another shape or without a True.
            TypeError: the mask is not a boolean array.
            gymnasium.error.ResetNeeded: a row outside the mask was never reset.
        """
        return self._reset(seed, check_options(options, ("reset_mask",)), None)

    def _reset(
        self,
        seed: int | Sequence[int | None] | None,
        options: Mapping[str, Any],
        agents: Rows | None,
    ) -> tuple[Array, dict[str, Any]]:
        """Reset; `agents` (E,): those who shall live in the rows that are reset."""
        seeds = self._spread_seeds(seed)
        mask = self._reset_mask(options)
        rows = np.flatnonzero(mask)
        for row in rows:
            if seeds[row] is not None:
                self._generators[row], self._seeds[row] = seeding.np_random(seeds[row])
        started = self._reset_rows(rows, None if agents is None else agents[rows])
        self._autoreset[mask] = False
        details = _spread(self.num_envs, (rows, started))
        return self.world.observe(self._all_rows), _infos(details, mask)

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step every row; in the mode NEXT_STEP, rows that ended at the last call are reset.

        Args:
            actions: (E, ...), of which rows that are reset do not use theirs.

        Raises:
            ValueError: the actions have the wrong dtype or shape, or one is NaN or out of range.
            gymnasium.error.ResetNeeded: before the first reset, or in the mode DISABLED when an
                episode has ended.
        """
        if np.count_nonzero(self._has_reset) < self.num_envs:
            raise ResetNeeded("Cannot call step() before calling reset()")
        if np.count_nonzero(self._autoreset):
            rewards, terminations, details = self._step_and_reset(actions)
        else:
            rows = self._all_rows
            checked = self._check_actions(as_array(actions), rows, self.num_envs)
            rewards, terminations, details = self._advance(rows, checked)
            self._clock += 1
        limit = self.max_episode_steps
        if limit is None or self._clock - self._first_start < limit:
            truncations = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            truncations = self._clock - self._started >= limit
        ended = terminations | truncations
        infos: dict[str, Any] = {}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._autoreset = ended
        elif ended.any():
            infos = self._finish(ended, details)
        infos |= _infos(details, self._everyone)
        return self.world.observe(self._all_rows), rewards, terminations, truncations, infos

    def _step_and_reset(self, actions: Any) -> tuple[Array, Array, Details]:
        """Reset the rows whose episode ended at the last call, step the others."""
        if self.autoreset_mode is AutoresetMode.DISABLED:
            ended = np.flatnonzero(self._autoreset).tolist()
            raise ResetNeeded(
                f"the episodes of rows {ended} have ended and autoreset is disabled: call "
                "reset(options={'reset_mask': mask}) with their mask before step()"
            )
        rows = np.flatnonzero(~self._autoreset)
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, dtype=np.bool_)
        checked = self._check_actions(as_array(actions), rows, self.num_envs)
        parts = []
        if rows.size:
            rewards[rows], terminations[rows], stepped = self._advance(rows, checked)
            parts.append((rows, stepped))
        self._clock += 1
        ended_rows = np.flatnonzero(self._autoreset)
        parts.append((ended_rows, self._reset_rows(ended_rows)))
        return rewards, terminations, _spread(self.num_envs, *parts)

    def _finish(self, ended: Array, details: Details) -> dict[str, Any]:
        """Keep what the ended rows end with, reset them, and change their details in place."""
        rows = np.flatnonzero(ended)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row, observation in zip(rows, self.world.observe(rows), strict=True):
            final_obs[row] = observation
        last = {name: values[rows] for name, values in details.items()}
        for name, values in self._reset_rows(rows).items():
            details[name][rows] = values
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": _infos(_spread(self.num_envs, (rows, last)), ended),
            "_final_info": ended.copy(),
        }

    def render(self) -> tuple[Any, ...] | None:
        """Render every row in the mode the environment was made with; None without one."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: pass one to gym.make_vec")
            return None
        return self.call("render")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Give an attribute of every row, or what a method of it returns, as SyncVectorEnv does.

        Args:
            name: of an attribute of the single form: its spaces, `population`, `metadata`,
                `render_mode`, `spec`, `np_random`, `np_random_seed`, `reward_dim`; `render`,
                `has_wrapper_attr`, `get_wrapper_attr`; or what `set_attr` has set.
            *args: of the method, the same for all rows.
            **kwargs: of the method, the same for all rows.

        Raises:
            ValueError: a method that changes the rows; the vector form has its own.
            AttributeError: no such attribute.
        """
        if name in ("reset", "step", "close", "get_state", "set_state"):
            raise ValueError(f"call({name!r}) is for {name}() of the vector environment itself")
        found = [self._attribute(row, name) for row in range(self.num_envs)]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Give an attribute of every row; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every row, which is then there for `get_attr`, as SyncVectorEnv does.

        Args:
            name: `np_random`, or a name of the caller's own.
            values: a list or tuple of one for each row, or one for all.

        Raises:
            ValueError: values of another number, or an attribute that the rows share.
        """
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(
                f"{len(values)} values for {name!r}, expected one for each of {self.num_envs} rows"
            )
        if name == "np_random":
            self.np_random = values
        elif name in (*_SHARED, *_OF_A_ROW, *_OF_SEPARATE_ENVIRONMENTS):
            raise ValueError(f"{name!r} cannot be set: the rows share one world")
        else:
            self._set_by_user[name] = list(values)

    def _attribute(self, row: int, name: str) -> Any:
        """An attribute that the single form has, of one row."""
        if name in self._set_by_user:
            return self._set_by_user[name][row]
        if name in ("observation_space", "action_space"):
            return getattr(self, f"single_{name}")
        if name == "metadata":
            return dict(self.world.metadata)
        if name == "np_random":
            return self._generator(row)
        if name == "np_random_seed":
            self._generator(row)  # seeds it, if nobody did
            return self._seeds[row]
        if name == "render":
            mode = self.render_mode
            return None if mode is None else partial(self.world.render, row, mode)
        if name == "has_wrapper_attr":
            return partial(self._has_attribute, row)
        if name == "get_wrapper_attr":
            return partial(self._attribute, row)
        if name in _SHARED:
            return getattr(self, name)
        if name in _OF_SEPARATE_ENVIRONMENTS:
            raise AttributeError(
                f"a row of {self} has no {name!r}: all rows share one world, `envs.world`; "
                "make_vec(..., vectorization_mode='sync') makes an environment for each row"
            )
        raise AttributeError(f"an environment of {self} has no attribute {name!r} of its own")

    def _has_attribute(self, row: int, name: str) -> bool:
        try:
            self._attribute(row, name)
        except AttributeError:
            return False
        return True

    def get_state(self) -> State:
        """Copy all that later steps depend on, arrays of leading axis num_envs.

        The world's state, the steps elapsed, which rows are to be reset, and the generators.
        """
        if not self._has_reset.all():
            raise ResetNeeded("Cannot call get_state() before calling reset()")
        return {
            **self.world.get_state(),
            "elapsed_steps": self._clock - self._started,
            "autoreset": self._autoreset.copy(),
            "generator": encode_generators(self.np_random),
        }

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore `get_state` of an environment of the same id and size: it continues bit for bit.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        rest = dict(state)
        elapsed_steps = _take(rest, "elapsed_steps", (self.num_envs,))
        autoreset = _take(rest, "autoreset", (self.num_envs,))
        generators = decode_generators(_take(rest, "generator", (self.num_envs, 6)))
        self.world.set_state(rest)
        self.np_random = generators
        self._note_starts(slice(None), self._clock - elapsed_steps.astype(np.int64))
        self._autoreset = autoreset.astype(np.bool_)
        self._has_reset[:] = True

    def close_extras(self, **kwargs: Any) -> None:
        """Free what rendering holds."""
        self.world.close()

    def _generator(self, row: int) -> np.random.Generator:
        """The generator of a row, seeded by the system when nobody did."""
        generator = self._generators[row]
        if generator is None:
            generator, self._seeds[row] = seeding.np_random()
            self._generators[row] = generator
        return generator

    def _start(
        self, rows: Rows, generators: Sequence[np.random.Generator], agents: Rows | None
    ) -> Details:
        return self.world.start(rows, generators, agents)

    def _advance(self, rows: Rows, actions: Array) -> tuple[Array, Array, Details]:
        return self.world.advance(rows, actions)

    def _reset_rows(self, rows: Rows, agents: Rows | None = None) -> Details:
        details = self._start(rows, [self._generator(row) for row in rows.tolist()], agents)
        self._note_starts(rows, self._clock)
        self._has_reset[rows] = True
        return details

    def _note_starts(self, rows: Rows | slice, clock: Any) -> None:
        """Let the episodes of rows have begun when the clock showed that."""
        self._started[rows] = clock
        self._first_start = int(self._started.min())

    def _spread_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed, or None, per row."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + row for row in range(self.num_envs)]
        if not isinstance(seed, Sequence) or len(seed) != self.num_envs:
            raise ValueError(
                f"seed is {shown(seed)}, expected an integer, None or a sequence of {self.num_envs}"
            )
        return list(seed)

    def _reset_mask(self, options: Mapping[str, Any]) -> Array:
        """The rows to reset; errors are SyncVectorEnv's."""
        if "reset_mask" not in options:
            return np.ones(self.num_envs, dtype=np.bool_)
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            kind = getattr(mask, "dtype", type(mask).__name__)
            raise TypeError(f"options['reset_mask'] must be a numpy array of bool, got {kind}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and a True, got {mask}"
            )
        never_reset = np.flatnonzero(~(mask | self._has_reset))
        if never_reset.size:
            raise ResetNeeded(f"rows {never_reset.tolist()} were never reset: reset all rows first")
        return mask.copy()


class RepresentedVectorEnv(WorldVectorEnv[RepresentedWorld]):
    """The vector form of a represented MDP.

    Attributes:
        agent_rewards: whether infos have "agent_rewards".
    """

    population: Population

    def __init__(
        self,
        world: RepresentedWorld,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        agent_rewards: bool = True,
    ) -> None:
        """Wrap a world.

        Args:
            world: as the next three for any `WorldVectorEnv`.
            max_episode_steps: None or -1: no limit.
            autoreset_mode: Gymnasium's enum, its value or its name.
            render_mode: a mode that gives frames.
            agent_rewards: False leaves "agent_rewards" out of the infos, for users who turn
                outcomes into rewards themselves, and takes the scalar reward from the
                population's `mean_rewards`: the same to rounding, and hardly slower for many
                agents than for few.

        Raises:
            ValueError: a value is out of range.
        """
        if not isinstance(agent_rewards, bool):
            raise ValueError(f"agent_rewards is {shown(agent_rewards)}, expected True or False")
        super().__init__(
            world,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        self.agent_rewards = agent_rewards

    def _start(
        self, rows: Rows, generators: Sequence[np.random.Generator], agents: Rows | None
    ) -> Details:
        details = super()._start(rows, generators, agents)
        if not self.agent_rewards:
            del details["agent_rewards"]
        return details

    def _advance(self, rows: Rows, actions: Array) -> tuple[Array, Array, Details]:
        if self.agent_rewards:
            return super()._advance(rows, actions)
        self.world.count(rows)
        outcomes, terminated = self.world.step(rows, actions)
        return self.population.mean_rewards(outcomes), terminated, {"outcome": outcomes}

    @property
    def reward_space(self) -> gym.spaces.Box:
        """Bounds of one row's `infos["agent_rewards"]`, Box (n,) float64, percent."""
        return self.world.reward_space

    @property
    def reward_dim(self) -> int:
        """Number of agents n."""
        return self.population.n_agents


def _infos(details: Details, mask: Array) -> dict[str, Any]:
    """Infos of all rows, each with a mask `_name` of those that have it."""
    infos: dict[str, Any] = {}
    for name, values in details.items():
        infos |= {name: values, f"_{name}": mask.copy()}
    return infos


def _spread(n_envs: int, *parts: tuple[Rows, Details]) -> Details:
    """Details of some rows as details of all; zeros for the rows without."""
    details: Details = {}
    for rows, given in parts:
        for name, values in given.items():
            shape = (n_envs, *values.shape[1:])
            details.setdefault(name, np.zeros(shape, values.dtype))[rows] = values
    return details


def _take(state: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """Remove an array from a state and check its shape."""
    if name not in state or np.shape(state[name]) != shape:
        got = np.shape(state[name]) if name in state else "nothing"
        raise ValueError(f"state[{name!r}]: expected an array of shape {shape}, got {got}")
    return np.asarray(state.pop(name))
