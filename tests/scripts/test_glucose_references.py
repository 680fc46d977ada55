"""The script that measures what counts as 0 and as 100 in the glucose world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rmdp_bench import references
from scripts import record_glucose_references

GLUCOSE = "rmdp/Glucose-n100-v0"
SMALL = ["--agents", "1", "--episodes", "1", "--copies", "16"]


def test_only_all_patients_are_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the package; what fewer give is kept where a file is named."""
    script, package = record_glucose_references, tmp_path / "package.json"
    package.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(script, "HETEROGENEOUS_FILE", package)
    monkeypatch.setattr(script, "measure_single", lambda *given: None)
    monkeypatch.setattr(script, "roll_out_pairs", lambda *given, **named: None)
    monkeypatch.setattr(script, "describe", lambda rollout: {"return": -1.0})
    script.main(["single", "--agents", "99"])
    assert "not recorded: 99 of 100 patients" in capsys.readouterr().out
    assert package.read_text(encoding="utf-8") == "{}"
    script.main(["single", "--agents", "99", "--out", str(tmp_path / "own.json")])
    script.main(["single"])
    for path in (package, tmp_path / "own.json"):
        assert json.loads(path.read_text(encoding="utf-8"))[GLUCOSE]["single"]["return"] == -1.0


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
        assert record["command"].endswith(" ".join(command[:-2]))  # without --out
        assert record["mean_risk"] == pytest.approx(-record["return"] / 864)
        shares = [record[f"time_{where}_range"] for where in ("in", "below", "above")]
        assert sum(shares) == pytest.approx(1.0)
        assert record["episodes_of_each_patient"] == 20
    assert written["own"]["patients_served_by_a_learned_policy"] in (0, 1)
