"""The script that measures what counts as 0 and as 100 in the glucose world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rmdp_bench import references
from scripts import record_glucose_references

GLUCOSE = "rmdp/Glucose-n100-v0"
SMALL = ["--agents", "1", "--episodes", "1", "--copies", "16"]


def test_both_references_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their commands; tasks have percent when both are known, not before."""
    out = tmp_path / "references.json"
    monkeypatch.setattr(references, "HETEROGENEOUS_FILE", out)

    def known() -> tuple[float, float] | None:
        references._read_heterogeneous.cache_clear()
        return references.single_and_own(GLUCOSE)

    try:
        own = ["own", "--own-transitions", "1536", "--points", "2", *SMALL, "--out", str(out)]
        record_glucose_references.main(own)
        assert known() is None
        single = ["single", "--transitions", "12000", "--seeds", "1", *SMALL, "--out", str(out)]
        record_glucose_references.main(single)
        written = json.loads(out.read_text(encoding="utf-8"))[GLUCOSE]
        assert written.keys() == {"own", "single"}
        assert known() == (written["single"]["return"], written["own"]["return"])
    finally:
        references._read_heterogeneous.cache_clear()
    for name, command in (("own", own), ("single", single)):
        record = written[name]
        assert record["command"].endswith(" ".join(command))
        assert record["mean_risk"] == pytest.approx(-record["return"] / 864)
        shares = [record[f"time_{where}_range"] for where in ("in", "below", "above")]
        assert sum(shares) == pytest.approx(1.0)
        assert record["episodes_of_each_patient"] == 20
    assert written["own"]["patients_served_by_a_learned_policy"] in (0, 1)
