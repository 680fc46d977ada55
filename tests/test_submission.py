"""Submissions: packed, checked, played again; what is refused although it fits together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.files import read_json, write_json
from rmdp_bench.results import make_request, run
from rmdp_bench.submission import Submission, read_submission, read_verification, recipes
from rmdp_bench.submission.budget import Budget
from rmdp_bench.submission.format import submission_to_toml
from rmdp_bench.submission.packing import pack
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rounds import ROUNDS_FILE, get_secret, held_out_seed, list_rounds
from rmdp_bench.submission.structure import write_manifest
from scripts.open_round import open_round
from scripts.write_schemas import FOLDER, make_schemas
from tests.submission_toys import (
    ABOUT,
    ROOT,
    ROW,
    SOLVER,
    TASK,
    claim,
    copy_of,
    edit_json,
    refused,
    run_example,
)

REFERENCE = ROOT / "leaderboards" / "submissions" / "reference"
Capture = pytest.CaptureFixture[str]


def test_from_run_to_verified(honest_submission: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = copy_of(honest_submission, tmp_path)
    assert main(["verify", str(folder)]) == 0
    assert "reported" in capsys.readouterr().out
    assert main(["verify", str(folder), "--full", "--record", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in document["rows"]] == ["verified"]
    finding = read_verification(folder)[TASK, SOLVER]
    assert (finding.status, finding.round, finding.n_episodes) == ("verified", 0, 40)
    for seed in finding.seeds:
        low, high = seed.interval
        assert low <= seed.claimed <= high
        assert seed.replayed == pytest.approx(seed.claimed, abs=1e-9)
    assert main(["verify", str(folder)]) == 0  # with its verification.json


def test_changed_row_is_reported_again(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    edit_json(folder / ROW / "seed-0" / "result.json", wall_seconds=1e6)
    write_manifest(folder)
    check_submission(folder)
    finding = read_verification(folder)[TASK, SOLVER]
    assert (finding.status, finding.seeds, finding.sha256) == ("reported", [], None)


def test_raised_claim_is_refused(honest_submission: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = copy_of(honest_submission, tmp_path)
    claim(folder / ROW / "seed-0", lambda matrix: np.minimum(matrix + 3.0, 100.0))
    assert main(["verify", str(folder)]) == 0  # everything in it agrees
    message = refused(capsys, "verify", str(folder), "--full", "--record")
    assert "seed-0: claimed is a social welfare of" in message
    assert not (folder / "verification.json").exists()


def test_policies_of_another_seed_are_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    first, second = (folder / ROW / f"seed-{seed}" / "solution" for seed in (0, 1))
    for j in range(3):
        own, other = first / f"policy-{j}.onnx", second / f"policy-{j}.onnx"
        data = own.read_bytes()
        own.write_bytes(other.read_bytes())
        other.write_bytes(data)
    write_manifest(folder)
    check_submission(folder)
    assert "seed-0: " in refused(capsys, "verify", str(folder), "--full")


def test_policies_in_another_order_are_refused(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    solution = folder / ROW / "seed-0" / "solution"
    (solution / "policy-0.onnx").rename(solution / "aside")
    (solution / "policy-2.onnx").rename(solution / "policy-0.onnx")
    (solution / "aside").rename(solution / "policy-2.onnx")
    write_manifest(folder)
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
    first, second = (folder / ROW / f"seed-{seed}" for seed in (0, 1))
    for path in first.rglob("*"):
        if path.is_file():
            (second / path.relative_to(first)).write_bytes(path.read_bytes())
    edit_json(second / "result.json", seed=1)
    write_manifest(folder)
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
    solver = str(ROOT / "tests" / "toy_offline_solver.py")
    command = ["run", solver, task, "--seeds", "0:2", "--episodes", "4", "--out", str(runs)]
    assert main(command) == 0
    folder = pack([runs], "offline", tmp_path, ABOUT)
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    finding = read_verification(folder)[task, "toy_offline_solver"]
    assert finding.status == "verified"
    record = read_json(folder / task / "toy_offline_solver" / "seed-0" / "result.json")
    assert record["offline"]["factor_correlation"] is not None
    record["offline"]["unseen_returns"][0] += 1.0
    write_json(folder / task / "toy_offline_solver" / "seed-0" / "result.json", record)
    write_manifest(folder)
    assert "offline: unseen_returns is" in refused(capsys, "verify", str(folder))


def test_rows_without_policies(tmp_path: Path, capsys: Capture) -> None:
    task, runs = "CartPoleHet-n500-pure-v1", tmp_path / "runs"
    solver = str(ROOT / "tests" / "toy_offline_solver.py")
    command = ["run", solver, task, "--episodes", "4", "--set", "export=false"]
    assert main([*command, "--out", str(runs)]) == 0
    folder = pack([runs], "memory", tmp_path, ABOUT)
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    assert read_verification(folder)[task, "toy_offline_solver"].status == "reported"
    # The same, by a solver of the suite.
    result = folder / task / "toy_offline_solver" / "seed-0" / "result.json"
    edit_json(result, solver="true_env_mpc", solver_sha256=None)
    (folder / task / "toy_offline_solver").rename(folder / task / "true_env_mpc")
    text = (folder / "submission.toml").read_text()
    (folder / "submission.toml").write_text(text.replace("toy_offline_solver", "true_env_mpc"))
    write_manifest(folder)
    capsys.readouterr()
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    printed = capsys.readouterr().out
    assert f"recipe: rmdp-bench run true_env_mpc {task} --seeds 0:1 --device cpu" in printed
    assert "--episodes 4" in printed
    assert read_verification(folder)[task, "true_env_mpc"].status == "recipe"


def test_recipes_are_run_again(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, runs = "CartPoleHet-n500-pure-v1", tmp_path / "runs"
    command = ["run", "true_env_mpc", task, "--seeds", "0:2", "--episodes", "1"]
    command += ["--set", "n_sequences=5", "--set", "horizon=3", "--out", str(runs)]
    assert main(command) == 0
    folder = pack([runs], "planned", tmp_path, ABOUT)
    assert main(["verify", str(folder), "--full", "--recipes", "--record"]) == 0
    finding = read_verification(folder)[task, "true_env_mpc"]
    assert finding.status == "recipe"
    assert [seed.measured for seed in finding.seeds] == [seed.claimed for seed in finding.seeds]
    claims = [seed.claimed for seed in finding.seeds]

    def lower(*_: object) -> list[float]:
        return [claim - 3.0 - 2.0 * np.ptp(claims) for claim in claims]

    monkeypatch.setattr("rmdp_bench.submission.recipes._run", lower)
    message = refused(capsys, "verify", str(folder), "--full", "--recipes")
    assert "but its command gives" in message


def test_recipes_that_fail(tmp_path: Path) -> None:
    task, runs = "CartPoleHet-n500-pure-v1", tmp_path / "runs"
    request = make_request(
        "true_env_mpc", task, n_episodes=1, out=runs, settings=["n_sequences=5", "horizon=3"]
    )
    records = run(request)
    command = ["run", "true_env_mpc", task, "--episodes", "1"]
    with pytest.raises(ValueError, match="fails with exit code 2, .*n_sequences"):
        recipes._run([*command, "--set", "n_sequences=0"], records, Budget())
    with pytest.raises(ValueError, match="more than the 0 s that are left of --wall-seconds"):
        recipes._run(command, records, Budget(wall_seconds=0.1))
    with pytest.raises(ValueError, match="more than the 1 s that are left of --cpu-seconds"):
        recipes._run([*command, "--set", "n_sequences=5000"], records, Budget(cpu_seconds=0.5))


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
    assert "this belongs to the open division" in message
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


def test_packing_needs_all_seeds(tmp_path: Path) -> None:
    run_example(tmp_path / "runs")
    with pytest.raises(ValueError, match=r"are \[1\], expected 0, 1, ... without a gap"):
        pack([tmp_path / "runs" / ROW / "seed-1"], "late", tmp_path, ABOUT)
    with pytest.raises(ValueError, match="seed 0 of .* is there twice"):
        copy = copy_of(tmp_path / "runs", tmp_path)
        pack([tmp_path / "runs", copy], "twice", tmp_path, ABOUT)


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


def test_rounds(tmp_path: Path) -> None:
    number, secret = get_secret()
    assert list_rounds()[number].secret == secret
    assert list_rounds()[0].secret is not None
    assert held_out_seed(secret, "a") != held_out_seed(secret, "b")
    assert 2**31 + 2**32 <= held_out_seed(secret, TASK) < 2**61
    rounds = tmp_path / "rounds.json"
    rounds.write_bytes(ROUNDS_FILE.read_bytes())
    opened = open_round(tmp_path / "secret", rounds)
    assert opened.secret is None
    hidden = (tmp_path / "secret").read_text().strip()
    assert hashlib.sha256(bytes.fromhex(hidden)).hexdigest() == opened.sha256
    assert list_rounds(rounds)[-1] == opened
    with pytest.raises(ValueError, match="is there already"):
        open_round(tmp_path / "secret", rounds)
    document = read_json(rounds)
    document["rounds"][-1]["secret"] = "0" * 64
    write_json(rounds, document)
    with pytest.raises(ValueError, match="not the one committed to"):
        list_rounds(rounds)


def test_open_round_needs_its_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = tmp_path / "rounds.json"
    rounds.write_bytes(ROUNDS_FILE.read_bytes())
    opened = open_round(tmp_path / "secret", rounds)
    listed = list_rounds(rounds)
    monkeypatch.setattr("rmdp_bench.submission.rounds.list_rounds", lambda: listed)
    assert get_secret()[0] == 0
    with pytest.raises(ValueError, match=f"round {opened.number} is open; its secret is needed"):
        get_secret(opened.number)
    assert get_secret(None, tmp_path / "secret")[0] == opened.number
    with pytest.raises(ValueError, match="not that of round 0"):
        get_secret(0, tmp_path / "secret")
    (tmp_path / "secret").write_text("f" * 64)
    with pytest.raises(ValueError, match="not that of round"):
        get_secret(opened.number, tmp_path / "secret")


def test_schemas_are_current() -> None:
    schemas = make_schemas()
    assert {path.name for path in FOLDER.iterdir()} == set(schemas)
    for name, schema in schemas.items():
        assert read_json(FOLDER / name) == schema, "run python -m scripts.write_schemas"


def test_reference_rows_pass() -> None:
    checked = check_submission(REFERENCE)
    assert len(checked.records) == len(checked.submission.rows) >= 10
    findings = read_verification(REFERENCE)
    assert {finding.status for finding in findings.values()} <= {"verified", "recipe"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "there is no folder no-such-folder"),
        ([".", "--record"], "go with --full"),
        ([".", "--round", "0"], "go with --full"),
        ([".", "--full", "--round", "99"], "round 99 is not there"),
        ([".", "--full", "--secret", "no-such-file"], "cannot read no-such-file"),
        ([".", "--full", "--memory", "0"], "--memory 0"),
        ([".", "--full", "--start-seconds", "-1"], "--start-seconds -1"),
        (["."], "submission.toml: No such file"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, capsys: Capture) -> None:
    assert message in refused(capsys, "verify", *arguments)
