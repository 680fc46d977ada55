"""What is said of the variants of an ablation, and how it is stored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rmdp_bench.files import read_json
from rmdp_bench.runs import make_request, run
from rmdp_bench.sweep import make_jobs, read_plan
from rmdp_bench.sweep.jobs import write_plan
from scripts import ablation
from tests.helpers.checkout import TOY_OFFLINE_SOLVER, TOY_SOLVER

TASK, OFFLINE = "ResourceGathering-n25-k3-v0", "CartPoleHet-n500-pure-v1"


def test_falls_are_counted() -> None:
    assert ablation.count_falls([10.0, 8.0, 8.5, 6.6, 20.0, 17.9]) == 2
    assert ablation.count_falls([5.0]) == 0


def test_variants_are_stored_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    for name, value in (("mass", 1), ("floor", 2), ("mass", 3)):
        ablation.store(path, {"task": TASK, "transitions": value}, name, {"seeds": [value]})
    document = read_json(path)
    assert document["variants"] == {"mass": {"seeds": [3]}, "floor": {"seeds": [2]}}
    assert document["transitions"] == 3


@pytest.mark.parametrize("task_id", [TASK, OFFLINE])
def test_rows_are_printed_and_stored(
    task_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With solvers that take no time."""
    toy = TOY_OFFLINE_SOLVER if task_id == OFFLINE else TOY_SOLVER
    row = f'solvers = "{toy}"\ntasks = "{task_id}"\nseeds = "0:2"\nepisodes = 2\n'
    Path("plan.toml").write_text(
        f'{row}[[runs]]\nfolder = "some"\n[[runs]]\nfolder = "left"\n', encoding="utf-8"
    )
    jobs = make_jobs(read_plan(Path("plan.toml")))
    write_plan(Path("out"), "plan", {}, jobs)
    for job in jobs:
        if job.folder.startswith("some/"):
            out = Path("out") / job.folder
            run(make_request(str(toy), task_id, seeds=job.seeds, out=out, n_episodes=2))
    monkeypatch.setattr(sys, "argv", ["ablation", "out", "--store", "out.json"])
    ablation.main()
    header, _, printed = capsys.readouterr().out.splitlines()[-3:]
    assert printed.startswith("| some | ")
    assert printed.count("|") == header.count("|")
    stored = read_json(Path("out.json"))
    assert stored["task"] == task_id
    assert stored["command"] == "rmdp-bench sweep benchmarks/plans/plan.toml"
    assert stored["variants"]["some"]["seeds"] == [0, 1] and len(stored["variants"]) == 1
    for words, message in [
        (["out", "--variants", "roof"], "no variant roof, expected some of some, left"),
        (["out", "--variants", "left"], "no variant in out has a finished run"),
        (["elsewhere"], "elsewhere is not the folder of a sweep"),
    ]:
        monkeypatch.setattr(sys, "argv", ["ablation", *words])
        with pytest.raises(SystemExit, match="2"):
            ablation.main()
        assert message in capsys.readouterr().err
