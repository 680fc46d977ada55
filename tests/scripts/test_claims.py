"""The claims of the papers: which rows are compared, and that rows which arrive are found."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rmdp_bench.runs import SOLVERS
from rmdp_bench.tasks import get_task
from scripts import claims, reproduction
from scripts.claims import CORRECTIONS, MEASURES, PERSIM, REPRESENTED, Comparison, Evidence, Side
from scripts.verdicts import Verdict

TASK = "HalfCheetahVel-n100-k5-v0"
EM_AHEAD = Comparison(TASK, Side("em"), Side("clustering"))


def row(
    submission: str, solver: str, scores: list[float], transitions: int = 2_000_000, **config: Any
) -> Any:
    """As much of a row as a comparison reads."""
    return SimpleNamespace(
        submission=SimpleNamespace(name=submission),
        solver=solver,
        task=get_task(TASK),
        summary=SimpleNamespace(task=TASK, transitions=transitions),
        results=[SimpleNamespace(config=config) for _ in scores],
        seed_scores=scores,
    )


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Any:
    def find_among(*rows: Any, comparison: Comparison = EM_AHEAD) -> Evidence:
        monkeypatch.setattr(claims, "suite_rows", lambda: rows)
        claims.find_evidence.cache_clear()
        return claims.find_evidence(comparison)

    yield find_among
    claims.find_evidence.cache_clear()


def test_every_claim_names_what_exists() -> None:
    written = [each for claim in (*REPRESENTED, *PERSIM) for each in claim.comparisons]
    for comparison in (*written, *CORRECTIONS):
        get_task(comparison.task)
        assert comparison.measure in MEASURES and comparison.region.low < comparison.region.high
        for side in (comparison.first, comparison.second):
            assert not isinstance(side, Side) or side.solver in SOLVERS
    assert len({claim.name for claim in (*REPRESENTED, *PERSIM)}) == len(REPRESENTED + PERSIM)


def test_a_comparison_is_made_when_its_rows_arrive(find: Any) -> None:
    em, clustering = row("one", "em", [30.0, 31.0, 32.0]), row("one", "clustering", [10.0, 11.0])
    assert find(em).verdict is Verdict.NOT_TESTED and find(em).sources == ()
    both = find(em, clustering)
    assert both.verdict is Verdict.HOLDS and both.sources == ("one",) and not both.is_against
    assert find(em, row("one", "clustering", [10.0])).verdict is Verdict.NOT_TESTED
    worse = find(em, row("one", "clustering", [60.0, 61.0]))
    assert worse.verdict is Verdict.FAILS and worse.is_against
    close = find(em, row("one", "clustering", [20.0, 50.0]))
    assert close.verdict is Verdict.NOT_SEPARATED and close.is_against


def test_rows_of_one_submission_and_one_budget_are_compared(find: Any) -> None:
    em, clustering = row("b", "em", [30.0, 31.0]), row("b", "clustering", [10.0, 11.0])
    more_seeds = row("a", "em", [50.0, 51.0, 52.0])
    assert find(more_seeds, em, clustering).scores == ([30.0, 31.0], [10.0, 11.0])
    assert find(more_seeds, clustering).sources == ("a", "b")
    short = row("b", "clustering", [10.0, 11.0], transitions=300_000)
    assert find(em, short).verdict is Verdict.NOT_TESTED
    assert find(row("b", "em", [1.0, 2.0], 300_000), short).sources == ("b (15 % of the budget)",)
    both = row("b", "em", [1.0, 2.0], 300_000), short
    assert find(*both, em, clustering).sources == ("b",)


def test_of_rows_that_are_alike_the_name_decides(find: Any) -> None:
    """Not their scores; a name is before longer ones, and what the others say is kept."""
    rows = [row(name, "em", [own, own + 0.1]) for name, own in (("b", 30.0), ("b-c", 50.0))]
    known = Comparison(TASK, Side("em"), 40.0)
    for given in (rows, rows[::-1]):
        found = find(*given, comparison=known)
        assert found.sources == ("b",) and found.verdict is Verdict.FAILS
        assert [(one.sources, one.verdict) for one in found.alike] == [(("b-c",), Verdict.HOLDS)]
    more = row("z", "em", [20.0, 20.1, 20.2])
    found = find(*rows, more, comparison=known)
    assert found.sources == ("z",) and found.alike == ()


def test_other_settings_are_another_method(find: Any) -> None:
    dense = row("a", "em", [50.0, 51.0], critic="agents", training_reward="dense")
    plain = row("a", "em", [30.0, 31.0], critic="agents")
    clustering = row("a", "clustering", [10.0, 11.0])
    assert find(dense, clustering).verdict is Verdict.NOT_TESTED
    gain = Comparison(TASK, Side("em", "training_reward=dense"), Side("em"))
    assert find(dense, plain, comparison=gain).scores == ([50.0, 51.0], [30.0, 31.0])


def test_networks_of_another_size_are_another_method(find: Any) -> None:
    """The planned rows with the networks of `universal` are not the dense reward's alone."""
    with open(claims.ROOT / "benchmarks" / "plans" / "papers.toml", "rb") as file:
        plan = tomllib.load(file)["runs"]
    (settings,) = (each["settings"] for each in plan if each["folder"] == "online-as-universal")
    planned = row("a", "em", [50.0, 51.0], **settings)
    plain = row("a", "em", [30.0, 31.0], hidden_size=64)
    variants = {side.variant for each in CORRECTIONS for side in sides(each)}
    assert claims.variant_of(planned) in variants - {""}
    assert "128" in claims.variant_of(planned) and "layers=2" in claims.variant_of(planned)
    assert claims.variant_of(plain) == ""
    alone = Comparison(TASK, Side("em", "training_reward=dense"), Side("em"))
    assert find(planned, plain, comparison=alone).verdict is Verdict.NOT_TESTED
    (gain,) = (
        each
        for each in CORRECTIONS
        if each.task == TASK
        and each.second == Side("em")
        and isinstance(each.first, Side)
        and "dense" in each.first.variant
    )
    assert find(planned, plain, comparison=gain).scores == ([50.0, 51.0], [30.0, 31.0])
    for width in (64, 128):
        assert claims.variant_of(row("a", "universal", [1.0], hidden_size=width)) == ""


def sides(comparison: Comparison) -> list[Side]:
    return [each for each in (comparison.first, comparison.second) if isinstance(each, Side)]


@pytest.mark.parametrize("setting", ["n_updates", "n_epochs"])
def test_offline_rows_with_more_training_come_first(find: Any, setting: str) -> None:
    """They have no transitions; names, planners and seeds come after."""
    own = {"transitions": 0, "n_sequences": 10}
    less = row("a", "em", [10.0, 11.0, 12.0], **own | {setting: 5_000, "n_sequences": 99})
    more = row("b", "em", [30.0, 31.0], **own | {setting: 20_000})
    known = Comparison(TASK, Side("em"), 0.0)
    for rows in ((less, more), (more, less)):
        assert find(*rows, comparison=known).scores[0] == [30.0, 31.0]


def test_a_gain_that_cannot_be_negative_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    gain = Comparison(TASK, Side("em"), 0.0, measure="gain of reassigning")
    known = {
        gain: Evidence(gain, ([3.0, 3.1, 3.2], 0.0)),
        EM_AHEAD: Evidence(EM_AHEAD, ([3.0, 3.1], [1.0, 1.1])),
    }
    monkeypatch.setattr(reproduction, "CORRECTIONS", (*known,))
    monkeypatch.setattr(reproduction, "find_evidence", known.__getitem__)
    *_, shown, other = reproduction.corrections().splitlines()
    assert "3.10 ± 0.06 (3) | 0 |  | not judged" in shown and "higher" not in shown
    assert "| higher |" in other


def test_ablations_of_the_data_with_equal_updates_count_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = get_task("CartPoleHet-n500-pure-v1")
    side = Side("persim", n_agents=25)

    def stored(kind: str, value: float, **own: Any) -> dict[str, Any]:
        returns = np.full((2, len(task.eval_agents)), value).tolist()  # type: ignore[union-attr]
        return {"command": kind, "task": task.id, "variants": {"25": {"returns": returns}}} | own

    monkeypatch.setattr(claims, "_ablations", lambda: [stored("agents", 100.0)])
    assert 0.0 < claims._scores_of_fewer(side, task.id)[0] < 99.0
    other = stored("agents", 100.0, solver="cql")
    monkeypatch.setattr(
        claims, "_ablations", lambda: [stored("agents_equal_updates", 200.0), other]
    )
    assert claims._scores_of_fewer(side, task.id) == pytest.approx([100.0, 100.0])
    assert claims._scores_of_fewer(Side("cql", n_agents=25), task.id)[0] < 99.0
    assert claims._scores_of_fewer(Side("cadm", n_agents=25), task.id) == []


def test_changes_of_group_are_counted_along_the_targets() -> None:
    targets = np.array([3.0, 0.0, 2.0, 1.0])
    assert claims.count_changes(np.array([1, 0, 1, 0]), targets) == 1
    assert claims.count_changes(np.array([0, 0, 1, 1]), targets) == 2
    assert claims.count_changes(np.zeros(4, int), targets) == 0


def test_a_claim_of_several_comparisons_says_how_many_hold() -> None:
    holds, fails, untested = Verdict.HOLDS, Verdict.FAILS, Verdict.NOT_TESTED
    assert reproduction.overall([holds, holds]) == "holds"
    mixed = "holds 2, fails 1, not tested yet 1"
    assert reproduction.overall([untested, holds, fails, holds]) == mixed


def test_an_explanation_stands_only_where_something_is_to_be_explained(
    find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claims.Claim("Figure 0", "em wins", (EM_AHEAD,), "for a reason")
    find(row("a", "em", [30.0, 31.0]), row("a", "clustering", [10.0, 11.0]))
    assert "holds" in reproduction._summary([claim])
    assert "for a reason" not in reproduction._summary([claim])
    find(row("a", "em", [30.0, 31.0]), row("a", "clustering", [60.0, 61.0]))
    assert "fails | for a reason" in reproduction._summary([claim])
