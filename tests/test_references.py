"""What 100 is in offline tasks, and records of earlier versions."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench import references as known_references
from rmdp_bench import tasks
from rmdp_bench.cli import main
from rmdp_bench.envs import get_population
from rmdp_bench.envs.classic_het import MountainCarWorld
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.evaluation.offline import play_agents
from rmdp_bench.files import read_json, write_json
from rmdp_bench.references import REFERENCES_FILE, reference_is, references
from rmdp_bench.runs import read_result
from rmdp_bench.runs.records import make_result
from rmdp_bench.solution import Solution
from rmdp_bench.submission.files import write_manifest
from rmdp_bench.submission.packing import unpack_row
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.submission.schema import read_submission, submission_to_toml
from rmdp_bench.tasks import OfflineTask, find_logged_task, list_tasks
from scripts import carry_over_records, mountain_car_optimum, record_references
from scripts.specialists import Specialist
from tests.helpers.checkout import SUBMISSIONS, needs_submissions

SUBMISSION = SUBMISSIONS / "reference-offline"
STORED: dict[str, Any] = read_json(REFERENCES_FILE)
CAR, POLE = "rmdp/MountainCarHet-n500-v0", "rmdp/CartPoleHet-n500-v0"


@pytest.mark.parametrize("env_id", STORED)
def test_references_are_above_uniform_actions_and_within_their_bounds(env_id: str) -> None:
    assert reference_is(env_id)
    for agent, (random, reference) in references(env_id).items():
        assert random < reference
        assert reference <= STORED[env_id]["agents"][str(agent)].get("bound", np.inf)


def test_every_ranked_offline_task_has_the_references_of_its_agents() -> None:
    ranked = 0
    for task in list_tasks():
        if isinstance(task, OfflineTask) and not task.has_common_scale:
            agents = {*task.eval_agents, *task.heldout_agents}
            assert (set(references(task.env_id)) == agents) == (task.unranked is None)
            ranked += task.unranked is None
    assert ranked >= 8


def test_poles_are_balanced_to_the_end() -> None:
    task = find_logged_task("CartPoleHet-n500", "pure")
    agents = [*task.eval_agents, *task.heldout_agents]
    policies = [record_references.BalancingPolicy(w) for w in record_references.BALANCING_WEIGHTS]
    reached = []
    for policy in policies:
        everybody = Solution([policy], np.ones((len(agents), 1)))
        returns, _ = play_agents(task, everybody, agents, 5, EVALUATION_SEED)
        reached.append(returns.min(axis=1))
    assert np.max(reached, axis=0).tolist() == [200.0] * len(agents)
    assert {best for _, best in references(POLE).values()} == {200.0}


@pytest.mark.parametrize("agent", [0, 3])
def test_a_coarse_grid_encloses_the_stored_optimum(agent: int) -> None:
    attained = mountain_car_optimum.attain(agent, ((241, 91),), n_starts=50)
    bound = mountain_car_optimum.bound(agent, (500, 300), n_starts=50)
    _, reference = references(CAR)[agent]
    assert attained < bound
    assert attained - 1.0 < reference < bound  # 1: other starts
    assert reference - attained < 5.0


def test_nothing_that_a_car_does_leaves_the_cells_that_the_bound_counts() -> None:
    shape, agent, rng = (40, 30), 4, np.random.default_rng(0)
    population = mountain_car_optimum.load_population()
    reached, ended = mountain_car_optimum.find_images(population, agent, shape)
    low, high = np.array(MountainCarWorld.bounds).T
    states = rng.uniform(low, high, (20_000, 2))
    states[:500, 0] = low[0]  # at the wall
    cells = mountain_car_optimum.find_cells(states, shape)
    row = cells[:, 0].astype(int) * shape[1] + cells[:, 1]
    after, over = mountain_car_optimum.step_all(population, agent, states)
    for action in range(len(after)):
        there = mountain_car_optimum.find_cells(after[action], shape)
        first, last = reached[0, action, row], reached[1, action, row]
        inside = ((first <= there) & (there <= last)).all(axis=1)
        assert (inside | over[action]).all()
        assert (ended[action, row] | ~over[action]).all()


def test_full_throttle_is_no_better_than_the_optimum() -> None:
    population = get_population(CAR)
    world, starts = MountainCarWorld(population, 50), np.linspace(-0.6, -0.4, 50)  # type: ignore[arg-type]
    world.set_state({"agent": np.zeros(50, int), "state": np.stack((starts, 0 * starts), -1)})
    rows, returns, playing = np.arange(50), np.zeros(50), np.ones(50, bool)
    while playing.any():
        rewards, over = world.step(rows, np.full(50, 2))
        returns += playing * rewards
        playing &= ~over
    assert -60.0 < returns.mean() <= references(CAR)[0][1] + 0.5  # 0.5: other starts


@needs_submissions
def test_a_record_of_an_earlier_version_is_scored_anew(tmp_path: Path) -> None:
    """From the raw returns, whatever it said."""
    task = find_logged_task("MountainCarHet-n500", "pure")
    unpack_row(RowFiles(SUBMISSION / task.id / "cql"), tmp_path / "stored")
    source = tmp_path / "stored" / task.id / "cql" / "seed-0"
    old = tmp_path / "old" / "seed-0"
    shutil.copytree(source, old)
    document = read_json(old / "result.json")
    changes = {"task": task.id.replace("-v1", "-v0"), "social_welfare": 111.0, "gini": None}
    write_json(old / "result.json", document | changes)
    new = carry_over_records.carry_over(old, tmp_path / "new")
    assert new == tmp_path / "new" / task.id / "cql" / "seed-0"
    found, expected = (read_result(path / "result.json") for path in (new, source))
    assert_alike(found.model_dump(), expected.model_dump())
    assert (new / "returns.npz").read_bytes() == (source / "returns.npz").read_bytes()
    again = carry_over_records.carry_over(new, tmp_path / "again")
    assert (again / "result.json").read_bytes() == (new / "result.json").read_bytes()


def assert_alike(one: Any, other: Any) -> None:
    """Equal but for rounding, in which logarithms of processors differ."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_alike(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)
    else:
        assert one == (pytest.approx(other, rel=1e-12) if isinstance(one, float) else other)


@needs_submissions
def test_a_submission_is_carried_over_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "submissions" / SUBMISSION.name
    shutil.copytree(SUBMISSION, folder)
    assert carry_over_records.carry_over_submission(folder) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in sorted(folder.rglob("*-v1"), reverse=True):
        path.rename(path.with_name(path.name.replace("-v1", "-v0")))
    rows = sorted(folder.rglob("records.json"))
    for path in (*rows, folder / "submission.toml", folder / "README.md"):
        path.write_text(path.read_text().replace("Het-n500-pure-v1", "Het-n500-pure-v0"))
        for kind in ("random", "pure-eps20", "pure-eps40"):
            path.write_text(path.read_text().replace(f"{kind}-v1", f"{kind}-v0"))
    n_records = sum(len(RowFiles(path.parent).seeds) for path in folder.rglob("records.json"))
    assert carry_over_records.carry_over_submission(folder) == n_records
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    # Records of an earlier version lack the fields that came later, and their hashes differ.
    changed = {path for path in before if after[path] != before[path]}
    assert {path.name for path in changed} <= {"records.json", "manifest.json", "arrays.npz"}
    for path in changed:
        if path.name == "arrays.npz":  # packed before learned factors were rounded
            one, other = (np.load(BytesIO(contents[path])) for contents in (before, after))
            assert one.keys() == other.keys()
            kept = [name for name in one if not name.endswith("/factors")]
            assert kept and all((one[name] == other[name]).all() for name in kept)
        if path.name == "records.json":
            old, new = (json.loads(contents[path])["seeds"] for contents in (before, after))
            for one, other in zip(old, new, strict=True):
                records = (make_result(own["record"], path).model_dump() for own in (one, other))
                assert_alike(*records)
                assert one["curve"] == other["curve"]


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """CartPole, but that nobody knows what counts as 100 for a held-out agent."""
    stored = copy.deepcopy(STORED)
    del stored[POLE]["agents"]["600"]["reference"]
    monkeypatch.setattr(known_references, "_read", lambda: stored)
    monkeypatch.setattr(tasks, "_tasks", functools.cache(tasks._tasks.__wrapped__))


@needs_submissions
@pytest.mark.usefixtures("unknown")
def test_a_task_without_references_is_not_ranked_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = find_logged_task("CartPoleHet-n500", "pure")
    assert 600 in task.heldout_agents and 600 not in references(POLE) and 0 in references(POLE)
    assert task.unranked is not None and task.to_dict()["unranked"] == task.unranked
    about = read_submission(SUBMISSION)
    row = about.rows[0].model_copy(update={"task": task.id})
    folder = tmp_path / about.name
    folder.mkdir()
    text = submission_to_toml(about.model_copy(update={"rows": [row]}))
    (folder / "submission.toml").write_text(text, encoding="utf-8")
    write_manifest(folder)
    with pytest.raises(ValueError, match=f"{task.id} is not ranked: the returns that count as 100"):
        check_submission(folder)
    out = tmp_path / "runs"
    assert main(["run", "behaviour", task.id, "--out", str(out)]) == 2
    assert f"is not known yet for agent 600 of {POLE}" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def store_specialist(folder: Path, agent: int, **changes: Any) -> None:
    """Behaviour policies of CartPole as what three seeds have found for an agent."""
    own = folder / "agents" / POLE / f"agent-{agent}"
    own.mkdir(parents=True)
    for seed, policy in enumerate((0, 2, 3)):
        path = REFERENCES_FILE.parent / "behaviour" / POLE / f"policy-{policy}.onnx"
        shutil.copy(path, own / f"policy-{seed}.onnx")
    record = {
        "specialist": vars(Specialist(POLE, agent=agent)),
        "transitions": 2_000_000,
        "seeds": [0, 1, 2],
        "returns": [1.0, 3.0, 2.0],
    }
    write_json(own / "specialist.json", record | changes)


def test_references_are_the_best_specialists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each when it is finished; what is measured is kept."""
    path = tmp_path / "references.json"
    cheetah = record_references.REFERENCES["rmdp/HalfCheetahHet-n500-v1"]
    assert cheetah.measure is record_references.measure_specialist and cheetah.bound is None
    pole = dataclasses.replace(cheetah, random_episodes=3)
    monkeypatch.setattr(record_references, "REFERENCES", {POLE: pole})
    monkeypatch.setattr(record_references, "REFERENCES_FILE", path)
    monkeypatch.setattr(record_references, "N_LONG_EPISODES", 5)
    write_json(path, {CAR: STORED[CAR]})
    task = find_logged_task("CartPoleHet-n500", "pure")
    task = dataclasses.replace(task, eval_agents=(0,), heldout_agents=(1,))
    store_specialist(tmp_path, 0)
    record_references.record(task, False, tmp_path)
    assert f"{POLE} 1 reference: not known yet" in capsys.readouterr().out
    first = read_json(path)
    assert first[CAR] == STORED[CAR] and first[POLE]["random_episodes"] == 3
    assert set(first[POLE]["agents"]["1"]) == {"random"}
    # Agent 0 lives for about 26 steps under policy 2, which the record calls the best, and for
    # more than 150 under the others.
    values = first[POLE]["agents"]["0"]
    assert set(values) == {"random", "reference"} and 15.0 < values["reference"] < 40.0
    store_specialist(tmp_path, 1)
    (tmp_path / "agents" / POLE / "agent-0" / "specialist.json").unlink()
    record_references.record(task, False, tmp_path)
    second = read_json(path)
    assert second[POLE]["agents"]["0"] == values
    assert second[POLE]["agents"]["1"]["reference"] > 150.0


@pytest.mark.parametrize(
    "changes",
    [
        {"transitions": 1000},
        {"seeds": [0]},
        {"specialist": vars(Specialist(POLE, agent=4))},
    ],
)
def test_specialists_of_another_budget_are_no_references(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    store_specialist(tmp_path, 0, **changes)
    task = find_logged_task("CartPoleHet-n500", "pure")
    with pytest.raises(ValueError, match=r"specialist.json is of .*, expected .*2000000"):
        record_references.measure_specialist(task, 0, tmp_path)
