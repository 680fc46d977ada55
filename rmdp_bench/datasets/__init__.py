"""Datasets: what agents did, as Minari's datasets that anybody can build again.

    rmdp-bench datasets build rmdp/cartpole-het/random-v0

    dataset = rmdp_bench.load_dataset("rmdp/cartpole-het/random-v0")     # or minari.load_dataset
    env = dataset.recover_environment()
    for episode in dataset: ...

A dataset is a row of a table (`DATASETS`); its content follows from the row alone, on any number of
processes.  The repository has the hash of every one, and enough statistics to say how far a build
on another processor is from it.
"""

from __future__ import annotations

from rmdp_bench.datasets.building import (
    BuildResult,
    Verification,
    build_datasets,
    is_installed,
    verify_dataset,
)
from rmdp_bench.datasets.collection import HIDDEN_PARAMETERS, Episode, collect
from rmdp_bench.datasets.loading import load_dataset
from rmdp_bench.datasets.records import (
    Record,
    ReferenceScores,
    find_record,
    reference_scores,
)
from rmdp_bench.datasets.table import DATASETS, DatasetEntry, get_dataset

__all__ = [
    "DATASETS",
    "HIDDEN_PARAMETERS",
    "BuildResult",
    "DatasetEntry",
    "Episode",
    "Record",
    "ReferenceScores",
    "Verification",
    "build_datasets",
    "collect",
    "find_record",
    "get_dataset",
    "is_installed",
    "load_dataset",
    "reference_scores",
    "verify_dataset",
]
