"""Write `rmdp_bench/data/datasets.json`: what the datasets contain, and the reference scores.

    python -m scripts.record_datasets                    all datasets
    python -m scripts.record_datasets ID ...             these, and the scores of their environments

Everything is collected in memory, on this machine; nothing is installed.  A dataset that was
recorded with another content is refused: a change of content is a new version.  `--replace` is for
versions that were never published.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

from rmdp_bench.ceilings import constant_speed_optimum
from rmdp_bench.datasets import (
    DATASETS,
    DatasetEntry,
    Record,
    ReferenceScores,
    collect,
    find_record,
    get_dataset,
)
from rmdp_bench.datasets.content import content_hash, summarise
from rmdp_bench.datasets.records import RECORDS_FILE
from rmdp_bench.envs import get_population
from rmdp_bench.files import read_json, write_json
from rmdp_bench.population import TargetPopulation
from rmdp_bench.system import cpu_model, versions

GREATEST_RETURNS = {"rmdp/CartPoleHet-n500-v0": 200.0}
"""Of environments where it is known, and reached by many agents."""


def main() -> None:
    """Record the datasets that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--replace", action="store_true", help="accept another content")
    arguments = parser.parse_args()
    entries = [get_dataset(dataset_id) for dataset_id in arguments.ids] or list(DATASETS)
    for entry in entries:
        record = measure(entry)
        known = find_record(entry.id)
        if known and known.content_hash != record.content_hash and not arguments.replace:
            parser.error(f"{entry.id} has another content than its record")
        document = read_json(RECORDS_FILE)
        datasets = document["datasets"] | {entry.id: dataclasses.asdict(record)}
        scores = document["reference_scores"]
        if entry.load_policies is None:
            scores |= {entry.env_id: dataclasses.asdict(score(entry, record))}
        ordered = {row.id: datasets[row.id] for row in DATASETS if row.id in datasets}
        write_json(RECORDS_FILE, {"reference_scores": scores, "datasets": ordered})


def measure(entry: DatasetEntry) -> Record:
    """Collect a dataset and describe it."""
    started = time.perf_counter()
    episodes = collect(entry)
    record = Record(
        content_hash=content_hash(episodes),
        n_episodes=len(episodes),
        n_steps=sum(episode.n_steps for episode in episodes),
        statistics=summarise(episodes),
        cpu=cpu_model(),
        versions=versions(),
    )
    seconds = time.perf_counter() - started
    print(f"{entry.id}: {record.n_episodes} episodes, {record.n_steps} steps, {seconds:.1f} s")
    return record


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
    raise ValueError(f"there is no reference for {entry.env_id}")


if __name__ == "__main__":
    main()
