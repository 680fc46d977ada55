"""PerSim's model: transitions as products of factors of the agent, the action and the state.

    next state = s + Delta,    Delta_d = sum_l u_l(agent) w_l(action) v_{d,l}(state),  l = 1 .. r

(Agarwal et al. 2021, arXiv 2102.06961, and its code.) u is linear in the one-hot agent; w is linear
in the one-hot action, or a network where actions are continuous; v is a network. An ensemble
differs in its initial parameters and in the order of its mini-batches.

The members of all ensembles, of all seeds, are the leading axis M of every tensor.
`training` fits them; `simulator` is what they give for one agent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines.common.settings import check_range
from baselines.offline.common.data import LoggedData, OfflineConfig
from baselines.offline.common.networks import MemberMLP
from rmdp_bench.tasks import Task


@dataclass(frozen=True)
class FactoredConfig(OfflineConfig):
    """The model's settings (PerSim's code; `model_settings` has those that a task replaces)."""

    n_models: int = 5
    """Members of an ensemble."""
    rank: int = 5
    """r, factors of each agent, action and component of the state's change."""
    state_layers: tuple[int, ...] = (256,)
    """Widths of the hidden layers of v."""
    action_layers: tuple[int, ...] = ()
    """Widths of the hidden layers of w; none for discrete actions."""
    n_epochs: int = 300
    """Passes over the data."""
    batch_size: int = 64
    """Transitions in a gradient step, of each member."""
    learning_rate: float = 1e-3
    """Adam's step size at the start."""
    halving_epochs: int = 150
    """Epochs after which the step size is halved."""
    normalize: bool = False
    """Whether observations and their changes are standardised."""
    compiled: bool = True
    """Whether a CPU runs the compiled loops where there are any: the same numbers, to rounding."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        super().__post_init__()
        whole = ("n_models", "rank", "n_epochs", "batch_size", "halving_epochs")
        check_range(self, 1, math.inf, *whole)
        check_range(self, 1e-12, 1.0, "learning_rate")
        for name in ("state_layers", "action_layers"):
            if any(width < 1 for width in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; expected widths of at least 1")


_HALF_CHEETAH: dict[str, Any] = {
    "rank": 15,
    "batch_size": 1024,
    "state_layers": (512, 512, 512, 512),
    "action_layers": (512, 512),
    "normalize": True,
}
_TASK_SETTINGS: dict[str, dict[str, Any]] = {
    "rmdp/MountainCarHet-n500-v0": {"rank": 3, "batch_size": 512},
    "rmdp/CartPoleHet-n500-v0": {"rank": 5, "batch_size": 64},
    "rmdp/HalfCheetahHet-n500-v0": _HALF_CHEETAH,
    "rmdp/HalfCheetahHet-n500-v1": _HALF_CHEETAH,
}


def model_settings(task: Task) -> dict[str, Any]:
    """Settings of the model that a task replaces, by name of the field."""
    return _TASK_SETTINGS.get(task.env_id, {})


class FactoredModel(nn.Module):
    """M models of the transitions of n agents.

    Attributes:
        agent_network: u, one-hot agent (n) to r.
        action_network: w, one-hot action or action (a) to r.
        state_network: v, (d) to (d, r), flattened.
        scales: "input_mean", "input_scale", "output_mean", "output_scale", each (d,): what is
            subtracted from observations and their changes, and what they are then divided by.
    """

    def __init__(
        self,
        config: FactoredConfig,
        data: LoggedData,
        n_actions: int | None,
        generators: Sequence[torch.Generator],
    ) -> None:
        """Draw the parameters; factors are drawn as those of PyTorch's `nn.Linear`.

        Args:
            config: sizes.
            data: gives the number of agents and the scales.
            n_actions: A; None: actions are continuous.
            generators: one for each member, of the CPU.
        """
        super().__init__()
        d, r = data.observations.shape[1], config.rank
        action_size = data.actions.shape[1] if n_actions is None else n_actions
        self.n_actions, self.rank, self.observation_size = n_actions, r, d
        self.agent_network = MemberMLP((data.n_agents, r), generators)
        self.action_network = MemberMLP((action_size, *config.action_layers, r), generators)
        self.state_network = MemberMLP((d, *config.state_layers, d * r), generators)
        self.scales = {"input_mean": torch.zeros(d), "input_scale": torch.ones(d)}
        self.scales |= {"output_mean": torch.zeros(d), "output_scale": torch.ones(d)}
        if config.normalize:
            changes = data.next_observations - data.observations
            for name, rows in (("input", data.observations), ("output", changes)):
                self.scales[f"{name}_mean"] = rows.mean(0)
                self.scales[f"{name}_scale"] = rows.std(0, correction=0).clamp_min(1e-6)

    def place(self, device: str) -> FactoredModel:
        """Move everything to a device."""
        self.scales = {name: scale.to(device) for name, scale in self.scales.items()}
        return self.to(device)

    @property
    def n_members(self) -> int:
        """M."""
        return int(self.agent_network.weights[0].shape[0])

    def normalize(self, observations: Tensor) -> Tensor:
        """Inputs of v."""
        return (observations - self.scales["input_mean"]) / self.scales["input_scale"]

    def normalize_changes(self, data: LoggedData) -> Tensor:
        """What the factors' product is fitted to, (N, d)."""
        changes = data.next_observations - data.observations
        return (changes - self.scales["output_mean"]) / self.scales["output_scale"]

    def agent_factors(self) -> Tensor:
        """U (M, n, r)."""
        factors: Tensor = self.agent_network.weights[0] + self.agent_network.biases[0]
        return factors

    def action_factors(self, actions: Tensor) -> Tensor:
        """W (M, B, r) of actions (M, B) or (M, B, a)."""
        if self.n_actions is None:
            factors: Tensor = self.action_network(actions)
            return factors
        table = self.action_network.weights[0] + self.action_network.biases[0]  # (M, A, r)
        return _rows(table, actions)

    def parts(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """What agents weigh by their factors: w_l(action) v_{d,l}(state), (M, B, d, r).

        Args:
            inputs: (M, B, d) normalised observations.
            actions: (M, B) or (M, B, a).
        """
        states = self.state_network(inputs).unflatten(-1, (self.observation_size, self.rank))
        product: Tensor = states * self.action_factors(actions).unsqueeze(-2)
        return product

    def forward(self, inputs: Tensor, agents: Tensor, actions: Tensor) -> Tensor:
        """Normalised changes (M, B, d) for agents (M, B); others as in `parts`."""
        factors = _rows(self.agent_network.weights[0], agents) + self.agent_network.biases[0]
        changes: Tensor = (self.parts(inputs, actions) * factors.unsqueeze(-2)).sum(-1)
        return changes


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows (M, B, r) of each member's table (M, n, r)."""
    return table.gather(1, index.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
