"""What a dataset contains: its hash, its statistics, and how far two of them are apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.datasets.collection import Episode


@dataclass(frozen=True)
class Deviation:
    """How far two datasets are apart.

    Attributes:
        size: the largest deviation; infinite where sizes differ. In standard deviations between
            statistics, in units of the values between arrays.
        where: what deviates, with both values; "" where nothing does.
    """

    size: float
    where: str


def content_hash(episodes: Iterable[Episode]) -> str:
    """SHA-256 (hexadecimal) of all arrays, their dtypes and shapes, and of episodes' metadata.

    Files are not hashed: the same content can be stored in different bytes.
    """
    digest = hashlib.sha256()
    for episode in episodes:
        digest.update(json.dumps(dict(episode.metadata), sort_keys=True).encode())
        for name, values in arrays_of(episode):
            little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name} {little_endian.dtype.str} {values.shape}".encode())
            digest.update(np.ascontiguousarray(little_endian).tobytes())
    return digest.hexdigest()


def summarise(episodes: Sequence[Episode]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation, least and greatest value of everything.

    Returns:
        "return" and "length" (of the episodes), "observations", "actions", "rewards" and, where
        there are, "outcome": each with "mean", "sd", "min" and "max", numbers or one number for
        each component. Ready for JSON.
    """
    columns: dict[str, NDArray[Any]] = {
        "return": np.array([episode.rewards.sum() for episode in episodes]),
        "length": np.array([episode.n_steps for episode in episodes]),
    }
    for name in ("observations", "actions", "rewards"):
        columns[name] = np.concatenate([getattr(episode, name) for episode in episodes])
    if "outcome" in episodes[0].infos:
        columns["outcome"] = np.concatenate([episode.infos["outcome"] for episode in episodes])
    functions: dict[str, Callable[..., Any]] = {
        "mean": np.mean,
        "sd": np.std,
        "min": np.min,
        "max": np.max,
    }
    return {
        name: {
            key: function(values.astype(np.float64), axis=0).tolist()
            for key, function in functions.items()
        }
        for name, values in columns.items()
    }


def compare_statistics(
    found: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Mapping[str, Any]]
) -> Deviation:
    """The statistic of `found` that is farthest from `expected`, in the latter's sd (or 1)."""
    largest = Deviation(0.0, "")
    for name, statistics in expected.items():
        scales = np.atleast_1d(statistics["sd"])
        for key, values in statistics.items():
            given, wanted = np.atleast_1d(found[name][key]), np.atleast_1d(values)
            sizes = np.abs(given - wanted) / np.where(scales > 0.0, scales, 1.0)
            at = int(np.argmax(sizes))
            if sizes[at] > largest.size:
                place = f"{name}[{at}]" if sizes.size > 1 else name
                where = f"the {key} of {place} is {given[at]:.6g} instead of {wanted[at]:.6g}"
                largest = Deviation(float(sizes[at]), where)
    return largest


def compare_episodes(found: Sequence[Episode], expected: Sequence[Episode]) -> Deviation:
    """The value of `found` that is farthest from `expected`."""
    if len(found) != len(expected):
        return Deviation(np.inf, f"there are {len(found)} episodes instead of {len(expected)}")
    largest = Deviation(0.0, "")
    for number, (episode, other) in enumerate(zip(found, expected, strict=True)):
        if episode.n_steps != other.n_steps:
            steps = f"{episode.n_steps} steps instead of {other.n_steps}"
            return Deviation(np.inf, f"episode {number} has {steps}")
        if episode.metadata != other.metadata:
            return Deviation(np.inf, f"episode {number} has other metadata")
        for (name, values), (_, wanted) in zip(arrays_of(episode), arrays_of(other), strict=True):
            if values.shape != wanted.shape:
                shapes = f"of shape {values.shape} instead of {wanted.shape}"
                return Deviation(np.inf, f"{name} of episode {number} are {shapes}")
            sizes = np.abs(values.astype(np.float64) - wanted.astype(np.float64))
            sizes[np.isnan(sizes)] = np.inf
            at = np.unravel_index(int(np.argmax(sizes)), sizes.shape)
            if sizes[at] > largest.size:
                index = ", ".join(str(int(place)) for place in at)
                where = (
                    f"{name}[{index}] of episode {number} is {values[at]} instead of {wanted[at]}"
                )
                largest = Deviation(float(sizes[at]), where)
    return largest


def arrays_of(episode: Episode) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values of all arrays."""
    for name in ("observations", "actions", "rewards", "terminations", "truncations"):
        yield name, getattr(episode, name)
    for name in sorted(episode.infos):
        yield f"infos/{name}", episode.infos[name]
