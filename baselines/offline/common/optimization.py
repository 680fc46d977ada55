"""Adam steps and target networks for networks with a leading axis of members.

The parameters of a network lie in one vector, so that a step is one operation for all of them. On
a CPU it is also why a member gets the same numbers whoever is trained with it: the end of a vector,
where loops without vector instructions may round otherwise, is padding. That holds bit for bit
where layers and batches are as large as by default; for a batch of 37 it holds to rounding.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

_ALIGNMENT = 64
"""Numbers: of the vector instructions of any processor, unrolled."""


def _flatten(network: nn.Module) -> tuple[Tensor, list[slice]]:
    """Move the parameters into one vector, of which they become views; returns their places."""
    places, end = [], 0
    for parameter in network.parameters():
        places.append(slice(end, end + parameter.numel()))
        end = -(-places[-1].stop // _ALIGNMENT) * _ALIGNMENT
    flat = torch.zeros(end, device=next(network.parameters()).device)
    for place, parameter in zip(places, network.parameters(), strict=True):
        view = flat[place].view(parameter.shape)
        view.copy_(parameter.data)
        parameter.data = view
    return flat, places


class MemberAdam:
    """A network and Adam (Kingma and Ba 2015) for its parameters (M, ...).

    Attributes:
        network: what is trained.
        flat: its parameters as one vector.
    """

    def __init__(self, network: nn.Module, learning_rate: float, epsilon: float = 1e-8) -> None:
        """Take the network's parameters over.

        Args:
            network: on its device; all parameters have a leading axis of members.
            learning_rate: Adam's step size.
            epsilon: Adam's epsilon.
        """
        self.network = network
        self.flat, self._places = _flatten(network)
        self._gradient = torch.zeros_like(self.flat)
        for place, parameter in zip(self._places, network.parameters(), strict=True):
            parameter.grad = self._gradient[place].view(parameter.shape)
        self._learning_rate, self._epsilon = learning_rate, epsilon
        self._state = {
            "exp_avg": torch.zeros_like(self.flat),
            "exp_avg_sq": torch.zeros_like(self.flat),
            "step": torch.zeros((), device=self.flat.device),
        }

    def clear(self) -> None:
        """Set the gradient to zero."""
        self._gradient.zero_()

    def step(self) -> None:
        """Move the parameters by their gradient.

        By the operation that `torch.optim.Adam(fused=True)` calls: its own bookkeeping takes a
        tenth of an update of small networks, and its first use loads a compiler for a second.
        """
        state = self._state
        state["step"] += 1
        torch.ops.aten._fused_adam_(
            [self.flat],
            [self._gradient],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            lr=self._learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that a step depends on but the number of steps, as views (M, ...) by name."""
        found = {}
        vectors = {"": self.flat} | {name: self._state[name] for name in ("exp_avg", "exp_avg_sq")}
        for name, vector in vectors.items():
            for place, (own, parameter) in zip(
                self._places, self.network.named_parameters(), strict=True
            ):
                found[f"{own}.{name}".rstrip(".")] = vector[place].view(parameter.shape)
        return found

    def set_steps(self, n_steps: int) -> None:
        """Take note of how many steps the moments are from."""
        self._state["step"].fill_(n_steps)


class TorchAdam:
    """A network and torch's own Adam for its parameters (M, ...), whose state is there at once."""

    def __init__(self, network: nn.Module, adam: torch.optim.Adam, step_device: str) -> None:
        """Begin the moments; Adam reads the number of its steps on `step_device`."""
        self.network, self.adam = network, adam
        for parameter in network.parameters():
            state = adam.state[parameter]
            state["step"] = torch.zeros((), device=step_device)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and moments (M, ...) by name."""
        found = {}
        for name, parameter in self.network.named_parameters():
            found[name] = parameter.data
            for moment in ("exp_avg", "exp_avg_sq"):
                found[f"{name}.{moment}"] = self.adam.state[parameter][moment]
        return found

    def set_steps(self, n_steps: int) -> None:
        """Take note of how many steps the moments are from."""
        for state in self.adam.state.values():
            state["step"].fill_(n_steps)


class TargetNetwork:
    """A copy that follows a trained network slowly.

    Attributes:
        network: the copy; it has no gradient.
    """

    def __init__(self, source: MemberAdam) -> None:
        """Start at the source's parameters."""
        self.source = source
        self.network = copy.deepcopy(source.network).requires_grad_(False)
        self.network.zero_grad(set_to_none=True)
        self.flat, _ = _flatten(self.network)

    def follow(self, rate: float) -> None:
        """Move by the share `rate` of the distance to the source."""
        self.flat.lerp_(self.source.flat, rate)

    def tensors(self) -> dict[str, Tensor]:
        """Its parameters (M, ...) by name."""
        return {name: parameter.data for name, parameter in self.network.named_parameters()}

    def set_steps(self, n_steps: int) -> None:
        """A target has no moments."""


def minimize(loss: Tensor, *parts: MemberAdam) -> None:
    """Make one Adam step of these networks, and of no other that the loss depends on."""
    for part in parts:
        part.clear()
    loss.backward(inputs=[p for part in parts for p in part.network.parameters()])
    for part in parts:
        part.step()
