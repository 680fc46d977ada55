"""End-to-end learning with soft assignments (paper, section 3.4).

The assignment is the softmax of a table psi (n, k) of logits, moved by Adam by a gradient while the
actors are trained for it.

Two gradients, chosen by `signal`:
  - "return", the default and a departure from the paper: the exact gradient of the objective
    (equation 2), the derivative of sum_ij alpha^i(j) V^ij with the moving averages of returns
    (equation 10) as V. Adam makes as many steps as the actors do, before their update.
  - "advantage": equation 12 as written, in the same gradient steps as the actors. Its advantages
    are on-policy: their mean over a batch is about zero for EVERY (agent, representative), so they
    say little about which representative serves an agent better; what remains is that one
    improving for an agent gains its weight. In our runs welfare rises, then drifts down: see
    leaderboards/submissions/reference/README.md for both. With it, `normalization="minibatch"`
    normalises the marginal advantages within each mini-batch and lets the gradient pass through,
    as the reference code does; the paper's appendix B says batch.

Choices: psi starts standard normal, as in the code. The solution is the soft assignment as it was
learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.online.ppo.learner import solve_with_rule
from baselines.online.ppo.settings import PPOConfig, check, critic_settings, task_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.scoring import objective_weights
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["SEEDS_AS_ONE_BATCH", "Config", "check", "config_for", "solve"]

SEEDS_AS_ONE_BATCH = True


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and those of the assignment."""

    assignment_learning_rate: float = 2e-3
    """Adam's step size for psi (appendix B)."""
    signal: Literal["return", "advantage"] = "return"
    """The gradient of objective 2 with averaged returns as values, or equation 12 as written."""
    normalization: Literal["batch", "minibatch"] = "batch"
    """Over what `signal="advantage"` normalises marginal advantages."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range, or a setting would have no effect."""
        super().__post_init__()
        check_range(self, 1e-12, 10.0, "assignment_learning_rate")
        if self.normalization == "minibatch" and self.signal == "return":
            raise ValueError(
                "normalization is 'minibatch', which signal 'return' does not use; expected "
                "signal 'advantage' with it"
            )
        if self.signal == "advantage" and self.critic == "outcome":
            raise ValueError(
                "signal is 'advantage', which needs every agent's own advantages; expected critic "
                "'agents' with it, or signal 'return'"
            )


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task), **critic_settings(task))


class SoftRule:
    """psi (R, n, k) and its Adam."""

    def __init__(self, task: OnlineTask, config: Config, seeds: Sequence[int], device: str) -> None:
        """Draw every seed's psi."""
        self.objective = task.objective
        self.config, self.n_agents = config, task.n_agents
        self.moves_within_update = config.signal == "advantage"
        self.normalizes_minibatches = config.normalization == "minibatch"
        shape = (task.n_agents, task.n_representatives)
        draws = [
            np.random.default_rng([seed, streams.PPO.ASSIGNMENT]).standard_normal(shape)
            for seed in seeds
        ]
        self.psi = torch.from_numpy(np.stack(draws).astype(np.float32)).to(device)
        self.psi.grad = torch.zeros_like(self.psi)
        self.optimizer = torch.optim.Adam([self.psi], lr=config.assignment_learning_rate)
        state = self.optimizer.state[self.psi]
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(self.psi) for _ in range(2))
        self.assignment = self.psi.softmax(-1)

    @property
    def served(self) -> Tensor:
        """The soft assignment as it is."""
        return self.assignment

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """With `signal="return"`, as many steps as the actors make, on objective 2."""
        if self.moves_within_update:
            return
        table = torch.from_numpy(np.nan_to_num(average_returns).astype(np.float32))
        table = table.to(self.psi.device) / self.n_agents
        if self.objective != "utilitarian":  # the slope of W by the assignment: dW / dV^i V^ij
            returns = (self.assignment * table).sum(-1).cpu().numpy() * self.n_agents
            weights = objective_weights(returns, self.objective).astype(np.float32)
            table = table * torch.from_numpy(weights[..., None]).to(table.device)
        for _ in range(self.config.gradient_steps):
            self.descend(-table)

    def descend(self, slope: Tensor) -> None:
        """Move psi against the derivative (R, n, k) of a loss by the assignment: equation 12."""
        assert self.psi.grad is not None
        mean = (self.assignment * slope).sum(-1, keepdim=True)
        torch.mul(self.assignment, slope - mean, out=self.psi.grad)
        self.optimizer.step()
        self.assignment = self.psi.softmax(-1)

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """Psi and Adam's state."""
        state = self.optimizer.state[self.psi]
        arrays = {name: state[name].cpu().numpy() for name in ("exp_avg", "exp_avg_sq")}
        steps = np.full(len(self.psi), state["step"].item())
        return arrays | {"psi": self.psi.cpu().numpy(), "step": steps}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned."""
        own = self.optimizer.state[self.psi]
        for name, tensor in (("psi", self.psi), *((n, own[n]) for n in ("exp_avg", "exp_avg_sq"))):
            tensor.copy_(torch.from_numpy(state[name]))
        own["step"].fill_(float(state["step"][0]))
        self.assignment = self.psi.softmax(-1)


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train representatives and assignment of every seed, as one batch.

    Returns:
        One solution for each seed.
    """
    rule = SoftRule(task, config, seeds, device)
    return solve_with_rule(task, config, seeds, device, log, rule)
