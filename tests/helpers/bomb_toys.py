"""Builders of files that are small on a disk and large in memory, and of honest ones of all kinds.

Protocol buffers are written by hand: no library would write these.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers.hostile_toys import array, graph, zipped
from tests.helpers.toys import constant

N_OBSERVATIONS, N_ACTIONS, N_AGENTS, N_POLICIES = 27, 4, 25, 3


def varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def part(number: int, content: bytes) -> bytes:
    """A field that is a message, a text or packed numbers."""
    return varint(8 * number + 2) + varint(len(content)) + content


def model(content: bytes) -> bytes:
    """A model with this in its graph."""
    return part(7, content)


def node(content: bytes) -> bytes:
    return model(part(1, content))


def tensor(content: bytes) -> bytes:
    return model(part(5, content))


def value(content: bytes) -> bytes:
    """A value with this as its type."""
    return model(part(13, part(2, content)))


def sequences(depth: int) -> bytes:
    """A sequence of sequences of sequences."""
    content = b""
    for _ in range(depth):
        content = part(4, part(1, content))
    return value(content)


def header(shape: str, descr: str = "<f8", *, version: int = 1, padding: int = 0) -> bytes:
    """The header of a .npy file."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * padding + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def deflated_zeros(shape: str, n_bytes: int) -> bytes:
    """A welfare matrix of zeros, which are nearly nothing in a file."""
    return zipped({"welfare_matrix.npy": header(shape) + bytes(n_bytes)})


def shared_bytes(n_entries: int, n_bytes: int) -> bytes:
    """An archive whose entries are all the same few compressed bytes."""
    data = bytearray(zipped({f"{i:02}.npy": bytes(n_bytes) for i in range(n_entries)}))
    first = data.index(b"PK\x01\x02")
    place = first
    for _ in range(n_entries):
        struct.pack_into("<I", data, place + 42, 0)  # where the entry begins
        place = data.find(b"PK\x01\x02", place + 4)
    return bytes(data)


def endless_directory() -> bytes:
    """An archive (ZIP64) that promises four billion entries."""
    data = zipped({"welfare_matrix.npy": array(np.zeros((25, 3)))})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    many = 2**32
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, many, many, many, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    return data[:end] + record + locator + last


def _argmax(name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("ArgMax", [name], ["action"], axis=1, keepdims=0, **attributes)


def honest_policies() -> dict[str, bytes]:
    """Policies of Resource Gathering as different exporters and people would write them."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(N_OBSERVATIONS, N_ACTIONS)).astype(np.float32)
    matmul = helper.make_node("MatMul", ["observation", "w"], ["q"])
    plain = constant("w", weights)
    listed = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel().tolist())
    gemm = helper.make_node("Gemm", ["observation", "w", "b"], ["q"], alpha=1.0, transB=0)
    bias = constant("b", np.zeros(N_ACTIONS))
    wide = rng.normal(size=(N_OBSERVATIONS, 20_000)).astype(np.float32)
    narrow = rng.normal(size=(20_000, N_ACTIONS)).astype(np.float32)
    deep = [helper.make_node("MatMul", ["observation", "w0"], ["h0"])]
    tensors = [constant("w0", rng.normal(size=(N_OBSERVATIONS, 4)))]
    for i in range(300):
        deep += [
            helper.make_node("MatMul", [f"h{i}", f"w{i + 1}"], [f"m{i}"], name=f"layer {i}"),
            helper.make_node("Relu", [f"m{i}"], [f"h{i + 1}"], doc_string="net.py:17 " * 20),
        ]
        tensors.append(constant(f"w{i + 1}", rng.normal(size=(4, 4))))
    remarked = onnx.load_model_from_string(graph(matmul, _argmax("q"), tensors=[plain]))
    remarked.doc_string = "Grüße, 你好\n" * 100
    for number in range(200):
        remarked.metadata_props.add(key=f"stack {number}", value='File "net.py", line 3 ' * 50)
    branch = helper.make_graph(
        [helper.make_node("Neg", ["q"], ["negative"])],
        "branch",
        [],
        [helper.make_tensor_value_info("negative", TensorProto.FLOAT, ["E", N_ACTIONS])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["q"], ["same"])],
        "other",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["E", N_ACTIONS])],
    )
    condition = helper.make_node("If", ["flag"], ["r"], then_branch=branch, else_branch=other)
    table = constant("table", rng.integers(0, N_ACTIONS, 50_000), np.int64)
    lookup = [
        helper.make_node("ReduceSum", ["observation", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["action"]),
    ]
    return {
        "linear": graph(matmul, _argmax("q"), tensors=[plain]),
        "weights as a list of numbers": graph(matmul, _argmax("q"), tensors=[listed]),
        "with attributes": graph(gemm, _argmax("q", select_last_index=0), tensors=[plain, bias]),
        "five megabytes": graph(
            helper.make_node("MatMul", ["observation", "w"], ["h"]),
            helper.make_node("MatMul", ["h", "v"], ["q"]),
            _argmax("q"),
            tensors=[constant("w", wide), constant("v", narrow)],
        ),
        "three hundred layers": graph(*deep, _argmax("h300"), tensors=tensors),
        "with long remarks": bytes(remarked.SerializeToString()),
        "with a branch": graph(
            matmul, condition, _argmax("r"), tensors=[plain, constant("flag", True, np.bool_)]
        ),
        "a table": graph(*lookup, tensors=[table, constant("axes", [1], np.int64)]),
        "half precision": graph(
            helper.make_node("Cast", ["observation"], ["o"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["o", "w"], ["q"]),
            helper.make_node("Cast", ["q"], ["r"], to=TensorProto.FLOAT),
            _argmax("r"),
            tensors=[constant("w", weights, np.float16)],
        ),
        "weights as constants in nodes": graph(
            helper.make_node("Constant", [], ["w"], value=plain), matmul, _argmax("q")
        ),
    }


def honest_assignments() -> dict[str, bytes]:
    """The assignment of an honest submission in other encodings."""
    one_hot = np.eye(N_POLICIES)[np.arange(N_AGENTS) % N_POLICIES]
    later = io.BytesIO()
    np.lib.format.write_array(later, one_hot, version=(2, 0))
    return {
        "numbers of 32 bits": array(one_hot.astype(np.float32)),
        "first index fastest": array(np.asfortranarray(one_hot)),
        "true and false": array(one_hot.astype(bool)),
        "second version of the format": later.getvalue(),
    }
