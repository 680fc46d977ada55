"""Submissions that mean no good: one clear line, exit code 2, nothing written, no waiting."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from rmdp_bench.submission import read_submission
from rmdp_bench.submission.sandbox import checker
from tests.helpers.hostile_toys import (
    ARRAYS_FILE,
    ASSIGNMENT,
    CURVE,
    POLICIES_FILE,
    POLICY,
    RECORDS_FILE,
    RESULT,
    SEED,
    WELFARE,
    Damage,
    allocating,
    array,
    constant_action,
    endless,
    field,
    graph,
    link,
    listed,
    nested_graph,
    pipe,
    promised,
    put,
    remove,
    replace,
    toml,
    unlisted,
    welfare,
    zipped,
)
from tests.helpers.submission_toys import ROW, SOLVER, TASK, copy_of, refused
from tests.helpers.toys import constant

ZEROS = np.zeros((25, 3))
EYE = np.eye(3)[np.arange(25) % 3]
ARGMAX = helper.make_node("ArgMax", ["observation"], ["action"], axis=1, keepdims=0)

STRUCTURE: dict[str, tuple[Damage, str]] = {
    "no description": (remove("submission.toml"), "cannot read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "cannot read"),
    "no records": (remove(RECORDS_FILE), "cannot read"),
    "no record": (remove(RESULT), "has 1 seeds, but submission.toml lists 2"),
    "no arrays": (remove(ARRAYS_FILE), "cannot read"),
    "no returns": (remove(WELFARE), "welfare.npz is missing"),
    "no policies": (remove(POLICIES_FILE), "holds no policies, expected"),
    "no policies of a seed": (remove(f"{SEED}/solution"), "solution is missing"),
    "one policy less": (remove(POLICY), "expected policies.onnx or one"),
    "a seed less": (remove(SEED), "has 1 seeds, but submission.toml lists 2"),
    "a script": (put("setup.py", "print()"), "'setup.py' has no place"),
    "a pickle": (put(f"{SEED}/solution/policy-0.pkl", b"\x80\x04."), "has no place"),
    "an archive": (put(f"{SEED}/policies.zip", zipped({"../../x": b""})), "has no place"),
    "a hidden folder": (put(".git/config", ""), "'.git' has no place"),
    "a folder in a seed": (put(f"{SEED}/more/x.onnx", ""), "has no place"),
    "a checkpoint": (put(f"{SEED}/checkpoint/1.npz", ""), "has no place"),
    "seed with a zero in front": (put(f"{ROW}/seed-00/result.json", "{}"), "has no place"),
    "a row that is not listed": (put(f"{TASK}/other/seed-0/result.json", "{}"), "of no row"),
    "direction marks in a file name": (put(f"{ROW}/\u202egnp.json", "{}"), "\\u202egnp"),
    "control characters in a file name": (put("a\x1b[2Jb", ""), "has no place"),
    "a file name that is not text": (
        lambda folder: Path(os.fsdecode(bytes(folder) + b"/\xff\xfe")).write_bytes(b""),
        "has no place",
    ),
    "letters that look like others": (
        put(f"{TASK}/\u0435m/seed-0/result.json", "{}"),
        "has no place",
    ),
    "link to a file": (link(RECORDS_FILE, "/etc/hostname"), "not a plain file"),
    "link to a folder": (link(POLICIES_FILE, "/etc"), "not a plain file"),
    "link that leaves the folder": (link(TASK, "../.."), "not a plain file"),
    "link to itself": (link(POLICIES_FILE, "policies.zip"), "not a plain file"),
    "link as description": (link("submission.toml", "/etc/hostname"), "not a plain file"),
    "a pipe": (pipe, "not a plain file"),
    "file that the manifest does not list": (unlisted, "not listed"),
    "manifest leaves the folder": (listed("../../../etc/passwd"), "not there"),
    "manifest with an absolute path": (listed("/etc/passwd"), "not there"),
    "another file than packed": (
        lambda folder: (folder / RECORDS_FILE).write_bytes(
            (folder / RECORDS_FILE).read_bytes() + b"\n"
        ),
        "not the file that was packed",
    ),
}

TEXTS: dict[str, tuple[Damage, str]] = {
    "description is not TOML": (put("submission.toml", "name = \n"), "is not TOML"),
    "description is not UTF-8": (put("submission.toml", b"name = '\xff'"), "is not UTF-8"),
    "key twice in TOML": (put("submission.toml", "name = 'a'\nname = 'b'\n"), "is not TOML"),
    "deep TOML": (put("submission.toml", "a = " + "[" * 50_000), "nested too deeply"),
    "deep TOML on many lines": (put("submission.toml", "a = " + "[\n" * 50_000), "is not TOML"),
    "long dotted key": (put("submission.toml", "a." * 50_000 + "a = 1"), "nested too deeply"),
    "long dotted key in a table": (
        put("submission.toml", "a = { " + "a." * 100_000 + "a = 1 }"),
        "nested too deeply",
    ),
    "long dotted key of line separators": (
        put("submission.toml", "['='" + ".'\u2028'" * 40_000 + "]"),
        "nested too deeply",
    ),
    "huge TOML": (put("submission.toml", "#" * 2**20), "are allowed"),
    "unknown field": (toml("<b>x</b> = 1"), "is not TOML"),
    "field of another version": (toml("schema_version = 3"), "schema_version"),
    "extra field": (toml("verified = true"), "verified: Extra inputs"),
    "name of another folder": (toml('name = "reference"'), "name is 'reference'"),
    "name with a path": (toml('name = "../honest"'), "name: '../honest' is not a name of a"),
    "name in look-alike letters": (
        toml('name = "h\u043enest"'),
        "name: 'h\\u043enest' is not a name of a",
    ),
    "no authors": (toml("authors = []"), "authors"),
    "direction marks": (toml('authors = ["\u202ekcah"]'), "U+202E"),
    "invisible characters": (toml('method = "a\u200bb"'), "U+200B"),
    "invisible letters": (toml('authors = ["\u3164"]'), "U+3164"),
    "selectors of variants": (toml('method = "a\ufe0fb"'), "U+FE0F"),
    "accents over other lines": (toml(f'method = "a{chr(0x335) * 9}"'), "one accent more"),
    "blank author": (toml('authors = ["  "]'), "blank"),
    "control characters": (toml('method = "a\\u001b[2Jb"'), "U+001B"),
    "decomposed letters": (toml('method = "A\u030angstro\u0308m"'), "normal form C"),
    "a very long text": (toml(f'description = "{"x" * 5000}"'), "5000 characters"),
    "script as a link": (toml('code = "javascript:alert(1)"'), "is not a link: https://"),
    "quote in a link": (toml("code = 'https://a.b/\"onclick=x'"), "is not a link: https://"),
    "division of its own": (toml('division = "gold"'), "division: Input should be"),
    "open without differences": (toml("differences = []"), "names at least one"),
    "infinite evaluations": (toml("n_online_evaluations = inf"), "n_online_evaluations"),
    "evaluations without end": (
        toml(f"n_online_evaluations = 0x{'f' * 20_000}"),
        "n_online_evaluations: Input should be less",
    ),
    "task that leaves the folder": (
        replace("submission.toml", TASK, f"../{TASK}"),
        f"task: '../{TASK}' is not a name of a task",
    ),
    "unknown task": (replace("submission.toml", TASK, "NoSuchTask-v0"), "unknown task"),
    "settings of another run": (replace("submission.toml", "= 8", "= 9"), "is not the settings"),
    "seeds with a gap": (replace("submission.toml", "[0, 1]", "[0, 2]"), "without a gap"),
}

RECORDS: dict[str, tuple[Damage, str]] = {
    "key twice in JSON": (replace(RESULT, '"seed": 0', '"seed": 0, "seed": 0'), "is there twice"),
    "the last of 10,000 keys twice": (
        put(RESULT, "{" + "".join(f'"{i}":0,' for i in range(10_000)) + '"9999":0}'),
        "'9999' is there twice",
    ),
    "NaN in JSON": (replace(RESULT, '"gini": ', '"gini": NaN, "_": '), "NaN is not a number"),
    "infinity in JSON": (replace(RESULT, '"gini": ', '"gini": -Infinity, "_": '), "Infinity"),
    "number beyond a float": (replace(RESULT, '"gini": ', '"gini": 1e999, "_": '), "too large"),
    "integer of 5000 digits": (replace(RESULT, '"seed": 0', f'"seed": {"9" * 5000}'), "digits"),
    "ten million lines": (put(RESULT, "[\n" + "0,\n" * 10_000_000 + "0]"), "are allowed"),
    "deep JSON": (put(RESULT, "[" * 100_000), "nested too deeply"),
    "deep settings": (
        field(config=json.loads('{"a":' * 100 + "1" + "}" * 100)),
        "nested more than",
    ),
    "JSON that is no object": (put(RECORDS_FILE, "[]"), "expected a JSON object"),
    "a record that is no object": (
        put(RESULT, "[]"),
        "seeds.0.record: Input should be a valid dict",
    ),
    "empty JSON": (put(RESULT, ""), "not valid JSON"),
    "half of a surrogate pair": (field(git_revision="\ud800"), "surrogate"),
    "unknown field in JSON": (field(verified=True), "verified"),
    "text as a number": (field(social_welfare="<script>"), "social_welfare"),
    "welfare alone raised": (field(social_welfare=99.0), "does not agree"),
    "more than possible": (field(agent_returns=[100.0] * 25), "does not agree"),
    "record of another task": (field(task="HalfCheetahVel-n100-k5-v0"), "agent_returns"),
    "record of another seed": (field(seed=7), "seed is 7, expected 0"),
    "record of another solver": (field(solver="em"), "solver is 'em'"),
    "path as array file": (field(welfare_matrix="../../welfare.npz"), "welfare_matrix"),
    "transitions beyond any float": (field(transitions=10**400), "transitions: Input should be"),
    "negative time": (field(wall_seconds=-1.0), "wall_seconds"),
    "no memory": (field(peak_memory_mib=0.0), "peak_memory_mib"),
    "less than all seconds": (field(train_seconds=1e8), "train_seconds"),
    "another version of the simulator": (field(versions={"mujoco": "1.0"}), "versions"),
    "unknown device": (field(device="quantum"), "device"),
    "other evaluation seeds": (
        field(evaluation={"n_episodes": 20, "seed": 2**31 + 1}),
        "evaluation: seed 2147483649",
    ),
    "solver of the suite by name only": (field(solver_sha256=None), "solver_sha256"),
    "curve with a formula": (
        put(CURVE, "transitions,wall_seconds,social_welfare,train_social_welfare\n=1+1,0,0,0\n"),
        "is not what its record names",
    ),
    "curve of nonsense": (
        lambda folder: [field(curve="curve.csv")(folder), put(CURVE, "<html>")(folder)],
        "the first line",
    ),
    "a mark of its own": (
        put("verification.json", '{"schema_version": 1, "name": "honest", "rows": []}'),
        "'verification.json' has no place",
    ),
    "marks of its own": (put("marks.json", "{}"), "'marks.json' has no place"),
    "one episode": (
        field(evaluation={"n_episodes": 1, "seed": 2**31}),
        "1 episodes, expected seed 2147483648 and the task's 20 episodes, in both divisions",
    ),
}

ARRAYS: dict[str, tuple[Damage, str]] = {
    "pickle in an array": (put(ASSIGNMENT, array(np.array([[{}]], object))), "expected numbers"),
    "array of text": (put(ASSIGNMENT, array(np.full((25, 3), "1"))), "expected numbers"),
    "huge assignment": (put(ASSIGNMENT, promised("(1000000000000, 3)")), "expected (25, 3)"),
    "negative size": (put(ASSIGNMENT, promised("(-1, -64)", "|u1")), "expected sizes"),
    "array of too many axes": (put(ASSIGNMENT, promised(str((1,) * 30))), "expected (25, 3)"),
    "header that is code": (put(ASSIGNMENT, promised("__import__('os')")), "cannot read"),
    "no array": (put(ASSIGNMENT, b"PK\x03\x04"), "cannot read"),
    "rows that do not sum to one": (put(ASSIGNMENT, array(EYE * 0.9)), "agent 0"),
    "negative shares": (put(ASSIGNMENT, array(EYE * 3 - 2 / 3)), "agent 0"),
    "NaN in the assignment": (put(ASSIGNMENT, array(EYE * np.nan)), "agent 0"),
    "assignment of fewer agents": (put(ASSIGNMENT, array(EYE[:7])), "expected (25, 3)"),
    "NaN in the returns": (put(WELFARE, welfare(ZEROS * np.nan)), "nan at"),
    "infinite returns": (put(WELFARE, welfare(ZEROS + np.inf)), "inf at"),
    "returns above a perfect episode": (put(WELFARE, welfare(ZEROS + 101)), "101.0 at"),
    "returns of other policies": (put(WELFARE, welfare(ZEROS)), "but the raw returns give"),
    "returns of another shape": (put(WELFARE, welfare(ZEROS[:2])), "has shape (2, 3)"),
    "episodes without end": (put(WELFARE, welfare(ZEROS, np.full((3, 20), 10**9))), "1000000000"),
    "one array more": (put(WELFARE, zipped({"x.npy": array(ZEROS)})), "'x', which is not"),
    "zip bomb": (put(WELFARE, zipped({"welfare_matrix.npy": bytes(2**24)})), "unpacks to"),
    "thousands of entries": (
        put(WELFARE, b"PK\x01\x02" * 8000 + zipped({"x.npy": array(ZEROS)})),
        "it does not end with a list",
    ),
    "path in an archive": (
        put(WELFARE, zipped({"../../x.npy": array(ZEROS)})),
        "'seed-0/../../x.npy'",
    ),
    "compressed in another way": (
        put(WELFARE, zipped({"welfare_matrix.npy": array(ZEROS)}, zipfile.ZIP_LZMA)),
        "arrays.npz",
    ),
    "half an archive": (put(WELFARE, welfare(ZEROS)[:-30]), "it does not end with a list"),
    "pickle in an archive": (put(WELFARE, welfare(np.array([{}], object))), "expected numbers"),
}

GRAPHS: dict[str, tuple[Damage, str]] = {
    "policy that is no graph": (put(POLICY, b"\x80\x04K\x01."), "not an ONNX model"),
    "empty policy": (put(POLICY, b""), "inputs are"),
    "graph of too many nodes": (
        put(POLICY, graph(*[helper.make_node("Neg", ["observation"], [f"x{i}"])
                            for i in range(20_001)], ARGMAX)),
        "more than 20000 nodes",
    ),
    "graphs too deep in each other": (put(POLICY, nested_graph(10_000)), "not an ONNX model"),
    "operator of its own": (
        put(POLICY, graph(helper.make_node("Run", ["observation"], ["action"], domain="evil"),
                          domains=["", "evil"])),
        "not a standard ONNX operator",
    ),
    "tensor in another file": (put(POLICY, graph(ARGMAX, tensors=[
        TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)])),
        "external data",
    ),
    "random policy": (
        put(POLICY, graph(helper.make_node("RandomUniform", [], ["x"], shape=[1]), ARGMAX)),
        "is random",
    ),
    "policy for other observations": (
        put(POLICY, graph(ARGMAX, inputs={"observation": (TensorProto.FLOAT, ["E", 5])})),
        "observations of 5, expected 27",
    ),
    "policy for other actions": (
        put(POLICY, graph(helper.make_node("Identity", ["observation"], ["action"]),
                          outputs={"action": (TensorProto.FLOAT, ["E", "a"])})),
        "actions are of the wrong kind",
    ),
    "output of an unknown type": (
        put(POLICY, graph(ARGMAX, outputs={"action": (77, ["E"])})), "outputs are",
    ),
}  # fmt: skip

QUICK = STRUCTURE | TEXTS | RECORDS | ARRAYS | GRAPHS


BAD_POLICIES: dict[str, tuple[bytes, str]] = {
    "never answers": (endless(), "more than"),
    "allocates": (allocating(2**45), "policy 0 fails in act()"),
    "allocates a little less": (allocating(2**29), "policy 0 fails in act()"),
    "crashes": (
        graph(helper.make_node("Reshape", ["observation", "to"], ["flat"]),
              helper.make_node("Cast", ["flat"], ["action"], to=TensorProto.INT64),
              tensors=[constant("to", [-1, 1000], np.int64)]),
        "policy 0 fails in act()",
    ),
    "acts outside of the actions": (constant_action(99), "its action is 99"),
    "acts for others": (constant_action(1, "seven"), "actions of shape (7,)"),
}  # fmt: skip


def tree(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.mark.parametrize("case", QUICK)
def test_refused(
    case: str,
    honest_submission: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What refuses is the same here and in a process of its own, which takes a second to start.
    monkeypatch.setattr(checker, "run_in_sandbox", lambda _, job, **__: checker.check_job(job))
    damage, message = QUICK[case]
    folder = copy_of(honest_submission, tmp_path)
    damage(folder)
    before = tree(tmp_path)
    assert message in refused(capsys, "verify", str(folder))
    assert tree(tmp_path) == before


def test_there_are_enough() -> None:
    assert len(QUICK) + len(BAD_POLICIES) >= 60


@pytest.mark.parametrize("case", BAD_POLICIES)
def test_bad_policies_are_stopped(
    case: str, honest_submission: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, message = BAD_POLICIES[case]
    folder = copy_of(honest_submission, tmp_path)
    put(POLICY, data)(folder)
    before = tree(tmp_path)
    limits = ["--start-seconds", "0.1", "--memory", "1024"]
    assert message in refused(capsys, "verify", str(folder), "--full", "--record", *limits)
    assert tree(tmp_path) == before


def test_markup_is_text(honest_submission: Path, tmp_path: Path) -> None:
    """It is kept as it is, and escaped by who shows it."""
    folder = copy_of(honest_submission, tmp_path)
    toml('method = "<script>alert(1)</script> & <b>"')(folder)
    assert read_submission(folder).method == "<script>alert(1)</script> & <b>"
    assert read_submission(folder).rows[0].solver == SOLVER
