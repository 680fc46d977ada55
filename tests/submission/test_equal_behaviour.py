"""Equal policies in other files: two seeds of a row, and somebody else's work."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from rmdp_bench import tasks
from rmdp_bench.cli import main
from rmdp_bench.datasets.clinic import ClinicController
from rmdp_bench.submission import behaviour
from rmdp_bench.submission.behaviour import compare_behaviour, draw_observations, equal_share
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.children import Limits
from rmdp_bench.submission.schema import read_submission
from tests.helpers.hostile_toys import allocating, put, toml
from tests.helpers.submission_toys import ROW, TASK, copy_of, edit_json, refused, unpacked
from tests.helpers.toys import constant

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compares is the same here and in a process of its own, which takes seconds to start."""
    monkeypatch.setattr(
        behaviour, "run_in_sandbox", lambda _, job, **__: behaviour.compare_job(job)
    )


def disguise(folder: Path, noise: float = 0.0) -> None:
    """Other bytes, the same policies: a remark, and weights that are a little different."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.onnx")):
        model = onnx.load(path)
        model.doc_string = f"trained by {path.parents[1].name}"
        for tensor in model.graph.initializer if noise else ():
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                changed = values * (1.0 + noise * rng.standard_normal(values.shape))
                tensor.CopyFrom(constant(tensor.name, changed))
        path.write_bytes(model.SerializeToString())


def in_other_order(seed: Path) -> None:
    """The policies with other numbers, and the assignment with them."""
    solution = seed / "solution"
    first, last = solution / "policy-0.onnx", solution / "policy-2.onnx"
    data = first.read_bytes()
    first.write_bytes(last.read_bytes())
    last.write_bytes(data)
    with np.load(seed / "welfare.npz") as arrays:
        matrix, lengths = arrays["welfare_matrix"], arrays["episode_lengths"]
    np.savez(seed / "welfare.npz", welfare_matrix=matrix[:, ::-1], episode_lengths=lengths[::-1])
    np.save(solution / "assignment.npy", np.load(solution / "assignment.npy")[:, ::-1].copy())


def second_seed_from_first(folder: Path) -> None:
    with unpacked(folder) as runs:
        first, second = (runs / ROW / f"seed-{seed}" for seed in (0, 1))
        shutil.copytree(first, second, dirs_exist_ok=True)
        edit_json(second / "result.json", seed=1)
        disguise(second)
        in_other_order(second)


def thief_of(submission: Path, folder: Path, noise: float = 0.0) -> Path:
    """The same policies in other files and another order, beside the submission."""
    copy_of(submission, folder)
    aside = copy_of(submission, folder / "aside").rename(folder / "submissions" / "thief")
    toml('name = "thief"')(aside)
    with unpacked(aside) as runs:
        disguise(runs, noise)
        for seed in (0, 1):
            in_other_order(runs / ROW / f"seed-{seed}")
    return aside


def test_the_same_policies_as_two_seeds(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    second_seed_from_first(folder)
    check_submission(folder)  # no two files are the same
    message = refused(capsys, "verify", str(folder), "--full")
    assert f"alike: honest/{ROW}/seed-0 and honest/{ROW}/seed-1" in message


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_the_policies_of_another_author(
    noise: float, honest_submission: Path, tmp_path: Path
) -> None:
    thief = thief_of(honest_submission, tmp_path, noise)
    toml('authors = ["Somebody Else"]')(thief)
    checked = check_submission(thief)
    with pytest.raises(ValueError, match=rf"thief/{ROW}/seed-\d and honest/{ROW}/seed-\d"):
        compare_behaviour(checked, Limits(), Budget())


def test_the_same_authors_are_named(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    thief = thief_of(honest_submission, tmp_path)
    found = compare_behaviour(check_submission(thief), Limits(), Budget())
    assert found == [
        f"all policies act alike: thief/{ROW}/seed-0 and honest/{ROW}/seed-0 (and 1 more pairs of "
        f"seeds of these rows)"
    ]
    assert main(["verify", str(thief), "--full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alike"] == found


@pytest.mark.usefixtures("here")
def test_the_same_authors_may_be_written_in_another_way(
    honest_submission: Path, tmp_path: Path
) -> None:
    thief = thief_of(honest_submission, tmp_path)
    submission = read_submission(thief)
    toml('authors = ["ADA \u00c5NGSTR\u00d6M", "\u674e\u56db"]')(thief)
    assert read_submission(thief).authors != submission.authors
    assert len(compare_behaviour(check_submission(thief), Limits(), Budget())) == 1


@pytest.mark.usefixtures("here")
def test_a_common_optimum_is_named(
    honest_submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [task.id for task in tasks.list_tasks() if task.common_optimum] == [
        "ResourceGathering-n25-k1-v0",
        *(f"DeepSeaTreasure-n100-k{k}-v0" for k in (1, 2, 3, 5)),
        *(f"FruitTree-n100-k{k}-v0" for k in (1, 2, 3, 5, 10)),
        *(f"MountainCarHet-n500-{kind}-v1" for kind in ("pure", "random", "pure-eps20")),
        "MountainCarHet-n500-pure-eps40-v1",
    ]
    thief = thief_of(honest_submission, tmp_path)
    toml('authors = ["Somebody Else"]')(thief)
    task = dataclasses.replace(tasks.get_task(TASK), common_optimum=True)
    monkeypatch.setattr(behaviour, "get_task", lambda name: task)
    assert len(compare_behaviour(check_submission(thief), Limits(), Budget())) == 1


def test_patients_are_seen_at_their_meals_and_in_all_states() -> None:
    drawn = np.concatenate(draw_observations(tasks.get_task("Glucose-n100-k3-v0"), 0))
    assert (drawn[:, 0] < 70.0).mean() > 0.1 and (drawn[:, 0] > 180.0).mean() > 0.1
    one, *others = (
        behaviour._ask(controller, "", [drawn])[np.newaxis]
        for controller in (
            ClinicController(1.0, 10.0),
            ClinicController(1.0, 25.0),  # less for a meal
            ClinicController(1.0, 1e9),  # nothing for a meal
            ClinicController(1.03, 10.0),
        )
    )
    assert equal_share(one, one) == 1.0
    assert [equal_share(one, other) for other in others] == [0.0, 0.0, 0.0]


def test_each_number_of_an_action_counts() -> None:
    """A difference in one of two is not halved by the other, which is the same."""
    actions = np.zeros((1, 50, 2))
    other = actions + [0.0, 0.015]
    assert equal_share(actions, other) == 0.0 and equal_share(actions, other / 2) == 1.0


@pytest.mark.parametrize(("solver", "is_refused"), [("em", True), ("basal_bolus", False)])
def test_seeds_of_a_control_may_meet(solver: str, is_refused: bool) -> None:
    task, actions = tasks.get_task("Glucose-n100-k3-v0"), np.zeros((3, 10, 2))
    seeds = {f"{name}/{task.id}/{solver}/seed-{s}": actions for name in "ab" for s in (0, 1)}
    authors = {"a": frozenset("a"), "b": frozenset("b")}
    found = behaviour._compare_all("a", task, seeds, authors)
    of_row = [pair for pair in found if pair["other"].startswith("a/")]
    assert [pair["is_refused"] for pair in of_row] == [is_refused]
    assert all(pair["is_refused"] for pair in found if pair not in of_row)


@pytest.mark.usefixtures("here")
def test_a_damaged_neighbour_is_in_nobodys_way(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    for name, damage in {
        "broken": lambda path: (path / "submission.toml").write_text("name = "),
        "greedy": put(f"{ROW}/seed-0/solution/policy-0.onnx", allocating(2**45)),
    }.items():
        other = copy_of(honest_submission, tmp_path / "aside").rename(folder.with_name(name))
        toml(f'name = "{name}"')(other)
        with unpacked(other) as runs:
            disguise(runs)
        damage(other)
    lines = compare_behaviour(check_submission(folder), Limits(), Budget())
    assert [line.partition(":")[0] for line in lines] == [
        "could not be compared with broken",
        "could not be compared with greedy",
    ]
    assert "fails in act()" in lines[1]


@pytest.mark.usefixtures("here")
def test_a_policy_that_fails_is_refused(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    put(f"{ROW}/seed-0/solution/policy-0.onnx", allocating(2**45))(folder)
    with pytest.raises(ValueError, match=r"policy 0 fails in act\(\)"):
        compare_behaviour(check_submission(folder), Limits(), Budget())


@pytest.mark.usefixtures("here")
def test_honest_seeds_do_not_act_alike(honest_submission: Path) -> None:
    checked = check_submission(honest_submission)
    assert compare_behaviour(checked, Limits(), Budget()) == []
    assert read_submission(honest_submission).rows[0].seeds == [0, 1]


def test_observations_are_drawn_anew() -> None:
    task = tasks.get_task("CartPoleHet-n500-pure-v1")
    one, again, other = (np.stack(draw_observations(task, seed)) for seed in (0, 0, 1))
    assert one.shape == (32, 32, 4)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any(axis=2).all()


def test_observations_of_worlds_of_mo_gymnasium_are_drawn() -> None:
    pytest.importorskip("mo_gymnasium")
    drawn = np.stack(draw_observations(tasks.get_task("DeepSeaTreasure-n100-k3-v0"), 0))
    assert drawn.shape == (32, 32, 2)


def test_shares() -> None:
    rng = np.random.default_rng(0)
    choices = rng.integers(0, 4, (3, 1000))
    assert equal_share(choices, choices[::-1]) == 1.0
    assert equal_share(choices, choices[:2]) == 1.0  # all of the other's
    mixed = np.stack((choices[0], *rng.integers(0, 4, (2, 1000))))
    assert equal_share(choices, mixed) == pytest.approx(1 / 3)
    changed = choices.copy()
    changed[:, :2] += 1
    assert equal_share(choices, changed) == 1.0
    changed[:, :3] += 1
    assert equal_share(choices, changed) == 0.0
    numbers = rng.uniform(-1.0, 1.0, (2, 100, 6))
    assert equal_share(numbers, numbers + 0.009) == 1.0
    assert equal_share(numbers, numbers + 0.011) == 0.0
    assert equal_share(numbers, choices) == 0.0
