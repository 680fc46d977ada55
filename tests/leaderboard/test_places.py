"""In which order rows stand."""

from __future__ import annotations

from unittest.mock import Mock

from rmdp_bench.leaderboard import Entry


def test_what_was_measured_ranks_and_a_claim_does_not() -> None:
    """Nor where nothing was measured of a claim, or less than nothing."""
    scores = [(90.0, None), (5.0, -1.0), (80.0, 0.0), (1.0, 2.0), (95.0, None)]
    rows = [Entry("a", Mock(), claimed, score=score) for claimed, score in scores]
    claims = [entry.claimed for entry in sorted(rows, key=lambda entry: entry.place)]
    assert claims == [1.0, 80.0, 5.0, 95.0, 90.0]
