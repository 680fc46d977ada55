"""What datasets contain, as collected and as Minari gives it back."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import minari
import mlcroissant
import numpy as np
import pytest
from minari.dataset.minari_dataset import parse_dataset_id

import rmdp_bench
from rmdp_bench.datasets import (
    DATASETS,
    HIDDEN_PARAMETERS,
    DatasetEntry,
    build_datasets,
    collect,
    find_record,
    get_dataset,
    load_dataset,
    reference_scores,
    verify_dataset,
)
from rmdp_bench.datasets.collection import UNIFORM
from rmdp_bench.datasets.content import (
    compare_episodes,
    compare_statistics,
    content_hash,
    summarise,
)
from rmdp_bench.datasets.records import RECORDS_FILE
from rmdp_bench.datasets.shipped import shipped_path
from rmdp_bench.datasets.storage import dataset_path, datasets_root
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.tasks import get_offline_task, get_online_task
from tests.helpers.checkout import ROOT
from tests.helpers.commands import command, contents
from tests.helpers.dataset_toys import (
    CART_POLE,
    ENTRIES,
    HOPPER,
    cart_pole_entry,
    hopper_entry,
    small,
)


def name_of(entry: DatasetEntry) -> str:
    return f"{entry.id} {'uniform' if entry.load_policies is None else entry.epsilon}"


every_kind = pytest.mark.parametrize("entry", ENTRIES, ids=name_of)


@pytest.mark.parametrize("entry", DATASETS, ids=name_of)
def test_table(entry: DatasetEntry) -> None:
    assert get_dataset(entry.id) is entry
    namespace, _, version = parse_dataset_id(entry.id)
    assert namespace is not None and namespace.startswith("rmdp/")
    assert version is not None
    record = find_record(entry.id)
    assert record is not None
    n_agents = entry.environment.n_agents
    if entry.environment.heterogeneous:
        assert record.n_episodes == entry.n_episodes == n_agents
    else:
        assert record.n_steps == entry.n_steps
    scores = reference_scores(entry.env_id)
    assert scores.minimum < scores.maximum
    assert record.statistics["return"]["mean"] <= scores.maximum


def test_no_two_episodes_have_the_same_seed() -> None:
    assert len({entry.id for entry in DATASETS}) == len(DATASETS)
    ends = []
    for entry in DATASETS:
        record = find_record(entry.id)
        assert record is not None
        ends.append((entry.seed, entry.seed + record.n_episodes))
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(ends)))
    assert max(end for _, end in ends) < EVALUATION_SEED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 10}, "n_episodes is 500 and n_steps 10"),
        ({"n_episodes": None}, "n_episodes is None and n_steps None"),
        ({"n_episodes": 0}, "n_episodes is 0"),
        ({"epsilon": 1.5}, "epsilon is 1.5"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
        ({"seed": 2**31}, "seed is 2147483648"),
    ],
)
def test_bad_rows(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(get_dataset(CART_POLE), **changes)


def test_unknown_dataset() -> None:
    with pytest.raises(ValueError, match=f"did you mean {CART_POLE}"):
        get_dataset("rmdp/cartpole-het/randon-v0")
    with pytest.raises(ValueError, match="`rmdp-bench list datasets`"):
        get_dataset("zzz")


@every_kind
def test_minari_reads_it(entry: DatasetEntry) -> None:
    build_datasets([entry])
    assert list(minari.list_local_datasets()) == [entry.id]
    dataset = minari.load_dataset(entry.id)
    episodes = list(dataset)
    assert dataset.id == entry.id
    assert len(episodes) == dataset.total_episodes >= 1
    assert dataset.total_steps == sum(len(episode) for episode in episodes)
    if entry.n_steps is None:
        assert dataset.total_episodes == entry.n_episodes
    else:
        assert dataset.total_steps == entry.n_steps
    dataset.set_seed(0)
    assert len(dataset.sample_episodes(1)) == 1
    for number, episode in enumerate(episodes):
        assert episode.id == number
        assert repr(episode)
        assert len(episode.observations) == len(episode) + 1
        ends = episode.terminations | episode.truncations
        assert ends[-1] and not ends[:-1].any()
        assert all(observation in dataset.observation_space for observation in episode.observations)
        assert all(action in dataset.action_space for action in episode.actions)
    scores = reference_scores(entry.env_id)
    returns = np.array([scores.minimum, scores.maximum])
    np.testing.assert_array_equal(minari.get_normalized_score(dataset, returns), [0.0, 1.0])
    metadata = dataset.storage.metadata
    for name in ("description", "author", "license", "requirements", "versions", "algorithm_name"):
        assert metadata[name], name
    assert metadata["content_hash"] == content_hash(collect(entry))


@every_kind
def test_replay_in_the_recovered_environment(entry: DatasetEntry) -> None:
    """From seed, options and actions: all observations, rewards and infos, bit for bit."""
    build_datasets([entry])
    dataset = minari.load_dataset(entry.id)
    env = dataset.recover_environment()
    numbers = range(dataset.total_episodes)
    all_metadata = list(dataset.storage.get_episode_metadata(numbers))
    for episode, metadata in zip(dataset, all_metadata, strict=True):
        assert metadata["seed"] == entry.seed + episode.id
        observation, info = env.reset(seed=metadata["seed"], options=metadata.get("options"))
        (name,) = episode.infos
        np.testing.assert_array_equal(observation, episode.observations[0])
        np.testing.assert_array_equal(info[name], episode.infos[name][0])
        for step, action in enumerate(episode.actions):
            observation, reward, terminated, truncated, info = env.step(action)
            np.testing.assert_array_equal(observation, episode.observations[step + 1])
            np.testing.assert_array_equal(info[name], episode.infos[name][step + 1])
            assert reward == episode.rewards[step]
            assert terminated == episode.terminations[step]
            is_cut = step + 1 == len(episode) and episode.id + 1 == dataset.total_episodes
            if entry.n_steps is None or not is_cut:
                assert truncated == episode.truncations[step]
            if name == "outcome":  # agent i's reward can be computed again
                population: Any = env.unwrapped.population
                rewards = population.rewards(episode.infos[name][step + 1])
                np.testing.assert_array_equal(rewards, info["agent_rewards"])
    env.close()


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.environment.heterogeneous], ids=name_of)
def test_one_trajectory_of_each_agent(entry: DatasetEntry) -> None:
    build_datasets([entry])
    dataset = minari.load_dataset(entry.id)
    population = rmdp_bench.get_population(entry.env_id)
    assert isinstance(population, DynamicsPopulation)
    numbers = range(dataset.total_episodes)
    for number, metadata in enumerate(dataset.storage.get_episode_metadata(numbers)):
        assert metadata["agent"] == metadata["options"]["agent"] == number
        assert (dataset[number].infos["agent"] == number).all()
        hidden = metadata[HIDDEN_PARAMETERS]
        assert [hidden[name] for name in population.names] == list(population.parameters[number])


def test_hidden_parameters_are_in_one_place_only() -> None:
    build_datasets([cart_pole_entry(0.0, n_episodes=8)])
    population = rmdp_bench.get_population("rmdp/CartPoleHet-n500-v0")
    assert isinstance(population, DynamicsPopulation)
    folder = dataset_path(CART_POLE)
    for path in (folder / "croissant.json", folder / "data" / "metadata.json"):
        text = path.read_text()
        assert not [value for value in population.parameters[7] if str(value) in text]
    for episode in minari.load_dataset(CART_POLE):
        assert set(episode.infos) == {"agent"}


@pytest.mark.parametrize("entry", [cart_pole_entry(0.2), hopper_entry()], ids=name_of)
def test_the_number_of_rows_does_not_matter(entry: DatasetEntry) -> None:
    hashes = {content_hash(collect(entry, n_rows=n_rows)) for n_rows in (None, 1, 3, 64)}
    assert len(hashes) == 1


def test_another_seed_gives_another_dataset() -> None:
    for entry in (cart_pole_entry(0.2), hopper_entry()):
        other = dataclasses.replace(entry, seed=entry.seed + 1000)
        assert content_hash(collect(entry)) != content_hash(collect(other))


def test_behaviour_policies_and_epsilon() -> None:
    """Constant policies show who acted: the policy in an episode is one, epsilon the exceptions."""
    for epsilon in (0.0, 0.4):
        episodes = collect(cart_pole_entry(epsilon, n_episodes=400))
        policies = np.array([episode.metadata["behaviour_policy"] for episode in episodes])
        assert 0.4 < policies.mean() < 0.6
        exceptions = np.concatenate(
            [e.actions != policy for e, policy in zip(episodes, policies, strict=True)]
        )
        assert exceptions.mean() == pytest.approx(epsilon / 2, abs=0.02)
    random = collect(dataclasses.replace(get_dataset(CART_POLE), n_episodes=100))
    assert {episode.metadata["behaviour_policy"] for episode in random} == {UNIFORM}
    actions = np.concatenate([episode.actions for episode in random])
    assert actions.mean() == pytest.approx(0.5, abs=0.05)


def test_uniform_torques_fill_the_action_space() -> None:
    actions = np.concatenate([e.actions for e in collect(small(get_dataset(HOPPER)))])
    assert actions.dtype == np.float32
    assert actions.min() < -0.9 and actions.max() > 0.9
    assert abs(actions.mean()) < 0.15


def test_the_last_episode_is_cut() -> None:
    whole = collect(dataclasses.replace(get_dataset(HOPPER), n_steps=300))
    cut = collect(dataclasses.replace(get_dataset(HOPPER), n_steps=299 - whole[-1].n_steps))
    assert sum(episode.n_steps for episode in cut) == 299 - whole[-1].n_steps
    assert compare_episodes(cut[:-1], whole[: len(cut) - 1]).where == ""
    last, original = cut[-1], whole[len(cut) - 1]
    assert last.n_steps < original.n_steps
    assert last.truncations[-1] and not last.terminations[-1]
    np.testing.assert_array_equal(last.observations, original.observations[: last.n_steps + 1])


def test_cart_pole_random_is_the_recorded_one() -> None:
    """The whole dataset; on a processor with other rounding this would say how far it is."""
    entry = get_dataset(CART_POLE)
    (result,) = build_datasets([entry])
    record = find_record(entry.id)
    assert record is not None
    dataset = load_dataset(CART_POLE)
    assert (dataset.total_episodes, dataset.total_steps) == (record.n_episodes, record.n_steps)
    assert result.identical or result.deviation is not None
    assert result.deviation is None or result.deviation.size < 0.1
    assert verify_dataset(entry).status == ("identical" if result.identical else "different")


def test_velocity_datasets_give_returns_of_any_agent() -> None:
    """From outcomes alone, and their mean over agents is the scalar return."""
    population: Any = rmdp_bench.get_population("rmdp/HopperVel-n100-v0")
    for episode in collect(hopper_entry()):
        returns = population.rewards(episode.infos["outcome"][1:]).sum(axis=0)
        assert returns.shape == (100,)
        assert returns.mean() == pytest.approx(episode.rewards.sum(), abs=1e-12)


@every_kind
def test_croissant(entry: DatasetEntry) -> None:
    """ML Commons' own validator has nothing to object."""
    build_datasets([entry])
    path = dataset_path(entry.id) / "croissant.json"
    dataset = mlcroissant.Dataset(jsonld=path)
    assert dataset.metadata.ctx.issues.errors == set()
    (file,) = dataset.metadata.distribution
    assert (path.parent / file.content_url).is_file()
    document = json.loads(path.read_text())
    assert document["license"].endswith(entry.licence)


def test_load_dataset_says_how_to_build(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"`rmdp-bench datasets build {HOPPER}`"):
        rmdp_bench.load_dataset(HOPPER)
    with pytest.raises(ValueError, match="there is no dataset 'nothing'"):
        load_dataset("nothing")
    task = get_online_task("HopperVel-n100-k1-v0")
    with pytest.raises(ValueError, match="it has no dataset"):
        load_dataset(task)
    logged = dataclasses.replace(get_offline_task("CartPoleHet-n500-pure-v1"), dataset_id=HOPPER)
    with pytest.raises(FileNotFoundError, match="datasets build"):
        load_dataset(logged)
    build_datasets([small(get_dataset(HOPPER))])
    assert load_dataset(logged).id == HOPPER
    assert list(tmp_path.iterdir()) == [tmp_path / "minari"]


SHIPPED = [entry for entry in DATASETS if entry.shipped]


@pytest.mark.parametrize("entry", SHIPPED, ids=name_of)
def test_shipped_datasets_are_installed_when_they_are_loaded(entry: DatasetEntry) -> None:
    """They are the recorded ones whatever the processor, and what a build here would write."""
    dataset = load_dataset(entry.id)
    assert len(dataset) == entry.n_episodes
    assert verify_dataset(entry).status == "identical"
    loaded = contents(datasets_root())
    assert len(load_dataset(entry.id)) == entry.n_episodes
    assert contents(datasets_root()) == loaded
    (result,) = build_datasets([entry], force=True)
    assert result.identical == (contents(datasets_root()) == loaded)


def test_the_package_has_the_shipped_datasets_only() -> None:
    assert SHIPPED
    paths = {shipped_path(entry) for entry in SHIPPED}
    assert paths == set((RECORDS_FILE.parent / "datasets").rglob("*.npz"))
    assert sum(path.stat().st_size for path in paths) < 3e6


def test_behaviour_cloning_example() -> None:
    """Run as a reader would who has the dataset; it beats the random policy for every agent."""
    load_dataset("rmdp/cartpole-het/pure-v0")
    example = ROOT / "examples" / "behaviour_cloning.py"
    process = command([], code=example.read_text())
    output, error = process.communicate(timeout=600)
    assert (process.returncode, error) == (0, "")
    scores = [float(line.split()[-1]) for line in output.splitlines()]
    assert len(scores) == 5
    assert min(scores) > 0.5


def test_comparison_of_episodes() -> None:
    episodes = collect(cart_pole_entry(0.2, n_episodes=3))
    assert compare_episodes(episodes, episodes).where == ""
    changed = episodes[1].observations.copy()
    changed[2, 3] += 0.5
    other = [episodes[0], dataclasses.replace(episodes[1], observations=changed), episodes[2]]
    deviation = compare_episodes(other, episodes)
    assert deviation.size == pytest.approx(0.5, rel=1e-5)
    assert deviation.where.startswith("observations[2, 3] of episode 1 is ")
    changed[2, 3] = np.nan
    assert compare_episodes(other, episodes).size == np.inf
    assert "2 episodes instead of 3" in compare_episodes(episodes[:2], episodes).where
    shorter = [episodes[0].cut(2), *episodes[1:]]
    assert "episode 0 has 2 steps" in compare_episodes(shorter, episodes).where
    renamed = [dataclasses.replace(episodes[0], metadata={}), *episodes[1:]]
    assert "other metadata" in compare_episodes(renamed, episodes).where
    assert len({content_hash(e) for e in (episodes, other, shorter, renamed)}) == 4


def test_comparison_of_statistics() -> None:
    expected = summarise(collect(cart_pole_entry(0.2)))
    assert compare_statistics(expected, expected).where == ""
    found = json.loads(json.dumps(expected))
    found["observations"]["max"][2] += 3 * expected["observations"]["sd"][2]
    deviation = compare_statistics(found, expected)
    assert deviation.size == pytest.approx(3.0)
    assert "the max of observations[2] is" in deviation.where
