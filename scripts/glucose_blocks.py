"""The blocks of `docs/glucose.md`, from what `scripts.report_glucose` stored.

A section of which nothing is stored is not there, nor its heading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmdp_bench.envs import get_environment
from rmdp_bench.files import read_json
from rmdp_bench.references import single_and_own
from rmdp_bench.tasks import get_online_task
from scripts.document_blocks import (
    CONTROLLERS_CURVE,
    FIGURES,
    GLUCOSE_FILE,
    generated,
    listed,
    table,
)

CONTROLS = ("basal_bolus", "constant_basal")
"""Solvers that learn nothing."""
JUDGED = (3, 5)
"""Budgets at which a learned solver is to beat the tuned groups."""
CURVE = {"glucose-curve": "Mean risk against the number of policies"}
PICTURES = {
    "glucose-groups": "Who is served by whom, for three policies: patients by what they need",
    "glucose-traces": "A day of three patients, each under the policies of all three",
}


STEPS = get_environment("rmdp/Glucose-n100-v0").max_episode_steps
"""Minus a return over these is the mean risk."""


def _drawn(pictures: Mapping[str, str]) -> list[str]:
    """Links to those that are there."""
    there = [(n, text) for n, text in pictures.items() if (FIGURES / f"{n}.png").exists()]
    return [f"![{text}](figures/{name}.png)" for name, text in there]


def _rows() -> list[dict[str, Any]]:
    return list(read_json(GLUCOSE_FILE)["rows"]) if GLUCOSE_FILE.exists() else []


def _table_of(name: str) -> str:
    """Solvers x budgets of one number: its mean over the seeds, with the standard error."""
    rows = {(row["solver"], row["n_representatives"]): row[name] for row in _rows()}
    budgets = sorted({k for _, k in rows})
    cells = []
    for solver in sorted({solver for solver, _ in rows}):
        own = []
        for k in budgets:
            values = rows.get((solver, k), [])
            error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}" if values[1:] else ""
            own.append(f"{np.mean(values):.2f}{error}" if values else "–")
        cells.append([f"`{solver}`", *own])
    return table(["solver", *(f"k = {k}" for k in budgets)], cells)


@generated
def glucose_curve() -> str:
    """Mean risk, and who beats the tuned groups."""
    rows = _rows()
    if not rows:
        return ""
    sentences = [
        _against_tuned(
            {r["solver"]: r["mean_risk"] for r in rows if r["n_representatives"] == k}, k
        )
        for k in JUDGED
    ]
    n_seeds = sorted({len(row["seeds"]) for row in rows})
    means_are = f"Means over {listed([str(n) for n in n_seeds])} seeds, with the standard error."
    about = (
        "Mean risk. `basal_bolus` is the strong control: the clinic's controller, its two gains "
        "tuned for k groups. All learned policies begin as such controllers and multiply their "
        "doses."
    )
    parts = ["## The solvers", about, *_drawn(CURVE), _table_of("mean_risk")]
    return "\n\n".join([*parts, " ".join([means_are, *filter(None, sentences)])])


def _against_tuned(risks: Mapping[str, list[float]], k: int) -> str:
    """Which learned solvers are ahead of the tuned groups with every seed."""
    tuned = risks.get("basal_bolus")
    learned = {solver: own for solver, own in risks.items() if solver not in CONTROLS}
    if not tuned or not learned:
        return ""
    ahead = {solver: np.mean(own) for solver, own in learned.items() if max(own) < min(tuned)}
    if not ahead:
        return f"At k = {k} no learned solver is ahead of the tuned groups with every seed."
    return (
        f"At k = {k} every seed of {listed([f'`{solver}`' for solver in ahead])} has less risk "
        f"than any of the tuned groups: means of {min(ahead.values()):.2f} to "
        f"{max(ahead.values()):.2f} against {np.mean(tuned):.2f}."
    )


@generated
def glucose_worst() -> str:
    """The same for the worst tenth of the patients, and for the worst of all."""
    if not _rows():
        return ""
    about = "Mean risk of the ten patients who have most of it:"
    worst = "The same of the one patient who has most:"
    tables = (_table_of(name) for name in ("worst_tenth", "worst_patient"))
    return "\n\n".join(["## The worst tenth", about, next(tables), worst, next(tables)])


@generated
def glucose_controllers() -> str:
    """What k tuned controllers are worth, and how many make up for one learned policy."""
    record = read_json(CONTROLLERS_CURVE)
    rows = [
        [str(row["k"]), f"{row['mean_risk']:.2f}", f"{row['worst_tenth']:.1f}"]
        + [f"{100 * row['time_in_range']:.0f} %"]
        for row in record["rows"]
    ]
    shown = table(["k", "mean risk", "of the worst tenth", "time in range"], rows)
    about = (
        f"`{record['command']}`: of {record['points'] ** 2} controllers the k that serve "
        f"{record['agents']} patients best, chosen on {record['tuned']} episodes of each pair and "
        f"judged on {record['judged']} others. It is a measurement without learning, and no row of "
        "a solver."
    )
    parts = [*_drawn({"glucose-controllers": "Mean risk against the number of controllers"})]
    known = single_and_own("rmdp/Glucose-n100-v0")
    if known is not None:
        single = -known[0] / STEPS
        enough = [row["k"] for row in record["rows"] if row["mean_risk"] < single]
        beaten = f"{enough[0]} of these do better" if enough else "all of these do worse"
        about += f" One policy for all that has learned has {single:.2f}: {beaten}."
    return "\n\n".join([*parts, shown, about])


@generated
def glucose_anchors() -> str:
    """What counts as 0 and as 100."""
    known = single_and_own("rmdp/Glucose-n100-v0")
    if known is None:
        return "Neither is measured yet, and until then scores are plain returns."
    single, own = (-value / STEPS for value in known)
    return (
        f"One policy for all has a mean risk of {single:.2f}, everybody's own {own:.2f}: the room "
        f"for personal policies is about {single - own:.1f}."
    )


@generated
def glucose_budget() -> str:
    """What a task allows, and that nobody took more."""
    budget = get_online_task("Glucose-n100-k3-v0").transitions
    first = f"A task allows {budget:,} transitions per policy, for tuning, visits and learning."
    rows = [row for row in _rows() if None not in row["transitions_counted"]]
    if not rows:
        return first
    most = max(max(row["transitions_counted"]) for row in rows)
    return f"{first} As the world counted them, no stored run made more than {most:,}."


@generated
def glucose_pictures() -> str:
    """Those that are drawn, with what is seen."""
    drawn = _drawn(PICTURES)
    if not drawn:
        return ""
    about = (
        "A patient's needs in the picture are what follows from the true parameters, which no "
        "solver but `oracle` may see. The traces are of the same day, with the same meals and the "
        "same noise of the sensor: a row is a patient, the median one of each group, a column is a "
        "policy, and the band is the target range; the axis ends at 20 and 400 mg/dL. The size of "
        "a mark is the weight of lows."
    )
    return "\n\n".join(["## Who is served by whom", *drawn, about])
