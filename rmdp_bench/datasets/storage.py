"""Datasets in files, as Minari keeps them.

ROOT/                           $MINARI_DATASETS_PATH, by default ~/.minari/datasets
rmdp/
cartpole-het/
namespace_metadata.json
random-v0/
croissant.json          for search engines (ML Commons)
data/
metadata.json         of the dataset
main_data.hdf5        the episodes and their metadata
"""

from __future__ import annotations

import copy
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import NAMESPACE_METADATA_FILENAME

from rmdp_bench import files
from rmdp_bench.datasets.collection import HIDDEN_PARAMETERS, Episode
from rmdp_bench.datasets.content import arrays_of, content_hash
from rmdp_bench.datasets.croissant import describe
from rmdp_bench.datasets.records import reference_scores
from rmdp_bench.datasets.table import DatasetEntry
from rmdp_bench.envs import get_population
from rmdp_bench.files import read_json, write_json
from rmdp_bench.system import cpu_model, versions

METADATA_FILE = "metadata.json"
HDF5_FILE = "main_data.hdf5"
CROISSANT_FILE = "croissant.json"
SET_FOLDER = "set MINARI_DATASETS_PATH to a folder that can be written"
AUTHOR = "rmdp_bench contributors"
EPISODE_BYTES = 40_000
"""Most that HDF5 needs for an episode beside its arrays."""
_OF_RESET = ("seed", "options")
"""Episode metadata that Minari has fields of its own for."""


class DamagedDataset(ValueError):
    """Files that are not the dataset that they should be."""


class FolderNotWritable(ValueError):
    """Minari's folder is not there and cannot be made, or cannot be written to."""


def datasets_root() -> Path:
    """The folder that Minari reads; it may not exist yet.

    Raises:
        FolderNotWritable: $MINARI_DATASETS_PATH is not a folder, or there is no home to have one.
    """
    given = os.environ.get("MINARI_DATASETS_PATH")
    try:
        root = Path.home() / ".minari" / "datasets" if given is None else Path(given)
    except RuntimeError as error:  # an account without a home
        raise FolderNotWritable(f"{error}; {SET_FOLDER}") from error
    if root.exists() and not root.is_dir():
        raise FolderNotWritable(f"Minari's folder {root} is a file; {SET_FOLDER}")
    return root


def check_writable(folder: Path) -> None:
    """Check, without a change, that a folder can be written to, or made.

    Raises:
        FolderNotWritable: it cannot.
    """
    obstacle = files.obstacle(folder)
    if obstacle:
        raise FolderNotWritable(f"cannot write to {folder}: {obstacle}; {SET_FOLDER}")


def dataset_path(dataset_id: str) -> Path:
    """The folder of a dataset, whether it exists or not."""
    return datasets_root() / dataset_id


def write_namespaces(dataset_id: str) -> None:
    """Write what Minari keeps for the folders above a dataset, where it is missing."""
    for parent in list(Path(dataset_id).parents)[:-1]:
        path = datasets_root() / parent / NAMESPACE_METADATA_FILENAME
        if not path.exists():
            write_json(path, {})


def write_dataset(folder: Path, entry: DatasetEntry, episodes: Sequence[Episode]) -> None:
    """Write a dataset into a new folder; not atomic.

    Raises:
        OSError: the disk is full, or another error of the file system.
    """
    folder.mkdir()
    _check_space(folder, episodes)
    spec = copy.deepcopy(gym.spec(entry.env_id))
    keywords = dict(entry.env_kwargs)
    spec.max_episode_steps = keywords.pop("max_episode_steps", spec.max_episode_steps)
    spec.kwargs |= keywords
    env = gym.make(spec)
    try:
        storage = MinariStorage.new(
            folder / "data",
            observation_space=env.observation_space,
            action_space=env.action_space,
            env_spec=spec,
            data_format="hdf5",
        )
    finally:
        env.close()
    storage.update_metadata(_metadata(entry, episodes))
    storage.update_episodes(_buffer(number, episode) for number, episode in enumerate(episodes))
    storage.update_episode_metadata([_own_metadata(episode) for episode in episodes])
    metadata = read_json(folder / "data" / METADATA_FILE)
    write_json(folder / CROISSANT_FILE, describe(entry, metadata, folder / "data" / HDF5_FILE))


def _check_space(folder: Path, episodes: Sequence[Episode]) -> None:
    """Take the space that the files will need, and give it back.

    On a disk that gets full, HDF5 crashes the process instead of raising an error.
    """
    n_bytes = sum(
        EPISODE_BYTES + 2 * sum(values.nbytes for _, values in arrays_of(episode))
        for episode in episodes
    )
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            elif shutil.disk_usage(folder).free < n_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            needed = f"{error.strerror}: up to {n_bytes / 1e6:.0f} MB are needed"
            raise OSError(error.errno, needed) from error


def _buffer(number: int, episode: Episode) -> EpisodeBuffer:
    make: Any = EpisodeBuffer  # annotated for lists; arrays are stored as well, and faster
    buffer: EpisodeBuffer = make(
        id=number,
        seed=episode.metadata["seed"],
        options=episode.metadata.get("options"),
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=episode.terminations,
        truncations=episode.truncations,
        infos=dict(episode.infos),
    )
    return buffer


def _own_metadata(episode: Episode) -> dict[str, Any]:
    """Without what the buffer holds; groups become names with slashes, as Minari reads them."""
    flat: dict[str, Any] = {}
    for name, value in episode.metadata.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{key}": part for key, part in value.items()}
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if name.split("/")[0] not in _OF_RESET}


def _metadata(entry: DatasetEntry, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Of the dataset; everything that Minari does not fill in itself."""
    population = get_population(entry.env_id)
    scores = reference_scores(entry.env_id)
    found = versions()
    requirements = [f"{name}=={found[name]}" for name in ("gymnasium", "mujoco")]
    if "rmdp_bench" in found:  # not when it runs from a folder that is not installed
        requirements.insert(0, f"rmdp_bench>={found['rmdp_bench']}")
    return {
        "dataset_id": entry.id,
        "description": describe_in_words(entry),
        "algorithm_name": "random" if entry.load_policies is None else "behaviour policies",
        "author": {AUTHOR},
        "license": entry.licence,
        "minari_version": found["minari"],
        "requirements": requirements,
        "ref_min_score": scores.minimum,
        "ref_max_score": scores.maximum,
        "ref_min_score_is": scores.minimum_is,
        "ref_max_score_is": scores.maximum_is,
        "seed": entry.seed,
        "epsilon": entry.epsilon,
        "population": {"n_agents": population.n_agents, "content_hash": population.content_hash()},
        "content_hash": content_hash(episodes),
        "versions": found,
        "cpu": cpu_model(),
    }


def describe_in_words(entry: DatasetEntry) -> str:
    """What the dataset is, in a few sentences."""
    text = f"Collected in {entry.env_id}. {entry.description} "
    if entry.ends_twice:
        text += (
            "An episode that terminates in the step in which its time is up is marked as both; "
            "where a library refuses that (d3rlpy does), give it truncations & ~terminations. "
        )
    if entry.environment.heterogeneous:
        return text + (
            "Agents differ in dynamics: episode i is the one trajectory of agent i, who stands in "
            "infos['agent'] and in the episode's metadata. The parameters of the agents are in the "
            f"metadata under {HIDDEN_PARAMETERS}; a solver must not read them."
        )
    return text + (
        "Agents differ in what they want: infos['outcome'] is what their rewards depend on, "
        "env.unwrapped.population.rewards(outcome) gives the reward of every agent, and the scalar "
        "reward is its mean over the agents."
    )


def read_metadata(dataset_id: str, folder: Path) -> dict[str, Any]:
    """Read a dataset's metadata, and check that its HDF5 file opens and has all episodes.

    Raises:
        DamagedDataset: the files are missing, damaged, or not of this dataset.
    """
    try:
        metadata = read_json(folder / "data" / METADATA_FILE)
    except ValueError as error:
        raise DamagedDataset(str(error)) from error
    if metadata.get("dataset_id") != dataset_id:
        raise DamagedDataset(f"{folder} holds the dataset {metadata.get('dataset_id')!r}")
    path = folder / "data" / HDF5_FILE
    try:
        with h5py.File(path, "r") as file:
            n_episodes = len(file)
    except (OSError, RuntimeError) as error:  # h5py raises either
        raise DamagedDataset(f"cannot read {path}: {error}") from error
    if n_episodes != metadata.get("total_episodes") or n_episodes == 0:
        wanted = metadata.get("total_episodes")
        raise DamagedDataset(f"{path} has {n_episodes} episodes, its metadata says {wanted}")
    return metadata


def read_episodes(dataset_id: str, folder: Path) -> list[Episode]:
    """Read all episodes, and check that they are what was written.

    Raises:
        DamagedDataset: the files are missing, damaged, or not of this dataset.
    """
    metadata = read_metadata(dataset_id, folder)
    try:
        episodes = list(_read(MinariStorage.read(folder / "data"), metadata["total_episodes"]))
        written = content_hash(episodes)
    except Exception as error:  # a foreign file can make h5py and Minari raise anything
        reason = str(error) or type(error).__name__
        raise DamagedDataset(f"cannot read {folder / 'data' / HDF5_FILE}: {reason}") from error
    if written != metadata.get("content_hash"):
        raise DamagedDataset(f"the content of {folder} is not what its metadata says")
    return episodes


def _read(storage: MinariStorage, n_episodes: int) -> Iterator[Episode]:
    all_metadata = storage.get_episode_metadata(range(n_episodes))
    for episode, metadata in zip(
        storage.get_episodes(range(n_episodes)), all_metadata, strict=True
    ):
        own = {name: metadata[name] for name in metadata if name not in ("id", "total_steps")}
        yield Episode(
            observations=episode["observations"],
            actions=episode["actions"],
            rewards=episode["rewards"],
            terminations=episode["terminations"],
            truncations=episode["truncations"],
            infos=episode["infos"],
            metadata=_plain(own),
        )


def _plain(value: Any) -> Any:
    """HDF5's numbers as Python's."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value
