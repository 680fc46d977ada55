"""The rule by which documents say that one thing is ahead of another."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scripts.verdicts import (
    AS_GREAT,
    GREATER,
    LESS,
    THE_SAME,
    Region,
    Verdict,
    difference_interval,
    judge,
)

LOW, NEAR, HIGH = [10.0, 11.0, 12.0], [10.5, 11.5, 12.5], [30.0, 31.0, 32.0]


@pytest.mark.parametrize(
    ("first", "second", "region", "expected"),
    [
        (HIGH, LOW, GREATER, Verdict.HOLDS),
        (LOW, HIGH, GREATER, Verdict.FAILS),
        (LOW, HIGH, LESS, Verdict.HOLDS),
        (NEAR, LOW, GREATER, Verdict.NOT_SEPARATED),
        (HIGH, [12.0, 31.0, 50.0], AS_GREAT, Verdict.NOT_SEPARATED),  # their spread decides
        (HIGH, 25.0, GREATER, Verdict.HOLDS),
        (HIGH, 31.5, GREATER, Verdict.NOT_SEPARATED),
        (HIGH, 40, GREATER, Verdict.FAILS),
        (NEAR, LOW, THE_SAME, Verdict.NOT_SEPARATED),
        (np.add(NEAR, 0.01).tolist(), NEAR, Region(-3.0, 3.0), Verdict.HOLDS),
        (HIGH, LOW, THE_SAME, Verdict.FAILS),
        ([10.0, 10.1, 10.2], [10.1, 10.2, 10.3], THE_SAME, Verdict.HOLDS),
        ([74.0, 74.0, 74.0], [74.0, 74.0], GREATER, Verdict.FAILS),
        ([74.0, 74.0, 74.0], [74.0, 74.0], THE_SAME, Verdict.HOLDS),
        ([10.0], LOW, GREATER, Verdict.NOT_TESTED),
        (LOW, [], GREATER, Verdict.NOT_TESTED),
    ],
)
def test_the_interval_decides(
    first: list[float], second: list[float] | float, region: Region, expected: Verdict
) -> None:
    assert judge(first, second, region) is expected


def test_the_interval_is_that_of_welch() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(3.0, 1.0, 5).tolist(), generator.normal(0.0, 4.0, 3).tolist()
    known = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert difference_interval(first, second) == pytest.approx((known.low, known.high))
    alone = stats.ttest_1samp(first, 1.0).confidence_interval(0.95)
    assert difference_interval(first, 1.0) == pytest.approx((alone.low - 1.0, alone.high - 1.0))
    assert difference_interval(second, first) == pytest.approx((-known.high, -known.low))
