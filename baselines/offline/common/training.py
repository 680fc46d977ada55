"""Training of policies on logged data, for the whole population or for one agent each.

Members are all policies of all seeds: one for each seed (scope "population"), or one for each seed
and scored agent (scope "agent"). They are trained as one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.common.divergence import check_finite
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.offline.common.data import LoggedData, OfflineConfig, load_data
from baselines.offline.common.networks import make_generators
from baselines.offline.common.replay import MemberKey, Replay
from baselines.offline.common.stages import TrainingLog
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.solution.onnx_export import export_module
from rmdp_bench.tasks import OfflineTask

N_REPORTS = 200
"""Times that training reports its losses."""


@dataclass(frozen=True)
class ScopedConfig(OfflineConfig):
    """Settings of solvers that learn one policy for all agents, or one for each."""

    scope: Literal["population", "agent"] = "population"
    """population: one policy from everybody's data; agent: one for each test agent, from its own
    trajectory."""
    n_updates: int = 30_000
    """Gradient steps."""
    batch_size: int = 64
    """Transitions in a gradient step."""
    normalize_observations: bool = True
    """Whether observations are standardised by the mean and standard deviation of the data."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range.
        """
        super().__post_init__()
        check_range(self, 1, math.inf, "n_updates", "batch_size")


class Part(Protocol):
    """A network in training, or one that follows it: what a checkpoint is made of."""

    def tensors(self) -> dict[str, Tensor]:
        """Views (M, ...) by name; a part may have several rows for each member, (M * c, ...)."""

    def set_steps(self, n_steps: int) -> None:
        """Tells how many steps were made."""


class Learner(Protocol):
    """An algorithm that makes one update of all its members at a time."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """All that it learns, by name."""

    def update(self, n_done: int) -> dict[str, Tensor]:
        """One update, after n_done others; gives losses (M,) by name."""

    def policy(self, member: int) -> NetworkPolicy:
        """A member's policy as it is; later updates do not change it."""


class NetworkPolicy:
    """A deterministic policy that is one network, and saves itself as ONNX."""

    def __init__(self, network: nn.Module, observation_size: int) -> None:
        """Wraps a network that gives actions, clipped to [-1, 1], at observations (E, d)."""
        self.network, self.observation_size = network, observation_size

    def reset(self, n_envs: int) -> None:
        """Does nothing: the policy has no memory."""

    @one_thread()
    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E, a) float32, or (E,) int64 for discrete ones, at observations (E, d)."""
        with torch.no_grad():
            actions = self.network(torch.from_numpy(np.asarray(observations, np.float32)))
        array: NDArray[Any] = actions.numpy()
        return array

    def to_onnx(self) -> bytes:
        """The network as an ONNX model."""
        return export_module(self.network, {"observation": torch.zeros(2, self.observation_size)})


class Normalizer(nn.Module):
    """Standardises one member's observations as `Replay` did."""

    def __init__(self, replay: Replay, member: int) -> None:
        """Copies the member's mean and scale."""
        super().__init__()
        self.register_buffer("mean", replay.mean[member].clone())
        self.register_buffer("scale", replay.scale[member].clone())

    def forward(self, observations: Tensor) -> Tensor:
        """Normalised observations (E, d)."""
        buffers = dict(self.named_buffers())
        return (observations - buffers["mean"]) * buffers["scale"]


def member_generators(keys: Sequence[MemberKey], purpose: int) -> list[torch.Generator]:
    """A generator of the CPU for each member; see `make_generators`."""
    return [make_generators(seed, purpose, index + 1)[index] for seed, index in keys]


def get_state(learner: Learner, n_seeds: int) -> dict[str, NDArray[Any]]:
    """Copies of all that a learner needs to continue, but its number of updates: (R, ...)."""
    return {
        f"{name}.{own}": tensor.reshape(n_seeds, -1, *tensor.shape[1:]).cpu().numpy().copy()
        for name, part in learner.parts.items()
        for own, tensor in part.tensors().items()
    }


def set_state(learner: Learner, arrays: Mapping[str, NDArray[Any]], n_done: int) -> None:
    """Restores what `get_state` returned after n_done updates."""
    for name, part in learner.parts.items():
        part.set_steps(n_done)
        for own, tensor in part.tensors().items():
            tensor.copy_(torch.from_numpy(arrays[f"{name}.{own}"]).reshape(tensor.shape))


def check_learner(learner: Learner, n_done: int) -> None:
    """Refuses a learner that has diverged after n_done updates; see `check_finite`."""
    tensors = [tensor for part in learner.parts.values() for tensor in part.tensors().values()]
    check_finite(tensors, f"{n_done:,} updates")


def train(learner: Learner, n_updates: int, log: TrainingLog) -> None:
    """Trains to the end, from a checkpoint if there is one, and leaves one at the end.

    Raises:
        FloatingPointError: training has diverged.
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    n_seeds, n_done = len(log.seeds), 0
    resumed = log.load_checkpoint()
    if resumed is not None:
        n_done = int(resumed[1][0]["n_done"])
        set_state(learner, resumed[0], n_done)
    while n_done < n_updates:
        losses = learner.update(n_done)
        n_done += 1
        if n_done % max(1, n_updates // N_REPORTS) == 0 or n_done == n_updates:
            check_learner(learner, n_done)
            scalars = {
                name: loss.detach().reshape(n_seeds, -1).mean(1).tolist()
                for name, loss in losses.items()
            }
            log.progress(n_done, scalars, total=n_updates)
        if log.checkpoint_due() or n_done == n_updates:
            check_learner(learner, n_done)
            states = [{"n_done": n_done} for _ in range(n_seeds)]
            log.save_checkpoint(n_done, get_state(learner, n_seeds), states)
            if log.stop_requested:
                raise Interrupted


@one_thread()
def solve_with_learner(
    task: OfflineTask,
    config: ScopedConfig,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
    make_learner: Callable[[Replay], Learner],
) -> list[Solution]:
    """Loads the data, trains one member for each seed or each seed and agent, and hands out.

    Returns:
        An `OfflineSolution` for each seed.
    """
    data = load_data(task, config.n_agents)
    agents = task.eval_agents
    per_seed: list[LoggedData] = [data]
    if config.scope == "agent":
        per_seed = [data.trajectory(agent) for agent in agents]
    keys = [(seed, index) for seed in seeds for index in range(len(per_seed))]
    replay = Replay(
        per_seed * len(seeds),
        keys,
        config.batch_size,
        device,
        normalize=config.normalize_observations,
    )
    learner = make_learner(replay)
    train(learner, config.n_updates, log)
    policies = [learner.policy(member) for member in range(len(keys))]
    k = len(per_seed)
    return [scoped_solution(policies[r * k : (r + 1) * k], len(agents)) for r in range(len(seeds))]


def scoped_solution(policies: Sequence[NetworkPolicy], n_agents: int) -> OfflineSolution:
    """One policy for all scored agents, held-out ones too, or one for each scored agent.

    Args:
        policies: one, or n_agents.
        n_agents: number of scored agents.
    """
    if len(policies) > 1:
        return OfflineSolution(policies, np.eye(n_agents))

    def adapt(episodes: Sequence[Episode]) -> Solution:
        return Solution(policies, np.ones((len(episodes), 1)))

    return OfflineSolution(policies, np.ones((n_agents, 1)), adapt=adapt)
