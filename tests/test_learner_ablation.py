"""What the page of the online solvers says about the learner follows from what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rmdp_bench.files import read_json
from scripts.learner_ablation import EARLIER, HEADER, VARIANTS, count_falls, format_row, store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "baselines/online/README.md").read_text(encoding="utf-8")
TASK = "HalfCheetahVel-n100-k5-v0"


def test_falls_are_counted() -> None:
    assert count_falls([10.0, 8.0, 8.5, 6.6, 20.0, 17.9]) == 2
    assert count_falls([5.0]) == 0


def test_table_on_the_page_is_the_stored_one() -> None:
    stored = read_json(ROOT / "benchmarks/results/learner_ablation.json")[TASK]
    rows = [format_row(name, row) for name, row in stored["variants"].items()]
    assert {*stored["variants"]} <= {*EARLIER, *VARIANTS}
    table = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|", *rows]
    assert "\n\n" + "\n".join(table) + "\n\n" in PAGE
    assert f"`{stored['command']}`" in PAGE


def test_falls_on_the_page_are_those_of_the_stored_curves() -> None:
    steps, falls, alone = 0, 0, 0
    for name in ("reference", "reference-outcome"):
        folder = ROOT / "leaderboards/submissions" / name / TASK / "em"
        for path in sorted(folder.glob("seed-*/curve.csv")):
            curve = np.genfromtxt(path, delimiter=",", names=True)
            fallen = np.diff(curve["social_welfare"]) <= -2.0
            steps, falls = steps + len(fallen), falls + int(fallen.sum())
            alone += int((fallen & (np.diff(curve["train_social_welfare"]) > -2.0)).sum())
    assert f"of the {steps} steps" in PAGE
    assert f"{falls} lose 2 % or more, but in {alone} of these" in PAGE


def test_variants_are_stored_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    for name, value in (("mass", 1), ("floor", 2), ("mass", 3)):
        store(path, TASK, 100, name, {"seeds": [value]})
    store(path, "another", 100, "mass", {"seeds": [4]})
    document = read_json(path)
    assert document[TASK]["variants"] == {"mass": {"seeds": [3]}, "floor": {"seeds": [2]}}
    assert [*document] == [TASK, "another"] and document[TASK]["transitions"] == 100
