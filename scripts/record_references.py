"""Write `rmdp_bench/data/offline_references.json`, from which offline scores are normalised.

    python -m scripts.record_references                          all environments
    python -m scripts.record_references rmdp/CartPoleHet-n500-v0

For every agent that an offline task scores: the mean return of uniform actions, and that of the
solver `true_env_mpc` with its own settings for the environment, seed 0, in the task's scoring
episodes.  `--episodes` plays fewer of them and `--set n_sequences=40` makes the planner smaller,
where it is slow; the file says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.files import read_json, write_json
from rmdp_bench.offline import REFERENCES_FILE, OfflineSolution, heldout_episodes, play_agents
from rmdp_bench.results import RunLog, load_solver, make_config
from rmdp_bench.results.solvers import config_to_dict
from rmdp_bench.solution import Solution
from rmdp_bench.system import cpu_model, versions
from rmdp_bench.tasks import Task, list_tasks

N_RANDOM_EPISODES = 1000


class UniformPolicy:
    """Uniform actions."""

    def __init__(self, space: gym.Space[Any]) -> None:
        """Draw from a generator of its own."""
        self.space, self.generator = space, np.random.default_rng(0)

    def reset(self, n_envs: int) -> None:
        """Do nothing: the generator goes on."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Draw an action for each row."""
        if isinstance(self.space, gym.spaces.Discrete):
            return self.generator.integers(self.space.n, size=len(observations))
        assert isinstance(self.space, gym.spaces.Box)
        shape = (len(observations), *self.space.shape)
        return self.generator.uniform(self.space.low, self.space.high, shape).astype(np.float32)


def main() -> None:
    """Record the environments that are named."""
    tasks = {task.env_id: task for task in reversed(list_tasks()) if task.track == "offline"}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("environments", nargs="*", metavar="ENV")
    parser.add_argument("--episodes", type=int, help="that the planner plays for each agent")
    parser.add_argument("--set", action="append", default=[], help="setting of the planner")
    arguments = parser.parse_args()
    unknown = set(arguments.environments) - set(tasks)
    if unknown:
        parser.error(f"no offline task is in {unknown.pop()}, expected one of {', '.join(tasks)}")
    for env_id in arguments.environments or list(tasks):
        row = measure(tasks[env_id], arguments.episodes, arguments.set)
        document = read_json(REFERENCES_FILE) | {env_id: row}
        write_json(REFERENCES_FILE, {name: document[name] for name in sorted(document)})
        print(env_id, row["agents"], flush=True)


def measure(task: Task, n_episodes: int | None, settings: Sequence[str]) -> dict[str, Any]:
    """The row of an environment."""
    n_episodes = n_episodes or task.n_eval_episodes
    scored, heldout = task.eval_agents or (), task.heldout_agents
    agents = (*scored, *heldout)
    space = gym.make(task.env_id).action_space
    everybody = Solution([UniformPolicy(space)], np.ones((len(agents), 1)))
    random, _ = play_agents(task, everybody, agents, N_RANDOM_EPISODES, EVALUATION_SEED)
    planner = load_solver("true_env_mpc")
    config = make_config(planner, task, settings)
    (solution,) = planner.module.solve(task, config, [0], "cpu", RunLog(task, [0]))
    assert isinstance(solution, OfflineSolution) and solution.adapt is not None
    planned = []
    for served, group in (
        (solution, scored),
        (solution.adapt(heldout_episodes(task)), heldout),
    ):
        returns, _ = play_agents(task, served, group, n_episodes, EVALUATION_SEED)
        planned.append(returns.mean(axis=1))
    means = zip(random.mean(axis=1).tolist(), np.concatenate(planned).tolist(), strict=True)
    command = f"python -m scripts.record_references {task.env_id}"
    if n_episodes != task.n_eval_episodes:
        command += f" --episodes {n_episodes}"
    command += "".join(f" --set {setting}" for setting in settings)
    return {
        "command": command,
        "cpu": cpu_model(),
        "versions": versions(),
        "random_episodes": N_RANDOM_EPISODES,
        "planning_episodes": n_episodes,
        "planner": config_to_dict(config),
        "agents": {
            str(agent): {"random": low, "planning": high}
            for agent, (low, high) in zip(agents, means, strict=True)
        },
    }


if __name__ == "__main__":
    main()
