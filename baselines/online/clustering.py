"""Cluster the agents by a universal policy's trajectories, then train for each cluster (section 4).

One policy is trained for all agents, K-means groups the agents by the rewards that they receive
along its trajectories, and one policy is then trained for each group.

The paper extends the pre-training "to approximate convergence". Here it has converged when the
universal policy's learning curve, the mean over agents of the moving averages of training returns
(equation 10, in which the paper's curves are drawn), is level: positive, and on average over the
last `window` transitions no more than `tolerance` above what it was over as many before. It ends
at `pretraining` of the transitions of ONE policy in any case. Each seed ends by its own curve.

The pre-training is paid for from the task's transitions, so that every solver has as many: each of
the k policies has T (1 - pretraining / k), whether or not the curve was level before the cap.

Departures: the reference code pre-trains for half of its iterations, whatever the curve, and on top
of those of the k policies; so did this solver in records of configurations without `window`.
Schedules of the step size and the entropy bonus run over the most that the pre-training may take,
so that one which ends early has not annealed. With k = 1 or k = n the groups are given, and there
is none. The trajectories are one batch of the (stochastic) universal policy. Where all agents
receive the same rewards (Resource Gathering, once the universal policy visits every tile) K-means
leaves representatives without agents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.online.ppo.assignments import FixedRule, one_hot
from baselines.online.ppo.learner import PPOLearner, resume, solve_with_rule, train
from baselines.online.ppo.outcome_critic import Nodes
from baselines.online.ppo.settings import PPOConfig, check, critic_settings, task_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task
from rmdp_bench.warning_filters import ignored_warnings

__all__ = ["SEEDS_AS_ONE_BATCH", "Config", "check", "config_for", "solve"]

SEEDS_AS_ONE_BATCH = True


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and the length of the pre-training."""

    pretraining: float = 0.5
    """Most transitions of the universal policy, as a share of the task's transitions per policy."""
    window: float = 0.1
    """Transitions over which its learning curve is averaged, as a share of the same."""
    tolerance: float = 0.01
    """Gain from one window to the next, as a share of the former, up to which it has converged."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range."""
        super().__post_init__()
        check_range(self, 1e-3, 1.0, "pretraining", "window")
        check_range(self, 0.0, 100.0, "tolerance")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task), **critic_settings(task))


def cluster_agents(
    rewards: npt.NDArray[np.floating[Any]], n_representatives: int, seed: int
) -> npt.NDArray[np.intp]:
    """Number (n,) of each agent's cluster, by rewards (steps, n) along the same trajectories."""
    means = KMeans(n_clusters=n_representatives, n_init=10, random_state=seed)
    with ignored_warnings(ConvergenceWarning):  # fewer distinct agents than clusters: see above
        return np.asarray(means.fit(rewards.T).labels_, dtype=np.intp)


def is_level(curve: npt.NDArray[np.floating[Any]], window: int, tolerance: float) -> bool:
    """Whether a learning curve (t,) has converged, as the module defines it.

    Args:
        curve: welfare after each iteration so far.
        window: iterations to average over.
        tolerance: largest gain, as a share.
    """
    if len(curve) < 2 * window:
        return False
    before, now = curve[-2 * window : -window].mean(), curve[-window:].mean()
    return bool(now > 0.0 and now <= (1.0 + tolerance) * before)


class UniversalRule(FixedRule):
    """Everybody at one policy, until its curve is level: then each seed's agents are clustered.

    Attributes:
        curve: (R, iterations) welfare, nan where it has not come yet.
        clusters: (R, n) of the agents, -1 before there are any.
    """

    def __init__(self, learner: PPOLearner, config: Config, n_clusters: int, seeds: Sequence[int]):
        """Start without clusters."""
        task, n_seeds = learner.task, len(seeds)
        super().__init__(torch.ones(n_seeds, task.n_agents, 1, device=learner.device))
        self.learner, self.config, self.n_clusters, self.seeds = learner, config, n_clusters, seeds
        n_iterations = task.transitions // config.batch_size
        share = config.window / config.pretraining
        self.window = max(1, round(share * n_iterations))
        self.curve = np.full((n_seeds, n_iterations), np.nan)
        self.clusters = np.full((n_seeds, task.n_agents), -1)

    def has_clusters(self) -> bool:
        """Whether all seeds have."""
        return bool((self.clusters >= 0).all())

    def after_collection(self, average_returns: npt.NDArray[np.floating[Any]]) -> None:
        """Add to the curves, and cluster the seeds that have converged by their last batch."""
        last = self.learner.iteration
        self.curve[:, last] = np.nan_to_num(average_returns).mean((1, 2))
        nodes = self.learner.collector.nodes
        rewards = self.learner.collector.rewards.reshape(len(self.seeds), -1, nodes.size)
        for r, seed in enumerate(self.seeds):
            own = self.curve[r, : last + 1]
            is_over = last + 1 == self.curve.shape[1]
            if self.clusters[r, 0] < 0 and (
                is_over or is_level(own, self.window, self.config.tolerance)
            ):
                seen = agent_rewards(nodes, rewards[r].cpu().numpy())
                self.clusters[r] = cluster_agents(seen, self.n_clusters, seed)

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """The curves and the clusters."""
        return super().get_state() | {"curve": self.curve, "clusters": self.clusters}

    def set_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `get_state` returned."""
        super().set_state(state)
        self.curve, self.clusters = state["curve"].copy(), state["clusters"].copy()


def clusters(
    universal: OnlineTask,
    n_clusters: int,
    config: Config,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
) -> torch.Tensor:
    """Train the universal policies and return the clusters as assignments (R, n, k)."""
    learner = PPOLearner(universal, config, seeds, device)
    rule = UniversalRule(learner, config, n_clusters, seeds)
    resume(learner, rule, log, preparation=True)
    train(learner, rule, log, prepared=rule.has_clusters)
    learner.close()
    return one_hot(rule.clusters, n_clusters, device)


def agent_rewards(
    nodes: Nodes, rewards: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.floating[Any]]:
    """Rewards (steps, n) of the agents from those of the nodes (steps, B).

    Where nodes stand for agents, these are (B, n): the triangular factor of the nodes' rewards in
    the place of the steps, between whose rows agents have the distances that they have between
    steps. K-means asks for no more, and a million agents fit.
    """
    if nodes.weights is None:
        return rewards
    return nodes.of_agents(np.asarray(np.linalg.qr(rewards, mode="r")).T).T


@one_thread()
def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Pre-train, cluster and train, for every seed.

    Returns:
        One solution for each seed.
    """
    n, k = task.n_agents, task.n_representatives
    in_turn = np.tile(np.arange(n) % k, (len(seeds), 1))
    rule = FixedRule(one_hot(in_turn, k, device))
    if k in (1, n):
        return solve_with_rule(task, config, seeds, device, log, rule)
    most = max(config.batch_size, int(config.pretraining * task.transitions))
    universal = dataclasses.replace(task, n_representatives=1, transitions=most)
    learner = PPOLearner(task, config, seeds, device, spent=-(-most // k))
    if not resume(learner, rule, log):
        rule.assignment = clusters(universal, k, config, seeds, device, log)
    train(learner, rule, log)
    learner.close()
    return learner.solutions(rule.served)
