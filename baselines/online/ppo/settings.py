"""Settings of the learner, and those that a task replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from baselines.common.settings import check_range
from baselines.online.ppo.actions import make_actions
from baselines.online.ppo.outcome_critic import has_nodes
from rmdp_bench.messages import shown
from rmdp_bench.population import Population, TargetPopulation, is_own
from rmdp_bench.tasks import OnlineTask, Task


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of PPO (paper, appendix B, unless said otherwise), whatever it trains."""

    hidden_size: int = 64
    """Width of the actor's hidden layers, and of the critic's; representatives share theirs."""
    n_envs: int = 8
    """Copies of the world in which each policy acts."""
    batch_size: int = 2048
    """Transitions of each policy between updates; a multiple of n_envs."""
    minibatch_size: int = 64
    """Transitions of each policy in a gradient step; divides batch_size."""
    n_epochs: int = 10
    """Passes over a batch."""
    learning_rate: float = 3e-4
    """Adam's step size at the start."""
    final_learning_rate: float = 1e-4
    """Adam's step size at the end."""
    clip: float = 0.2
    """Bound on the change of the probability ratio."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the start."""
    final_entropy_coefficient: float = 1e-3
    """Weight of the entropy bonus at the end."""
    max_gradient_norm: float = 0.5
    """Bound on the norm of each actor's and of each critic's gradient (reference code: of all k
    together)."""
    log_std: float = -1.0
    """Initial log standard deviation of continuous actions."""
    normalize_observations: bool = True
    """Whether observations are standardised by their running mean and variance."""
    observation_clip: float = 5.0
    """Bound on the standardised observations (reference code)."""
    reward_scale: float = 1.0
    """Factor on the rewards, which are in percent of a perfect episode."""
    advantage_offset: float = 1e-3
    """Added to the standard deviation of a policy's advantages, each the mean over its agents, in
    percent of a perfect episode times reward_scale."""
    bootstrap_time_limits: bool = True
    """Whether a truncated episode is continued by the value of its last observation."""
    shaping: float = 0.5
    """Share of the dense reward at the start, of a dense training reward; no score has it."""
    final_shaping: float = 0.5
    """The same at the end; linear between."""
    smoothing: float = 1.0
    """Steps over which the dense reward averages the outcome: a gait's speed oscillates."""
    shaping_reach: float = 20.0
    """Distance from the target at which the dense reward is zero, in widths of the agents' own."""

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range, or the sizes do not divide."""
        check_range(self, 1, math.inf, "hidden_size", "n_envs", "minibatch_size", "n_epochs")
        check_range(self, 1e-12, 1.0, "learning_rate", "final_learning_rate", "clip", "gae_lambda")
        check_range(self, 0.0, math.inf, "entropy_coefficient", "final_entropy_coefficient")
        check_range(self, 0.0, math.inf, "advantage_offset")
        check_range(self, 1e-12, math.inf, "max_gradient_norm", "observation_clip")
        check_range(self, 1e-12, math.inf, "reward_scale", "shaping_reach")
        check_range(self, 0.0, 1.0, "shaping", "final_shaping")
        check_range(self, 1.0, math.inf, "smoothing")
        check_range(self, -10.0, 2.0, "log_std")
        for unit in ("n_envs", "minibatch_size"):
            if self.batch_size < 1 or self.batch_size % getattr(self, unit):
                raise ValueError(
                    f"batch_size is {self.batch_size}; expected a multiple of {unit}, "
                    f"{getattr(self, unit)}"
                )


@dataclass(frozen=True)
class PPOConfig(TrainingConfig):
    """Settings of the learner of k representatives."""

    n_hidden_layers: int = 1
    """Hidden layers, 1 or 2; with 2, as `universal` has, torch runs everything."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    min_log_std: float = -10.0
    """Least log standard deviation of continuous actions."""
    max_kl: float = 1e6
    """Divergence of a representative's policy from the one that collected, estimated on a
    mini-batch, from which it gets no more gradient in this update; by default it always does."""
    training_reward: Literal["own", "dense"] = "own"
    """What actors and critics learn from: agents' own rewards, as in the paper, or mixed with the
    dense one that `universal` has (see `shaping`); no score has it."""
    mixing: float = 0.05
    """Lambda of equation 10: weight of a new return in the moving average of returns."""
    critic: Literal["agents", "outcome"] = "agents"
    """What critics predict: every agent's value, or the occupancy of the outcome, on a basis of
    about 100 nodes, from which any number of agents' values follow (see `outcome_critic`)."""
    compiled: bool = True
    """Whether a CPU runs the compiled loops, on all its cores, or torch as a GPU does: the same
    numbers, to rounding."""

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of an update."""
        return self.n_epochs * self.batch_size // self.minibatch_size

    def is_compiled(self, device: str) -> bool:
        """Whether a learner on that device uses the compiled loops."""
        return self.compiled and device == "cpu" and self.n_hidden_layers == 1

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of its range or a choice is unknown."""
        super().__post_init__()
        for name, choices in (
            ("critic", ("agents", "outcome")),
            ("training_reward", ("own", "dense")),
        ):
            if getattr(self, name) not in choices:
                expected = " or ".join(map(repr, choices))
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")
        check_range(self, 1, 2, "n_hidden_layers")
        check_range(self, 1e-12, 1.0, "adam_epsilon", "mixing")
        check_range(self, -10.0, 2.0, "min_log_std")
        check_range(self, 1e-12, math.inf, "max_kl")


def anneal(start: float, end: float, fraction: float, *, linear: bool = False) -> float:
    """The value of a geometric schedule; linear on demand, and to or from zero."""
    if linear or start <= 0 or end <= 0:
        return start + (end - start) * fraction
    return float(start * (end / start) ** fraction)


def check_online(task: Task) -> OnlineTask:
    """Refuse tasks of logged data or of agents who differ in dynamics, and give others back.

    Raises:
        ValueError: names the task and what was expected.
    """
    if not isinstance(task, OnlineTask):
        raise ValueError(
            f"{task.id} is an offline task, expected an online one: this solver learns by acting "
            "in the environment"
        )
    if task.heterogeneous:
        raise ValueError(
            f"the agents of {task.id} differ in dynamics, expected agents who share them: this "
            "solver learns about all agents from each transition"
        )
    return task


def check_world(task: OnlineTask) -> None:
    """Refuse a world from outside whose actions the policies do not have.

    Raises:
        ValueError: they are neither discrete from 0 nor vectors from -1 to 1.
    """
    if not task.is_native:
        envs = task.make(1)
        try:
            make_actions(envs.single_action_space)
        finally:
            envs.close()


def check_tensor_rewards(population: Population) -> None:
    """Refuse a population of somebody's own whose `rewards` knows arrays and no torch tensors.

    Raises:
        ValueError: what it gave, or raised.
    """
    if not is_own(population):
        return
    expected = 2, population.n_agents
    try:
        rewards: Any = population.rewards(torch.zeros(2, population.outcome_size))
        fault = None if isinstance(rewards, torch.Tensor) else f"gives {shown(rewards)}"
        if fault is None and tuple(rewards.shape) != expected:
            fault = f"gives shape {tuple(rewards.shape)}, expected {expected}"
    except Exception as error:  # anyone's code may raise anything
        fault = f"fails: {type(error).__name__}: {error}".splitlines()[0]
    if fault is not None:
        raise ValueError(
            f"{type(population).__name__}.rewards is asked with torch tensors by this solver, and "
            f"{fault}; write it with what arrays and tensors both have, and constants of tensors "
            "as outcomes.new_tensor(...)"
        )


def check(task: Task, config: PPOConfig) -> None:
    """Refuse a budget that is too small for a single update, and rewards that there are not.

    Raises:
        ValueError: if the task is offline, has fewer transitions per policy than a batch, or its
            agents have no targets of which a reward could be dense, or rewards only of arrays.
    """
    task = check_online(task)
    check_world(task)
    check_tensor_rewards(task.population)
    if config.training_reward == "dense" and not isinstance(task.population, TargetPopulation):
        raise ValueError(
            f"training_reward is 'dense', but the agents of {task.id} have no targets; use 'own'"
        )
    if task.transitions < config.batch_size:
        raise ValueError(
            f"{task.transitions} transitions per policy are less than one batch; expected at least "
            f"{config.batch_size} (batch_size)"
        )


FALLS: dict[str, Any] = {"shaping": 0.8, "smoothing": 20.0}
"""Robots that can fall learn to live before they learn to keep a speed: the dense term, large at
first, rewards every step of a life, and averages the speed over about a stride."""

EPISODES_COUNT: dict[str, Any] = {
    "learning_rate": 5e-4,
    "adam_epsilon": 1e-8,
    "entropy_coefficient": 0.05,
    "reward_scale": 0.01,
    "advantage_offset": 0.01,
}
"""Where actions are discrete: those of Resource Gathering (reference code), in place of the
defaults above. What an episode comes to is paid in few steps, at its end for the most part."""

FAR_REWARDS: dict[str, Any] = {
    "normalize_observations": True,
    "entropy_coefficient": 0.3,
    "final_entropy_coefficient": 0.01,
}
"""Where nothing is random and the best rewards are many steps away, chance does not come upon
them: see `em` on deep-sea treasure. In the six steps of FruitTree everything is seen anyhow, and so
much entropy is a loss: 87 % of the ceiling for 92 % (k = 5, three seeds)."""
MANY_STEPS = 50
"""From so many steps on, rewards are taken to be far: more than in the paper's Resource Gathering,
whose settings are its own."""

MANY_AGENTS = 1000
"""From so many agents on the critic is that of the outcome, whose cost does not grow with them."""

SHORT_GAME = 100
"""Steps of an episode up to which a world with discrete actions is taken for a game on a board:
observations stay as they are, as their statistics are those of the start at first."""


def dense_rewards(task: OnlineTask) -> dict[str, Any]:
    """Dense rewards of robots: in the end the agents' own reward counts more."""
    if not task.continuous:
        return {}
    return {"final_shaping": 0.3} | (FALLS if task.terminates else {})


def game_settings(task: OnlineTask) -> dict[str, Any]:
    """What a short game, or one without a discount, replaces.

    Without a discount the limit of an episode is a rule of the game: in Resource Gathering who is
    not home by then gets nothing. With gamma = 1, a value beyond the limit would make wandering as
    good as returning, and the one policy of k = 1 never returns (measured: welfare 0).
    """
    settings: dict[str, Any] = {}
    if task.max_episode_steps <= SHORT_GAME:
        settings["normalize_observations"] = False
    if task.gamma == 1.0:
        settings["bootstrap_time_limits"] = False
    return settings


def task_settings(task: Task) -> dict[str, Any]:
    """Settings that a task replaces, by name of the field: they follow from its properties."""
    if not isinstance(task, OnlineTask):
        return {}
    if task.continuous:
        return dense_rewards(task)
    is_far = task.deterministic and task.max_episode_steps >= MANY_STEPS
    return EPISODES_COUNT | game_settings(task) | (FAR_REWARDS if is_far else {})


def critic_settings(task: Task) -> dict[str, Any]:
    """The critic that a task replaces, for solvers that take either.

    With a thousand agents and 50 policies the critic of every agent takes most of an iteration;
    welfare was not told apart from that with the outcome's (`docs/online_solvers.md`).
    """
    if not isinstance(task, OnlineTask) or task.n_agents < MANY_AGENTS:
        return {}
    return {"critic": "outcome"} if has_nodes(task.population) else {}
