"""Write `rmdp_bench/data/offline_references.json`, from which offline scores are normalised.

    python -m scripts.record_references                          all environments
    python -m scripts.record_references rmdp/CartPoleHet-n500-v0
    python -m scripts.record_references rmdp/HalfCheetahHet-n500-v1 --specialists runs/specialists

For every agent that an offline task scores, held-out ones too: the mean return of uniform actions,
which is 0, and the reference, which is 100; `REFERENCES` says what that is in each environment.  A
number is written when it is measured, and one that is there already is skipped, unless `--again`.
An agent whose specialist (`scripts/train_specialists.py`) is not finished is left out, and said so:
the same command later adds it. Until all are there the tasks of the environment are not ranked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.online.ppo.specialists import RESULT_FILE, Specialist
from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.evaluation.offline import play_agents
from rmdp_bench.files import read_json, write_json
from rmdp_bench.references import REFERENCES_FILE
from rmdp_bench.solution import Solution, load_policy
from rmdp_bench.system import cpu_model, versions
from rmdp_bench.tasks import OfflineTask, list_tasks
from scripts import mountain_car_optimum
from scripts.train_specialists import SEEDS, TRANSITIONS

N_EPISODES = 1000
"""Of uniform actions, and of the policies that show that a bound is reached."""
N_LONG_EPISODES = 100
"""The same, where an episode takes a second."""
FRESH_SEED = EVALUATION_SEED + 2**23
"""Of episodes by which no policy was chosen."""


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


class BalancingPolicy:
    """CartPole's cart follows the pole: it is pushed to the side of a weighted sum of the state."""

    def __init__(self, weights: tuple[float, float, float, float]) -> None:
        """Take the weights of position, velocity, angle and angular velocity."""
        self.weights = np.array(weights)

    def reset(self, n_envs: int) -> None:
        """Do nothing: there is no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Push to the right where the sum is positive."""
        actions: NDArray[Any] = (observations @ self.weights > 0.0).astype(np.int64)
        return actions


BALANCING_WEIGHTS = ((0.02, 0.2, 0.8, 0.55), (0.1, 0.12, 0.95, 0.24))
"""The first balances all agents but one, whose pole is short and whose push is strong."""


def play_one(
    task: OfflineTask,
    policy: Any,
    agent: int,
    n_episodes: int = N_EPISODES,
    seed: int = EVALUATION_SEED,
) -> NDArray[np.float64]:
    """Returns (n_episodes,) of an agent."""
    alone = Solution([policy], np.ones((1, 1)))
    returns, _ = play_agents(task, alone, [agent], n_episodes, seed)
    own: NDArray[np.float64] = returns[0]
    return own


def balance_pole(task: OfflineTask, agent: int) -> float:
    """The number of steps of an episode, after a policy has reached it in every episode.

    Raises:
        RuntimeError: no policy did.
    """
    reached = max(play_one(task, BalancingPolicy(own), agent).min() for own in BALANCING_WEIGHTS)
    if reached < task.max_episode_steps:
        raise RuntimeError(f"no policy balances the pole of agent {agent} of {task.env_id}")
    return float(task.max_episode_steps)


def measure_specialist(task: OfflineTask, agent: int, specialists: Path) -> float | None:
    """Mean return of an agent's best specialist, on fresh episodes; None: it is not finished.

    Raises:
        ValueError: the result is of another agent or budget.
    """
    folder = specialists / "agents" / task.env_id / f"agent-{agent}"
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    record = read_json(path)
    found = {name: record[name] for name in ("specialist", "transitions", "seeds")}
    expected = {
        "specialist": vars(Specialist(task.env_id, agent=agent)),
        "transitions": TRANSITIONS["agents"],
        "seeds": parse_seeds(SEEDS["agents"]),
    }
    if found != expected:
        raise ValueError(f"{path} is of {found}, expected {expected}")
    seed = record["seeds"][int(np.argmax(record["returns"]))]
    policy = load_policy(folder / f"policy-{seed}.onnx")
    returns = play_one(task, policy, agent, N_LONG_EPISODES, FRESH_SEED)
    return float(returns.mean())


@dataclass(frozen=True)
class Reference:
    """What 100 is in an environment.

    Attributes:
        is_: in words.
        source: how it is known.
        settings: sizes of what measures it.
        measure: task, agent, folder of specialists -> the reference; None: not known yet.
        bound: task, agent -> a return that no policy exceeds; None: nobody knows one.
        random_episodes: of uniform actions.
    """

    is_: str
    source: str
    settings: Mapping[str, Any]
    measure: Callable[[OfflineTask, int, Path], float | None]
    bound: Callable[[OfflineTask, int], float] | None
    random_episodes: int = N_EPISODES


REFERENCES = {
    "rmdp/CartPoleHet-n500-v0": Reference(
        "the optimum: 1 for each of the steps of an episode",
        "A step is worth 1 and there are no more of them. A push to the side of a weighted sum of "
        "the state gets all of it for each of these agents, in every episode that was played.",
        {"policy_episodes": N_EPISODES, "weights": BALANCING_WEIGHTS},
        lambda task, agent, specialists: balance_pole(task, agent),
        lambda task, agent: float(task.max_episode_steps),
    ),
    "rmdp/MountainCarHet-n500-v0": Reference(
        "the optimum of each agent, mean over where the car starts",
        "Greedy policies of value iteration, played in the world from evenly spaced starts; the "
        "optimum is at least that, and at most the bound, which optimistic value iteration over "
        "cells gives (scripts/mountain_car_optimum.py).",
        {
            "policy_grids": mountain_car_optimum.POLICY_GRIDS,
            "bound_grid": mountain_car_optimum.BOUND_GRID,
            "n_starts": mountain_car_optimum.N_STARTS,
        },
        lambda task, agent, specialists: mountain_car_optimum.attain(agent),
        lambda task, agent: mountain_car_optimum.bound(agent),
    ),
    "rmdp/HalfCheetahHet-n500-v1": Reference(
        "the best policy that the suite's PPO found for the agent alone; not the optimum",
        "A specialist is trained for each agent with each seed; the best of them by 20 episodes is "
        "measured in others (scripts/train_specialists.py). A better policy has more than 100.",
        {
            "transitions": TRANSITIONS["agents"],
            "seeds": SEEDS["agents"],
            "policy_episodes": N_LONG_EPISODES,
        },
        measure_specialist,
        bound=None,
        random_episodes=N_LONG_EPISODES,
    ),
}


def main() -> None:
    """Record the environments that are named."""
    tasks = {
        task.env_id: task
        for task in reversed(list_tasks())
        if isinstance(task, OfflineTask) and task.env_id in REFERENCES
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("environments", nargs="*", metavar="ENV")
    parser.add_argument("--specialists", type=Path, default=Path("runs/specialists"))
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    arguments = parser.parse_args()
    unknown = set(arguments.environments) - set(tasks)
    if unknown:
        parser.error(f"no offline task is in {unknown.pop()}, expected one of {', '.join(tasks)}")
    for env_id in arguments.environments or list(tasks):
        try:
            record(tasks[env_id], arguments.again, arguments.specialists)
        except ValueError as error:
            parser.error(str(error))


def record(task: OfflineTask, again: bool, specialists: Path) -> None:
    """Measure the agents of an environment that are not in the file."""
    known = REFERENCES[task.env_id]
    row: dict[str, Any] = {
        "command": f"python -m scripts.record_references {task.env_id}",
        "cpu": cpu_model(),
        "versions": versions(),
        "random_episodes": known.random_episodes,
        "reference_is": known.is_,
        "source": known.source,
        "settings": dict(known.settings),
        "agents": {},
    }
    stored = read_json(REFERENCES_FILE).get(task.env_id, {})
    if not again and stored.get("source") == known.source:
        row["agents"] = stored["agents"]
    space = gym.make(task.env_id).action_space
    measures: dict[str, Callable[[int], float | None]] = {
        "random": lambda agent: float(
            play_one(task, UniformPolicy(space), agent, known.random_episodes).mean()
        ),
        "reference": lambda agent: known.measure(task, agent, specialists),
    }
    if known.bound is not None:
        bound = known.bound
        measures["bound"] = lambda agent: bound(task, agent)
    for name, measure in measures.items():
        for agent in (*task.eval_agents, *task.heldout_agents):
            values = row["agents"].setdefault(str(agent), {})
            if name in values:
                continue
            value = measure(agent)
            if value is None:
                print(f"{task.env_id} {agent} {name}: not known yet", flush=True)
                continue
            values[name] = value
            document = read_json(REFERENCES_FILE) | {task.env_id: row}
            write_json(REFERENCES_FILE, {name: document[name] for name in sorted(document)})
            print(task.env_id, agent, name, value, flush=True)


if __name__ == "__main__":
    main()
