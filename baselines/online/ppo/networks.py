"""Networks of k representatives, for several seeds at once, with gradients in closed form.

Paper, section 3.2: "we share the parameters of intermediate layers between actors, as well as
critics", and appendix B: one hidden layer of 64 (tanh). So an actor (or a critic) is one shared
hidden layer (or two, for comparisons) and one linear head per representative; a head sees the
observations of its own representative only, never those of the k - 1 others.

Every tensor has the seeds R as its leading axis, so that several seeds are one batched matrix
product. With so few layers the gradient is a few lines (`HeadedNetwork.backward`), and written out
they need no graph. `tests/test_learner.py` holds them against autograd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class HeadedNetwork:
    """Tanh layers shared by k representatives and one linear head for each, for R seeds.

    All parameters live in one flat tensor, so that Adam and its state are one tensor each; the
    attributes are views into it:

        hidden_weight (R, d, h)   hidden_bias (R, 1, h)
        hidden_weight_2 (R, h, h) hidden_bias_2 (R, 1, h)   only with two hidden layers
        head_weight (R k, h, o)   head_bias (R k, 1, o)
        log_std (R k, 1, o)       only with `log_std`: a learned standard deviation per output
    """

    def __init__(
        self,
        n_representatives: int,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        head_gain: float,
        generators: Sequence[torch.Generator],
        device: str,
        n_hidden_layers: int = 1,
        log_std: float | None = None,
    ) -> None:
        """Initialises the layers orthogonally (appendix B), biases at zero.

        Args:
            n_representatives: k, the number of heads.
            input_size: d.
            hidden_size: h.
            output_size: o, of each head.
            head_gain: scale of the heads' orthogonal matrices; the hidden layers' is sqrt(2).
            generators: one for each seed; R is their number.
            device: where the parameters live.
            n_hidden_layers: 1 or 2.
            log_std: initial value of the log standard deviations; None for a network without.
        """
        n_seeds, k = len(generators), n_representatives
        self.n_seeds, self.n_representatives = n_seeds, n_representatives
        shapes = {
            "hidden_weight": (n_seeds, input_size, hidden_size),
            "hidden_bias": (n_seeds, 1, hidden_size),
        }
        if n_hidden_layers == 2:
            shapes["hidden_weight_2"] = (n_seeds, hidden_size, hidden_size)
            shapes["hidden_bias_2"] = (n_seeds, 1, hidden_size)
        self._hidden = [name for name in shapes if "weight" in name]
        shapes |= {
            "head_weight": (n_seeds * k, hidden_size, output_size),
            "head_bias": (n_seeds * k, 1, output_size),
        }
        if log_std is not None:
            shapes["log_std"] = (n_seeds * k, 1, output_size)
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        self.flat = torch.zeros(sum(sizes), device=device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters = _views(self.flat, shapes)
        self.gradients = _views(self.flat.grad, shapes)
        for seed, generator in enumerate(generators):
            for name in self._hidden:
                hidden = torch.empty(self.parameters[name].shape[:0:-1])
                torch.nn.init.orthogonal_(hidden, gain=2**0.5, generator=generator)
                self.parameters[name][seed] = hidden.T
            for j in range(seed * k, (seed + 1) * k):
                head = torch.empty(output_size, hidden_size)
                torch.nn.init.orthogonal_(head, gain=head_gain, generator=generator)
                self.parameters["head_weight"][j] = head.T
        if log_std is not None:
            self.parameters["log_std"].fill_(log_std)

    def forward(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Applies every representative's network to its own rows.

        Args:
            inputs: (R, k B, d), representative by representative.

        Returns:
            The outputs (R k, B, o) and the layers that `backward` needs: `inputs` and the hidden
            ones, (R, k B, h) each.
        """
        parameters, layers = self.parameters, [inputs]
        for name in self._hidden:
            bias = parameters[name.replace("weight", "bias")]
            layers.append(torch.baddbmm(bias, layers[-1], parameters[name]).tanh_())
        rows = layers[-1].view(self.n_seeds * self.n_representatives, -1, layers[-1].shape[-1])
        return torch.baddbmm(parameters["head_bias"], rows, parameters["head_weight"]), layers

    def evaluate(self, rows: Tensor) -> Tensor:
        """Outputs (R k, B, o) of rows (R k, B, d), for which no gradient is wanted."""
        return self.forward(rows.reshape(self.n_seeds, -1, rows.shape[-1]))[0]

    def backward(self, layers: Sequence[Tensor], output_gradient: Tensor, max_norm: float) -> None:
        """Writes the gradient of the loss into `gradients`, where that by log_std already is.

        The loss is a sum over representatives. The gradient of each one's part, by its own head and
        by the shared layers, is scaled to a Euclidean norm of at most `max_norm`, as if it were
        alone: no group's step is shortened by what the others learn.

        Args:
            layers: as returned by `forward`.
            output_gradient: (R k, B, o), gradient of the loss with respect to the outputs.
            max_norm: the bound.
        """
        gradients, n_policies = self.gradients, output_gradient.shape[0]
        *below, rows = (layer.view(n_policies, -1, layer.shape[-1]) for layer in layers)
        torch.bmm(rows.transpose(1, 2), output_gradient, out=gradients["head_weight"])
        torch.sum(output_gradient, 1, keepdim=True, out=gradients["head_bias"])
        slope = torch.bmm(output_gradient, self.parameters["head_weight"].transpose(1, 2))
        shared: dict[str, Tensor] = {}
        for name, inputs in zip(reversed(self._hidden), reversed(below), strict=True):
            slope.sub_(slope * rows * rows)  # the derivative of tanh is 1 - tanh^2
            shared[name] = torch.bmm(inputs.transpose(1, 2), slope)  # (R k, inputs, h)
            shared[name.replace("weight", "bias")] = slope.sum(1, keepdim=True)  # (R k, 1, h)
            if name != self._hidden[0]:
                by_seed = slope.view(self.n_seeds, -1, slope.shape[-1])
                slope = torch.bmm(by_seed, self.parameters[name].transpose(1, 2)).view_as(inputs)
            rows = inputs
        heads = [own for name, own in gradients.items() if name not in shared]
        norms = [torch.linalg.vector_norm(own, dim=(1, 2)) for own in (*heads, *shared.values())]
        scale = (max_norm / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp_(max=1.0).view(-1, 1, 1)
        for own in heads:
            own.mul_(scale)
        for name, own in shared.items():
            by_seed = (own * scale).view(self.n_seeds, -1, *own.shape[1:])
            torch.sum(by_seed, 1, out=gradients[name])

    def copy_head(self, flat: Tensor, source: int, target: int) -> None:
        """Copies one head's part of such a tensor as `split` takes; heads are out of R k."""
        shapes = {name: tuple(view.shape) for name, view in self.parameters.items()}
        for name, view in _views(flat, shapes).items():
            if not name.startswith("hidden_"):
                view[target] = view[source]

    def split(self, flat: Tensor) -> dict[str, npt.NDArray[np.float32]]:
        """Arrays of a flat tensor such as `flat` or a moment of Adam's, seeds leading (R, ...)."""
        shapes = {name: tuple(view.shape) for name, view in self.parameters.items()}
        return {
            name: view.reshape(self.n_seeds, -1, *view.shape[1:]).cpu().numpy()
            for name, view in _views(flat, shapes).items()
        }

    def merge(self, flat: Tensor, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Writes arrays as `split` returns them into a flat tensor."""
        shapes = {name: tuple(view.shape) for name, view in self.parameters.items()}
        for name, view in _views(flat, shapes).items():
            view.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])).view(view.shape))

    def rows(self, flat: Tensor) -> npt.NDArray[np.float32]:
        """A copy of such a flat tensor with one row for each seed: (R, parameters of a seed)."""
        parts = [array.reshape(self.n_seeds, -1) for array in self.split(flat).values()]
        return np.concatenate(parts, axis=1)

    def set_rows(self, flat: Tensor, rows: npt.NDArray[np.float32]) -> None:
        """Writes rows as `rows` returns them into a flat tensor."""
        arrays = self.split(flat)
        ends = np.cumsum([array[0].size for array in arrays.values()])
        parts = np.split(rows, ends[:-1], axis=1)
        self.merge(flat, dict(zip(arrays, parts, strict=True)))


def _views(flat: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Cuts a flat tensor into consecutive tensors of the given shapes."""
    views, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        views[name] = flat[start : start + size].view(shape)
        start += size
    return views
