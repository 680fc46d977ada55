"""Submissions: packed, checked, played again; what is refused although it fits together."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.files import read_json
from rmdp_bench.runs import make_request, read_result, run
from rmdp_bench.submission import Submission, read_submission, recipes
from rmdp_bench.submission.comparison import compare
from rmdp_bench.submission.held_out import draw_held_out
from rmdp_bench.submission.packing import pack
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.checker import check_in_sandbox
from rmdp_bench.submission.schema import submission_to_toml
from rmdp_bench.tasks import get_task
from scripts.write_schemas import FOLDER, make_schemas
from tests.helpers.checkout import ROOT, needs_submissions
from tests.helpers.submission_toys import (
    ABOUT,
    ROW,
    claim,
    copy_of,
    edit_json,
    mark_of,
    refused,
    unpacked,
)

REFERENCE = ROOT / "leaderboards" / "submissions" / "reference"
Capture = pytest.CaptureFixture[str]
PLANNED = "CartPoleHet-n500-pure-v1"


def test_raised_claim_is_refused(honest_submission: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = copy_of(honest_submission, tmp_path)
    claim(folder / ROW / "seed-0", lambda matrix: np.minimum(matrix + 3.0, 100.0))
    assert main(["verify", str(folder)]) == 0  # everything in it agrees
    message = refused(capsys, "verify", str(folder), "--full", "--record")
    assert "seed-0: claimed is a social welfare of" in message
    assert not (tmp_path / "marks.json").exists()


def test_policies_of_another_seed_are_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    with unpacked(folder) as runs:
        first, second = (runs / ROW / f"seed-{seed}" / "solution" for seed in (0, 1))
        for j in range(3):
            own, other = first / f"policy-{j}.onnx", second / f"policy-{j}.onnx"
            data = own.read_bytes()
            own.write_bytes(other.read_bytes())
            other.write_bytes(data)
    check_submission(folder)
    assert "seed-0: " in refused(capsys, "verify", str(folder), "--full")


def test_policies_in_another_order_are_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    with unpacked(folder) as runs:
        solution = runs / ROW / "seed-0" / "solution"
        (solution / "policy-0.onnx").rename(solution / "aside")
        (solution / "policy-2.onnx").rename(solution / "policy-0.onnx")
        (solution / "aside").rename(solution / "policy-2.onnx")
    check_submission(folder)
    assert "seed-0: " in refused(capsys, "verify", str(folder), "--full")


def test_copied_submission_is_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    other = folder.with_name("thief")
    folder.rename(other)
    text = (other / "submission.toml").read_text()
    (other / "submission.toml").write_text(text.replace('name = "honest"', 'name = "thief"'))
    check_submission(other)
    copy_of(honest_submission, tmp_path)
    assert f"has the policies of honest/{ROW}/seed-0" in refused(capsys, "verify", str(other))


def test_same_run_as_two_seeds_is_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    with unpacked(folder) as runs:
        first, second = (runs / ROW / f"seed-{seed}" for seed in (0, 1))
        shutil.copytree(first, second, dirs_exist_ok=True)
        edit_json(second / "result.json", seed=1)
    assert "seeds 0 and 1" in refused(capsys, "verify", str(folder))


def test_closed_division_keeps_the_rules(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    fields = read_submission(folder).model_dump() | {"division": "closed", "differences": []}
    text = submission_to_toml(Submission.model_validate(fields))
    (folder / "submission.toml").write_text(text)
    message = refused(capsys, "verify", str(folder))
    assert "transitions is 10000, but the task has 1000000" in message


def test_offline_rows(tmp_path: Path, capsys: Capture) -> None:
    task, runs = "CartPoleHet-n500-pure-v1", tmp_path / "runs"
    solver = str(ROOT / "tests/helpers/toy_offline_solver.py")
    assert main(["run", solver, task, "--seeds", "0:2", "--out", str(runs)]) == 0
    folder = pack([runs], "offline", tmp_path / "submissions", ABOUT)
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    mark = mark_of(folder, task, "toy_offline_solver")
    assert mark is not None and mark.kind == "verified"
    assert mark.n_episodes >= 40
    row = f"{task}/toy_offline_solver"
    offline = RowFiles(folder / row).seeds[0].record["offline"]
    assert offline["factor_correlation"] is not None
    offline["unseen_returns"][0] += 1.0
    edit_json(folder / row / "seed-0" / "result.json", offline=offline)
    assert "offline: unseen_returns is" in refused(capsys, "verify", str(folder))


def test_rows_without_policies(tmp_path: Path, capsys: Capture) -> None:
    task, runs = "CartPoleHet-n500-pure-v1", tmp_path / "runs"
    solver = str(ROOT / "tests/helpers/toy_offline_solver.py")
    assert main(["run", solver, task, "--set", "export=false", "--out", str(runs)]) == 0
    folder = pack([runs], "memory", tmp_path / "submissions", ABOUT)
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    assert mark_of(folder, task, "toy_offline_solver") is None
    # The same, by a solver of the suite.
    with unpacked(folder) as directories:
        result = directories / task / "toy_offline_solver" / "seed-0" / "result.json"
        edit_json(result, solver="true_env_mpc", solver_sha256=None)
        (directories / task / "toy_offline_solver").rename(directories / task / "true_env_mpc")
    text = (folder / "submission.toml").read_text()
    (folder / "submission.toml").write_text(text.replace("toy_offline_solver", "true_env_mpc"))
    capsys.readouterr()
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    printed = capsys.readouterr().out
    assert "recipe, not run" in printed
    claimed = RowFiles(folder / task / "true_env_mpc").result(0).social_welfare
    assert f"{claimed:.2f}" in printed  # which nobody has measured
    command = f"recipe: rmdp-bench run true_env_mpc {task} --seeds 0:1 --device cpu"
    assert command in " ".join(printed.split())
    assert mark_of(folder, task, "true_env_mpc") is None


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a solver of the suite whose policies are in no file; not to be changed."""
    out = tmp_path_factory.mktemp("planned")
    settings = ["n_sequences=2", "horizon=2"]
    run(make_request("true_env_mpc", PLANNED, seeds=(0, 1), out=out, settings=settings))
    return out


def of_a_gpu(planned: Path, folder: Path) -> Path:
    """The same runs, whose records say that they were made on a GPU."""
    submission = pack([planned], "planned", folder / "submissions", ABOUT)
    with unpacked(submission) as directories:
        for path in directories.rglob("result.json"):
            system = json.loads(path.read_text())["system"] | {"device": "cuda"}
            edit_json(path, device="cuda", system=system)
    return submission


def test_recipes_are_run_again_and_measured(
    planned: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a GPU on the CPU, where there is none, and the mark says so."""
    task = PLANNED
    folder = of_a_gpu(planned, tmp_path)
    monkeypatch.setattr("rmdp_bench.submission.recipes.gpu_name", lambda: None)
    assert main(["verify", str(folder), "--full", "--recipes", "--record"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "recipe on cpu" in printed
    assert "--device cuda" in printed  # the command is that of the records
    mark = mark_of(folder, task, "true_env_mpc")
    assert mark is not None and (mark.kind, mark.device) == ("recipe", "cpu")
    assert mark.n_episodes >= 40
    assert [seed.replayed for seed in mark.seeds] == pytest.approx(
        [seed.claimed for seed in mark.seeds], abs=1e-9
    )
    assert mark.measured != mark.claimed
    known = np.stack([np.full(20, seed.claimed - 60.0) + np.arange(20) for seed in mark.seeds])
    monkeypatch.setattr(
        "rmdp_bench.submission.recipes._run", lambda *_: (known, np.tile(known, (1, 2)))
    )
    message = refused(capsys, "verify", str(folder), "--full", "--recipes")
    assert "on the same episodes" in message


def test_recipes_that_fail(planned: Path) -> None:
    task = get_task(PLANNED)
    record = read_result(planned / PLANNED / "true_env_mpc" / "seed-0" / "result.json")
    wrong = [record.model_copy(update={"config": {"n_sequences": 0}})]
    with pytest.raises(ValueError, match="fails with exit code 2, .*n_sequences"):
        recipes._run(task, wrong, draw_held_out(), Budget(), "cpu")
    slow = [record.model_copy(update={"config": {"n_sequences": 5000}})]
    with pytest.raises(ValueError, match="more than the 1 s that are left of --cpu-seconds"):
        recipes._run(task, slow, draw_held_out(), Budget(cpu_seconds=0.5), "cpu")


def test_recipes_are_checked_before_any_is_run(
    planned: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmdp_bench.submission.full.measure", lambda *_, **__: pytest.fail("ran"))
    monkeypatch.setattr(
        "rmdp_bench.submission.recipes._settings", lambda record: ['n_sequences="many"']
    )
    folder = pack([planned], "planned", tmp_path / "submissions", ABOUT)
    message = refused(capsys, "verify", str(folder), "--full", "--recipes")
    assert "the command of the recipe fails with exit code 2" in message


def test_recipes_are_checked_by_one_process(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which of them cannot be run."""
    record = read_result(planned / PLANNED / "true_env_mpc" / "seed-0" / "result.json")
    good, other, wrong = (
        ([record.model_copy(update={"config": {"n_sequences": number}})], "cpu")
        for number in (2, 3, 0)
    )
    budget = Budget()
    started: list[Any] = []
    start = subprocess.run

    def count(*args: Any, **options: Any) -> Any:
        started.append(args)
        return start(*args, **options)

    monkeypatch.setattr(subprocess, "run", count)
    recipes.check_recipes([], budget)
    assert started == []
    recipes.check_recipes([good, other, good], budget)
    with pytest.raises(ValueError, match=r"n_sequences.*run true_env_mpc .*n_sequences=0$"):
        recipes.check_recipes([good, wrong, other], budget)
    assert len(started) == 2
    assert budget.cpu_used > 0.0
    with pytest.raises(ValueError, match=r"wall-seconds: .*n_sequences=3$"):
        recipes.check_recipes([other, good], Budget(wall_seconds=0.2))


def test_where_a_recipe_runs(
    planned: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wanted, else as its records say, if that is here; a claim of its own is refused there."""
    ran_on: list[str] = []

    def pretend(task: Any, records: Any, held_out: Any, budget: Any, device: str) -> Any:
        ran_on.append(device)
        known = np.stack([np.full(20, record.social_welfare - 60.0) for record in records])
        known += np.arange(20)
        return known, np.tile(known, (1, 2))

    checked: dict[Path, Any] = {}

    def check_once(folder: Path, budget: Budget) -> Any:
        if folder not in checked:
            checked[folder] = check_in_sandbox(folder, budget)
        return checked[folder]

    monkeypatch.setattr("rmdp_bench.submission.sandbox.checker.check_in_sandbox", check_once)
    monkeypatch.setattr("rmdp_bench.submission.behaviour.compare_behaviour", lambda *_: [])
    monkeypatch.setattr("rmdp_bench.submission.full.check_recipes", lambda *_: None)
    monkeypatch.setattr("rmdp_bench.submission.recipes._run", pretend)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    folder = of_a_gpu(planned, tmp_path)
    cpu = pack([planned], "of-a-cpu", tmp_path / "others", ABOUT)
    verify = ["verify", str(folder), "--full", "--recipes"]
    for gpu in (None, "a GPU"):
        monkeypatch.setattr("rmdp_bench.submission.recipes.gpu_name", lambda gpu=gpu: gpu)
        for options in ([], ["--device", "cpu"], ["--device", "cuda"]):
            assert "on the same episodes" in refused(capsys, *verify, *options)
        refused(capsys, "verify", str(cpu), "--full", "--recipes")
    assert ran_on == ["cpu", "cpu", "cuda", "cpu", "cuda", "cpu", "cuda", "cpu"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "cuda is not available" in refused(capsys, *verify, "--device", "cuda")
    assert "unknown device 'tpu'" in refused(capsys, *verify, "--device", "tpu")
    message = refused(capsys, "verify", str(folder), "--full", "--device", "cpu")
    assert "--device goes with --recipes" in message


def test_another_training_may_differ_as_trainings_do() -> None:
    """On another processor a recipe is another draw; the means of many seeds differ less."""
    rng = np.random.default_rng(0)
    passed = {0.0: 0, 4.0: 0}
    for shift in passed:
        for _ in range(20):
            claims, repeated = rng.normal(50.0, 1.0, size=(2, 10))
            known = np.repeat((repeated - shift)[:, np.newaxis], 20, axis=1)
            comparison = compare(claims.tolist(), known, known)
            other = recipes._allow_other_training(comparison, claims.tolist(), known.mean(axis=1))
            try:
                other.check()
            except ValueError:
                continue
            passed[shift] += 1
    assert passed == {0.0: 20, 4.0: 0}


def test_packing_asks_for_what_is_missing(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    runs = honest_submission.parent.parent / "runs"
    command = ["submit", str(runs), "--name", "mine", "--out", str(tmp_path / "out")]
    message = refused(capsys, *command, "--author", "A. Name")
    assert "needs --method, --licence, --online-evaluations" in message
    filled = [*command, "--author", "A. Name", "--method", "m", "--licence", "MIT"]
    filled += ["--online-evaluations", "0"]
    message = refused(capsys, *filled)
    assert "this belongs to the open division" in message and "submit --difference" in message
    assert not (tmp_path / "out" / "mine").exists()
    assert main([*filled, "--difference", "fewer transitions"]) == 0
    assert read_submission(tmp_path / "out" / "mine").division == "open"
    assert "--replace" in refused(capsys, *filled, "--difference", "fewer")
    (tmp_path / "out" / "mine" / "README.md").write_text("kept")
    assert main([*command, "--replace", "--method", "another"]) == 0
    again = read_submission(tmp_path / "out" / "mine")
    assert (again.method, again.authors) == ("another", ["A. Name"])
    assert (tmp_path / "out" / "mine" / "README.md").read_text() == "kept"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_packing_needs_all_seeds(honest_submission: Path, tmp_path: Path) -> None:
    runs = honest_submission.parent.parent / "runs"
    with pytest.raises(ValueError, match=r"are \[1\], expected 0, 1, ... without a gap"):
        pack([runs / ROW / "seed-1"], "late", tmp_path, ABOUT)
    with pytest.raises(ValueError, match="seed 0 of .* is there twice"):
        pack([runs, copy_of(runs, tmp_path)], "twice", tmp_path, ABOUT)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"authors": []}, "authors"),
        ({"method": "two\nlines"}, "method: .*control character"),
        ({"paper": "javascript:alert(1)"}, "paper"),
        ({"licence": ""}, "--licence"),
        ({"n_online_evaluations": -1}, "n_online_evaluations"),
    ],
)
def test_wrong_descriptions(
    about: dict[str, Any], message: str, honest_submission: Path, tmp_path: Path
) -> None:
    runs = honest_submission.parent.parent / "runs"
    with pytest.raises(ValueError, match=message):
        pack([runs], "wrong", tmp_path, ABOUT | about)
    with pytest.raises(ValueError, match="name"):
        pack([runs], "../wrong", tmp_path, ABOUT)


def test_schemas_are_current() -> None:
    schemas = make_schemas()
    assert {path.name for path in FOLDER.iterdir()} == set(schemas)
    for name, schema in schemas.items():
        assert read_json(FOLDER / name) == schema, "run python -m scripts.write_schemas"


@needs_submissions
def test_reference_rows_pass() -> None:
    checked = check_submission(REFERENCE)
    assert len(checked.records) == len(checked.submission.rows) >= 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "there is no folder no-such-folder"),
        ([".", "--record"], "go with --full"),
        ([".", "--replay"], "go with --full"),
        ([".", "--full", "--replay", "--record"], "give one"),
        ([".", "--full", "--cpu-seconds", "0"], "--cpu-seconds 0"),
        ([".", "--full", "--memory", "0"], "--memory 0"),
        ([".", "--full", "--start-seconds", "-1"], "--start-seconds -1"),
        (["."], "cannot read submission.toml"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refused(capsys, "verify", *arguments)
