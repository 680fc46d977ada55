"""The blocks of `docs/glucose.md`, from what `scripts.report_glucose` stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmdp_bench.files import read_json
from rmdp_bench.references import single_and_own
from rmdp_bench.tasks import get_online_task
from scripts.document_blocks import FIGURES, GLUCOSE_FILE, generated, listed, table

MISSING = (
    "The rows are not stored yet: `rmdp-bench sweep benchmarks/plans/glucose.toml` makes them, and "
    "`python -m scripts.report_glucose RUNS` stores what this page shows."
)
CONTROLS = ("basal_bolus", "constant_basal")
"""Solvers that learn nothing."""
JUDGED = (3, 5)
"""Budgets at which a learned solver is to beat the tuned groups."""
PICTURES = {
    "glucose-curve": "Mean risk against the number of policies",
    "glucose-groups": "Who is served by whom, for three policies: patients by what they need",
    "glucose-traces": "A day of three patients, each under the policies of all three",
}


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
        return MISSING
    means = {(row["solver"], row["n_representatives"]): np.mean(row["mean_risk"]) for row in rows}
    sentences = []
    for k in JUDGED:
        tuned = means.get(("basal_bolus", k))
        learned = [(m, s) for (s, own), m in means.items() if own == k and s not in CONTROLS]
        if tuned is None or not learned:
            continue
        best, solver = min(learned)
        verb = "beats" if best < tuned else "does not beat"
        sentences.append(
            f"At k = {k} the best learned solver, `{solver}`, {verb} the tuned groups: "
            f"{best:.2f} against {tuned:.2f}."
        )
    n_seeds = sorted({len(row["seeds"]) for row in rows})
    means_are = f"Means over {listed([str(n) for n in n_seeds])} seeds, with the standard error."
    return "\n\n".join([_table_of("mean_risk"), " ".join([means_are, *sentences])])


@generated
def glucose_worst() -> str:
    """The same for the worst tenth of the patients."""
    return _table_of("worst_tenth") if _rows() else MISSING


@generated
def glucose_anchors() -> str:
    """What counts as 0 and as 100."""
    known = single_and_own("rmdp/Glucose-n100-v0")
    if known is None:
        return "Neither is measured yet, and until then scores are plain returns."
    single, own = (-value / 864 for value in known)
    return (
        f"One policy for all has a mean risk of {single:.2f}, everybody's own {own:.2f}: the room "
        f"for personal policies is {single - own:.2f}."
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
    """Those that are drawn."""
    drawn = [(n, text) for n, text in PICTURES.items() if (FIGURES / f"{n}.png").exists()]
    return "\n\n".join(f"![{text}](figures/{name}.png)" for name, text in drawn) or MISSING
