"""Users who hate to be too fast more than too slow: python -m examples.own_reward 500000."""

import sys
from typing import Any

import numpy as np

import rmdp_bench
from rmdp_bench.runs import make_request, run


class Careful(rmdp_bench.Population):
    """0.1 percent a step at the own speed, nothing 0.2 m/s above or 0.8 m/s below it."""

    def __init__(self, speeds: Any) -> None:
        """Keep the own speeds (n,)."""
        self.speeds = np.asarray(speeds, np.float64)
        self.n_agents, self.outcome_size = len(self.speeds), 1

    def rewards(self, outcomes: Any) -> Any:
        """(..., 1) -> (..., n), of arrays and of torch's tensors."""
        above = outcomes - getattr(outcomes, "new_tensor", np.asarray)(self.speeds)
        return 0.1 * (1 - above.clip(0) / 0.2 - (-above).clip(0) / 0.8).clip(0)


if __name__ == "__main__":
    task = rmdp_bench.get_task("HopperVel-n100-v0", 2, population=Careful([0.5, 0.9, 1.6, 2.0]))
    (result,) = run(make_request("em", task, transitions=int(sys.argv[1]), overwrite=True))
    print(f"{result.social_welfare:.1f} %")
