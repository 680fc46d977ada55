"""Planning with the true dynamics: what a perfect model would reach with this planner.

An oracle: it reads the hidden parameters of every agent, and learns nothing from the data. The
planners are those of the model-based solvers, with the same sizes; see `planner`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baselines.offline.planning.dynamics import Dynamics, objective_for, predict
from baselines.offline.planning.planner import (
    PlannerConfig,
    PlannerPolicy,
    check_planner,
    make_policy,
    planner_settings,
)
from baselines.offline.planning.true_dynamics import make_true_dynamics
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask, Task

Config = PlannerConfig


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**planner_settings(task))


def check(task: Task, config: Config) -> None:
    """Refuse tasks that are not planned in, and sizes that do not fit, by a ValueError."""
    objective_for(task.env_id)
    check_planner(task.env_id, config)


def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[OfflineSolution]:
    """Give every scored agent a planner; seeds differ in the planners' random numbers."""
    population = task.hidden_population

    def dynamics_of(agent: int) -> Dynamics:
        return make_true_dynamics(task.env_id, population.parameters[agent], device)

    def policies(agents: Sequence[int], seed: int) -> list[PlannerPolicy]:
        return [
            make_policy(task.env_id, dynamics_of(agent), config, seed=seed, agent=agent)
            for agent in agents
        ]

    def solution(seed: int) -> OfflineSolution:
        def adapt(episodes: Sequence[Episode]) -> Solution:
            agents = [int(episode.metadata["agent"]) for episode in episodes]
            return Solution(policies(agents, seed), np.eye(len(agents)))

        agents = task.eval_agents
        models = [dynamics_of(agent) for agent in agents]
        return OfflineSolution(
            policies=policies(agents, seed),
            assignment=np.eye(len(agents)),
            adapt=adapt,
            predict=lambda a, observations, actions: predict(models[a], observations, actions),
        )

    return [solution(seed) for seed in seeds]
