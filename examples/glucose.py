"""How many controllers must be approved for 100 patients? Risk against their number k.

    python examples/glucose.py

Each patient is served by the best of k of the clinic's controllers, chosen on some days and judged
on others. The picture is `glucose.png`; it takes half a minute of computing.
"""

from __future__ import annotations

import argparse

from matplotlib.figure import Figure

from baselines.heterogeneous.controllers import choose, make_grid, tune
from rmdp_bench.evaluation import roll_out_pairs
from rmdp_bench.tasks import heterogeneous_task

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--agents", type=int, default=100, help="the first patients, up to 100")
parser.add_argument("--points", type=int, default=8, help="values of each of the two gains")
parser.add_argument("--out", default="glucose.png")
arguments = parser.parse_args()

task = heterogeneous_task("rmdp/Glucose-n100-v0", 1, n_agents=arguments.agents)
tuned = tune(task, make_grid(arguments.points), n_episodes=1)
budgets = [k for k in (1, 2, 3, 5, 10, 20) if k <= min(arguments.agents, len(tuned.policies))]
risks = []
for k in budgets:
    _, solution = choose(tuned, k)
    judged = roll_out_pairs(task, solution.policies, n_episodes=1)
    risks.append(float((judged.mean_risk * solution.assignment).sum(axis=1).mean()))
    in_range = (judged.measures["time_in_range"].mean(axis=2) * solution.assignment).sum(axis=1)
    print(f"k = {k:2d}: mean risk {risks[-1]:5.2f}, time in range {100 * in_range.mean():.0f} %")

figure = Figure(layout="constrained")
axes = figure.subplots()
axes.plot(budgets, risks, "o-")
axes.set(xlabel="controllers k", ylabel="mean risk of a patient", xscale="log", ylim=(0, None))
axes.set_xticks(budgets, [str(k) for k in budgets])
axes.minorticks_off()
figure.savefig(arguments.out)
