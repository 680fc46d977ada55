"""Measure what k of the clinic's tuned controllers are worth to the patients, and draw it.

    python -m scripts.record_controller_curve

What `examples/glucose.py` shows, with more episodes: a grid of controllers plays in every patient's
world on episodes of training, the best k are chosen exactly (`controllers.choose`), and judged on
evaluation episodes. Nothing is learned: it is no row of a solver, which has a task's transitions
and its own seeds. Writes `benchmarks/results/glucose_controllers.json`, of which `docs/glucose.md`
is made, and `docs/figures/glucose-controllers.png`. Minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.heterogeneous.controllers import ENVIRONMENT, choose, make_grid, tune
from rmdp_bench.envs import get_environment
from rmdp_bench.evaluation import roll_out_pairs
from rmdp_bench.files import write_json
from rmdp_bench.plotting.style import draw_panels, save
from rmdp_bench.references import single_and_own
from rmdp_bench.tasks import OnlineTask, heterogeneous_task
from scripts.document_blocks import CONTROLLERS_CURVE, FIGURES

BUDGETS = (1, 2, 3, 5, 10, 20)


def measure(
    task: OnlineTask, n_points: int, n_tuned: int, n_judged: int
) -> list[dict[str, float | int]]:
    """A row for each k: mean risk, that of the worst tenth, and time in range."""
    tuned = tune(task, make_grid(n_points), n_episodes=n_tuned)
    rows: list[dict[str, float | int]] = []
    for k in (k for k in BUDGETS if k <= min(task.n_agents, len(tuned.policies))):
        _, solution = choose(tuned, k)
        judged = roll_out_pairs(task, solution.policies, n_episodes=n_judged)
        risks = np.sort((judged.mean_risk * solution.assignment).sum(axis=1))
        in_range = judged.measures["time_in_range"].mean(axis=2) * solution.assignment
        rows.append(
            {
                "k": k,
                "mean_risk": float(risks.mean()),
                "worst_tenth": float(risks[-max(1, len(risks) // 10) :].mean()),
                "time_in_range": float(in_range.sum(axis=1).mean()),
            }
        )
        print(rows[-1], flush=True)
    return rows


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean risk against k, between one learned policy for all and everybody's own."""
    budgets = [row["k"] for row in rows]
    with draw_panels(1, 1, (4.6, 2.8)) as (figure, (axes,)):
        axes.plot(budgets, [row["mean_risk"] for row in rows], marker="o", color="#0072B2")
        names = ("one learned policy for all: 0 %", "everybody's own: 100 %")
        steps = get_environment(ENVIRONMENT).max_episode_steps
        for value, name in zip(single_and_own(ENVIRONMENT) or (), names, strict=False):
            axes.axhline(-value / steps, color="#888888", linewidth=0.8)
            axes.annotate(name, (1, -value / steps), va="bottom", ha="left", fontsize=7)
        axes.set(xscale="log", ylim=(0, None))
        axes.set(xlabel="tuned controllers k", ylabel="mean risk of a patient")
        axes.set_xticks(budgets, [str(k) for k in budgets])
        axes.minorticks_off()
        save(figure, path, "Risk against the number of tuned controllers", "Lower is better.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    n_all = get_environment(ENVIRONMENT).n_agents
    parser.add_argument("--agents", type=int, default=n_all, help="the first patients")
    parser.add_argument("--points", type=int, default=8, help="values of each of the two gains")
    parser.add_argument("--tuned", type=int, default=4, help="episodes of each pair to choose by")
    parser.add_argument("--judged", type=int, default=10, help="episodes of each pair to judge by")
    parser.add_argument("--out", type=Path, default=CONTROLLERS_CURVE)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args(arguments)
    task = heterogeneous_task(ENVIRONMENT, 1, n_agents=options.agents)
    rows = measure(task, options.points, options.tuned, options.judged)
    facts = {name: getattr(options, name) for name in ("agents", "points", "tuned", "judged")}
    # Where it is written is not how it was measured.
    changed = [f" --{name} {own}" for name, own in facts.items() if own != parser.get_default(name)]
    command = f"python -m scripts.record_controller_curve{''.join(changed)}"
    write_json(options.out, {"command": command, **facts, "rows": rows})
    draw(rows, options.figures / "glucose-controllers.png")


if __name__ == "__main__":
    main()
