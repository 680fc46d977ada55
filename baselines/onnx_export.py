"""Export of a policy network to ONNX, the form in which solutions are saved."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def export_module(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
    """One ONNX model with the output "action" for any number of rows.

    Args:
        module: its `forward` takes the inputs by these names and gives the actions.
        inputs: examples, each with a first axis of two rows.
    """
    rows = torch.export.Dim("rows")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=["action"],
                dynamic_shapes={name: {0: rows} for name in inputs},
                external_data=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # the exporter returns a program unless it is given a file
    model: Any = program.model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        # Where in the source it comes from, with the paths of this machine.
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return bytes(model.SerializeToString())
