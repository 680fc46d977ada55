"""Costs and curves: only the submitter can know them, but clocks and tasks bound them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.runs.curve import CURVE_COLUMNS, parse_curve, read_curve, write_curve
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import RowFiles
from tests.helpers.hostile_toys import CURVE, RESULT, field, put
from tests.helpers.submission_toys import ROW, copy_of, edit_json

HEADER = ",".join(CURVE_COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"train_seconds": 0}, "train_seconds"),
        ({"train_seconds": 1e-12, "wall_seconds": 2e-12}, "wall_seconds"),
        ({"train_seconds": 1e-10}, "train_seconds"),
        ({"train_seconds": 2e-6}, "train_seconds"),
        ({"wall_seconds": 9e8}, "wall_seconds"),
        ({"peak_memory_mib": 1e-12}, "peak_memory_mib"),
        ({"peak_memory_mib": 1e12}, "peak_memory_mib"),
        ({"peak_device_memory_mib": 0.0}, "peak_device_memory_mib"),
        ({"energy_joules": 1e300}, "energy_joules"),
        ({"energy_joules": 1e-300}, "energy_joules"),
        ({"seeds_together": 10**15}, "seeds_together"),
    ],
)
def test_impossible_costs(
    changes: dict[str, Any], name: str, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    field(transitions_reported=10_000, **changes)(folder)
    with pytest.raises(ValueError, match=rf"records.json, seed 0: {name} is \S+, expected"):
        check_submission(folder)


def test_possible_costs(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    for changes in (
        {"wall_seconds": 30 * 86_400.0, "train_seconds": 29 * 86_400.0},
        {"wall_seconds": 1.0, "train_seconds": 0.01, "transitions_reported": 0},
        {"peak_memory_mib": 30.0, "peak_device_memory_mib": 80_000.0, "energy_joules": 5e2},
        {"seeds_together": 100},
    ):
        field(**changes)(folder)
        check_submission(folder)


def with_curve(folder: Path, rows: str) -> None:
    edit_json(folder / RESULT, curve="curve.csv", wall_seconds=100.0)
    put(CURVE, HEADER + rows)(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,1.0,1e308,\n", "social_welfare in .*curve.csv: 1e.308 at .*expected 0.0 to 100.0"),
        ("1,1.0,,100.1\n", "train_social_welfare in .*expected -1000000.0 to 100.0"),
        ("1,1.0,,-1e7\n", "train_social_welfare in .*expected -1000000.0 to 100.0"),
        ("1,1.0,-1.0,\n", "social_welfare in .*expected 0.0 to 100.0"),
        ("10001,1.0,1.0,\n", "transitions in .*expected 0.0 to 10000.0"),
        ("1,100.5,1.0,\n", "wall_seconds in .*expected 0.0 to 100.0"),
        ("1,-1.0,1.0,\n", "wall_seconds in"),
        ("1,1.0,1.0,\n1,1.0,1.0,\n", "line 3: transitions do not grow"),
        ("1,1.0,1.0,\x0b2,1.0,1.0,\n", "line 2: .* is not a row"),
        ("1,1.0,1.0,\u00852,1.0,1.0,\n", "line 2: .* is not a row"),
        ("1,1.0,1.0,\u20282,1.0,1.0,\n", "line 2: .* is not a row"),
        ("1,1.0,1.0,\r2,1.0,1.0,\n", "line 2: .* is not a row"),
        ("1,1.0,1.0,\n\n", "line 3: .* is not a row"),
        ("\u0661,1.0,1.0,\n", "line 2: .* is not a row"),
        ("1,1.0,1e999,\n", "social_welfare in"),
        ("1,1.0,nan,\n", "line 2: .* is not a row"),
        ('"1",1.0,1.0,\n', "line 2: .* is not a row"),
    ],
)
def test_impossible_curves(
    rows: str, message: str, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    with_curve(folder, rows)
    with pytest.raises(ValueError, match=message):
        check_submission(folder)


def test_training_may_cost_more_than_it_gives(honest_submission: Path, tmp_path: Path) -> None:
    """No agent of the task gets less than nothing, but a solver may train on other rewards."""
    folder = copy_of(honest_submission, tmp_path)
    with_curve(folder, "1,1.0,0.0,-350.5\n2,2.0,1.0,-0.1\n")
    check_submission(folder)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_curves_are_read_as_they_are_written(
    end: str, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    path = tmp_path / "curve.csv"
    written = [
        dict(zip(CURVE_COLUMNS, (transitions, 2.5, welfare, None), strict=True))
        for transitions, welfare in ((0, None), (5_000, 12.25), (10_000, 1e-7))
    ]
    write_curve(path, written)
    path.write_text(path.read_text().replace("\n", end), newline="")
    header = HEADER.replace("\n", end)
    with_curve(folder, path.read_bytes().decode().removeprefix(header))
    check_submission(folder)
    curve = read_curve(path)
    assert curve["transitions"] == [0.0, 5_000.0, 10_000.0]
    np.testing.assert_equal(curve["social_welfare"], [np.nan, 12.25, 1e-7])
    np.testing.assert_equal(curve["train_social_welfare"], [np.nan] * 3)


@pytest.mark.parametrize(
    "separator", [*map(chr, range(0x20)), "\x85", "\u2028", "\u2029", "\ufeff"]
)
def test_what_is_accepted_is_read_by_all(
    separator: str, honest_submission: Path, tmp_path: Path
) -> None:
    """The page reads curves with the parser that checks them."""
    folder = copy_of(honest_submission, tmp_path)
    with_curve(folder, f"1,1.0,1.0,{separator}\n2,1.0,1.0,\n")

    def accepted(read: Callable[[], object]) -> bool:
        try:
            read()
        except ValueError:
            return False
        return True

    row = RowFiles(folder / ROW)
    text = row.curve(0) or ""
    (tmp_path / "curve.csv").write_bytes(text.encode())
    outcomes = {
        accepted(lambda: check_submission(folder)),
        accepted(lambda: read_curve(tmp_path / "curve.csv")),
        accepted(lambda: parse_curve(text, "text")),
    }
    assert outcomes == {separator == "\r"}
