"""The command line: what it prints, what it refuses, and how it stops."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmdp_bench import ENVIRONMENTS, plotting
from rmdp_bench.cli import main
from rmdp_bench.datasets import DATASETS
from rmdp_bench.envs.mo_worlds import MO_WORLDS
from rmdp_bench.runs import SOLVERS, make_request, run
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.submission.sandbox.confinement import describe_layers
from rmdp_bench.tasks import get_task, list_tasks
from tests.helpers.checkout import ROOT, SUBMISSIONS, needs_submissions
from tests.helpers.commands import command, contents

TOY = str(ROOT / "tests/helpers/toy_solver.py")
TASK = "ResourceGathering-n25-k3-v0"
DATASET = "rmdp/cartpole-het/random-v0"
TOY_RUN = ["run", TOY, TASK]
RUNS = Path("runs") / TASK / "toy_solver"


SOLVER_FILES = {
    "syntax.py": "def",
    "raises.py": "raise RuntimeError('first\\nsecond')",
    "imports.py": "import no_such_module_anywhere",
    "exits.py": "raise SystemExit(0)",
    "checks.py": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config: ...\n"
        "def check(task, config): return config.size\n"
        "def solve(task, config, seeds, device, log): ..."
    ),
    "nocheck.py": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config: ...\n"
        "check = 1\ndef solve(task, config, seeds, device, log): ..."
    ),
    "noconfig.py": "def solve(task, config, seeds, device, log): ...",
    "plainconfig.py": "class Config: ...\ndef solve(task, config, seeds, device, log): ...",
    "nosolve.py": "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config: ...",
    "signature.py": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config: ...\n"
        "def solve(task, config): ..."
    ),
    "required.py": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    size: int\n"
        "def solve(task, config, seeds, device, log): ..."
    ),
    "em.py": "",
    "bad,name.py": "",
}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A folder with files that are not what a command wants."""
    for name, text in SOLVER_FILES.items():
        (tmp_path / name).write_text(text)
    for folder in ("folder.py", "empty", "damaged", "schema", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "damaged" / "result.json").write_text("{")
    (tmp_path / "schema" / "result.json").write_text('{"schema_version": 99}')
    for folder, text in (("changed", '{"transitions": 5}'), ("broken", "[1]")):
        path = tmp_path / folder / TASK / "toy_solver" / "seed-0" / "run.json"
        (path.parent / "checkpoint").mkdir(parents=True)
        (path.parent / "checkpoint" / "1.npz").write_bytes(b"of that run")
        path.write_text(text)
    return tmp_path


BAD_INPUT: list[tuple[list[str], str]] = [
    (["frobnicate"], "frobnicate"),
    (["--frobnicate"], "--frobnicate"),
    (["datasets", "make"], "make"),
    (["datasets", "build"], "name datasets or give --all"),
    (["datasets", "build", DATASET, "--all"], "name datasets or give --all"),
    (["datasets", "build", "rmdp/cartpole-het/randon-v0"], f"did you mean {DATASET}"),
    (["datasets", "build", "../../outside"], "there is no dataset '../../outside'"),
    (["datasets", "build", DATASET, "--workers", "0"], "--workers is 0"),
    (["datasets", "verify", "zzz"], "`rmdp-bench list datasets`"),
    (["datasets", "verify", DATASET], f"`rmdp-bench datasets build {DATASET}` builds it"),
    (["datasets", "verify"], "there is no dataset to verify"),
    (["datasets", "info", "zzz"], "there is no dataset 'zzz'"),
    (["submit"], "Missing argument 'runs'"),
    (["list"], "what"),
    (["list", "nothing"], "'envs', 'datasets', 'tasks', 'solvers'"),
    (["list", "tasks", "more"], "more"),
    (["list", "tasks", "--jsn"], "--json"),
    (["list", "tasks", "--settings", "em"], "not with `list tasks`"),
    (["list", "solvers", "--settings", "emm"], "did you mean em?"),
    (["doctor", "more"], "more"),
    (["run"], "solver"),
    (["run", "em"], "task"),
    ([*TOY_RUN, "more"], "more"),
    (["run", "emm", TASK], "did you mean em?"),
    (["run", "zzz", TASK], "known are em, em_plus, end_to_end"),
    (["run", "", TASK], "unknown solver ''"),
    (["run", "file", TASK], "a file of your own ends in .py"),
    (["run", "nowhere.py", TASK], "there is no solver file nowhere.py"),
    (["run", "folder.py", TASK], "there is no solver file folder.py"),
    (["run", "syntax.py", TASK], "cannot be imported: SyntaxError"),
    (["run", "raises.py", TASK], "cannot be imported: RuntimeError: first"),
    (["run", "imports.py", TASK], "No module named 'no_such_module_anywhere'"),
    (["run", "exits.py", TASK], "cannot be imported: SystemExit: 0"),
    (["run", "checks.py", TASK], f"checks refuses {TASK}: AttributeError: 'Config' object"),
    (["run", "nocheck.py", TASK], "check is not a function"),
    (["run", "noconfig.py", TASK], "no dataclass Config"),
    (["run", "plainconfig.py", TASK], "no dataclass Config"),
    (["run", "nosolve.py", TASK], "no function solve(task, config, seeds, device, log)"),
    (["run", "signature.py", TASK], "does not accept"),
    (["run", "required.py", TASK], "has no settings"),
    (["run", "em.py", TASK], "needs another name"),
    (["run", "bad,name.py", TASK], "needs another name"),
    (["run", TOY, "NoTask"], "unknown task 'NoTask'"),
    (["run", TASK, "em"], f"'em', which is a solver, and comes first: rmdp-bench run em {TASK}"),
    (["run", TOY, "HalfCheetahVel-n100-k6-v0"], "did you mean HalfCheetahVel-n100-k"),
    ([*TOY_RUN, "--seeds", ""], "is not a seed"),
    ([*TOY_RUN, "--seeds", "a"], "'a' is not a seed"),
    ([*TOY_RUN, "--seeds", "-1"], "'-1' is not a seed"),
    ([*TOY_RUN, "--seeds", "1.5"], "'1.5' is not a seed"),
    ([*TOY_RUN, "--seeds", "1,,2"], "'' is not a seed"),
    ([*TOY_RUN, "--seeds", "\u0663"], "is not a seed"),
    ([*TOY_RUN, "--seeds", "3:1"], "'3:1' is not a range"),
    ([*TOY_RUN, "--seeds", "0:0"], "'0:0' is not a range"),
    ([*TOY_RUN, "--seeds", "0:2:4"], "'0:2:4' is not a range"),
    ([*TOY_RUN, "--seeds", "0:"], "is not a seed"),
    ([*TOY_RUN, "--seeds", "0:100000"], "more than 1000 seeds"),
    ([*TOY_RUN, "--seeds", "0,1,0"], "not all different"),
    ([*TOY_RUN, "--seeds", "2147483648"], "expected 0 to 2147483647"),
    ([*TOY_RUN, "--device", "gpu"], "unknown device 'gpu', expected cpu or cuda"),
    ([*TOY_RUN, "--device", "cuda"], "cuda is not available"),
    ([*TOY_RUN, "--transitions", "0"], "expected 1 to"),
    ([*TOY_RUN, "--transitions", "-5"], "expected 1 to"),
    ([*TOY_RUN, "--transitions", "many"], "valid integer"),
    ([*TOY_RUN, "--transitions", "1.5"], "valid integer"),
    ([*TOY_RUN, "--transitions"], "--transitions"),
    ([*TOY_RUN, "--transitions", "9"], f"refuses {TASK}: transitions is 9, expected at least 10"),
    (["run", "em", TASK, "--transitions", "100"], f"solver em refuses {TASK}: "),
    (["run", "oracle", TASK, "--set", "groups=intervals"], f"solver oracle refuses {TASK}: "),
    ([*TOY_RUN, "--set", "noise"], "expected key=value"),
    ([*TOY_RUN, "--set", "=1"], "no setting ''"),
    ([*TOY_RUN, "--set", "nois=1"], "no setting 'nois'; did you mean noise?"),
    ([*TOY_RUN, "--set", "zzz=1"], f"`rmdp-bench list solvers --settings {TOY}` lists them"),
    (["run", "em", TASK, "--set", "zzz=1"], "`rmdp-bench list solvers --settings em` lists them"),
    ([*TOY_RUN, "--set", "noise=abc"], "noise=abc: input should be a valid number"),
    ([*TOY_RUN, "--set", "noise=nan"], "noise=nan: input should be a finite number"),
    ([*TOY_RUN, "--set", "action=1.5"], "action=1.5: input should be a valid integer"),
    ([*TOY_RUN, "--set", "sizes=5"], "sizes=5: input should be a valid tuple"),
    ([*TOY_RUN, "--set", "export=maybe"], "export=maybe: input should be a valid boolean"),
    ([*TOY_RUN, "--set", "noise=-1"], "refuses noise=-1: noise is -1.0"),
    ([*TOY_RUN, "--set", "noise=1", "--set", "noise=2"], "'noise' is given twice"),
    ([*TOY_RUN, "--out", "file"], "cannot write to file: "),
    ([*TOY_RUN, "--out", "file/below"], "cannot write to file/below: "),
    ([*TOY_RUN, "--out", "changed"], "was made with"),
    ([*TOY_RUN, "--out", "broken"], "expected a JSON object"),
    (["evaluate"], "RUN_DIR"),
    (["evaluate", "nowhere"], "there is no run directory nowhere"),
    (["evaluate", "file"], "there is no run directory file"),
    (["evaluate", "empty"], "result.json"),
    (["evaluate", "damaged"], "cannot read damaged/result.json"),
    (["evaluate", "schema"], "schema_version"),
    (["evaluate", "empty", "--episodes", "0"], "--episodes is 0"),
    (["evaluate", "empty", "--seed", "-1"], "--seed is -1"),
    (["evaluate", "empty", "--seed", "x"], "valid integer"),
    (["score"], "runs"),
    (["score", "nowhere"], "there is no folder nowhere"),
    (["score", "file"], "there is no folder file"),
    (["score", "empty"], "no result.json in or below empty"),
    (["score", "damaged", "--json"], "cannot read"),
    (["score", "schema"], "not a valid result: schema_version"),
    (["plot", "empty"], "--out"),
    (["plot", "--out", "figures"], "runs"),
    (["plot", "nowhere", "--out", "figures"], "there is no folder nowhere"),
    (["plot", "empty", "--out", "figures"], "no result.json"),
    (["plot", "damaged", "--out", "figures"], "cannot read"),
    (["plot", DATASET, "--out", "figures"], f"`rmdp-bench datasets build {DATASET}` builds it"),
    (["plot", "empty", "--out", "file"], "cannot write to file"),
    (["leaderboard", "build"], "there is no folder leaderboards/submissions"),
    (["leaderboard", "tidy"], "tidy"),
    (["leaderboard", "show", "--task", "NoTask"], "unknown task 'NoTask'"),
    (["leaderboard", "show", "--root", "nowhere"], "there is no folder nowhere"),
    (["leaderboard", "show", "--root", "other", "--runs", "nowhere"], "no folder nowhere"),
    (["leaderboard", "show", "--root", "other", "--runs", "empty"], "no result.json"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD_INPUT, ids=[" ".join(case[0])[-60:] for case in BAD_INPUT]
)
def test_bad_input(
    arguments: list[str],
    message: str,
    prepared: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = contents(prepared)
    code = main(arguments)
    output = capfd.readouterr()
    assert code == 2
    assert output.out == ""
    lines = output.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rmdp-bench: error: ")
    assert message in lines[0]
    assert contents(prepared) == before


def test_there_are_enough_cases() -> None:
    assert len(BAD_INPUT) >= 40


@pytest.fixture
def finished(capfd: pytest.CaptureFixture[str]) -> str:
    """Two finished seeds of the toy solver; what the command printed."""
    assert main([*TOY_RUN, "--seeds", "0:2", "--transitions", "1000"]) == 0
    output = capfd.readouterr()
    assert "Traceback" not in output.err
    return output.out


def printed_json(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> Any:
    assert main(arguments) == 0
    output = capfd.readouterr()
    return json.loads(output.out)


def test_run_prints_its_scores(finished: str) -> None:
    assert TASK in finished
    assert "toy_solver" in finished
    assert "3.96" in finished


def test_run_again_does_nothing(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(RUNS)
    assert main([*TOY_RUN, "--seeds", "0:2", "--transitions", "1000"]) == 0
    assert contents(RUNS) == before
    assert main([*TOY_RUN, "--seeds", "0:2", "--transitions", "2000"]) == 2
    assert "transitions 1000 instead of 2000" in capfd.readouterr().err
    assert contents(RUNS) == before


def test_failing_solver(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY_RUN, "--set", "fail=on purpose"]) == 1
    error = capfd.readouterr().err
    assert error.splitlines() == [
        "rmdp-bench: error: solver toy_solver failed: RuntimeError: on purpose "
        f"(traceback in {RUNS / 'seed-0' / 'error.txt'})"
    ]


def test_solver_that_exits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`sys.exit(0)` in a solver is no success."""
    (tmp_path / "leaves.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config: ...\n"
        "def solve(task, config, seeds, device, log): raise SystemExit(0)"
    )
    assert main(["run", "leaves.py", TASK]) == 1
    assert "solver leaves failed: SystemExit: 0 (traceback in" in capfd.readouterr().err


def test_solver_that_cannot_be_saved(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY_RUN, "--set", "export=false"]) == 0
    assert "to_onnx" in capfd.readouterr().err
    record = json.loads((RUNS / "seed-0" / "result.json").read_text())
    assert record["solution"] is None
    assert main(["evaluate", str(RUNS / "seed-0")]) == 2
    assert "scored in memory" in capfd.readouterr().err


def test_list_json(capfd: pytest.CaptureFixture[str]) -> None:
    tasks = printed_json(["list", "tasks", "--json"], capfd)
    assert [row["id"] for row in tasks] == [task.id for task in list_tasks()]
    wanted = {"id", "track", "env_id", "dataset_id", "n_agents", "n_representatives"}
    assert all(row.keys() > wanted | {"transitions", "ceiling"} for row in tasks)
    environments = printed_json(["list", "envs", "--json"], capfd)
    known = [entry.id for entry in ENVIRONMENTS] + [world.id for world in MO_WORLDS]
    assert [row["id"] for row in environments] == known
    assert {row["env_id"] for row in tasks} <= {row["id"] for row in environments}
    datasets = printed_json(["list", "datasets", "--json"], capfd)
    assert [row["id"] for row in datasets] == [entry.id for entry in DATASETS]
    solvers = printed_json(["list", "solvers", "--json"], capfd)
    assert [row["name"] for row in solvers] == list(SOLVERS)
    assert all(row["description"] for row in solvers)
    for row in solvers:
        assert all(setting["description"] for setting in row["settings"])
    by_name = {setting["name"]: setting for setting in solvers[0]["settings"]}
    assert by_name["n_envs"]["type"] == "int"
    assert by_name["n_envs"]["default"] >= 1
    assert "world" in by_name["n_envs"]["description"]


def test_list_settings(capfd: pytest.CaptureFixture[str]) -> None:
    rows = printed_json(["list", "solvers", "--settings", TOY, "--json"], capfd)
    assert rows[2] == {
        "name": "sizes",
        "type": "tuple[int, ...]",
        "default": [2, 3],
        "description": "Of the arrays.",
    }
    assert main(["list", "solvers", "--settings", TOY]) == 0
    output = capfd.readouterr()
    assert output.err == ""
    for row in rows:
        assert row["name"] in output.out
        assert row["description"] in output.out


@pytest.mark.parametrize("what", ["envs", "datasets", "tasks", "solvers"])
def test_list_table(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    output = capfd.readouterr()
    assert output.err == ""
    rows = printed_json(["list", what, "--json"], capfd)
    for row in rows:
        assert str(row.get("id", row.get("name"))) in output.out


def test_evaluate(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = RUNS / "seed-1"
    before = contents(folder)
    again = printed_json(["evaluate", str(folder), "--json"], capfd)
    record = json.loads((folder / "result.json").read_text())
    assert again["social_welfare"] == again["recorded_social_welfare"] == record["social_welfare"]
    assert again["agent_returns"] == record["agent_returns"]
    assert again["evaluation"] == {"n_episodes": 20, "seed": 2**31}
    other = printed_json(
        ["evaluate", str(folder), "--json", "--episodes", "3", "--seed", "5"], capfd
    )
    assert other["evaluation"] == {"n_episodes": 3, "seed": 2**31 + 5}
    assert main(["evaluate", str(folder)]) == 0
    assert "social welfare" in capfd.readouterr().out
    assert contents(folder) == before


def test_score(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    (row,) = printed_json(["score", "runs", "--json"], capfd)
    assert row["task"] == TASK
    assert row["solver"] == "toy_solver"
    assert row["seeds"] == [0, 1]
    assert row["social_welfare"] == pytest.approx(99 / 25)
    assert row["standard_error"] == pytest.approx(0.0)
    assert row["interval"] == pytest.approx([99 / 25] * 2)
    ceiling = get_task(TASK).ceiling
    assert ceiling is not None
    assert row["share_of_ceiling"] == pytest.approx(99 / 25 / ceiling)
    (row,) = printed_json(["score", str(RUNS / "seed-1"), "--json"], capfd)
    assert row["standard_error"] is None
    assert row["interval"] is None
    assert main(["score", "runs", str(RUNS)]) == 0  # the same runs twice count once
    assert "3.96" in capfd.readouterr().out


def test_score_keeps_settings_apart(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY_RUN, "--transitions", "1000", "--out", "more", "--set", "action=0"]) == 0
    capfd.readouterr()
    rows = printed_json(["score", "runs", "more", "--json"], capfd)
    assert [row["settings"] for row in rows] == ["action=1", "action=0"]
    shutil.copytree("runs", "copy")
    assert main(["score", "runs", "copy"]) == 2
    assert "is there twice" in capfd.readouterr().err


def test_different_revisions_are_shown(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    (row,) = printed_json(["score", "runs", "--json"], capfd)
    assert len(row["git_revisions"]) == 1
    for seed, revision in ((0, "0123456789abcdef-dirty"), (1, None)):
        path = RUNS / f"seed-{seed}" / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"git_revision": revision}))
    (row,) = printed_json(["score", "runs", "--json"], capfd)
    assert row["git_revisions"] == ["0123456789abcdef-dirty", None]
    for arguments in (["score", "runs"], ["leaderboard", "show", "--runs", "runs"]):
        assert main(arguments) == 0
        output = capfd.readouterr().out
        assert "toy_solver: seeds of different revisions, 0123456789-dirty, unknown." in output


def test_leaderboard(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    about = ["--author", "A", "--method", "m", "--licence", "MIT", "--online-evaluations", "0"]
    packed = ["--name", "first-try", "--out", "leaderboards/submissions", "--difference", "short"]
    assert main(["submit", "runs", *packed, *about]) == 0
    capfd.readouterr()
    board = printed_json(["leaderboard", "show", "--runs", "runs", "--json"], capfd)
    (table,) = board["tasks"]
    exact, *rows = table["rows"]
    assert exact == {
        "source": "exact ceiling",
        "exact": True,
        "social_welfare": table["ceiling"],
    }
    assert [(row["source"], row["new"], row["mark"]) for row in rows] == [
        ("first-try", False, "reported"),
        ("this machine", True, None),
    ]
    assert len(board["costs"]["CPU"]) == 2
    assert board["costs"]["GPU"] == []
    assert main(["leaderboard", "show", "--task", TASK, "--runs", "runs"]) == 0
    output = capfd.readouterr().out
    for text in (
        "exact ceiling",
        "first-try",
        "reported",
        "this machine",
        "Cost on CPU",
        "100.0 %",
    ):
        assert text in output
    assert "Cost on GPU" not in output
    other = "ResourceGathering-n25-k1-v0"
    empty = printed_json(["leaderboard", "show", "--task", other, "--json"], capfd)
    assert [row["source"] for row in empty["tasks"][0]["rows"]] == ["exact ceiling"]


def test_plot(finished: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "runs", "--out", "figures"]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert sorted(printed) == sorted(str(path) for path in Path("figures").iterdir())
    assert [Path(path).name for path in printed] == [
        "welfare-rmdp-ResourceGathering-n25-v0.png",
        f"curves-{TASK}.png",
        f"paths-{TASK}-toy_solver.png",
        f"preferences-{TASK}.png",
    ]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in printed)


@needs_submissions
def test_plot_of_a_velocity_task(capfd: pytest.CaptureFixture[str]) -> None:
    """From stored runs: welfare of their records, and the ceiling, are in the picture's words."""
    task = "HalfCheetahVel-n100-k1-v0"
    runs = SUBMISSIONS / "reference-universal" / task / "universal"
    assert main(["plot", str(runs), "--out", "figures"]) == 0
    names = [Path(path).name for path in capfd.readouterr().out.splitlines()]
    assert names == [
        "welfare-rmdp-HalfCheetahVel-n100-v0.png",
        f"preferences-{task}.png",
        f"agents-{task}.png",
    ]
    with Image.open(f"figures/agents-{task}.png") as picture:
        words = picture.info["Description"]
    mean, ceiling = RowFiles(runs).result(0).social_welfare, get_task(task).ceiling
    assert f"exact ceiling: mean {ceiling:.1f}. universal, seed 0: mean {mean:.1f}, " in words


def test_plot_draws_the_lowest_seed(finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the best one, and the titles say which."""
    path = RUNS / "seed-1" / "result.json"
    record = json.loads(path.read_text())
    best = [value + 1.0 for value in record["agent_returns"]]
    ceiling = get_task(TASK).ceiling
    assert ceiling is not None
    own = sum(best) / 25
    welfare = {"social_welfare": own, "share_of_ceiling": own / ceiling}
    welfare["reassigned_welfare"] = own + record["assignment_regret"]
    returns = {"agent_returns": best, "worst_agent": min(best)}
    path.write_text(json.dumps(record | welfare | returns))
    titles = []
    for name in ("plot_paths", "plot_preferences"):
        original = getattr(plotting, name)

        def listen(*arguments: Any, original: Any = original, **options: Any) -> Path:
            titles.append(options["title"])
            drawn: Path = original(*arguments, **options)
            return drawn

        monkeypatch.setattr(plotting, name, listen)
    assert main(["plot", "runs", "--out", "figures"]) == 0
    assert titles == [
        f"toy_solver, seed 0 on {TASK}: 4.0 %",
        f"Agents by representative, {TASK}, seed 0",
    ]


@pytest.mark.parametrize("name", ["curve.csv", "solution/policies.onnx"])
def test_plot_writes_all_or_nothing(
    name: str, finished: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (RUNS / "seed-0" / name).unlink()
    assert main(["plot", "runs", "--out", "figures"]) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert not Path("figures").exists()


def test_paths_are_those_of_the_saved_policies() -> None:
    from rmdp_bench.cli.figures import replay
    from rmdp_bench.solution import Solution
    from tests.helpers.toys import ScriptedPolicy

    policies = [ScriptedPolicy([1]), ScriptedPolicy([0, 3, 1, 2]), ScriptedPolicy([2])]
    paths = replay(get_task(TASK), Solution(policies, np.eye(3)[np.zeros(25, int)]))
    assert paths[0] == [(4, 2), (4, 2)]
    assert paths[1] == [(4, 2), (3, 2), (3, 3), (4, 3), (4, 2)]
    assert len(paths[2]) == 41


def test_doctor(capfd: pytest.CaptureFixture[str]) -> None:
    report = printed_json(["doctor", "--json"], capfd)
    assert report["system"]["cores"] >= 1
    assert report["versions"]["numpy"] == np.__version__
    assert [check["name"] for check in report["checks"]] == [
        *("torch", "onnxscript", "tensorboard", "mo_gymnasium", "cuda", "gl"),
        *(f"layer: {layer.name}" for layer in describe_layers()),
    ]
    assert main(["doctor"]) == 0
    assert "torch" in capfd.readouterr().out


def test_example_of_an_outsider(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A solver outside the repository, with policies that are saved and scored from the files."""
    shutil.copy(ROOT / "examples" / "my_solver.py", tmp_path / "my_solver.py")
    arguments = ["run", "./my_solver.py", TASK, "--transitions", "2000", "--seeds", "0:2"]
    assert main([*arguments, "--set", "step_size=0.5"]) == 0
    assert "my_solver" in capfd.readouterr().out
    folder = tmp_path / "runs" / TASK / "my_solver" / "seed-0"
    record = json.loads((folder / "result.json").read_text())
    assert record["config"] == {"step_size": 0.5}
    assert record["solution"] == "solution"
    assert len(record["solver_sha256"]) == 64
    assert record["social_welfare"] > 0
    assert len(list((folder / "solution").glob("policy-*.onnx"))) == 3
    (row,) = printed_json(["score", "runs", "--json"], capfd)
    assert row["solver"] == "my_solver"


def test_example_with_continuous_actions() -> None:
    """Saved policies do what the policies in memory do."""
    request = make_request(
        str(ROOT / "examples" / "my_solver.py"), "HopperVel-n100-k1-v0", transitions=200
    )
    (result,) = run(request)
    assert result.social_welfare > 0
    assert result.solution == "solution"


def test_ctrl_c_stops_at_the_next_checkpoint_and_resumes(tmp_path: Path) -> None:
    Path("armed").touch()
    arguments = [*TOY_RUN, "--transitions", "1000", "--set", "interrupt_at=4"]
    process = command(arguments)
    output, error = process.communicate(timeout=600)
    assert process.returncode == 130, error
    assert output == ""
    assert "Ctrl-C (SIGINT) stops at once" in error
    assert "stopped at 400 of 1,000 transitions per policy; the same command goes on" in error
    assert [path.name for path in (RUNS / "seed-0" / "checkpoint").iterdir()] == ["2.npz"]
    assert not (RUNS / "seed-0" / ".lock").exists()
    Path("armed").unlink()
    assert main(arguments) == 0
    assert main([*arguments, "--out", "whole"]) == 0
    curves = [
        [line.split(",")[::2] for line in (out / "curve.csv").read_text().splitlines()]
        for out in (RUNS / "seed-0", Path("whole") / TASK / "toy_solver" / "seed-0")
    ]
    assert curves[0] == curves[1]


def test_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(
        "import pathlib, time\n"
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Config: ...\n"
        "def solve(task, config, seeds, device, log):\n"
        "    pathlib.Path('ready').touch()\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        "        if log.stop_requested: pathlib.Path('asked').touch()\n"
    )
    process = command(["run", "endless.py", TASK])
    for name in ("ready", "asked"):
        deadline = time.monotonic() + 600
        while not Path(name).exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=600)
    assert process.returncode == 130
    assert output == ""
    assert "stopped at once" in error
    assert "Traceback" not in error


def test_a_reader_that_goes_away_gives_no_traceback() -> None:
    process = command(["list", "tasks"])
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=600) == 1


def test_output_without_unicode(finished: str) -> None:
    process = command(["score", "runs"], PYTHONIOENCODING="ascii")
    output, error = process.communicate(timeout=600)
    assert (process.returncode, error) == (0, "")
    assert "3.96 ? 0.00" in output


def test_a_system_without_file_locks() -> None:
    """Windows."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from rmdp_bench.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    result = subprocess.run(
        [sys.executable, "-c", code, *TOY_RUN], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert (
        result.stderr == "rmdp-bench: error: file locks need Linux or macOS; on Windows use WSL\n"
    )


def test_the_command_line_starts_light() -> None:
    code = (
        "import sys, rmdp_bench.cli\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'matplotlib', 'mujoco', 'scipy', 'rich.table',\n"
        "'minari', 'h5py'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_list_of_solvers_loads_none() -> None:
    code = (
        "import sys\n"
        "from rmdp_bench.cli import main\n"
        "assert main(['list', 'solvers']) == 0\n"
        "print(sorted({'torch', 'numba', 'baselines.offline.persim'} & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "--help"],
        ["run", "--help"],
        ["submit", "--help"],
        ["verify", "--help"],
        ["leaderboard", "show", "--help"],
        ["datasets", "build", "--help"],
        ["datasets", "verify", "--help"],
        ["datasets", "info", "--help"],
    ],
)
def test_help(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    output = capfd.readouterr()
    assert re.match(r"\s*Usage: rmdp-bench", output.out)
    assert output.err == ""
