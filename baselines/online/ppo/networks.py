"""Networks of k representatives, for several seeds at once, and their Adam.

Paper, section 3.2: "we share the parameters of intermediate layers between actors, as well as
critics", and appendix B: one hidden layer of 64 (tanh). So an actor (or a critic) is one shared
hidden layer (or two) and one linear head per representative; a head sees the observations of its
own representative only, never those of the k - 1 others. The conditioned policy of `universal` is
the only representative of one seed.

Every tensor has the seeds R as its leading axis, so that several seeds are one batched matrix
product.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Arrays = dict[str, npt.NDArray[np.float32]]


class HeadedNetwork:
    """Tanh layers shared by k representatives and one linear head for each, for R seeds.

    All parameters live in one flat tensor, so that Adam and its state are one tensor each;
    `parameters` are views into it, and `gradients` into its gradient:

        hidden_weight (R, d, h)   hidden_bias (R, 1, h)
        hidden_weight_2 (R, h, h) hidden_bias_2 (R, 1, h)   only with two hidden layers
        head_weight (R k, h, o)   head_bias (R k, 1, o)
        log_std (R k, 1, o)       only with `log_std`: a learned standard deviation per output

    Attributes:
        flat: (P,) all parameters.
        tensors: "parameters" is `flat`, "exp_avg" and "exp_avg_sq" are Adam's moments, (P,) each.
        steps: number of Adam's steps, a tensor without axes.
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
        adam_epsilon: float = 1e-5,
        inputs_first: bool = False,
    ) -> None:
        """Initialise the layers orthogonally (appendix B), biases at zero.

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
            adam_epsilon: Adam's epsilon.
            inputs_first: whether matrices are drawn as they are stored, not as torch stores them,
                transposed: other numbers, of the same distribution.
        """
        n_seeds, k = len(generators), n_representatives
        self.n_seeds, self.n_representatives, self.adam_epsilon = n_seeds, k, adam_epsilon
        self._shapes: dict[str, tuple[int, ...]] = {
            "hidden_weight": (n_seeds, input_size, hidden_size),
            "hidden_bias": (n_seeds, 1, hidden_size),
        }
        if n_hidden_layers == 2:
            self._shapes["hidden_weight_2"] = (n_seeds, hidden_size, hidden_size)
            self._shapes["hidden_bias_2"] = (n_seeds, 1, hidden_size)
        self._shapes["head_weight"] = (n_seeds * k, hidden_size, output_size)
        self._shapes["head_bias"] = (n_seeds * k, 1, output_size)
        if log_std is not None:
            self._shapes["log_std"] = (n_seeds * k, 1, output_size)
        self.flat = torch.zeros(sum(map(math.prod, self._shapes.values())), device=device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters, self.gradients = self.views(self.flat), self.views(self.flat.grad)
        self._only = {name: own[0] for name, own in self.parameters.items()}
        # Adam's state is there from the start: a resumed run and the compiled loops need it.
        self.steps = torch.zeros((), device=device)
        self._moments = {name: torch.zeros_like(self.flat) for name in ("exp_avg", "exp_avg_sq")}
        self.tensors = {"parameters": self.flat} | self._moments
        for seed, generator in enumerate(generators):
            self._draw(seed, generator, head_gain, inputs_first)
        if log_std is not None:
            self.parameters["log_std"].fill_(log_std)

    def _draw(
        self, seed: int, generator: torch.Generator, head_gain: float, inputs_first: bool
    ) -> None:
        """Draw the matrices of a seed."""
        for name, matrices in self.parameters.items():
            if "weight" in name:
                gain = head_gain if name == "head_weight" else 2**0.5
                for matrix in matrices.unflatten(0, (self.n_seeds, -1))[seed]:
                    drawn = torch.empty(matrix.shape if inputs_first else matrix.shape[::-1])
                    torch.nn.init.orthogonal_(drawn, gain=gain, generator=generator)
                    matrix.copy_(drawn if inputs_first else drawn.T)

    @functools.cached_property
    def _adam(self) -> torch.optim.Adam:
        """Torch's, with this state. Only the plain path needs it: making one takes seconds."""
        adam = torch.optim.Adam([self.flat], eps=self.adam_epsilon, fused=True)
        adam.state[self.flat] = {"step": self.steps} | self._moments
        return adam

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Name -> view of a tensor such as `flat`, a moment of Adam's or the gradient."""
        parts = flat.split([math.prod(shape) for shape in self._shapes.values()])
        return {n: own.view(s) for (n, s), own in zip(self._shapes.items(), parts, strict=True)}

    def own_parameters(self) -> dict[str, Tensor]:
        """What each representative reads, (R k, ...): its head, and a copy of the shared layers.

        They are leaves of a graph, so that autograd tells apart what each one's loss asks of the
        layers that it shares.
        """
        return {name: own.detach().requires_grad_() for name, own in self._by_policy().items()}

    def _by_policy(self) -> dict[str, Tensor]:
        k = self.n_representatives
        return {
            name: own.repeat_interleave(k, 0) if name.startswith("hidden") and k > 1 else own
            for name, own in self.parameters.items()
        }

    def evaluate(self, rows: Tensor) -> Tensor:
        """Outputs (R k, B, o) of rows (R k, B, d)."""
        if len(rows) == 1:  # products of matrices are faster; and round as `universal` always has
            return forward(self._only, rows[0]).unsqueeze(0)
        return forward(self._by_policy(), rows)

    def descend(
        self, own: Mapping[str, Tensor], learning_rate: float, max_norm: float, learns: Tensor
    ) -> None:
        """Make a step of Adam.

        Args:
            own: what `own_parameters` returned, with the gradients of each representative's loss.
                Each one's is scaled to a Euclidean norm of at most `max_norm`, as if it were alone:
                no group's step is shortened by what the others learn.
            learning_rate: Adam's step size.
            max_norm: the bound.
            learns: (R k, 1, 1) whose gradients count; those of others are zero.
        """
        gradients: dict[str, Tensor] = {}
        for name, leaf in own.items():
            assert leaf.grad is not None
            gradients[name] = torch.where(learns, leaf.grad, 0.0)
        norms = [torch.linalg.vector_norm(part, dim=(1, 2)) for part in gradients.values()]
        factor = (max_norm / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp(max=1.0).view(-1, 1, 1)
        for name, part in gradients.items():
            target = self.gradients[name]
            torch.sum((part * factor).view(len(target), -1, *part.shape[1:]), 1, out=target)
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()

    def copy_head(self, seed: int, source: int, target: int) -> None:
        """Make a seed's representative `target` a copy of `source`, with Adam's moments."""
        first = seed * self.n_representatives
        for flat in self.tensors.values():
            for name, view in self.views(flat).items():
                if not name.startswith("hidden"):
                    view[first + target] = view[first + source]

    def split(self, flat: Tensor) -> Arrays:
        """Arrays of a tensor such as `flat`, seeds leading (R, ...); on a CPU they share memory."""
        return {
            name: view.reshape(self.n_seeds, -1, *view.shape[1:]).cpu().numpy()
            for name, view in self.views(flat).items()
        }

    def merge(self, flat: Tensor, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Write arrays as `split` returns them into a tensor such as `flat`."""
        for name, view in self.views(flat).items():
            view.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])).view(view.shape))

    def rows(self, flat: Tensor) -> npt.NDArray[np.float32]:
        """A copy of such a tensor with one row for each seed: (R, parameters of a seed)."""
        parts = [array.reshape(self.n_seeds, -1) for array in self.split(flat).values()]
        return np.concatenate(parts, axis=1)

    def set_rows(self, flat: Tensor, rows: npt.NDArray[np.float32]) -> None:
        """Write rows as `rows` returns them into such a tensor."""
        arrays = self.split(flat)
        ends = np.cumsum([array[0].size for array in arrays.values()])
        parts = np.split(rows, ends[:-1], axis=1)
        self.merge(flat, dict(zip(arrays, parts, strict=True)))


def forward(parameters: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Outputs (P, B, o) of P networks, each with parameters and rows (P, B, d) of its own.

    Of a single network, all of it may be without the first axis.
    """
    affine = torch.addmm if rows.dim() == 2 else torch.baddbmm
    rows = affine(parameters["hidden_bias"], rows, parameters["hidden_weight"]).tanh_()
    if "hidden_weight_2" in parameters:
        rows = affine(parameters["hidden_bias_2"], rows, parameters["hidden_weight_2"]).tanh_()
    return affine(parameters["head_bias"], rows, parameters["head_weight"])
