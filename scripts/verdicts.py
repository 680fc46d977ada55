"""Whether seeds tell two things apart: one rule for every comparison that a document makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
SAME = 2.0
"""Percent of a perfect episode, or points offline, up to which two means count as the same."""


class Verdict(StrEnum):
    """What the seeds say of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_SEPARATED = "not separated"
    NOT_TESTED = "not tested yet"


class Region(NamedTuple):
    """Where a claim says that a difference is: above `low` and below `high`."""

    low: float
    high: float


GREATER = Region(0.0, math.inf)
LESS = Region(-math.inf, 0.0)
AS_GREAT = Region(-SAME, math.inf)
THE_SAME = Region(-SAME, SAME)


def difference_interval(
    first: Sequence[float], second: Sequence[float] | float
) -> tuple[float, float] | None:
    """Welch's interval of the difference of two means, 95 %.

    Args:
        first: a score of each seed.
        second: the same, or a number that is known.

    Returns:
        Its ends; None where either has fewer than two seeds, which say nothing of their spread.
        Seeds that are all equal have none, and an interval without width.
    """
    means, variances, freedoms = [], [], []
    for scores in (first, second):
        known = isinstance(scores, int | float)
        values = np.atleast_1d(np.asarray(scores, np.float64))
        if len(values) < 2 and not known:
            return None
        means.append(values.mean())
        variances.append(0.0 if known else values.var(ddof=1) / len(values))
        freedoms.append(max(len(values) - 1, 1))
    difference, variance = means[0] - means[1], sum(variances)
    if variance == 0.0:
        return float(difference), float(difference)
    shares = sum(own**2 / freedom for own, freedom in zip(variances, freedoms, strict=True))
    width = math.sqrt(variance) * stats.t.ppf(0.5 + CONFIDENCE / 2, variance**2 / shares)
    return float(difference - width), float(difference + width)


def judge(
    first: Sequence[float], second: Sequence[float] | float, region: Region = GREATER
) -> Verdict:
    """Judge the claim that the mean of `first` minus that of `second` is in a region.

    It holds if the whole interval of the difference is in the region, and fails if all of it is
    outside; otherwise the seeds do not separate the two.
    """
    interval = difference_interval(first, second)
    if interval is None:
        return Verdict.NOT_TESTED
    low, high = interval
    if region.low < low and high < region.high:
        return Verdict.HOLDS
    if high <= region.low or low >= region.high:
        return Verdict.FAILS
    return Verdict.NOT_SEPARATED
