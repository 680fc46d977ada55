"""What the environments of heterogeneous agents share: one agent lives in each copy of the world.

    env.reset(options={"agent": 3})             agent 3 lives in this episode
    env.reset()                                 an agent is drawn from env.np_random
    envs.reset(options={"agent": [0, 3, 3]})    one agent per copy; an integer: the same in all

Who it is stands in `info["agent"]` at reset and at every step.  Its parameters are in
`env.unwrapped.population.parameters`, never in observations or infos.

As in SyncVectorEnv, options are for the reset that they are given to: an episode that autoreset
starts has an agent drawn anew.  To keep or choose agents, take the mode DISABLED and reset the
copies that have ended with `options={"reset_mask": mask, "agent": agents}`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.envs.core.base import WorldEnv, WorldVectorEnv
from rmdp_bench.envs.core.checks import (
    Array,
    Rows,
    check_agents,
    check_options,
    check_population_seed,
)
from rmdp_bench.envs.core.world import Details, State, World
from rmdp_bench.population import DynamicsPopulation


class HeterogeneousWorld(World):
    """A world in which the dynamics of a row are those of the agent that lives in it.

    `step` gives the rewards (B,) of these agents.

    Attributes:
        population: the agents and their parameters.
        agents: (E,) int64, who lives in each row; read it, and write it with `set_agents`.
    """

    population: DynamicsPopulation
    agents: NDArray[np.int64]

    @abstractmethod
    def set_agents(self, rows: Rows, agents: Rows) -> None:
        """Let `agents` (B,) live in `rows` (B,), without a change of the rows' states."""

    def measure(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        """What evaluation averages over the steps beside the reward, by name: (B,) of `rows`.

        It may depend on what is hidden, and is in no observation or info. By default nothing.
        """
        del rows
        return {}

    def start(
        self, rows: Rows, generators: Sequence[np.random.Generator], agents: Rows | None = None
    ) -> Details:
        """Let agents live in the rows, drawn first if they are not given, and reset."""
        if agents is None:
            n_agents = self.population.n_agents
            agents = np.array([generator.integers(n_agents) for generator in generators])
        self.set_agents(rows, agents)
        self.reset(rows, generators)
        return {"agent": self.agents[rows]}

    def advance(
        self, rows: Rows, actions: Array
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], Details]:
        """Step."""
        self.count(rows)
        rewards, terminated = self.step(rows, actions)
        return rewards, terminated, {"agent": self.agents[rows]}

    def _set_agents_of_state(self, state: Mapping[str, Array], own: State) -> None:
        """Check a state against arrays of the same names, and set its agents.

        Raises:
            ValueError: an array is missing, unknown or has another shape, or there is no such
                agent.
        """
        shapes = {name: np.shape(array) for name, array in state.items()}
        expected = {name: array.shape for name, array in own.items()}
        if shapes != expected:
            raise ValueError(f"state has the arrays {shapes}, expected {expected}")
        agents = check_agents(
            state["agent"], len(self.population.parameters), self.n_envs, "state['agent']"
        )
        self.set_agents(np.arange(self.n_envs), agents)


def choose_population(
    make: Callable[[int], DynamicsPopulation], population_seed: Any, parameters: ArrayLike | None
) -> DynamicsPopulation:
    """Give the population that the keywords of an environment ask for.

    Args:
        make: population_seed -> the population of the id.
        population_seed: of the agents that are drawn.
        parameters: (n, p), of the agents to put in the place of all others; None: those of the id.

    Raises:
        ValueError: a value is wrong or out of range.
    """
    population = make(check_population_seed(population_seed))
    return population if parameters is None else population.with_agents(parameters)


class HeterogeneousEnv(WorldEnv[HeterogeneousWorld]):
    """The single form."""

    population: DynamicsPopulation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the environment's generator; None: it goes on.
            options: {"agent": i}: agent i of `population.parameters` lives in this episode. Without
                it, one of `population.agents` is drawn from `np_random`, before anything else.

        Raises:
            ValueError: no such agent, or an unknown option.
        """
        options = check_options(options, ("agent",))
        return self._reset(seed, _agents_of(options, self.world, many=False))


class HeterogeneousVectorEnv(WorldVectorEnv[HeterogeneousWorld]):
    """The vector form."""

    population: DynamicsPopulation

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
            options: {"agent": agents}: an agent for each row (E,), of which those of the rows that
                are reset are used, or one for all. They live in the episodes that begin now; those
                that autoreset begins have agents drawn, as have all without this option.

        Raises:
            ValueError: no such agent, agents of another shape, an unknown option, a sequence of
                seeds of another length, or a mask of another shape or without a True.
            TypeError: the mask is not a boolean array.
            gymnasium.error.ResetNeeded: a row outside the mask was never reset.
        """
        options = check_options(options, ("agent", "reset_mask"))
        return self._reset(seed, options, _agents_of(options, self.world, many=True))

    def measure(self) -> dict[str, NDArray[np.float64]]:
        """What evaluation averages over the steps beside the reward, by name: (E,).

        After a step, and of its end: also of an episode that it ended, unless it began another one.
        It tells what is hidden, and is for scoring.
        """
        return self.world.measure(np.arange(self.num_envs))


def _agents_of(options: Mapping[str, Any], world: HeterogeneousWorld, *, many: bool) -> Rows | None:
    """The agents (E,) that options ask for; None: they shall be drawn."""
    if "agent" not in options:
        return None
    n_all, n_envs = len(world.population.parameters), world.n_envs if many else None
    agents = check_agents(options["agent"], n_all, n_envs, "options['agent']")
    return np.broadcast_to(agents, (world.n_envs,))
