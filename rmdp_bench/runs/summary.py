"""Tables over seeds: one row per solver and task, from the records of its seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench import scoring
from rmdp_bench.runs.records import HeldOutScores, OfflineScores, PredictionScores, Result, task_of
from rmdp_bench.tasks import get_task, list_tasks

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Summary:
    """One solver on one task over its seeds; means over seeds, percent where not said otherwise.

    Attributes:
        task: id.
        solver: name.
        settings: what sets this row apart from others of the same solver and task, else empty.
        n_representatives: k.
        seeds: ascending.
        device: "cpu" or "cuda".
        device_name: processor or GPU.
        transitions: budget per policy.
        transitions_used: per policy, mean over seeds, as they were counted, or in older records as
            the solver counted them; None where nobody did, and offline.
        social_welfare: mean over seeds, as trained.
        reassigned_welfare: the same with each agent at its best representative; None offline.
        standard_error: of that mean; None with a single seed.
        interquartile_mean: over seeds.
        interval: 95 % stratified bootstrap interval of it; None with a single seed.
        worst_agent: the return of the agent served worst.
        tenth_percentile: of the agents' returns.
        gini: inequality of the agents' returns, 0 to 1; None if one is negative.
        nash_welfare: geometric mean of returns + 1, minus 1; None if one is negative.
        share_of_ceiling: 0 to 1; None where no ceiling is known.
        assignment_regret: welfare lost against the greedy assignment; None offline.
        transitions_per_second: of all policies and all seeds that trained together; None offline.
        train_hours: per seed.
        wall_hours: per seed, scoring included.
        peak_memory_mib: greatest over seeds.
        watt_hours: energy that the device used, per seed, scoring included; None where a seed's is
            not known.
        git_revisions: of the code that made the seeds, each once; None among them if unknown.
        objective: what the task asks for.
        objective_value: mean over seeds; None if one is not known.
        heldout: means over seeds of the numbers in `HeldOutScores`; None where there are none.
        offline: means over seeds of the numbers in `OfflineScores`, by name; None online, and for
            what the solver does not have.
        measures: means over seeds of what the world measures beside the reward, by name; None where
            it measures nothing.
    """

    task: str
    solver: str
    settings: str
    n_representatives: int
    seeds: list[int]
    device: str
    device_name: str
    transitions: int
    transitions_used: float | None
    social_welfare: float
    reassigned_welfare: float | None
    standard_error: float | None
    interquartile_mean: float
    interval: tuple[float, float] | None
    worst_agent: float
    tenth_percentile: float
    gini: float | None
    nash_welfare: float | None
    share_of_ceiling: float | None
    assignment_regret: float | None
    transitions_per_second: float | None
    train_hours: float
    wall_hours: float
    peak_memory_mib: float
    watt_hours: float | None
    git_revisions: list[str | None]
    offline: dict[str, float | None] | None
    objective: str = "utilitarian"
    objective_value: float | None = None
    heldout: dict[str, float] | None = None
    measures: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def group_results(results: Mapping[Path, Result]) -> dict[tuple[str, str, str], dict[Path, Result]]:
    """Put the seeds of one solver, task and settings together.

    Args:
        results: run directory -> record.

    Returns:
        (task, solver, settings) -> its records by seed; tasks in the table's order. `settings` is
        empty unless a solver has records of different settings on one task.

    Raises:
        ValueError: an unknown task, or two records of the same seed.
    """
    groups: dict[tuple[str, str, str], dict[Path, Result]] = {}
    for path, result in results.items():
        key = (result.task, result.solver, json.dumps(_settings(result), sort_keys=True))
        groups.setdefault(key, {})[path] = result
    position = {task.id: place for place, task in enumerate(list_tasks())}
    for result in results.values():  # tasks that are not listed come after the others
        position.setdefault(task_of(result).id, len(position))
    named: dict[tuple[str, str, str], dict[Path, Result]] = {}
    for task, solver, settings in sorted(groups, key=lambda key: (position[key[0]], key)):
        members = groups[task, solver, settings]
        alike = [json.loads(key[2]) for key in groups if key[:2] == (task, solver)]
        label = _differences(json.loads(settings), alike)
        named[task, solver, label] = _by_seed(members)
    return named


def summarise(results: Mapping[Path, Result]) -> list[Summary]:
    """One row per task, solver and settings; the best first within a task.

    Raises:
        ValueError: as in `group_results`.
    """
    rows = [
        summarise_group(settings, list(members.values()))
        for (_, _, settings), members in group_results(results).items()
    ]
    tasks = list(dict.fromkeys(row.task for row in rows))
    return sorted(rows, key=lambda row: (tasks.index(row.task), -row.social_welfare))


def summarise_group(settings: str, members: Sequence[Result]) -> Summary:
    """The row of a group of `group_results`: what sets it apart, and the records of its seeds."""
    first = members[0]
    task = task_of(first)
    welfare = np.array([result.social_welfare for result in members])
    several = len(members) > 1
    return Summary(
        task=first.task,
        solver=first.solver,
        settings=settings,
        n_representatives=task.n_representatives,
        seeds=[result.seed for result in members],
        device=first.device,
        device_name=str(first.system.get("device_name") or first.system.get("cpu") or "unknown"),
        transitions=first.transitions,
        transitions_used=_mean_of_known(
            result.transitions_counted or result.transitions_reported or None for result in members
        ),
        social_welfare=float(scoring.mean(welfare)),
        reassigned_welfare=_mean_of_known(result.reassigned_welfare for result in members),
        standard_error=float(scoring.standard_error(welfare)) if several else None,
        interquartile_mean=float(scoring.interquartile_mean(welfare)),
        interval=_interval(welfare) if several else None,
        worst_agent=_mean(result.worst_agent for result in members),
        tenth_percentile=_mean(result.tenth_percentile for result in members),
        gini=_mean_of_known(result.gini for result in members),
        nash_welfare=_mean_of_known(result.nash_welfare for result in members),
        share_of_ceiling=_mean_of_known(result.share_of_ceiling for result in members),
        assignment_regret=_mean_of_known(result.assignment_regret for result in members),
        transitions_per_second=_mean_of_known(
            result.transitions_per_second(task.n_representatives) for result in members
        ),
        train_hours=_mean(
            result.train_seconds / result.seeds_together / 3600 for result in members
        ),
        wall_hours=_mean(result.wall_seconds / result.seeds_together / 3600 for result in members),
        peak_memory_mib=max(
            result.peak_device_memory_mib or result.peak_memory_mib for result in members
        ),
        watt_hours=_mean_of_known(
            None if r.energy_joules is None else r.energy_joules / r.seeds_together / 3600
            for r in members
        ),
        git_revisions=list(dict.fromkeys(result.git_revision for result in members)),
        offline=_summarise_offline([r.offline for r in members if r.offline is not None]),
        objective=first.objective,
        objective_value=_mean_of_known(result.objective_value for result in members),
        heldout=_summarise_heldout([result.heldout for result in members]),
        measures=_summarise_measures([result.measures for result in members]),
    )


def with_measured(summary: Summary, measured: Sequence[float]) -> Summary:
    """The summary with what a verifier measured in the place of what the records say.

    Args:
        summary: of some seeds.
        measured: social welfare of each of them. Scores that do not follow from it stay those of
            the records.
    """
    welfare = np.array(measured)
    several = len(welfare) > 1
    mean, ceiling = float(scoring.mean(welfare)), get_task(summary.task).ceiling
    return replace(
        summary,
        social_welfare=mean,
        standard_error=float(scoring.standard_error(welfare)) if several else None,
        interquartile_mean=float(scoring.interquartile_mean(welfare)),
        interval=_interval(welfare) if several else None,
        share_of_ceiling=(
            None if ceiling is None else float(scoring.share_of_ceiling(mean, ceiling))
        ),
    )


def _summarise_offline(members: Sequence[OfflineScores]) -> dict[str, float | None] | None:
    """Means over seeds."""
    if not members:
        return None
    predictions = [scores.prediction for scores in members]
    names = members[0].factor_correlation or {}
    correlations = {
        f"factor_correlation_{name}": _mean_of_known(
            (scores.factor_correlation or {}).get(name) for scores in members
        )
        for name in names
    }
    own = ("mean_return", "unseen_welfare", "extrapolating_welfare", "evaluation_seconds")
    return (
        {name: _mean_of_known(getattr(scores, name) for scores in members) for name in own}
        | {
            name: _mean_of_known(None if p is None else getattr(p, name) for p in predictions)
            for name in PredictionScores.model_fields
        }
        | correlations
    )


def _summarise_heldout(members: Sequence[HeldOutScores | None]) -> dict[str, float] | None:
    """Means over seeds; None if one has none."""
    known = [scores for scores in members if scores is not None]
    if len(known) < len(members):
        return None
    names = ("welfare", "regret", "own_welfare")
    return {name: _mean(getattr(scores, name) for scores in known) for name in names}


def _summarise_measures(members: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """Means over seeds of what all of them have; None if that is nothing."""
    known = [measures or {} for measures in members]
    names = [name for name in known[0] if all(name in other for other in known)]
    return {name: _mean(own[name] for own in known) for name in names} or None


def _interval(welfare: np.ndarray[Any, Any]) -> tuple[float, float]:
    low, high = scoring.stratified_bootstrap_interval(welfare[:, None], seed=BOOTSTRAP_SEED)
    return float(low), float(high)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    """None if one is missing."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return _mean(known) if len(known) == len(listed) else None


def _settings(result: Result) -> dict[str, Any]:
    """What must agree for seeds to belong together."""
    same = {"transitions": result.transitions, "device": result.device}
    same["solver_sha256"] = (result.solver_sha256 or "")[:8]
    same["n_episodes"] = result.evaluation.n_episodes
    same["evaluation_seed"] = result.evaluation.seed
    return same | result.config


def _differences(own: dict[str, Any], alike: Sequence[dict[str, Any]]) -> str:
    """The settings in which some of the groups differ, with this group's values."""
    names = sorted({name for settings in alike for name in settings})
    differing = [name for name in names if any(other.get(name) != own.get(name) for other in alike)]
    return " ".join(f"{name}={own.get(name)}" for name in differing)


def _by_seed(members: Mapping[Path, Result]) -> dict[Path, Result]:
    """Ordered by seed, each seed once."""
    paths: dict[int, Path] = {}
    for path, result in members.items():
        if result.seed in paths:
            raise ValueError(
                f"seed {result.seed} of {result.solver} on {result.task} is there twice: "
                f"{paths[result.seed]} and {path}"
            )
        paths[result.seed] = path
    return {paths[seed]: members[paths[seed]] for seed in sorted(paths)}
