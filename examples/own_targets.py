"""Your users' speeds on HalfCheetah: python -m examples.own_targets [TRANSITIONS]."""

import sys

import numpy as np

import rmdp_bench
from rmdp_bench.runs import make_request, run

if __name__ == "__main__":
    speeds = np.random.default_rng(0).gamma(4.0, 0.4, 37)  # metres per second
    users = rmdp_bench.TargetPopulation(speeds, width=0.3)
    task = rmdp_bench.get_task("HalfCheetahVel-n100-v0", 3, population=users)
    transitions = int((sys.argv[1:] or ["500000"])[0])
    request = make_request("em", task, transitions=transitions, overwrite=True)
    print(f"{run(request)[0].social_welfare:.1f} % of at most {task.ceiling:.1f} %")
