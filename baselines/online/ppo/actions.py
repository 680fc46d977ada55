"""The two kinds of actions: how they are drawn, and how likely they are.

A kind turns a network's outputs into actions. Noise is drawn beforehand from a seed's own stream,
so that drawing does not depend on the device or on the seeds that are trained together.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from torch import Tensor

FloatArray = npt.NDArray[np.float32]


class DiscreteActions:
    """The softmax of the outputs.

    Attributes:
        n_outputs: o, outputs of a representative's head.
        width: a, columns in which an action is stored.
        has_log_std: whether the network has log standard deviations.
    """

    width = 1
    has_log_std = False

    def __init__(self, n_actions: int) -> None:
        """Expect a logit for each of the actions."""
        self.n_outputs = n_actions

    def draw_noise(self, size: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
        """Draw Gumbel noise (*size, o): the largest logit plus noise is a sample of the softmax."""
        return generator.gumbel(size=(*size, self.n_outputs)).astype(np.float32)

    def sample(self, outputs: FloatArray, noise: FloatArray, std: FloatArray | None) -> FloatArray:
        """Indices (P, E, 1) from outputs and noise (P, E, o)."""
        chosen: npt.NDArray[np.intp] = (outputs + noise).argmax(-1, keepdims=True)
        return chosen.astype(np.float32)

    def for_envs(self, actions: FloatArray) -> npt.NDArray[Any]:
        """Actions as the worlds take them, one row for each world: indices (P E,)."""
        return actions.astype(np.int64).reshape(-1)

    def log_probs_of_samples(
        self, outputs: Tensor, log_std: Tensor | None, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Log-probabilities (P, T, E) of actions (P, T, E, 1) that `sample` drew."""
        return outputs.log_softmax(-1).gather(-1, actions.long()).squeeze(-1)

    def log_probs(
        self, outputs: Tensor, log_std: Tensor | None, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of actions (P, B, 1), and entropies, (P, B) each."""
        log_softmax = outputs.log_softmax(-1)
        entropies = -(log_softmax.exp() * log_softmax).sum(-1)
        return log_softmax.gather(-1, actions.long()).squeeze(-1), entropies


class ContinuousActions:
    """Normal with the outputs as means and learned, state-independent standard deviations.

    Components are independent; the worlds get actions clipped to [-1, 1], the log-probabilities
    are those of the actions before (appendix B, "action clipping"). Attributes are as those of
    `DiscreteActions`.
    """

    has_log_std = True

    def __init__(self, n_components: int) -> None:
        """Expect a mean for each component."""
        self.n_outputs = self.width = n_components

    def draw_noise(self, size: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
        """Draw standard normal noise (*size, o)."""
        return generator.standard_normal((*size, self.n_outputs), dtype=np.float32)

    def sample(self, outputs: FloatArray, noise: FloatArray, std: FloatArray | None) -> FloatArray:
        """Unbounded actions (P, E, a) from outputs and noise, and std (P, 1, a)."""
        assert std is not None
        return outputs + std * noise

    def for_envs(self, actions: FloatArray) -> npt.NDArray[Any]:
        """Actions (P E, a) in [-1, 1]."""
        return actions.reshape(-1, self.width).clip(-1.0, 1.0)

    def log_probs_of_samples(
        self, outputs: Tensor, log_std: Tensor | None, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Log-probabilities (P, T, E), exact in the noise (P, T, E, a); log_std is (P, 1, a)."""
        assert log_std is not None
        log_std = log_std.unsqueeze(1)
        log_probs: Tensor = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        return log_probs

    def log_probs(
        self, outputs: Tensor, log_std: Tensor | None, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of actions (P, B, a), and entropies, (P, B) each."""
        assert log_std is not None
        z = (actions - outputs) * (-log_std).exp()
        constant = 0.5 * math.log(2 * math.pi) * self.n_outputs
        log_probs = (-0.5 * z.square() - log_std).sum(-1) - constant
        entropies = (log_std.sum(-1) + constant + 0.5 * self.n_outputs).expand_as(log_probs)
        return log_probs, entropies


Actions = DiscreteActions | ContinuousActions


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
    raise ValueError(
        f"action space is {space}; expected Discrete from 0, or Box (a,) from -1 to 1, which "
        "gymnasium.wrappers.RescaleAction makes of others"
    )
