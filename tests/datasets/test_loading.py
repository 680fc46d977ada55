"""Data sets under any name, in any home, for any library."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench import get_offline_task, load_dataset
from rmdp_bench.datasets import build_datasets, collect, get_dataset
from rmdp_bench.datasets.content import content_hash
from rmdp_bench.datasets.records import find_record
from rmdp_bench.datasets.shipped import read_shipped
from rmdp_bench.datasets.storage import describe_in_words
from tests.helpers.dataset_toys import make_policies

PURE = "rmdp/cartpole-het/pure-v0"
EPSILON = "rmdp/cartpole-het/pure-eps20-v0"


def test_a_dataset_has_the_names_of_its_tasks() -> None:
    by_id, by_name = load_dataset(PURE), load_dataset("CartPoleHet-n500-pure-v1")
    assert (
        by_id.spec
        == by_name.spec
        == load_dataset(get_offline_task("CartPoleHet-n500-pure-v1")).spec
    )
    with pytest.raises(ValueError, match="the task HopperVel-n100-k2-v0 is an online one"):
        load_dataset("HopperVel-n100-k2-v0")
    with pytest.raises(ValueError, match="there is no dataset 'CartPoleHet-n500-pure-v9'"):
        load_dataset("CartPoleHet-n500-pure-v9")


def unusable(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of Minari's that cannot be written to."""
    (tmp_path / "file").write_text("")
    if kind == "no home":

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("MINARI_DATASETS_PATH")
        monkeypatch.setattr(Path, "home", no_home)
    elif kind == "a file":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))
    elif kind == "below a file":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "minari"))
    elif kind == "no permission":  # whoever runs the test, who may be allowed everything
        monkeypatch.setattr("os.access", lambda *arguments, **keywords: False)
    elif kind == "no locks":  # as on some file systems of networks; who asks may write, it says

        def no_lock(*arguments: Any) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr("fcntl.flock", no_lock)
    elif kind == "no space for a name":

        def full(*arguments: Any, **keywords: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "mkdir", full)


KINDS = ("no home", "a file", "below a file", "no permission", "no locks", "no space for a name")


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_the_packaged_data_are_read_in_any_home(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unusable(kind, tmp_path, patch)
        with pytest.warns(UserWarning, match="set MINARI_DATASETS_PATH to a folder that can be"):
            dataset = load_dataset(PURE)
    assert dataset.total_episodes == 500 and dataset.id == PURE
    stored = read_shipped(get_dataset(PURE))
    for number in (0, 17, 499):
        np.testing.assert_array_equal(dataset[number].observations, stored[number].observations)
    assert not (tmp_path / "minari").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_building_elsewhere_names_what_to_set(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unusable(kind, tmp_path, patch)
        with pytest.raises(ValueError, match="set MINARI_DATASETS_PATH to a folder") as caught:
            build_datasets([get_dataset(EPSILON)])
    assert "\n" not in str(caught.value)
    with monkeypatch.context() as patch:
        unusable(kind, tmp_path, patch)
        error = FileNotFoundError if kind not in ("no home", "a file") else ValueError
        with pytest.raises(error, match="MINARI_DATASETS_PATH|datasets build"):
            load_dataset(EPSILON)


# Terminated and truncated.


def double_ends(episodes: Any) -> int:
    return sum(bool((e.terminations & e.truncations).any()) for e in episodes)


def test_the_first_data_sets_end_twice_as_their_page_says(tmp_path: Path) -> None:
    """And the remedy on it, which leaves everything else."""
    assert double_ends(read_shipped(get_dataset(PURE))) == 1
    dataset = load_dataset(PURE)
    assert "give it truncations & ~terminations" in describe_in_words(get_dataset(PURE))
    metadata = tmp_path / "minari" / PURE / "data" / "metadata.json"
    assert "truncations & ~terminations" in json.loads(metadata.read_text())["description"]
    for episode in dataset:
        timeouts = episode.truncations & ~episode.terminations
        assert not (timeouts & episode.terminations).any()
        assert timeouts[-1] != episode.terminations[-1]
        assert not timeouts[:-1].any() and not episode.terminations[:-1].any()


def test_recorded_data_sets_keep_their_ends() -> None:
    stored, record = read_shipped(get_dataset(PURE)), find_record(PURE)
    assert record is not None and content_hash(stored) == record.content_hash
    episodes = collect(get_dataset(EPSILON))
    assert double_ends(episodes) == 2
    single = collect(dataclasses.replace(get_dataset(EPSILON), ends_twice=False))
    assert double_ends(single) == 0
    for one, other in zip(episodes, single, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.terminations, other.terminations)
        np.testing.assert_array_equal(one.truncations & ~one.terminations, other.truncations)


def test_new_data_sets_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushed to one side, the pole falls in some step; there the time is up as well."""
    entry = dataclasses.replace(
        get_dataset("rmdp/cartpole-het/random-v0"),
        id="rmdp/cartpole-het/fallen-v9",
        n_episodes=20,
        load_policies=lambda: make_policies((0,)),
        epsilon=0.0,
        ends_twice=False,
    )
    lengths = [episode.n_steps for episode in collect(entry)]
    environment = dataclasses.replace(entry.environment, max_episode_steps=lengths[0])
    monkeypatch.setattr(type(entry), "environment", property(lambda self: environment))
    make_vec = gym.make_vec

    def shorter(*arguments: Any, **keywords: Any) -> Any:
        envs: Any = make_vec(*arguments, **keywords)
        envs.unwrapped.max_episode_steps = lengths[0]
        return envs

    monkeypatch.setattr("gymnasium.make_vec", shorter)
    for ends_twice in (True, False):
        episodes = collect(dataclasses.replace(entry, ends_twice=ends_twice))
        assert episodes[0].n_steps == lengths[0] and episodes[0].terminations[-1]
        assert episodes[0].truncations[-1] == ends_twice
        assert (double_ends(episodes) > 0) == ends_twice
        cut = [episode for episode in episodes if not episode.terminations[-1]]
        assert all(episode.truncations[-1] for episode in cut)
    assert "truncations & ~terminations" not in describe_in_words(entry)
