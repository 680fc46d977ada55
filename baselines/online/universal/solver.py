"""One policy for every preference, and an exact choice of k of its conditions.

EM's split of the agents is a local optimum, and every one of its k policies learns to act from
nothing. Here the acting is learned once:

  1. One policy that reads a preference beside the state is trained over the population's range
     (`learner`; universal policies are Schaul et al.'s, ICML 2015). For linear preferences the
     training episodes already split the agents into groups, which are trained for most (`elites`).
  2. Candidate conditions are rolled out without noise, from training seeds. The dynamics are
     shared, so each episode gives every agent's return: a welfare matrix (n agents, m candidates).
  3. The best k candidates for the n agents are chosen exactly (`facility_location`), by the task's
     objective: welfare functions that are sums over agents of their `utilities`, or the worst
     agent's return.
  4. The choice suggests new candidates, until none is new: between targets and their neighbours,
     or for linear preferences the mean weights of the groups that the choice splits the agents
     into, which is the E-step and the M-step of EM without any training.
  5. Each chosen condition is frozen into a policy of its own, and each agent is assigned to the
     policy that served it best in step 2.

The budget is that of ALL policies together: `total_transitions`, of which steps 2 and 4 take their
part, and never more than k times the task's transitions per policy. What is reported "per policy"
is all that was made divided by k. Nothing else in training depends on k: tasks that differ in k
and have the same total (`family`) are solved by one training, which hands in solutions for all.

Deep-sea treasure with 50 weightings (`DeepSeaTreasure-n100-v0`), 100,000 transitions of all
policies together, three seeds: the exact optimum of k = 1, 2 and 3 on each, and 98.9 to 99.0 % of
it for k = 5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from baselines.common import streams
from baselines.common.loop import State, report
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.online.ppo.policies import make_solution
from baselines.online.ppo.settings import check_online, check_world
from baselines.online.universal.conditions import make_conditions
from baselines.online.universal.learner import ConditionedLearner
from baselines.online.universal.settings import ConditionedConfig, task_settings
from baselines.online.universal.trials import try_conditions
from rmdp_bench import RunLog, Solution, Task, list_tasks
from rmdp_bench.facility_location import select, select_fairest
from rmdp_bench.scoring import least_of_best, utilities
from rmdp_bench.tasks import OnlineTask

__all__ = ["Config", "check", "config_for", "solve"]

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Config(ConditionedConfig):
    """Settings of the training and of the choice of conditions."""

    total_transitions: int = 10_000_000
    """Transitions of everything, all k policies together; at most k times the task's."""
    n_candidates: int = 81
    """Conditions that are rolled out to choose from; fewer if they would take a quarter of all
    transitions."""
    n_episodes: int = 1
    """Episodes for each of them."""
    n_proposals: int = 80
    """Most further conditions that the local search tries; fewer if they would take an eighth."""
    n_rounds: int = 10
    """Most rounds of local search."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range, or the sizes do not divide."""
        super().__post_init__()
        check_range(self, 1, math.inf, "total_transitions", "n_candidates", "n_episodes")
        check_range(self, 0, math.inf, "n_rounds", "n_proposals")


def config_for(task: Task) -> Config:
    """Settings for a task."""
    return Config(**(task_settings(task) if isinstance(task, OnlineTask) else {}))


def total_transitions(task: Task, config: Config) -> int:
    """Transitions of everything, all policies together."""
    return min(config.total_transitions, task.transitions * task.n_representatives)


class Budget(NamedTuple):
    """What the transitions are for."""

    training: int
    """Transitions, in whole batches."""
    n_candidates: int
    n_proposals: int


def budget(task: Task, config: Config) -> Budget:
    """Share out the transitions; the trials are counted as if no episode ended early."""
    total = total_transitions(task, config)
    per_condition = config.n_episodes * task.max_episode_steps
    n_candidates = min(config.n_candidates, max(total // (4 * per_condition), 1))
    n_candidates = max(n_candidates, task.n_representatives)
    left = total - n_candidates * per_condition
    spare = max(left - config.batch_size, 0)
    n_proposals = min(config.n_proposals, total // (8 * per_condition), spare // per_condition)
    left -= n_proposals * per_condition
    return Budget(left // config.batch_size * config.batch_size, n_candidates, n_proposals)


def family(task: OnlineTask, config: Config) -> list[OnlineTask]:
    """The task, and the others that the same training serves; ascending in k.

    They are those of the table and of the same environment that would train and try conditions
    alike; a variation of a task has none.
    """
    if not task.is_official:
        return [task]
    others = [
        dataclasses.replace(
            other, transitions=task.transitions, n_eval_episodes=task.n_eval_episodes
        )
        for other in list_tasks()
        if isinstance(other, OnlineTask) and other.env_id == task.env_id and other.id != task.id
    ]
    alike = [other for other in others if budget(other, config) == budget(task, config)]
    return sorted([task, *alike], key=lambda member: member.n_representatives)


def also_solves(task: OnlineTask, config: Config) -> list[str]:
    """Give the ids of the tasks whose solutions the same training hands in."""
    return [member.id for member in family(task, config) if member.id != task.id]


def check(task: Task, config: Config) -> None:
    """Refuse a budget that is too small.

    Raises:
        ValueError: if the task is offline, its agents give nothing to condition a policy on, or
            nothing is left for training once the conditions have been tried.
    """
    task = check_online(task)
    check_world(task)
    make_conditions(task.population, config, [task.n_representatives])
    training, n_candidates, _ = budget(task, config)
    if training < config.batch_size:
        steps = n_candidates * config.n_episodes * task.max_episode_steps
        least = -(-(steps + config.batch_size) // task.n_representatives)
        raise ValueError(
            f"{task.transitions} transitions per policy are too few to train on and to try "
            f"{n_candidates} conditions; expected at least {least}"
        )


class Run:
    """One seed: the policy in training, and the choice of its conditions."""

    def __init__(self, task: OnlineTask, config: Config, seed: int, device: str) -> None:
        """Make the worlds and the networks."""
        self.task, self.config, self.seed = task, config, seed
        self.training, self.n_candidates, _ = budget(task, config)
        self.budgets = [member.n_representatives for member in family(task, config)]
        self.learner = ConditionedLearner(task, config, self.training, seed, device, self.budgets)
        self.conditions = self.learner.worlds.conditions
        self.gap = 0.0
        """By how much another choice for the task could be better on the welfare matrix."""
        self.tried = 0
        """Transitions of the roll-outs that conditions were chosen by."""

    def welfare(self, candidates: FloatArray) -> FloatArray:
        """What all agents receive (n, m) under candidates (m, p), in percent; they count."""
        trial = try_conditions(
            self.task,
            self.learner.freeze(candidates),
            self.config.n_episodes,
            np.random.SeedSequence([self.seed, streams.Universal.TRIALS]),
        )
        self.tried += trial.transitions
        return trial.welfare

    def choose(self) -> dict[int, Solution]:
        """Try candidates, choose k of them for every budget k, and search on from there.

        Conditions that the chosen ones suggest are tried as well, until there are none that are
        new or the transitions are used up.
        """
        generator = np.random.default_rng([self.seed, streams.Universal.CANDIDATES])
        candidates = self.conditions.candidates(self.n_candidates, generator)
        welfare = self.welfare(candidates)
        chosen = {k: self.select(welfare, k) for k in self.budgets}
        for number in range(self.config.n_rounds):
            proposed = [candidates[:0]]
            for own in chosen.values():
                served_by = welfare[:, own].argmax(1)
                proposed.append(self.conditions.proposals(candidates[own], served_by, number))
            new = np.unique(np.concatenate(proposed), axis=0)
            new = new[~(new[:, None] == candidates).all(2).any(1)][: self.n_affordable()]
            if len(new) == 0:
                break
            candidates = np.concatenate([candidates, new])
            order = np.lexsort(candidates.T[:1]) if self.conditions.on_a_line else slice(None)
            welfare = np.concatenate([welfare, self.welfare(new)], axis=1)[:, order]
            candidates = candidates[order]
            chosen = {k: self.select(welfare, k) for k in self.budgets}
        return {
            k: self.solution(candidates[own], welfare[:, own].argmax(1))
            for k, own in chosen.items()
        }

    def select(self, welfare: FloatArray, k: int) -> npt.NDArray[np.intp]:
        """The best k candidates by the objective; what an agent has in any case does not matter."""
        if self.task.objective == "egalitarian":
            selection = select_fairest(welfare, k)
        else:
            gains = utilities(welfare, self.task.objective, self._least(welfare, k))
            gains = gains - gains.min(1, keepdims=True)
            selection = select(gains, k, on_a_line=self.conditions.on_a_line)
        if k == self.task.n_representatives:
            self.gap = selection.bound - selection.welfare
        return selection.chosen

    def _least(self, welfare: FloatArray, k: int) -> float:
        """What no agent has less than where the objective is greatest, if that is known."""
        if not self.task.objective.startswith("p_mean"):
            return -math.inf
        fairest = select_fairest(welfare, k).welfare
        return least_of_best(fairest, len(welfare), self.task.objective)

    def n_affordable(self) -> int:
        """Conditions that can be tried with the transitions that are left."""
        used = self.learner.transitions + self.tried
        left = total_transitions(self.task, self.config) - used
        return max(left // (self.config.n_episodes * self.task.max_episode_steps), 0)

    def planned(self) -> Solution:
        """The solution that seems best without trials: the one that the curve is drawn for."""
        return self.solution(*self.conditions.plan(self.task.n_representatives))

    def solution(self, conditions: FloatArray, served_by: npt.NDArray[np.intp]) -> Solution:
        """Policies for conditions (k, p) and the assignment of agents (n,) to them."""
        assignment = np.eye(len(conditions))[served_by]
        return make_solution(self.learner.freeze(conditions), assignment)


@one_thread()
def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train one policy for every seed and choose k of its conditions.

    Returns:
        One solution for each seed.
    """
    k = task.n_representatives
    runs = [Run(task, config, seed, device) for seed in seeds]
    planned = -(-total_transitions(task, config) // k)
    resume(runs, log)

    def get_state() -> State:
        return join_states([run.learner.get_state() for run in runs])

    def solutions() -> list[Solution]:
        return [run.planned() for run in runs]

    while runs[0].learner.transitions < runs[0].training:
        for run in runs:
            run.learner.update(run.learner.collect())
        per_policy = runs[0].learner.transitions // k
        rewards = [run.learner.mean_reward for run in runs]
        report(log, per_policy, {"reward": rewards}, get_state, solutions, total=planned)
    chosen = [run.choose() for run in runs]
    total = max(run.learner.transitions + run.tried for run in runs)
    used = -(-total // k)
    log.progress(used, {"selection_gap": [run.gap for run in runs]}, total=used)
    for run in runs:
        run.learner.worlds.envs.close()
    for member in family(task, config):
        if member.id != task.id:
            own = member.n_representatives
            log.add_solutions(member.id, [by_k[own] for by_k in chosen], -(-total // own))
    return [by_k[k] for by_k in chosen]


def join_states(
    states: Sequence[tuple[Mapping[str, npt.NDArray[Any]], dict[str, Any]]],
) -> State:
    """A checkpoint of all seeds."""
    names = {name: array for own, _ in states for name, array in own.items()}
    arrays = {
        name: stack([own[name] if name in own else array[:0] for own, _ in states])
        for name, array in names.items()
    }
    return arrays, [state for _, state in states]


def stack(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays with the seeds as a new first axis, zeros after the end of those that are shorter."""
    if arrays[0].ndim == 0:
        return np.stack(arrays)
    stacked = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def resume(runs: Sequence[Run], log: RunLog) -> None:
    """Continue from a checkpoint, if there is one."""
    checkpoint = log.load_checkpoint()
    if checkpoint is not None:
        arrays, states = checkpoint
        for r, (run, state) in enumerate(zip(runs, states, strict=True)):
            run.learner.set_state({name: array[r] for name, array in arrays.items()}, state)
