"""What is learned around a controller, as a policy: acting with NumPy, saved as an ONNX graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.heterogeneous.controllers import add_bolus, add_doses, bolus_of
from rmdp_bench.envs.glucose.boluses import MAX_BASAL, MAX_BOLUS, READING
from rmdp_bench.solution.onnx_graphs import PolicyGraph

FloatArray = NDArray[np.float32]

GREATEST_ACTION = 3.0
"""Doses are at most e^3 = 20 times the controller's, and at least a twentieth."""
CENTRES = np.array([math.log(130.0), 0.0, 5.0, 0.0, 120.0, 0.0, 0.0], np.float32)
SCALES = np.array([0.4, 1.5, 5.0, 50.0, 120.0, 1.0, 1.0], np.float32)
"""Of the components of an observation, roughly their mean and spread; of the reading, which comes
first, those of its logarithm."""
N_FEATURES = len(CENTRES)
NETWORK = ("weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3")
"""Arrays of a network of two hidden layers."""


def features(observations: Any) -> Any:
    """What networks see of observations (E, 7): an array of NumPy or a tensor of torch."""
    if isinstance(observations, np.ndarray):
        seen = observations.astype(np.float32)
        seen[:, READING] = np.log(seen[:, READING])
        return np.asarray((seen - CENTRES) / SCALES)
    import torch  # to learn, not to act

    seen = observations.clone()
    seen[:, READING].log_()
    return (seen - torch.from_numpy(CENTRES)) / torch.from_numpy(SCALES)


@dataclass(frozen=True)
class LearnedPolicy:
    """A controller whose doses a network multiplies.

    Attributes:
        basal: the controller's, U/h.
        per_gram: one over its carbohydrate ratio, U/g.
        weight_1: of the first layer, (7, h); the others are (h, h) and (h, 2).
        bias_1: of the first layer, (1, h); the others are (1, h) and (1, 2).
    """

    basal: float
    per_gram: float
    weight_1: FloatArray
    bias_1: FloatArray
    weight_2: FloatArray
    bias_2: FloatArray
    weight_3: FloatArray
    bias_3: FloatArray

    def reset(self, n_envs: int) -> None:
        """Nothing to do: it has no memory."""

    def act(self, observations: NDArray[Any]) -> FloatArray:
        """Basal rate (U/h) and bolus (U), (E, 2), for observations (E, 7) of the glucose world."""
        hidden = np.tanh(features(np.asarray(observations)) @ self.weight_1 + self.bias_1)
        hidden = np.tanh(hidden @ self.weight_2 + self.bias_2)
        actions = hidden @ self.weight_3 + self.bias_3
        doses = np.exp(actions.clip(-GREATEST_ACTION, GREATEST_ACTION))
        doses[:, 0] = (doses[:, 0] * np.float32(self.basal)).clip(0.0, MAX_BASAL)
        bolus = bolus_of(np.asarray(observations, np.float32), self.per_gram)
        doses[:, 1] = (doses[:, 1] * bolus).clip(0.0, MAX_BOLUS)
        return np.asarray(doses, np.float32)

    def to_onnx(self) -> bytes:
        """The same as a file."""
        graph = PolicyGraph(N_FEATURES)
        parts = [[READING], [place for place in range(N_FEATURES) if place != READING]]
        reading, others = (
            graph.add("Gather", "observation", graph.constant(places), axis=1) for places in parts
        )
        logarithm = graph.add("Log", reading)
        rows = graph.add("Concat", logarithm, others, axis=1)
        rows = graph.add("Sub", rows, graph.constant(CENTRES))
        rows = graph.add("Div", rows, graph.constant(SCALES))
        layers = (
            (self.weight_1, self.bias_1),
            (self.weight_2, self.bias_2),
            (self.weight_3, self.bias_3),
        )
        for number, (weight, bias) in enumerate(layers, 1):
            rows = graph.add("MatMul", rows, graph.constant(weight))
            rows = graph.add("Add", rows, graph.constant(bias))
            if number < len(layers):
                rows = graph.add("Tanh", rows)
        bounds = graph.constant(-GREATEST_ACTION), graph.constant(GREATEST_ACTION)
        factor = graph.add("Exp", graph.add("Clip", rows, *bounds))

        return graph.finish(
            add_doses(graph, self.basal, add_bolus(graph, self.per_gram), factor), 2
        )
