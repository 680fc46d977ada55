"""Write the tables and sentences of the documents that hold numbers, from what is stored.

    python -m scripts.generate_documents            rewrite README.md, docs/*.md and the
                                                    page of the tests' conditions
    python -m scripts.generate_documents --check    exit 1 and name what differs, write nothing
    python -m scripts.generate_documents --figures  draw the pictures anew as well

What stands between `<!-- generated: NAME -->` and `<!-- end -->` is what the function NAME of this
file or of `scripts.reproduction` returns (`-` for `_`).  Numbers come from the leaderboard,
`benchmarks/results` and the package.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import heapq
import io
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image
from scipy import stats

from rmdp_bench import ENVIRONMENTS, EnvironmentEntry, TargetPopulation, get_population
from rmdp_bench.ceilings import EPISODE_STEPS, constant_speed_optimum
from rmdp_bench.cli import main as command_line
from rmdp_bench.envs import get_environment
from rmdp_bench.envs.mo_worlds import MO_WORLDS, MultiObjectiveWorld
from rmdp_bench.files import read_json, write_text
from rmdp_bench.leaderboard import Entry, Table, build_tables
from rmdp_bench.plotting.style import colour_of, draw_panels, save
from rmdp_bench.references import single_and_own
from rmdp_bench.runs import Result
from rmdp_bench.runs.checkpoints import CHECKPOINT_SECONDS
from rmdp_bench.runs.curve import parse_curve
from rmdp_bench.runs.display import PROGRESS_SECONDS
from rmdp_bench.runs.summary import Summary
from rmdp_bench.submission.rows import ASSIGNMENT, RowFiles
from rmdp_bench.sweep import read_plan
from rmdp_bench.sweep.display import COUNT_SECONDS
from rmdp_bench.sweep.jobs import STOP_SECONDS
from rmdp_bench.tasks import (
    OnlineTask,
    find_logged_task,
    get_online_task,
    get_task,
    list_tasks,
)
from scripts import ablation, glucose_blocks, test_conditions  # noqa: F401 (their blocks)
from scripts.ablation import with_error
from scripts.document_blocks import GENERATORS, generated, listed, spaces_of, table
from scripts.reproduction import told_apart  # and its blocks
from scripts.verdicts import difference_interval, judge

ROOT = Path(__file__).resolve().parent.parent
LEADERBOARDS = ROOT / "leaderboards"
SUBMISSIONS = LEADERBOARDS / "submissions"
RESULTS = ROOT / "benchmarks" / "results"
PLANS = ROOT / "benchmarks" / "plans"
PICTURE = ROOT / "docs" / "figures" / "agents-HalfCheetahVel-n100-k5-v0.png"
BUDGETS_PICTURE = PICTURE.with_name("idea-budget.png")
PICTURE_COLOURS = 64
"""Of the palette, with which a picture takes a third of the bytes."""
BUDGETS = (1, 2, 5)
"""Of the picture of what few policies can give."""
MAIN_TASK = "HalfCheetahVel-n100-k5-v0"
"""The task that the pages look at closely."""
KINDS = ("pure", "random", "pure-eps20", "pure-eps40")
"""Of logged data, in the order of the tables."""
SATURATED = 99.0
"""Percent of the ceiling, or of the reference offline, from which a task says little more."""
_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """The pages that may have generated blocks."""
    conditions = RESULTS / "test_conditions.md"
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), conditions]


def fill(text: str) -> str:
    """Write the generated blocks of a page anew.

    Raises:
        ValueError: a block has a name that nothing generates.
    """

    def write(match: re.Match[str]) -> str:
        if match[2] not in GENERATORS:
            raise ValueError(f"nothing generates {match[2]!r}; {', '.join(GENERATORS)} are known")
        return f"{match[1]}\n{GENERATORS[match[2]]().strip()}\n\n{match[3]}"

    return _BLOCK.sub(write, text)


# Formatting


def welfare_of(entry: Entry) -> str:
    """Social welfare of a row, with its standard error where there are several seeds."""
    row = entry.summary
    error = "" if row.standard_error is None else f" ± {row.standard_error:.2f}"
    return f"{row.social_welfare:.2f}{error}"


# Reading


@functools.cache
def board() -> list[Table]:
    """The leaderboard, all tasks with a row."""
    return build_tables(LEADERBOARDS)


def rows_of_benchmark(name: str) -> list[dict[str, str]]:
    """Rows of the table of a benchmark, by column."""
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    header, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line]
    return [dict(zip(header, row, strict=True)) for row in rows]


def measured_on(*names: str) -> str:
    """The commands of benchmarks and the machine of each, as a line above their table."""
    records = [json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in names]
    parts = [
        f"`{record['command']}` on {record['machine']['cores']} cores of "
        f"{record['machine']['processor']}"
        for record in records
    ]
    return f"{'; '.join(parts)}:"


def stored_row(submission: str, task: str, solver: str) -> RowFiles:
    """The stored runs of a row."""
    return RowFiles(SUBMISSIONS / submission / task / solver)


def results_of(row: RowFiles) -> list[Result]:
    """Records by seed."""
    return [row.result(seed) for seed in range(len(row.seeds))]


def curves_of(submission: str) -> list[dict[str, np.ndarray]]:
    """Learning curves of `em` on the main task."""
    row = stored_row(submission, MAIN_TASK, "em")
    texts = [row.curve(seed) or "" for seed in range(len(row.seeds))]
    curves = [parse_curve(text, row.where(seed)) for seed, text in enumerate(texts)]
    return [{name: np.array(column) for name, column in curve.items()} for curve in curves]


# Environments, tasks and the board


def _space(space: gym.Space[Any]) -> str:
    """Kind and size."""
    if isinstance(space, gym.spaces.Discrete):
        return f"{space.n} choices"
    if not isinstance(space, gym.spaces.Box):
        raise TypeError(f"no words for {space}")
    return f"{space.dtype} {space.shape}"


def _reward(entry: EnvironmentEntry | MultiObjectiveWorld) -> str:
    """In words: what an agent receives for a step."""
    if isinstance(entry, MultiObjectiveWorld):
        full = "what it would have alone" if entry.front is not None else "a cart full of its ore"
        return f"the objectives by the agent's own weights; 100 in an episode is {full}"
    if entry.reward_function is not None:
        first = (entry.reward_function.__doc__ or "").splitlines()[0]
        return first.rstrip(".")
    if entry.hidden_reward:
        return "minus the risk of the glucose in plasma, by the patient's own weight of lows"
    population = get_population(entry.id)
    if isinstance(population, TargetPopulation):
        return (
            f"up to {population.peak:g} for the agent's own "
            f"{'speed' if population.outcome_size == 1 else 'velocity'}, "
            f"0 from {population.width:g} m/s beside it"
        )
    return "at home: 100 - steps, if the agent's tile was visited"


@generated
def environments() -> str:
    """Every environment: what a policy sees and does, what an agent receives, how long."""
    alike: dict[tuple[str, ...], list[EnvironmentEntry | MultiObjectiveWorld]] = {}
    worlds: list[EnvironmentEntry | MultiObjectiveWorld] = [
        *(entry for entry in ENVIRONMENTS if not entry.heterogeneous),
        *MO_WORLDS,
        *(entry for entry in ENVIRONMENTS if entry.heterogeneous),
    ]
    for entry in worlds:
        cells = (*map(_space, spaces_of(entry)), _reward(entry), str(entry.max_episode_steps))
        alike.setdefault(cells, []).append(entry)
    rows = [
        [", ".join(f"`{entry.id.removeprefix('rmdp/')}`" for entry in entries), *cells]
        for cells, entries in alike.items()
    ]
    return table(["`rmdp/...`", "observation", "action", "reward of a step", "horizon"], rows)


def percent_of_top(one: Table) -> float:
    """The board's first row, of the ceiling; offline of the reference, which is 100 already."""
    top = one.entries[0].summary
    return top.social_welfare if top.share_of_ceiling is None else 100 * top.share_of_ceiling


def share_of(summary: Summary) -> str:
    """Of the ceiling, if one is known."""
    share = summary.share_of_ceiling
    return "–" if share is None else f"{100 * share:.1f} %"


@generated
def recommended() -> str:
    """The tasks that still tell solvers apart, and the first row of each."""
    return _tops([one for one in board() if percent_of_top(one) < SATURATED])


@generated
def recommended_of_each_world() -> str:
    """Of each world the one of these with most rows; the README has room for no more."""
    worlds: dict[str, Table] = {}
    for one in board():
        if percent_of_top(one) < SATURATED:
            best = worlds.setdefault(one.task.env_id, one)
            if len(one.entries) > len(best.entries):
                worlds[one.task.env_id] = one
    return _tops(worlds.values())


def _tops(tables: Iterable[Table]) -> str:
    rows = []
    for one in tables:
        top = one.entries[0]
        share = share_of(top.summary) if isinstance(one.task, OnlineTask) else ""
        rows.append(
            [f"`{one.task.id}`", f"`{top.summary.solver}`", welfare_of(top), share, str(top.mark)]
        )
    return table(["task", "top of the board", "score", "of the ceiling", "mark"], rows)


@generated
def unranked() -> str:
    """Rows that would be first, had they been measured."""
    higher = [
        f"`{entry.summary.solver}` on `{one.task.id}`, {welfare_of(entry)} ({entry.mark})"
        for one in board()
        for entry in one.entries
        if entry.rank is None
        and entry.summary.social_welfare > one.entries[0].summary.social_welfare
    ]
    rule = "Only what the verifier has measured has a rank, and a planner leaves no policies."
    if not higher:
        return f"{rule} No row without a rank is above the first of its task."
    return "\n".join(
        [f"{rule} Above the first row, by their own records:", ""] + [f"- {row}" for row in higher]
    )


@generated
def saturated() -> str:
    """The tasks that the rule leaves out."""
    names = [f"`{one.task.id}`" for one in board() if percent_of_top(one) >= SATURATED]
    without = len([task for task in list_tasks() if not task.unranked]) - len(board())
    return (
        f"The rule: a task is saturated when the first row of the board has {SATURATED:g} % of the "
        f"exact ceiling, or offline {SATURATED:g} of 100 normalised. Saturated are {listed(names)}:"
        f" good for a first try, not for a comparison. {without} more ranked tasks have no row yet."
    )


@generated
def results() -> str:
    """The suite's own online rows."""
    rows = [
        [
            f"`{entry.summary.task}`",
            f"`{entry.summary.solver}`",
            welfare_of(entry),
            f"{entry.summary.reassigned_welfare:.2f}",
            share_of(entry.summary),
            entry.source,
            str(entry.mark),
        ]
        for one in board()
        for entry in one.entries
        if isinstance(one.task, OnlineTask) and entry.source.startswith("reference")
    ]
    header = ["task", "solver", "social welfare", "reassigned", "of the ceiling", "from", "mark"]
    return table(header, rows)


@generated
def datasets() -> str:
    """What `rmdp-bench datasets info --markdown` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = command_line(["datasets", "info", "--markdown"])
    if code:
        raise RuntimeError(f"datasets info ended with {code}")
    return printed.getvalue()


@generated
def clinic_scores() -> str:
    """Runs of the clinic's tasks, as `scripts.store_clinic_runs` has stored them."""
    rows, episodes, shares_of_room = [], set(), []
    known = single_and_own("rmdp/Glucose-n100-v0")
    if known is None:
        raise RuntimeError("what counts as 0 and as 100 is not stored")
    steps = get_environment("rmdp/Glucose-n100-v0").max_episode_steps
    single, everybody = (-value / steps for value in known)
    for own in read_json(RESULTS / "glucose_clinic.json")["rows"]:
        scores = own["scores"]
        changed = ", ".join(f"{name}={value}" for name, value in own["changed"].items())
        episodes.add(own["episodes"])
        shares = (100.0 * scores[f"time_{where}_range"] for where in ("in", "below", "above"))
        ahead = (
            f"{scores[f'{minutes} minutes rmse_mean']:.1f}"
            if f"{minutes} minutes rmse_mean" in scores
            else "–"
            for minutes in (30, 60)
        )
        r2 = scores.get("60 minutes r2_median")
        percent = 100.0 * (single - scores["mean risk"]) / (single - everybody)
        shares_of_room.append(percent)
        rows.append(
            [
                f"`{own['task']}`",
                f"`{own['solver']}`",
                str(len(own["seeds"])),
                f"{scores['mean risk']:.2f}",
                f"{percent:.0f}",
                f"{scores['worst tenth']:.1f}",
                " / ".join(f"{share:.1f}" for share in shares),
                " / ".join(ahead),
                "–" if r2 is None else f"{r2:.2f}",
                changed or "–",
            ]
        )
    header = ["task", "solver", "seeds", "mean risk", "score, %", "worst tenth"]
    header += ["in / below / above range, %"]
    header += ["RMSE in 30 / 60 min", "median R2, 60 min", "changed settings"]
    counts = " or ".join(str(number) for number in sorted(episodes))
    about = (
        f"Of {counts} scoring episodes of each patient. A lower risk is better; the score is 100 "
        f"({single:.2f} - risk) / ({single:.2f} - {everybody:.2f}), by one learned policy for all "
        "and everybody's own."
    )
    n_below = sum(percent < 0.0 for percent in shares_of_room)
    parts = [about, table(header, rows)]
    if n_below:
        parts.append(
            f"{n_below} of {len(rows)} are below 0: their policies serve the patients worse than "
            "one policy for all that learned in their worlds, and not from records."
        )
    return "\n\n".join(parts)


UNMATCHED = "the policy that is best for all known"
NOT_MATCHED = ("at random", UNMATCHED, "best of the policies", "own tuned controller")
"""Rows that use nothing that is known of a new patient, or what nobody knows."""


@generated
def clinic_new_patients() -> str:
    """What `scripts.match_new_patients` has measured."""
    document = read_json(RESULTS / "clinic_new_patients.json")
    rows = []
    for name, own in document["rows"].items():
        cells = [
            f"{own[group][value]:.2f}"
            for group in ("unseen", "extrapolating")
            for value in ("mean_risk", "regret", "regret_to_own")
        ]
        rows.append([name, *cells])
    header = ["matched by", "unseen: risk", "regret", "to own", "extrapolating: risk"]
    header += ["regret", "to own"]
    found = []
    matched = [name for name in document["rows"] if name not in NOT_MATCHED]
    for group in ("unseen", "extrapolating"):
        risks = {name: document["rows"][name][group]["mean_risk"] for name in document["rows"]}
        best = min(matched, key=lambda name: risks[name])
        worse = [name for name in matched if risks[name] >= risks[UNMATCHED]]
        found.append(
            f'Of the {group} patients "{best}" leaves the least regret'
            + (
                f"; {listed(worse)} {'is' if len(worse) == 1 else 'are'} no better than "
                if worse
                else ", and every way is better than "
            )
            + f'"{UNMATCHED}".'
        )
    about = (
        f"`{document['command']}`: {document['policies']} policies of `{document['solver']}` on "
        f"`{document['task']}`, {document['episodes']} episodes of each patient under each. Regret "
        "is against the best of the policies, and beside it against the patient's own tuned "
        "controller, which a negative number beats."
    )
    found.append(
        "It is one training and few patients, so that small differences, such as that of one day "
        "and three, say nothing."
    )
    return f"{about}\n\n{table(header, rows)}\n\n{' '.join(found)}"


@generated
def nothing_gained() -> str:
    """Tasks on which no solver of the board has more than 0."""
    lines = [
        f"`{one.entries[0].summary.task}` (the best, `{one.entries[0].summary.solver}`, has "
        f"{welfare_of(one.entries[0])})"
        for one in board()
        if one.entries and one.entries[0].summary.offline is None
        if one.entries[0].summary.social_welfare <= 0.0
    ]
    return f"No solver has more than nothing on {', '.join(lines)}." if lines else ""


# Online solvers


def main_task() -> tuple[OnlineTask, TargetPopulation]:
    """The task that the pages look at, and its population."""
    task = get_online_task(MAIN_TASK)
    population = task.population
    if not isinstance(population, TargetPopulation):
        raise TypeError(f"the population of {MAIN_TASK} has no targets")
    return task, population


@generated
def splits() -> str:
    """Welfare of the stored runs, and what their split of the agents allows."""
    task, population = main_task()
    ceiling = constant_speed_optimum(population, task.n_representatives).welfare
    # A target is a best constant speed for any group (`constant_speed_optimum`).
    rewards = EPISODE_STEPS * population.rewards(population.targets[:, None])
    rows = []
    for submission, solver in (
        ("reference", "em"),
        ("reference-em-plus", "em_plus"),
        ("reference-universal", "universal"),
    ):
        row = stored_row(submission, task.id, solver)
        welfare = [result.social_welfare for result in results_of(row)]
        shape = task.n_agents, task.n_representatives
        groups = [row.array(seed, ASSIGNMENT, shape) for seed in range(len(welfare))]
        best = [(rewards @ group).max(axis=0).sum() / task.n_agents for group in groups]
        own, least, most = (
            f"{100 * value / ceiling:.1f}" for value in (np.mean(welfare), min(best), max(best))
        )
        rows.append([f"`{solver}`", str(len(welfare)), own, f"{least} to {most}"])
    header = ["solver", "seeds", "social welfare", "if the best speed for each group were held"]
    return table(header, rows)


@generated
def left_out() -> str:
    """Agents who have next to nothing in the optimum."""
    task, population = main_task()
    speeds = constant_speed_optimum(population, task.n_representatives).speeds
    served = EPISODE_STEPS * population.rewards(speeds[:, None]).max(axis=0)
    return (
        f"Welfare is a mean: in the exact optimum of the picture {(served < 1.0).sum()} of the "
        f"{task.n_agents} agents receive less than 1 %."
    )


@generated
def falls() -> str:
    """Steps of the learning curves of `em` that lose welfare."""
    curves = [*curves_of("reference"), *curves_of("reference-outcome")]
    steps = [np.diff(curve["social_welfare"]) for curve in curves]
    trained = [np.diff(curve["train_social_welfare"]) for curve in curves]
    fallen = [step <= -ablation.FALL for step in steps]
    alone = [own & (step > -ablation.FALL) for own, step in zip(fallen, trained, strict=True)]
    return (
        f"Mostly it is not the training that falls: of the {sum(map(len, steps))} steps from one "
        f"evaluation to the next in the {len(curves)} stored runs of `em` on this task "
        f"{sum(own.sum() for own in fallen)} lose {ablation.FALL:g} % or more, but in "
        f"{sum(own.sum() for own in alone)} of these the returns in training, with the policies' "
        "noise, do not. What fails for a while is the mean action alone, which nobody trains."
    )


def plan_of(name: str) -> str:
    """The plan that makes runs, with a link to it."""
    return f"[`{name}.toml`](../benchmarks/plans/{name}.toml)"


@generated
def learner() -> str:
    """What normalisation and bounds of the learner bring."""
    stored = read_json(RESULTS / "learner_ablation.json")
    task, variants = get_task(stored["task"]), stored["variants"]
    rows = [ablation.format_row(task, name, row) for name, row in variants.items()]
    about = (
        f"With {stored['transitions']:,} transitions per policy, three seeds "
        f"({plan_of('learner')}; [each seed](../benchmarks/results/learner_ablation.json)):"
    )
    return "\n".join([about, "", table(ablation.HEADERS["online"], []), *rows])


EM_PLUS_VARIANTS = {
    "none": "nothing: EM, but for its loans of agents",
    "only-seeding": "seeding",
    "only-split_merge": "split and merge",
    "only-scout": "scout",
    "only-annealing": "soft assignments",
    "only-starts": "three starts",
    "default": "seeding, split and merge, scout: the default",
    "without-seeding": "split and merge, scout",
    "without-split_merge": "seeding, scout",
    "without-scout": "seeding, split and merge",
    "with-annealing": "the default, and soft assignments",
    "with-starts": "the default, and three starts",
}


@generated
def em_plus_parts() -> str:
    """What each part of `em_plus` brings: seeds 0 to 2, and for some lines 3 to 5."""
    stored = read_json(RESULTS / "em_plus_ablation.json")
    ceiling = get_task(stored["task"]).ceiling
    nothing = stored["variants"]["none"]["social_welfare"]
    rows = []
    for name, what in EM_PLUS_VARIANTS.items():
        welfare = stored["variants"][name]["social_welfare"]
        first, more = welfare[:3], welfare[3:]
        interval = difference_interval(welfare, nothing)
        share = f"{100 * np.mean(first) / ceiling:.1f} %"
        gain = "" if name == "none" else told_apart(judge(welfare, nothing), interval)
        rows.append([what, with_error(first), share, with_error(more) if more else "", gain])
    versions, cpu = stored["versions"], stored["system"]["cpu"].replace("(R)", "")
    about = (
        f"With {stored['transitions']:,} transitions per policy (mean ± standard error over "
        f"seeds 0 to 2, for some lines over three more; {cpu}, torch "
        f"{versions['torch']}; [each seed](../benchmarks/results/em_plus_ablation.json)):"
    )
    header = ["what is switched on", "social welfare", "of the ceiling", "seeds 3 to 5"]
    header += ["more than with nothing, 95 %"]
    return f"{about}\n\n{table(header, rows)}"


@generated
def em_plus_commands() -> str:
    """The commands of that table."""
    name = "em_plus_parts"
    commands = [
        f"rmdp-bench sweep benchmarks/plans/{name}.toml",
        f"python -m scripts.ablation runs/{name}",
    ]
    return "\n".join(["<!-- not run: hours -->", "", "```sh", *commands, "```"])


@generated
def em_plus_seeds() -> str:
    """What the full budget gives, seed by seed."""
    ceiling = get_task(MAIN_TASK).ceiling or np.nan
    results = results_of(stored_row("reference-em-plus", MAIN_TASK, "em_plus"))
    shares = [100 * result.social_welfare / ceiling for result in results]
    return (
        f"With all transitions the default reaches {with_error(shares, 1)} % of the ceiling; its "
        f"{len(shares)} seeds are at {listed([f'{share:.1f}' for share in sorted(shares)])} %."
    )


@generated
def universal_shares() -> str:
    """What one training of `universal` gives for each k."""
    found = [
        (one.task, entry)
        for one in board()
        for entry in one.entries
        if entry.source == "reference-universal" and one.task.env_id.startswith("rmdp/HalfCheetah")
    ]
    rows = [
        [f"`{task.id}`", str(len(entry.summary.seeds)), f"{entry.summary.transitions_used:,.0f}"]
        + [share_of(entry.summary)]
        for task, entry in found
    ]
    return table(["task", "seeds", "transitions per policy", "of the ceiling"], rows)


@generated
def universal_below() -> str:
    """Tasks on which another solver's row is above universal's."""
    lines = []
    for one in board():
        entries = [entry for entry in one.entries if entry.rank is not None]
        own = [entry for entry in entries if entry.summary.solver == "universal"]
        ahead = [
            entry for entry in entries if own and round(entry.place[1] - own[0].place[1], 2) < 0
        ]
        if ahead:
            others = dict.fromkeys(f"`{entry.summary.solver}`" for entry in ahead)
            lines.append(
                f"- `{own[0].summary.task}`: {welfare_of(own[0])}, behind "
                f"{', '.join(others)} (the first: {welfare_of(ahead[0])})."
            )
    return f"It is not first everywhere:\n\n{chr(10).join(lines)}" if lines else ""


CURVE_POINTS = (200_704, 501_760, 1_001_472, 1_501_184, 1_998_848)
CRITICS = ["transitions per policy", "the paper's critic", "`critic=outcome`"]


def count_overlaps(*welfare: np.ndarray) -> tuple[int, int]:
    """At how many points of two curves (seeds, points) the 95 % intervals overlap, and of how many.

    The intervals are Student's, over seeds.
    """
    means = [values.mean(axis=0) for values in welfare]
    widths = [stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) for values in welfare]
    overlap = np.abs(means[0] - means[1]) <= widths[0] + widths[1]
    return int(overlap.sum()), len(overlap)


@generated
def critics() -> str:
    """The paper's critic beside the outcome critic, along the learning curves of `em`."""
    curves = [curves_of("reference"), curves_of("reference-outcome")]
    transitions = curves[0][0]["transitions"].tolist()
    welfare = [np.array([curve["social_welfare"] for curve in own]) for own in curves]
    n_overlaps, n_points = count_overlaps(*welfare)
    rows = []
    for point in CURVE_POINTS:
        at = transitions.index(point)
        rows.append([f"{point:,}", *(with_error(values[:, at]) for values in welfare)])
    about = (
        "Welfare along the learning curve, mean ± standard error, "
        f"{len(welfare[0])} seeds of "
        "[`reference`](../leaderboards/submissions/reference/README.md) "
        f"and {len(welfare[1])} of "
        "[`reference-outcome`](../leaderboards/submissions/reference-outcome/README.md); the 95 % "
        f"intervals overlap at {n_overlaps} of the {n_points} points of the curves:"
    )
    return f"{about}\n\n{table(CRITICS, rows)}"


@generated
def critics_of_many_agents() -> str:
    """The same with a thousand agents and 50 policies, at a twentieth of the budget."""
    record = json.loads((RESULTS / "critic_ablation.json").read_text("utf-8"))
    both = [record["variants"][name] for name in ("agents", "outcome")]
    welfare = [np.array(own["curve_welfare"]) for own in both]
    n_overlaps, n_points = count_overlaps(*welfare)
    rows = [
        [f"{point:,}", *(with_error(values[:, at]) for values in welfare)]
        for at, point in enumerate(both[0]["curve_transitions"])
    ]
    final = [np.array(own["social_welfare"]) for own in both]
    rows.append(["after training", *map(with_error, final)])
    n_equal, _ = count_overlaps(*(values[:, None] for values in final))
    about = (
        f"`{record['command']}`, a core of {record['system']['cpu']} each: `{record['task']}`, "
        f"{record['transitions']:,} transitions per policy, welfare of {len(final[0])} seeds "
        "each, mean ± standard error. The 95 % intervals overlap at "
        f"{n_overlaps} of the {n_points} points of the curves, and "
        f"{'overlap' if n_equal else 'do not overlap'} after training:"
    )
    return f"{about}\n\n{table(CRITICS, rows)}"


# Offline solvers


def _offline_table(world: str) -> str:
    """The suite's rows of a world, whose plans are `offline*.toml`; no row is an empty cell."""
    cells: dict[tuple[str, str, str], str] = {}
    for one in board():
        for entry in one.entries:
            row = entry.summary
            if row.offline is not None:
                mean, error = row.offline["mean_return"], row.standard_error
                text = f"{row.social_welfare:.1f}" + (
                    f" ± {error:.1f}" if error is not None else ""
                )
                text += f" ({mean:.0f})" if mean is not None else ""
                cells[row.task, entry.source, row.solver] = text
    rows = []
    plans = [read_plan(PLANS / f"{name}.toml") for name in ("offline", "offline_gpu")]
    planned = {(name, row.folder) for plan in plans for row in plan.rows for name in row.solvers}
    for solver, folder in sorted(planned):
        tasks = [find_logged_task(world, kind).id for kind in KINDS]
        own = [cells.get((task, folder, solver), "") for task in tasks]
        if any(own):
            rows.append([f"`{solver}`", folder, *own])
    return table(["solver", "from", *(f"`{kind}`" for kind in KINDS)], rows)


@generated
def cart_pole() -> str:
    """Offline rows of CartPole."""
    return _offline_table("CartPoleHet-n500")


@generated
def mountain_car() -> str:
    """Offline rows of MountainCar."""
    return _offline_table("MountainCarHet-n500")


def _fewer_agents(name: str, first: str) -> str:
    record = read_json(RESULTS / f"{name}.json")
    task, rows = get_task(record["task"]), dict(record["variants"])
    if name == "agents_ablation":
        runs = results_of(stored_row("reference-planning", task.id, "persim"))
        rows["500"] = ablation.summarise({Path(str(run.seed)): run for run in runs})
    lines = [ablation.format_row(task, n_agents, row) for n_agents, row in rows.items()]
    header = table([first, *ablation.HEADERS["offline"][1:]], [])
    device = record["system"]["device_name"] or f"{record['system']['cpu']}, CPU"
    plan = plan_of(name.replace("_ablation", ""))
    about = f"{plan} on {device} ([record](../benchmarks/results/{name}.json))."
    return "\n".join([header, *lines, "", about])


@generated
def fewer_agents() -> str:
    """PerSim with the data of fewer agents."""
    return _fewer_agents("agents_ablation", "agents")


@generated
def fewer_agents_equal_updates() -> str:
    """The same with as many updates."""
    return _fewer_agents("agents_ablation_equal_updates", "agents, equal updates")


@generated
def compared_with_d3rlpy() -> str:
    """Whether `bcq` and `cql` are told apart from d3rlpy's."""
    comparisons = read_json(RESULTS / "d3rlpy.json")["results"]
    overlap = sum(one["overlap"] for one in comparisons)
    seeds = len(comparisons[0]["ours"]["returns"])
    return (
        f"`bcq` and `cql` beside [d3rlpy's](../benchmarks/results/d3rlpy.md), {seeds} seeds on the "
        f"same data: {overlap} of {len(comparisons)} pairs of 95 % intervals overlap."
    )


@generated
def speed_of_persim() -> str:
    """Training and planning, and how long the scored episodes take at most."""
    trained = {row["world"]: row for row in rows_of_benchmark("persim")}
    rows = []
    for row in rows_of_benchmark("planning"):
        if row["environments"] == "1":
            continue
        training = trained.get(row["world"], {})
        speed = float(row["batched decisions/s"])
        steps = {"cart_pole": 200, "mountain_car": 500}.get(row["world"])
        minutes = f"{5 * 20 * steps / speed / 60:.1f}" if steps else ""
        rows.append(
            [
                row["world"],
                training.get("of plain", ""),
                training.get("training minutes", ""),
                row["batched decisions/s"],
                row["of plain"],
                minutes,
            ]
        )
    header = ["world", "training: of plain loops", "minutes for 300 epochs of a seed"]
    header += [
        "decisions/s, 20 environments",
        "of plain loops",
        "minutes for all episodes, at most",
    ]
    return f"{measured_on('persim', 'planning')}\n\n{table(header, rows)}"


# Speed


@generated
def speed_of_training() -> str:
    """Compiled and plain, of each task and batch of seeds, and what no iteration can do without."""
    measured = rows_of_benchmark("training")
    plain = {(row["task"], row["seeds"]): row for row in measured if row["path"] == "plain"}
    rows = []
    for row in measured:
        if row["path"] != "plain":
            other = plain.get((row["task"], row["seeds"]), {}).get("transitions/s", "")
            seconds = float(row["collection s"]) + float(row["update s"])
            rows.append(
                [
                    *(f"`{row['task']}`", row["seeds"]),
                    "outcome" if row["path"] == "outcome" else "agents",
                    *(row["transitions/s"], other, f"{seconds:.2f}"),
                    f"{100 * float(row['of the floor']):.0f} %",
                    f"{100 * float(row['of both']):.0f} %",
                    f"{row['memory GiB']} GiB",
                ]
            )
    header = ["task", "seeds in a batch", "critic", "transitions/s", "plain torch"]
    header += ["s an iteration", "simulator alone", "with products alone", "peak memory"]
    return f"{measured_on('training')}\n\n{table(header, rows)}"


@generated
def speed_of_peers() -> str:
    """The same work beside other libraries."""
    rows = [
        [
            row["work"] if row["work"] == "training" else f"{row['work']}, {row['copies']}",
            *(f"`{row['ours']}`", row["ours, per second"]),
            *(row["peer"], row["theirs, per second"], f"{row['ratio']} x"),
        ]
        for row in rows_of_benchmark("peers")
    ]
    header = ["work, copies", "ours", "per second", "beside", "per second", "ratio"]
    return f"{measured_on('peers')}\n\n{table(header, rows)}"


@generated
def speed_of_offline_learners() -> str:
    """Updates beside their arithmetic, with denormal numbers and without."""
    columns = {
        "learner": "learner",
        "networks": "networks",
        "batch": "mini-batch",
        "zeros ms": "ms an update",
        "of the floor": "products alone, share",
        "kept / zeros": "times as long with them",
        "late kept / zeros": "the same, late in a run",
    }
    rows = rows_of_benchmark("offline_learners")
    cells = [[row[name] for name in columns] for row in rows]
    return f"{measured_on('offline_learners')}\n\n{table([*columns.values()], cells)}"


@generated
def speed_of_stable_baselines() -> str:
    """The native `VecEnv` beside `DummyVecEnv`."""
    rows = rows_of_benchmark("stable_baselines")
    alone, several = (
        [float(row["native / dummy"]) for row in rows if (int(row["num_envs"]) == 1) == is_alone]
        for is_alone in (True, False)
    )
    return (
        "For Stable-Baselines3, `rmdp_bench.stable_baselines.StableBaselinesVecEnv` is a `VecEnv` "
        f"over the native vector form: with 8 and 64 copies {min(several):.1f} to "
        f"{max(several):.1f} times [as fast](../benchmarks/results/stable_baselines.md) as "
        f"`DummyVecEnv`, with a single copy {min(alone):.1f} to {max(alone):.1f} times, as "
        "`DummyVecEnv` steps the single form there."
    )


@generated
def many_agents() -> str:
    """A hundred, ten thousand and a million agents."""
    rows = [
        [
            row["agents"],
            row["critic"],
            row["iteration s"],
            row["of the least"],
            row["memory GiB"],
            row["welfare"],
            row["of a million"],
        ]
        for row in rows_of_benchmark("agents")
    ]
    header = ["agents", "critic", "seconds of an iteration", "of the least", "memory GiB"]
    header += ["welfare of these agents", "welfare of a million"]
    return f"{measured_on('agents')}\n\n{table(header, rows)}"


# Sweeps

CORES = (2, 64, 1024)
COSTED = ("papers", "robots", "offline")
"""Plans whose costs are known from the suite's rows."""


def _hours(task: str, solver: str, transitions: int | None) -> tuple[str, float] | None:
    """Of one seed: "cpu" and hours times the cores of its machine, or "cuda" and hours.

    None: there is no record. Those of CPUs go first.
    """
    found: dict[str, float] = {}
    for path in sorted(SUBMISSIONS.glob(f"*/{task}/{solver}")):
        record = RowFiles(path).result(0)
        seconds = record.wall_seconds / record.seeds_together
        seconds *= transitions / record.transitions if transitions else 1.0
        cores = record.system["cores"] if record.device == "cpu" else 1
        found.setdefault(record.device, seconds * cores / 3600)
    return min(found.items(), default=None)


def _makespan(hours: Sequence[float], n_cores: int) -> float:
    """Hours until all runs are done, the longest first, one core each."""
    free = [0.0] * n_cores
    for own in sorted(hours, reverse=True):
        heapq.heapreplace(free, free[0] + own)
    return max(free)


@generated
def sweep_costs() -> str:
    """What the papers' tables cost, from the records of the suite's rows."""
    rows = []
    for name in COSTED:
        known: dict[str, list[float]] = {"cpu": [], "cuda": []}
        n_unknown = 0
        for row in read_plan(PLANS / f"{name}.toml").rows:
            for task, solver in itertools.product(row.tasks, row.solvers):
                hours = _hours(task, solver, row.transitions)
                if hours is None:
                    n_unknown += len(row.seeds)
                else:
                    known[hours[0]] += [hours[1]] * len(row.seeds)
        own = known["cpu"]
        all_own = own + [sum(own) / len(own)] * n_unknown
        cells = [f"{sum(all_own):.0f}", *(f"{_makespan(all_own, n):.1f}" for n in CORES)]
        gpu = f"{sum(known['cuda']):.0f} ({len(known['cuda'])} runs)" if known["cuda"] else "–"
        rows.append([f"`{name}.toml`", f"{len(own)}", f"{n_unknown}", *cells, gpu])
    header = ["plan", "runs with a record", "without", "core hours"]
    header += [f"hours on {n:,} cores" for n in CORES] + ["hours of GPUs"]
    return table(header, rows)


@generated
def sweep_file_system() -> str:
    """What a sweep asks of a shared file system, from the code's intervals."""
    # A file that is replaced is created, written through and renamed.
    of_job = 3 / PROGRESS_SECONDS + 1 / STOP_SECONDS + 3 / CHECKPOINT_SECONDS
    rows = [[f"{n:,}", f"{n * of_job:,.0f}"] for n in CORES]
    about = (
        f"A running job replaces its progress every {PROGRESS_SECONDS:g} s and its checkpoint "
        f"every {CHECKPOINT_SECONDS:g} s, and looks every {STOP_SECONDS:g} s whether it shall "
        f"stop; a driver looks every {COUNT_SECONDS:g} s at each run that is not done. For the "
        "jobs alone that makes:"
    )
    return f"{about}\n\n{table(['jobs at once', 'operations in a second'], rows)}"


@generated
def sweep_overhead() -> str:
    """The benchmark of sweeps."""
    plan, status, run = rows_of_benchmark("sweeps")
    return (
        f"[Measured](../benchmarks/results/sweeps.md) on two cores that others were using too: "
        f"{run['jobs']} jobs that wait for {run['seconds of each']} s took {run['sweep s']} s, and "
        f"{run['loop s']} s by `xargs -P 2` over the printed commands, at the same time: "
        f"{run['more than the loop']} more. To plan {plan['jobs']} jobs took {plan['sweep s']} s, "
        f"to read their status {status['sweep s']} s."
    )


@generated
def sweep_kills() -> str:
    """What was killed, and what was left of the sweeps."""
    document = read_json(RESULTS / "killed_sweeps.json")
    rows = []
    for name, own in document["results"].items():
        killed = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in own["killed"].items())
        there = f"{own['directories']} of {own['runs']}"
        same = "all identical" if own["identical"] else "different"
        rows.append([f"`{name}`", f"{own['nodes']}", f"{own['jobs']}", killed, there, same])
    header = ["launcher", "nodes", "jobs", "killed", "runs there, each once"]
    return table([*header, "beside an undisturbed sweep"], rows)


# The pictures


def draw_picture(path: Path) -> None:
    """Draw what each agent receives, by `rmdp-bench plot`, with a palette of few colours."""
    runs = [SUBMISSIONS / "reference" / MAIN_TASK / "em"]
    runs += [SUBMISSIONS / "reference-universal" / MAIN_TASK]
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            code = command_line(["plot", *map(str, runs), "--out", folder])
        if code:
            raise RuntimeError(f"plot ended with {code}")
        _store_picture(Path(folder) / path.name, path)


def draw_budgets(path: Path) -> None:
    """Draw what each agent of the main task has at the exact optimum of few policies."""
    _, population = main_task()
    order = np.argsort(population.targets)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / path.name
        with draw_panels(len(BUDGETS), len(BUDGETS), (2.6, 2.3)) as (figure, panels):
            for axes, k in zip(panels, BUDGETS, strict=True):
                optimum = constant_speed_optimum(population, k)
                rewards = EPISODE_STEPS * population.rewards(optimum.speeds[:, None])  # (k, n)
                served = rewards.T[order]
                for j in range(k):
                    own = optimum.assignment[order, j] > 0
                    axes.plot(
                        population.targets[order][own],
                        served[own, j],
                        linestyle="none",
                        marker="o",
                        markersize=3,
                        color=colour_of(j),
                    )
                noun = "policy" if k == 1 else "policies"
                axes.set(title=f"{k} {noun}: {optimum.welfare:.1f} % on average", ylim=(-3, 103))
                axes.set(xlabel="speed that the agent wants, m/s", ylabel="received, %")
            save(figure, drawn, "What few policies can give", "Agents by target; what each has.")
        _store_picture(drawn, path)


def _store_picture(drawn: Path, path: Path) -> None:
    with Image.open(drawn) as picture:
        few = picture.convert("RGB").quantize(PICTURE_COLOURS, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    few.save(path, optimize=True)


def main() -> None:
    """Write the documents, or say which are not as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    parser.add_argument("--figures", action="store_true", help="draw the pictures too")
    arguments = parser.parse_args()
    different = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            different.append(path.relative_to(ROOT).as_posix())
            if not arguments.check:
                write_text(path, filled)
    if arguments.figures and not arguments.check:
        draw_picture(PICTURE)
        draw_budgets(BUDGETS_PICTURE)
    if different:
        print(("not as generated: " if arguments.check else "written: ") + ", ".join(different))
    if arguments.check and different:
        sys.exit(1)


if __name__ == "__main__":
    main()
