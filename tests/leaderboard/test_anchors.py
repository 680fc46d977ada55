"""What a board's rows are measured against beside the exact ceiling."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rmdp_bench.leaderboard import Table, build_tables
from rmdp_bench.leaderboard.anchors import find_anchors
from rmdp_bench.leaderboard.page import describe_task
from rmdp_bench.leaderboard.snapshot import read_anchors, write_snapshot
from rmdp_bench.tasks import get_task

TASK = "ResourceGathering-n25-k2-v0"


def row(
    matrices: list[np.ndarray],
    kind: str = "verified",
    task: str = TASK,
    score: float | None = None,
) -> Any:
    """As much of a row as the choice reads."""

    def array(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
        assert name == "welfare_matrix" and matrices[seed].shape == shape
        return matrices[seed]

    return SimpleNamespace(
        kind=kind,
        score=score,
        summary=SimpleNamespace(task=task),
        results=[SimpleNamespace(seed=seed) for seed in range(len(matrices))],
        files=SimpleNamespace(array=array, array_names=lambda seed: ["welfare_matrix"]),
    )


def serving(*columns: range) -> np.ndarray:
    """Welfare (25, 2): 80 for the agents of each column."""
    matrix = np.zeros((25, 2))
    for j, agents in enumerate(columns):
        matrix[list(agents), j] = 80.0
    return matrix


def test_policies_of_all_verified_rows_are_pooled(tmp_path: Path) -> None:
    one, other = row([serving(range(10), range(5))]), row([serving(range(3), range(10, 22))])
    alone, together = (find_anchors(rows, tmp_path)[TASK] for rows in ([one], [one, other]))
    assert alone == {"best known": pytest.approx(80.0 * 10 / 25)}
    assert together == {"best known": pytest.approx(80.0 * 22 / 25)}
    two_seeds = row([serving(range(10), range(5)), serving(range(3), range(10, 22))])
    assert find_anchors([two_seeds], tmp_path)[TASK] == together
    three = np.concatenate((serving(range(10), range(5)), serving(range(10, 25))[:, :1]), axis=1)
    of_another_budget = row([three], task="ResourceGathering-n25-k3-v0")
    assert find_anchors([one, of_another_budget], tmp_path)[TASK] == {"best known": 80.0}
    everything = np.full((25, 2), 99.0)
    claimed = row([everything], kind="reported"), row([everything - 200.0])
    with_others = find_anchors([one, other, *claimed], tmp_path)[TASK]
    assert with_others == {"best known": pytest.approx(80.0 * 22 / 25)}
    assert find_anchors([row([everything], task="CartPoleHet-n500-pure-v1")], tmp_path) == {}


def test_policies_that_some_agents_lose_by_count(tmp_path: Path) -> None:
    """A world's rewards may be negative: one such agent does not remove a whole row."""
    best, other = serving(range(10), range(10, 25)), serving(range(10), range(10))
    best[20:, 0] = -60.0  # of agents whom the other policy serves
    anchors = find_anchors([row([best]), row([other])], tmp_path)[TASK]
    assert anchors == {"best known": pytest.approx(80.0)}
    losing = serving(range(10), range(10))
    losing[10:] = -20.0
    anchors = find_anchors([row([losing])], tmp_path)[TASK]
    assert anchors == {"best known": pytest.approx((80.0 * 10 - 20.0 * 15) / 25)}


def test_the_choice_is_exact_however_much_an_agent_loses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pooled = rng.uniform(0.0, 100.0, (25, 24))
    pooled[rng.integers(25, size=12), rng.integers(24, size=12)] = -1e5
    rows = [row([matrix]) for matrix in pooled.reshape(25, 12, 2).swapaxes(0, 1)]
    best = max(pooled[:, pair].max(axis=1).mean() for pair in itertools.combinations(range(24), 2))
    found = find_anchors(rows, tmp_path)[TASK]["best known"]
    assert found == pytest.approx(best, rel=0, abs=1e-6)


def test_no_verified_row_is_above_the_best_known(tmp_path: Path) -> None:
    matrices, measured = [serving(range(10), range(10, 20))], 65.5  # on luckier episodes than 64
    assert find_anchors([row(matrices, score=63.0)], tmp_path)[TASK]["best known"] == 64.0
    assert find_anchors([row(matrices, score=measured)], tmp_path)[TASK]["best known"] == measured
    claimed = row(matrices, kind="recipe", score=99.0)
    assert find_anchors([row(matrices), claimed], tmp_path)[TASK]["best known"] == 64.0


def test_no_verified_row_of_the_suite_is_above_the_best_known() -> None:
    """If this fails: rmdp-bench leaderboard build, and commit what it wrote."""
    tables = [table for table in build_tables(None) if "best known" in table.anchors]
    assert len(tables) > 10
    for table in tables:
        own = [entry for entry in table.entries if entry.mark == "verified"]
        scores = [entry.score for entry in own if entry.score is not None]
        assert all(table.anchors["best known"] >= score for score in scores), table.task.id


def test_what_specialists_reach_is_there_when_it_was_measured(tmp_path: Path) -> None:
    assert find_anchors([], tmp_path) == {}
    path = tmp_path / "AntVel-n100-v0.json"
    path.write_text(json.dumps({"welfare": {"1": 7.0, "5": 30.0}}))
    assert find_anchors([], tmp_path) == {
        "AntVel-n100-k1-v0": {"reachable reference": 7.0},
        "AntVel-n100-k5-v0": {"reachable reference": 30.0},
    }


def test_anchors_are_stored_with_the_board_and_shown(tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    path, anchors = tmp_path / "stored.json.gz", {TASK: {"best known": 85.5}}
    write_snapshot([], tmp_path, path, anchors)
    assert read_anchors(path) == anchors
    write_snapshot([], tmp_path, path)
    assert read_anchors(path) == {}
    table = Table(get_task(TASK), [], anchors[TASK]).to_dict()
    assert table["anchors"] == anchors[TASK] and table["ceiling"] == 86.0
    assert describe_task(get_task(TASK), anchors[TASK])["anchors"] == anchors[TASK]
