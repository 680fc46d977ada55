"""Match new patients with the policies of a run, and measure what that costs them.

    python -m scripts.match_new_patients RUN_DIR --out benchmarks/results/clinic_new_patients.json

The 20 unseen and the 20 extrapolating patients of the glucose world get one of the run's k
policies: by a profile, or by the first one or three days under a controller that is the same for
everybody, either as the most similar of the 100 known patients fare with the policies, or by a
simulator that is fitted to these days with the known patients as prior. Printed, and written, are
the mean risk, the regret against the best of the k, and what the patient's own tuned controller
has. Known patients are judged on episodes of training, new ones on those of evaluation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.heterogeneous.clinic_records import load_records
from baselines.heterogeneous.controllers import ENVIRONMENT, BasalBolus
from baselines.heterogeneous.persim_em import Adaptation
from baselines.heterogeneous.simulated_learning import Learning
from baselines.heterogeneous.simulators import make_simulators
from rmdp_bench import load_solution
from rmdp_bench.datasets.clinic import tuned_gains
from rmdp_bench.envs import get_population
from rmdp_bench.envs.glucose.patients import clinic_profile
from rmdp_bench.evaluation import EVALUATION_SEED, play, roll_out_pairs
from rmdp_bench.evaluation.new_patients import features_of, record_first_days
from rmdp_bench.files import write_json
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import get_offline_task, heterogeneous_task

KNOWN_SEED = 97_000_000
"""Of the first episode in which known patients are judged."""
DATA_TASK = "Glucose-n100-k3-clinic-v0"
"""Whose records the simulators of known patients are fitted to."""


def match(
    solution: Solution, known_returns: NDArray[np.float64], new: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """How new patients are matched -> assignment (m, k)."""
    task = heterogeneous_task(ENVIRONMENT, 1)
    population = get_population(ENVIRONMENT)
    assert isinstance(population, DynamicsPopulation)
    known = list(range(population.n_agents))
    profiles = clinic_profile(population.parameters)

    def like(features: NDArray[np.float64], known_features: NDArray[np.float64]) -> Any:
        return solution.assign_like(
            features, known_features=known_features, known_returns=known_returns
        ).assignment

    found = {"profile": like(profiles[new], profiles[known])}
    simulators = make_simulators(load_records(get_offline_task(DATA_TASK)))
    adapt = Adaptation(simulators, solution.policies, Learning(eval_episodes=4), seed=0)
    for n_days in (1, 3):
        first = record_first_days(task, [*known, *new], n_days)
        features = features_of(first)
        name = "first day" if n_days == 1 else f"first {n_days} days"
        found[name] = like(features[len(known) :], features[: len(known)])
        both = np.concatenate([profiles[[*known, *new]], features], axis=1)
        found[f"profile and {name}"] = like(both[len(known) :], both[: len(known)])
        found[f"simulator of the {name}"] = adapt(first[len(known) :]).assignment  # type: ignore[arg-type]
    return found


def own_risks(agents: Sequence[int], n_episodes: int) -> NDArray[np.float64]:
    """Mean risk (m,) of agents under their own tuned controllers, on episodes of evaluation."""
    played = play(
        heterogeneous_task(ENVIRONMENT, 1),
        [BasalBolus(*gains) for gains in tuned_gains()[list(agents)].tolist()],
        [n_episodes] * len(agents),
        [EVALUATION_SEED + episode for _ in agents for episode in range(n_episodes)],
        agents=np.repeat(agents, n_episodes).tolist(),
    )
    risks = -played.returns[:, 0] / played.lengths
    return np.asarray(risks.reshape(len(agents), n_episodes).mean(axis=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Match, print and write."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="OUT/TASK/SOLVER/seed-S")
    parser.add_argument("--episodes", type=int, default=10, help="that score each pair")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(given)
    solution, task = load_solution(options.run / "solution"), heterogeneous_task(ENVIRONMENT, 1)
    population = get_population(ENVIRONMENT)
    assert isinstance(population, DynamicsPopulation)
    groups = {
        "unseen": list(population.unseen_agents),
        "extrapolating": list(population.extrapolating_agents),
    }
    new = [agent for group in groups.values() for agent in group]
    known = roll_out_pairs(task, solution.policies, n_episodes=4, seed=KNOWN_SEED)
    scored = roll_out_pairs(task, solution.policies, n_episodes=options.episodes, agents=new)
    own = own_risks(new, options.episodes)
    risks = scored.mean_risk
    assignments = match(solution, known.returns.mean(axis=2), new)
    best_for_all = np.zeros_like(risks)
    best_for_all[:, known.mean_risk.mean(axis=0).argmin()] = 1.0
    rows: dict[str, NDArray[np.float64]] = {
        "at random": risks.mean(axis=1),
        "the policy that is best for all known": (best_for_all * risks).sum(axis=1),
        **{name: (own_ * risks).sum(axis=1) for name, own_ in assignments.items()},
        "best of the policies": risks.min(axis=1),
        "own tuned controller": own,
    }
    table: dict[str, Any] = {}
    print(f"{'matched by':40} " + " ".join(f"{name:>24}" for name in groups))
    for name, values in rows.items():
        table[name], at = {}, 0
        for group, agents in groups.items():
            part = slice(at, at + len(agents))
            at += len(agents)
            table[name][group] = {
                "mean_risk": float(values[part].mean()),
                "regret": float((values - risks.min(axis=1))[part].mean()),
                "regret_to_own": float((values - own)[part].mean()),
            }
        cells = (
            f"{own_['mean_risk']:8.2f} {own_['regret']:+7.2f} {own_['regret_to_own']:+7.2f}"
            for own_ in table[name].values()
        )
        print(f"{name:40} " + " ".join(cells))
    if options.out is not None:
        run = "/".join(options.run.parts[-3:])
        command = f"python -m scripts.match_new_patients {run} --episodes {options.episodes}"
        facts = {"command": command, "policies": len(solution.policies)}
        facts |= {"episodes": options.episodes, "task": options.run.parts[-3]}
        write_json(options.out, facts | {"solver": options.run.parts[-2], "rows": table})


if __name__ == "__main__":
    main()
