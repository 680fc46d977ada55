"""Any Gymnasium world as a represented one: agents who want different things from it.

    env = represent(gym.make("Pendulum-v1"), population, outcome)
    envs = represent(gym.make_vec("Pendulum-v1", num_envs=8), population, outcome)
    env = from_mo_gymnasium("deep-sea-treasure-v0", n_agents=50)

`outcome` says what of a transition rewards depend on, and the population what that is worth to each
agent. As in the suite's own worlds the scalar reward is the mean over the agents, and infos have
"agent_rewards" and "outcome".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias, overload

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import create_empty_array
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.envs.core.checks import check_integer
from rmdp_bench.messages import shown
from rmdp_bench.population import (
    MAX_NUMBERS,
    LinearPopulation,
    Population,
    check_population,
    check_rewards,
)

Array = NDArray[Any]
SingleEnv: TypeAlias = gym.Env[Any, Any]
ManyEnvs: TypeAlias = VectorEnv[Any, Any, Array]
Outcome: TypeAlias = Callable[[Any, Any, Array, Any, Mapping[str, Any]], ArrayLike]
"""Of observations, actions, rewards (E,), next observations and infos of E transitions: (E, m).

All with a leading axis E, which is 1 in a single environment. The next observations are those that
the transition led to, also at the end of an episode, whatever the autoreset mode.
"""


@overload
def represent(env: SingleEnv, population: Population, outcome: Outcome) -> Represented: ...
@overload
def represent(env: ManyEnvs, population: Population, outcome: Outcome) -> BatchedRepresented: ...
def represent(
    env: SingleEnv | ManyEnvs, population: Population, outcome: Outcome
) -> Represented | BatchedRepresented:
    """Give every agent of a population its reward for what happens in an environment.

    Args:
        env: single or vector, of any library that follows Gymnasium.
        population: n agents, for outcomes (m,).
        outcome: of a batch of transitions; see `Outcome`.

    Raises:
        ValueError: not an environment, not a population, or an outcome of another shape. Where the
            outcome is made of infos, that shows in the first step.
    """
    if isinstance(env, VectorEnv):
        return BatchedRepresented(env, population, outcome)
    return Represented(env, population, outcome)


class _Rewards:
    """Outcomes of transitions, checked, and what they are worth."""

    def __init__(self, env: Any, population: Any, outcome: Any) -> None:
        """Check all that can be known before the first step."""
        check_population(population)
        if not callable(outcome):
            raise ValueError(
                f"outcome is {shown(outcome)}, expected a function of observations, actions, "
                "rewards, next observations and infos"
            )
        self.population: Population = population
        self._outcome: Outcome = outcome
        self._try(env)

    def _try(self, env: Any) -> None:
        """Ask for the outcome of a transition of zeros."""
        spaces = env.single_observation_space, env.single_action_space
        observations, actions = (create_empty_array(space, n=1, fn=np.zeros) for space in spaces)
        infos = _Absent()
        try:
            rewards = np.zeros((1, *_reward_shape(env)))
            self.of(observations, actions, rewards, observations, infos)
        except Exception:
            if not infos.asked:  # what is in infos is not known before the first step
                raise

    def of(
        self, observations: Any, actions: Any, rewards: Array, following: Any, infos: Any
    ) -> tuple[Array, Array]:
        """Outcomes (E, m) and agents' rewards (E, n) of E transitions."""
        given = self._outcome(observations, actions, rewards, following, infos)
        try:
            outcomes = np.asarray(given, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"outcome gives {shown(given)}, expected an array of numbers"
            ) from error
        expected = (len(rewards), self.population.outcome_size)
        if outcomes.shape != expected:
            raise ValueError(
                f"outcome gives shape {outcomes.shape}, expected {expected}: a row for each of "
                f"{len(rewards)} transitions, and {expected[1]} numbers for the population"
            )
        if not np.isfinite(outcomes).all():
            row, part = np.argwhere(~np.isfinite(outcomes))[0].tolist()
            raise ValueError(
                f"outcome gives {outcomes[row, part]} as number {part} of transition {row}, "
                "expected finite numbers"
            )
        rewards = self.population.rewards(outcomes)
        check_rewards(self.population, outcomes, rewards)
        return outcomes, rewards

    def none(self, n_envs: int) -> dict[str, Array]:
        """What infos have after a reset, where nothing was earned."""
        return {
            "agent_rewards": np.zeros((n_envs, self.population.n_agents)),
            "outcome": np.zeros((n_envs, self.population.outcome_size)),
        }


class _Absent(dict[str, Any]):
    """Infos of no step; remembers whether anything was asked of them."""

    asked = False

    def __missing__(self, name: str) -> Array:
        self.asked = True
        return np.zeros(1)

    def get(self, name: str, default: Any = None) -> Any:
        """As for any dict, remembered."""
        self.asked = True
        return default


class Represented(gym.Wrapper[Any, Any, Any, Any]):
    """A single environment for the agents of a population; see `represent`.

    Attributes:
        population: the agents.
        reward_dim: n.
    """

    reward_space: None = None
    """The reward is a number, whatever the environment below has; see `VectorReward`."""

    def __init__(self, env: SingleEnv, population: Population, outcome: Outcome) -> None:
        """Wrap an environment; arguments and errors as `represent`."""
        if not isinstance(env, gym.Env):
            raise ValueError(f"env is {shown(env)}, expected an environment of Gymnasium")
        super().__init__(env)
        self._rewards = _Rewards(_Single(env), population, outcome)
        self._observation: Any = None
        self.population = population
        self.reward_dim = population.n_agents

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset; all agents are there, and nothing has been earned."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info | {k: v[0] for k, v in self._rewards.none(1).items()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; the reward is the mean over the agents."""
        following, reward, terminated, truncated, info = self.env.step(action)
        outcomes, earned = self._rewards.of(
            _batch(self._observation),
            _batch(action),
            np.asarray(reward)[np.newaxis],
            _batch(following),
            {name: np.asarray(value)[np.newaxis] for name, value in info.items()},
        )
        self._observation = following
        info = info | {"agent_rewards": earned[0], "outcome": outcomes[0]}
        return following, float(earned[0].mean()), terminated, truncated, info


class BatchedRepresented(VectorWrapper[Any, Any, Any, Any, Array]):
    """A vector environment for the agents of a population; see `represent`.

    Attributes:
        population: the agents.
        reward_dim: n.
    """

    def __init__(self, env: ManyEnvs, population: Population, outcome: Outcome) -> None:
        """Wrap a vector environment; arguments and errors as `represent`."""
        super().__init__(env)
        self._rewards = _Rewards(env, population, outcome)
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._observations: Any = None
        self._ended = np.zeros(env.num_envs, np.bool_)
        self.population = population
        self.reward_dim = population.n_agents

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset; all agents are there, and nothing has been earned."""
        mask = (options or {}).get("reset_mask")  # Gymnasium takes it out of the options
        observations, infos = self.env.reset(seed=seed, options=options)
        reset = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask)
        if self._observations is not None:  # of the other rows some worlds give earlier ones
            observations = _map(partial(_where, reset), observations, self._observations)
        self._observations = _map(np.copy, observations)
        self._ended &= ~reset
        return observations, infos | _with_masks(self._rewards.none(self.num_envs), reset)

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Step; the rewards are the means over the agents, 0 where a row was only reset."""
        following, rewards, terminated, truncated, infos = self.env.step(actions)
        same_step = self._mode is AutoresetMode.SAME_STEP
        rows = np.flatnonzero(~self._ended)
        details = self._rewards.none(self.num_envs)
        over = np.asarray(terminated) | np.asarray(truncated)
        if len(rows):
            reached, seen = following, infos
            if same_step and over.any():
                reached = _replace(following, over, infos["final_obs"])
                seen = infos | infos.get("final_info", {})
            outcomes, earned = self._rewards.of(
                _take(self._observations, rows, self.num_envs),
                _take(actions, rows, self.num_envs),
                np.asarray(rewards)[rows],
                _take(reached, rows, self.num_envs),
                _take(dict(seen), rows, self.num_envs),
            )
            details["outcome"][rows], details["agent_rewards"][rows] = outcomes, earned
        means = details["agent_rewards"].mean(axis=1)
        own: dict[str, Any] = {}
        if same_step and over.any():  # as Gymnasium's own: what ended is in final_info
            last = {name: np.where(over[:, None], v, 0.0) for name, v in details.items()}
            own["final_info"] = {**infos.get("final_info", {}), **_with_masks(last, over)}
            own["_final_info"] = over
            for values in details.values():
                values[over] = 0.0
        own |= _with_masks(details, np.ones(self.num_envs, np.bool_))
        self._observations = _map(np.copy, following)
        self._ended = np.zeros_like(over) if same_step else over
        return following, means, terminated, truncated, infos | own


def from_mo_gymnasium(
    env_id: str,
    weights: ArrayLike | None = None,
    *,
    n_agents: int | None = None,
    seed: int = 0,
    num_envs: int | None = None,
    **keywords: Any,
) -> Represented | BatchedRepresented:
    """Make a world of MO-Gymnasium for agents who weigh its objectives in their own way.

    The outcome is the vector reward (m,), and an agent's return is in the unit of the world.

    Args:
        env_id: such as "deep-sea-treasure-v0".
        weights: (n, m); None: n_agents draws from the flat Dirichlet distribution.
        n_agents: without weights; None: 100.
        seed: of the draws, from 0 to 2**32 - 1.
        num_envs: of a vector environment; None: a single one.
        **keywords: of the world.

    Raises:
        ImportError: MO-Gymnasium is not there: `pip install "rmdp_bench[mo]"`.
        ValueError: weights and n_agents, weights that are not (n, m), or a number out of range.
    """
    try:
        mo_gymnasium: Any = import_module("mo_gymnasium")
        vector: Any = import_module("mo_gymnasium.wrappers.vector")
    except ImportError as error:
        raise ImportError(
            f'{env_id} is a world of MO-Gymnasium: pip install "rmdp_bench[mo]"'
        ) from error
    env: SingleEnv = mo_gymnasium.make(env_id, **keywords)
    inner: Any = env.unwrapped
    size = int(inner.reward_space.shape[0])
    population = LinearPopulation(np.asarray(_weights(weights, n_agents, size, seed)))
    if population.outcome_size != size:
        raise ValueError(
            f"weights have shape {population.weights.shape}, expected (n, {size}): {env_id} has "
            f"{size} objectives"
        )
    if num_envs is None:
        return represent(env, population, _vector_reward)
    env.close()
    make = partial(mo_gymnasium.make, env_id, **keywords)
    envs: ManyEnvs = vector.MOSyncVectorEnv([make] * num_envs)
    return represent(envs, population, _vector_reward)


def _vector_reward(
    observations: Any, actions: Any, rewards: Array, following: Any, infos: Any
) -> Array:
    """The outcome of a world whose rewards are vectors."""
    del observations, actions, following, infos
    return rewards


def _weights(weights: ArrayLike | None, n_agents: int | None, size: int, seed: int) -> ArrayLike:
    """As given, or drawn."""
    if weights is not None:
        if n_agents is not None:
            raise ValueError(
                f"weights and n_agents={shown(n_agents)} are given, expected one of them: the "
                "rows of weights are the agents"
            )
        return weights
    n_agents = check_integer("n_agents", 100 if n_agents is None else n_agents, 1, MAX_NUMBERS)
    seed = check_integer("seed", seed, 0, 2**32 - 1)
    return np.random.RandomState(seed).dirichlet(np.ones(size), n_agents)


class _Single:
    """What `_Rewards` asks of an environment, of a single one."""

    def __init__(self, env: SingleEnv) -> None:
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.unwrapped = env.unwrapped


def _reward_shape(env: Any) -> tuple[int, ...]:
    """() of a number; of a vector where the world follows MO-Gymnasium."""
    space = getattr(env, "reward_space", getattr(env.unwrapped, "reward_space", None))
    return () if space is None else tuple(space.shape[-1:])


def _with_masks(details: Mapping[str, Array], mask: Array) -> dict[str, Array]:
    return {**details, **{f"_{name}": mask.copy() for name in details}}


def _where(rows: Array, new: Array, old: Array) -> Array:
    """New values in some rows of a batch, old ones in the others."""
    return np.where(rows.reshape(-1, *[1] * (np.ndim(new) - 1)), new, old)


def _map(function: Callable[..., Any], *trees: Any) -> Any:
    """Of the arrays of dicts and tuples, as spaces have them."""
    if isinstance(trees[0], Mapping):
        return {name: _map(function, *(tree[name] for tree in trees)) for name in trees[0]}
    if isinstance(trees[0], tuple):
        return tuple(_map(function, *parts) for parts in zip(*trees, strict=True))
    return function(*trees)


def _batch(value: Any) -> Any:
    """A batch of one."""
    return _map(lambda part: np.asarray(part)[np.newaxis], value)


def _take(tree: Any, rows: Array, n_envs: int) -> Any:
    """The rows of a batch, of all that has one entry for each of E."""
    if len(rows) == n_envs:
        return tree
    return _map(
        lambda part: part[rows] if len(np.shape(part)) and len(part) == n_envs else part, tree
    )


def _replace(following: Any, over: Array, finals: Any) -> Any:
    """Next observations, where an episode is over the one that ended it."""
    reached = _map(np.copy, following)
    for row in np.flatnonzero(over):

        def put(batch: Array, final: Any, row: int = int(row)) -> None:
            batch[row] = final

        _map(put, reached, finals[row])
    return reached
