"""Write `rmdp_bench/data/datasets.json`: what the datasets contain, and the reference scores.

    python -m scripts.record_datasets                    all datasets
    python -m scripts.record_datasets ID ...             these, and the scores of their environments

Everything is collected in memory, on this machine; nothing is installed.  The episodes of a
dataset that the package has are written to `rmdp_bench/data/datasets`.  A dataset that was
recorded with another content is refused: a change of content is a new version.  `--replace` is for
versions that were never published.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from rmdp_bench.ceilings import constant_speed_optimum
from rmdp_bench.datasets import (
    DATASETS,
    DatasetEntry,
    Episode,
    Record,
    ReferenceScores,
    collect,
    find_record,
    get_dataset,
)
from rmdp_bench.datasets.behaviour import load_behaviour_policies
from rmdp_bench.datasets.content import content_hash, summarise
from rmdp_bench.datasets.records import RECORDS_FILE
from rmdp_bench.datasets.shipped import write_shipped
from rmdp_bench.envs import get_population
from rmdp_bench.files import read_json, write_json
from rmdp_bench.population import TargetPopulation
from rmdp_bench.solution import Policy
from rmdp_bench.system import cpu_model, versions

GREATEST_RETURNS = {"rmdp/CartPoleHet-n500-v0": 200.0, "rmdp/Glucose-n100-v0": 0.0}
"""Of environments where it is known."""
REFERENCE_SEEDS = 5_000_000
"""From the seed of a dataset to that of the first episode that measures the reference."""
REFERENCE_EPISODES, FEWER_EPISODES = 4, {"rmdp/HalfCheetahHet-n500-v1": 1}
"""Of each agent with each policy, twice; fewer where an episode takes long."""


def main() -> None:
    """Record the datasets that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--replace", action="store_true", help="accept another content")
    arguments = parser.parse_args()
    entries = [get_dataset(dataset_id) for dataset_id in arguments.ids] or list(DATASETS)
    for entry in entries:
        started = time.perf_counter()
        episodes = collect(entry)
        record = describe(episodes)
        sizes = f"{record.n_episodes} episodes, {record.n_steps} steps"
        print(f"{entry.id}: {sizes}, {time.perf_counter() - started:.1f} s", flush=True)
        known = find_record(entry.id)
        if known and known.content_hash != record.content_hash and not arguments.replace:
            parser.error(f"{entry.id} has another content than its record")
        document = read_json(RECORDS_FILE)
        datasets = document["datasets"] | {entry.id: dataclasses.asdict(record)}
        scores = document["reference_scores"]
        if entry.load_policies is None:
            scores |= {entry.env_id: dataclasses.asdict(score(entry, record))}
        elif entry.env_id not in scores:  # one without a data set of uniform actions
            uniform = dataclasses.replace(entry, load_policies=None, own_policies=False)
            own = score(entry, describe(collect(uniform)))
            words = f"{own.minimum_is.rstrip('.')} with uniform actions."
            own = dataclasses.replace(own, minimum_is=words)
            scores |= {entry.env_id: dataclasses.asdict(own)}
        if entry.shipped:
            write_shipped(entry, episodes)
        ordered = {row.id: datasets[row.id] for row in DATASETS if row.id in datasets}
        write_json(RECORDS_FILE, {"reference_scores": scores, "datasets": ordered})


def describe(episodes: Sequence[Episode]) -> Record:
    """What the repository keeps of a dataset."""
    return Record(
        content_hash=content_hash(episodes),
        n_episodes=len(episodes),
        n_steps=sum(episode.n_steps for episode in episodes),
        statistics=summarise(episodes),
        cpu=cpu_model(),
        versions=versions(),
    )


def score(entry: DatasetEntry, record: Record) -> ReferenceScores:
    """Reference scores of an environment, from its dataset of uniform actions."""
    maximum, maximum_is = reference(entry)
    return ReferenceScores(
        minimum=record.statistics["return"]["mean"],
        maximum=maximum,
        minimum_is=f"Mean return of uniform actions, the {record.n_episodes} episodes of "
        f"{entry.id}.",
        maximum_is=maximum_is,
    )


def reference(entry: DatasetEntry) -> tuple[float, str]:
    """The return that counts as 1, and what it is."""
    population = get_population(entry.env_id)
    if isinstance(population, TargetPopulation):
        return constant_speed_optimum(population, 1).welfare, (
            "Upper bound of the mean return over agents under one policy: always the constant "
            "speed that is best for the agents together. Computed, not measured; not quite "
            "reached, as robots start at rest."
        )
    if entry.env_id in GREATEST_RETURNS:
        return GREATEST_RETURNS[entry.env_id], "The greatest return that is possible."
    n_episodes = FEWER_EPISODES.get(entry.env_id, REFERENCE_EPISODES)
    return best_behaviour_return(entry, n_episodes), (
        "Mean over agents of the return of each agent's best behaviour policy, chosen by "
        f"{n_episodes} episode{'s' if n_episodes > 1 else ''} with each and measured in as many "
        "others. Not the best that is possible."
    )


def best_behaviour_return(entry: DatasetEntry, n_episodes: int) -> float:
    """Mean return of the policy that is best for each agent, on episodes of their own."""
    policies = load_behaviour_policies(entry.env_id)
    n_agents = entry.environment.n_agents
    returns = np.zeros((len(policies), 2 * n_episodes, n_agents))
    for number, (j, trial) in enumerate(np.ndindex(*returns.shape[:2])):
        seed = entry.seed + REFERENCE_SEEDS + number * n_agents
        load_policies = partial(list[Policy], policies[j : j + 1])
        one = dataclasses.replace(entry, seed=seed, load_policies=load_policies, epsilon=0.0)
        returns[j, trial] = [episode.rewards.sum() for episode in collect(one)]
        print(f"policy {j}, trial {trial}: mean return {returns[j, trial].mean():.2f}", flush=True)
    choice, measurement = np.split(returns, 2, axis=1)
    best = choice.mean(axis=1).argmax(axis=0)
    return float(measurement.mean(axis=1)[best, np.arange(n_agents)].mean())


if __name__ == "__main__":
    main()
