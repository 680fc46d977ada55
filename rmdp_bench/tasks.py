"""Tasks, one row each: an environment, and a budget of k representatives or logged data.

Every list of tasks (command line, tests, documentation) comes from this table.  A task id is opaque
and versioned: a change of reward, dynamics, population or rules makes a new version.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import gymnasium as gym

from rmdp_bench.ceilings import (
    constant_speed_optimum,
    planar_velocity_bound,
    resource_gathering_optimum,
)
from rmdp_bench.envs import ENVIRONMENTS, get_environment, get_population
from rmdp_bench.envs.core.checks import check_integer
from rmdp_bench.population import DynamicsPopulation, Population, TargetPopulation
from rmdp_bench.references import references


@dataclass(frozen=True, kw_only=True)
class _CommonTask:
    """What tasks of both tracks have.

    Attributes:
        id: opaque, versioned name.
        env_id: Gymnasium id of the environment.
        n_agents: number of agents n; offline, of those who are in the data.
        n_representatives: budget k of policies; offline n, as each agent may have its own.
        transitions: training budget, environment steps PER POLICY (k times as many in all); offline
            0.
        n_eval_episodes: deterministic episodes that score each policy; offline, each agent.
        gamma: discount of the training objective; scores are undiscounted.
        max_episode_steps: steps after which an episode is truncated.
        unranked: why its records cannot be submitted; None: they can.
        common_optimum: whether many solvers find the same policies, so that equal ones are no sign
            of a copy.
    """

    track: ClassVar[str]
    """"online": the solver acts in the environment. "offline": it learns from logged data and never
    acts."""

    id: str
    env_id: str
    n_agents: int
    n_representatives: int
    transitions: int
    n_eval_episodes: int = 20
    gamma: float
    max_episode_steps: int
    unranked: str | None = None
    common_optimum: bool = False

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Keywords of `gym.make` and `gym.make_vec`: n_agents, if it is not the one of the id."""
        own = gym.spec(self.env_id).kwargs.get("n_agents", self.n_agents)
        return {} if own == self.n_agents else {"n_agents": self.n_agents}

    @property
    def ceiling(self) -> float | None:
        """Greatest score that is possible, percent; None where unknown."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """What describes a task of either track, ready for JSON; of the same keys for both."""
        own = _OFFLINE_ONLY | dataclasses.asdict(self)
        own |= {"track": self.track, "ceiling": self.ceiling}
        return {
            name: list(own[name]) if isinstance(own[name], tuple) else own[name]
            for name in _DOCUMENT_ORDER
        }


_OFFLINE_ONLY: dict[str, Any] = {"dataset_id": None, "eval_agents": None, "heldout_agents": ()}
"""What documents say of an online task where an offline one has something."""
_DOCUMENT_ORDER = (
    *("id", "track", "env_id", "dataset_id", "n_agents", "n_representatives", "transitions"),
    *("n_eval_episodes", "eval_agents", "gamma", "max_episode_steps", "heldout_agents"),
    *("unranked", "common_optimum", "ceiling"),
)


@dataclass(frozen=True, kw_only=True)
class OnlineTask(_CommonTask):
    """n agents and k policies for them.

    The agents want different things from one world; or, where the task is `heterogeneous`, they
    differ in dynamics, and one lives in each copy of the world.
    """

    track: ClassVar[str] = "online"

    @property
    def heterogeneous(self) -> bool:
        """Whether the agents differ in dynamics: a transition informs about one of them."""
        return any(entry.id == self.env_id and entry.heterogeneous for entry in ENVIRONMENTS)

    @property
    def population(self) -> Population:
        """The agents, where they share the dynamics.

        Raises:
            AttributeError: they differ in dynamics.
        """
        if self.heterogeneous:
            raise AttributeError(
                f"the agents of {self.id} differ in dynamics and have no outcomes in common: use "
                "hidden_population"
            )
        return cast(Population, get_population(self.env_id, **self.env_kwargs))

    @property
    def hidden_population(self) -> DynamicsPopulation:
        """The agents of a heterogeneous task with their hidden parameters: for scoring.

        Raises:
            AttributeError: the agents share the dynamics.
        """
        if not self.heterogeneous:
            raise AttributeError(f"the agents of {self.id} share the dynamics: use population")
        return cast(DynamicsPopulation, get_population(self.env_id))

    def with_agents(self, n_agents: int) -> OnlineTask:
        """The task with another number of agents, of the same seed, under an id of its own.

        It is for experiments and is not in the table: the suite's solvers and `evaluate` take it,
        since they make environments with `**task.env_kwargs`; `get_task`, and so the command line,
        does not know it. The velocity environments have such a keyword.

        Args:
            n_agents: n >= k, up to millions with solvers whose cost does not depend on it.

        Raises:
            ValueError: not such an integer, or the number of agents is part of the environment.
        """
        is_integer = isinstance(n_agents, int) and not isinstance(n_agents, bool)
        if not is_integer or n_agents < self.n_representatives:
            raise ValueError(
                f"n_agents is {n_agents!r}, expected an integer >= {self.n_representatives}, the "
                "number of representatives"
            )
        task = dataclasses.replace(self, id=f"{self.id}-agents{n_agents}", n_agents=n_agents)
        get_population(self.env_id, n_agents=n_agents)  # refuses environments without the keyword
        return task

    @property
    def ceiling(self) -> float | None:
        """Greatest social welfare that k policies can reach, percent; None where unknown.

        Exact for this population and budget; see `rmdp_bench.ceilings` for what it bounds.
        """
        return _ceiling(self.env_id, self.n_representatives, self.env_kwargs.get("n_agents"))


def heterogeneous_task(
    env_id: str, n_representatives: int, *, n_agents: int | None = None, n_eval_episodes: int = 20
) -> OnlineTask:
    """A task of k policies for agents who differ in dynamics, under an id of its own.

    It is for experiments and is not in the table: k, and how many agents, are up to the caller. The
    solvers of represented MDPs refuse it; `evaluate` takes it.

    Args:
        env_id: of an environment whose agents differ in dynamics.
        n_representatives: k, 1 to n.
        n_agents: n, the first agents of the population; None: all but the held-out ones.
        n_eval_episodes: of each agent under each policy.

    Raises:
        ValueError: a value is out of range, or the agents share the dynamics.
    """
    entry = get_environment(env_id)
    if not entry.heterogeneous:
        raise ValueError(f"the agents of {env_id} share the dynamics, expected a world for each")
    name = env_id.removeprefix("rmdp/")
    n_agents = check_integer(
        "n_agents", entry.n_agents if n_agents is None else n_agents, 1, entry.n_agents
    )
    k = check_integer("n_representatives", n_representatives, 1, n_agents)
    return OnlineTask(
        id=f"{name}-custom-n{n_agents}-k{k}",
        env_id=env_id,
        n_agents=n_agents,
        n_representatives=k,
        transitions=_HETEROGENEOUS_TRANSITIONS,
        n_eval_episodes=check_integer("n_eval_episodes", n_eval_episodes, 1, 10**6),
        gamma=0.99,
        max_episode_steps=entry.max_episode_steps,
        unranked=_NOT_VERIFIED,
    )


@dataclass(frozen=True, kw_only=True)
class OfflineTask(_CommonTask):
    """n agents who differ in hidden dynamics, and one logged trajectory of each.

    Attributes:
        dataset_id: Minari id of the data.
        eval_agents: the agents in the data that are scored.
        heldout_agents: agents who are not in the data; how a solver serves them is reported apart.
    """

    track: ClassVar[str] = "offline"

    dataset_id: str
    eval_agents: tuple[int, ...]
    heldout_agents: tuple[int, ...] = ()

    @property
    def hidden_population(self) -> DynamicsPopulation:
        """The agents with their hidden parameters: for scoring, and not for solvers that learn."""
        return cast(DynamicsPopulation, get_population(self.env_id))


Task = OnlineTask | OfflineTask
"""One problem: serve agents with policies."""


_HETEROGENEOUS_TRANSITIONS = 10_000_000
"""Per policy: two thirds of what one policy for all patients took to learn."""
_NOT_VERIFIED = "the verification cannot play tasks whose agents differ in dynamics yet"


def list_tasks() -> list[Task]:
    """All tasks, in the order of the table."""
    return list(_tasks().values())


def get_task(task_id: str) -> Task:
    """The task with this id.

    Raises:
        ValueError: no task has it; the message names the closest ids, or, for a task of an earlier
            version, its successor.
    """
    tasks, retired = _tasks(), retired_tasks()
    if task_id in retired:
        old = retired[task_id]
        raise ValueError(f"the task {task_id} is retired: {old.reason}; use {old.successor}")
    if task_id not in tasks:
        close = difflib.get_close_matches(str(task_id), tasks, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "see `rmdp-bench list tasks`"
        raise ValueError(f"unknown task {task_id!r}; {hint}")
    return tasks[task_id]


def get_online_task(task_id: str) -> OnlineTask:
    """The task with this id, as `get_task`.

    Raises:
        ValueError: no task has it, or it is offline.
    """
    task = get_task(task_id)
    if not isinstance(task, OnlineTask):
        raise ValueError(f"{task_id} is an offline task, expected an online one")
    return task


def get_offline_task(task_id: str) -> OfflineTask:
    """The task with this id, as `get_task`.

    Raises:
        ValueError: no task has it, or it is online.
    """
    task = get_task(task_id)
    if not isinstance(task, OfflineTask):
        raise ValueError(f"{task_id} is an online task, expected an offline one")
    return task


def find_logged_task(name: str, kind: str) -> OfflineTask:
    """The offline task of an environment with a kind of data.

    Args:
        name: of the environment: its id without "rmdp/" and without the version.
        kind: such as "pure".

    Raises:
        ValueError: there is none.
    """
    for logged in _LOGGED:
        if logged.name == name and kind in _DATA_KINDS:
            return get_offline_task(logged.task_id(kind))
    raise ValueError(f"there is no offline task of {name!r} with {kind!r} data")


@dataclass(frozen=True)
class RetiredTask:
    """A task of an earlier version, which is refused.

    Attributes:
        successor: id of the task that took its place.
        reason: why.
        same_world: whether environment and data are the successor's, so that returns are too.
    """

    successor: str
    reason: str
    same_world: bool


@functools.cache
def retired_tasks() -> Mapping[str, RetiredTask]:
    """Id -> the task of an earlier version that had it."""
    return {
        logged.task_id(kind, version): RetiredTask(
            logged.task_id(kind), reason, same_world=version == logged.env_version
        )
        for logged in _LOGGED
        for version, reason in logged.retired.items()
        for kind in _DATA_KINDS
    }


def _constant_speed_ceiling(population: Population, n_representatives: int) -> float:
    return constant_speed_optimum(cast(TargetPopulation, population), n_representatives)[0]


def _planar_velocity_ceiling(population: Population, n_representatives: int) -> float | None:
    return planar_velocity_bound(cast(TargetPopulation, population), n_representatives)


def _resource_gathering_ceiling(population: Population, n_representatives: int) -> float:
    del population  # its 25 tiles are part of the world
    return resource_gathering_optimum(n_representatives)[0]


@dataclass(frozen=True)
class _Family:
    """Tasks that differ in their budget only.

    Attributes:
        name: of the environment: its id without "rmdp/" and without the version.
        budgets: numbers of representatives, ascending.
        transitions: per policy.
        gamma: discount of the training objective.
        ceiling: population and budget -> greatest social welfare, percent; None: not known.
        version: of the environment and of its tasks.
        easy_budgets: those with which many solvers find the same optimum.
    """

    name: str
    budgets: tuple[int, ...]
    transitions: int
    gamma: float
    ceiling: Callable[[Population, int], float | None] | None
    version: str = "v0"
    easy_budgets: tuple[int, ...] = ()

    @property
    def env_id(self) -> str:
        """Gymnasium id of the environment."""
        return f"rmdp/{self.name}-{self.version}"


_VELOCITY = (2_000_000, 0.99, _constant_speed_ceiling)
_FAMILIES = (
    _Family("HalfCheetahVel-n100", (1, 2, 5, 10), *_VELOCITY),
    _Family("AntVel-n100", (1, 2, 5, 10), *_VELOCITY),
    _Family("AntVel2d-n100", (1, 2, 5, 10), 2_000_000, 0.99, _planar_velocity_ceiling),
    _Family("HopperVel-n100", (1, 2, 5, 10), *_VELOCITY),
    _Family("Walker2dVel-n100", (1, 2, 5, 10), *_VELOCITY),
    _Family("HalfCheetahVel-n1000", (50,), *_VELOCITY),
    _Family("AntVel-n1000", (50,), *_VELOCITY),
    _Family("HopperVel-n1000", (50,), *_VELOCITY),
    _Family("Walker2dVel-n1000", (50,), *_VELOCITY),
    _Family(
        *("ResourceGathering-n25", (1, 2, 3, 5, 10, 25), 1_000_000, 1.0),
        _resource_gathering_ceiling,
        easy_budgets=(1,),  # nine rows have the same welfare
    ),
    _Family("Glucose-n100", (1, 2, 3, 5, 10), _HETEROGENEOUS_TRANSITIONS, 0.99, None),
)


@dataclass(frozen=True)
class _Logged:
    """Tasks that differ in the kind of data only.

    Attributes:
        name: of the environment: its id without "rmdp/" and without the version.
        data: name of its data, without namespace and kind.
        version: of the tasks.
        env_version: of the environment and of its data.
        retired: earlier version -> why its tasks are refused.
        common_optimum: see `Task`.
    """

    name: str
    data: str
    version: str
    env_version: str = "v0"
    retired: Mapping[str, str] = field(default_factory=dict)
    common_optimum: bool = False

    def task_id(self, kind: str, version: str | None = None) -> str:
        """Id of its task with a kind of data; version: None for the present one."""
        return f"{self.name}-{kind}-{version or self.version}"


_PLANNER_ANCHOR = "its 100 was a planner that learned policies exceed"
_LOGGED = (
    _Logged("CartPoleHet-n500", "cartpole-het", "v1", retired={"v0": _PLANNER_ANCHOR}),
    _Logged(
        *("MountainCarHet-n500", "mountaincar-het", "v1"),
        retired={"v0": _PLANNER_ANCHOR},
        common_optimum=True,  # full speed in the direction of the movement
    ),
    _Logged(
        *("HalfCheetahHet-n500", "halfcheetah-het", "v1", "v1"),
        retired={"v0": "its light robots win energy from the error of the integration"},
    ),
)
_DATA_KINDS = ("pure", "random", "pure-eps20", "pure-eps40")
_N_UNSEEN = 5
_N_EXTRAPOLATING = 4
"""Held-out agents of a task: all four sides of a range of two parameters."""


def choose_heldout(population: DynamicsPopulation) -> tuple[int, ...]:
    """The agents that an offline task scores although they are not in the data."""
    unseen, extrapolating = population.unseen_agents, population.extrapolating_agents
    return (*unseen[:_N_UNSEEN], *extrapolating[:_N_EXTRAPOLATING])


@functools.cache
def _tasks() -> dict[str, Task]:
    environments = {entry.id: entry for entry in ENVIRONMENTS}
    tasks: dict[str, Task] = {}
    for family in _FAMILIES:
        entry = environments[family.env_id]
        for budget in family.budgets:
            online = OnlineTask(
                id=f"{family.name}-k{budget}-{family.version}",
                env_id=entry.id,
                n_agents=entry.n_agents,
                n_representatives=budget,
                transitions=family.transitions,
                gamma=family.gamma,
                max_episode_steps=entry.max_episode_steps,
                unranked=_NOT_VERIFIED if entry.heterogeneous else None,
                common_optimum=budget in family.easy_budgets,
            )
            tasks[online.id] = online
    for logged in _LOGGED:
        entry = environments[f"rmdp/{logged.name}-{logged.env_version}"]
        agents = cast(DynamicsPopulation, get_population(entry.id))
        scored, heldout = tuple(agents.test_agents), choose_heldout(agents)
        known = references(entry.id).keys() >= {*scored, *heldout}
        unranked = None if known else "the returns that count as 100 are not known yet"
        for kind in _DATA_KINDS:
            offline = OfflineTask(
                id=logged.task_id(kind),
                env_id=entry.id,
                dataset_id=f"rmdp/{logged.data}/{kind}-{logged.env_version}",
                n_agents=entry.n_agents,
                n_representatives=entry.n_agents,
                transitions=0,
                eval_agents=scored,
                gamma=0.99,
                max_episode_steps=entry.max_episode_steps,
                heldout_agents=heldout,
                unranked=unranked,
                common_optimum=logged.common_optimum,
            )
            tasks[offline.id] = offline
    return tasks


@functools.cache
def _ceiling(env_id: str, n_representatives: int, n_agents: int | None) -> float | None:
    for family in _FAMILIES:
        if family.env_id == env_id and family.ceiling is not None:
            population = cast(Population, get_population(env_id, n_agents=n_agents))
            return family.ceiling(population, n_representatives)
    return None
