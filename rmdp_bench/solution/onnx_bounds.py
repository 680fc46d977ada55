"""How much an ONNX file would become in memory, counted in its bytes before it is parsed.

Two bytes of a file can become two kilobytes of an object (an empty attribute), so that the size of
a file says little.  The encoding is that of protocol buffers, and which field holds what is read
from ONNX's own description of it; fields that this version of ONNX does not know are refused.

Bounds, and the most that a policy of the suite has (819 files of all solvers, torch and NumPy):

    nodes 20,000 (26)            a network of thousands of layers, or a tree written as operators
    attributes 60,000 (6)        three for each node; convolutions have five, most others none
    tensors 20,000 (18)          one for each node
    sparse tensors 1,000 (0)     of two tensors each
    values 60,000 (45)           inputs, outputs and intermediate ones with their shapes
    graphs 1,000 (1)             branches and bodies of loops, each in a node
    messages 600,000 (345)       six for each value of two dimensions, and more
    fields 1,000,000 (787)       and names of inputs and outputs, of which a node has a few
    depth 40 (6)                 a graph in a node is three deeper: thirteen graphs in each other
    text 16 MiB (2 KiB)          names and remarks; exporters write where each node comes from
    one text 64 KiB (19 bytes)
    whole numbers 4 MiB (none)    packed, where a byte becomes eight; not those in `raw_data`

At all of these bounds together a file takes less than 1 GiB and a few seconds.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

MAX_NODES = 20_000
MAX_MESSAGES = 600_000
MAX_FIELDS = 1_000_000
MAX_DEPTH = 40
MAX_TEXT_BYTES = 16 * 2**20
MAX_ONE_TEXT_BYTES = 64 * 2**10
MAX_PACKED_BYTES = 4 * 2**20
_MAX_OF_A_KIND = {
    "NodeProto": ("nodes", MAX_NODES),
    "AttributeProto": ("attributes", 60_000),
    "TensorProto": ("tensors", 20_000),
    "SparseTensorProto": ("sparse tensors", 1_000),
    "ValueInfoProto": ("values", 60_000),
    "GraphProto": ("graphs", 1_000),
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {
    **dict.fromkeys((1, 6, 16), _FIXED64),
    **dict.fromkeys((2, 7, 15), _FIXED32),
    **dict.fromkeys((9, 11, 12), _BYTES),
}
"""Type of a field, as protocol buffers number it -> how it is encoded; others are varints."""
_MESSAGE, _DATA, _TEXT, _NUMBERS, _SMALL = range(5)
_PURE_DATA = {("TensorProto", "raw_data")}
"""Bytes that are kept as they are."""


@dataclass(frozen=True)
class _Field:
    """What may stand in a field: its encodings, and what its bytes are."""

    name: str
    wire_types: frozenset[int]
    content: int
    message: str = ""


def check_bounds(data: bytes, name: str) -> None:
    """Count what is in a serialised ONNX model, without parsing it.

    Args:
        data: the bytes.
        name: what messages call it.

    Raises:
        ValueError: it is not in the encoding of protocol buffers, has a field that ONNX does not
            have, or more of something than the module's bounds.
    """
    try:
        count_parts(data)
    except ValueError as error:
        raise ValueError(f"{name} is not an ONNX model that is allowed: {error}") from error


def count_parts(data: bytes) -> Counter[str]:
    """How much of what the module bounds a serialised model has.

    Raises:
        ValueError: as `check_bounds`.
    """
    kinds = _fields()
    counts: Counter[str] = Counter()
    ends = [(len(data), kinds["ModelProto"])]  # of the messages that are open
    place = 0
    while ends:
        end, fields = ends[-1]
        if place == end:
            ends.pop()
            continue
        key, place = _varint(data, place, end)
        counts["fields"] += 1
        if counts["fields"] > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        field = fields.get(key >> 3)
        if field is None or key & 7 not in field.wire_types:
            raise ValueError(f"a field of number {key >> 3} that this version does not have")
        if key & 7 == _VARINT:
            _, place = _varint(data, place, end)
            continue
        size = 8 if key & 7 == _FIXED64 else 4
        if key & 7 == _BYTES:
            size, place = _varint(data, place, end)
        if size > end - place:
            raise ValueError("it is cut off, or a part is longer than the whole")
        if field.content == _MESSAGE:
            _count_message(counts, field, len(ends))
            ends.append((place + size, kinds[field.message]))
            continue
        place += size
        if field.content == _TEXT:
            if size > MAX_ONE_TEXT_BYTES:
                raise ValueError(
                    f"{field.name} has {size} bytes, at most {MAX_ONE_TEXT_BYTES} are allowed"
                )
            _add(counts, "bytes of text", size, MAX_TEXT_BYTES)
        elif field.content == _NUMBERS:
            _add(counts, "bytes of packed whole numbers", size, MAX_PACKED_BYTES)
    return counts


def _count_message(counts: Counter[str], field: _Field, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} messages in each other")
    counts["depth"] = max(counts["depth"], depth)
    _add(counts, "messages", 1, MAX_MESSAGES)
    if field.message in _MAX_OF_A_KIND:
        kind, at_most = _MAX_OF_A_KIND[field.message]
        _add(counts, kind, 1, at_most)


def _add(counts: Counter[str], what: str, number: int, at_most: int) -> None:
    counts[what] += number
    if counts[what] > at_most:
        raise ValueError(f"more than {at_most} {what}, which is what is allowed")


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A whole number and the place after it."""
    value = shift = 0
    while place < end:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than ten bytes")
    raise ValueError("it is cut off, or a part is longer than the whole")


@functools.cache
def _fields() -> dict[str, dict[int, _Field]]:
    """Message -> number -> field, of ONNX's description of its files."""
    import onnx

    found: dict[str, dict[int, _Field]] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        if message.full_name.removeprefix("onnx.") in found:
            continue
        fields = found[message.full_name.removeprefix("onnx.")] = {}
        for field in message.fields:
            fields[field.number] = _describe(field)
            if field.message_type is not None:
                pending.append(field.message_type)
    return found


def _describe(field: Any) -> _Field:
    wire_type = _WIRE_TYPES.get(field.type, _VARINT)
    # Of protobuf before 6.31, `label` says it.
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
    packable = repeated and wire_type != _BYTES
    owner = field.containing_type.full_name.removeprefix("onnx.")
    content, message = _SMALL, ""
    if field.message_type is not None:
        content, message = _MESSAGE, field.message_type.full_name.removeprefix("onnx.")
    elif (owner, field.name) in _PURE_DATA:
        content = _DATA
    elif wire_type == _BYTES:
        content = _TEXT
    elif packable and wire_type == _VARINT:
        content = _NUMBERS
    wire_types = {wire_type, _BYTES} if packable else {wire_type}
    return _Field(field.name, frozenset(wire_types), content, message)
