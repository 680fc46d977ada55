"""Checks of what a user gives to an environment: one ValueError that names the value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rmdp_bench.messages import shown
from rmdp_bench.population import Population, check_population

Array = NDArray[Any]
Rows = NDArray[np.int64]
ALONE = np.zeros(1, dtype=np.int64)
"""The rows of a world of one."""
ALONE.setflags(write=False)
MAX_ENVS = 1_000_000
"""Most rows of a vector environment, some gigabytes: more is taken for a slip."""


def as_array(actions: Any) -> Array:
    """Give actions as an array.

    Raises:
        ValueError: they are not one.
    """
    try:
        return np.asarray(actions)
    except (TypeError, ValueError) as error:
        raise ValueError(f"actions are not an array of numbers: {error}") from error


class ActionCheck:
    """Refuses a batch of actions that is not in a batched Box or Discrete space."""

    def __init__(self, space: gym.Space[Any]) -> None:
        """Read the bounds once."""
        if isinstance(space, gym.spaces.Box):
            self._low, self._high, self._kinds = space.low, space.high, "fiu"
        elif isinstance(space, gym.spaces.Discrete):
            self._low = np.asarray(space.start)
            self._high = np.asarray(space.start + space.n - 1)
            self._kinds = "iu"
        else:
            raise ValueError(f"action space is {space}, expected a Box or a Discrete")
        self._ends = (int(self._low), int(self._high)) if self._kinds == "iu" else None
        is_even = self._low.dtype.kind == "f" and self._low.size > 0
        is_even = is_even and (self._high == self._high.flat[0]).all()
        is_even = is_even and (self._low == -self._high).all()
        self._bound = self._high.flat[0] if is_even else None
        """Of the absolute value of every component, where that is all there is to check."""

    def alone(self, action: Any) -> Any:
        """Give one action (...), as a number or an array.

        Raises:
            ValueError: wrong dtype or shape, NaN or out of range.
        """
        ends = self._ends
        if ends and type(action) in (int, np.int64) and ends[0] <= action <= ends[1]:
            return action  # what single forms are given mostly, as the next
        if self._bound is not None and type(action) is np.ndarray and action.dtype.kind == "f":
            if action.shape == self._low.shape:
                if np.count_nonzero(np.abs(action) <= self._bound) == action.size:
                    return action
        return self(as_array(action)[np.newaxis], ALONE, 1)[0]

    def __call__(self, actions: Array, rows: Rows, n_envs: int) -> Array:
        """Give the actions of `rows` out of `actions` (E, ...), none of them copied if all.

        Raises:
            ValueError: wrong dtype or shape, or, in these rows, NaN or out of range.
        """
        if actions.dtype.kind not in self._kinds:
            expected = "integers" if self._kinds == "iu" else "real numbers"
            raise ValueError(f"actions have dtype {actions.dtype}, expected {expected}")
        if actions.shape != (n_envs, *self._low.shape):
            raise ValueError(
                f"{n_envs} action(s) of shape {self._low.shape} expected, "
                f"got {len(actions)} of shape {actions.shape[1:]}"
                if actions.ndim
                else f"{n_envs} actions expected, got the number {actions}"
            )
        if len(rows) != n_envs:
            actions = actions[rows]
        if self._bound is not None and actions.dtype.kind == "f":
            inside = np.abs(actions) <= self._bound
        else:
            inside = (actions >= self._low) & (actions <= self._high)
        if np.count_nonzero(inside) != inside.size:
            self._refuse(actions, rows)
        return actions

    def _refuse(self, actions: Array, rows: Rows) -> None:
        """Name the first offender."""
        bad = ~((actions >= self._low) & (actions <= self._high))
        batch, *component = np.argwhere(bad)[0].tolist()
        index = tuple(component)
        where = f"environment {rows[batch]}" + (f", component {component[0]}" if component else "")
        raise ValueError(
            f"action {actions[(batch, *index)]} ({where}) is not in "
            f"[{self._low[index]}, {self._high[index]}]: clip or choose it within the action space"
        )


def check_integer(name: str, value: Any, least: int, greatest: int) -> int:
    """Give the value of a keyword if it is an integer from `least` to `greatest`.

    Raises:
        ValueError: it is not; names the keyword.
    """
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or not least <= value <= greatest:
        raise ValueError(
            f"{name} is {shown(value)}, expected an integer from {least} to {greatest}"
        )
    return int(value)


def check_population_seed(population_seed: Any) -> int:
    """Give the seed of a population if it is an integer from 0 to 2**32 - 1.

    Raises:
        ValueError: it is not.
    """
    is_integer = isinstance(population_seed, int | np.integer)
    if not is_integer or isinstance(population_seed, bool) or not 0 <= population_seed < 2**32:
        raise ValueError(
            f"population_seed is {shown(population_seed)}, expected an integer from 0 to 2**32 - 1"
        )
    return int(population_seed)


def choose_population(
    population: Any,
    seed: int | None,
    outcome_size: int,
    make: Callable[[int], Population],
    *,
    n_agents: int | None = None,
    hint: str = "",
) -> Population:
    """Give the population that was asked for.

    Args:
        population: what was given; None: the one of the id.
        seed: population_seed as it was given; None: it was not.
        outcome_size: m, length of the world's outcome.
        make: population_seed -> the population of the id.
        n_agents: as it was given; None: it was not.
        hint: said of one for other outcomes.

    Raises:
        ValueError: not a population, one for other outcomes, or it and a seed or n_agents are
            given.
    """
    if population is None:
        return make(0 if seed is None else check_population_seed(seed))
    if seed is not None:
        raise ValueError(
            f"population and population_seed={shown(seed)} are given, expected one of them: the "
            "seed draws the agents that population replaces"
        )
    if n_agents is not None:
        raise ValueError(
            f"population and n_agents={shown(n_agents)} are given, expected one of them: the "
            "population says who there is"
        )
    own = check_population(population)
    if own.outcome_size != outcome_size:
        raise ValueError(
            f"population is for outcomes ({own.outcome_size},), expected one for outcomes "
            f"({outcome_size},), which this world has{hint}"
        )
    return own


def check_n_envs(num_envs: Any) -> int:
    """Give the number of rows if it is an integer from 1 to `MAX_ENVS`.

    Raises:
        ValueError: it is not.
    """
    is_integer = isinstance(num_envs, int | np.integer) and not isinstance(num_envs, bool)
    if not is_integer or not 1 <= num_envs <= MAX_ENVS:
        raise ValueError(f"num_envs is {shown(num_envs)}, expected an integer from 1 to {MAX_ENVS}")
    return int(num_envs)


def check_range(name: str, value: Any) -> tuple[float, float]:
    """Give (low, high) as two floats, low < high; infinities are allowed.

    Raises:
        ValueError: it is not such a pair; names the keyword.
    """
    try:
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not low < high:
        raise ValueError(f"{name} is {shown(value)}, expected two numbers (low, high), low < high")
    return low, high


class UnknownKeyword(TypeError):
    """A keyword that an environment does not know; as Python's own, by which libraries know it.

    Its `args` are the message, the keyword and the accepted ones.
    """

    def __str__(self) -> str:
        """The message; Gymnasium's workers hand on nothing else."""
        return str(self.args[0])


def unknown_keyword(name: str, accepted: Sequence[str]) -> UnknownKeyword:
    """The error for a keyword; names it and the accepted ones."""
    message = f"unexpected keyword argument {name!r}; accepted are {', '.join(accepted)}"
    return UnknownKeyword(message, name, tuple(accepted))


def check_keywords(given: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """Refuse keywords that an environment does not know.

    Raises:
        UnknownKeyword: names the first unknown keyword and the accepted ones.
    """
    for name in given:
        if name not in accepted:
            raise unknown_keyword(name, accepted)


def check_options(options: Any, accepted: Sequence[str]) -> dict[str, Any]:
    """Give the options of a reset, {} for None.

    Raises:
        ValueError: not a dict, or an unknown option; names it and the accepted ones.
    """
    if options is None:
        return {}
    expected = f"accepted are {', '.join(accepted)}" if accepted else "this environment has none"
    if not isinstance(options, dict):
        raise ValueError(f"options is {shown(options)}, expected None or a dict; {expected}")
    for name in options:
        # Minari's DataCollector and PettingZoo's parallel_api_test hand on an option of their own.
        if name not in (*accepted, "minari_autoseed", "options"):
            raise ValueError(f"unknown option {name!r}; {expected}")
    return options


def check_render_mode(render_mode: str | None, modes: Sequence[str]) -> str | None:
    """Give the render mode if it is None or one of the modes.

    Raises:
        ValueError: it is not.
    """
    if render_mode is not None and render_mode not in modes:
        raise ValueError(
            f"render_mode is {shown(render_mode)}, expected None or one of {list(modes)}"
        )
    return render_mode


def check_max_episode_steps(max_episode_steps: Any, name: str = "max_episode_steps") -> int | None:
    """Give the limit if it is an integer >= 1, and None for None or -1.

    Raises:
        ValueError: it is neither; calls it `name`.
    """
    if max_episode_steps is None or max_episode_steps == -1:
        return None
    is_integer = isinstance(max_episode_steps, int | np.integer)
    if not is_integer or isinstance(max_episode_steps, bool) or max_episode_steps < 1:
        raise ValueError(
            f"{name} is {shown(max_episode_steps)}, expected an integer >= 1, or -1 for none"
        )
    return int(max_episode_steps)


def check_autoreset_mode(autoreset_mode: AutoresetMode | str) -> AutoresetMode:
    """Give the mode of that value ("NextStep") or name ("NEXT_STEP").

    Raises:
        ValueError: there is none.
    """
    for mode in AutoresetMode:
        if autoreset_mode in (mode, mode.value, mode.name):
            return mode
    names = [mode.name for mode in AutoresetMode]
    raise ValueError(f"autoreset_mode is {shown(autoreset_mode)}, expected one of {names}")


def check_agents(agents: Any, n_agents: int, n_envs: int | None, name: str) -> Rows:
    """Give agents as an array if they are an integer, or `n_envs` of them, below `n_agents`.

    Args:
        agents: what was given.
        n_agents: number of agents that there are.
        n_envs: None: only one integer will do.
        name: what the error calls them.

    Raises:
        ValueError: they are not.
    """
    try:
        array = np.asarray(agents)
    except ValueError:  # lists of different lengths
        array = np.empty(0)
    shapes = [()] if n_envs is None else [(), (n_envs,)]
    fits = array.dtype.kind in "iu" and array.shape in shapes
    if not fits or not ((array >= 0) & (array < n_agents)).all():
        number = "an integer" if n_envs is None else f"an integer or {n_envs} integers"
        raise ValueError(f"{name} is {shown(agents)}, expected {number} from 0 to {n_agents - 1}")
    return array.astype(np.int64)
