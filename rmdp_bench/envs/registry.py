"""The environments: one table, from which registration, lists and tests are derived.

To add one: write a world (see `core/base.py`), give it its two forms, and add a row.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import gymnasium as gym

from rmdp_bench.envs import mo_worlds, rules
from rmdp_bench.envs.glucose.patients import glucose_population
from rmdp_bench.messages import shown
from rmdp_bench.population import (
    DynamicsPopulation,
    LinearPopulation,
    Population,
    TargetPopulation,
)

TransitionFunction: TypeAlias = Callable[[Any, Any, Any], Any]
"""Of observations (..., d), actions and next observations (..., d): numbers or booleans (...).

All NumPy arrays or all torch tensors. Actions are (..., a), or (...) where they are discrete.
"""


@dataclass(frozen=True)
class EnvironmentEntry:
    """One registered environment.

    Attributes:
        id: Gymnasium's id.
        entry_point: "module:attribute" of the single form.
        vector_entry_point: "module:attribute" of the vector form.
        max_episode_steps: steps after which an episode is truncated.
        n_agents: number of agents n of the population.
        make_population: population_seed -> the population, without a simulator; with the keyword
            n_agents too where `kwargs` has a default for it.
        kwargs: keywords of both forms that make the id what it is; JSON-able.
        reward_function: reward of a transition, where it is the same for all agents because they
            differ in dynamics; None where they differ in what they want.
        termination_function: whether a transition ends the episode; None as above.
        hidden_reward: whether agents differ in dynamics and the reward is no function of what is
            observed, so that there is no `reward_function`.
        measures: what the world measures beside the reward -> least and greatest value.
        continuous: whether actions are vectors.
        terminates: whether an episode may end before it is truncated.
        deterministic: whether nothing in it is random.
    """

    id: str
    entry_point: str
    vector_entry_point: str
    max_episode_steps: int
    n_agents: int
    make_population: Callable[..., Population | DynamicsPopulation]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    reward_function: TransitionFunction | None = None
    termination_function: TransitionFunction | None = None
    hidden_reward: bool = False
    measures: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    continuous: bool = False
    terminates: bool = True
    deterministic: bool = False

    @property
    def heterogeneous(self) -> bool:
        """Whether the agents differ in dynamics, and one lives in each copy of the world."""
        return self.reward_function is not None or self.hidden_reward


def _uniform_targets(population_seed: int, *, n_agents: int, bound: float) -> TargetPopulation:
    return TargetPopulation.uniform(n_agents, bound, seed=population_seed)


def _targets_in_disc(population_seed: int, *, n_agents: int, bound: float) -> TargetPopulation:
    return TargetPopulation.in_disc(n_agents, bound, seed=population_seed)


def _tiles(population_seed: int) -> LinearPopulation:
    return LinearPopulation.tiles(25)


def _velocity(
    name: str,
    robot: str,
    n_agents: int,
    target_bound: float,
    make_population: Callable[..., TargetPopulation] = _uniform_targets,
) -> EnvironmentEntry:
    return EnvironmentEntry(
        id=f"rmdp/{name}-n{n_agents}-v0",
        entry_point="rmdp_bench.envs.velocity:VelocityEnv",
        vector_entry_point="rmdp_bench.envs.velocity:VelocityVectorEnv",
        max_episode_steps=1000,
        n_agents=n_agents,
        make_population=partial(make_population, n_agents=n_agents, bound=target_bound),
        kwargs={"robot": robot, "default_n_agents": n_agents, "target_bound": target_bound},
        continuous=True,
        terminates=robot != "half_cheetah",
    )


ENVIRONMENTS: tuple[EnvironmentEntry, ...] = (
    _velocity("HalfCheetahVel", "half_cheetah", 100, 4.0),
    _velocity("HalfCheetahVel", "half_cheetah", 1000, 4.0),
    _velocity("AntVel", "ant", 100, 3.0),
    _velocity("AntVel", "ant", 1000, 3.0),
    _velocity("AntVel2d", "ant_2d", 100, 3.0, _targets_in_disc),
    _velocity("HopperVel", "hopper", 100, 2.5),
    _velocity("HopperVel", "hopper", 1000, 2.5),
    _velocity("Walker2dVel", "walker2d", 100, 2.5),
    _velocity("Walker2dVel", "walker2d", 1000, 2.5),
    EnvironmentEntry(
        id="rmdp/ResourceGathering-n25-v0",
        entry_point="rmdp_bench.envs.resource_gathering:ResourceGatheringEnv",
        vector_entry_point="rmdp_bench.envs.resource_gathering:ResourceGatheringVectorEnv",
        max_episode_steps=40,
        n_agents=25,
        make_population=_tiles,
        deterministic=True,
    ),
    EnvironmentEntry(
        id="rmdp/CartPoleHet-n500-v0",
        entry_point="rmdp_bench.envs.classic_het:ClassicHetEnv",
        vector_entry_point="rmdp_bench.envs.classic_het:ClassicHetVectorEnv",
        max_episode_steps=200,
        n_agents=500,
        make_population=rules.cart_pole_population,
        kwargs={"world": "cart_pole"},
        reward_function=rules.cart_pole_reward,
        termination_function=rules.cart_pole_terminated,
    ),
    EnvironmentEntry(
        id="rmdp/MountainCarHet-n500-v0",
        entry_point="rmdp_bench.envs.classic_het:ClassicHetEnv",
        vector_entry_point="rmdp_bench.envs.classic_het:ClassicHetVectorEnv",
        max_episode_steps=500,
        n_agents=500,
        make_population=rules.mountain_car_population,
        kwargs={"world": "mountain_car"},
        reward_function=rules.mountain_car_reward,
        termination_function=rules.mountain_car_terminated,
    ),
    *(
        EnvironmentEntry(
            id=f"rmdp/HalfCheetahHet-n500-{version}",
            entry_point="rmdp_bench.envs.half_cheetah_het:HalfCheetahHetEnv",
            vector_entry_point="rmdp_bench.envs.half_cheetah_het:HalfCheetahHetVectorEnv",
            max_episode_steps=1000,
            n_agents=500,
            make_population=rules.half_cheetah_population,
            kwargs=kwargs,
            reward_function=rules.half_cheetah_reward,
            termination_function=rules.half_cheetah_terminated,
            continuous=True,
        )
        for version, kwargs in (("v0", {}), ("v1", {"time_step": 0.002}))
    ),
    EnvironmentEntry(
        id="rmdp/Glucose-n100-v0",
        entry_point="rmdp_bench.envs.glucose.world:GlucoseEnv",
        vector_entry_point="rmdp_bench.envs.glucose.world:GlucoseVectorEnv",
        max_episode_steps=864,
        n_agents=100,
        make_population=glucose_population,
        hidden_reward=True,
        measures={
            **{f"time_{where}_range": (0.0, 1.0) for where in ("in", "below", "above")},
            "unweighted_risk": (0.0, 100.1),
        },
        continuous=True,
        terminates=False,
    ),
)


def register_environments() -> None:
    """Register every environment of the table with Gymnasium; again is no harm."""
    mo_worlds.register_mo_worlds()
    for entry in ENVIRONMENTS:
        if entry.id not in gym.registry:
            gym.register(
                id=entry.id,
                entry_point=entry.entry_point,
                vector_entry_point=entry.vector_entry_point,
                max_episode_steps=entry.max_episode_steps,
                kwargs=dict(entry.kwargs),
            )


def get_environment(env_id: str) -> EnvironmentEntry:
    """Give the row of an id.

    Raises:
        ValueError: no such id; names the closest ones.
    """
    for entry in ENVIRONMENTS:
        if entry.id == env_id:
            return entry
    ids = [entry.id for entry in ENVIRONMENTS]
    close = difflib.get_close_matches(str(env_id), ids) or ids
    raise ValueError(f"there is no environment {env_id!r}; did you mean {', '.join(close)}?")


def default_n_agents(env_id: str) -> int | None:
    """Give the number of agents that an id has unless n_agents is given; None: no such keyword.

    Args:
        env_id: registered with Gymnasium, by this package or by its user.
    """
    world = mo_worlds.find_mo_world(env_id)
    if world is not None:
        return world.n_agents
    number: int | None = gym.spec(env_id).kwargs.get("default_n_agents")
    return number


def get_population(
    env_id: str, population_seed: int | None = None, *, n_agents: int | None = None
) -> Population | DynamicsPopulation:
    """Give the population of an environment without building its simulator.

    Args:
        env_id: a registered id.
        population_seed: the environment's keyword; None: its default, 0.
        n_agents: the keyword of the velocity environments and of MO-Gymnasium's worlds; None: as
            the id says.

    Raises:
        ValueError: no such id, a seed that is not an integer from 0 to 2**32 - 1, a number of
            agents that is not an integer from 1 to ten million, or one where the environment has no
            such keyword.
    """
    seed = 0 if population_seed is None else population_seed
    world = mo_worlds.find_mo_world(env_id)
    if world is not None:
        return world.make_population(seed, n_agents)
    entry = get_environment(env_id)
    if n_agents is None:
        return entry.make_population(seed)
    if "default_n_agents" not in entry.kwargs:
        raise ValueError(
            f"n_agents is {shown(n_agents)}, but {env_id} has {entry.n_agents} agents and no "
            "others: leave it out"
        )
    return entry.make_population(seed, n_agents=n_agents)
