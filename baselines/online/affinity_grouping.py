"""Group agents whom one adaptation of a common policy helps together: after PolicyGradEx.

Zhang et al., "Scalable Multi-Objective and Meta Reinforcement Learning via Gradient Estimation"
(AAAI 2026, https://arxiv.org/abs/2511.12779), ask which of n objectives to train together in k
groups. One meta-policy is trained for all. What adapting it to a random subset of the objectives
would bring is not trained but estimated: near the meta-policy the log-probability ratio of a
transition is linear in the change of the parameters, log r_t = g_t . Delta with the gradient g_t of
its log-probability, and Delta is fitted to the subset's advantages as a weighted logistic
regression on randomly projected gradients. The affinity of two objectives is the mean of what one
gains over the subsets that have both; k groups maximise the affinity within, and a policy is
trained for each.

Here an agent is an objective. The meta-policy is paid for as the universal policy of `clustering`
is: its transitions, and the batch from which gradients and advantages are estimated, are part of
the task's T for each of k policies, who have what is left.

Departures:
  - Advantages are those of this suite's critic, which has an output for each agent, on one batch of
    on-policy transitions. They are centred for each agent over the batch.
  - Groups maximise the sum over groups of the affinity within, divided by the group's size, by
    K-means on a spectral embedding, where the paper rounds a semidefinite programme.
  - The groups' policies start anew, as in `clustering`, and not from the meta-policy: the two
    solvers differ in their groups, and in when the common policy has been trained for long enough.
  - With k = 1 or k = n the groups are given, and there is no meta-policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.online.ppo.assignments import FixedRule, one_hot
from baselines.online.ppo.collection import CollectedBatch
from baselines.online.ppo.learner import PPOLearner, resume, solve_with_rule, train
from baselines.online.ppo.networks import forward
from baselines.online.ppo.settings import PPOConfig, task_settings
from baselines.online.ppo.settings import check as check_budget
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Config(PPOConfig):
    """The learner's settings and those of the affinities."""

    pretraining: float = 0.5
    """Transitions of the meta-policy, as a share of the task's transitions per policy."""
    n_subsets: int = 200
    """Random subsets of the agents to which the meta-policy is adapted."""
    subset_share: float = 0.25
    """Size of a subset, as a share of the agents; two at least."""
    n_projected: int = 64
    """Dimensions to which gradients are projected."""
    ridge: float = 1e-3
    """Weight of the squared norm of an adaptation, beside the mean over the batch."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range."""
        super().__post_init__()
        check_range(self, 1e-3, 1.0, "pretraining", "subset_share")
        check_range(self, 1, 1_000_000, "n_subsets", "n_projected")
        check_range(self, 1e-9, 1e6, "ridge")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**task_settings(task))


def check(task: Task, config: Config) -> None:
    """Refuse what this solver cannot train.

    Raises:
        ValueError: as for the learner, or the critic does not tell every agent's own advantages.
    """
    check_budget(task, config)
    if config.critic != "agents":
        raise ValueError(
            f"critic is {config.critic!r}; expected 'agents': affinities need every agent's own "
            "advantages"
        )


def policy_gradients(learner: PPOLearner, batch: CollectedBatch, seed: int) -> torch.Tensor:
    """Gradients (M, P) of the log-probability of each transition by a seed's only policy."""
    observations = batch.observations[seed].flatten(0, 1).unsqueeze(1)  # (M, 1, d)
    actions = batch.actions[seed].flatten(0, 1).unsqueeze(1)
    # As many policies as transitions, all alike: autograd tells their gradients apart.
    own = {
        name: array[seed].expand(len(observations), *array[seed].shape).clone().requires_grad_()
        for name, array in learner.actor.parameters.items()
    }
    kind = learner.collector.actions
    log_probs, _ = kind.log_probs(forward(own, observations), own.get("log_std"), actions)
    log_probs.sum().backward()
    gradients = [leaf.grad.flatten(1) for leaf in own.values() if leaf.grad is not None]
    return torch.cat(gradients, dim=1)


def adapt(features: FloatArray, advantages: FloatArray, ridge: float) -> FloatArray:
    """The change (d,) of projected parameters that advantages (M,) ask for.

    Features (M, d) are the projected gradients: which transitions should become likelier is fitted
    as a logistic regression without intercept, weighted by the advantages' size.
    """
    weights, asked = np.abs(advantages), advantages > 0
    if weights.sum() == 0 or asked.all() or not asked.any():
        return np.zeros(features.shape[1])
    weights = weights / weights.mean()
    strength = 1.0 / (ridge * len(features))
    fitted = LogisticRegression(C=strength, fit_intercept=False, solver="newton-cholesky")
    return np.asarray(fitted.fit(features, asked, sample_weight=weights).coef_[0], np.float64)


def estimate_affinities(
    features: FloatArray, advantages: FloatArray, config: Config, generator: np.random.Generator
) -> FloatArray:
    """Affinities (n, n): what agent i gains, on average, where it is adapted to together with j.

    Args:
        features: (M, d) projected gradients of the meta-policy.
        advantages: (M, n) of each agent, under the meta-policy.
        config: number and size of the subsets.
        generator: draws them.

    Returns:
        On the diagonal, and for agents who were in no subset together, the mean over agent i's
        subsets; 0 for one who was in none.
    """
    n = advantages.shape[1]
    size = min(n, max(2, round(config.subset_share * n)))
    gains, together = np.zeros((n, n)), np.zeros((n, n))
    for _ in range(config.n_subsets):
        subset = generator.choice(n, size, replace=False)
        change = adapt(features, advantages[:, subset].mean(1), config.ridge)
        gained = advantages[:, subset].T @ (features @ change) / len(features)
        gains[np.ix_(subset, subset)] += gained[:, None]
        together[np.ix_(subset, subset)] += 1.0
    own = np.diag(gains) / np.maximum(np.diag(together), 1.0)
    return np.where(together > 0, gains / np.maximum(together, 1.0), own[:, None])


def group_by_affinity(affinities: FloatArray, n_groups: int, seed: int) -> npt.NDArray[np.intp]:
    """Group (n,) of each agent, by affinities (n, n) that need not be symmetric.

    K-means minimises the distances within groups, that is, it maximises the sum over groups of the
    inner products within, divided by the group's size. Rows are such that their inner products are
    the symmetric affinities, as far as those have any: without negative eigenvalues.
    """
    values, vectors = np.linalg.eigh((affinities + affinities.T) / 2)
    rows = vectors * np.sqrt(np.maximum(values, 0.0))
    means = KMeans(n_clusters=n_groups, n_init=10, random_state=seed)
    return np.asarray(means.fit(rows).labels_, dtype=np.intp)


def groups_of(
    learner: PPOLearner, config: Config, n_groups: int, seeds: Sequence[int]
) -> npt.NDArray[np.intp]:
    """Groups (R, n) of the agents of every seed, by a batch of its meta-policy."""
    batch = learner.collect()
    by_agent, _ = learner.updates.agent_advantages(batch)
    groups = []
    for r, seed in enumerate(seeds):
        gradients = policy_gradients(learner, batch, r).cpu().numpy().astype(np.float64)
        advantages = by_agent[r].flatten(0, 1).cpu().numpy().astype(np.float64)
        draw = np.random.default_rng([seed, streams.PPO.PROJECTION])
        shape = gradients.shape[1], config.n_projected
        features = gradients @ (draw.standard_normal(shape) / np.sqrt(config.n_projected))
        scale = features.std()
        affinities = estimate_affinities(
            features / (scale if scale > 0 else 1.0),
            advantages - advantages.mean(0),
            config,
            np.random.default_rng([seed, streams.PPO.SUBSETS]),
        )
        groups.append(group_by_affinity(affinities, n_groups, seed))
    return np.stack(groups)


@one_thread()
def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train the meta-policy, group the agents and train for each group, for every seed.

    Returns:
        One solution for each seed.
    """
    n, k, batch = task.n_agents, task.n_representatives, config.batch_size
    rule = FixedRule(one_hot(np.tile(np.arange(n) % k, (len(seeds), 1)), k, device))
    if k in (1, n):
        return solve_with_rule(task, config, seeds, device, log, rule)
    n_batches = max(1, int(config.pretraining * task.transitions) // batch)
    learner = PPOLearner(task, config, seeds, device, spent=-(-n_batches * batch // k))
    if not resume(learner, rule, log):
        shorter = dataclasses.replace(task, n_representatives=1, transitions=n_batches * batch)
        meta = PPOLearner(shorter, config, seeds, device)
        for_all = FixedRule(torch.ones(len(seeds), n, 1, device=device))
        resume(meta, for_all, log, preparation=True)
        # Its last batch is not learned from: groups are estimated by it.
        train(meta, for_all, log, prepared=lambda: meta.iteration >= n_batches - 1)
        rule.assignment = one_hot(groups_of(meta, config, k, seeds), k, device)
        meta.close()
    train(learner, rule, log)
    learner.close()
    return learner.solutions(rule.served)
