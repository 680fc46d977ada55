"""The representatives, or heterogeneous agents, as the agents of a PettingZoo world.

    env = rmdp_bench.parallel_env("rmdp/HalfCheetahVel-n100-v0", n_representatives=5)
    env = rmdp_bench.heterogeneous_parallel_env("rmdp/CartPoleHet-n500-v0", agents=[0, 17])
    observations, infos = env.reset(seed=0)
    while env.agents:
        actions = {name: env.action_space(name).sample() for name in env.agents}
        observations, rewards, terminations, truncations, infos = env.step(actions)

Importing `rmdp_bench` registers every environment of the table with PettingZoo under its id:
`pettingzoo.make("parallel", "rmdp/HalfCheetahVel-n100-v0", n_representatives=5)`, and
`pettingzoo.make("parallel", "rmdp/CartPoleHet-n500-v0", agents=[0, 17])`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
from numpy.typing import ArrayLike, NDArray
from pettingzoo import ParallelEnv

from rmdp_bench.envs import ENVIRONMENTS, get_environment, get_population
from rmdp_bench.envs.core.base import WorldVectorEnv
from rmdp_bench.envs.core.checks import (
    ActionCheck,
    Array,
    Rows,
    UnknownKeyword,
    as_array,
    check_agents,
    check_max_episode_steps,
    check_options,
    unknown_keyword,
)
from rmdp_bench.envs.core.world import Details, info_of_row
from rmdp_bench.envs.mo_worlds import find_mo_world
from rmdp_bench.messages import shown
from rmdp_bench.population import DynamicsPopulation, Population

SIMPLEX_TOLERANCE = 1e-6
NOT_FOR_COPIES = (
    *("num_envs", "autoreset_mode", "agent_rewards"),
    *("vectorization_mode", "vector_kwargs", "wrappers"),
)
"""Keywords of `gymnasium.make_vec` and of vector forms without a meaning in PettingZoo's worlds."""


class CopiesEnv(ParallelEnv[str, Any, Any]):
    """Agents of PettingZoo, each in its own copy of a world.

    Infos are those of the single environment. Copies never influence each other; one that ends
    leaves `agents` while the others go on, and all start together at `reset`.

    Attributes:
        possible_agents: their names.
        population: who lives in the copies, or is represented in them.
    """

    def __init__(
        self,
        env_id: str,
        names: Sequence[str],
        render_mode: str | None,
        *,
        max_cycles: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a copy for each name."""
        for name in kwargs:
            if name in NOT_FOR_COPIES:
                raise TypeError(
                    f"unexpected keyword argument {name!r}, a vector environment's; here every "
                    "agent has one copy of the world, and all are reset together"
                )
        if max_cycles is not None:
            if "max_episode_steps" in kwargs:
                raise TypeError("max_cycles and max_episode_steps are the same: give one of them")
            kwargs["max_episode_steps"] = check_max_episode_steps(max_cycles, "max_cycles")
        try:
            envs: Any = gym.make_vec(
                env_id, num_envs=len(names), render_mode=render_mode, **kwargs
            ).unwrapped
        except UnknownKeyword as error:
            _, name, accepted = error.args
            ours = [word for word in accepted if word not in NOT_FOR_COPIES]
            raise unknown_keyword(name, [*ours, "max_cycles"]) from None
        if not isinstance(envs, WorldVectorEnv):
            raise ValueError(f"{env_id!r} made a {type(envs).__name__}, which has no world")
        # The vector environment seeds and resets the copies; the world steps those still alive.
        self._envs = envs
        self._options: dict[str, Any] = {}
        self.population = envs.population
        self.render_mode = render_mode
        self.metadata = {
            "name": env_id,
            "render_modes": envs.metadata["render_modes"],
            "render_fps": envs.metadata.get("render_fps", 30),
            "is_parallelizable": True,
        }
        self.possible_agents = list(names)
        self.agents: list[str] = []
        single = envs.single_observation_space, envs.single_action_space
        self.observation_spaces = {name: deepcopy(single[0]) for name in self.possible_agents}
        self.action_spaces = {name: deepcopy(single[1]) for name in self.possible_agents}
        self._check_actions = ActionCheck(envs.single_action_space)
        self._elapsed_steps = 0

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Give the observation space of an agent, always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Give the action space of an agent, always the same object."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Start an episode in every copy.

        Args:
            seed: s: the copy of the j-th of `possible_agents` is seeded with s + j; None: it goes
                on with its own generator.
            options: there are none.

        Raises:
            ValueError: an option.
        """
        check_options(options, ())
        observations, infos = self._envs.reset(seed=seed, options=self._options)
        self.agents = list(self.possible_agents)
        self._elapsed_steps = 0
        rows = np.arange(len(self.agents))
        details = {name: infos[name] for name in infos if f"_{name}" in infos}
        return self._name(rows, observations), self._infos(rows, details)

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, Array],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Step those in `agents`, each by its own action.

        Raises:
            ValueError: one has no action, an action is for one that is not in
                `agents`, or an action has the wrong dtype or shape, is NaN or out of range.
        """
        if set(actions) != set(self.agents):
            raise ValueError(
                f"actions are for {sorted(actions)}, expected one for each of {self.agents} "
                "(reset() brings back those that have finished)"
            )
        if not self.agents:
            return {}, {}, {}, {}, {}
        names = list(self.agents)
        rows = np.array([self.possible_agents.index(name) for name in names])
        given = as_array([actions[name] for name in names])
        checked = self._check_actions(given, np.arange(len(rows)), len(rows))
        rewards, terminated, details = self._envs.world.advance(rows, checked)
        self._elapsed_steps += 1
        limit = self._envs.max_episode_steps
        truncated = limit is not None and self._elapsed_steps >= limit
        rewards = self._rewards(rows, rewards, details)
        self.agents = [
            name for name, ended in zip(names, terminated, strict=True) if not (ended or truncated)
        ]
        return (
            self._name(rows, self._envs.world.observe(rows)),
            dict(zip(names, rewards.tolist(), strict=True)),
            dict(zip(names, terminated.tolist(), strict=True)),
            dict.fromkeys(names, truncated),
            self._infos(rows, details),
        )

    def _rewards(self, rows: Array, rewards: Array, details: Details) -> Array:
        """Rewards (B,) of the agents of `rows` (B,)."""
        return rewards

    def render(self, agent: str | None = None) -> Any:
        """Render one agent's copy, or all of them.

        Args:
            agent: its name; None: all, pictures side by side ("rgb_array"), texts under each other,
                each below its agent's name ("ansi").

        Raises:
            ValueError: no such agent.
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: pass one to parallel_env")
            return None
        if agent is not None and agent not in self.possible_agents:
            raise ValueError(f"agent is {shown(agent)}, expected one of {self.possible_agents}")
        if agent is not None:
            return self._envs.world.render(self.possible_agents.index(agent), self.render_mode)
        frames = [self.render(name) for name in self.possible_agents]
        if self.render_mode == "ansi":
            pairs = zip(self.possible_agents, frames, strict=True)
            return "\n".join(f"{name}\n{frame}" for name, frame in pairs)
        return np.concatenate(frames, axis=1)

    def close(self) -> None:
        """Free what rendering holds."""
        self._envs.close()

    def _name(self, rows: Array, values: Array) -> dict[str, Array]:
        return {self.possible_agents[row]: value for row, value in zip(rows, values, strict=True)}

    def _infos(self, rows: Array, details: Details) -> dict[str, dict[str, Any]]:
        return {
            self.possible_agents[row]: info_of_row(details, index) for index, row in enumerate(rows)
        }


class RepresentativesEnv(CopiesEnv):
    """k representatives, each in its own copy of the world, rewarded by the agents it serves.

    The reward of representative j is the weighted mean sum_i alpha^i(j) r^i / sum_i alpha^i(j) over
    the agents, percent of a perfect episode; 0.0 if no agent has any weight on it. The infos of a
    representative hold "agent_rewards" (n,) and "outcome" (m,), as in the single environment.

    Attributes:
        possible_agents: "representative_0" to "representative_<k - 1>".
        population: the agents that are represented.
        assignment: (n, k), rows on the simplex, read-only.
    """

    population: Population

    def __init__(
        self,
        env_id: str,
        n_representatives: int,
        assignment: ArrayLike | None = None,
        *,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """See `parallel_env`."""
        if find_mo_world(env_id) is not None:
            raise ValueError(
                f"{env_id!r} is a world of MO-Gymnasium and has no parallel form; use gym.make_vec"
            )
        entry = get_environment(env_id)
        if entry.heterogeneous:
            raise ValueError(
                f"the agents of {env_id!r} differ in dynamics and are not represented: "
                "use heterogeneous_parallel_env"
            )
        n_agents = get_population(env_id, n_agents=kwargs.get("n_agents")).n_agents
        k = _check_n_representatives(n_representatives, n_agents)
        self.assignment = _check_assignment(assignment, n_agents, k)
        super().__init__(env_id, [f"representative_{j}" for j in range(k)], render_mode, **kwargs)
        totals = self.assignment.sum(axis=0)
        self._weights = (self.assignment / np.where(totals > 0.0, totals, 1.0)).T.copy()  # (k, n)

    def _rewards(self, rows: Array, rewards: Array, details: Details) -> Array:
        weighted = details["agent_rewards"] * self._weights[rows]
        total: Array = np.add.reduce(weighted, axis=-1)
        return total


class HeterogeneousAgentsEnv(CopiesEnv):
    """Heterogeneous agents, each in a world with its own dynamics.

    Rewards are those of the single environment, and so are the infos: "agent", the index.

    Attributes:
        possible_agents: "agent_<i>" for each index i.
        population: all agents.
    """

    population: DynamicsPopulation

    def __init__(
        self,
        env_id: str,
        agents: Sequence[int] | None = None,
        *,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """See `heterogeneous_parallel_env`."""
        population = get_population(env_id)
        if not isinstance(population, DynamicsPopulation):
            raise ValueError(
                f"the agents of {env_id!r} share the dynamics and are represented: use parallel_env"
            )
        chosen = _check_chosen(population.test_agents if agents is None else agents, population)
        super().__init__(env_id, [f"agent_{agent}" for agent in chosen], render_mode, **kwargs)
        self._options = {"agent": chosen}


def heterogeneous_parallel_env(
    env_id: str,
    agents: Sequence[int] | None = None,
    *,
    render_mode: str | None = None,
    **kwargs: Any,
) -> HeterogeneousAgentsEnv:
    """Make a PettingZoo ParallelEnv of agents that differ in dynamics.

    Args:
        env_id: an environment of this package, such as "rmdp/CartPoleHet-n500-v0".
        agents: different indices of agents, in any order; None: the test agents.
        render_mode: a mode that gives frames: "rgb_array".
        **kwargs: the environment's own, such as `population_seed`; `max_episode_steps`, or
            `max_cycles`, PettingZoo's word for it.

    Raises:
        TypeError: an unknown keyword, or a vector environment's, such as `num_envs`.
        ValueError: an unknown id, or a value out of range.
    """
    return HeterogeneousAgentsEnv(env_id, agents, render_mode=render_mode, **kwargs)


def parallel_env(
    env_id: str,
    n_representatives: int = 2,
    assignment: ArrayLike | None = None,
    *,
    render_mode: str | None = None,
    **kwargs: Any,
) -> RepresentativesEnv:
    """Make a PettingZoo ParallelEnv whose agents are k representatives.

    Args:
        env_id: an environment of this package, such as "rmdp/ResourceGathering-n25-v0".
        n_representatives: k, from 1 to the number of agents n; by default the fewest among whom
            agents are divided.
        assignment: (n, k), the weight of each representative for each agent, rows on the simplex.
            None: a balanced split in the order of the agents, agent i to representative
            floor(i k / n), so that groups differ by one agent at most.
        render_mode: a mode that gives frames: "rgb_array", or "ansi" for the grid.
        **kwargs: the environment's own, such as `population_seed`; `max_episode_steps`, or
            `max_cycles`, PettingZoo's word for it.

    Raises:
        TypeError: an unknown keyword, or a vector environment's, such as `num_envs`.
        ValueError: an unknown id, or a value out of range.
    """
    return RepresentativesEnv(
        env_id, n_representatives, assignment, render_mode=render_mode, **kwargs
    )


def register_parallel_environments() -> None:
    """Register every environment of the table with PettingZoo; again is no harm."""
    for entry in ENVIRONMENTS:
        maker = heterogeneous_parallel_env if entry.heterogeneous else parallel_env
        if entry.id not in pettingzoo.parallel_registry:
            pettingzoo.register(
                "parallel",
                entry.id,
                entry_point=f"rmdp_bench.envs.parallel:{maker.__name__}",
                kwargs={"env_id": entry.id},
            )


def _check_chosen(agents: Sequence[int], population: DynamicsPopulation) -> Rows:
    """The indices as an array (E,), E >= 1."""
    try:
        n_chosen = len(agents)
    except TypeError:
        n_chosen = 0
    chosen = check_agents(agents, len(population.parameters), n_chosen, "agents")
    if chosen.ndim != 1 or not n_chosen or len(np.unique(chosen)) != n_chosen:
        raise ValueError(
            f"agents is {shown(agents)}, expected one or more different integers in a list"
        )
    return chosen


def _check_n_representatives(n_representatives: Any, n_agents: int) -> int:
    is_integer = isinstance(n_representatives, int | np.integer)
    if not is_integer or isinstance(n_representatives, bool):
        raise ValueError(f"n_representatives is {shown(n_representatives)}, expected an integer")
    if not 1 <= n_representatives <= n_agents:
        raise ValueError(
            f"n_representatives is {n_representatives}, expected 1 to {n_agents}, "
            "the number of agents"
        )
    return int(n_representatives)


def _check_assignment(
    assignment: ArrayLike | None, n_agents: int, n_representatives: int
) -> NDArray[np.float64]:
    """A read-only copy (n, k), or the balanced split."""
    shape = (n_agents, n_representatives)
    if assignment is None:
        weights = np.zeros(shape)
        agents = np.arange(n_agents)
        weights[agents, agents * n_representatives // n_agents] = 1.0
    else:
        try:
            weights = np.array(assignment, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"assignment is not an array of numbers: {error}") from error
        if weights.shape != shape:
            raise ValueError(f"assignment has shape {weights.shape}, expected {shape}: (n, k)")
        on_simplex = np.isclose(weights.sum(axis=1), 1.0, atol=SIMPLEX_TOLERANCE, rtol=0.0)
        on_simplex &= (weights >= 0.0).all(axis=1)
        if not on_simplex.all():
            agent = int(np.flatnonzero(~on_simplex)[0])
            raise ValueError(
                f"assignment[{agent}] is {weights[agent].tolist()}, expected weights >= 0 that "
                "sum to 1"
            )
    weights.setflags(write=False)
    return weights
