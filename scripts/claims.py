"""The claims of both papers as comparisons between rows of the board, and what the seeds say.

A claim is a sentence of a paper and the comparisons that it makes; each compares a measure of a row
(`MEASURES`) with that of another row or with a number.  `find_evidence` looks the rows up, so that
a comparison whose rows are not there yet is "not tested yet" and is made by itself when they are.

Which rows: of those with a solver's own settings (`SETTINGS`), two of one submission before two of
different ones, then those with more training (transitions, offline passes or updates: `TRAINING`),
with larger planners, and with more seeds; of those that are alike in all of this, the submission
whose name is first in the alphabet. Nothing of it looks at a score. Rows of different budgets of
transitions are not compared, and rows are not pooled: equal seeds begin with equal weights.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench import TargetPopulation
from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.evaluation.pairs import plays_pairs
from rmdp_bench.files import read_json
from rmdp_bench.leaderboard.reading import SubmittedRow, read_rows
from rmdp_bench.tasks import OfflineTask, OnlineTask, find_logged_task, get_online_task, get_task
from scripts.verdicts import (
    AS_GREAT,
    GREATER,
    LESS,
    THE_SAME,
    Region,
    Verdict,
    difference_interval,
    judge,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SETTINGS: Mapping[str, Any] = {
    "critic": "agents",
    "signal": "return",
    "training_reward": "own",
    "scope": "population",
    "hidden_size": 64,
    "n_hidden_layers": 1,
}
"""Settings that make another method of a solver, and their value in its own."""
WIDTH_BY_TASK = frozenset({"universal"})
"""Solvers whose own `hidden_size` is another, which depends on the task; where agents differ in
dynamics, all of them are."""
TRAINING = ("n_epochs", "model_epochs", "n_updates", "policy_updates", "iterations")
"""How long an offline solver trains, by those of these settings that it has."""
NEVER_NEGATIVE = frozenset({"gain of reassigning"})
"""Measures that are not judged: those whose number is a maximum over the same noisy episodes, which
is at least 0 by construction."""
CLOSE = 0.9
"""An R2 or a rank correlation from which a prediction counts as close."""


# Measures: a number of each seed of a row


def _groups(row: SubmittedRow) -> list[np.ndarray]:
    """Representative (n,) of each agent, of each seed."""
    return [assignment.argmax(1) for assignment in row.assignments()]


def largest_groups(row: SubmittedRow) -> list[float]:
    """Agents of the largest group."""
    return [float(np.bincount(group).max()) for group in _groups(row)]


def count_changes(groups: np.ndarray, targets: np.ndarray) -> int:
    """How often the representative changes along the agents (n,), sorted by target."""
    along = groups[np.argsort(targets, kind="stable")]
    return int((along[1:] != along[:-1]).sum())


def _changes(row: SubmittedRow) -> list[float]:
    population = get_online_task(row.summary.task).population
    assert isinstance(population, TargetPopulation)
    targets = np.ravel(population.targets)
    return [float(count_changes(group, targets)) for group in _groups(row)]


def _predictions(row: SubmittedRow, name: str) -> list[float]:
    found = [result.offline.prediction for result in row.results if result.offline]
    return [getattr(scores, name) for scores in found if scores is not None]


def _correlations(row: SubmittedRow) -> list[float]:
    found = [result.offline.factor_correlation for result in row.results if result.offline]
    return [min(map(abs, own.values())) for own in found if own]


MEASURES: Mapping[str, Callable[[SubmittedRow], list[float]]] = {
    "welfare": lambda row: row.seed_scores,
    "gain of reassigning": lambda row: [each.assignment_regret or 0.0 for each in row.results],
    "agents with nothing": lambda row: [
        float(sum(own <= 0.0 for own in each.agent_returns)) for each in row.results
    ],
    "largest group": largest_groups,
    "changes of group": _changes,
    "median R2": functools.partial(_predictions, name="r2_median"),
    "mean R2": functools.partial(_predictions, name="r2_mean"),
    "least correlation": _correlations,
}


# Claims


@dataclass(frozen=True)
class Side:
    """A solver in a comparison.

    Attributes:
        solver: its name.
        variant: the setting that makes it another method, "key=value"; empty: its own settings.
        n_agents: whose data it learned from; None: a row of the board.
        task: None: that of the comparison.
    """

    solver: str
    variant: str = ""
    n_agents: int | None = None
    task: str | None = None

    def __str__(self) -> str:
        """As tables show it."""
        words = [f"`{self.solver}`", self.variant and f"`{self.variant}`"]
        words += [f"of {self.n_agents} agents" if self.n_agents else ""]
        words += [f"on `{self.task}`" if self.task else ""]
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Comparison:
    """That a measure of one thing, minus that of another, is in a region."""

    task: str
    first: Side
    second: Side | float
    region: Region = GREATER
    measure: str = "welfare"


@dataclass(frozen=True)
class Claim:
    """What a paper says.

    Attributes:
        name: short.
        text: what is claimed.
        comparisons: in which it is tested.
        explanation: of what does not hold; shown where something does not.
    """

    name: str
    text: str
    comparisons: tuple[Comparison, ...]
    explanation: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the rows say of a comparison.

    Attributes:
        comparison: the claimed one.
        scores: a number of each seed, of both sides; none where there is no row.
        sources: of the rows, with the share of the task's transitions where it is less.
        alike: what rows say that only their submission's name has put behind these.
    """

    comparison: Comparison
    scores: tuple[Sequence[float], Sequence[float] | float]
    sources: tuple[str, ...] = ()
    alike: tuple[Evidence, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """By the one rule."""
        return judge(*self.scores, self.comparison.region)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference."""
        return difference_interval(*self.scores)

    @property
    def is_against(self) -> bool:
        """Whether the means are not where the claim says, separated or not."""
        if self.interval is None:
            return False
        low, high = self.comparison.region
        return not low < sum(self.interval) / 2 < high


# Looking rows up


@functools.cache
def suite_rows() -> tuple[SubmittedRow, ...]:
    """The rows of the suite's own submissions."""
    names = read_json(ROOT / "leaderboards" / "suite.json")["submissions"]
    rows = read_rows(ROOT / "leaderboards")
    return tuple(row for row in rows if row.submission.name in names)


def variant_of(row: SubmittedRow) -> str:
    """The setting that makes a row another method than its solver's own."""
    config = row.results[0].config
    has_own_worlds = plays_pairs(row.task)
    own = [
        f"{key}={config[key]}"
        for key, value in SETTINGS.items()
        if config.get(key, value) != value
        and not (key == "hidden_size" and (has_own_worlds or row.solver in WIDTH_BY_TASK))
    ]
    return ", ".join(own)


def _rows_of(side: Side, task: str) -> list[SubmittedRow]:
    return [
        row
        for row in suite_rows()
        if (row.summary.task, row.solver) == (task, side.solver) and variant_of(row) == side.variant
    ]


def worth(*rows: SubmittedRow) -> tuple[Any, ...]:
    """Sorts choices of rows, which are of the same solvers in the same order: the last is best."""
    training = [[row.results[0].config.get(name, 0) for name in TRAINING] for row in rows]
    planners = [row.results[0].config.get("n_sequences", 0) for row in rows]
    return (
        len({row.submission.name for row in rows}) == 1,
        min(row.summary.transitions for row in rows),
        training,
        min(planners),
        max(planners),
        min(len(row.results) for row in rows),
        # The end of a name counts more than any letter, so that a name is before longer ones.
        [[*(-ord(letter) for letter in row.submission.name), 1] for row in rows],
    )


@functools.cache
def _ablations() -> list[dict[str, Any]]:
    """Records of learning from the data of fewer agents."""
    return [read_json(path) for path in sorted(RESULTS.glob("agents_ablation*.json"))]


def _scores_of_fewer(side: Side, task_id: str) -> list[float]:
    """Normalised scores of each seed with the data of fewer agents, equal updates if known."""
    task, found = get_task(task_id), []
    for record in _ablations():
        solver = record.get("solver", "persim")
        row = record["variants"].get(str(side.n_agents))
        if (record["task"], solver) == (task_id, side.solver) and row is not None:
            found.append(("equal_updates" in record["command"], row["returns"]))
    if not found:
        return []
    assert isinstance(task, OfflineTask)
    returns = max(found, key=lambda each: each[0])[1]
    return [float(normalise(task, task.eval_agents, np.array(own)).mean()) for own in returns]


def _source(row: SubmittedRow) -> str:
    share = row.summary.transitions / (row.task.transitions or 1)
    reduced = isinstance(row.task, OnlineTask) and share < 1.0
    return f"{row.submission.name}{f' ({100 * share:.0f} % of the budget)' if reduced else ''}"


@functools.cache
def find_evidence(comparison: Comparison) -> Evidence:
    """Look up both sides of a comparison."""
    sides = [side for side in (comparison.first, comparison.second) if isinstance(side, Side)]
    if any(side.n_agents for side in sides):
        scores = [_scores_of_fewer(side, comparison.task) for side in sides]
        return Evidence(comparison, (scores[0], scores[1]), ("benchmarks/results",) * any(scores))
    candidates = [_rows_of(side, side.task or comparison.task) for side in sides]
    choices = [
        rows
        for rows in itertools.product(*candidates)
        if len({row.summary.transitions for row in rows}) == 1
    ]
    known = comparison.second
    if not choices:
        return Evidence(comparison, ([], [] if isinstance(known, Side) else known))
    first, *others = sorted(choices, key=lambda each: worth(*each), reverse=True)
    alike = [rows for rows in others if worth(*rows)[:-1] == worth(*first)[:-1]]
    evidence = _evidence_of(comparison, first)
    return replace(evidence, alike=tuple(_evidence_of(comparison, rows) for rows in alike))


def _evidence_of(comparison: Comparison, rows: Sequence[SubmittedRow]) -> Evidence:
    """What the rows of both sides say, or that of the first if the second is a number."""
    found = [MEASURES[comparison.measure](row) for row in rows]
    known = comparison.second
    second = found[1] if isinstance(known, Side) else known
    return Evidence(comparison, (found[0], second), tuple(dict.fromkeys(map(_source, rows))))


# The r-MDP paper

_GATHERING, _CHEETAH = "ResourceGathering-n25", "HalfCheetahVel-n100"
_ROBOTS = ("AntVel-n100", "HopperVel-n100", "Walker2dVel-n100")
_EM, _END, _CLUSTERING, _RANDOM = map(Side, ("em", "end_to_end", "clustering", "random_assignment"))


def _on(environment: str, k: int) -> str:
    return f"{environment}-k{k}-v0"


def _pairs(
    tasks: Sequence[str],
    firsts: Sequence[Side],
    seconds: Sequence[Side | float],
    region: Region = GREATER,
    measure: str = "welfare",
) -> tuple[Comparison, ...]:
    each = itertools.product(tasks, firsts, seconds)
    return tuple(Comparison(task, first, second, region, measure) for task, first, second in each)


_BETWEEN = [_on(_GATHERING, k) for k in (2, 3, 5, 10)]
_SPEEDS = [*(_on(_CHEETAH, k) for k in (2, 5, 10)), "HalfCheetahVel-n1000-k50-v0"]
_LEGS = [_on(robot, 5) for robot in _ROBOTS]
_HISTOGRAMS = [_on(_CHEETAH, 5), *_LEGS]
_FEW = "With few seeds one that stops short leaves the interval wide."
_BALANCED, _MOST = 2 * 100 / 5, 100 / 2

REPRESENTED = (
    Claim(
        "Figure 1, tiles",
        "with EM every tile is visited by some policy; here: less than half an agent, on average, "
        "is left with nothing",
        _pairs([_on(_GATHERING, k) for k in (1, 3, 10)], [_EM], [0.5], LESS, "agents with nothing"),
        _FEW,
    ),
    Claim(
        "Figure 1, length",
        "and the policies jointly minimise the length of episodes: EM is at the exact ceiling",
        tuple(
            Comparison(
                _on(_GATHERING, k),
                _EM,
                get_online_task(_on(_GATHERING, k)).ceiling or 0.0,
                THE_SAME,
            )
            for k in (1, 3, 10)
        ),
        _FEW,
    ),
    Claim(
        "Figure 2, k = 10",
        "both algorithms are above 90 with ten policies",
        _pairs([_on(_GATHERING, 10)], [_EM, _END], [90.0]),
    ),
    Claim(
        "Figure 2, k = 3",
        "both are above 85 with three policies",
        _pairs([_on(_GATHERING, 3)], [_EM, _END], [85.0]),
    ),
    Claim(
        "Figure 2, both alike",
        "EM and the end-to-end algorithm perform similarly in between",
        _pairs(_BETWEEN, [_END], [_EM], THE_SAME),
    ),
    Claim(
        "Figure 2, ends",
        "with one policy, and with one for each agent, all algorithms are identical",
        _pairs(
            [_on(_GATHERING, k) for k in (1, 25)], [_END, _CLUSTERING, _RANDOM], [_EM], THE_SAME
        ),
        _FEW,
    ),
    Claim(
        "Figure 2, clustering",
        "both are above clustering in between",
        _pairs(_BETWEEN, [_EM, _END], [_CLUSTERING]),
    ),
    Claim(
        "Figure 2, flat",
        "clustering changes little with k",
        tuple(
            Comparison(task, _CLUSTERING, Side("clustering", task=_on(_GATHERING, 1)), THE_SAME)
            for task in _BETWEEN
        ),
        "A universal policy that visits every tile rewards all agents alike, so that K-means has "
        "nothing to go by; where training ended before it did, some agents differ.",
    ),
    Claim(
        "Figure 3, HalfCheetah, random",
        "both algorithms are above random assignments with every budget",
        _pairs(_SPEEDS, [_EM, _END], [_RANDOM]),
    ),
    Claim(
        "Figure 3, HalfCheetah, clustering",
        "both are above clustering",
        _pairs(_SPEEDS, [_EM, _END], [_CLUSTERING]),
    ),
    Claim(
        "Figure 3, clustering, random",
        "clustering improves upon random assignments",
        _pairs([*_SPEEDS, *_LEGS], [_CLUSTERING], [_RANDOM]),
    ),
    Claim(
        "Figure 3, Ant, Hopper, Walker2d, random",
        "both algorithms are above random assignments",
        _pairs(_LEGS, [_EM, _END], [_RANDOM]),
    ),
    Claim(
        "Figure 3, Hopper, Walker2d, clustering",
        "both are above clustering",
        _pairs(_LEGS[1:], [_EM, _END], [_CLUSTERING]),
    ),
    Claim(
        "Figure 3, Ant, clustering",
        "except on Ant, where clustering is as good",
        _pairs(_LEGS[:1], [_CLUSTERING], [_EM, _END], AS_GREAT),
    ),
    Claim(
        "Figures 4 and 5, order",
        "both group agents with similar targets: along the sorted targets the group changes less "
        "often than with random assignments",
        _pairs(_HISTOGRAMS, [_EM, _END], [_RANDOM], LESS, "changes of group"),
    ),
    Claim(
        "Figures 4 and 5, balance",
        "and keep relatively balanced group sizes; here: no group has twice its even share, 40",
        _pairs(_HISTOGRAMS, [_EM, _END], [_BALANCED], LESS, "largest group"),
        "Before a robot has learned to run, agents who receive nothing from anybody go to "
        "whichever policy strays nearest to them, and a policy that serves many has no reason to "
        "leave them: a local optimum, see [EM](em.md). The "
        "paper shows one seed.",
    ),
    Claim(
        "Figures 4 and 5, clustering",
        "clustering lumps most agents into one group",
        _pairs(_HISTOGRAMS, [_CLUSTERING], [_MOST], GREATER, "largest group"),
    ),
)

# PerSim

_KINDS = ("pure", "random", "pure-eps20", "pure-eps40")
_WORLDS = ("CartPoleHet-n500", "MountainCarHet-n500", "HalfCheetahHet-n500")
_PERSIM = Side("persim")


def _data(*kinds: str) -> list[str]:
    return [find_logged_task(world, kind).id for world in _WORLDS for kind in kinds]


_RIVALS = [Side(name) for name in ("cadm", "pe_cadm", "bcq", "cql", "morel")]
_FEWER = [find_logged_task("CartPoleHet-n500", kind).id for kind in ("random", "pure")]

PERSIM = (
    Claim(
        "(i), medians",
        f"simulators are accurate: the median R2 of 50 predicted steps is above {CLOSE:g}",
        _pairs(_data("pure", "random"), [_PERSIM], [CLOSE], measure="median R2"),
    ),
    Claim(
        "(i), means",
        f"the same of the mean R2, which a few predictions that diverge decide: above {CLOSE:g}",
        _pairs(_data("pure", "random"), [_PERSIM], [CLOSE], measure="mean R2"),
        "Some predictions of fifty steps diverge, where an agent falls or reaches the goal a step "
        "later than foreseen; the median does not see them.",
    ),
    Claim(
        "(ii), random data",
        "all rivals fall short of PerSim",
        _pairs(_data("random"), [_PERSIM], _RIVALS),
        "In rows that are not of one submission the rivals had fewer passes over the data than "
        "PerSim, which flatters it, and planners may be reduced, which does not.",
    ),
    Claim(
        "(ii), pure data",
        "all rivals fall short of PerSim",
        _pairs(_data("pure"), [_PERSIM], _RIVALS),
        "These data come from trained policies: on MountainCar they are nearer to the optimum than "
        "what random shooting finds even with the true dynamics, so that copying them suffices.",
    ),
    Claim(
        "(ii), pure data, cloning",
        "not in the paper: cloning the data falls short of PerSim, too",
        _pairs(_data("pure"), [_PERSIM], [Side("behaviour")]),
        "As for the rivals.",
    ),
    Claim(
        "(iii)",
        "PerSim goes beyond the policy that made the data, also where actions were random",
        _pairs(_data("random"), [_PERSIM], [Side("behaviour")]),
    ),
    Claim(
        "(iv)",
        "agents' factors follow the hidden parameters: the least rank correlation is above "
        f"{CLOSE:g}",
        _pairs(_data("pure", "random"), [_PERSIM], [CLOSE], measure="least correlation"),
    ),
    Claim(
        "(v)",
        "BCQ with trajectories that PerSim generates is better than BCQ",
        _pairs(
            _data("pure", "random", "pure-eps20", "pure-eps40"), [Side("persim_bcq")], [Side("bcq")]
        ),
        "Generated trajectories pass the planner's quality on. Where the data alone teach BCQ more "
        "than the planner reaches, they take it away again.",
    ),
    Claim(
        "(vi)",
        "with fewer trajectories PerSim stays above its rivals",
        tuple(
            Comparison(task, Side("persim", n_agents=n), Side(rival, n_agents=n))
            for task in _FEWER
            for n in (25, 100)
            for rival in ("cql", "cadm")
        ),
    ),
)

# What corrections changed: settings of one solver, or two solvers, on the same task

_K5, _WALKER = _on(_CHEETAH, 5), "Walker2dVel-n100-k5-v0"
_DENSE = "training_reward=dense, hidden_size=128, n_hidden_layers=2"
"""With the networks of `universal`: what it changes is the reward's and theirs together."""
CORRECTIONS = (
    *(
        Comparison(task, Side(solver), 0.0, measure="gain of reassigning")
        for task in (_K5, _on(_GATHERING, 3))
        for solver in ("clustering", "random_assignment")
    ),
    Comparison(_K5, _END, Side("end_to_end", "signal=advantage")),
    *(
        Comparison(task, Side(solver, _DENSE), Side(solver))
        for task in (_K5, _WALKER)
        for solver in ("em", "em_plus")
    ),
    *(Comparison(task, Side("universal"), Side("em", _DENSE)) for task in (_K5, _WALKER)),
    *(Comparison(task, Side("universal"), _EM) for task in (_K5, *_LEGS)),
    Comparison(_K5, Side("em", "critic=outcome"), _EM),
)
