"""Deep-sea treasure for 50 weightings of treasure and time, and 1 to 5 policies for them.

python -m examples.weightings [TRANSITIONS]          (pip install "rmdp_bench[mo]")
"""

import sys

import rmdp_bench
from rmdp_bench.runs import make_request, run

if __name__ == "__main__":
    transitions = int((sys.argv[1:] or ["100000"])[0])  # of all policies together
    for k in (1, 2, 3, 5):
        task = rmdp_bench.get_task("DeepSeaTreasure-n100-v0", k, n_agents=50)
        (result,) = run(
            make_request("universal", task, transitions=transitions // k, overwrite=True)
        )
        print(f"k = {k}: {result.social_welfare:.2f} %, the optimum is {task.ceiling:.2f} %")
