"""The networks of a conditioned policy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class TwoLayerNetwork:
    """Two tanh layers and a linear one, gradients in closed form.

    All parameters live in one flat tensor, so that Adam and its state are one tensor each.

    Attributes:
        flat: all parameters (P,).
        parameters, gradients: name -> view; log_std (1, 1, o) only where it was asked for.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        *,
        head_gain: float,
        generator: torch.Generator,
        device: str,
        log_std: float | None = None,
    ) -> None:
        """Initialises the layers orthogonally, biases at zero.

        Args:
            sizes: inputs d, hidden units h, outputs o.
            head_gain: scale of the last layer; sqrt(2) for the others.
            generator: of the CPU.
            device: where the parameters live.
            log_std: initial log standard deviations; None for a network without.
        """
        d, h, o = sizes
        shapes: dict[str, tuple[int, ...]] = {
            "weight_1": (d, h),
            "bias_1": (h,),
            "weight_2": (h, h),
            "bias_2": (h,),
            "weight_3": (h, o),
            "bias_3": (o,),
        }
        if log_std is not None:
            shapes["log_std"] = (1, 1, o)
        self.flat = torch.zeros(sum(math.prod(s) for s in shapes.values()), device=device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters = _views(self.flat, shapes)
        self.gradients = _views(self.flat.grad, shapes)
        for layer, gain in ((1, 2**0.5), (2, 2**0.5), (3, head_gain)):
            weight = torch.empty(shapes[f"weight_{layer}"])
            torch.nn.init.orthogonal_(weight, gain=gain, generator=generator)
            self.parameters[f"weight_{layer}"].copy_(weight)
        if log_std is not None:
            self.parameters["log_std"].fill_(log_std)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (B, o) of inputs (B, d), and the two hidden layers that `backward` needs."""
        p = self.parameters
        first = torch.addmm(p["bias_1"], inputs, p["weight_1"]).tanh_()
        second = torch.addmm(p["bias_2"], first, p["weight_2"]).tanh_()
        return torch.addmm(p["bias_3"], second, p["weight_3"]), first, second

    def evaluate(self, inputs: Tensor) -> npt.NDArray[np.float32]:
        """Outputs (..., o) of inputs (..., d), as an array."""
        outputs: npt.NDArray[np.float32] = self.forward(inputs.flatten(0, -2))[0].cpu().numpy()
        return outputs.reshape(*inputs.shape[:-1], -1)

    def backward(self, inputs: Tensor, first: Tensor, second: Tensor, slope: Tensor) -> None:
        """Writes the gradient of a loss whose slope by the outputs is (B, o), but for log_std."""
        p, g = self.parameters, self.gradients
        for layer, below in ((3, second), (2, first), (1, inputs)):
            torch.mm(below.T, slope, out=g[f"weight_{layer}"])
            torch.sum(slope, 0, out=g[f"bias_{layer}"])
            if layer > 1:
                slope = slope @ p[f"weight_{layer}"].T
                slope.addcmul_(slope * below, below, value=-1.0)  # tanh' is 1 - tanh^2


def _views(flat: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Cuts a flat tensor into consecutive tensors of the given shapes."""
    views, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = flat[start : start + size].view(shape)
        start += size
    return views
