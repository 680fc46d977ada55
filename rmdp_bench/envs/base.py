"""What every environment of a represented MDP shares: a world, its single and its vector form.

    World (world.py)        E copies ("rows") of one world, stepped together on arrays
      RepresentedEnv        gymnasium.Env: a world with one row
      RepresentedVectorEnv  gymnasium.vector.VectorEnv: a world with num_envs rows

Both forms run the same world, so they agree bit for bit.  The scalar reward is the mean over the
agents (percent of a perfect episode); every agent's own reward is in `info["agent_rewards"]` (n,),
and the outcome that the population turns into rewards is in `info["outcome"]` (m,), both float64,
at every step and, as zeros, at reset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rmdp_bench.envs.checks import (
    ActionCheck,
    Array,
    Rows,
    as_array,
    check_autoreset_mode,
    check_max_episode_steps,
    check_render_mode,
)
from rmdp_bench.envs.world import State, World, decode_generators, encode_generators

__all__ = ["Array", "RepresentedEnv", "RepresentedVectorEnv", "Rows", "State", "World"]


class RepresentedEnv(gym.Env[Any, Any]):
    """A world with one row as a Gymnasium environment.

    Attributes:
        world: the world, of one row.
        population: the agents.
        reward_space: bounds of `info["agent_rewards"]`, Box (n,) float64, percent.
    """

    def __init__(self, world: World, *, render_mode: str | None = None) -> None:
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
        self.reward_space = _reward_space(world)
        self._check_actions = ActionCheck(world.action_space)
        self._row = np.zeros(1, dtype=np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode; `options` are not used."""
        super().reset(seed=seed)
        self.world.reset(self._row, [self.np_random])
        if self.render_mode == "human":
            self.render()
        info = {
            "agent_rewards": np.zeros(self.population.n_agents),
            "outcome": np.zeros(self.population.outcome_size),
        }
        return self.world.observe(self._row)[0], info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Step once.

        Raises:
            ValueError: the action has the wrong dtype or shape, or is NaN or out of range.
        """
        actions = self._check_actions(as_array(action)[np.newaxis], self._row, 1)
        outcomes, terminated = self.world.step(self._row, actions)
        agent_rewards = self.population.rewards(outcomes)
        reward = float(_mean_over_agents(agent_rewards)[0])
        if self.render_mode == "human":
            self.render()
        info = {"agent_rewards": agent_rewards[0], "outcome": outcomes[0]}
        return self.world.observe(self._row)[0], reward, bool(terminated[0]), False, info

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
        return {**self.world.get_state(), "generator": encode_generators([self.np_random])}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore `get_state` of an environment of the same id: it continues bit for bit."""
        rest = dict(state)
        (generator,) = decode_generators(_take(rest, "generator", (1, 6)))
        self.world.set_state(rest)
        self.np_random = generator

    def close(self) -> None:
        """Close the windows."""
        self.world.close()


class RepresentedVectorEnv(gym.vector.VectorEnv[Any, Any, Array]):
    """A world with num_envs rows as a Gymnasium vector environment.

    Conventions are SyncVectorEnv's, and so are the results, bit for bit, for the same seeds and
    actions: autoreset modes, `final_obs` and `final_info`, the masks `_key` of infos, seeds (an
    integer s seeds row r with s + r), `options["reset_mask"]`.  Two things are stricter: nothing is
    stepped when any action is invalid, and to step a finished row in the mode DISABLED is a
    ResetNeeded error instead of an assertion.

    Attributes:
        world: the world.
        population: the agents.
        reward_space: bounds of one row's `infos["agent_rewards"]`, Box (n,) float64, percent.
        max_episode_steps: episodes are truncated after so many steps; None: never.
        autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.
        agent_rewards: whether infos have "agent_rewards".
    """

    def __init__(
        self,
        world: World,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        agent_rewards: bool = True,
    ) -> None:
        """Wrap a world.

        Args:
            world: of num_envs rows.
            max_episode_steps: None or -1: no limit.
            autoreset_mode: Gymnasium's enum, its value ("NextStep") or its name ("NEXT_STEP").
            render_mode: a mode that gives frames; "human" is for the single form.
            agent_rewards: False leaves "agent_rewards" out of the infos, for users who turn
                outcomes into rewards themselves, and takes the scalar reward from the
                population's `mean_rewards`: the same to rounding, at a cost that does not grow
                with the number of agents.

        Raises:
            ValueError: a value is out of range.
        """
        if not isinstance(agent_rewards, bool):
            raise ValueError(f"agent_rewards is {agent_rewards!r}, expected True or False")
        self.world = world
        self.agent_rewards = agent_rewards
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
        self.reward_space = _reward_space(world)

        self._check_actions = ActionCheck(world.action_space)
        self._all_rows = np.arange(self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds = [-1] * self.num_envs
        self._elapsed_steps = np.zeros(self.num_envs, dtype=np.int64)
        self._has_reset = np.zeros(self.num_envs, dtype=np.bool_)
        self._autoreset = np.zeros(self.num_envs, dtype=np.bool_)
        """Rows whose episode has ended and that have not been reset since."""

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
            options: only "reset_mask" is used.

        Raises:
            ValueError: a sequence of seeds of another length, or a mask of another shape or
                without a True.
            TypeError: the mask is not a boolean array.
            gymnasium.error.ResetNeeded: a row outside the mask was never reset.
        """
        seeds = self._spread_seeds(seed)
        mask = self._reset_mask(options)
        rows = np.flatnonzero(mask)
        for row in rows:
            if seeds[row] is not None:
                self._generators[row], self._seeds[row] = seeding.np_random(seeds[row])
        self._reset_rows(rows)
        self._autoreset[mask] = False
        _, agent_rewards, outcomes = self._blank_rewards()
        return self.world.observe(self._all_rows), self._infos(agent_rewards, outcomes, mask)

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step every row; in the mode NEXT_STEP, rows that ended at the last call are reset.

        Args:
            actions: (E, ...), of which rows that are reset do not use theirs.

        Raises:
            ValueError: the actions have the wrong dtype or shape, or one is NaN or out of range.
            gymnasium.error.ResetNeeded: before the first reset, or in the mode DISABLED when an
                episode has ended.
        """
        if not self._has_reset.all():
            raise ResetNeeded("Cannot call step() before calling reset()")
        if self._autoreset.any():
            rewards, agent_rewards, outcomes, terminations = self._step_and_reset(actions)
        else:
            rows = self._all_rows
            checked = self._check_actions(as_array(actions), rows, self.num_envs)
            outcomes, terminations = self.world.step(rows, checked)
            rewards, agent_rewards = self._rewards(outcomes)
            self._elapsed_steps += 1
        if self.max_episode_steps is None:
            truncations = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            truncations = self._elapsed_steps >= self.max_episode_steps
        ended = terminations | truncations
        infos: dict[str, Any] = {}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._autoreset = ended
        elif ended.any():
            infos = self._finish(ended, agent_rewards, outcomes)
        infos |= self._infos(agent_rewards, outcomes, np.ones(self.num_envs, dtype=np.bool_))
        return self.world.observe(self._all_rows), rewards, terminations, truncations, infos

    def _rewards(self, outcomes: Array) -> tuple[Array, Array | None]:
        """Scalar rewards (B,), and the agents' (B, n) if they are wanted, of outcomes (B, m)."""
        if not self.agent_rewards:
            return self.population.mean_rewards(outcomes), None
        agent_rewards = self.population.rewards(outcomes)
        return _mean_over_agents(agent_rewards), agent_rewards

    def _blank_rewards(self) -> tuple[Array, Array | None, Array]:
        """Zeros for rewards, agents' rewards and outcomes."""
        outcomes = np.zeros((self.num_envs, self.population.outcome_size))
        n_agents = self.population.n_agents
        agent_rewards = np.zeros((self.num_envs, n_agents)) if self.agent_rewards else None
        return np.zeros(self.num_envs), agent_rewards, outcomes

    def _step_and_reset(self, actions: Any) -> tuple[Array, Array | None, Array, Array]:
        """Reset the rows whose episode ended at the last call, step the others."""
        if self.autoreset_mode is AutoresetMode.DISABLED:
            ended = np.flatnonzero(self._autoreset).tolist()
            raise ResetNeeded(
                f"the episodes of rows {ended} have ended and autoreset is disabled: call "
                "reset(options={'reset_mask': mask}) with their mask before step()"
            )
        rows = np.flatnonzero(~self._autoreset)
        rewards, agent_rewards, outcomes = self._blank_rewards()
        terminations = np.zeros(self.num_envs, dtype=np.bool_)
        checked = self._check_actions(as_array(actions), rows, self.num_envs)
        if rows.size:
            outcomes[rows], terminations[rows] = self.world.step(rows, checked)
            rewards[rows], own = self._rewards(outcomes[rows])
            if agent_rewards is not None:
                agent_rewards[rows] = own
            self._elapsed_steps[rows] += 1
        self._reset_rows(np.flatnonzero(self._autoreset))
        return rewards, agent_rewards, outcomes, terminations

    def _finish(self, ended: Array, agent_rewards: Array | None, outcomes: Array) -> dict[str, Any]:
        """Keep what the ended rows end with, reset them, and clear their infos in place."""
        rows = np.flatnonzero(ended)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row, observation in zip(rows, self.world.observe(rows), strict=True):
            final_obs[row] = observation
        _, final_rewards, final_outcomes = self._blank_rewards()
        self._reset_rows(rows)
        for array, final in ((agent_rewards, final_rewards), (outcomes, final_outcomes)):
            if array is not None and final is not None:
                final[rows], array[rows] = array[rows], 0.0
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": self._infos(final_rewards, final_outcomes, ended.copy()),
            "_final_info": ended.copy(),
        }

    def render(self) -> tuple[Any, ...] | None:
        """Render every row in the mode the environment was made with; None without one."""
        mode = self.render_mode
        if mode is None:
            gym.logger.warn("render() without a render_mode: pass one to gym.make_vec")
            return None
        return tuple(self.world.render(row, mode) for row in range(self.num_envs))

    def get_state(self) -> State:
        """Copy all that later steps depend on, arrays of leading axis num_envs.

        The world's state, the steps elapsed, which rows are to be reset, and the generators.
        """
        if not self._has_reset.all():
            raise ResetNeeded("Cannot call get_state() before calling reset()")
        return {
            **self.world.get_state(),
            "elapsed_steps": self._elapsed_steps.copy(),
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
        self._elapsed_steps = elapsed_steps.astype(np.int64)
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

    def _reset_rows(self, rows: Rows) -> None:
        self.world.reset(rows, [self._generator(row) for row in rows])
        self._elapsed_steps[rows] = 0
        self._has_reset[rows] = True

    def _spread_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed, or None, per row."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + row for row in range(self.num_envs)]
        if not isinstance(seed, Sequence) or len(seed) != self.num_envs:
            raise ValueError(
                f"seed is {seed!r}, expected an integer, None or a sequence of {self.num_envs}"
            )
        return list(seed)

    def _reset_mask(self, options: dict[str, Any] | None) -> Array:
        """The rows to reset; errors are SyncVectorEnv's."""
        if options is None or "reset_mask" not in options:
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

    def _infos(self, agent_rewards: Array | None, outcomes: Array, mask: Array) -> dict[str, Any]:
        infos = {"outcome": outcomes, "_outcome": mask}
        if agent_rewards is not None:
            infos |= {"agent_rewards": agent_rewards, "_agent_rewards": mask.copy()}
        return infos


def _mean_over_agents(agent_rewards: Array) -> Array:
    """(E, n) -> (E,); `add.reduce` sums a row in the same order whatever E."""
    mean: Array = np.add.reduce(agent_rewards, axis=-1) / agent_rewards.shape[-1]
    return mean


def _reward_space(world: World) -> gym.spaces.Box:
    low, high = world.population.reward_bounds(world.outcome_space.low, world.outcome_space.high)
    return gym.spaces.Box(low, high, dtype=np.float64)


def _take(state: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """Remove an array from a state and check its shape."""
    if name not in state or np.shape(state[name]) != shape:
        got = np.shape(state[name]) if name in state else "nothing"
        raise ValueError(f"state[{name!r}]: expected an array of shape {shape}, got {got}")
    return np.asarray(state.pop(name))
