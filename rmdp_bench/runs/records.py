"""Records: result.json, its schema, and how it is found and read."""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rmdp_bench import scoring
from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.files import read_json, replacing, write_json
from rmdp_bench.own_tasks import (
    RecordedTask,
    UnknownPopulation,
    find_task,
    population_arrays,
    population_from_arrays,
)
from rmdp_bench.population import Population
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, TaskFile, get_task

SCHEMA_VERSION = 1
RESULT_FILE = "result.json"
POPULATION_FILE = "population.npz"
TOLERANCE = 1e-6
"""Within which scores agree with those that they follow from."""
MAX_COUNT = 10**15
"""No count is larger; all integers up to it are exact as floats and in JavaScript."""


def exact(value: Any) -> Any:
    """Refuse what Python calls equal to an integer: True and 1.0."""
    if type(value) is not int:
        raise ValueError(f"expected an integer, not {value!r:.50}")
    return value


SchemaVersion: TypeAlias = Annotated[Literal[1], BeforeValidator(exact)]


class EvaluationSettings(BaseModel):
    """How the policies were scored: episodes per policy, and the seed of the first."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    n_episodes: int = Field(ge=1)
    seed: int = Field(ge=0)


class PredictionScores(BaseModel):
    """Errors of open-loop prediction over all test trajectories; see `evaluation.prediction`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    rmse_mean: float
    rmse_sd: float
    r2_mean: float
    r2_median: float


class OfflineScores(BaseModel):
    """What an offline task has beyond normalised returns; returns in units of the reward."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    returns: list[float]
    """Mean return of each scored agent."""
    mean_return: float
    unseen_returns: list[float] | None
    """Mean return of the held-out agents with parameters in the range; None: not served."""
    extrapolating_returns: list[float] | None
    """The same for those outside the range."""
    unseen_welfare: float | None
    """Mean of the former, normalised as a whole, percent."""
    extrapolating_welfare: float | None
    """Mean of the latter."""
    prediction: PredictionScores | None
    """None: the solver has no model."""
    forecasts: dict[str, PredictionScores] | None = None
    """How far ahead, such as "30 minutes" -> errors of one component of the observation, in its own
    unit, over the trajectories; `prediction` is that of the longest. None: the environment has
    none (`evaluation.prediction.FORECASTS`), or the solver no model."""
    factor_correlation: dict[str, float] | None
    """Hidden parameter -> rank correlation with its prediction from learned factors."""
    evaluation_seconds: float = Field(ge=0)
    """That the scoring episodes took, and adapting to held-out agents: of a planner, most of its
    work."""


class HeldOutScores(BaseModel):
    """How agents fare who were not there in training, as many and drawn as the task's own.

    Each is assigned by the first half of the scoring episodes, and scored on the second.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    n_agents: int = Field(ge=1)
    welfare: float
    """Mean return."""
    regret: float = Field(ge=0)
    """What is lost against each agent's best policy in the second half."""
    own_welfare: float
    """The task's own agents, assigned and scored in the same way: what is more than `welfare` is
    what the k policies fit these agents only."""


class TaskFileRecord(BaseModel):
    """The file that gave a task."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    path: str
    name: str
    """Of the function or the task in it."""
    sha256: str


class CustomTask(BaseModel):
    """A task that is not listed: a variation of one, or in a world of one's own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    env_id: str
    own_world: bool
    """Whether env_id is only the name of a world that the file, or a program, makes."""
    own_agents: bool
    """Whether the agents are not those of the environment."""
    population_sha256: str
    """Content hash of the agents."""
    outcome_size: int | None = Field(ge=1)
    """None: the agents differ in dynamics."""
    n_agents: int = Field(ge=1)
    n_representatives: int = Field(ge=1)
    transitions: int = Field(ge=1, le=MAX_COUNT)
    n_eval_episodes: int = Field(ge=1)
    gamma: float = Field(gt=0, le=1)
    max_episode_steps: int = Field(ge=1)
    objective: str
    ceiling: float | None
    """Greatest social welfare possible, where it is known."""
    objective_ceiling: float | None
    """The same of the objective; a bound."""
    file: TaskFileRecord | None
    """None: no file gave it."""


class Result(BaseModel):
    """One seed of one solver on one task.  Welfare and returns are in percent.

    Online, of a perfect episode.  Offline, agents are the scored ones, and 0 is the return of
    uniform actions, 100 the agent's reference, the optimum where it is known.  Where k policies
    serve agents who differ in dynamics, 0 is one policy for all and 100 everybody's own.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    schema_version: SchemaVersion
    task: str
    solver: str
    """Name in the suite, or the file name of an outsider's solver without its ending."""
    solver_sha256: str | None
    """Of an outsider's file; None for a solver of the suite."""
    config: dict[str, Any]
    seed: int = Field(ge=0)
    device: str
    agent_returns: list[float]
    welfare_matrix: Literal["welfare.npz"] | None
    """File name: (n, k) mean return of each agent under each policy; None offline."""
    returns: Literal["returns.npz"] | None = None
    """File name: return of every scoring episode, in units of the reward; None online."""
    social_welfare: float
    """As trained: under the solution's own assignment."""
    reassigned_welfare: float | None = None
    """The same after a last E-step, each agent at its best representative of welfare_matrix; a
    record without it has it as social_welfare + assignment_regret. None offline."""
    worst_agent: float
    tenth_percentile: float
    gini: float | None
    """None if a return is negative, for which it has no meaning."""
    nash_welfare: float | None
    """The same."""
    share_of_ceiling: float | None
    """social_welfare / ceiling; None where no ceiling is known."""
    assignment_regret: float | None
    """None offline, where no agent is scored under another's policy."""
    offline: OfflineScores | None = None
    """None online."""
    measures: dict[str, float] | None = None
    """Where agents differ in dynamics and their world measures more than the reward: means over the
    agents, each under its own policies, such as the time in range of patients, as a share."""
    custom: CustomTask | None = None
    """None: the task is one of the listed ones."""
    objective: str = "utilitarian"
    """What the task asks for, `scoring.parse_objective`; utilitarian is social_welfare."""
    objective_value: float | None = None
    """Of another objective than utilitarian, which social_welfare is; None also if a return is
    negative and it has no meaning then."""
    heldout: HeldOutScores | None = None
    """None where nobody draws agents who are not in the task, offline, and in older records."""
    curve: Literal["curve.csv"] | None
    """File name; None if the solver did not evaluate while training."""
    solution: Literal["solution"] | None
    """Folder of the saved policies that were scored; None: scored in memory, not exportable."""
    transitions: int = Field(ge=0, le=MAX_COUNT)
    """Budget, per policy; 0 offline."""
    transitions_reported: int = Field(ge=0, le=MAX_COUNT)
    """Per policy, as the solver counted them; 0 if it did not, and offline."""
    transitions_counted: int | None = Field(default=None, ge=0, le=MAX_COUNT)
    """Steps that all copies of the suite's environments made in the solver's process while it ran,
    also those of a run that it continues, but not those of the points of the curve: per policy and
    seed, rounded up; offline per seed. Child processes are not counted. None: not known, as in
    records that are older than this field."""
    wall_seconds: float = Field(ge=0)
    train_seconds: float = Field(ge=0)
    trained_for: str | None = None
    """Task whose run made this record beside its own, from one training, whose transitions and
    seconds these are; None: the run was for this task."""
    seeds_together: int = Field(ge=1, le=MAX_COUNT)
    """Seeds trained as one batch in these seconds."""
    peak_memory_mib: float
    peak_device_memory_mib: float | None
    energy_joules: float | None = Field(default=None, ge=0)
    """That the device used in wall_seconds, whatever else ran on it: the processors' packages, or
    the GPU. None: it has no counter that can be read, or the run was interrupted."""
    evaluation: EvaluationSettings
    system: dict[str, Any]
    versions: dict[str, str]
    git_revision: str | None

    @model_validator(mode="after")
    def _complete(self) -> Result:
        """Fills in the reassigned welfare of a record that was written before there was the field.

        The regret is that difference, from the same matrix.
        """
        if self.reassigned_welfare is None and self.assignment_regret is not None:
            welfare = self.social_welfare + self.assignment_regret
            object.__setattr__(self, "reassigned_welfare", welfare)
        return self

    def transitions_per_second(self, n_representatives: int) -> float | None:
        """Transitions of all policies and of all seeds trained together, per second of training.

        Those that the solver reports, or else those that were counted. None offline.
        """
        if self.transitions == 0:
            return None
        made = self.transitions_reported or self.transitions_counted
        total = (self.transitions if made is None else made) * n_representatives
        return total * self.seeds_together / max(self.train_seconds, 1e-9)


def write_result(directory: Path, result: Result) -> None:
    """Write result.json, which completes a run directory."""
    write_json(directory / RESULT_FILE, result.model_dump(mode="json"))


def read_result(path: Path) -> Result:
    """Read a result.json.

    Raises:
        ValueError: missing, damaged, or as in `make_result`.
    """
    return make_result(read_json(path), path)


def make_result(document: dict[str, Any], path: Path | str) -> Result:
    """The content of a result.json as a record.

    Args:
        document: parsed JSON.
        path: what messages call it.

    Raises:
        ValueError: of another schema, or with scores that contradict each other or the task; the
            message names file and field.
    """
    try:
        result = Result.model_validate(document)
    except ValidationError as error:
        raise ValueError(f"{path} is not a valid result: {first_error(error)}") from error
    try:
        _check_scores(result)
    except ValueError as error:
        raise ValueError(f"{path} is not a valid result: {error}") from error
    return result


def first_error(error: ValidationError, whole: str = "the record") -> str:
    """The first field that is wrong, or `whole`, and why."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    return f"{field[:200]}: {first['msg'].removeprefix('Value error, ')}"


def _check_scores(result: Result) -> None:
    """Refuse scores that do not belong together or to the task."""
    task = task_of(result)
    returns = result.agent_returns
    n_scored = task.n_agents if isinstance(task, OnlineTask) else len(task.eval_agents)
    if len(returns) != n_scored:
        raise ValueError(
            f"agent_returns: {len(returns)} values, expected one for each of the {n_scored} "
            f"agents of {task.id}"
        )
    if (result.offline is None) != isinstance(task, OnlineTask):
        raise ValueError(f"offline: expected scores if and only if the task is one; {task.id}")
    online = isinstance(task, OnlineTask)
    for name, expected in (("welfare_matrix", online), ("returns", not online)):
        if (getattr(result, name) is not None) != expected:
            track = "an online" if online else "an offline"
            raise ValueError(
                f"{name}: {getattr(result, name)!r} does not fit {task.id}, {track} task"
            )
    if isinstance(task, OfflineTask) and result.offline is not None:
        normalised = normalise(task, task.eval_agents, np.array(result.offline.returns))
        if not np.allclose(normalised, returns, rtol=0, atol=TOLERANCE):
            raise ValueError("agent_returns: they do not agree with offline.returns")
    ceiling, welfare = task.ceiling, result.social_welfare
    scores = {"social_welfare": math.fsum(returns) / len(returns), "worst_agent": min(returns)}
    share = None if ceiling is None else welfare / ceiling
    for name, value in (scores | {"share_of_ceiling": share}).items():
        _check_agreement(result, name, value)
    if share is not None and share > 1.0 + TOLERANCE:
        raise ValueError(f"social_welfare: {welfare} is more than is possible, {ceiling}")
    objective = task.objective if isinstance(task, OnlineTask) else "utilitarian"
    if result.objective != objective:
        raise ValueError(f"objective: {result.objective!r} is not the task's, {objective!r}")
    if result.objective_value is not None:
        _check_agreement(result, "objective_value", objective_value_of(returns, objective))
    regret = result.assignment_regret
    _check_agreement(result, "reassigned_welfare", None if regret is None else welfare + regret)


def objective_value_of(returns: Sequence[float], objective: str) -> float | None:
    """None where a return is negative and the objective has no meaning then."""
    always = objective in ("utilitarian", "egalitarian")
    return scoring.objective_value(returns, objective) if always or min(returns) >= 0.0 else None


def describe_custom(task: OnlineTask) -> CustomTask | None:
    """What a record says of a task; None: it is listed."""
    if task.is_official:
        return None
    file = task.file
    population = task.hidden_population if task.heterogeneous else task.population
    return CustomTask(
        env_id=task.env_id,
        own_world=task.world is not None,
        own_agents=task.agents is not None,
        population_sha256=population.content_hash(),
        outcome_size=getattr(population, "outcome_size", None),
        n_agents=task.n_agents,
        n_representatives=task.n_representatives,
        transitions=task.transitions,
        n_eval_episodes=task.n_eval_episodes,
        gamma=task.gamma,
        max_episode_steps=task.max_episode_steps,
        objective=task.objective,
        ceiling=task.ceiling,
        objective_ceiling=task.objective_ceiling,
        file=None if file is None else TaskFileRecord(**dataclasses.asdict(file)),
    )


def task_of(result: Result, directory: Path | None = None) -> Task:
    """The task of a record, for tables and figures.

    Args:
        result: of a listed task, or of one that it describes.
        directory: of the run, where the agents of a task that is not listed are; None: they are not
            needed.

    Raises:
        ValueError: an unknown task, or agents that cannot be read.
    """
    own = result.custom
    if own is None:
        return get_task(result.task)
    stored = None if directory is None else directory / POPULATION_FILE
    agents: Population | None = None
    if stored is not None and stored.exists():
        agents = _read_population(stored, own)
    elif own.own_agents:
        agents = UnknownPopulation(own.n_agents, own.outcome_size or 1)
    file = None if own.file is None else TaskFile(**own.file.model_dump())
    same = own.model_dump(include={f.name for f in dataclasses.fields(OnlineTask)} - {"file"})
    return RecordedTask(
        **same,
        id=result.task,
        agents=agents,
        file=file,
        unranked="it is not one of the listed tasks",
        known_ceiling=own.ceiling,
        known_objective_ceiling=own.objective_ceiling,
    )


def playable_task_of(result: Result, directory: Path) -> Task:
    """The task of a run, as it can be played: from its file, or with the agents of the run.

    Raises:
        ValueError: its file is not what it was, or what it is made of is not in files.
    """
    own = result.custom
    if own is None:
        return get_task(result.task)
    if own.file is not None:
        task = find_task(f"{own.file.path}:{own.file.name}")
        assert isinstance(task, OnlineTask) and task.file is not None
        if task.file.sha256 != own.file.sha256:
            raise ValueError(
                f"{own.file.path} is not what it was when {directory} was made, expected a file "
                f"with SHA-256 {own.file.sha256}"
            )
        task = find_task(task, n_representatives=own.n_representatives, objective=own.objective)
    elif own.own_world or (own.own_agents and not (directory / POPULATION_FILE).exists()):
        what = "world" if own.own_world else "agents"
        raise ValueError(
            f"the {what} of {result.task} came from a program, not from a file; play its policies "
            "with rmdp_bench.evaluate there"
        )
    else:
        agents = _read_population(directory / POPULATION_FILE, own) if own.own_agents else None
        is_given = agents is not None or own.outcome_size is None
        task = get_task(
            own.env_id,
            own.n_representatives,
            population=agents,
            n_agents=None if is_given else own.n_agents,
            objective=own.objective,
        )
    return dataclasses.replace(
        task, id=result.task, transitions=own.transitions, n_eval_episodes=own.n_eval_episodes
    )


def write_population(task: OnlineTask, directory: Path) -> None:
    """Put the agents of a task that is not listed into a run directory, if arrays can be them."""
    arrays = None if task.is_official or task.agents is None else population_arrays(task.agents)
    if arrays is not None:
        with replacing(directory / POPULATION_FILE) as file:
            np.savez_compressed(file, **cast(dict[str, Any], arrays))


def _read_population(path: Path, own: CustomTask) -> Population:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            population = population_from_arrays(dict(arrays))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if population.content_hash() != own.population_sha256:
        raise ValueError(f"{path} has other agents than {RESULT_FILE} says")
    return population


def _check_agreement(result: Result, name: str, value: float | None) -> None:
    """Refuse a score that is not what others give."""
    given = getattr(result, name)
    if (given is None) != (value is None) or abs((given or 0.0) - (value or 0.0)) > TOLERANCE:
        raise ValueError(
            f"{name}: {given} does not agree with the other scores, which give {value}"
        )


def find_results(folders: Iterable[Path]) -> dict[Path, Result]:
    """All results below some folders: run directory, once each, -> its record, sorted.

    Raises:
        ValueError: a folder does not exist or has no result below it, or a result is damaged.
    """
    found: dict[Path, Result] = {}
    seen: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        paths = sorted(folder.rglob(RESULT_FILE))
        if not paths:
            raise ValueError(f"no {RESULT_FILE} in or below {folder}; is its run complete?")
        for path in paths:
            if path.resolve() not in seen:
                found[path.parent] = read_result(path)
            seen.add(path.resolve())
    return found
