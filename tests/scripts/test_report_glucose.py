"""What the glucose page shows of stored runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.runs import make_request, read_result, run
from scripts import glucose_blocks, record_controller_curve, report_glucose

TASK = "Glucose-n100-k1-v0"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four controllers on everybody, an episode each."""
    out = tmp_path_factory.mktemp("runs")
    settings = ["n_points=2"]
    request = make_request(
        *("basal_bolus", TASK),
        seeds=[0],
        out=out,
        transitions=345_600,
        n_episodes=1,
        settings=settings,
    )
    run(request)
    return out


def stored(runs: Path) -> Any:
    (path,) = runs.rglob("result.json")
    return read_result(path)


def test_numbers_and_pictures_are_those_of_the_runs(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "glucose.json"
    report_glucose.main(
        [str(runs), "--out", str(out), "--figures", str(tmp_path)]
        + ["--solver", "basal_bolus", "--representatives", "1"]
    )
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]
    risks = np.sort(report_glucose.risks_of(stored(runs)))
    assert row["mean_risk"] == [pytest.approx(risks.mean())]
    assert row["worst_tenth"] == [pytest.approx(risks[-10:].mean())]
    assert row["worst_patient"] == [pytest.approx(risks[-1])]
    assert row["transitions_counted"] == [345_600]
    assert row["measures"][0].keys() >= {"time_in_range", "time_below_range"}
    for name in glucose_blocks.PICTURES:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(glucose_blocks, "GLUCOSE_FILE", out)
    assert f"| `basal_bolus` | {risks.mean():.2f} |" in glucose_blocks.glucose_curve()
    assert f"| `basal_bolus` | {risks[-10:].mean():.2f} |" in glucose_blocks.glucose_worst()
    assert "no stored run made more than 345,600." in glucose_blocks.glucose_budget()


def test_records_in_percent_are_turned_back(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, plain = stored(runs), report_glucose.risks_of(stored(runs))
    monkeypatch.setattr(report_glucose, "single_and_own", lambda env_id: (-8_640.0, -2_592.0))
    percent = 100.0 * (plain * -864.0 + 8_640.0) / (8_640.0 - 2_592.0)
    newer = result.model_copy(update={"agent_returns": percent.tolist()})
    np.testing.assert_allclose(report_glucose.risks_of(newer), plain)
    with pytest.raises(ValueError, match="the run is older than the references"):
        report_glucose.risks_of(result)


def test_the_page_says_who_beats_the_tuned_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(solver: str, k: int, *risks: float) -> dict[str, Any]:
        names = ("mean_risk", "worst_tenth", "worst_patient")
        numbers = dict.fromkeys(names, risks) | {"seeds": list(range(len(risks)))}
        return {"solver": solver, "n_representatives": k, **numbers}

    rows = [
        *(row("basal_bolus", 3, 9.0, 9.5), row("basal_bolus", 5, 7.0)),
        *(row("em", 3, 6.0, 7.0), row("clustering", 3, 8.0), row("em", 5, 7.5)),
        row("constant_basal", 3, 1.0),
    ]
    monkeypatch.setattr(glucose_blocks, "GLUCOSE_FILE", tmp_path / "glucose.json")
    assert glucose_blocks.glucose_curve() == glucose_blocks.glucose_worst() == ""
    (tmp_path / "glucose.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    text = glucose_blocks.glucose_curve()
    assert "At k = 3 every seed of `em` and `clustering` has less risk than any of the " in text
    assert "tuned groups: means of 6.50 to 8.00 against 9.25. At k = 5 no learned" in text
    assert "no learned solver is ahead of the tuned groups with every seed." in text
    assert "| `em` | 6.50 ± 0.50 | 7.50 |" in text
    assert "Means over 1 and 2 seeds" in text


def test_sections_without_pictures_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glucose_blocks, "FIGURES", tmp_path)
    assert glucose_blocks.glucose_pictures() == ""
    (tmp_path / "glucose-groups.png").touch()
    heading, picture, about = glucose_blocks.glucose_pictures().split("\n\n")
    assert heading == "## Who is served by whom" and "needs" in about
    assert picture.startswith("![") and "glucose-groups.png" in picture


def test_the_curve_of_controllers_is_measured_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "controllers.json"
    few = ["--agents", "3", "--points", "2", "--tuned", "1", "--judged", "1"]
    places = ["--out", str(out), "--figures", str(tmp_path)]
    record_controller_curve.main([*few, *places])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["command"].endswith("_curve --agents 3 --points 2 --tuned 1 --judged 1")
    assert [row["k"] for row in record["rows"]] == [1, 2, 3]
    assert (tmp_path / "glucose-controllers.png").read_bytes().startswith(b"\x89PNG")
    risks = record["rows"][0]["mean_risk"], record["rows"][0]["worst_tenth"]
    assert 0.0 < risks[0] <= risks[1] <= report_glucose.MAX_RISK
    monkeypatch.setattr(glucose_blocks, "CONTROLLERS_CURVE", out)
    shown = glucose_blocks.glucose_controllers()
    assert f"| 1 | {risks[0]:.2f} | {risks[1]:.1f} |" in shown
    assert "of 4 controllers the k that serve 3 patients best" in shown


def test_who_stands_for_a_group() -> None:
    """The one in the middle, by risk; a policy that nobody has, nobody."""
    assignment = np.eye(3)[[0, 0, 0, 1]]
    assert report_glucose.of_each_group(assignment, np.array([5.0, 1.0, 3.0, 2.0])) == [2, 3]
