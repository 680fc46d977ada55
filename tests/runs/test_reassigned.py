"""Welfare as trained and reassigned, in records, summaries and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.leaderboard.columns import SCORES, score_cells
from rmdp_bench.runs.records import Result, make_result
from rmdp_bench.runs.summary import summarise_group
from rmdp_bench.submission.rows import RowFiles
from tests.helpers.checkout import NO_SUBMISSIONS, SUBMISSIONS

SUBMISSION = SUBMISSIONS / "reference"
STORED = [
    (RowFiles(path.parent), seed)
    for path in sorted(SUBMISSION.rglob("clustering/records.json"))
    for seed in range(3)
]
ASIDE = Path("result.json")


@pytest.fixture
def document() -> dict[str, Any]:
    """A stored record in which agents do not have their best policies."""
    if not STORED:
        pytest.skip(NO_SUBMISSIONS)
    documents = [row.seeds[seed].record for row, seed in STORED]
    found: dict[str, Any] = max(documents, key=lambda each: each["assignment_regret"])
    assert found["assignment_regret"] > 1.0
    return found


@pytest.mark.parametrize(
    ("row", "seed"), STORED, ids=[f"{row.folder.parent.name}-{seed}" for row, seed in STORED]
)
def test_an_older_record_has_what_its_welfare_matrix_gives(row: RowFiles, seed: int) -> None:
    old = dict(row.seeds[seed].record)
    old.pop("reassigned_welfare", None)
    expected = row.array(seed, "welfare_matrix", (None, None)).max(axis=1).mean()
    assert make_result(old, row.record_name(seed)).reassigned_welfare == pytest.approx(expected)


def test_a_record_keeps_what_it_says_and_may_not_contradict_itself(document: Any) -> None:
    own = document["social_welfare"] + document["assignment_regret"]
    result = make_result(document | {"reassigned_welfare": own}, ASIDE)
    assert result.reassigned_welfare == own
    assert make_result(result.model_dump(mode="json"), ASIDE) == result
    for wrong in (own + 1.0, document["social_welfare"]):
        with pytest.raises(ValueError, match="reassigned_welfare"):
            make_result(document | {"reassigned_welfare": wrong}, ASIDE)


def test_tables_show_both(document: Any) -> None:
    result: Result = make_result(document, ASIDE)
    summary = summarise_group("", [result])
    cells = dict(zip(SCORES["online"], score_cells(summary), strict=True))
    assert float(cells["welfare"]) == pytest.approx(result.social_welfare, abs=0.006)
    assert float(cells["reassigned"]) == pytest.approx(result.reassigned_welfare, abs=0.006)
    assert summary.to_dict()["reassigned_welfare"] == result.reassigned_welfare
