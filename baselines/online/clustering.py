"""Cluster the agents by a universal policy's trajectories, then train for each cluster (section 4).

One policy is trained for all agents, K-means groups the agents by the rewards that they receive
along its trajectories, and one policy is then trained for each group.

The pre-training takes `pretraining` of the transitions of ONE policy on top of the task's, as in
the reference code (half of its iterations); the paper says "to approximate convergence". By a k-th
of these, `transitions_counted` is more than the task's transitions. With k = 1 or k = n the groups
are given, and there is none. The trajectories are one batch of the (stochastic) universal policy.
Where all agents receive the same rewards (Resource Gathering, once the universal policy visits
every tile) K-means leaves representatives without agents.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from baselines.online.assignments import FixedRule, one_hot
from baselines.online.learner import Learner, resume, solve_with_rule, train
from baselines.online.nodes import Nodes
from baselines.online.settings import PPOConfig, check, task_settings
from baselines.settings import check_range
from rmdp_bench.results import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import Task

__all__ = ["Config", "check", "config_for", "solve"]


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and the length of the pre-training."""

    pretraining: float = 0.5
    """Transitions of the universal policy, as a share of the task's transitions per policy."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range.
        """
        super().__post_init__()
        check_range(self, 0.0, 100.0, "pretraining")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task))


def cluster_agents(
    rewards: npt.NDArray[np.floating[Any]], n_representatives: int, seed: int
) -> npt.NDArray[np.intp]:
    """Clusters (n,) of agents by their rewards (steps, n) along the same trajectories."""
    means = KMeans(n_clusters=n_representatives, n_init=10, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct agents than clusters: see above.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(means.fit(rewards.T).labels_, dtype=np.intp)


def clusters(
    universal: Task, n_clusters: int, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> torch.Tensor:
    """Trains the universal policies and returns the clusters as assignments (R, n, k)."""
    learner = Learner(universal, config, seeds, device)
    everyone = FixedRule(torch.ones(len(seeds), universal.n_agents, 1, device=device))
    resume(learner, everyone, log, preparation=True)
    train(learner, everyone, log, preparation=True)
    batch = learner.collect()
    learner.close()
    nodes = learner.collector.nodes
    rewards = batch.rewards.reshape(len(seeds), -1, nodes.size).cpu().numpy()
    labels = [
        cluster_agents(agent_rewards(nodes, own), n_clusters, seed)
        for own, seed in zip(rewards, seeds, strict=True)
    ]
    return one_hot(np.stack(labels), n_clusters, device)


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


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Pre-trains, clusters and trains, for every seed.

    Returns:
        One solution for each seed.
    """
    n, k = task.n_agents, task.n_representatives
    in_turn = np.tile(np.arange(n) % k, (len(seeds), 1))
    rule = FixedRule(one_hot(in_turn, k, device))
    if k in (1, n):
        return solve_with_rule(task, config, seeds, device, log, rule)
    universal = dataclasses.replace(
        task, n_representatives=1, transitions=int(config.pretraining * task.transitions)
    )
    learner = Learner(task, config, seeds, device)
    if not resume(learner, rule, log):
        rule.assignment = clusters(universal, k, config, seeds, device, log)
    train(learner, rule, log)
    learner.close()
    return learner.solutions(rule.served)
