"""Tasks from outside: in worlds of one's own, in files, and those that records tell of.

    task = make_task("pendulum", make, 3, transitions=100_000)       # make(n_envs) -> envs
    task = find_task("./my_task.py:make_task")                       # as at the command line
    agents = weigh_objectives("FruitTree-n100-v0", weights)          # for get_task(population=)

A file of a task is a Python file with a function that gives one, `make_task` if no other is named,
or with the task itself under the name `task`.
"""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.envs.core.checks import check_integer
from rmdp_bench.envs.mo_worlds import MO_WORLDS, find_mo_world
from rmdp_bench.envs.outside import OutsideWorlds, WorldFactory
from rmdp_bench.files import import_file
from rmdp_bench.messages import shown
from rmdp_bench.population import LinearPopulation, Population, TargetPopulation
from rmdp_bench.tasks import (
    OnlineTask,
    Task,
    TaskFile,
    get_task,
    name_task,
    vary,
)

_PATH = re.compile(r"(.+\.py)(?::(\w+))?")
_NAME = re.compile(r"\w[\w.-]{0,79}", re.ASCII)


def make_task(
    name: str,
    make: WorldFactory,
    n_representatives: int,
    *,
    transitions: int,
    max_episode_steps: int | None = None,
    gamma: float = 0.99,
    n_eval_episodes: int = 20,
    objective: str = "utilitarian",
    ceiling: float | None = None,
    terminates: bool = True,
    deterministic: bool = False,
) -> OnlineTask:
    """Make a task in a world of one's own; one copy of the world is made and steps once, to look.

    Args:
        name: of the world, with which the task's id begins; letters, digits, "_", "." and "-".
            Each world needs one of its own: what `make` does is not in the id, so that runs in two
            worlds of one name may be taken for each other.
        make: number of copies -> `represent(envs, population, outcome)` of a vector environment.
            Observations are vectors; Gymnasium's `gymnasium.wrappers` make others so. It can be
            pickled, if solvers are to start processes.
        n_representatives: k, from 1 to the number of agents.
        transitions: per policy.
        max_episode_steps: after which an episode is over; None: as the world's spec says.
        gamma: discount of the training objective, above 0, at most 1.
        n_eval_episodes: deterministic episodes that score each policy.
        objective: see `scoring.parse_objective`.
        ceiling: greatest value of the objective that is possible; None: not known.
        terminates: whether an episode may end before max_episode_steps.
        deterministic: whether nothing in the world is random: solvers may repeat what was best.

    Raises:
        ValueError: a value is out of range, or what `make` gives is no such environment.
    """
    if not _NAME.fullmatch(str(name)):
        raise ValueError(
            f"name is {name!r}, expected letters, digits, '_', '.' and '-', at most 80"
        )
    check_integer("transitions", transitions, 1, 10**15)
    check_integer("n_eval_episodes", n_eval_episodes, 1, 10**6)
    if not (isinstance(gamma, int | float) and 0.0 < gamma <= 1.0):
        raise ValueError(f"gamma is {shown(gamma)}, expected a number above 0, at most 1")
    if ceiling is not None and not np.isfinite(ceiling):
        raise ValueError(f"ceiling is {shown(ceiling)}, expected a finite number or None")
    if not callable(make):
        raise ValueError(f"make is {shown(make)}, expected a function: number of copies -> envs")
    envs = make(1)
    try:
        steps = max_episode_steps or getattr(getattr(envs, "spec", None), "max_episode_steps", None)
        if steps is None:
            raise ValueError(
                f"max_episode_steps is not given, and the world {name} says none; expected a "
                "number of steps after which its episodes are over"
            )
        steps = check_integer("max_episode_steps", steps, 1, 10**9)
        worlds = OutsideWorlds(envs, name, steps)
        space = worlds.single_action_space
        if not isinstance(space, gym.spaces.Discrete | gym.spaces.Box):
            raise ValueError(f"{name}: actions are of {space}, expected Discrete or Box")
        population = worlds.population
        copies = range(worlds.num_envs)
        worlds.reset(seed=copies)
        space.seed(0)
        actions = [space.sample() for _ in copies]
        worlds.step(np.array(actions))  # what an outcome needs may be there from then on
    finally:
        close = getattr(envs, "close", None)  # it may be anything
        if callable(close):
            close()
    population.content_hash()  # refuses what has none, before anything is trained
    task = OnlineTask(
        id=name,
        env_id=name,
        n_agents=population.n_agents,
        n_representatives=1,
        transitions=transitions,
        n_eval_episodes=n_eval_episodes,
        gamma=float(gamma),
        max_episode_steps=steps,
        objective=objective,
        continuous=isinstance(space, gym.spaces.Box),
        terminates=terminates,
        deterministic=deterministic,
        agents=population,
        world=make,
    )
    task = vary(task, n_representatives=n_representatives)
    return name_task(dataclasses.replace(task, bound=None if ceiling is None else float(ceiling)))


def weigh_objectives(env_id: str, weights: ArrayLike) -> LinearPopulation:
    """Give agents who weigh the objectives of a world of MO-Gymnasium, for `population`.

    Their returns are in percent, as those of the world's own agents: where its Pareto front is
    known, 100 is what the agent would have with a policy of its own, and 0 the policy of the front
    that it likes least. MO-Gymnasium is not needed.

    Args:
        env_id: such as "DeepSeaTreasure-n100-v0".
        weights: (n, m), what each agent gives each of the m objectives, as in the vector reward: in
            DeepSeaTreasure treasure and time, in FruitTree six nutrients, in Minecart two ores and
            fuel. None negative; only their ratios matter.

    Raises:
        ValueError: no such world, or an agent whose weights are not m numbers >= 0, are all 0, or
            to whom all of the front is worth the same.
    """
    world = find_mo_world(f"rmdp/{f'{env_id}'.removeprefix('rmdp/')}")
    if world is None:
        known = ", ".join(own.id.removeprefix("rmdp/") for own in MO_WORLDS)
        raise ValueError(f"{shown(env_id)} is no world of MO-Gymnasium, expected one of {known}")
    given = LinearPopulation(weights).weights  # type: ignore[arg-type]  # which it checks
    size = world.n_objectives
    if given.shape[1] != size:
        raise ValueError(
            f"weights have shape {given.shape}, expected (n, {size}): {env_id} has {size} "
            "objectives"
        )
    bad = np.flatnonzero((given < 0.0).any(axis=1) | (given == 0.0).all(axis=1))
    if len(bad):
        raise ValueError(
            f"weights[{bad[0]}] are {given[bad[0]].tolist()}, expected none negative and not all 0"
        )
    given = given / given.max(axis=1, keepdims=True)  # whose sum is a number, however large
    return world.in_percent(given / given.sum(axis=1, keepdims=True))


def find_task(
    task: str | Task,
    *,
    n_representatives: int | None = None,
    n_agents: int | None = None,
    objective: str | None = None,
) -> Task:
    """The task that a command line names, or a variation of it.

    Args:
        task: an id, an environment (with n_representatives), or a file, "./my_task.py" or
            "./my_task.py:function"; or a task.
        n_representatives: as the other two, see `get_task`.
        n_agents: n.
        objective: see `scoring.parse_objective`.

    Raises:
        ValueError: as `get_task`, or the file gives no task.
    """
    given = {
        "n_representatives": n_representatives,
        "n_agents": n_agents,
        "objective": objective,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if isinstance(task, Task):
        return vary(task, **changes) if changes else task
    matched = _PATH.fullmatch(task)
    if matched is None:
        return get_task(task, **changes)
    loaded = load_task_file(Path(matched[1]), matched[2])
    return vary(loaded, **changes) if changes else loaded


def load_task_file(path: Path, name: str | None = None) -> OnlineTask:
    """The task that a file gives; its record says which file.

    Args:
        path: of the file, which is executed.
        name: of the function in it, without arguments, or of the task itself; None: `make_task`, or
            else `task`.

    Raises:
        ValueError: there is no such file or name, it raises, or what it gives is no online task.
    """
    module, sha256 = import_file(path, "task")
    names = ("make_task", "task") if name is None else (name,)
    found = next((own for own in names if hasattr(module, own)), None)
    if found is None:
        raise ValueError(f"{path} has no {' or '.join(names)}, expected a function or a task")
    given = getattr(module, found)
    if callable(given):
        try:
            given = given()
        except (Exception, SystemExit) as error:  # anyone's code may raise anything
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
            where = f" in line {own[-1]}" if own else ""
            raise ValueError(f"{path}: {found}() fails{where}: {line}") from error
    if not isinstance(given, OnlineTask):
        raise ValueError(
            f"{path}: {found} gives {shown(given)}, expected a task, such as "
            "rmdp_bench.get_task or rmdp_bench.make_task gives"
        )
    return name_task(dataclasses.replace(given, file=TaskFile(str(path.resolve()), found, sha256)))


class UnknownPopulation(Population):
    """Agents of whom a record says only how many there are."""

    def __init__(self, n_agents: int, outcome_size: int) -> None:
        """Keep the numbers."""
        self.n_agents, self.outcome_size = n_agents, outcome_size

    def rewards(self, outcomes: Any) -> Any:
        """Refuse: nobody knows.

        Raises:
            ValueError: always.
        """
        raise ValueError("what these agents want is not in the record, but in its task's file")


@dataclass(frozen=True, kw_only=True)
class RecordedTask(OnlineTask):
    """What a record says of a task: enough for tables and figures, not for playing.

    Attributes:
        known_ceiling: of social welfare.
        known_objective_ceiling: of the objective.
    """

    known_ceiling: float | None
    known_objective_ceiling: float | None

    @property
    def ceiling(self) -> float | None:
        """As recorded."""
        return self.known_ceiling

    @property
    def objective_ceiling(self) -> float | None:
        """As recorded."""
        return self.known_objective_ceiling


def population_arrays(population: Population) -> dict[str, NDArray[np.float64]] | None:
    """The arrays of which `population_from_arrays` makes it again; None: it is of another class."""
    if isinstance(population, TargetPopulation):
        numbers = np.array([population.width, population.peak])
        return {"targets": population.targets, "width_and_peak": numbers}
    if isinstance(population, LinearPopulation):
        return {"weights": population.weights}
    return None


def population_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Population:
    """The inverse of `population_arrays`.

    Raises:
        ValueError: not such arrays.
    """
    if set(arrays) == {"weights"}:
        return LinearPopulation(arrays["weights"])
    if set(arrays) == {"targets", "width_and_peak"} and arrays["width_and_peak"].shape == (2,):
        return TargetPopulation(arrays["targets"], *arrays["width_and_peak"].tolist())
    raise ValueError(f"{', '.join(sorted(arrays))} are not the arrays of a population")
