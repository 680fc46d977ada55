"""The two kinds of actions: how they are drawn, how likely they are, and the slope of that.

A kind turns a network's outputs into actions. Noise is drawn beforehand from a seed's own stream,
so that drawing does not depend on the device or on the seeds that are trained together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float32]
Pullback = Callable[[Tensor, float], Tensor]
"""From the slope (R k, B, 1) by the log-probabilities, and the weight of the entropy bonus (a mean
over rows), to the slope (R k, B, o) by the outputs; a log_std's slope goes to the network."""


class Network(Protocol):
    """A network whose log standard deviations, if it has any, are the parameter "log_std"."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Name -> view of the flat tensor of all parameters."""

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """The same of its gradient."""


class Actions(Protocol):
    """What the learner needs of a kind of actions.

    Attributes:
        n_outputs: o, outputs of a representative's head.
        width: a, columns in which an action is stored.
        has_log_std: whether the network has log standard deviations.
    """

    n_outputs: int
    width: int
    has_log_std: bool

    def draw_noise(self, size: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
        """Noise (*size, o) for as many actions."""

    def sample(self, outputs: FloatArray, noise: FloatArray, std: FloatArray | None) -> FloatArray:
        """Actions (R k, E, a) from outputs and noise (R k, E, o), and std (R k, 1, o) if any."""

    def for_envs(self, actions: FloatArray) -> npt.NDArray[Any]:
        """Actions (R k, E, a) as the worlds take them, one row for each world."""

    def log_probs_of_samples(
        self, network: Network, outputs: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Log-probabilities (R k, T, E) of actions (R k, T, E, a) that `sample` drew."""

    def log_probs(
        self, network: Network, outputs: Tensor, actions: Tensor
    ) -> tuple[Tensor, Pullback]:
        """Log-probabilities (R k, B) of actions (R k, B, a), and their pullback."""


class DiscreteActions:
    """The softmax of the outputs."""

    width = 1
    has_log_std = False

    def __init__(self, n_actions: int) -> None:
        """A logit for each of the actions."""
        self.n_outputs = n_actions

    def draw_noise(self, size: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
        """Gumbel noise: the largest logit plus noise is a sample of the softmax."""
        return generator.gumbel(size=(*size, self.n_outputs)).astype(np.float32)

    def sample(self, outputs: FloatArray, noise: FloatArray, std: FloatArray | None) -> FloatArray:
        """Indices (R k, E, 1)."""
        chosen: npt.NDArray[np.intp] = (outputs + noise).argmax(-1, keepdims=True)
        return chosen.astype(np.float32)

    def for_envs(self, actions: FloatArray) -> npt.NDArray[Any]:
        """Indices (R k E,)."""
        return actions.astype(np.int64).reshape(-1)

    def log_probs_of_samples(
        self, network: Network, outputs: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Log-probabilities (R k, T, E)."""
        return outputs.log_softmax(-1).gather(-1, actions.long()).squeeze(-1)

    def log_probs(
        self, network: Network, outputs: Tensor, actions: Tensor
    ) -> tuple[Tensor, Pullback]:
        """Log-probabilities (R k, B), and their pullback."""
        log_softmax, indices = outputs.log_softmax(-1), actions.long()

        def pullback(slope: Tensor, entropy: float) -> Tensor:
            probabilities = log_softmax.exp()
            entropies = -(probabilities * log_softmax).sum(-1, keepdim=True)
            weight = entropy / outputs.shape[1]
            gradient = probabilities * (log_softmax + entropies) * weight
            gradient -= probabilities * slope
            return gradient.scatter_add_(-1, indices, slope)

        return log_softmax.gather(-1, indices).squeeze(-1), pullback


class ContinuousActions:
    """Normal with the outputs as means and learned, state-independent standard deviations.

    Components are independent; the worlds get actions clipped to [-1, 1], the log-probabilities
    are those of the actions before (appendix B, "action clipping").
    """

    has_log_std = True

    def __init__(self, n_components: int) -> None:
        """A mean for each component."""
        self.n_outputs = self.width = n_components

    def draw_noise(self, size: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
        """Standard normal noise."""
        return generator.standard_normal((*size, self.n_outputs), dtype=np.float32)

    def sample(self, outputs: FloatArray, noise: FloatArray, std: FloatArray | None) -> FloatArray:
        """Unbounded actions (R k, E, a)."""
        assert std is not None
        return outputs + std * noise

    def for_envs(self, actions: FloatArray) -> npt.NDArray[Any]:
        """Actions (R k E, a) in [-1, 1]."""
        return actions.reshape(-1, self.width).clip(-1.0, 1.0)

    def log_probs_of_samples(
        self, network: Network, outputs: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Log-probabilities (R k, T, E), exact in the noise."""
        log_std = network.parameters["log_std"].unsqueeze(1)
        log_probs: Tensor = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        return log_probs

    def log_probs(
        self, network: Network, outputs: Tensor, actions: Tensor
    ) -> tuple[Tensor, Pullback]:
        """Log-probabilities (R k, B), and their pullback."""
        log_std = network.parameters["log_std"]
        z = (actions - outputs) * (-log_std).exp()

        def pullback(slope: Tensor, entropy: float) -> Tensor:
            gradient = slope * z
            # The entropy is log_std plus a constant, for each component.
            network.gradients["log_std"].copy_(
                (gradient * z - slope).sum(1, keepdim=True) - entropy
            )
            return gradient.mul_((-log_std).exp())

        constant = 0.5 * math.log(2 * math.pi) * self.n_outputs
        return (-0.5 * z.square() - log_std).sum(-1) - constant, pullback


def make_actions(space: gym.Space[Any]) -> Actions:
    """The kind of actions of an action space.

    Raises:
        ValueError: if the space is neither discrete from 0 nor a vector from -1 to 1.
    """
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return DiscreteActions(int(space.n))
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        if (space.low == -1).all() and (space.high == 1).all():
            return ContinuousActions(space.shape[0])
    raise ValueError(f"action space is {space}; expected Discrete from 0, or Box (a,) from -1 to 1")


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """PPO's objective min(ratio A, clipped ratio A), for each transition.

    Args:
        log_probs: (R k, B) now.
        old_log_probs: (R k, B) when the actions were taken.
        advantage: (R k, B) A.
        clip: bound on the change of the ratio.

    Returns:
        The factor of A in the objective (R k, B), and the objective's slope by log_probs (R k, B).
    """
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    # The slope is zero where the clipped term is the smaller one.
    taken = ratio * advantage <= clipped * advantage
    return torch.where(taken, ratio, clipped), torch.where(taken, ratio, 0.0) * advantage
