"""What PerSim's model gives for one agent: a simulator.

The factors of the agent and of the action are constants of a roll-out. With discrete actions,
contracted with the last layer of v, from h to d r, they leave a layer from h to d for each action,
once for each agent; so a step of a candidate costs 2 d h multiplications with one hidden layer.
With continuous ones the agent's factor multiplies that of the action, so that simulators of several
agents can roll out together.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from baselines.offline.common.data import COLUMNS, LoggedData
from baselines.offline.common.networks import MemberMLP
from baselines.offline.persim import kernels
from baselines.offline.persim.model import FactoredModel
from baselines.offline.planning.dynamics import Dynamics, Objective
from rmdp_bench.solution import Policy

Layers = list[tuple[Tensor, Tensor]]


class PersonalSimulator(Dynamics):
    """One agent's world, as the members of one ensemble see it.

    On a CPU, plans of discrete actions are rolled out by a compiled loop where there is one.
    """

    def __init__(self, model: FactoredModel, factors: Tensor, *, compiled: bool = True) -> None:
        """Fold the agent's factors in; see the module's docstring.

        Args:
            model: of M members, not trained any further.
            factors: (M, r) of the agent in each of them, on the model's device.
            compiled: False: torch everywhere.
        """
        self.n_members, self.device = len(factors), factors.device
        self._model = model
        self._factors = factors[:, None]  # (M, G, r), of the agents whose environments are 0 to G-1
        self.n_actions, self._scales = model.n_actions, model.scales
        d, r = model.observation_size, model.rank
        with torch.no_grad():
            *self._hidden, (weight, bias) = _layers(model.state_network)
            self._actions = _layers(model.action_network)
            # (M, h, A, d, r) and (M, 1, A, d, r), A = 1 where actions are continuous.
            folded = [part.unflatten(-1, (1, d, r)) for part in (weight, bias)]
            if self.n_actions is not None:
                table, table_bias = self._actions[0]
                coefficients = self._factors * (table + table_bias)  # (M, A, r)
                folded = [part * coefficients[:, None, :, None] for part in folded]
                folded = [part.sum(-1, keepdim=True) for part in folded]
            folded = [part * model.scales["output_scale"][:, None] for part in folded]
            self._shape = folded[0].shape[2:]
            self._last = [part.flatten(2) for part in folded]
            is_small = len(self._hidden) == 1 and d <= kernels.LANES
            is_compiled = compiled and is_small and self.n_actions is not None
            self._tables: tuple[NDArray[Any], ...] | None = None
            if is_compiled and self.device.type == "cpu":
                self._tables = self._make_tables()
        # A GPU waits for the calls that make a step, not for their arithmetic: there, what does not
        # depend on states is computed for many steps together.
        self._n_selected = 32 if self.device.type == "cuda" else 1
        if self.device.type == "cuda":
            self.chunk_rows = 2 ** (17 if self.n_actions is not None else 14) // self.n_members

    def step(
        self,
        states: Tensor,
        actions: Tensor,
        envs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Roll every member one step on, by its own layers."""
        return self._advance(states, self._select(actions, envs))

    def join(self, others: Sequence[Dynamics]) -> Dynamics | None:
        """Join simulators of one model with continuous actions; None for others."""
        simulators = [each for each in others if isinstance(each, PersonalSimulator)]
        is_one_model = all(each._model is self._model for each in simulators)
        if self.n_actions is not None or len(simulators) < len(others) or not is_one_model:
            return None
        joined = copy.copy(self)
        joined._factors = torch.cat([each._factors for each in simulators], 1)
        return joined

    def _select(self, actions: Tensor, envs: Tensor) -> Tensor:
        """What `_advance` needs of actions (B,) or (B, a): factors (M, B, r), or (B,) as given."""
        if self.n_actions is not None:
            return actions
        factors = actions.expand(self.n_members, -1, -1)
        for layer, (weight, bias) in enumerate(self._actions):
            factors = torch.baddbmm(bias, factors.relu() if layer else factors, weight)
        return factors * (self._factors if self._factors.shape[1] == 1 else self._factors[:, envs])

    def _advance(self, states: Tensor, selected: Tensor) -> Tensor:
        """Next states (M, B, d)."""
        rows = (states - self._scales["input_mean"]) / self._scales["input_scale"]
        for weight, bias in self._hidden:
            rows = torch.baddbmm(bias, rows, weight).relu_()
        weight, bias = self._last
        outputs = torch.baddbmm(bias, rows, weight).unflatten(-1, self._shape)  # (M, B, A, d, .)
        if self.n_actions is None:
            changes = (outputs[:, :, 0] * selected[:, :, None]).sum(-1)
        else:
            index = selected[:, None, None].expand(*outputs.shape[:2], 1, outputs.shape[3])
            changes = outputs[..., 0].gather(2, index)[:, :, 0]
        next_states: Tensor = states + changes + self._scales["output_mean"]
        return next_states

    def _make_tables(self) -> tuple[NDArray[Any], ...]:
        """Weights as `kernels.roll_out` takes them: lanes beyond the observation are zero."""
        ((weight, bias),) = self._hidden
        weight = weight / self._scales["input_scale"][:, None]
        bias = bias - (self._scales["input_mean"] @ weight)[:, None]
        last, last_bias = (part.unflatten(-1, self._shape)[..., 0] for part in self._last)
        last_bias = last_bias[:, 0] + self._scales["output_mean"]  # (M, A, d)
        missing = kernels.LANES - weight.shape[1]
        tables = [
            pad(weight, (0, 0, 0, missing)),
            bias[:, 0],
            pad(last, (0, missing)).permute(0, 2, 3, 1),
            pad(last_bias, (0, missing)),
        ]
        return tuple(table.contiguous().numpy() for table in tables)

    def _roll(
        self,
        objective: Objective,
        observations: Tensor,
        plans: Tensor,
        envs: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """All steps of all members; then what they are worth, all at once."""
        roll_out = self._roll_out if self._tables is None else self._roll_out_compiled
        states = roll_out(observations, plans, envs)  # (M, A, S, H + 1, d)
        before, after = states[..., :-1, :], states[..., 1:, :]
        ends = objective.terminated(before, plans, after)
        n_ends = ends.cumsum(-1)
        rewards = objective.reward(before, plans, after)
        totals = torch.where(n_ends == 0, rewards, 0.0).sum(-1)
        if objective.bonus is not None:
            running = n_ends == ends  # nothing has ended before this step
            totals += torch.where(running, objective.bonus(after), -torch.inf).amax(-1)
        return totals.mean(0).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)

    def _roll_out(self, observations: Tensor, plans: Tensor, envs: Tensor) -> Tensor:
        """All states in torch."""
        n_envs, n_plans, horizon = plans.shape[:3]
        states = observations.repeat_interleave(n_plans, dim=0).expand(self.n_members, -1, -1)
        path = [states]
        for selected in self._selections(plans.flatten(0, 1), envs.repeat_interleave(n_plans)):
            path.append(self._advance(path[-1], selected))
        rolled: Tensor = torch.stack(path, -2).unflatten(1, (n_envs, n_plans))
        return rolled

    def _selections(self, plans: Tensor, envs: Tensor) -> Iterator[Tensor]:
        """What `_advance` needs in each step of plans (B, H, ...)."""
        dim = 0 if self.n_actions is not None else 1  # of plans and steps
        for part in plans.split(self._n_selected, 1):
            selected = self._select(part.flatten(0, 1), envs.repeat_interleave(part.shape[1]))
            yield from selected.unflatten(dim, part.shape[:2]).unbind(dim + 1)

    def _roll_out_compiled(self, observations: Tensor, plans: Tensor, envs: Tensor) -> Tensor:
        """All states in one call."""
        assert self._tables is not None
        d = observations.shape[-1]
        shape = (self.n_members, *plans.shape[:2], plans.shape[2] + 1, kernels.LANES)
        states = torch.empty(shape)
        states[..., 0, :] = pad(observations, (0, kernels.LANES - d))[:, None]
        weight, bias, last, last_bias = self._tables
        sequences = plans.contiguous().numpy()
        kernels.roll_out(weight, bias, last, last_bias, sequences, states.numpy())
        return states[..., :d]


def _layers(network: MemberMLP) -> Layers:
    """Weights and biases."""
    return [
        (weight.detach(), bias.detach())
        for weight, bias in zip(network.weights, network.biases, strict=True)
    ]


@torch.no_grad()
def simulate(
    dynamics: Dynamics, objective: Objective, policy: Policy, starts: Tensor, n_steps: int
) -> LoggedData:
    """Let a policy act in a learned world, whose members' mean is what happens.

    Args:
        dynamics: of one agent; without noise.
        objective: gives rewards and ends.
        policy: acts in E episodes at once.
        starts: (E, d) first observations.
        n_steps: after which an episode is cut.

    Returns:
        E trajectories, as if of agents 0 to E - 1.
    """
    n_envs = len(starts)
    envs, running = torch.arange(n_envs), torch.ones(n_envs, dtype=torch.bool)
    policy.reset(n_envs)
    dynamics.begin(n_envs, 0)
    steps, observations = [], starts
    for _ in range(n_steps):
        actions = torch.from_numpy(np.asarray(policy.act(observations.cpu().numpy())))
        moves = actions.to(dynamics.device)
        members = observations.expand(dynamics.n_members, -1, -1)
        following = dynamics.step(members, moves, envs.to(dynamics.device)).mean(0)
        rewards = objective.reward(observations, moves, following)
        ends = objective.terminated(observations, moves, following)
        parts = (observations, actions, rewards, following, ends, envs, running)
        steps.append(tuple(part.cpu() for part in parts))
        running = running & ~ends.cpu()
        if not running.any():
            break
        observations = following
    *columns, kept = (torch.stack(column, 1) for column in zip(*steps, strict=True))  # (E, T, ...)
    arrays = {name: column[kept] for name, column in zip(COLUMNS, columns, strict=True)}
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)))
    return LoggedData(**arrays, starts=starts)
