"""Stochastic policies with a leading axis of members, and one member's as it is saved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.offline.common.networks import MemberMLP, as_array
from baselines.offline.common.policies import NetworkPolicy, PolicyNetwork
from rmdp_bench.solution.onnx_graphs import PolicyGraph


class Actor(nn.Module):
    """M policies: softmax, or Normal with a standard deviation that does not depend on the state.

    Attributes:
        discrete: whether the outputs are logits; else they are means.
        log_std: (M, 1, a) parameter; None for softmax policies.
    """

    def __init__(
        self,
        mean: Tensor,
        scale: Tensor,
        n_outputs: int,
        hidden_sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        log_std: float | None = None,
        min_log_std: float = -1.0,
    ) -> None:
        """Draw the policies.

        Args:
            mean: (M, 1, d) subtracted from observations.
            scale: (M, 1, d) by which the difference is divided.
            n_outputs: number of actions, or their dimensions a.
            hidden_sizes: of the tanh layers.
            generators: M.
            log_std: initial one; None: actions are discrete.
            min_log_std: where it is kept from falling further.
        """
        super().__init__()
        sizes = (mean.shape[-1], *hidden_sizes, n_outputs)
        self.network = MemberMLP(sizes, generators, activation=torch.tanh).to(mean.device)
        self.mean, self.scale, self.min_log_std = mean, scale, min_log_std
        self.discrete = log_std is None
        self.log_std: nn.Parameter | None = None
        if log_std is not None:
            initial = torch.full((len(generators), 1, n_outputs), log_std, device=mean.device)
            self.log_std = nn.Parameter(initial)

    def forward(self, observations: Tensor) -> Tensor:
        """Logits or means (M, B, o) at observations (M, B, d)."""
        outputs: Tensor = self.network((observations - self.mean) / self.scale)
        return outputs

    def draw_noise(
        self, n_steps: int, n_paths: int, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Noise (n_steps, M, n_paths, o) for `act`, each member's from its own generator."""
        shape = (n_steps, n_paths, self.network.sizes[-1])
        if self.discrete:  # Gumbel's: the greatest sum with the logits is a softmax sample
            parts = [torch.empty(shape).exponential_(generator=g).log_().neg_() for g in generators]
        else:
            parts = [torch.empty(shape).normal_(generator=g) for g in generators]
        return torch.stack(parts, 1).to(self.mean.device)

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Samples (M, B), or (M, B, a) which may leave [-1, 1]; no noise: the likeliest."""
        outputs = self(observations)
        if self.log_std is None:
            actions: Tensor = (outputs + noise).argmax(-1)
            return actions
        drawn: Tensor = outputs + self.log_std.exp() * noise
        return drawn

    def log_probabilities(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(M, B) log-probabilities (densities) of actions."""
        outputs = self(observations)
        if self.log_std is None:
            logs = outputs.log_softmax(-1)
            chosen: Tensor = logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
            return chosen
        deviations = (actions - outputs) / self.log_std.exp()
        constant = self.log_std + 0.5 * math.log(2 * math.pi)
        densities: Tensor = -(0.5 * deviations.square() + constant).sum(-1)
        return densities

    def cloning_loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(M,) cross-entropy, or mean squared error, of logged actions."""
        if self.discrete:
            return -self.log_probabilities(observations, actions).mean(1)
        errors: Tensor = (self(observations) - actions).square().mean((1, 2))
        return errors

    def policy(self, member: int) -> NetworkPolicy:
        """A member's deterministic policy as it is: the likeliest action, or the clipped mean."""
        return NetworkPolicy(_Deterministic(self, member), self.network.sizes[0])


class _Deterministic(PolicyNetwork):
    """A member without its noise."""

    mean: Tensor
    scale: Tensor

    def __init__(self, actor: Actor, member: int) -> None:
        super().__init__()
        self.network = actor.network.member(member)
        self.action_size = None if actor.discrete else self.network.sizes[-1]
        self.register_buffer("mean", actor.mean[member].cpu())
        self.register_buffer("scale", actor.scale[member].cpu())

    def forward(self, observation: Tensor) -> Tensor:
        inputs = (observation - self.mean) / self.scale
        outputs: Tensor = self.network(inputs.unsqueeze(0)).squeeze(0)
        return outputs.argmax(-1) if self.action_size is None else outputs.clamp(-1.0, 1.0)

    def write(self, graph: PolicyGraph, observation: str) -> str:
        rows = graph.add("Sub", observation, graph.constant(as_array(self.mean)))
        rows = graph.add("Div", rows, graph.constant(as_array(self.scale)))
        outputs = self.network.write(graph, rows)
        if self.action_size is None:
            return graph.add("ArgMax", outputs, axis=-1, keepdims=0)
        return graph.add("Clip", outputs, graph.constant(-1.0), graph.constant(1.0))
