"""What the repository knows of its datasets: `rmdp_bench/data/datasets.json`.

`scripts/record_datasets.py` writes it. With it a dataset that was built elsewhere is known to be
the same or not, and documents can name sizes and returns without a build.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rmdp_bench.files import read_json

RECORDS_FILE = Path(str(files("rmdp_bench"))) / "data" / "datasets.json"


@dataclass(frozen=True)
class Record:
    """One dataset as it was when it was recorded.

    Attributes:
        content_hash: see `rmdp_bench.datasets.content`.
        n_episodes: number of episodes.
        n_steps: number of transitions.
        statistics: what `summarise` gives.
        cpu: model of the processor.
        versions: package -> version.
    """

    content_hash: str
    n_episodes: int
    n_steps: int
    statistics: Mapping[str, Mapping[str, Any]]
    cpu: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class ReferenceScores:
    """Between which returns scores in an environment are normalised, and what they are.

    Attributes:
        minimum: mean return of uniform actions.
        maximum: mean return of the reference.
        minimum_is: how the first was measured.
        maximum_is: what the reference is, and how it was measured or computed.
    """

    minimum: float
    maximum: float
    minimum_is: str
    maximum_is: str


def find_record(dataset_id: str) -> Record | None:
    """The record of a dataset; None: it was not recorded."""
    fields = _document()["datasets"].get(dataset_id)
    return None if fields is None else Record(**fields)


def reference_scores(env_id: str) -> ReferenceScores:
    """The reference scores of an environment.

    Raises:
        ValueError: there are none.
    """
    scores = _document()["reference_scores"]
    if env_id not in scores:
        raise ValueError(
            f"there are no reference scores for {env_id!r}, expected one of {', '.join(scores)}; "
            "scripts/record_datasets.py adds them"
        )
    return ReferenceScores(**scores[env_id])


@functools.cache
def _document() -> dict[str, Any]:
    return read_json(RECORDS_FILE)
