"""One policy for every preference, and an exact choice of k of its conditions.

EM's split of the agents is a local optimum, and every one of its k policies learns to act from
nothing. Here the acting is learned once:

  1. One policy that reads a preference beside the state is trained over the population's range
     (`conditioned`; universal policies are Schaul et al.'s, ICML 2015).
  2. Candidate conditions are rolled out without noise, from training seeds. The dynamics are
     shared, so each episode gives every agent's return: a welfare matrix (n agents, m candidates).
  3. The best k candidates for the n agents are chosen exactly (`selection`).
  4. For linear preferences the groups of that choice give new candidates, their mean weights, until
     nothing improves: the E-step and the M-step of EM without any training.
  5. Each chosen condition is frozen into a policy of its own, and each agent is assigned to the
     policy that served it best in step 2.

The budget is that of ALL policies together: `total_transitions`, of which steps 2 and 4 take their
part, and never more than k times the task's transitions per policy. What is reported "per policy"
is all that was made divided by k. Training does not depend on k, but for that limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from baselines.online.conditioned import Learner
from baselines.online.conditioned_policies import make_solution
from baselines.online.conditioned_settings import TASK_SETTINGS, TrainingConfig
from baselines.online.selection import select
from baselines.online.trials import try_conditions
from baselines.settings import check_range
from rmdp_bench import Interrupted, RunLog, Solution, Task

__all__ = ["Config", "check", "config_for", "solve"]

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Settings of the training and of the choice of conditions."""

    total_transitions: int = 10_000_000
    """Transitions of everything, all k policies together; at most k times the task's."""
    n_candidates: int = 101
    """Conditions that are rolled out to choose from; fewer if they would take a quarter of all
    transitions."""
    n_episodes: int = 1
    """Episodes for each of them."""
    n_rounds: int = 10
    """Most rounds of local search (linear preferences)."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if a number is out of its range, or the sizes do not divide.
        """
        super().__post_init__()
        check_range(self, 1, math.inf, "total_transitions", "n_candidates", "n_episodes")
        check_range(self, 0, math.inf, "n_rounds")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**TASK_SETTINGS.get(task.env_id, {}))


def budget(task: Task, config: Config) -> tuple[int, int]:
    """Transitions for training, in whole batches, and number of candidates that the rest allows."""
    total = min(config.total_transitions, task.transitions * task.n_representatives)
    per_candidate = config.n_episodes * task.max_episode_steps
    n_candidates = min(config.n_candidates, max(total // (4 * per_candidate), 1))
    n_candidates = max(n_candidates, task.n_representatives)
    left = total - n_candidates * per_candidate
    return left // config.batch_size * config.batch_size, n_candidates


def check(task: Task, config: Config) -> None:
    """Refuses a budget that is too small.

    Raises:
        ValueError: if nothing is left for training once the conditions have been tried.
    """
    training, n_candidates = budget(task, config)
    if training < config.batch_size:
        steps = n_candidates * config.n_episodes * task.max_episode_steps
        least = -(-(steps + config.batch_size) // task.n_representatives)
        raise ValueError(
            f"{task.transitions} transitions per policy are too few to train on and to try "
            f"{n_candidates} conditions; expected at least {least}"
        )


class Run:
    """One seed: the policy in training, and the choice of its conditions."""

    def __init__(self, task: Task, config: Config, seed: int, device: str) -> None:
        """Makes the worlds and the networks."""
        self.task, self.config, self.seed = task, config, seed
        self.training, self.n_candidates = budget(task, config)
        self.learner = Learner(task, config, self.training, seed, device)
        self.conditions = self.learner.worlds.conditions
        self.tried = 0
        """Transitions of the roll-outs that conditions were chosen by."""

    def welfare(self, candidates: FloatArray) -> FloatArray:
        """Returns (n, m) of all agents under candidates (m, p), in percent; they count."""
        trial = try_conditions(
            self.task,
            self.learner.freeze(candidates),
            self.config.n_episodes,
            np.random.SeedSequence([self.seed, 5]),
        )
        self.tried += trial.transitions
        return trial.welfare

    def choose(self) -> Solution:
        """Tries the candidates, chooses k of them, and searches on from their groups."""
        k = self.task.n_representatives
        candidates = self.conditions.candidates(
            self.n_candidates, np.random.default_rng([self.seed, 6])
        )
        welfare = self.welfare(candidates)
        chosen = select(welfare, k).chosen
        best = welfare[:, chosen].max(1).mean()
        for _ in range(self.config.n_rounds):
            served_by = welfare[:, chosen].argmax(1)
            proposed = self.conditions.proposals(served_by, k)
            if len(proposed) == 0:
                break
            candidates = np.concatenate([candidates, proposed])
            welfare = np.concatenate([welfare, self.welfare(proposed)], axis=1)
            chosen = select(welfare, k).chosen
            before, best = best, welfare[:, chosen].max(1).mean()
            if best <= before + 1e-9:
                break
        return self.solution(candidates[chosen], welfare[:, chosen].argmax(1))

    def planned(self) -> Solution:
        """The solution that would be best if every condition were followed perfectly."""
        return self.solution(*self.conditions.plan(self.task.n_representatives))

    def solution(self, conditions: FloatArray, served_by: npt.NDArray[np.intp]) -> Solution:
        """Policies for conditions (k, p) and the assignment of agents (n,) to them."""
        assignment = np.eye(len(conditions))[served_by]
        return make_solution(self.learner.freeze(conditions), assignment)


def solve(
    task: Task, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Trains one policy for every seed and chooses k of its conditions.

    Returns:
        One solution for each seed.
    """
    if device == "cpu":
        torch.set_num_threads(1)
    k = task.n_representatives
    runs = [Run(task, config, seed, device) for seed in seeds]
    resume(runs, log)
    while runs[0].learner.transitions < runs[0].training:
        for run in runs:
            run.learner.update(run.learner.collect())
        per_policy = runs[0].learner.transitions // k
        log.progress(per_policy, {"reward": [run.learner.mean_reward for run in runs]})
        if log.evaluation_due(per_policy):
            log.evaluate(per_policy, [run.planned() for run in runs])
        if log.checkpoint_due():
            save(runs, log)
            if log.stop_requested:
                raise Interrupted
    solutions = [run.choose() for run in runs]
    total = max(run.learner.transitions + run.tried for run in runs)
    log.progress(-(-total // k), {"reward": [run.learner.mean_reward for run in runs]})
    for run in runs:
        run.learner.worlds.envs.close()
    return solutions


def save(runs: Sequence[Run], log: RunLog) -> None:
    """Saves a checkpoint of all seeds."""
    states = [run.learner.get_state() for run in runs]
    names = states[0][0]
    arrays = {name: np.stack([own[name] for own, _ in states]) for name in names}
    per_policy = runs[0].learner.transitions // runs[0].task.n_representatives
    log.save_checkpoint(per_policy, arrays, [state for _, state in states])


def resume(runs: Sequence[Run], log: RunLog) -> None:
    """Continues from a checkpoint, if there is one."""
    checkpoint = log.load_checkpoint()
    if checkpoint is not None:
        arrays, states = checkpoint
        for r, (run, state) in enumerate(zip(runs, states, strict=True)):
            run.learner.set_state({name: array[r] for name, array in arrays.items()}, state)
