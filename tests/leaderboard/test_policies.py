"""`load_policies`: the board's policies, from a clone or fetched when asked to."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import rmdp_bench
from benchmarks.synthetic_submissions import write_submission
from rmdp_bench.files import read_json
from rmdp_bench.leaderboard import policies
from rmdp_bench.leaderboard.policies import load_policies
from rmdp_bench.leaderboard.reading import read_rows
from rmdp_bench.tasks import OfflineTask
from tests.helpers.checkout import SUBMISSIONS, needs_submissions

TASK, SOLVER = "ResourceGathering-n25-k3-v0", "universal"
OFFLINE = "CartPoleHet-n500-random-v1"
ROW = Path("reference-universal", TASK, SOLVER)


@needs_submissions
def test_the_index_is_that_of_the_repository() -> None:
    """If this fails: make site, and commit what it wrote."""
    rows = {
        Path(row["submission"], row["task"], row["solver"]): row["files"]
        for row in read_json(policies.INDEX_FILE)["rows"]
    }
    folders = [path.parent for path in SUBMISSIONS.rglob("policies.zip")]
    assert {*rows} == {folder.relative_to(SUBMISSIONS) for folder in folders}
    for place, own in rows.items():
        assert {*own} == {path.name for path in (SUBMISSIONS / place).iterdir()}
        for name, entry in own.items():
            data = (SUBMISSIONS / place / name).read_bytes()
            assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}, place


def test_the_index_is_written_in_the_order_of_the_board(tmp_path: Path) -> None:
    submissions = tmp_path / "submissions"
    for number, name in enumerate(("low", "high")):
        write_submission(submissions / name, [(TASK, "em")], number)
        (submissions / name / TASK / "em" / "policies.zip").write_bytes(b"some")
    rows = read_rows(tmp_path)
    policies.write_index(rows, tmp_path / "policies.json")
    stored = read_json(tmp_path / "policies.json")["rows"]
    assert [row["submission"] for row in stored] == [row.submission.name for row in rows]
    assert len(stored) == 2


@needs_submissions
def test_policies_have_the_score_of_their_row() -> None:
    task = rmdp_bench.get_task(TASK)
    solution = rmdp_bench.load_policies(TASK, SOLVER, 1)
    assert solution.assignment.shape == (task.n_agents, 3)
    matrix = rmdp_bench.evaluate(task, solution, n_episodes=1).welfare_matrix
    welfare = (solution.assignment * matrix).sum(axis=1).mean()
    assert welfare == pytest.approx(89.28)  # no other split of 25 tiles is better


@needs_submissions
def test_offline_they_are_those_of_the_scored_agents() -> None:
    task = rmdp_bench.get_task(OFFLINE)
    assert isinstance(task, OfflineTask)
    solution = load_policies(OFFLINE, "cql", submission="reference-agent")
    assert solution.assignment.shape == (5, 5)
    assert len(task.eval_agents) == 5
    shared = load_policies(OFFLINE, "cql")  # the first on the board
    assert shared.assignment.shape == (5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TASK, "no_such"), r"no policies of no_such on .*; it has those of .*universal \(ref"),
        ((TASK, SOLVER, 99), "seed is 99; .* the seeds 0 to 4"),
        ((TASK, SOLVER, -1), "seed is -1"),
        (("NoTask", SOLVER), "NoTask"),
        (("AntVel-n100-k1-v0", SOLVER), "no row of this task has policies"),
    ],
)
def test_what_is_not_there_is_named(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_policies(*arguments)


def test_nothing_is_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(policies, "SUBMISSIONS", tmp_path)
    monkeypatch.setattr(policies, "_fetch", fail)
    with pytest.raises(ValueError, match="fetch_to=FOLDER to fetch .* MB from https://"):
        load_policies(TASK, SOLVER)


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a row, at an address."""
    folder = tmp_path / "forge" / ROW
    shutil.copytree(SUBMISSIONS / ROW, folder)
    monkeypatch.setattr(policies, "_address", lambda place: (tmp_path / "forge" / place).as_uri())
    return folder


@needs_submissions
def test_a_row_is_fetched_once_and_checked(tmp_path: Path, forge: Path) -> None:
    out = tmp_path / "own"
    first = load_policies(TASK, SOLVER, fetch_to=out)
    assert {path.name for path in (out / ROW).iterdir()} == {path.name for path in forge.iterdir()}
    shutil.rmtree(forge)  # a second time nothing is asked of it
    second = load_policies(TASK, SOLVER, fetch_to=out)
    np.testing.assert_array_equal(first.assignment, second.assignment)
    (out / ROW / "arrays.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot fetch"):
        load_policies(TASK, SOLVER, fetch_to=out)


def test_an_answer_that_ends_too_early_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise http.client.IncompleteRead(b"some")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    entry = {"sha256": "0", "bytes": 9}
    with pytest.raises(ValueError, match=r"cannot fetch https://.*/a%20b/c%23d/e%3Ff: Incomplete"):
        policies._fetch(Path("a b", "c#d"), tmp_path, {"e?f": entry})
    assert list(tmp_path.iterdir()) == []


@needs_submissions
@pytest.mark.parametrize("longer", [False, True])
def test_other_bytes_are_refused_and_not_kept(tmp_path: Path, forge: Path, longer: bool) -> None:
    path = forge / "policies.zip"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data) + b"more" * longer)
    with pytest.raises(ValueError, match=r"policies\.zip is not the file of this version's index"):
        load_policies(TASK, SOLVER, fetch_to=tmp_path / "own")
    assert not (tmp_path / "own" / ROW / "policies.zip").exists()
