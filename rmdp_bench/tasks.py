"""Tasks, one row each: an environment, and a budget of k representatives or logged data.

Every list of tasks (command line, tests, documentation) comes from this table.  A task id is opaque
and versioned: a change of reward, dynamics, population or rules makes a new version.

Beside the table there is every variation of an online task, by `get_task`: another k, another
number of agents, agents of one's own, other transitions, another objective.  Its id is that of the
environment with "-custom-" and a hash of what it is, so that run folders never collide.  Tasks in
worlds of one's own are made by `own_tasks.make_task`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench import scoring
from rmdp_bench.ceilings import (
    best_of_candidates,
    constant_speed_bound,
    planar_velocity_bound,
    resource_gathering_optimum,
)
from rmdp_bench.envs import (
    ENVIRONMENTS,
    EnvironmentEntry,
    default_n_agents,
    get_environment,
    get_population,
)
from rmdp_bench.envs.core.checks import check_integer
from rmdp_bench.envs.mo_worlds import (
    MO_WORLDS,
    MultiObjectiveWorld,
    find_mo_world,
    say_how_to_weigh,
)
from rmdp_bench.envs.outside import OutsideWorlds, WorldFactory
from rmdp_bench.messages import shown
from rmdp_bench.population import (
    MAX_NUMBERS,
    DynamicsPopulation,
    LinearPopulation,
    Population,
    TargetPopulation,
    check_population,
    is_on_line,
)
from rmdp_bench.references import references, single_and_own

PERFECT_EPISODE = "% of a perfect episode"
"""What welfare is measured in where all agents share the dynamics."""


@dataclass(frozen=True, kw_only=True)
class _CommonTask:
    """What tasks of both tracks have.

    Attributes:
        id: opaque, versioned name.
        env_id: Gymnasium id of the environment.
        n_agents: number of agents n; offline, of those who are in the data.
        n_representatives: budget k of policies; n where each agent may have its own, as in most
            offline tasks.
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
        default = default_n_agents(self.env_id)
        return {} if default in (None, self.n_agents) else {"n_agents": self.n_agents}

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


@dataclass(frozen=True)
class TaskFile:
    """Where a task from outside comes from.

    Attributes:
        path: of the file, absolute.
        name: of the function in it, or of the task.
        sha256: of the file.
    """

    path: str
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class OnlineTask(_CommonTask):
    """n agents and k policies for them.

    The agents want different things from one world; or, where the task is `heterogeneous`, they
    differ in dynamics, and one lives in each copy of the world.

    Attributes:
        objective: what of the agents' returns is to be large, `scoring.parse_objective`; social
            welfare is their mean in any case.
        continuous: whether actions are vectors.
        terminates: whether an episode may end before it is truncated.
        deterministic: whether nothing in the world is random.
        agents: those of one's own; None: the environment's.
        world: makes copies of a world of one's own, of which env_id is only the name; None: it is
            the environment of the id.
        bound: greatest objective value that is possible in a world of one's own, as its author
            says; None: not known.
        file: that gave it.
    """

    track: ClassVar[str] = "online"

    objective: str = "utilitarian"
    continuous: bool = False
    terminates: bool = True
    deterministic: bool = False
    agents: Population | None = field(default=None, compare=False, repr=False)
    world: WorldFactory | None = field(default=None, compare=False, repr=False)
    bound: float | None = None
    file: TaskFile | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check the objective.

        Raises:
            ValueError: an unknown objective.
        """
        scoring.parse_objective(self.objective)

    @property
    def is_official(self) -> bool:
        """Whether it is of the table, whatever its transitions and episodes are by now."""
        return self.id in _tasks()

    @property
    def is_native(self) -> bool:
        """Whether the world is one of the suite's own vector environments."""
        return self.world is None and find_mo_world(self.env_id) is None

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Keywords of `gym.make` and `gym.make_vec`: agents that are not those of the id."""
        if self.agents is not None:
            return {"population": self.agents}
        return super().env_kwargs

    def make(self, n_envs: int, *, agent_rewards: bool = True) -> Any:
        """Make copies of the world, in which an episode is followed by the next in the same step.

        Args:
            n_envs: E.
            agent_rewards: False leaves them out of the infos, where the world can.

        Returns:
            A vector environment as `gym.make_vec(self.env_id, n_envs, **self.env_kwargs)` gives it;
            of a world from outside, what of it solvers use (`envs.outside.OutsideWorlds`).

        Raises:
            ValueError: the world cannot be made, or does not fit the task.
        """
        if self.is_native:
            return gym.make_vec(
                self.env_id,
                num_envs=n_envs,
                autoreset_mode="SameStep",
                agent_rewards=agent_rewards,
                **self.env_kwargs,
            )
        if self.world is None:
            made: Any = gym.make_vec(self.env_id, num_envs=n_envs, **self.env_kwargs)
        else:
            made = self.world(n_envs)
        envs = OutsideWorlds(made, self.env_id, self.max_episode_steps)
        if envs.num_envs != n_envs:
            envs.close()
            raise ValueError(f"{self.env_id}: make({n_envs}) gives {envs.num_envs} copies")
        return envs

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
        if self.agents is not None:
            return self.agents
        return cast(Population, get_population(self.env_id, **self.env_kwargs))

    @property
    def scale(self) -> str:
        """What its welfare is measured in, for labels."""
        return _common_scale(self.env_id) if self.heterogeneous else PERFECT_EPISODE

    @property
    def hidden_population(self) -> DynamicsPopulation:
        """The agents of a heterogeneous task with their hidden parameters: for scoring.

        Raises:
            AttributeError: the agents share the dynamics.
        """
        if not self.heterogeneous:
            raise AttributeError(f"the agents of {self.id} share the dynamics: use population")
        return cast(DynamicsPopulation, get_population(self.env_id))

    @property
    def heldout_population(self) -> Population | None:
        """As many agents who are not in the task, drawn as its own were; None: nobody draws any."""
        if self.agents is not None or self.heterogeneous:
            return None
        others = cast(Population, get_population(self.env_id, 1, **self.env_kwargs))
        return None if others == self.population else others

    def with_agents(self, n_agents: int) -> OnlineTask:
        """Give the task with another number of agents, of the same seed: see `get_task`.

        Args:
            n_agents: n >= k, up to millions with solvers whose cost does not depend on it.

        Raises:
            ValueError: not such an integer, or the number of agents is part of the environment.
        """
        return vary(self, n_agents=n_agents)

    @property
    def ceiling(self) -> float | None:
        """Greatest social welfare that k policies can reach, percent; None where unknown.

        Exact for this population and budget; see `rmdp_bench.ceilings` for what it bounds.
        """
        if self.world is not None:
            return self.bound if self.objective == "utilitarian" else None
        return self._ceiling_of("utilitarian")

    @property
    def objective_ceiling(self) -> float | None:
        """Objective value that no k policies exceed, percent; None where unknown."""
        if self.world is not None:
            return self.bound
        return self._ceiling_of(self.objective)

    def _ceiling_of(self, objective: str) -> float | None:
        if self.env_id not in _CEILINGS:
            return None
        agents = _Agents(self.population.content_hash(), self.population)
        return _ceiling(self.env_id, agents, self.n_representatives, objective)


def heterogeneous_task(
    env_id: str, n_representatives: int, *, n_agents: int | None = None, n_eval_episodes: int = 20
) -> OnlineTask:
    """A task of k policies for agents who differ in dynamics.

    It is for experiments: k, and how many agents, are up to the caller. The solvers of represented
    MDPs refuse it; `evaluate` takes it.

    Args:
        env_id: of an environment whose agents differ in dynamics.
        n_representatives: k, 1 to n.
        n_agents: n, the first agents of the population; None: all but the held-out ones.
        n_eval_episodes: of each agent under each policy.

    Returns:
        The task of the table, if it is one; else one with an id of its own, as `get_task` gives.

    Raises:
        ValueError: a value is out of range, or the agents share the dynamics.
    """
    entry = get_environment(env_id)
    if not entry.heterogeneous:
        raise ValueError(f"the agents of {env_id} share the dynamics, expected a world for each")
    n_agents = check_integer(
        "n_agents", entry.n_agents if n_agents is None else n_agents, 1, entry.n_agents
    )
    k = check_integer("n_representatives", n_representatives, 1, n_agents)
    task = OnlineTask(
        id=env_id,
        env_id=env_id,
        n_agents=n_agents,
        n_representatives=k,
        transitions=_HETEROGENEOUS_TRANSITIONS,
        n_eval_episodes=check_integer("n_eval_episodes", n_eval_episodes, 1, 10**6),
        gamma=0.99,
        max_episode_steps=entry.max_episode_steps,
        continuous=entry.continuous,
        terminates=entry.terminates,
        deterministic=entry.deterministic,
    )
    return name_task(task)


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
    def has_common_scale(self) -> bool:
        """Whether 0 and 100 percent are the same returns for all agents.

        They are those of `references.single_and_own` then, as online, or, until these are measured,
        returns are given as they are; else each agent has its own (`references.references`).
        """
        return get_environment(self.env_id).hidden_reward

    @property
    def scale(self) -> str:
        """What its welfare is measured in, for labels."""
        own = "0 uniform actions, 100 each agent's reference"
        return _common_scale(self.env_id) if self.has_common_scale else own

    @property
    def hidden_population(self) -> DynamicsPopulation:
        """The agents with their hidden parameters: for scoring, and not for solvers that learn."""
        return cast(DynamicsPopulation, get_population(self.env_id))


def _common_scale(env_id: str) -> str:
    """Name 0 and 100 where they are the same returns for all agents, who differ in dynamics."""
    known = single_and_own(env_id)
    return "mean return" if known is None else "0 one policy for all, 100 everybody's own"


Task = OnlineTask | OfflineTask
"""One problem: serve agents with policies."""


_HETEROGENEOUS_TRANSITIONS = 5_000_000
"""Per policy: half of what `scripts/record_glucose_references.py` gives, by default, each seed of
the policy that counts as 0, so that k = 2 costs as much as that policy. A try with 1,200,000 for
each of three (one seed) gave mean risks of 7.0 (`em`), 6.4 (`end_to_end`) and 6.5 (`universal`),
where controllers tuned with 10,000,000 have 9.5: four times as much is ample, and all rows of
`benchmarks/plans/glucose.toml` take hours of one core, not days."""


def list_tasks() -> list[Task]:
    """All tasks, in the order of the table."""
    return list(_tasks().values())


def get_task(
    task_id: str,
    n_representatives: int | None = None,
    *,
    n_agents: int | None = None,
    population: Population | None = None,
    transitions: int | None = None,
    objective: str | None = None,
) -> Task:
    """The task with this id, or a variation of an online one.

    Args:
        task_id: of a task; or, with n_representatives, of an environment of represented agents,
            "HalfCheetahVel-n100-v0".
        n_representatives: k, from 1 to the number of agents; None: the task's.
        n_agents: n, of the same seed, where the environment has the keyword; None: the task's.
        population: agents of one's own, in the place of the environment's.
        transitions: per policy; None: the task's.
        objective: see `scoring.parse_objective`; None: the task's.

    Returns:
        The task of the table, if it is one; else one with an id of its own, "ID-custom-HASH8",
        whose records cannot be submitted.

    Raises:
        ValueError: no task has the id (the message names the closest ids, or, for a task of an
            earlier version, its successor), an offline task is varied, or a value is out of range.
    """
    given = {
        "n_representatives": n_representatives,
        "n_agents": n_agents,
        "population": population,
        "transitions": transitions,
        "objective": objective,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    name = f"{task_id}".removeprefix("rmdp/")
    if f"rmdp/{name}" in {base.env_id for base in _bases()}:
        if n_representatives is None:
            raise ValueError(
                f"{task_id!r} is an environment, expected a task, or the number of "
                "representatives too: n_representatives=, at the command line --representatives"
            )
        return vary(_base_of(f"rmdp/{name}"), **changes)
    task = _listed_task(task_id)
    return vary(task, **changes) if changes else task


def vary(
    task: Task,
    *,
    n_representatives: int | None = None,
    n_agents: int | None = None,
    population: Population | None = None,
    transitions: int | None = None,
    objective: str | None = None,
) -> OnlineTask:
    """Give a variation of an online task; arguments, result and errors as `get_task`."""
    if not isinstance(task, OnlineTask):
        raise ValueError(
            f"{task.id} is an offline task: its agents, policies and data are fixed, expected it "
            "without changes, another task of `rmdp-bench list tasks`, or an online one"
        )
    if population is not None and n_agents is not None:
        raise ValueError(
            f"population and n_agents={shown(n_agents)} are given, expected one of them: the "
            "population says who there is"
        )
    if (population is not None or n_agents is not None) and task.world is not None:
        raise ValueError(f"{task.id} has agents of its own, and its world makes no others")
    if (population is not None or n_agents is not None) and task.heterogeneous:
        raise ValueError(
            f"the agents of {task.env_id} differ in dynamics, and who they are is the world's; "
            "rmdp_bench.tasks.heterogeneous_task takes the first n of them, at the command line "
            "through a task file"
        )
    if n_agents is not None and task.agents is not None:
        raise ValueError(
            f"{task.id} has {task.n_agents} agents of its own, and n_agents={shown(n_agents)} "
            "would draw others; change them where they are given"
        )
    agents = task.agents
    if population is not None:
        agents = _checked_population(task, population)
    elif n_agents is not None:
        check_integer("n_agents", n_agents, 1, MAX_NUMBERS)
        if n_agents != _base_of(task.env_id).n_agents:
            get_population(task.env_id, n_agents=n_agents)  # refuses worlds without the keyword
        agents = None
    n = task.n_agents if n_agents is None else n_agents
    n = agents.n_agents if agents is not None else n
    k = task.n_representatives if n_representatives is None else n_representatives
    is_integer = isinstance(k, int) and not isinstance(k, bool)
    if not is_integer or not 1 <= k <= n:
        raise ValueError(
            f"n_representatives is {shown(k)}, expected an integer from 1 to {n}, the number of "
            "agents"
        )
    if transitions is not None:
        check_integer("transitions", transitions, 1, 10**15)
    if agents is not None and task.world is None:
        usual = _base_of(task.env_id).population
        agents = None if agents.content_hash() == usual.content_hash() else agents
    is_other = k != task.n_representatives or objective not in (None, task.objective)
    changed = dataclasses.replace(
        task,
        bound=None if is_other else task.bound,
        n_agents=n,
        n_representatives=k,
        agents=agents,
        transitions=task.transitions if transitions is None else transitions,
        objective=task.objective if objective is None else objective,
    )
    return name_task(changed)


def name_task(task: OnlineTask) -> OnlineTask:
    """Give the task of the table that this one is, or this one with the id that follows from it."""
    for listed in _tasks().values():
        if isinstance(listed, OnlineTask) and task.env_id == listed.env_id:
            own = dataclasses.replace(task, **{n: getattr(listed, n) for n in _NOT_WHAT_IT_IS})
            if own == listed and task.agents is None and task.world is None:
                return listed
    name = task.env_id.removeprefix("rmdp/")
    digest = hashlib.sha256(json.dumps(_content(task), sort_keys=True).encode()).hexdigest()
    return dataclasses.replace(
        task,
        id=f"{name}-custom-{digest[:8]}",
        unranked="it is a variation, not one of the listed tasks",
        common_optimum=False,
    )


_NOT_WHAT_IT_IS = ("id", "unranked", "common_optimum")
"""Fields that follow from which task it is."""


def _content(task: OnlineTask) -> dict[str, Any]:
    """All that makes a task what it is, ready for JSON."""
    names = {f.name for f in dataclasses.fields(task)} - {*_NOT_WHAT_IT_IS, "world", "agents"}
    content = {name: getattr(task, name) for name in names - {"file"}}
    content["population"] = None if task.agents is None else task.agents.content_hash()
    if task.world is not None:  # what it makes is known by its file only, or else by its name
        own = task.file
        content["world"] = [own.sha256, own.name] if own else [_qualified_name(task.world)]
    return content


def _qualified_name(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _checked_population(task: OnlineTask, population: Any) -> Population:
    """Agents of one's own for the environment of a task."""
    own, usual = check_population(population), _base_of(task.env_id).population
    if own.outcome_size != usual.outcome_size:
        raise ValueError(
            f"population is for outcomes ({own.outcome_size},), expected one for outcomes "
            f"({usual.outcome_size},), which {task.env_id} has"
            f"{say_how_to_weigh(task.env_id, own.outcome_size)}"
        )
    _warn_of_scale(task, own, usual)
    return own


_SAME_SUM = 1e-6
"""Relative difference up to which two sums of weights count as the same."""
_CALLER = 5
"""Frames from the warning to who calls `get_task`."""


def _warn_of_scale(task: OnlineTask, own: Population, usual: Population) -> None:
    """Say where returns of one's own agents are not in percent of a perfect episode.

    They are where their weights are as those of the world's own agents: none negative, all of one
    sum. Of worlds whose own agents are otherwise nothing is known.
    """
    if not (isinstance(own, LinearPopulation) and isinstance(usual, LinearPopulation)):
        return
    total = float(usual.weights[0].sum())
    if not _has_scale(usual.weights, total).all():
        return
    wrong = np.flatnonzero(~_has_scale(own.weights, total))
    if len(wrong):
        negative = (own.weights[wrong[0]] < 0).any()
        what = (
            "has a negative weight"
            if negative
            else (f"has weights of sum {own.weights[wrong[0]].sum():.4g}")
        )
        warnings.warn(
            f"agent {wrong[0]} {what}: in {task.env_id} returns are percent of a perfect episode "
            f"only for weights of which none is negative and whose sum is {total:.4g}",
            stacklevel=_CALLER,
        )


def _has_scale(weights: NDArray[np.float64], total: float) -> NDArray[np.bool_]:
    """Agents (n,) whose weights (n, m) are not negative and have a sum."""
    near = np.abs(weights.sum(axis=1) - total) <= _SAME_SUM * abs(total)
    own: NDArray[np.bool_] = (weights >= 0).all(axis=1) & near
    return own


def _listed_task(task_id: str) -> Task:
    """The task of the table."""
    tasks, retired = _tasks(), retired_tasks()
    if task_id in retired:
        old = retired[task_id]
        raise ValueError(f"the task {task_id} is retired: {old.reason}; use {old.successor}")
    if task_id not in tasks:
        close = difflib.get_close_matches(str(task_id), tasks, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "see `rmdp-bench list tasks`"
        raise ValueError(f"unknown task {shown(task_id)}; {hint}{_say_how_to_vary(task_id)}")
    return tasks[task_id]


def _say_how_to_vary(task_id: Any) -> str:
    """How to get the task of a listed environment that an id means, if only its k is not listed."""
    for base in _bases():
        budgets = range(1, base.n_agents + 1)
        k = next((k for k in budgets if _name_with_budget(base.env_id, k) == task_id), None)
        if k is not None:
            env = base.env_id.removeprefix("rmdp/")
            return (
                f" With k = {k} there is a variation: `rmdp-bench run SOLVER {env} "
                f"--representatives {k}`, in Python get_task({env!r}, {k})"
            )
    if f"rmdp/{task_id}" in {entry.id for entry in ENVIRONMENTS if entry.heterogeneous}:
        return f" For k policies there is rmdp_bench.tasks.heterogeneous_task('rmdp/{task_id}', k)"
    return ""


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


Ceiling = Callable[[Population, int, str], float | None]
"""Population, budget and objective -> what no policies exceed, percent; None: not known."""


def _velocity_ceiling(population: Population, k: int, objective: str) -> float | None:
    if is_on_line(population):
        return constant_speed_bound(population, k, objective)
    if isinstance(population, TargetPopulation) and population.outcome_size == 2:
        return planar_velocity_bound(population, k, objective)
    return None


def _resource_gathering_ceiling(population: Population, k: int, objective: str) -> float | None:
    if population != LinearPopulation.tiles(25):
        return None
    optimum = resource_gathering_optimum(k)
    name, power = scoring.parse_objective(objective)
    if name == "egalitarian":
        return optimum.worst_agent
    # A power mean rises with its exponent, from the worst agent by nash (0) to the mean (1).
    is_below_nash = name == "nash" or (power is not None and power < 0.0)
    return optimum.nash_welfare if is_below_nash else optimum.welfare


def _front_ceiling(world: MultiObjectiveWorld) -> Ceiling:
    def ceiling(population: Population, k: int, objective: str) -> float | None:
        if world.front is None or not isinstance(population, LinearPopulation):
            return None
        reached = np.ones((len(world.front), 1))
        values = population.rewards(np.concatenate((world.front, reached), axis=1))
        # Nothing exceeds the front for whom more of every objective is better; and who never gets
        # there has nothing at most, which may be more for whom getting there costs something.
        if (population.weights[:, : world.n_objectives] < 0).any() or (values < -1e-9).any():
            return None
        return best_of_candidates(values.T, k, objective)

    return ceiling


@dataclass(frozen=True)
class _Family:
    """Tasks that differ in their budget only.

    Attributes:
        name: of the environment: its id without "rmdp/" and without the version.
        budgets: numbers of representatives, ascending.
        transitions: per policy.
        gamma: discount of the training objective.
        ceiling: see `Ceiling`; None where no ceiling is known.
        version: of the environment and of its tasks.
        easy_budgets: those with which many solvers find the same optimum.
    """

    name: str
    budgets: tuple[int, ...]
    transitions: int
    gamma: float
    ceiling: Ceiling | None
    version: str = "v0"
    easy_budgets: tuple[int, ...] = ()

    @property
    def env_id(self) -> str:
        """Gymnasium id of the environment."""
        return f"rmdp/{self.name}-{self.version}"


_VELOCITY = (2_000_000, 0.99, _velocity_ceiling)
_FAMILIES = (
    _Family("HalfCheetahVel-n100", (1, 2, 5, 10), *_VELOCITY),
    _Family("AntVel-n100", (1, 2, 5, 10), *_VELOCITY),
    _Family("AntVel2d-n100", (1, 2, 5, 10), *_VELOCITY),
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
_CLINIC_BUDGETS = (1, 3, 100)
"""Of the tasks with the clinic's records: one policy for all, few, and everybody's own."""
_N_UNSEEN = 5
_N_EXTRAPOLATING = 4
"""Held-out agents of a task: all four sides of a range of two parameters."""


def choose_heldout(population: DynamicsPopulation) -> tuple[int, ...]:
    """The agents that an offline task scores although they are not in the data."""
    unseen, extrapolating = population.unseen_agents, population.extrapolating_agents
    return (*unseen[:_N_UNSEEN], *extrapolating[:_N_EXTRAPOLATING])


@functools.cache
def _tasks() -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for family in (*_FAMILIES, *MO_WORLDS):
        for budget in family.budgets:
            online = _online_task(family, budget)
            tasks[online.id] = online
    for logged in _LOGGED:
        entry = get_environment(f"rmdp/{logged.name}-{logged.env_version}")
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
    for budget in _CLINIC_BUDGETS:
        clinic = _clinic_task(budget)
        tasks[clinic.id] = clinic
    return tasks


def _online_task(family: _Family | MultiObjectiveWorld, budget: int) -> OnlineTask:
    """Give the task of k policies in one of the suite's worlds, or in one of MO-Gymnasium's."""
    world: EnvironmentEntry | MultiObjectiveWorld
    if isinstance(family, _Family):
        world, is_easy = get_environment(family.env_id), budget in family.easy_budgets
    else:
        world, is_easy = family, family.front is not None
    own = world if isinstance(world, EnvironmentEntry) else None
    return OnlineTask(
        id=_name_with_budget(world.id, budget),
        env_id=world.id,
        n_agents=world.n_agents,
        n_representatives=budget,
        transitions=family.transitions,
        gamma=family.gamma,
        max_episode_steps=world.max_episode_steps,
        common_optimum=is_easy,
        continuous=own is not None and own.continuous,
        terminates=own is None or own.terminates,
        deterministic=world.deterministic,
    )


def _name_with_budget(env_id: str, budget: int) -> str:
    """Id of the task of an environment with k policies, if it is listed."""
    name, _, version = env_id.removeprefix("rmdp/").rpartition("-")
    return f"{name}-k{budget}-{version}"


def _clinic_task(budget: int) -> OfflineTask:
    """Give the task of k policies, and who gets which, from one logged record of each patient."""
    entry = get_environment("rmdp/Glucose-n100-v0")
    agents = cast(DynamicsPopulation, get_population(entry.id))
    return OfflineTask(
        id=f"Glucose-n100-k{budget}-clinic-v0",
        env_id=entry.id,
        dataset_id="rmdp/glucose-het/clinic-v0",
        n_agents=entry.n_agents,
        n_representatives=budget,
        transitions=0,
        eval_agents=tuple(agents.test_agents),
        gamma=0.99,
        max_episode_steps=entry.max_episode_steps,
        heldout_agents=(*agents.unseen_agents, *agents.extrapolating_agents),
    )


@functools.cache
def _bases() -> tuple[OnlineTask, ...]:
    """A task of every environment of represented agents, of which the others are variations."""
    listed: dict[str, OnlineTask] = {}
    for task in _tasks().values():
        if isinstance(task, OnlineTask):
            listed.setdefault(task.env_id, task)
    return tuple(listed.values())


def _base_of(env_id: str) -> OnlineTask:
    return next(task for task in _bases() if task.env_id == env_id)


_CEILINGS: Mapping[str, Ceiling] = {
    **{family.env_id: family.ceiling for family in _FAMILIES if family.ceiling is not None},
    **{world.id: _front_ceiling(world) for world in MO_WORLDS},
}


@dataclass(frozen=True)
class _Agents:
    """A population by its content: one of somebody's own need not be hashable."""

    content: str
    population: Population = field(compare=False)


@functools.lru_cache(maxsize=256)
def _ceiling(env_id: str, agents: _Agents, n_representatives: int, objective: str) -> float | None:
    return _CEILINGS[env_id](agents.population, n_representatives, objective)
