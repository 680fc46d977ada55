"""What the ablation of the learner counts and stores."""

from __future__ import annotations

from pathlib import Path

from rmdp_bench.files import read_json
from scripts.learner_ablation import EARLIER, VARIANTS, count_falls, store

ROOT = Path(__file__).parents[1]
TASK = "HalfCheetahVel-n100-k5-v0"


def test_falls_are_counted() -> None:
    assert count_falls([10.0, 8.0, 8.5, 6.6, 20.0, 17.9]) == 2
    assert count_falls([5.0]) == 0


def test_stored_variants_are_those_of_the_script() -> None:
    stored = read_json(ROOT / "benchmarks/results/learner_ablation.json")[TASK]
    assert {*stored["variants"]} <= {*EARLIER, *VARIANTS}


def test_variants_are_stored_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    for name, value in (("mass", 1), ("floor", 2), ("mass", 3)):
        store(path, TASK, 100, name, {"seeds": [value]})
    store(path, "another", 100, "mass", {"seeds": [4]})
    document = read_json(path)
    assert document[TASK]["variants"] == {"mass": {"seeds": [3]}, "floor": {"seeds": [2]}}
    assert [*document] == [TASK, "another"] and document[TASK]["transitions"] == 100
