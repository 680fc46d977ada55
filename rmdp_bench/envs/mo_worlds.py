"""Worlds of MO-Gymnasium, an optional extra: agents who weigh objectives, in percent.

Description:
    `pip install "rmdp_bench[mo]"`.
    DeepSeaTreasure: deep-sea-treasure-v0, a submarine, and treasures that are worth more the
    farther they are.
    FruitTree: fruit-tree-v0 of depth 6, six choices, and one of 64 fruits with six nutrients.
    Minecart: minecart-v0, two ores from five mines, and fuel.

Population:
    `LinearPopulation`: agent i weighs the objectives by w_i, a draw of the flat Dirichlet
    distribution. The keyword n_agents changes their number (agents of the same seed are the same,
    however many there are), population gives others of one's own, as
    `rmdp_bench.weigh_objectives(id, weights)` makes them of weights (n, m).

Observation:
    MO-Gymnasium's:
    DeepSeaTreasure: row and column.
    FruitTree: row and place in it.
    Minecart: position, speed, sine and cosine of the direction, and the load of each ore.

Action:
    MO-Gymnasium's:
    DeepSeaTreasure: up, down, left, right.
    FruitTree: left or right.
    Minecart: mine, turn left, turn right, accelerate, brake, nothing.

Reward:
    DeepSeaTreasure, FruitTree: `info["outcome"]` is the vector reward and, as the Pareto front is
    known, one number more: 1 in the step that ends the episode with what was looked for, else 0. So
    agent i's return in an episode is 100 (w_i . v - low_i) / (high_i - low_i) for the vector return
    v, where low_i and high_i are the least and the greatest w_i . v on the front: one hundred
    percent is what the agent would have with a policy of its own, and 0 the policy that it likes
    least. It can be negative.
    Minecart: `info["outcome"]` is the vector reward. Nobody knows its front; agent i's return in an
    episode is 100 w_i . v / 1.5 for the vector return v: one hundred percent is a cart full of the
    one ore that an agent cares for, without any fuel.

Episode end:
    MO-Gymnasium's:
    DeepSeaTreasure: at a treasure; truncated after 100 steps.
    FruitTree: at a fruit, after 6 steps.
    Minecart: when the cart is back at its base; truncated after 1000 steps.

Arguments:
    population, n_agents, population_seed: who the agents are, see above; population_seed is 0 by
    default.
    num_envs: copies in the vector form.
    agent_rewards: of the vector form, ignored: infos have them.

Version history:
    v0: first version.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from rmdp_bench.envs.core.checks import (
    check_integer,
    check_n_envs,
    check_population_seed,
    choose_population,
)
from rmdp_bench.envs.represent import BatchedRepresented, Represented, represent
from rmdp_bench.population import MAX_NUMBERS, LinearPopulation, Population
from rmdp_bench.warning_filters import ignored_warnings

Array = NDArray[np.float64]
FULL_CART = 1.5


@dataclass(frozen=True)
class MultiObjectiveWorld:
    """One of the worlds.

    Attributes:
        id: Gymnasium's, in this suite.
        mo_id: MO-Gymnasium's.
        n_objectives: of its vector rewards.
        max_episode_steps: after which an episode is truncated.
        transitions: that a policy is trained for, where nobody says otherwise.
        gamma: discount of the training objective.
        deterministic: whether nothing in it is random.
        budgets: numbers of representatives of the listed tasks, ascending.
        n_agents: where nobody says otherwise.
    """

    id: str
    mo_id: str
    n_objectives: int
    max_episode_steps: int
    transitions: int
    gamma: float
    deterministic: bool
    budgets: tuple[int, ...]
    n_agents: int = 100

    @property
    def front(self) -> Array | None:
        """(A, m) vector returns of the policies that no other exceeds, if they are known."""
        return _fronts().get(self.mo_id)

    @property
    def outcome_size(self) -> int:
        """Length of an outcome."""
        return self.n_objectives + (self.front is not None)

    def make_population(self, population_seed: int = 0, n_agents: int | None = None) -> Population:
        """Draw the agents; see the module."""
        generator = np.random.RandomState(check_population_seed(population_seed))
        n = check_integer("n_agents", self.n_agents if n_agents is None else n_agents, 1, _MOST)
        return self.in_percent(generator.dirichlet(np.ones(self.n_objectives), n))

    def in_percent(self, weights: Array) -> LinearPopulation:
        """Give agents who weigh the objectives, (n, m), each row of sum 1; see the module.

        Raises:
            ValueError: an agent to whom all of the front is worth the same.
        """
        if self.front is None:
            return LinearPopulation(100.0 / FULL_CART * weights)
        return in_percent_of_front(weights, self.front)


_MOST = MAX_NUMBERS // 10
MO_WORLDS = (
    MultiObjectiveWorld(
        *("rmdp/DeepSeaTreasure-n100-v0", "deep-sea-treasure-v0", 2, 100, 250_000, 1.0, True),
        budgets=(1, 2, 3, 5),
    ),
    MultiObjectiveWorld(
        *("rmdp/FruitTree-n100-v0", "fruit-tree-v0", 6, 6, 50_000, 1.0, True),
        budgets=(1, 2, 3, 5, 10),
    ),
    MultiObjectiveWorld(
        *("rmdp/Minecart-n100-v0", "minecart-v0", 3, 1000, 1_000_000, 0.99, False),
        budgets=(2, 5),
    ),
)


def in_percent_of_front(weights: Any, front: Array) -> LinearPopulation:
    """Give agents who weigh objectives, for outcomes of one number more; see the module.

    Args:
        weights: (n, m).
        front: (A, m) vector returns.

    Raises:
        ValueError: an agent to whom all of the front is worth the same.
    """
    weights = np.asarray(weights, np.float64)
    values = weights @ front.T  # (n, A)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    alike = np.flatnonzero(high[:, 0] <= low[:, 0])
    if len(alike):
        raise ValueError(
            f"weights[{alike[0]}] are {weights[alike[0]].tolist()}, to which all policies of the "
            "front are worth the same, expected an agent with a preference"
        )
    return LinearPopulation(100.0 / (high - low) * np.concatenate((weights, -low), axis=1))


def say_how_to_weigh(env_id: str, outcome_size: int) -> str:
    """What to call, the end of a message, where agents may be for the objectives of a world."""
    world = find_mo_world(env_id)
    if world is None or outcome_size != world.n_objectives:
        return ""
    name = world.id.removeprefix("rmdp/")
    return (
        f"; of weights of its {outcome_size} objectives rmdp_bench.weigh_objectives({name!r}, "
        "weights) makes one"
    )


def register_mo_worlds() -> None:
    """Register the worlds with Gymnasium; MO-Gymnasium is needed when one is made."""
    for world in MO_WORLDS:
        if world.id not in gym.registry:
            gym.register(
                id=world.id,
                entry_point="rmdp_bench.envs.mo_worlds:make_single",
                vector_entry_point="rmdp_bench.envs.mo_worlds:make_vector",
                kwargs={"world_id": world.id},
                disable_env_checker=True,  # what it makes is a wrapped environment
                order_enforce=False,
            )


def find_mo_world(env_id: str) -> MultiObjectiveWorld | None:
    """Give the world of an id, if it is one of these."""
    return next((world for world in MO_WORLDS if world.id == env_id), None)


def make_single(
    world_id: str,
    *,
    population: Population | None = None,
    population_seed: int | None = None,
    n_agents: int | None = None,
    render_mode: str | None = None,
) -> Represented:
    """Make the single form; see the module.

    Raises:
        ImportError: MO-Gymnasium is not there.
        ValueError: an argument is out of range.
    """
    world, chosen = _choose(world_id, population, population_seed, n_agents)
    return represent(_make(world, render_mode), chosen, _OUTCOMES[world.front is not None])


def make_vector(
    world_id: str,
    num_envs: int = 1,
    *,
    population: Population | None = None,
    population_seed: int | None = None,
    n_agents: int | None = None,
    agent_rewards: bool = True,
) -> BatchedRepresented:
    """Make the vector form, whose rows are separate environments; see the module.

    Raises:
        ImportError: MO-Gymnasium is not there.
        ValueError: an argument is out of range.
    """
    del agent_rewards
    world, chosen = _choose(world_id, population, population_seed, n_agents)
    make = functools.partial(_make, world, None)
    make().close()  # its errors before those of many
    vector: Any = import_module("mo_gymnasium.wrappers.vector")
    envs: VectorEnv[Any, Any, Any] = vector.MOSyncVectorEnv([make] * check_n_envs(num_envs))
    return represent(envs, chosen, _OUTCOMES[world.front is not None])


def _choose(
    world_id: str, population: Any, seed: int | None, n_agents: int | None
) -> tuple[MultiObjectiveWorld, Population]:
    world = find_mo_world(world_id)
    assert world is not None, world_id
    make = functools.partial(world.make_population, n_agents=n_agents)
    hint = say_how_to_weigh(world_id, getattr(population, "outcome_size", 0))
    agents = choose_population(
        population, seed, world.outcome_size, make, n_agents=n_agents, hint=hint
    )
    return world, agents


def import_mo_gymnasium(world_id: str) -> Any:
    """Import the library that a world is of.

    Raises:
        ImportError: it is not there.
    """
    try:
        return import_module("mo_gymnasium")
    except ImportError as error:
        raise ImportError(
            f'{world_id} is a world of MO-Gymnasium: pip install "rmdp_bench[mo]"'
        ) from error


def _make(world: MultiObjectiveWorld, render_mode: str | None) -> gym.Env[Any, Any]:
    mo_gymnasium = import_mo_gymnasium(world.id)
    keywords = {} if render_mode is None else {"render_mode": render_mode}
    # Of a space of MO-Gymnasium's, which nobody can change here.
    with ignored_warnings(UserWarning, ".*precision lowered by casting"):
        env: gym.Env[Any, Any] = mo_gymnasium.make(
            world.mo_id,
            max_episode_steps=world.max_episode_steps,
            disable_env_checker=True,  # a check of every step takes as long as ten of them
            **keywords,
        )
    return env


def _vector_reward(
    observations: Any, actions: Any, rewards: Array, following: Any, infos: Any
) -> Array:
    del observations, actions, following, infos
    return rewards


def _with_arrival(
    observations: Any, actions: Any, rewards: Array, following: Any, infos: Any
) -> Array:
    """The vector reward, and whether a treasure or a fruit was reached."""
    del observations, actions, following, infos
    return np.concatenate((rewards, (rewards > 0.0).any(axis=1, keepdims=True)), axis=1)


_OUTCOMES = {False: _vector_reward, True: _with_arrival}


@functools.cache
def _fronts() -> dict[str, Array]:
    file = resources.files("rmdp_bench") / "data" / "pareto_fronts.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    return {  # in the precision in which the worlds pay
        name: np.array(rows, np.float32).astype(np.float64)
        for name, rows in document.items()
        if name != "about"
    }
