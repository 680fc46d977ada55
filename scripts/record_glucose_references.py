"""Measure what counts as 0 and as 100 in the glucose world, and write it with the command.

    python -m scripts.record_glucose_references single      one learned policy for all patients: 0
    python -m scripts.record_glucose_references own         everybody's own: 100

`single` is the best of some seeds of the solver `tuned_ppo` with k = 1. `own` is, for each patient,
the better of the controller that was tuned for them alone, from a fine grid, and of a policy that
learned from them alone, on from that controller. Which seed and which of the two is better is
judged on episodes of training; the number that is written, the mean return over all patients, is
from evaluation episodes. Tasks can be scored in percent once both are known; records from before
are in other units. `single` makes 30 million transitions and `own` 50 million of learning, all
patients' policies side by side, and as many for tuning; at the 90,000 and 125,000 a second of CPU
time that short runs made, and 450,000 in tuning, a quarter of an hour of one core in all.
`--transitions` and the like make it shorter for a try.
What fewer patients give is printed, and written to `--out` only: it is no reference.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.common.threads import one_thread
from baselines.heterogeneous import tuned_ppo
from baselines.heterogeneous.controllers import ENVIRONMENT, make_grid, tune
from baselines.heterogeneous.groups import FixedGroups, controllers_of, play_episode
from baselines.heterogeneous.learner import Learner, PPOSettings
from rmdp_bench import RunLog
from rmdp_bench.envs import get_environment
from rmdp_bench.evaluation import EVALUATION_SEED, PairRollout, roll_out_pairs
from rmdp_bench.files import read_json, write_json
from rmdp_bench.references import HETEROGENEOUS_FILE
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import OnlineTask, heterogeneous_task

TRAINING_SEED, JUDGING_SEED = 0, 1_000_000
"""Of the episodes that controllers are tuned on, and of those that choose among what was made."""


N_JUDGED = 20
"""Episodes of each patient that choose."""


def measure_single(task: OnlineTask, config: tuned_ppo.Config, seeds: Sequence[int]) -> Policy:
    """The best of some seeds' policies for all patients."""
    solutions = tuned_ppo.solve(task, config, seeds, "cpu", RunLog(task, seeds))
    policies = [solution.policies[0] for solution in solutions]
    judged = roll_out_pairs(task, policies, n_episodes=N_JUDGED, seed=JUDGING_SEED)
    return policies[int(judged.returns.mean(axis=(0, 2)).argmax())]


@one_thread()
def measure_own(
    task: OnlineTask, settings: PPOSettings, *, n_points: int, n_steps: int, n_tuned: int
) -> tuple[PairRollout, int]:
    """Evaluation of everybody's own policy, (n, 1, E), and how many of them have learned.

    All patients' policies learn side by side, in as many steps each.
    """
    tuned = tune(task, make_grid(n_points), n_episodes=n_tuned, seed=TRAINING_SEED)
    everybody = np.arange(task.n_agents)
    controllers = controllers_of(tuned, everybody, task.n_agents)
    learner = Learner(
        *(task, controllers, settings),
        n_planned=settings.n_segments(task.n_agents, n_steps),
        seed=TRAINING_SEED,
    )
    with learner.worlds():
        while learner.n_made < learner.n_planned:
            risk = play_episode(learner, FixedGroups(everybody, task.n_agents))
            print(f"{learner.transitions} steps each, mean risk {risk:.2f}", flush=True)
    parts, n_learned = [], 0
    for agent, candidates in enumerate(zip(controllers, learner.policies(), strict=True)):
        judged = roll_out_pairs(
            task, candidates, n_episodes=N_JUDGED, seed=JUDGING_SEED, agents=[agent]
        )
        chosen = int(judged.returns.mean(axis=2)[0].argmax())
        n_learned += chosen
        parts.append(
            roll_out_pairs(
                task, [candidates[chosen]], n_episodes=task.n_eval_episodes, agents=[agent]
            )
        )
    joined = {name: np.concatenate([p.measures[name] for p in parts]) for name in parts[0].measures}
    returns, lengths = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("returns", "lengths")
    )
    return PairRollout(returns, lengths, joined), n_learned


def describe(rollout: PairRollout) -> dict[str, Any]:
    """What is written of an evaluation (n, 1, E)."""
    risks = np.sort(rollout.mean_risk[:, 0])
    worst = risks[-max(1, len(risks) // 10) :]
    return {
        "return": float(rollout.returns.mean()),
        "mean_risk": float(risks.mean()),
        "mean_risk_of_the_worst_tenth": float(worst.mean()),
        **{name: float(values.mean()) for name, values in rollout.measures.items()},
        "episodes_of_each_patient": rollout.returns.shape[2],
        "evaluation_seed": EVALUATION_SEED,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one of the two, and write it."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("single", "own"))
    parser.add_argument("--seeds", type=int, default=3, help="of the policy for all")
    parser.add_argument("--transitions", type=int, default=10_000_000, help="of it, each seed")
    parser.add_argument("--own-transitions", type=int, default=500_000, help="of each patient")
    n_all = get_environment(ENVIRONMENT).n_agents
    parser.add_argument(
        "--agents", type=int, default=n_all, help="fewer for a try, which is not recorded"
    )
    parser.add_argument("--points", type=int, default=16, help="values of each gain of `own`")
    parser.add_argument("--copies", type=int, default=400, help="that learn side by side")
    parser.add_argument("--episodes", type=int, default=2, help="of each pair, for tuning `own`")
    parser.add_argument("--out", type=Path, help="by default the package's file")
    options = parser.parse_args(given)

    task = heterogeneous_task(ENVIRONMENT, 1, n_agents=options.agents)
    settings = PPOSettings(n_copies=options.copies)
    if options.what == "single":
        task = dataclasses.replace(task, transitions=options.transitions)
        config = tuned_ppo.Config(n_copies=options.copies)
        policy = measure_single(task, config, range(options.seeds))
        record = describe(roll_out_pairs(task, [policy], n_episodes=task.n_eval_episodes))
    else:
        rollout, n_learned = measure_own(
            *(task, settings),
            n_points=options.points,
            n_steps=options.own_transitions,
            n_tuned=options.episodes,
        )
        record = describe(rollout) | {"patients_served_by_a_learned_policy": n_learned}
    place = given.index("--out") if "--out" in given else len(given)
    told = [*given[:place], *given[place + 2 :]]  # where it is written is not how it was measured
    record |= {"command": f"python -m scripts.record_glucose_references {shlex.join(told)}"}
    print(record)
    out = options.out
    if out is None:
        if task.n_agents < n_all:
            print(f"not recorded: {task.n_agents} of {n_all} patients; --out FILE keeps it")
            return
        out = HETEROGENEOUS_FILE
    known = read_json(out) if out.exists() else {}
    parts = {**known.get(ENVIRONMENT, {}), options.what: record}
    write_json(out, {**known, ENVIRONMENT: parts})


if __name__ == "__main__":
    main()
