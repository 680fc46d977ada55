"""Compare the solvers of the glucose tasks, patient by patient, and draw the page's pictures.

    python -m scripts.report_glucose RUNS [--solver em] [--representatives 3]

RUNS is a folder of run directories, such as `rmdp-bench sweep benchmarks/plans/glucose.toml --out
RUNS` makes. Writes `benchmarks/results/glucose.json`, of which the tables of `docs/glucose.md` are
made (`python -m scripts.generate_documents`), and into `docs/figures`

    glucose-curve.png      mean risk against the number of policies, each solver
    glucose-groups.png     who is served by whom, by what each patient needs
    glucose-traces.png     a day of three patients, each under the policies of all three

The last two are of one run, the solver's first seed. Risk is a patient's own, by their weight of
lows; records in percent are turned back with the package's two references, so that runs from before
these were recorded are refused.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.heterogeneous.controllers import ENVIRONMENT
from baselines.heterogeneous.oracle import needs
from rmdp_bench import load_solution
from rmdp_bench.envs import get_environment
from rmdp_bench.envs.glucose import days, risk
from rmdp_bench.files import write_json
from rmdp_bench.plotting.style import add_legend, colour_of, draw_panels, line_styles, save
from rmdp_bench.references import single_and_own
from rmdp_bench.runs import Result, find_results
from rmdp_bench.tasks import OnlineTask, get_task
from scripts.document_blocks import FIGURES, GLUCOSE_FILE

DAY = days.STEPS_PER_DAY
N_STEPS = get_environment(ENVIRONMENT).max_episode_steps
MAX_RISK = 201.0
"""No risk is greater, whatever the weight of lows."""
BASAL_TICKS, RATIO_TICKS = (0.25, 0.5, 1.0, 2.0), (2.0, 5.0, 10.0, 20.0)
TRACE_SEED = 0
"""Of the day that is drawn: one of training."""


def risks_of(result: Result) -> NDArray[np.float64]:
    """Mean risk of each patient (n,) under their own policy.

    Raises:
        ValueError: the record is older than the references, and in other units.
    """
    returns = np.array(result.agent_returns)
    known = single_and_own(ENVIRONMENT)
    if known is not None:
        single, own = known
        returns = single + returns * (own - single) / 100.0
    risks: NDArray[np.float64] = -returns / N_STEPS
    if not ((risks >= 0.0) & (risks <= MAX_RISK)).all():
        raise ValueError(
            f"{result.task}, {result.solver}, seed {result.seed}: a mean risk of {risks.max():.1f} "
            f"is not within 0 to {MAX_RISK}: the run is older than the references; run it again"
        )
    return risks


def summarise(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each solver and number of policies, with a number for each seed."""
    rows: dict[tuple[str, int], list[Result]] = collections.defaultdict(list)
    for result in results:
        task = get_task(result.task)
        if isinstance(task, OnlineTask) and task.env_id == ENVIRONMENT:
            rows[result.solver, task.n_representatives].append(result)
    found = []
    for (solver, k), own in sorted(rows.items()):
        own.sort(key=lambda result: result.seed)
        risks = [np.sort(risks_of(result)) for result in own]
        found.append(
            {
                "solver": solver,
                "n_representatives": k,
                "seeds": [result.seed for result in own],
                "mean_risk": [float(one.mean()) for one in risks],
                "worst_tenth": [float(one[-max(1, len(one) // 10) :].mean()) for one in risks],
                "worst_patient": [float(one[-1]) for one in risks],
                "measures": [dict(result.measures or {}) for result in own],
                "transitions_counted": [result.transitions_counted for result in own],
            }
        )
    return found


def draw_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Mean risk against k: a line for each solver, a bar from the least seed to the greatest."""
    solvers = sorted({row["solver"] for row in rows})
    styles = line_styles(solvers, solvers)
    budgets = sorted({row["n_representatives"] for row in rows})
    with draw_panels(1, 1, (5.2, 3.4)) as (figure, (axes,)):
        for solver in solvers:
            own = [row for row in rows if row["solver"] == solver]
            means = np.array([np.mean(row["mean_risk"]) for row in own])
            low = means - [min(row["mean_risk"]) for row in own]
            high = [max(row["mean_risk"]) for row in own] - means
            axes.errorbar(
                [row["n_representatives"] for row in own],
                means,
                np.maximum([low, high], 0.0),
                **styles[solver],
                label=solver,
            )
        known = single_and_own(ENVIRONMENT) or ()
        names = ("one for all: 0 %", "everybody's own: 100 %")
        for value, name in zip(known, names[: len(known)], strict=True):
            axes.axhline(-value / N_STEPS, color="#888888", linewidth=0.8)
            axes.annotate(
                name,
                (budgets[-1], -value / N_STEPS),
                va="bottom",
                ha="right",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )
        greatest = max(max(row["mean_risk"]) for row in rows)
        axes.set(xscale="log", ylim=(0, 1.1 * greatest))
        axes.set(xlabel="policies k", ylabel="mean risk of a patient")
        axes.set_xticks(budgets, [str(k) for k in budgets])
        axes.minorticks_off()
        add_legend(figure, "solver")
        save(figure, path, "Risk against the number of policies", "One line for each solver.")


def draw_groups(assignment: NDArray[np.float64], path: Path) -> None:
    """Patients by their needs; the colour is who serves them, the size their taste."""
    n, k = assignment.shape
    parameters = get_task("Glucose-n100-k1-v0").hidden_population.parameters[:n]
    basal, ratio = needs(parameters).T
    chosen = assignment.argmax(axis=1)
    with draw_panels(1, 1, (4.6, 3.6)) as (figure, (axes,)):
        for j in range(k):
            own = chosen == j
            axes.scatter(
                basal[own],
                ratio[own],
                s=10.0 + 60.0 * parameters[own, -1],
                color=colour_of(j),
                label=f"policy {j}: {own.sum()}",
                alpha=0.8,
            )
        axes.set(xscale="log", yscale="log", xlabel="basal rate that keeps 6 mmol/L, U/h")
        axes.set(ylabel="carbohydrates for a unit of insulin, g")
        axes.set_xticks(BASAL_TICKS, [f"{tick:g}" for tick in BASAL_TICKS])
        axes.set_yticks(RATIO_TICKS, [f"{tick:g}" for tick in RATIO_TICKS])
        axes.minorticks_off()
        add_legend(figure, "served by")
        save(figure, path, "Who is served by whom", "Patients by their needs.")


def trace(policy: Any, agent: int) -> NDArray[np.float64]:
    """Glucose in plasma over a day, mg/dL, (289,)."""
    env = gym.make(ENVIRONMENT)
    try:
        observation, _ = env.reset(seed=TRACE_SEED, options={"agent": agent})
        policy.reset(1)
        world: Any = env.unwrapped
        values = [float(world.world.glucose(np.arange(1))[0])]
        for _ in range(DAY):
            action = np.asarray(policy.act(np.asarray(observation)[np.newaxis]))[0]
            observation, *_ = env.step(action)
            values.append(float(world.world.glucose(np.arange(1))[0]))
    finally:
        env.close()
    return np.array(values)


def draw_traces(policies: Sequence[Any], agents: Sequence[int], path: Path) -> None:
    """A row for each patient, a column for each policy."""
    hours = np.arange(DAY + 1) * days.STEP_MINUTES / 60.0
    k = len(policies)
    with draw_panels(len(agents) * k, k, (2.3, 1.7)) as (figure, panels):
        for place, axes in enumerate(panels):
            agent, j = agents[place // k], place % k
            axes.axhspan(risk.LOW, risk.HIGH, color="#dddddd", linewidth=0)
            axes.plot(hours, trace(policies[j], agent), color=colour_of(j))
            axes.set(ylim=(20, 400), xticks=(0, 6, 12, 18, 24))
            if place < k:
                axes.set_title(f"policy {j}")
            if j == 0:
                axes.set_ylabel(f"patient {agent}, mg/dL")
            if place >= len(panels) - k:
                axes.set_xlabel("hour")
        save(figure, path, "Three patients under each other's policies", "Rows: patients.")


def of_each_group(assignment: NDArray[np.float64], risks: NDArray[np.float64]) -> list[int]:
    """The patient of each group who stands for it: the one with the median risk."""
    agents = []
    for column in assignment.T:
        own = np.flatnonzero(column > 0.5)
        if len(own):
            agents.append(int(own[np.argsort(risks[own])[len(own) // 2]]))
    return agents


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the numbers and draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--solver", default="em", help="whose groups and traces are drawn")
    parser.add_argument("--representatives", type=int, default=3, help="in these pictures")
    parser.add_argument("--out", type=Path, default=GLUCOSE_FILE)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args(arguments)
    found = find_results([options.runs])
    rows = summarise(list(found.values()))
    if not rows:
        raise SystemExit(f"there are no runs of {ENVIRONMENT} in {options.runs}")
    write_json(options.out, {"rows": rows})
    draw_curve(rows, options.figures / "glucose-curve.png")
    task = f"Glucose-n100-k{options.representatives}-v0"
    shown = [p for p, r in found.items() if (r.task, r.solver) == (task, options.solver)]
    if shown:
        path = min(shown, key=lambda own: found[own].seed)
        solution = load_solution(path / "solution")
        draw_groups(solution.assignment, options.figures / "glucose-groups.png")
        agents = of_each_group(solution.assignment, risks_of(found[path]))
        draw_traces(solution.policies, agents, options.figures / "glucose-traces.png")


if __name__ == "__main__":
    main()
