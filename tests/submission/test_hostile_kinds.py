"""More submissions that mean no good: kinds that the other files do not have."""

from __future__ import annotations

import json
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rmdp_bench.submission.quick import check_submission
from tests.helpers.bomb_toys import part, varint
from tests.helpers.hostile_toys import (
    ASSIGNMENT,
    POLICIES_FILE,
    POLICY,
    RECORDS_FILE,
    SEED,
    WELFARE,
    Damage,
    array,
    field,
    graph,
    put,
    remove,
    replace,
    welfare,
    zipped,
)
from tests.helpers.submission_toys import ROW, copy_of, rehash, unpacked
from tests.helpers.toys import constant

ARGMAX = helper.make_node("ArgMax", ["observation"], ["action"], axis=1, keepdims=0)
MATRIX = np.full((25, 3), 50.0)
LENGTHS = np.full((3, 20), 5)


def changed(change: Callable[[onnx.ModelProto], object]) -> Damage:
    """A policy that is honest but for one thing."""

    def damage(folder: Path) -> None:
        with unpacked(folder) as runs:
            model = onnx.load(runs / POLICY)
            change(model)
            (runs / POLICY).write_bytes(model.SerializeToString())

    return damage


def branch(*nodes: onnx.NodeProto, tensors: Any = ()) -> bytes:
    """A policy with this in a branch that is taken."""
    output = helper.make_tensor_value_info("action", TensorProto.INT64, ["E"])
    inner = helper.make_graph([*nodes, ARGMAX], "inner", [], [output], list(tensors))
    other = helper.make_graph([ARGMAX], "other", [], [output])
    choice = helper.make_node("If", ["flag"], ["action"], then_branch=inner, else_branch=other)
    return graph(choice, tensors=[constant("flag", True, np.bool_)])


def two_entries_of_one_name() -> bytes:
    data = zipped({"welfare_matrix.npy": array(MATRIX), "episode_lengthz.npy": array(LENGTHS)})
    return data.replace(b"episode_lengthz.npy", b"welfare_matrix.npy\0")


def encrypted() -> bytes:
    data = bytearray(zipped({"welfare_matrix.npy": array(MATRIX)}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def sparse_file(folder: Path) -> None:
    with (folder / f"{ROW}/arrays.npz").open("wb") as file:
        file.truncate(2**40)


def sockets(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("README.md")
    finally:
        os.chdir(here)


def many_files(folder: Path) -> None:
    for seed in range(20_001):
        (folder / f"T{seed}").mkdir()


def manifest(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return damage


def two_hashes(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(
        path.read_text().replace('"files": {', f'"files": {{"{POLICIES_FILE}": "{"0" * 64}",')
    )


def record_as_folder(folder: Path) -> None:
    (folder / RECORDS_FILE).unlink()
    (folder / RECORDS_FILE).mkdir()


STRUCTURE: dict[str, tuple[Damage, str]] = {
    "a sparse file of a terabyte": (sparse_file, "at most 67108864 are allowed"),
    "a socket": (sockets, "not a plain file"),
    "more folders than files": (many_files, "more than 20000 files and folders"),
    "a record that is a folder": (record_as_folder, "has no place"),
    "a README that is a folder": (put("README.md/x", ""), "has no place"),
    "a README of two megabytes": (put("README.md", "x" * 2**21), "at most 1048576 are allowed"),
    "policies of both forms": (put(f"{SEED}/solution/policies.onnx", b""), "policies.onnx"),
    "a policy more than the budget": (
        put(f"{SEED}/solution/policy-3.onnx", graph(ARGMAX)), "expected policies.onnx or one"
    ),
    "a policy whose number has a zero in front": (
        put(f"{SEED}/solution/policy-00.onnx", graph(ARGMAX)), "has no place"
    ),
    "another case of a folder's name": (
        put(f"{SEED.replace('seed', 'Seed')}/result.json", "{}"), "has no place"
    ),
    "returns of the other track": (
        put(f"{SEED}/returns.npz", zipped({"episode_returns.npy": array(MATRIX)})),
        "has an array 'episode_returns', which is not expected",
    ),
    "a hash in capitals": (
        manifest(lambda d: d["files"].update({POLICIES_FILE: "A" * 64})),
        "files",
    ),
    "two hashes of one file": (two_hashes, "is there twice"),
    "hashes of no files": (manifest(lambda d: d.update(files={})), "not listed"),
    "a thousand and one seeds": (
        replace("submission.toml", "[0, 1]", str(list(range(1001)))), "1000"
    ),
    "a mark of byte order before the description": (
        lambda folder: (folder / "submission.toml").write_bytes(
            b"\xef\xbb\xbf" + (folder / "submission.toml").read_bytes()
        ),
        "is not TOML",
    ),
    "a date in the settings": (
        replace("submission.toml", "settings = {", "settings = { when = 2026-01-01, "),
        "is not the settings",
    ),
    "no rows": (
        lambda folder: (folder / "submission.toml").write_text(
            (folder / "submission.toml").read_text().partition("[[rows]]")[0]
        ),
        "rows",
    ),
    "the same row twice": (
        lambda folder: (folder / "submission.toml").write_text(
            (folder / "submission.toml").read_text()
            + "[[rows]]"
            + (folder / "submission.toml").read_text().partition("[[rows]]")[2]
        ),
        "is there twice",
    ),
    "a seed less than listed": (remove(f"{ROW}/seed-1"), "has 1 seeds, but"),
    "a setting that pages do not show": (
        replace("submission.toml", "settings = {", 'settings = { "__proto__" = 1, '),
        "__proto__",
    ),
}  # fmt: skip

ARRAYS: dict[str, tuple[Damage, str]] = {
    "one array twice": (put(WELFARE, two_entries_of_one_name()), "arrays.npz"),
    "an array behind a password": (put(WELFARE, encrypted()), "arrays.npz"),
    "complex returns": (put(WELFARE, welfare(MATRIX * 1j)), "expected numbers"),
    "dates as returns": (put(WELFARE, welfare(MATRIX.astype("M8[s]"))), "expected numbers"),
    "lengths below one": (put(WELFARE, welfare(MATRIX, LENGTHS * 0)), "0 at"),
    "lengths of NaN": (put(WELFARE, welfare(MATRIX, LENGTHS * np.nan)), "nan at"),
    "lengths of fewer episodes": (
        put(WELFARE, welfare(MATRIX, LENGTHS[:, :1])), "has shape (3, 1)"
    ),
    "returns without lengths": (
        put(WELFARE, zipped({"welfare_matrix.npy": array(MATRIX)})), "has no episode_lengths"
    ),
    "an archive in an archive": (
        put(WELFARE, zipped({"welfare_matrix.npy": zipped({"x": bytes(100)})})), "cannot read"
    ),
    "an empty archive": (put(WELFARE, zipped({})), "welfare.npz is missing"),
    "one agent of all policies": (
        put(ASSIGNMENT, array(np.r_[[[1.0, 1.0, 1.0]], np.eye(3)[np.arange(24) % 3]])), "agent 0"
    ),
    "shares that cancel": (
        put(ASSIGNMENT, array(np.r_[[[2.0, -1.0, 0.0]], np.eye(3)[np.arange(24) % 3]])), "agent 0"
    ),
    "an array of no axes": (put(ASSIGNMENT, array(np.float64(1.0))), "has shape ()"),
    "compressed without a standard": (
        put(WELFARE, zipped({"welfare_matrix.npy": array(MATRIX)}, zipfile.ZIP_BZIP2)), "arrays.npz"
    ),
}  # fmt: skip

GRAPHS: dict[str, tuple[Damage, str]] = {
    "random in a branch": (
        put(POLICY, branch(helper.make_node("RandomNormal", [], ["x"], shape=[1]))), "is random"
    ),
    "external data in a branch": (
        put(POLICY, branch(tensors=[
            TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)])),
        "external data",
    ),
    "external data in a constant": (
        put(POLICY, graph(helper.make_node("Constant", [], ["w"], value=TensorProto(
            data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)), ARGMAX)),
        "external data",
    ),
    "external data in an attribute's list": (
        put(POLICY, graph(helper.make_node("Constant", [], ["w"], values=[TensorProto(
            data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)]), ARGMAX)),
        "external data",
    ),
    "operators of the runtime": (
        put(POLICY, graph(helper.make_node("FusedMatMul", ["observation", "observation"], ["x"],
                                           domain="com.microsoft"), ARGMAX,
                          domains=["", "com.microsoft"])),
        "not a standard ONNX operator",
    ),
    "a function of its own": (
        changed(lambda m: m.functions.append(helper.make_function(
            "", "ArgMax", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])],
            [helper.make_opsetid("", 17)]))),
        "functions and training graphs are not allowed",
    ),
    "a graph for training": (
        changed(lambda m: m.training_info.add()), "functions and training graphs are not allowed"
    ),
    "no set of operators": (changed(lambda m: m.ClearField("opset_import")), "policy-0.onnx"),
    "operators of the future": (
        changed(lambda m: setattr(m.opset_import[0], "version", 10**6)),
        "its operators are of version 1000000"
    ),
    "a format of the future": (changed(lambda m: setattr(m, "ir_version", 10**6)), "policy-0.onnx"),
    "nodes in a circle": (
        put(POLICY, graph(helper.make_node("Add", ["observation", "b"], ["a"]),
                          helper.make_node("Neg", ["a"], ["b"]), ARGMAX)),
        "policy-0.onnx",
    ),
    "a node without its input": (
        put(POLICY, graph(helper.make_node("Neg", ["nothing"], ["x"]), ARGMAX)), "policy-0.onnx"
    ),
    "two nodes of one output": (put(POLICY, graph(ARGMAX, ARGMAX)), "policy-0.onnx"),
    "a second input": (
        put(POLICY, graph(ARGMAX, inputs={"observation": (TensorProto.FLOAT, ["E", 27]),
                                          "clock": (TensorProto.FLOAT, ["E"])})),
        "inputs are",
    ),
    "texts as observations": (
        put(POLICY, graph(ARGMAX, inputs={"observation": (TensorProto.STRING, ["E", 27])})),
        "inputs are",
    ),
    "a tensor with fewer numbers than its shape": (
        put(POLICY, graph(ARGMAX, tensors=[
            TensorProto(name="w", data_type=1, dims=[1000], raw_data=bytes(4))])),
        "policy-0.onnx",
    ),
    "a tensor of a negative size": (
        put(POLICY, graph(ARGMAX, tensors=[
            TensorProto(name="w", data_type=1, dims=[-4], raw_data=bytes(16))])),
        "policy-0.onnx",
    ),
    "a tensor of an unknown type": (
        put(POLICY, graph(ARGMAX, tensors=[
            TensorProto(name="w", data_type=99, dims=[1], raw_data=bytes(4))])),
        "is of type 99, which is unknown",
    ),
    "names that are not text": (
        put(POLICY, part(7, part(2, b"\xff\xfe"))), "policy-0.onnx"
    ),
    "a version that is a text": (put(POLICY, part(1, b"eight")), "policy-0.onnx"),
    "nothing but a version": (put(POLICY, varint(8) + varint(8)), "inputs are"),
}  # fmt: skip

RECORDS: dict[str, tuple[Damage, str]] = {
    "a mean of other agents": (field(agent_returns=[50.0] * 24), "agent_returns"),
    "policies in another place": (field(solution="../seed-1/solution"), "solution"),
    "a curve in another place": (field(curve="/etc/passwd"), "curve"),
    "a link as a solver's hash": (field(solver_sha256="https://a.example"), "solver_sha256"),
    "scores of the other track": (field(offline={}), "offline"),
    "a schema of the future": (field(schema_version=2), "schema_version"),
    "a surrogate pair in a key": (field(config={"\ud83d": 1}), "surrogate"),
    "a version that is no number": (
        field(versions={"gymnasium": "one", "mujoco": "three"}),
        "versions: gymnasium is one",
    ),
    "a record of the last seed": (field(seed=2**31), "seed"),
}

KINDS = STRUCTURE | ARRAYS | GRAPHS | RECORDS


@pytest.mark.parametrize("case", KINDS)
def test_refused(case: str, honest_submission: Path, tmp_path: Path) -> None:
    damage, message = KINDS[case]
    folder = copy_of(honest_submission, tmp_path)
    damage(folder)
    if case in ARRAYS or case in GRAPHS:
        rehash(folder)
    with pytest.raises(ValueError) as refusal:
        check_submission(folder)
    assert message in str(refusal.value)
    assert "honest" in str(refusal.value)


def test_there_are_thirty_more() -> None:
    assert len(KINDS) >= 60


def test_clean_copies_pass(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    changed(lambda model: setattr(model, "doc_string", "a remark"))(folder)
    check_submission(folder)
