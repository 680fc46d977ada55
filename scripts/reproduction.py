"""The blocks of docs/reproduction.md and reproduction_evidence.md.

Claims, evidence, verdicts and what it cost.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.files import read_json
from rmdp_bench.leaderboard.reading import SubmittedRow
from rmdp_bench.tasks import get_offline_task, list_tasks
from scripts.ablation import with_error
from scripts.claims import (
    CORRECTIONS,
    NEVER_NEGATIVE,
    PERSIM,
    REPRESENTED,
    RESULTS,
    Claim,
    Comparison,
    Evidence,
    Side,
    find_evidence,
    suite_rows,
    variant_of,
    worth,
)
from scripts.document_blocks import generated, listed, table
from scripts.verdicts import (
    CONFIDENCE,
    SAME,
    Verdict,
    difference_interval,
    judge,
)

GROUPS_TASK = "HalfCheetahVel-n100-k5-v0"


def _shown(side: Side | float, scores: Sequence[float] | float) -> str:
    """A side of a comparison: its name, mean ± standard error and number of seeds."""
    if isinstance(side, int | float) or isinstance(scores, int | float):
        return f"{side:g}"
    if not scores:
        return str(side)
    return f"{side} {with_error(scores)} ({len(scores)})"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _row(evidence: Evidence) -> list[str]:
    comparison = evidence.comparison
    return [
        f"`{comparison.task}`",
        _shown(comparison.first, evidence.scores[0]),
        _shown(comparison.second, evidence.scores[1]),
        _interval(evidence.interval),
        str(evidence.verdict),
        ", ".join(evidence.sources),
    ]


HEADER = ["task", "first", "second", "first - second, 95 %", "verdict", "from"]


def overall(verdicts: Sequence[Verdict]) -> str:
    """The verdict that all comparisons share, or how often there is which."""
    counts = Counter(verdicts)
    if len(counts) == 1:
        return str(verdicts[0])
    return ", ".join(f"{verdict} {counts[verdict]}" for verdict in Verdict if counts[verdict])


def _summary(claims: Sequence[Claim]) -> str:
    rows = []
    for claim in claims:
        verdicts = [find_evidence(each).verdict for each in claim.comparisons]
        explained = {Verdict.FAILS, Verdict.NOT_SEPARATED} & {*verdicts}
        why = claim.explanation if explained else ""
        rows.append([claim.name, claim.text, overall(verdicts), why])
    return table(["where", "claim", "verdict", "what may explain a difference"], rows)


def _evidence(claims: Sequence[Claim]) -> str:
    parts = []
    for claim in claims:
        measures = dict.fromkeys(each.measure for each in claim.comparisons)
        of = "" if [*measures] == ["welfare"] else f" ({', '.join(measures)})"
        parts.append(f"**{claim.name}**: {claim.text}{of}.")
        rows = [_row(find_evidence(each)) for each in claim.comparisons if _is_tested(each)]
        if rows:
            parts.append(table(HEADER, rows))
        parts.append(_untested(claim.comparisons))
    return "\n\n".join(filter(None, parts))


def _is_tested(comparison: Comparison) -> bool:
    return find_evidence(comparison).verdict is not Verdict.NOT_TESTED


def _untested(comparisons: Sequence[Comparison]) -> str:
    """A line for all that have no verdict; nothing if there is none."""
    missing = [f"`{each.task}`" for each in comparisons if not _is_tested(each)]
    if not missing:
        return ""
    tasks = listed([*dict.fromkeys(missing)])
    noun = "comparison" if len(missing) == 1 else "comparisons"
    return f"Not tested yet: {len(missing)} {noun}, on {tasks}."


@generated
def verdict_rule() -> str:
    """The rule."""
    return (
        f"The rule (`scripts/verdicts.py`): the {100 * CONFIDENCE:g} % interval of the difference "
        "of two means over seeds, by Welch's t, or of one mean and a number. A claim **holds** if "
        "the whole interval is where it says, and **fails** if all of it is elsewhere; otherwise "
        "the seeds do **not separate** the two. With fewer than two seeds, or no row, it is **not "
        f"tested yet**. Two means are the same up to {SAME:g} points. Each interval is for itself: "
        "of many comparisons a few go wrong by chance."
    )


@generated
def represented_claims() -> str:
    """Verdicts, r-MDP."""
    return _summary(REPRESENTED)


@generated
def represented_evidence() -> str:
    """Evidence, r-MDP."""
    return _evidence(REPRESENTED)


@generated
def persim_claims() -> str:
    """Verdicts, PerSim."""
    return _summary(PERSIM)


@generated
def persim_evidence() -> str:
    """Evidence, PerSim."""
    return _evidence(PERSIM)


@generated
def alike_rows() -> str:
    """What would be said, had the alphabet chosen another of rows that are alike."""
    lines = []
    for claim in (*REPRESENTED, *PERSIM):
        for comparison in claim.comparisons:
            evidence = find_evidence(comparison)
            lines += [
                f"- {claim.name}, `{comparison.task}`: {', '.join(evidence.sources)} says "
                f"{evidence.verdict}, {', '.join(other.sources)} {other.verdict}"
                for other in evidence.alike
            ]
    if not lines:
        return "Nowhere did the alphabet choose."
    return "\n".join(["Where the alphabet chose, and what the other row says:", "", *lines])


@generated
def negative_results() -> str:
    """The comparisons whose means are on the other side, of both papers."""
    rows = []
    for claim in (*REPRESENTED, *PERSIM):
        for comparison in claim.comparisons:
            evidence = find_evidence(comparison)
            if evidence.is_against:
                rows.append([claim.name, *_row(evidence)])
    return table(["claim", *HEADER], rows)


def _group_sizes(row: SubmittedRow) -> str:
    sizes = [np.sort(own.sum(0))[::-1].round().astype(int) for own in row.assignments()]
    return "; ".join("/".join(map(str, own)) for own in sizes)


@generated
def group_sizes() -> str:
    """Agents of each representative, the largest group first."""
    rows = [
        [f"`{row.summary.solver}`", row.submission.name, _group_sizes(row)]
        for row in suite_rows()
        if row.summary.task == GROUPS_TASK
    ]
    return table(["solver", "from", f"agents of each policy, each seed, `{GROUPS_TASK}`"], rows)


LEARNER_VARIANTS = {
    "mass": "advantages over the group's own agents",
    "default": "the same, and gradients bounded for each policy",
    "floor": "the same, and a floor under standard deviations",
    "floor-kl": "the same, and a stop at large divergences",
}


@generated
def corrections() -> str:
    """What corrections changed: the learner's from its ablation, the others from rows."""
    variants = read_json(RESULTS / "learner_ablation.json")["variants"]
    before = variants["before"]["social_welfare"]
    rows = []
    for name, what in LEARNER_VARIANTS.items():
        if name in variants:
            scores = variants[name]["social_welfare"]
            cells = [with_error(own) for own in (scores, before)]
            interval = _interval(difference_interval(scores, before))
            separated = WORDS[judge(scores, before)]
            rows.append([what, *cells, interval, separated, "learner_ablation.json"])
    for comparison in filter(_is_tested, CORRECTIONS):
        evidence = find_evidence(comparison)
        what, *cells = _row(evidence)
        cells[3] = WORDS.get(evidence.verdict, cells[3])
        if comparison.measure in NEVER_NEGATIVE and evidence.interval is not None:
            cells[2:4] = "", "not judged: the best of noisy episodes is never below 0"
        measure = "" if comparison.measure == "welfare" else f", {comparison.measure}"
        rows.append([what + measure, *cells])
    header = ["what", "first", "second (of the learner: before)", HEADER[3], "first is", "from"]
    return "\n\n".join(filter(None, [table(header, rows), _untested(CORRECTIONS)]))


WORDS = {Verdict.HOLDS: "higher", Verdict.FAILS: "lower", Verdict.NOT_SEPARATED: "not separated"}
"""Verdicts of `GREATER` where nothing was claimed."""


def told_apart(verdict: Verdict, interval: tuple[float, float] | None) -> str:
    """Whether a difference is above 0, where nothing was claimed, and its interval."""
    return f"{WORDS.get(verdict, verdict)} {_interval(interval)}".strip()


def _name(row: SubmittedRow) -> str:
    """Of a row in a sentence about its task."""
    scope = " (one trajectory)" if row.results[0].config.get("scope") == "agent" else ""
    return f"`{row.solver}`{scope}"


@generated
def persim_beside_others() -> str:
    """Which offline rows PerSim, PerSim + BCQ and cloning are told apart from."""
    cells = []
    for task in list_tasks():
        own = [row for row in suite_rows() if row.summary.task == task.id]
        for solver in ("persim", "persim_policy", "persim_bcq", "behaviour"):
            rows_of = [row for row in own if row.solver == solver]
            found = [row for row in rows_of if not variant_of(row)]
            if not found:
                continue
            first = max(found, key=worth)
            rivals: dict[str, list[SubmittedRow]] = {}
            for row in own:
                if row.solver != solver:
                    rivals.setdefault(_name(row), []).append(row)
            others: dict[Verdict, list[str]] = {}
            for name, rows in rivals.items():
                second = max(rows, key=lambda row: worth(first, row))
                verdict = judge(first.seed_scores, second.seed_scores)
                others.setdefault(verdict, []).append(name)
            shown = (sorted(others.get(verdict, [])) for verdict in WORDS)
            cells.append([f"`{task.id}`", f"`{solver}`", *map(", ".join, shown)])
    return table(["task", "solver", "above", "below", "not separated from"], cells)


@generated
def more_trajectories() -> str:
    """From how many trajectories to how many PerSim is told apart."""
    record = read_json(RESULTS / "agents_ablation.json")
    task = get_offline_task(record["task"])
    scores = {
        n: [
            float(normalise(task, task.eval_agents, np.array(own)).mean()) for own in row["returns"]
        ]
        for n, row in record["variants"].items()
    }
    pairs = list(itertools.pairwise(sorted(scores, key=int)))
    words = [
        f"{more} against {less}: {told_apart(*_of(scores[more], scores[less]))}"
        for less, more in [*pairs, (pairs[0][0], pairs[-1][1])]
    ]
    return (
        "With the default 300 passes over the data, the differences between numbers of "
        f"trajectories on CartPole are, 95 %: {'; '.join(words)}."
    )


def _of(
    first: Sequence[float], second: Sequence[float]
) -> tuple[Verdict, tuple[float, float] | None]:
    return judge(first, second), difference_interval(first, second)


@generated
def hours_in_all() -> str:
    """What rows and ablations cost, from their records."""
    hours, core_hours = {"cpu": 0.0, "cuda": 0.0}, 0.0
    for row in suite_rows():
        for result in row.results:
            seconds = result.wall_seconds
            if result.trained_for is not None:  # a copy: the training is in another record
                seconds = max(seconds - result.train_seconds, 0.0)
            own = seconds / result.seeds_together / 3600
            hours[result.device] += own
            core_hours += own * result.system["cores"] * (result.device == "cpu")
    trained = sum(
        _ablation_hours(read_json(path)) for path in sorted(RESULTS.glob("*ablation*.json"))
    )
    text = (
        f"The {len(suite_rows())} rows of the suite took {hours['cpu']:.1f} hours of wall time on "
        f"CPUs, with the cores that their records name {core_hours:.1f} core hours at most"
    )
    if hours["cuda"]:
        text += f", and {hours['cuda']:.1f} hours on a GPU"
    return (
        f"{text}; a training that serves several budgets counts once. Training of the ablations in "
        f"`benchmarks/results`, as far as they kept it, took {trained:.1f} hours more."
    )


def _ablation_hours(record: dict[str, Any]) -> float:
    """Hours of training: that of a variant is of the batch of its seeds."""
    seconds = (float(row.get("train_seconds", 0.0)) for row in record["variants"].values())
    return sum(seconds) / 3600
