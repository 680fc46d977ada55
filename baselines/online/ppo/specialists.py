"""Specialists: one policy for one agent, by the learner with n = 1 and k = 1.

What a specialist reaches with a stated budget is a return that can be reached for its agent.  There
are two kinds of agents: one who lives in dynamics of its own (an index of the environment's
population, or parameters), and one who wants a speed (a target).

    SpecialistEnv     copies of a world that one agent lives in, as the learner sees them
    train_specialist  trains some seeds together, resumes, and keeps what evaluations found best
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from baselines.online.ppo.assignments import FixedRule, one_hot
from baselines.online.ppo.learner import Learner
from baselines.online.ppo.policies import export_alone
from baselines.online.ppo.settings import PPOConfig
from rmdp_bench import get_environment
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.population import LinearPopulation, TargetPopulation
from rmdp_bench.solution import Policy, load_policy
from rmdp_bench.tasks import OnlineTask

N_EPISODES = 20
"""That measure a finished specialist, from EVALUATION_SEED on."""
N_CHOOSING = 5
"""Of an evaluation on the way, by which the policy that is kept is chosen ..."""
N_EVALUATIONS = 20
"""... so many of them, at equal distances."""
CHOOSING_SEED = EVALUATION_SEED + 2**22
CHECKPOINT_SECONDS = 180.0
RESULT_FILE = "specialist.json"
_CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True)
class Specialist:
    """Whom a policy is for.

    Attributes:
        env_id: of the environment.
        agent: index in a population of agents who differ in dynamics, held-out ones too.
        parameters: in the place of `agent`: of an agent in the range of the population.
        target: m/s, of an agent of a velocity environment.

    Raises:
        ValueError: not exactly one of the three is given.
    """

    env_id: str
    agent: int | None = None
    parameters: tuple[float, ...] | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        given = [value for value in (self.agent, self.parameters, self.target) if value is not None]
        if len(given) != 1:
            raise ValueError(f"{self}: expected exactly one of agent, parameters and target")


class SpecialistEnv(VectorEnv[Any, Any, Any]):
    """E copies of a world that one agent lives in, with its reward as a population of one.

    The outcome is the reward itself where the agent differs in dynamics, and the velocity where it
    wants a speed.  Episodes that end begin again in the same step.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        env_id: str,
        agent: int | None = None,
        parameters: Sequence[float] | None = None,
        target: float | None = None,
        *,
        num_envs: int = 1,
        **ignored: Any,
    ) -> None:
        """Make the copies; see `Specialist`."""
        keywords: dict[str, Any] = {"autoreset_mode": "Disabled"}
        self.population: LinearPopulation | TargetPopulation = LinearPopulation.tiles(1)
        self._options: dict[str, Any] = {}
        if target is not None:
            keywords["agent_rewards"] = False
        else:
            self._options = {"agent": 0 if agent is None else agent}
            if parameters is not None:
                keywords["parameters"] = [list(parameters)]
        self._envs = cast(Any, gym.make_vec(env_id, num_envs, **keywords))
        if target is not None:
            everybody = self._envs.population
            self.population = TargetPopulation(np.array([target]), everybody.width, everybody.peak)
        self._wants_speed = target is not None
        self.num_envs = num_envs
        self.single_observation_space = self._envs.single_observation_space
        self.single_action_space = self._envs.single_action_space
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every copy."""
        observations, _ = self._envs.reset(seed=seed, options=self._options)
        return observations, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and start the episodes that follow those which ended."""
        observations, rewards, terminated, truncated, info = self._envs.step(actions)
        outcome = info["outcome"] if self._wants_speed else rewards[:, np.newaxis].copy()
        details: dict[str, Any] = {"outcome": outcome}
        ended = terminated | truncated
        if ended.any():
            details |= {"final_obs": observations.copy(), "final_info": {"outcome": outcome}}
            observations, _ = self._envs.reset(options=self._options | {"reset_mask": ended})
        rewards = self.population.rewards(outcome)[:, 0]
        return observations, rewards, terminated, truncated, details

    def get_state(self) -> Any:
        """State of the copies."""
        return self._envs.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `get_state` gave."""
        self._envs.set_state(state)

    def close_extras(self, **keywords: Any) -> None:
        """Close the copies."""
        self._envs.close()


def _make_copies(**keywords: Any) -> SpecialistEnv:
    return SpecialistEnv(**keywords)


def _register(specialist: Specialist) -> str:
    """A Gymnasium id for the copies of a specialist, in this process."""
    env_id = f"specialist/Agent{abs(hash(specialist))}-v0"
    if env_id not in gym.registry:
        gym.register(id=env_id, vector_entry_point=_make_copies, kwargs=vars(specialist).copy())
    return env_id


def measure(
    specialist: Specialist, policy: Policy, n_episodes: int, seed: int
) -> npt.NDArray[np.float64]:
    """Undiscounted returns (n_episodes,) of a policy; percent where the agent wants a speed."""
    envs = SpecialistEnv(**vars(specialist), num_envs=n_episodes)
    observations, _ = envs.reset(seed=[seed + episode for episode in range(n_episodes)])
    policy.reset(n_episodes)
    returns, playing = np.zeros(n_episodes), np.ones(n_episodes, dtype=bool)
    while playing.any():
        observations, rewards, terminated, truncated, _ = envs.step(policy.act(observations))
        returns[playing] += rewards[playing]
        playing &= ~(terminated | truncated)
    envs.close()
    return returns


def train_specialist(
    specialist: Specialist,
    transitions: int,
    seeds: Sequence[int],
    folder: Path,
    *,
    config: PPOConfig | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a policy with each seed, and write what they reach.

    The policy of a seed that evaluations on the way found best is kept as `policy-SEED.onnx`.  What
    is finished in `folder` is not trained again; what was interrupted goes on from its checkpoint.

    Args:
        specialist: whom for.
        transitions: with each seed.
        seeds: R of them, trained together.
        folder: for the policies, `specialist.json` and, on the way, the checkpoint.
        config: of the learner; None: `config_for(specialist)`.
        say: is told of every evaluation.

    Returns:
        The content of `specialist.json`: "returns" has a mean over N_EPISODES for each seed.
    """
    path = folder / RESULT_FILE
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    config = config or config_for(specialist)
    learner = Learner(_task_for(specialist, transitions), config, seeds, "cpu")
    rule = FixedRule(one_hot(np.zeros((len(seeds), 1), np.intp), 1, "cpu"))
    best, kept, seconds = _resume(learner, folder, len(seeds))
    n_iterations = transitions // config.batch_size
    interval = max(1, n_iterations // N_EVALUATIONS)
    began = saved = time.monotonic()
    while learner.iteration < n_iterations:
        learner.update(learner.collect(), rule)
        if learner.iteration % interval == 0 or learner.iteration == n_iterations:
            solutions = learner.solutions(rule.served)
            for r, solution in enumerate(solutions):
                reached = measure(specialist, solution.policies[0], N_CHOOSING, CHOOSING_SEED)
                if reached.mean() >= best[r]:
                    best[r], kept[r] = float(reached.mean()), learner.transitions
                    (folder / f"policy-{seeds[r]}.onnx").write_bytes(export_alone(solution))
            say(f"{learner.transitions} transitions: best so far {np.round(best, 1).tolist()}")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            _save(learner, folder, best, kept, seconds + saved - began)
    learner.close()
    record = {
        "specialist": vars(specialist),
        "transitions": transitions,
        "seeds": list(seeds),
        "kept_after_transitions": kept,
        "config": vars(config),
        "n_episodes": N_EPISODES,
        "returns": [
            measure(specialist, policy, N_EPISODES, EVALUATION_SEED).mean().item()
            for policy in (load_policy(folder / f"policy-{seed}.onnx") for seed in seeds)
        ],
        "seconds": round(seconds + time.monotonic() - began, 1),
    }
    scratch = folder / f"new-{RESULT_FILE}"
    scratch.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)  # which says that all is there
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    return record


def config_for(specialist: Specialist) -> PPOConfig:
    """Settings: those of the velocity tasks, or for a reward that is a hundred times as large."""
    if specialist.target is not None:
        return PPOConfig()
    return PPOConfig(reward_scale=0.01)


def _task_for(specialist: Specialist, transitions: int) -> OnlineTask:
    entry = get_environment(specialist.env_id)
    return OnlineTask(
        id=_register(specialist),
        env_id=_register(specialist),
        n_agents=1,
        n_representatives=1,
        transitions=transitions,
        n_eval_episodes=N_EPISODES,
        gamma=0.99,
        max_episode_steps=entry.max_episode_steps,
    )


def _save(
    learner: Learner, folder: Path, best: list[float], kept: list[int], seconds: float
) -> None:
    """Write a checkpoint; the one before stays until this one is whole."""
    arrays, states = learner.get_state()
    about = json.dumps({"states": states, "best": best, "kept": kept, "seconds": seconds})
    scratch = folder / f"new-{_CHECKPOINT}"
    with scratch.open("wb") as file:
        np.savez(file, about=np.array(about), **arrays)  # type: ignore[arg-type]
    scratch.replace(folder / _CHECKPOINT)


def _resume(learner: Learner, folder: Path, n_seeds: int) -> tuple[list[float], list[int], float]:
    """Go on from a checkpoint, if there is one: best returns, where they were, and seconds."""
    path = folder / _CHECKPOINT
    if not path.is_file():
        return [-math.inf] * n_seeds, [0] * n_seeds, 0.0
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(str(arrays.pop("about")))
    learner.set_state(arrays, about["states"])
    return about["best"], about["kept"], about["seconds"]
