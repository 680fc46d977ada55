"""A task file, from training to figures at the command line.

rmdp-bench run em examples/my_task.py --seeds 0:3
rmdp-bench score runs
rmdp-bench plot runs --out figures
"""

import numpy as np

import rmdp_bench

TOURISTS = rmdp_bench.LinearPopulation(np.random.default_rng(0).dirichlet(np.ones(25) / 5, 60))


def make_task() -> rmdp_bench.Task:
    """Sixty tourists, each with a taste for a few of the 25 tiles, and four guides."""
    return rmdp_bench.get_task("ResourceGathering-n25-v0", 4, population=TOURISTS)


def fair() -> rmdp_bench.Task:
    """The same for the tourist who has least: examples/my_task.py:fair."""
    return rmdp_bench.get_task(
        "ResourceGathering-n25-v0", 4, population=TOURISTS, objective="egalitarian"
    )
