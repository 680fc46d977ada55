"""Say what MOReL's own model believes of its policy, and what is true.

    python -m scripts.report_morel CartPoleHet-n500-pure-v1 --set scope=agent

Trains the solver `morel` with one seed and prints one JSON document. Of the policy after behaviour
cloning and of the final one, both acting deterministically, from first observations of the data:

    halted            share of rollouts in the model that end in HALT
    pessimistic       mean return in the model, up to HALT and without what HALT pays
    naive             mean return in the model if HALT is switched off
    real              mean return of the test agents in the scoring episodes

and the threshold of the disagreement, the return of the data, and seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from torch import Tensor

from baselines.offline.morel import solver as morel
from baselines.offline.morel.learner import MorelLearner
from baselines.offline.morel.model import roll_out
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.evaluation.offline import play_agents
from rmdp_bench.runs import load_solver, make_config
from rmdp_bench.runs.solver_loading import config_to_dict
from rmdp_bench.tasks import OfflineTask, get_offline_task

N_ROLLOUTS = 20
"""In the model, of each member."""


def main() -> None:
    """Train, ask the model, play."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    arguments = parser.parse_args()
    task = get_offline_task(arguments.task)
    config = make_config(load_solver("morel"), task, arguments.settings)
    morel.check(task, config)
    began = time.perf_counter()
    learner = morel.make_learner(task, config, [arguments.seed], arguments.device)
    rewards = learner.rows.data.rewards
    report: dict[str, Any] = {"task": task.id, "config": config_to_dict(config)}
    report["data_return"] = float(rewards.sum()) / (len(learner.rows.data.starts) - 1)
    while learner.done < learner.total - config.iterations:
        learner.advance()
    report["model_and_cloning_seconds"] = round(time.perf_counter() - began, 1)
    report["threshold"] = learner.model.threshold.tolist()
    report["cloned"] = judge(task, learner)
    began = time.perf_counter()
    while learner.done < learner.total:
        learner.advance()
    report["planning_seconds"] = round(time.perf_counter() - began, 1)
    report["planned"] = judge(task, learner)
    print(json.dumps(report))


def judge(task: OfflineTask, learner: MorelLearner) -> dict[str, Any]:
    """What the model believes of the policies as they are, and what they reach."""
    model, device = learner.model, learner.model.threshold.device
    first = learner.rows.initial
    chosen = torch.arange(N_ROLLOUTS, device=device).repeat(len(first), 1) % first.shape[1]
    starts = learner.rows.data.observations[first.gather(1, chosen)]
    n_outputs = learner.actor.network.sizes[-1]
    silence = torch.zeros(learner.horizon, len(first), N_ROLLOUTS, n_outputs, device=device)

    def rolled_out(threshold: Tensor) -> tuple[list[float], list[float]]:
        kept, model.threshold = model.threshold, threshold
        paths = roll_out(model, learner.actor.act, starts, silence, 1.0)
        model.threshold = kept
        return paths.halted.float().mean(1).tolist(), paths.returns.mean(1).tolist()

    halted, pessimistic = rolled_out(model.threshold)
    _, naive = rolled_out(torch.full_like(model.threshold, torch.inf))
    (solution,) = morel.solutions(task, learner)
    returns, _ = play_agents(
        task, solution, task.eval_agents, task.n_eval_episodes, EVALUATION_SEED
    )
    return {
        "halted": halted,
        "pessimistic": pessimistic,
        "naive": naive,
        "real": returns.mean(1).tolist(),
        "real_mean": float(returns.mean()),
    }


if __name__ == "__main__":
    main()
