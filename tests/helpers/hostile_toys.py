"""Builders of hostile files: damages to a submission, arrays, archives, graphs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers.submission_toys import ROW, edit_json, rehash, unpacked
from tests.helpers.toys import constant, make_graph

Damage = Callable[[Path], object]
SEED = f"{ROW}/seed-0"
RESULT, POLICY = f"{SEED}/result.json", f"{SEED}/solution/policy-0.onnx"
WELFARE, ASSIGNMENT = f"{SEED}/welfare.npz", f"{SEED}/solution/assignment.npy"
CURVE = f"{SEED}/curve.csv"
"""Of a run directory, which the row was packed from."""
RECORDS_FILE, ARRAYS_FILE, POLICIES_FILE = (
    f"{ROW}/{name}" for name in ("records.json", "arrays.npz", "policies.zip")
)


@contextlib.contextmanager
def place_of(folder: Path, name: str) -> Iterator[Path]:
    """Where a file of a submission is, or that of a run directory, which is packed afterwards."""
    if "/seed-" not in name:
        yield folder / name
        rehash(folder)
        return
    with unpacked(folder) as runs:
        yield runs / name


def put(name: str, data: bytes | str) -> Damage:
    """Write a file, and list it in the manifest if it may be there at all."""

    def damage(folder: Path) -> None:
        with place_of(folder, name) as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)

    return damage


def replace(name: str, old: str, new: str) -> Damage:
    """Change a text in a file."""

    def damage(folder: Path) -> None:
        with place_of(folder, name) as path:
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))

    return damage


def field(**changes: Any) -> Damage:
    """Change fields of a record."""

    def damage(folder: Path) -> None:
        edit_json(folder / RESULT, **changes)

    return damage


def toml(line: str) -> Damage:
    """Put a line in the place of that of the same key."""

    def damage(folder: Path) -> None:
        path, key = folder / "submission.toml", line.partition("=")[0]
        lines = path.read_text().splitlines()
        kept = [text for text in lines if not text.startswith(key)]
        path.write_text("\n".join([line, *kept]) + "\n")

    return damage


def link(name: str, target: str) -> Damage:
    """Put a symbolic link in the place of a file or folder."""

    def damage(folder: Path) -> None:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(target)

    return damage


def pipe(folder: Path) -> None:
    (folder / RECORDS_FILE).unlink()
    os.mkfifo(folder / RECORDS_FILE)


def remove(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with place_of(folder, name) as path:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def unlisted(folder: Path) -> None:
    """A manifest that says nothing about a file."""
    document = json.loads((folder / "manifest.json").read_text())
    del document["files"][POLICIES_FILE]
    (folder / "manifest.json").write_text(json.dumps(document))


def listed(path: str) -> Damage:
    """A manifest that lists a file that is not there, or is somebody else's."""

    def damage(folder: Path) -> None:
        document = json.loads((folder / "manifest.json").read_text())
        document["files"][path] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(document))

    return damage


def array(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def promised(shape: str, descr: str = "<f8") -> bytes:
    """A .npy file with a header that promises more than there is."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def welfare(matrix: Any, lengths: Any = None) -> bytes:
    lengths = np.full((3, 20), 5) if lengths is None else lengths
    return zipped({"welfare_matrix.npy": array(matrix), "episode_lengths.npy": array(lengths)})


def graph(*nodes: onnx.NodeProto, tensors: Any = (), **kinds: Any) -> bytes:
    """A policy of Resource Gathering."""
    kinds = {"outputs": {"action": (TensorProto.INT64, ["E"])}} | kinds
    return make_graph(nodes, tensors=tensors, **kinds)


def nested_graph(depth: int) -> bytes:
    """Graphs in nodes in graphs, in the encoding of protocol buffers."""

    def message(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length >= 128:
            size, length = size + bytes([length % 128 + 128]), length // 128
        return bytes([number * 8 + 2]) + size + bytes([length]) + content

    data = b""
    for _ in range(depth):
        data = message(1, message(5, message(6, data)))  # graph.node.attribute.g
    return message(7, data)


def endless() -> bytes:
    """A loop that would run for ages."""
    step = helper.make_node("Add", ["count", "one"], ["next"])
    on = helper.make_node("Identity", ["going"], ["go"])
    scalar: dict[str, tuple[int, list[Any]]] = {
        "int": (TensorProto.INT64, []),
        "bool": (TensorProto.BOOL, []),
    }
    body = helper.make_graph(
        [step, on],
        "body",
        [
            helper.make_tensor_value_info("i", *scalar["int"]),
            helper.make_tensor_value_info("going", *scalar["bool"]),
            helper.make_tensor_value_info("count", *scalar["int"]),
        ],
        [
            helper.make_tensor_value_info("go", *scalar["bool"]),
            helper.make_tensor_value_info("next", *scalar["int"]),
        ],
        [constant("one", 1, np.int64)],
    )
    loop = helper.make_node("Loop", ["many", "yes", "zero"], ["counted"], body=body)
    best = helper.make_node("ArgMax", ["observation"], ["best"], axis=1, keepdims=0)
    add = helper.make_node("Add", ["best", "counted"], ["action"])
    tensors = [
        constant("many", 2**62, np.int64),
        constant("yes", True, np.bool_),
        constant("zero", 0, np.int64),
    ]
    return graph(loop, best, add, tensors=tensors)


def allocating(size: int) -> bytes:
    """A tensor as large as a town."""
    nodes = [
        helper.make_node("Shape", ["observation"], ["rows"], end=1),
        helper.make_node("Concat", ["rows", "huge"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ArgMax", ["zeros"], ["action"], axis=1, keepdims=0),
    ]
    return graph(*nodes, tensors=[constant("huge", [size], np.int64)])


def constant_action(value: int, rows: str = "rows") -> bytes:
    """The same action always."""
    nodes = [
        helper.make_node("Shape", ["observation"], ["rows"], end=1),
        helper.make_node("Expand", ["value", rows], ["action"]),
    ]
    return graph(*nodes, tensors=[constant("value", [value], np.int64),
                                  constant("seven", [7], np.int64)])  # fmt: skip
