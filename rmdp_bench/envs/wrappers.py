"""Wrappers that choose whose reward an environment returns.

    what you want                      one environment          a vector environment
    the reward of some agents          AgentReward              BatchedAgentReward
    the rewards of all agents          VectorReward             BatchedVectorReward

They read `info["agent_rewards"]` and leave everything else alone, infos included. The wrappers of
single environments are recorded in `env.spec`, so that `gym.make(env.spec)` makes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.messages import shown
from rmdp_bench.population import DynamicsPopulation, Population

Array = NDArray[Any]
SingleEnv: TypeAlias = gym.Env[Any, Any]
SingleStep: TypeAlias = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]
ManyEnvs: TypeAlias = VectorEnv[Any, Any, Array]
ManySteps: TypeAlias = tuple[Any, Array, Array, Array, dict[str, Any]]


class AgentReward(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Return the reward of one agent, the mean of several, or a weighted sum over all.

    With the weights `assignment[:, j]` it is the reward sum_i alpha^i(j) r^i that representative j
    maximises in the M-step (paper section 3).
    """

    reward_space: None = None
    """The reward is a number, whatever the environment below has."""

    def __init__(self, env: SingleEnv, agents_or_weights: int | Sequence[int] | ArrayLike) -> None:
        """Wrap a single environment of this package.

        Args:
            env: the environment, wrapped or not.
            agents_or_weights: an integer: that agent; different integers: the mean over those
                agents; floating-point numbers (n,): the sum over agents of weight times reward,
                with the weights as they are (they need not sum to one). The type tells integers
                and weights apart: `[0, 1]` are two agents, `[0.0, 1.0]` the weights of two agents.

        Raises:
            ValueError: not a single environment with a population, an agent that does not exist or
                is named twice, or weights that are not finite or not (n,).
        """
        agents, weights = _group(_single_population(env).n_agents, agents_or_weights)
        as_json = np.asarray(agents_or_weights).tolist()
        RecordConstructorArgs.__init__(self, agents_or_weights=as_json)
        gym.Wrapper.__init__(self, env)
        self._agents, self._weights = agents, weights

    def step(self, action: Any) -> SingleStep:
        """Step, with the reward of the chosen agents, a float."""
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = float(_weigh(info["agent_rewards"], self._agents, self._weights))
        return observation, reward, terminated, truncated, info


class VectorReward(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Return the rewards of all agents, (n,) float64: MO-Gymnasium's convention.

    Attributes:
        reward_space: their bounds, Box (n,).
    """

    def __init__(self, env: SingleEnv) -> None:
        """Wrap a single environment of this package.

        Raises:
            ValueError: not a single environment with a population.
        """
        population = _single_population(env)
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.reward_space = _reward_space(population, env.unwrapped)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, with a new array of rewards (n,)."""
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, info["agent_rewards"].copy(), terminated, truncated, info


class BatchedAgentReward(VectorWrapper[Any, Any, Any, Any, Array]):
    """`AgentReward` for a vector environment: rewards (num_envs,)."""

    def __init__(self, env: ManyEnvs, agents_or_weights: int | Sequence[int] | ArrayLike) -> None:
        """Wrap a vector environment of this package; arguments and errors as `AgentReward`."""
        agents, weights = _group(_vector_population(env).n_agents, agents_or_weights)
        super().__init__(env)
        self._agents, self._weights = agents, weights

    def step(self, actions: Any) -> ManySteps:
        """Step, with the rewards of the chosen agents, (num_envs,) float64."""
        observations, _, terminations, truncations, infos = self.env.step(actions)
        rewards = _weigh(_earned(infos), self._agents, self._weights)
        return observations, rewards, terminations, truncations, infos


class BatchedVectorReward(VectorWrapper[Any, Any, Any, Any, Array]):
    """`VectorReward` for a vector environment: rewards (num_envs, n).

    Attributes:
        reward_space: bounds of one environment's rewards, Box (n,), as in MOSyncVectorEnv.
    """

    def __init__(self, env: ManyEnvs) -> None:
        """Wrap a vector environment of this package; errors as `VectorReward`."""
        population = _vector_population(env)
        super().__init__(env)
        inner: Any = env.unwrapped
        if _layer_of_agents(env) is inner and not hasattr(inner, "reward_space"):
            inner = inner.get_attr("unwrapped")[0]  # of environments side by side
        self.reward_space = _reward_space(population, inner)

    def step(self, actions: Any) -> ManySteps:
        """Step, with a new array of rewards (num_envs, n) float64."""
        observations, _, terminations, truncations, infos = self.env.step(actions)
        return observations, _earned(infos).copy(), terminations, truncations, infos


def _earned(infos: dict[str, Any]) -> Array:
    """Rewards of the step, (num_envs, n).

    In the mode SAME_STEP the infos of an ended environment are those of its reset, and the step's
    own are in `final_info`.
    """
    agent_rewards: Array = infos["agent_rewards"]
    if "final_info" in infos:
        ended = infos["_final_info"][:, np.newaxis]
        return np.where(ended, infos["final_info"]["agent_rewards"], agent_rewards)
    return agent_rewards


def _weigh(agent_rewards: Array, agents: Array, weights: Array) -> Array:
    """(..., n) -> (...), summed in the same order for one environment and for many."""
    total: Array = np.add.reduce(agent_rewards.take(agents, axis=-1) * weights, axis=-1)
    return total


def _group(n_agents: int, agents_or_weights: Any) -> tuple[NDArray[np.int64], Array]:
    """The agents of a group and their weights."""
    given = np.asarray(agents_or_weights)
    if given.dtype.kind in "iu" and given.ndim <= 1 and given.size:
        agents = np.atleast_1d(given).astype(np.int64)
        if agents.min() < 0 or agents.max() >= n_agents or len(set(agents.tolist())) < len(agents):
            raise ValueError(
                f"agents are {agents.tolist()}, expected different integers 0 to {n_agents - 1} "
                "(give weights as floating-point numbers)"
            )
        return agents, np.full(len(agents), 1.0 / len(agents))
    if given.dtype.kind == "f" and given.shape == (n_agents,) and np.isfinite(given).all():
        return np.arange(n_agents), given.astype(np.float64)
    raise ValueError(
        f"agents_or_weights is {shown(agents_or_weights)}, expected an agent, a list of agents, or "
        f"{n_agents} finite floating-point weights"
    )


def _single_population(env: Any) -> Population:
    if isinstance(env, VectorEnv):
        raise ValueError(
            "env is a vector environment: use BatchedAgentReward or BatchedVectorReward"
        )
    if not isinstance(env, gym.Env) or not env.has_wrapper_attr("population"):
        raise ValueError(f"env is {shown(env)}, expected an environment of rmdp_bench, with agents")
    return _with_rewards(env.get_wrapper_attr("population"), env)


def _vector_population(env: Any) -> Population:
    if not isinstance(env, VectorEnv):
        raise ValueError(
            f"env is {shown(env)}, expected a vector environment: see gymnasium.make_vec"
        )
    if not getattr(env.unwrapped, "agent_rewards", True):
        raise ValueError(
            f"env is {shown(env)}, made with agent_rewards=False; expected it without that"
        )
    layer = _layer_of_agents(env)
    try:
        known = hasattr(layer, "population")
        population = layer.population if known else layer.get_attr("population")[0]
    except AttributeError:
        raise ValueError(
            f"env is {shown(env)}, expected an environment of rmdp_bench, with agents"
        ) from None
    return _with_rewards(population, env)


def _reward_space(population: Population, unwrapped: Any) -> gym.spaces.Box:
    """Bounds of the rewards (n,), as the world knows them if it is the agents' own."""
    if getattr(unwrapped, "population", None) is population:
        own: gym.spaces.Box = unwrapped.reward_space
        return own
    low, high = population.reward_bounds()
    return gym.spaces.Box(low, high, dtype=np.float64)


def _layer_of_agents(env: Any) -> Any:
    """The wrapper that has the agents, or the environment itself."""
    layer = env
    while isinstance(layer, VectorWrapper) and "population" not in vars(layer):
        layer = layer.env
    return layer


def _with_rewards(population: Population | DynamicsPopulation, env: Any) -> Population:
    if isinstance(population, DynamicsPopulation):
        raise ValueError(
            f"env is {shown(env)}, whose agents differ in dynamics: each has the reward of its own "
            "episodes only; choose one with reset(options={'agent': i})"
        )
    return population
