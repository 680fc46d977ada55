"""How a solver of offline tasks fares with the data of fewer agents.

    python -m scripts.agents_ablation CartPoleHet-n500-pure-v1
    python -m scripts.agents_ablation CartPoleHet-n500-pure-v1 --agents 25 100 --equal-updates

Runs the solver once for each number of agents, as `rmdp-bench run --set n_agents=N` does, into
OUT/agents-N, prints a table and writes what is in it to OUT/agents_ablation.json.  What is finished
there is not run again, and an interrupted run continues.

Fewer agents have fewer transitions, and so a pass over them has fewer gradient steps.  With
`--equal-updates` there are more passes for it (and the step size is halved after more of them), so
that fewer data are told apart from less training.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.files import write_json
from rmdp_bench.runs import Result, load_solver, make_config, make_request, run
from rmdp_bench.scoring import standard_error
from rmdp_bench.tasks import OfflineTask, get_offline_task, get_task

AGENTS = (25, 50, 100, 250, 500)
_IN_PASSES = ("n_epochs", "halving_epochs")
"""Settings that count passes over the data."""
HEADER = (
    *("agents", "normalised", "each seed", "return of each test agent"),
    "median R2 (mean), each seed",
)


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """What is known of one number of agents, by seed."""
    scores = [result.offline for result in results if result.offline is not None]
    return {
        "returns": [list(score.returns) for score in scores],
        "r2_median": [score.prediction.r2_median for score in scores if score.prediction],
        "r2_mean": [score.prediction.r2_mean for score in scores if score.prediction],
    }


def format_row(task: OfflineTask, n_agents: str, row: Mapping[str, Any]) -> str:
    """One line of the table in Markdown."""
    agents = task.eval_agents
    normalised = [normalise(task, agents, np.array(own)).mean() for own in row["returns"]]
    mean = f"{np.mean(normalised):.1f}"
    if len(normalised) > 1:
        mean += f" ± {standard_error(normalised):.1f}"
    returns = ", ".join(f"{value:.0f}" for value in np.mean(row["returns"], axis=0))
    r2 = ", ".join(f"{value:.2f}" for value in row["r2_median"])
    if "r2_mean" in row:  # older records have the medians only
        pairs = zip(row["r2_median"], row["r2_mean"], strict=True)
        r2 = ", ".join(f"{median:.2f} ({mean:.2f})" for median, mean in pairs)
    seeds = ", ".join(f"{value:.1f}" for value in normalised)
    return f"| {n_agents} | {mean} | {seeds} | {returns} | {r2} |"


def settings_for(arguments: argparse.Namespace, n_agents: int) -> list[str]:
    """Settings of the run for a number of agents.

    Raises:
        ValueError: a setting is wrong, or passes are wanted that the solver does not have.
    """
    settings = [*arguments.settings, f"n_agents={n_agents}"]
    if not arguments.equal_updates:
        return settings
    config = make_config(load_solver(arguments.solver), get_task(arguments.task), settings)
    missing = [name for name in _IN_PASSES if not hasattr(config, name)]
    if missing:
        raise ValueError(f"--equal-updates is for solvers with {missing[0]}, such as persim")
    passes = {name: round(getattr(config, name) * AGENTS[-1] / n_agents) for name in _IN_PASSES}
    others = [text for text in settings if text.partition("=")[0] not in passes]
    return [*others, *(f"{name}={value}" for name, value in passes.items())]


def main() -> None:
    """Run, and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", help="an offline one")
    parser.add_argument("--solver", default="persim")
    parser.add_argument("--agents", nargs="+", type=int, default=list(AGENTS))
    parser.add_argument("--seeds", default="0", help="0:3 is 0, 1, 2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--episodes", type=int, help="of each test agent; the task's if not given")
    parser.add_argument(
        "--equal-updates", action="store_true", help="more passes over fewer agents (persim)"
    )
    parser.add_argument("--out", type=Path, help="runs/agents, or runs/agents-equal-updates")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    arguments = parser.parse_args()
    if arguments.out is None:
        arguments.out = Path(
            "runs/agents-equal-updates" if arguments.equal_updates else "runs/agents"
        )
    try:
        task = get_offline_task(arguments.task)
        requests = {
            n_agents: make_request(
                arguments.solver,
                arguments.task,
                seeds=parse_seeds(arguments.seeds),
                n_episodes=arguments.episodes,
                device=arguments.device,
                out=arguments.out / f"agents-{n_agents}",
                settings=settings_for(arguments, n_agents),
            )
            for n_agents in arguments.agents
        }
    except ValueError as error:
        parser.error(str(error))
    print(f"| {' | '.join(HEADER)} |\n{'| --- ' * len(HEADER)}|")
    rows: dict[str, Any] = {}
    command = shlex.join(["python", "-m", "scripts.agents_ablation", *sys.argv[1:]])
    record = {"command": command, "task": arguments.task}
    for n_agents, request in requests.items():
        results = run(request)
        rows[str(n_agents)] = summarise(results)
        print(format_row(task, str(n_agents), rows[str(n_agents)]), flush=True)
        machine = {"system": results[0].system, "versions": results[0].versions}
        write_json(arguments.out / "agents_ablation.json", record | machine | {"agents": rows})


if __name__ == "__main__":
    main()
