"""How a solver of offline tasks fares with the data of fewer agents.

    python -m scripts.agents_ablation CartPoleHet-n500-pure-v0
    python -m scripts.agents_ablation CartPoleHet-n500-pure-v0 --agents 25 100 --episodes 5

Runs the solver once for each number of agents, as `rmdp-bench run --set n_agents=N` does, into
OUT/agents-N, and prints a table.  What is finished there is not run again, and an interrupted run
continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.results import Result, make_request, run

AGENTS = (25, 50, 100, 250, 500)
HEADER = ("agents", "mean return", "of each test agent", "normalised", "R2 (median)")


def format_row(n_agents: int, results: Sequence[Result]) -> list[str]:
    """One line of the table: means over seeds."""
    scores = [result.offline for result in results if result.offline is not None]
    by_agent = np.mean([score.returns for score in scores], axis=0)
    r2 = [score.prediction.r2_median for score in scores if score.prediction is not None]
    return [
        str(n_agents),
        f"{by_agent.mean():.1f}",
        " ".join(f"{value:.0f}" for value in by_agent),
        f"{np.mean([result.social_welfare for result in results]):.1f}",
        f"{np.mean(r2):.3f}" if r2 else "",
    ]


def main() -> None:
    """Run, and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", help="an offline one")
    parser.add_argument("--solver", default="persim")
    parser.add_argument("--agents", nargs="+", type=int, default=list(AGENTS))
    parser.add_argument("--seeds", default="0", help="0:3 is 0, 1, 2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--episodes", type=int, help="of each test agent; the task's if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/agents"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    arguments = parser.parse_args()
    try:
        requests = {
            n_agents: make_request(
                arguments.solver,
                arguments.task,
                seeds=parse_seeds(arguments.seeds),
                n_episodes=arguments.episodes,
                device=arguments.device,
                out=arguments.out / f"agents-{n_agents}",
                settings=[*arguments.settings, f"n_agents={n_agents}"],
            )
            for n_agents in arguments.agents
        }
    except ValueError as error:
        parser.error(str(error))
    print(" | ".join(HEADER))
    for n_agents, request in requests.items():
        print(" | ".join(format_row(n_agents, run(request))), flush=True)


if __name__ == "__main__":
    main()
