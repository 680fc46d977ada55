"""Which figures `plot` draws, and the data they need."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import plotting
from rmdp_bench.ceilings import constant_speed_optimum
from rmdp_bench.datasets import DatasetEntry
from rmdp_bench.datasets.building import check_installed
from rmdp_bench.datasets.collection import UNIFORM
from rmdp_bench.datasets.storage import dataset_path, read_episodes
from rmdp_bench.envs import get_environment, get_population
from rmdp_bench.evaluation import roll_out
from rmdp_bench.files import write_bytes
from rmdp_bench.population import DynamicsPopulation, is_on_line
from rmdp_bench.runs import Result, read_curve
from rmdp_bench.runs.records import playable_task_of, task_of
from rmdp_bench.runs.summary import group_results
from rmdp_bench.solution import Solution, load_solution
from rmdp_bench.submission.bounded import MAX_ARRAY_BYTES, read_arrays
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task

Groups = Mapping[str, Mapping[Path, Result]]
"""Solver, with its settings where they differ -> run directory -> record."""

GRID_ENVIRONMENT = "rmdp/ResourceGathering-n25-v0"
_TARGET = "target speed (m/s)"


@dataclass(frozen=True)
class _Figures:
    """Where figures go, in which formats, and whose colours they share."""

    folder: Path
    formats: Sequence[str]
    order: Sequence[str] = ()

    def draw(
        self, plot: Callable[..., Path], name: str, *data: Any, **options: Any
    ) -> Iterator[Path]:
        """Draw one figure in each format."""
        for suffix in self.formats:
            yield plot(*data, self.folder / f"{name}.{suffix}", **options)


def draw_figures(
    results: Mapping[Path, Result], out: Path, formats: Sequence[str] = ("png",)
) -> tuple[list[Path], list[str]]:
    """Draw all figures that the runs have data for; nothing is written unless all can be drawn.

    welfare-ENV           welfare against k, for every environment
    fairness-ENV          welfare against the worst agent over k, where objectives differ
    curves-TASK           welfare during training
    preferences-TASK      who is served by whom, one panel per solver (its lowest seed)
    agents-TASK           velocity: what each agent receives, the same panels, and the ceiling
    paths-TASK-SOLVER     tours through Resource Gathering, played again (the lowest seed), for its
                          own agents
    returns-TASK          offline: the return of each scored agent
    factors-TASK-SOLVER   offline: what was learned about the agents (the lowest seed)

    Args:
        results: run directory -> record.
        out: folder of the figures; it is created.
        formats: suffixes of the files, "png", "svg" or "pdf": each figure has a file for each.

    Returns:
        The paths of the figures, and what could not be drawn: one sentence for each kind.

    Raises:
        ValueError: damaged run directories.
    """
    tasks: dict[str, dict[str, Mapping[Path, Result]]] = {}
    for (task_id, solver, settings), members in group_results(results).items():
        name = f"{solver} {settings}" if settings else solver
        tasks.setdefault(task_id, {})[name] = members
    order = list(dict.fromkeys(name for groups in tasks.values() for name in groups))
    no_curve: list[str] = []
    no_policies: list[str] = []
    known = {_task_of_groups(groups): groups for groups in tasks.values()}
    online = {task: groups for task, groups in known.items() if isinstance(task, OnlineTask)}
    with _whole_figures(out) as folder:
        figures = _Figures(folder, formats, order)
        drawn = [*_draw_budgets(online, figures), *_draw_fairness(online, figures)]
        for task, groups in known.items():
            if isinstance(task, OfflineTask):
                drawn += _draw_offline(task, groups, figures)
        for represented, groups in online.items():
            drawn += _draw_curves(represented, groups, figures, no_curve.append)
            if not represented.heterogeneous:
                drawn += _draw_assignments(represented, groups, figures, no_policies.append)
    sizes = [len(runs) for groups in online.values() for runs in groups.values()]
    missing = [
        f"{len(names)} of {number} {what}, for example {names[0]}"
        for names, number, what in (
            (no_curve, sum(sizes), "runs have no learning curve"),
            (no_policies, len(sizes), "solvers on a task have no saved policies"),
        )
        if names
    ]
    return [out / path.name for path in drawn], missing


def _task_of_groups(groups: Groups) -> Task:
    """The task of the runs of some solvers, with its agents where a run has them."""
    directory, result = next(iter(next(iter(groups.values())).items()))
    return task_of(result, directory)


def draw_datasets(
    entries: Sequence[DatasetEntry], out: Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Draw dataset-ID for each; nothing is written unless all can be drawn.

    Args:
        entries: built datasets.
        out: folder of the figures; it is created.
        formats: suffixes of the files.

    Raises:
        FileNotFoundError: one is not built.
        ValueError: its files are damaged.
    """
    with _whole_figures(out) as folder:
        figures = _Figures(folder, formats)
        drawn = [path for entry in entries for path in _draw_dataset(entry, figures)]
    return [out / path.name for path in drawn]


@contextlib.contextmanager
def _whole_figures(out: Path) -> Iterator[Path]:
    """A folder for figures, which go to `out` when the block ends without an error."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        if not list(Path(folder).iterdir()):
            return
        out.mkdir(parents=True, exist_ok=True)
        for path in Path(folder).iterdir():
            write_bytes(out / path.name, path.read_bytes())


def _draw_dataset(entry: DatasetEntry, figures: _Figures) -> Iterator[Path]:
    """Agents by their hidden parameters, or by their targets."""
    check_installed(entry.id)
    episodes = read_episodes(entry.id, dataset_path(entry.id))
    policies = np.array([episode.metadata["behaviour_policy"] for episode in episodes])
    population = get_population(entry.env_id)
    if isinstance(population, DynamicsPopulation):
        returns = np.array([episode.rewards.sum() for episode in episodes])
        agents = [episode.metadata["agent"] for episode in episodes]
        parameters = _label_parameters(population, agents)
    else:
        outcomes = np.concatenate([episode.infos["outcome"][1:] for episode in episodes])
        returns = population.rewards(outcomes).sum(axis=0) / len(episodes)
        assert is_on_line(population), entry.id
        parameters = {_TARGET: population.targets}
        policies = np.full(population.n_agents, UNIFORM)
    return figures.draw(
        plotting.plot_dataset,
        f"dataset-{entry.id.replace('/', '-')}",
        np.concatenate([episode.observations for episode in episodes]).astype(np.float64),
        np.array([float(episode.n_steps) for episode in episodes]),
        parameters,
        returns,
        policies,
        title=entry.id,
    )


def _draw_budgets(tasks: Mapping[OnlineTask, Groups], figures: _Figures) -> Iterator[Path]:
    """Figures 2 and 3: one per environment."""
    by_environment: dict[str, dict[str, dict[int, list[float]]]] = {}
    labels: dict[str, str] = {}
    ceilings: dict[str, dict[int, float]] = {}
    for task, groups in tasks.items():
        k, name_of_world = task.n_representatives, _name_without_budget(task)
        labels[name_of_world] = _welfare_label(task)
        if task.ceiling is not None:
            ceilings.setdefault(name_of_world, {})[k] = task.ceiling
        rows = by_environment.setdefault(name_of_world, {})
        for name, members in groups.items():
            welfare = [result.social_welfare for result in members.values()]
            rows.setdefault(name, {})[k] = welfare
    for env_id, rows in by_environment.items():
        yield from figures.draw(
            plotting.plot_welfare_by_budget,
            f"welfare-{_file_name(env_id)}",
            *(rows, ceilings.get(env_id, {})),
            title=f"Social welfare against k, {env_id}",
            order=figures.order,
            label=labels[env_id],
        )


def _draw_fairness(tasks: Mapping[OnlineTask, Groups], figures: _Figures) -> Iterator[Path]:
    """One for each environment of which there are tasks of several objectives."""
    found: dict[str, dict[str, dict[int, list[tuple[float, float]]]]] = {}
    objectives: dict[str, set[str]] = {}
    for task, groups in tasks.items():
        world = _name_without_budget(dataclasses.replace(task, objective="utilitarian"))
        objectives.setdefault(world, set()).add(task.objective)
        for name, members in groups.items():
            points = [(result.worst_agent, result.social_welfare) for result in members.values()]
            rows = found.setdefault(world, {}).setdefault(f"{name}, {task.objective}", {})
            rows[task.n_representatives] = points
    for world, by_name in found.items():
        if len(objectives[world]) > 1:
            yield from figures.draw(
                plotting.plot_fairness,
                f"fairness-{_file_name(world)}",
                by_name,
                title=f"The price of fairness, {world}",
            )


def _name_without_budget(task: OnlineTask) -> str:
    """Of the environment, and of what else is not usual: the same for tasks that differ in k."""
    parts = [task.env_id]
    if task.agents is not None:
        parts.append(f"agents-{task.agents.content_hash()[:8]}")
    elif task.env_kwargs or (
        task.heterogeneous and task.n_agents != get_environment(task.env_id).n_agents
    ):
        parts.append(f"n{task.n_agents}")
    if task.objective != "utilitarian":
        parts.append(task.objective)
    return "-".join(parts)


def _welfare_label(task: OnlineTask) -> str:
    """Of the axis of welfare."""
    between = "\n" if task.heterogeneous else " "  # else it is longer than the axis
    return f"social welfare{between}({task.scale})"


def _label_parameters(
    population: DynamicsPopulation, agents: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Name and unit of each hidden parameter -> its values (A,) for some agents."""
    columns = population.parameters[agents].T
    return {
        f"{name.replace('_', ' ')}{f' ({unit})' if unit else ''}": values
        for name, unit, values in zip(population.names, population.units, columns, strict=True)
    }


def _draw_offline(task: OfflineTask, groups: Groups, figures: _Figures) -> Iterator[Path]:
    """Returns of the scored agents, and the factors of the solvers that have them."""
    population = task.hidden_population
    agents = task.eval_agents
    labels = [
        f"{agent}: {', '.join(f'{value:g}' for value in population.parameters[agent])}"
        for agent in agents
    ]
    returns = {
        name: [result.agent_returns for result in members.values()]
        for name, members in groups.items()
    }
    if task.has_common_scale:
        yield from figures.draw(
            plotting.plot_sorted_returns,
            f"returns-{task.id}",
            returns,
            title=f"Return of each agent, {task.id}",
            order=figures.order,
        )
    else:
        names = ", ".join(name.replace("_", " ") for name in population.names)
        yield from figures.draw(
            plotting.plot_agent_returns,
            f"returns-{task.id}",
            *(returns, labels),
            title=f"Return of each test agent ({names}), {task.id}",
            order=figures.order,
        )
    for name, members in groups.items():
        directory, result = min(members.items(), key=lambda item: item[1].seed)
        arrays = read_arrays(directory / (result.returns or ""), MAX_ARRAY_BYTES)
        if "factors" not in arrays:
            continue
        factors = arrays["factors"].astype(np.float64)
        yield from figures.draw(
            plotting.plot_factors,
            f"factors-{task.id}-{_file_name(name)}",
            factors,
            _label_parameters(population, range(len(factors))),
            title=f"Factors that {name}, seed {result.seed}, learned, {task.id}",
        )


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_=.-" else "-" for c in name)


def _draw_curves(
    task: OnlineTask, groups: Groups, figures: _Figures, skip: Callable[[str], None]
) -> Iterator[Path]:
    curves: dict[str, list[tuple[Any, Any]]] = {}
    for name, members in groups.items():
        for directory, result in members.items():
            if result.curve is None:
                skip(f"{name} on {task.id}, seed {result.seed}")
                continue
            curve = read_curve(directory / result.curve)
            curves.setdefault(name, []).append((curve["transitions"], curve["social_welfare"]))
    if curves:
        yield from figures.draw(
            plotting.plot_learning_curves,
            f"curves-{task.id}",
            *(curves, task.ceiling),
            title=f"Social welfare during training, {task.id}",
            order=figures.order,
            label=_welfare_label(task),
        )


def _draw_assignments(
    task: OnlineTask, groups: Groups, figures: _Figures, skip: Callable[[str], None]
) -> Iterator[Path]:
    """Figures 1, 4 and 5, from the lowest seed: the best one would flatter.

    Representatives are numbered and coloured in the order of what they serve.
    """
    served: dict[str, tuple[NDArray[np.float64], list[float]]] = {}
    seeds = set()
    for name, members in groups.items():
        saved = {path: result for path, result in members.items() if result.solution is not None}
        if not saved:
            skip(f"{name} on {task.id}")
            continue
        directory, result = min(saved.items(), key=lambda item: item[1].seed)
        solution = load_solution(directory / "solution")
        label = f"{name}, seed {result.seed}"
        columns = plotting.order_representatives(
            task.population, solution.assignment, result.agent_returns
        ).tolist()
        assignment = solution.assignment[:, columns]
        served[label] = assignment, result.agent_returns
        seeds.add(result.seed)
        if task.env_id == GRID_ENVIRONMENT and task.agents is None:  # whose places are tiles
            paths = replay(playable_task_of(result, directory), solution)
            yield from figures.draw(
                plotting.plot_paths,
                f"paths-{task.id}-{_file_name(name)}",
                [paths[column] for column in columns],
                assignment,
                title=f"{label} on {task.id}: {result.social_welfare:.1f} %",
                policies=columns,
            )
    if served:
        k, is_ours = task.n_representatives, task.env_id.startswith("rmdp/")
        assignments = {label: assignment for label, (assignment, _) in served.items()}
        names = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"
        title = f"Agents by representative, {task.id}, {names}"
        yield from figures.draw(
            plotting.plot_preferences,
            f"preferences-{task.id}",
            *(task.population, assignments),
            title=title,
            target_label=_TARGET if is_ours else "target",
        )
        if is_on_line(task.population):
            yield from figures.draw(
                plotting.plot_returns_by_target,
                f"agents-{task.id}",
                task.population,
                served,
                constant_speed_optimum(task.population, k) if is_ours else None,
                title=f"What each agent receives, {task.id}, {names}",
                target_label=_TARGET if is_ours else "target",
            )


def replay(task: Task, solution: Solution) -> list[list[tuple[int, int]]]:
    """(row, column) of every step of every policy's first evaluation episode."""
    rollout = roll_out(task, solution.policies, n_episodes=1, record=True)
    assert rollout.observations is not None
    return [
        [(int(row), int(column)) for row, column in rollout.observations[: length + 1, j, 0, :2]]
        for j, length in enumerate(rollout.lengths[:, 0])
    ]
