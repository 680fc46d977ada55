"""Graphs of policies: what is allowed in an ONNX file, checked before anything of it runs.

Files may come from strangers: no external data, no operators or functions of its own, nothing
random or in training mode, at most 64 MiB, and not more parts than `onnx_bounds` allows, which
are counted before the file is parsed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from rmdp_bench.solution.onnx_bounds import check_bounds

if TYPE_CHECKING:
    import onnx

MAX_GRAPH_BYTES = 64 * 2**20
_RANDOM_OPERATORS = {
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike", "Dropout"),
}
"""Dropout is one whatever its mode, which may be an input that is not known before it runs."""


def check_graph(data: bytes, name: str, *, shared: bool) -> None:
    """Check an ONNX graph without running it.

    Args:
        data: the serialised model.
        name: what error messages call it.
        shared: whether it holds all policies and so has the input "representative".

    Raises:
        ValueError: not a valid model, or one of the module's rules is broken.
    """
    import onnx

    if not isinstance(data, bytes):
        raise ValueError(f"{name}: exported a {type(data).__name__}, expected bytes")
    if len(data) > MAX_GRAPH_BYTES:
        raise ValueError(f"{name}: {len(data)} bytes, at most {MAX_GRAPH_BYTES} are allowed")
    check_bounds(data, name)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's error type is private to it
        raise ValueError(f"{name} is not an ONNX model: {first_line(error)}") from error
    try:
        _check_model(model, name, shared)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} holds names that are not text: {error.reason}") from error


def _check_model(model: onnx.ModelProto, name: str, shared: bool) -> None:
    """The module's rules, then those of ONNX."""
    import onnx

    if len(model.functions) > 0 or len(model.training_info) > 0:
        raise ValueError(f"{name}: functions and training graphs are not allowed; inline them")
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.version > newest:
            raise ValueError(
                f"{name}: its operators are of version {entry.version}, expected at most {newest}"
            )
    for graph in _graphs(model.graph):
        _check_tensors(graph, name)
        _check_operators(graph, name)
    _check_signature(model, name, shared)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # mostly ValidationError; others for damaged files
        raise ValueError(f"{name} is not a valid ONNX model: {first_line(error)}") from error


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes (branches, loop bodies)."""
    pending = [graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending.extend(attribute.graphs)
                if attribute.HasField("g"):
                    pending.append(attribute.g)


def _check_tensors(graph: onnx.GraphProto, name: str) -> None:
    """No tensor may live outside the file, or be of a type that ONNX does not have."""
    tensors = list(graph.initializer)
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [*attribute.tensors, attribute.t]
            sparse += [*attribute.sparse_tensors, attribute.sparse_tensor]
    tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
    for tensor in tensors:
        if len(tensor.external_data) > 0 or tensor.data_location == tensor.EXTERNAL:
            raise ValueError(
                f"{name}: tensor {tensor.name!r} is external data; save it inside the file"
            )
        if tensor.data_type not in tensor.DataType.values():
            raise ValueError(
                f"{name}: tensor {tensor.name!r} is of type {tensor.data_type}, which is unknown"
            )


def _check_operators(graph: onnx.GraphProto, name: str) -> None:
    """Standard, deterministic operators only."""
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"{name}: operator {node.domain}.{node.op_type} is not a standard ONNX operator"
            )
        if node.op_type in _RANDOM_OPERATORS:
            raise ValueError(
                f"{name}: operator {node.op_type} is random; a policy must be deterministic, "
                f"exported in evaluation mode"
            )
        if any(part.name == "training_mode" and part.i != 0 for part in node.attribute):
            raise ValueError(
                f"{name}: operator {node.op_type} is in training mode, expected evaluation mode"
            )


def _check_signature(model: onnx.ModelProto, name: str, shared: bool) -> None:
    """Names, types and ranks of inputs and output."""
    import onnx

    def describe(values: Sequence[onnx.ValueInfoProto]) -> dict[str, tuple[int, int]]:
        tensors = {value.name: value.type.tensor_type for value in values}
        return {key: (t.elem_type, len(t.shape.dim)) for key, t in tensors.items()}

    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = describe([value for value in model.graph.input if value.name not in initial])
    expected = {"observation": (float32, 2)} | ({"representative": (int64, 1)} if shared else {})
    if inputs != expected:
        wanted = "observation float32 (E, d)"
        wanted += " and representative int64 (E,)" if shared else ""
        raise ValueError(f"{name}: inputs are {_signature(inputs)}, expected {wanted}")
    outputs = describe(model.graph.output)
    if outputs not in ({"action": (float32, 2)}, {"action": (int64, 1)}):
        raise ValueError(
            f"{name}: outputs are {_signature(outputs)}, expected action float32 (E, a) or int64 "
            f"(E,)"
        )


def _signature(values: dict[str, tuple[int, int]]) -> str:
    import onnx

    kinds = {number: kind.lower() for kind, number in onnx.TensorProto.DataType.items()}
    return ", ".join(f"{key} {kinds.get(t, t)} of rank {rank}" for key, (t, rank) in values.items())


def check_fits(data: bytes, name: str, n_observations: int, n_actions: int | None) -> None:
    """Sizes that a graph fixes, and the type of its actions, must be those of the environment."""
    import onnx

    graph = onnx.load_model_from_string(data).graph
    inputs = {value.name: value for value in graph.input}
    size = inputs["observation"].type.tensor_type.shape.dim[1]
    if size.HasField("dim_value") and size.dim_value != n_observations:
        raise ValueError(f"{name}: observations of {size.dim_value}, expected {n_observations}")
    action = graph.output[0].type.tensor_type
    discrete = action.elem_type == onnx.TensorProto.INT64
    if discrete != (n_actions is None):
        wanted = "int64 (E,)" if n_actions is None else f"float32 (E, {n_actions})"
        raise ValueError(f"{name}: actions are of the wrong kind, expected {wanted}")
    if n_actions is not None:
        size = action.shape.dim[1]
        if size.HasField("dim_value") and size.dim_value != n_actions:
            raise ValueError(f"{name}: actions of {size.dim_value}, expected {n_actions}")


def fix_representative(data: bytes, representative: int) -> bytes:
    """Give the graph of one policy out of a checked graph of all.

    Its input "representative" becomes as many copies of the number as there are observations.
    """
    import onnx
    from onnx import helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    (given,) = [value for value in graph.input if value.name == "representative"]
    graph.input.remove(given)
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    number, zero, shape, rows = (
        next(own for own in (f"{name}_{i}" for i in count()) if own not in taken)
        for name in ("number", "zero", "shape", "rows")
    )
    int64 = onnx.TensorProto.INT64
    graph.initializer.append(helper.make_tensor(number, int64, [1], [representative]))
    graph.initializer.append(helper.make_tensor(zero, int64, [1], [0]))
    own = [
        helper.make_node("Shape", ["observation"], [shape]),
        helper.make_node("Gather", [shape, zero], [rows]),
        helper.make_node("Expand", [number, rows], ["representative"]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(own)
    return bytes(model.SerializeToString())


def nudge_weights(data: bytes, size: float, rng: np.random.Generator) -> bytes:
    """Give a checked graph with weights that are changed a little, each by a share of its own.

    Whole numbers stay: they are bounds, steps and masks, and no weights.

    Args:
        data: the graph.
        size: greatest change, of a weight's own size; of short numbers at least eight spacings.
        rng: draws the changes.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    for graph in _graphs(model.graph):
        attributes = [part for node in graph.node for part in node.attribute]
        own = [part.t for part in attributes if part.HasField("t")]
        own += [tensor for part in attributes for tensor in part.tensors]
        for tensor in (*graph.initializer, *own):
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype.kind != "f" or values.size == 0:
                continue
            share = max(size, 8.0 * float(np.finfo(values.dtype).eps))
            changed = values * (1.0 + share * rng.uniform(-1.0, 1.0, size=values.shape))
            kept = ~np.isfinite(values) | (values == np.round(values))
            nudged = np.where(kept, values, changed).astype(values.dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(nudged, tensor.name))
    return bytes(model.SerializeToString())


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
