"""Train the behaviour policies of the heterogeneous environments, and measure what they reach.

    python -m scripts.train_behaviour_policies                                  all of them
    python -m scripts.train_behaviour_policies --env rmdp/CartPoleHet-n500-v0 --policy 2

Needs `pip install "rmdp_bench[baselines,behaviour]"`. A policy is trained for the agent of its row
in `BEHAVIOUR_PARAMETERS`, with the algorithm and settings of `RECIPES`. Evaluations on the way
choose the policy that is kept; what is reported is measured afterwards, on episodes that training
never saw. Finished policies are skipped: delete a policy's two files to train it again. Torch runs
in one thread, and the same seed gives the same policy on one machine.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor, nn

from baselines.online.ppo.settings import PPOConfig
from rmdp_bench import DynamicsPopulation, get_population
from rmdp_bench.datasets.behaviour import BEHAVIOUR_PARAMETERS
from rmdp_bench.envs.rules import GOAL_POSITION
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.files import read_json, write_bytes, write_json, write_text
from rmdp_bench.solution import Policy, load_policy
from rmdp_bench.solution.onnx_export import export_module
from rmdp_bench.solution.onnx_rules import check_graph
from rmdp_bench.system import system_record, versions
from scripts.specialists import Specialist, train_specialist

DATA = Path(__file__).parents[1] / "rmdp_bench" / "data" / "behaviour"
CHECKPOINTS = Path("runs/specialists/behaviour")
"""Where the suite's own PPO keeps what it needs to go on."""
N_EPISODES = 20
"""Measured for every agent."""


class EnergyReward(gym.Wrapper[Any, Any, Any, Any]):
    """MountainCar rewarded for energy too, without which a steep hill is hardly ever climbed.

    The potential is the share of the energy, kinetic and potential, that takes the car to the flag.
    Adding `gamma * potential(next) - potential` does not change which policy is best (Ng et al.
    1999), because the potential is zero where episodes end.
    """

    gamma = 0.98
    scale = 50.0

    def reset(self, **keywords: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(**keywords)
        self._potential = self._potential_of(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and add what the potential has gained."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        before, self._potential = self._potential, self._potential_of(observation)
        shaped = float(reward) + self.gamma * self._potential - before
        return observation, shaped, terminated, truncated, info

    def _potential_of(self, observation: NDArray[np.float32]) -> float:
        position, velocity = observation.tolist()
        ((gravity,),) = self.get_wrapper_attr("population").parameters.tolist()
        energy: float = (math.sin(3 * position) + 1) / 3 + velocity**2 / (2 * gravity)
        needed = (math.sin(3 * GOAL_POSITION) + 1) / 3
        return self.scale * min(energy / needed - 1.0, 0.0)


@dataclass(frozen=True)
class Recipe:
    """How the policies of an environment are trained.

    Attributes:
        algorithm: of stable-baselines3.
        transitions: to train on, of all copies together.
        n_envs: copies that are trained on.
        n_evaluations: on the way, at equal distances; the best policy is kept, the last of equals.
        n_episodes: of an evaluation.
        exploration_noise: standard deviation of the noise on actions in [-1, 1], while training.
        wrapper: of the environments that are trained on; evaluations go without.
        settings: of the algorithm; what is not named is stable-baselines3's default.
    """

    algorithm: type[OffPolicyAlgorithm]
    transitions: int
    n_envs: int
    n_evaluations: int
    n_episodes: int
    settings: Mapping[str, Any]
    exploration_noise: float = 0.0
    wrapper: type[gym.Wrapper[Any, Any, Any, Any]] | None = None


# DQN has network, learning rate and batch of PerSim's code; the rest is near what rl-baselines3-zoo
# takes for CartPole-v1 and MountainCar-v0, with fewer transitions. TD3 has learning rate, batch and
# noise of its paper (Fujimoto et al. 2018), and half an update for a transition, so that a small
# machine is enough.
_NETWORK = {"net_arch": [256, 256]}
RECIPES: Mapping[str, Recipe] = {
    "rmdp/CartPoleHet-n500-v0": Recipe(
        DQN,
        transitions=32_000,
        n_envs=8,
        n_evaluations=16,
        n_episodes=20,
        settings={
            "learning_rate": 1e-3,
            "batch_size": 128,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 32,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": _NETWORK,
        },
    ),
    "rmdp/MountainCarHet-n500-v0": Recipe(
        DQN,
        transitions=24_000,
        n_envs=8,
        n_evaluations=12,
        n_episodes=20,
        wrapper=EnergyReward,
        settings={
            "learning_rate": 1e-3,
            "batch_size": 128,
            "buffer_size": 10_000,
            "learning_starts": 1_000,
            "gamma": EnergyReward.gamma,
            "target_update_interval": 600,
            "train_freq": 2,
            "gradient_steps": 8,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.07,
            "policy_kwargs": _NETWORK,
        },
    ),
    "rmdp/HalfCheetahHet-n500-v0": Recipe(
        TD3,
        transitions=120_000,
        n_envs=8,
        n_evaluations=15,
        n_episodes=5,
        exploration_noise=0.1,
        settings={
            "learning_rate": 1e-3,
            "batch_size": 100,
            "buffer_size": 120_000,
            "learning_starts": 10_000,
            "gamma": 0.99,
            "train_freq": 1,
            "gradient_steps": 4,
            "policy_kwargs": _NETWORK,
        },
    ),
}


@dataclass(frozen=True)
class SpecialistRecipe:
    """How policies are trained by the suite's own PPO (`scripts/specialists.py`).

    Attributes:
        transitions: to train on, of all copies together.
        config: of the learner.
    """

    transitions: int
    config: PPOConfig


SPECIALISTS: Mapping[str, SpecialistRecipe] = {
    "rmdp/HalfCheetahHet-n500-v1": SpecialistRecipe(1_000_000, PPOConfig(reward_scale=0.01)),
}
"""Environments whose policies PPO trains: more transitions in the same time than with TD3."""


class _KeepPolicy(BaseCallback):
    """Keep a copy of the policy after an evaluation that was not worse than all before."""

    parent: EvalCallback

    def __init__(self) -> None:
        super().__init__()
        self.mean_return = -np.inf
        self.parameters: dict[str, Tensor] = {}
        self.transitions = 0

    def _on_step(self) -> bool:
        if self.parent.last_mean_reward >= self.mean_return:
            self.mean_return = self.parent.last_mean_reward
            self.parameters = copy.deepcopy(self.model.policy.state_dict())
            self.transitions = self.num_timesteps
        return True


class _GreedyActor(nn.Module):
    """The deterministic policy, for the exporter: DQN's greedy action, or TD3's own."""

    def __init__(self, model: OffPolicyAlgorithm) -> None:
        super().__init__()
        self.discrete = isinstance(model, DQN)
        network: Any = model.policy.q_net if isinstance(model, DQN) else model.policy.actor
        self.network: nn.Module = network.q_net if isinstance(model, DQN) else network.mu

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (E,) or (E, a) at observations (E, d)."""
        output: Tensor = self.network(observation)
        return output.argmax(-1) if self.discrete else output.clamp(-1.0, 1.0)


def train(env_id: str, parameters: Sequence[float], recipe: Recipe, seed: int) -> tuple[bytes, int]:
    """Train a policy for the agent with these parameters.

    Returns:
        Its ONNX graph, and the number of transitions after which it was the best.
    """
    keywords = {"parameters": [list(parameters)]}
    envs = make_vec_env(
        env_id, recipe.n_envs, seed=seed, env_kwargs=keywords, wrapper_class=recipe.wrapper
    )
    # Seeds of its own, below those of the measurement.
    others = make_vec_env(env_id, recipe.n_episodes, seed=seed + 2**30, env_kwargs=keywords)
    settings = dict(recipe.settings)
    if recipe.exploration_noise > 0.0:
        zeros = np.zeros(envs.action_space.shape or ())
        settings["action_noise"] = NormalActionNoise(zeros, zeros + recipe.exploration_noise)
    model = recipe.algorithm("MlpPolicy", envs, seed=seed, device="cpu", **settings)
    best = _KeepPolicy()
    interval = recipe.transitions // (recipe.n_evaluations * recipe.n_envs)
    evaluation = EvalCallback(
        others,
        n_eval_episodes=recipe.n_episodes,
        eval_freq=interval,
        callback_after_eval=best,
    )
    model.learn(recipe.transitions, callback=evaluation)
    model.policy.load_state_dict(best.parameters)
    model.policy.set_training_mode(False)
    inputs = {"observation": torch.zeros(2, *envs.observation_space.shape or ())}
    return export_module(_GreedyActor(model), inputs), best.transitions


def train_by_ppo(
    env_id: str, index: int, recipe: SpecialistRecipe, seed: int, folder: Path
) -> tuple[bytes, int]:
    """As `train`, by the suite's own PPO; goes on from the checkpoint in `folder`."""
    specialist = Specialist(env_id, parameters=tuple(BEHAVIOUR_PARAMETERS[env_id][index]))
    record = train_specialist(specialist, recipe.transitions, [seed], folder, config=recipe.config)
    graph = (folder / f"policy-{seed}.onnx").read_bytes()
    return graph, int(record["kept_after_transitions"][0])


def measure(
    env_id: str, policy: Policy, parameters: Sequence[float], n_episodes: int = N_EPISODES
) -> NDArray[np.float64]:
    """Undiscounted returns of the agent with these parameters, and of the test agents after it.

    Episode e has the seed EVALUATION_SEED + e for every agent.

    Returns:
        (1 + n_test, n_episodes).
    """
    rows = np.concatenate(([parameters], _test_agents(env_id)))
    shape = len(rows), n_episodes
    envs = gym.make_vec(env_id, shape[0] * shape[1], parameters=rows.tolist())
    seeds = np.tile(np.arange(n_episodes) + EVALUATION_SEED, len(rows)).tolist()
    agents = np.repeat(np.arange(len(rows)), n_episodes)
    observations, _ = envs.reset(seed=seeds, options={"agent": agents})
    policy.reset(len(agents))
    returns, playing = np.zeros(len(agents)), np.ones(len(agents), dtype=bool)
    while playing.any():
        observations, rewards, terminated, truncated, _ = envs.step(policy.act(observations))
        returns[playing] += np.asarray(rewards)[playing]
        playing &= ~(np.asarray(terminated) | np.asarray(truncated))
    envs.close()
    return returns.reshape(shape)


def dynamics_population(env_id: str) -> DynamicsPopulation:
    """Population of a heterogeneous environment."""
    population = get_population(env_id)
    assert isinstance(population, DynamicsPopulation)
    return population


def _test_agents(env_id: str) -> NDArray[np.float64]:
    """Parameters (n_test, p)."""
    population = dynamics_population(env_id)
    return population.parameters[list(population.test_agents)]


def train_recipe(
    env_id: str, index: int, recipe: Recipe | SpecialistRecipe, seed: int
) -> tuple[bytes, int, dict[str, Any]]:
    """Train policy `index`; its graph, after how many transitions it was kept, and settings."""
    facts: dict[str, Any] = {"transitions": recipe.transitions}
    if isinstance(recipe, Recipe):
        graph, kept = train(env_id, BEHAVIOUR_PARAMETERS[env_id][index], recipe, seed)
        own = {
            "algorithm": recipe.algorithm.__name__,
            "settings": dict(recipe.settings),
            "exploration_noise": recipe.exploration_noise,
            "n_envs": recipe.n_envs,
        }
    else:
        training = CHECKPOINTS / env_id / f"policy-{index}-seed-{seed}"
        graph, kept = train_by_ppo(env_id, index, recipe, seed, training)
        own = {
            "algorithm": "PPO",
            "settings": vars(recipe.config),
            "exploration_noise": 0.0,
            "n_envs": recipe.config.n_envs,
        }
    return graph, kept, facts | own


def make_policy(
    env_id: str, index: int, recipe: Recipe | SpecialistRecipe, seed: int, out: Path
) -> None:
    """Train policy `index`, write `policy-<index>.onnx`, measure it, and write its record last."""
    folder = out / env_id
    graph_path, record_path = (folder / f"policy-{index}.{end}" for end in ("onnx", "json"))
    if record_path.is_file() and graph_path.is_file():
        print(f"{graph_path} is there already", flush=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    parameters = BEHAVIOUR_PARAMETERS[env_id][index]
    start = time.process_time()
    graph, kept, facts = train_recipe(env_id, index, recipe, seed)
    cpu_seconds = time.process_time() - start
    check_graph(graph, graph_path.name, shared=False)
    write_bytes(graph_path, graph)
    returns = measure(env_id, load_policy(graph_path), parameters)
    agents = [list(parameters), *_test_agents(env_id).tolist()]
    record = {
        "env_id": env_id,
        "policy": index,
        "parameters": list(parameters),
        **facts,
        "seed": seed,
        "kept_after_transitions": kept,
        "n_episodes": N_EPISODES,
        "evaluation_seed": EVALUATION_SEED,
        "returns": [
            {
                "test_agent": None if row == 0 else row - 1,
                "parameters": agent,
                "mean": float(returns[row].mean()),
                "sd": float(returns[row].std(ddof=1)),
            }
            for row, agent in enumerate(agents)
        ],
        "cpu_seconds": round(cpu_seconds, 1),
        "command": f"python -m scripts.train_behaviour_policies --env {env_id} --policy {index} "
        f"--seed {seed}",
        "system": system_record("cpu"),
        "versions": versions()
        | {name: importlib.metadata.version(name) for name in ("stable_baselines3", "onnxscript")},
    }
    write_json(record_path, record)
    print(f"{graph_path}: {returns.mean(axis=1).round(1).tolist()}", flush=True)


README = """# Behaviour policies

The policies that collect the data of the heterogeneous environments. Each was trained for one
agent, with parameters of [PerSim](https://arxiv.org/abs/2102.06961), and acts for all others as it
would for its own: DQN and TD3 are those of
[stable-baselines3](https://github.com/DLR-RM/stable-baselines3), PPO is the suite's own.
`rmdp_bench.datasets.behaviour.load_behaviour_policies(env_id)` loads them; they are deterministic.

They are decent, not perfect: of each training the policy that evaluations found best was kept, and
MountainCar was trained with a reward for energy on top. The tables are written from the records
beside the policies by `scripts/train_behaviour_policies.py`. They give the undiscounted return,
mean ± standard deviation over {n_episodes} episodes, of the agent that a policy was trained for and
of the test agents. CartPole: the steps of an episode, at most 200. MountainCar: minus the steps
before the flag, at least -500. HalfCheetah: over 1000 steps, velocity (m/s) minus costs of torques.
"""


def make_readme(out: Path) -> str:
    """Tables of what the policies in `out` reach, and how they were made."""
    parts, machines = [README.format(n_episodes=N_EPISODES)], set()
    for env_id, rows in BEHAVIOUR_PARAMETERS.items():
        paths = [out / env_id / f"policy-{index}.json" for index in range(len(rows))]
        records = [read_json(path) for path in paths if path.is_file()]
        if not records:
            continue
        agents = [f"agent {row}: {_row(agent)}" for row, agent in enumerate(_test_agents(env_id))]
        columns = ["policy", "trained for", "return for it", *agents, "seed", "kept after", "CPU s"]
        names = ", ".join(dynamics_population(env_id).names)
        parts += [f"## `{env_id}`\n", f"{records[0]['algorithm']}. Parameters: {names}.\n"]
        parts += [_line(columns), _line(["---"] * len(columns))]
        for record in records:
            returns = [f"{agent['mean']:.1f} ± {agent['sd']:.1f}" for agent in record["returns"]]
            kept = f"{record['kept_after_transitions']:,} of {record['transitions']:,} transitions"
            cells = [record["policy"], _row(record["parameters"]), *returns]
            parts.append(_line([*cells, record["seed"], kept, record["cpu_seconds"]]))
            used = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
            machines.add(f"{record['system']['cpu']}, one thread, {record['system']['os']}; {used}")
        parts += ["\n```sh", *(record["command"] for record in records), "```\n"]
    return "\n".join([*parts, "## Machine and versions\n", *sorted(machines), ""])


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _row(parameters: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in parameters)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--env", choices=(*RECIPES, *SPECIALISTS), metavar="ID", help="default: all"
    )
    parser.add_argument("--policy", type=int, metavar="INDEX", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < EVALUATION_SEED // 2:
        parser.error(f"--seed is {options.seed}, expected 0 to {EVALUATION_SEED // 2 - 1}")
    chosen = [
        (env_id, index)
        for env_id in (*RECIPES, *SPECIALISTS)
        for index in range(len(BEHAVIOUR_PARAMETERS[env_id]))
        if options.env in (None, env_id) and options.policy in (None, index)
    ]
    if not chosen:
        parser.error(f"--policy is {options.policy}, and there is no policy of that number")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out cannot be written to: {error}")
    torch.set_num_threads(1)
    for env_id, index in chosen:
        recipe = RECIPES.get(env_id) or SPECIALISTS[env_id]
        make_policy(env_id, index, recipe, options.seed, options.out)
    write_text(options.out / "README.md", make_readme(options.out))


if __name__ == "__main__":
    main(sys.argv[1:])
