"""The price of fairness: deep-sea treasure by the mean and by the worst agent, over k.

python -m examples.fairness [TRANSITIONS]            (pip install "rmdp_bench[mo]")
"""

import sys

import rmdp_bench
from rmdp_bench import plotting
from rmdp_bench.runs import make_request, run

if __name__ == "__main__":
    transitions = int((sys.argv[1:] or ["100000"])[0])  # of all policies together
    rows: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for objective in ("utilitarian", "egalitarian"):
        for k in (1, 2, 5):
            task = rmdp_bench.get_task(
                "DeepSeaTreasure-n100-v0", k, n_agents=50, objective=objective
            )
            results = run(
                make_request("universal", task, transitions=transitions // k, overwrite=True)
            )
            points = [(result.worst_agent, result.social_welfare) for result in results]
            rows.setdefault(objective, {})[k] = points
    print(plotting.plot_fairness(rows, "figures/fairness.png"))
