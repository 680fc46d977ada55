"""Which variants the ablations have, what is said of them, and how it is stored."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from rmdp_bench.files import read_json
from rmdp_bench.runs import load_solver, make_config
from rmdp_bench.tasks import get_offline_task, get_task
from scripts import ablation
from tests.helpers.checkout import ROOT, TOY_OFFLINE_SOLVER

RESULTS = ROOT / "benchmarks/results"
TASKS = ["HalfCheetahVel-n100-k5-v0", "ResourceGathering-n25-k3-v0"]
OFFLINE = get_offline_task("CartPoleHet-n500-pure-v1")


@pytest.mark.parametrize("task_id", TASKS)
def test_every_part_of_em_plus_is_switched_once(task_id: str) -> None:
    task = get_task(task_id)
    variants = ablation.em_plus_variants(task, "em_plus", [])
    default = make_config(load_solver("em_plus"), task)
    assert list(variants)[:3] == ["em", "default", "none"] and variants["em"] == []
    for part in ablation.PARTS:  # one of both is the default, and not worth a run
        (name,) = {f"without-{part}", f"with-{part}"} & set(variants)
        config = make_config(load_solver("em_plus"), task, variants[name])
        changed = [f for f, value in vars(config).items() if value != getattr(default, f)]
        assert changed == [ablation.PARTS[part][0]]
        assert f"only-{part}" not in variants or len(variants[f"only-{part}"]) == 5
    assert not any(name.startswith("only") for name in ablation.learner_variants(task, "em", []))


def test_fewer_agents_make_as_many_updates_if_wanted() -> None:
    solver, whole = load_solver("persim"), make_config(load_solver("persim"), OFFLINE)
    fewer = ablation.agents_variants(OFFLINE, "persim", ["rank=4"])
    equal = ablation.equal_updates_variants(OFFLINE, "persim", ["rank=4"])
    assert set(fewer) == set(equal) == {"25", "50", "100", "250", "500"}
    own, more = (make_config(solver, OFFLINE, variants["50"]) for variants in (fewer, equal))
    assert own == dataclasses.replace(whole, n_agents=50, rank=4)
    assert more == dataclasses.replace(own, n_epochs=3000, halving_epochs=1500)
    with pytest.raises(ValueError, match="equal updates are for solvers with n_epochs"):
        ablation.equal_updates_variants(OFFLINE, "cadm", [])


def test_falls_are_counted() -> None:
    assert ablation.count_falls([10.0, 8.0, 8.5, 6.6, 20.0, 17.9]) == 2
    assert ablation.count_falls([5.0]) == 0


@pytest.mark.parametrize("kind", list(ablation.ABLATIONS))
def test_stored_variants_are_those_of_the_script(kind: str) -> None:
    first, _, rest = kind.partition("agents")
    name = f"agents_ablation{rest}" if not first else f"{kind}_ablation"
    stored = read_json(RESULTS / f"{name}.json")
    solver, make_variants = ablation.ABLATIONS[kind]
    assert {*stored["variants"]} <= {*make_variants(get_task(stored["task"]), solver, [])}
    for command in stored.get("commands") or [stored["command"]]:
        assert command.startswith(f"python -m scripts.ablation {kind} {stored['task']} ")


def test_variants_are_stored_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    for name, value in (("mass", 1), ("floor", 2), ("mass", 3)):
        ablation.store(path, {"task": TASKS[0], "transitions": value}, name, {"seeds": [value]})
    document = read_json(path)
    assert document["variants"] == {"mass": {"seeds": [3]}, "floor": {"seeds": [2]}}
    assert document["transitions"] == 3


@pytest.mark.parametrize("task_id", [TASKS[1], OFFLINE.id])
def test_rows_are_printed_and_stored(
    task_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With solvers that take no time."""
    toy = str(TOY_OFFLINE_SOLVER)
    learner = ["learner", task_id, "--transitions", "4096", "--variants", "floor"]
    fewer = ["agents", task_id, "--solver", toy, "--variants", "25"]
    monkeypatch.setattr(ablation, "agents_variants", lambda *_: {"25": []})
    monkeypatch.setitem(ablation.ABLATIONS, "agents", ("persim", lambda *_: {"25": []}))
    arguments = fewer if task_id == OFFLINE.id else learner
    arguments += ["--seeds", "0:2", "--episodes", "2", "--store", "out.json"]
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
    ablation.main()
    header, _, row = capsys.readouterr().out.splitlines()[-3:]
    assert row.startswith(f"| {arguments[arguments.index('--variants') + 1]} | ")
    assert row.count("|") == header.count("|")
    stored = read_json(Path("out.json"))
    assert stored["task"] == task_id and stored["command"].endswith("--store out.json")
    ((_, own),) = stored["variants"].items()
    assert own["seeds"] == [0, 1]


def test_a_variant_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation", "learner", TASKS[0], "--variants", "roof"])
    with pytest.raises(SystemExit, match="2"):
        ablation.main()
    assert "no variant roof, expected some of before, mass, default" in capsys.readouterr().err
