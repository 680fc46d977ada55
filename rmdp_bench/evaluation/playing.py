"""Episodes of policies side by side, each in a row of one vector environment, with all checks.

Evaluation seeds are 2**31 and above, training seeds below, so that no solver trains on an
evaluation episode.

Above `MANY_AGENTS`, returns are not summed up step by step, which would take n rewards for each
episode and step, but follow from the outcomes of a whole episode (`Population.total_rewards`): the
same to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.core.checks import MAX_ENVS
from rmdp_bench.envs.core.counting import uncounted
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import OnlineTask, Task

EVALUATION_SEED = 2**31
"""Seed of the first evaluation episode; all smaller seeds are for training."""
MANY_AGENTS = 10_000
"""Number of agents, more than any task of the table has, above which none is stepped through."""
MAX_RETURNS = 10**9
"""Most returns that an evaluation keeps, of all agents under all policies in all episodes: 8 GB."""
_before_each_step: ContextVar[Callable[[], None] | None] = ContextVar(
    "before_each_step", default=None
)


@contextlib.contextmanager
def before_each_step(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` before each step of all episodes that are played here; what it raises ends them.

    Args:
        ask: asks whoever waits for the scores whether to go on. What it raises is no Exception:
            those become failures of the policy or solver in whose code the episodes are played.
    """
    token = _before_each_step.set(ask)
    try:
        yield
    finally:
        _before_each_step.reset(token)


def ask_to_go_on() -> None:
    """Call what `before_each_step` was given, if anything was."""
    ask = _before_each_step.get()
    if ask is not None:
        ask()


@dataclass(frozen=True)
class Played:
    """B episodes side by side; after the end of an episode its entries are zero.

    Attributes:
        returns: (B, n) undiscounted: of every agent, or (B, 1) of the one who lives in the episode.
        lengths: (B,) steps.
        observations: (T + 1, B, d) if recorded, else (0,); the first from the reset.
        actions: (T, B, ...) if recorded, else (0,).
        outcomes: (T, B, m) if recorded, or asked for, and where there are any, else (0,).
        measures: name -> (B,) mean over the steps of what the world measures beside the reward,
            where agents differ in dynamics; {} if there is nothing.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    observations: NDArray[Any]
    actions: NDArray[Any]
    outcomes: NDArray[np.float64]
    measures: Mapping[str, NDArray[np.float64]]


def play(
    task: Task,
    policies: Sequence[Policy],
    n_rows: Sequence[int],
    seeds: Sequence[int],
    *,
    agents: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    record: bool = False,
    max_steps: int | None = None,
    is_counted: bool = True,
    keep_outcomes: bool = False,
) -> Played:
    """Play B episodes, one in each row of a vector environment.

    Args:
        task: names the environment.
        policies: P of them.
        n_rows: (P,) rows of each policy, one policy's after the other's; their sum is B.
        seeds: (B,) of the episodes.
        agents: (B,) who lives in each episode, where agents differ in dynamics; else None.
        names: what messages call the policies; by default "policy 0" and so on.
        record: whether to keep observations, actions and outcomes.
        max_steps: where to stop; None: at the end of the last episode.
        is_counted: whether these steps are among `steps_made`; those of worlds that policies make
            or hold always are.
        keep_outcomes: whether to keep outcomes, without the rest of a record.

    Raises:
        ValueError: a policy fails, gives actions that are not in the action space, or reaches a
            return that is not finite; the message names policy and value.
    """
    names = names or [f"policy {j}" for j in range(len(policies))]
    ends = np.cumsum(n_rows).tolist()
    rows_of = [slice(end - size, end) for end, size in zip(ends, n_rows, strict=True)]
    many = agents is None and task.n_agents > MANY_AGENTS
    with contextlib.nullcontext() if is_counted else uncounted():
        envs: Any = _make(task, ends[-1], many)
    try:
        options = None if agents is None else {"agent": np.asarray(agents)}
        observations, _ = envs.reset(seed=list(seeds), options=options)
        for policy, name, size in zip(policies, names, n_rows, strict=True):
            call(name, "reset", policy.reset, size)
        # With many agents in the order that `roll_out` gives them, so that nothing is copied.
        size = 1 if agents is not None else task.n_agents
        returns = np.zeros((size, ends[-1])).T if many else np.zeros((ends[-1], size))
        lengths = np.zeros(ends[-1], np.int64)
        running = np.ones(ends[-1], np.bool_)
        seen, taken, outcomes = [observations], [], []
        measures: dict[str, NDArray[np.float64]] = {}
        while running.any() and lengths.max() != max_steps:
            ask_to_go_on()
            actions = _act(
                envs.single_action_space, policies, names, rows_of, observations, running
            )
            observations, scalars, terminated, truncated, infos = envs.step(actions)
            infos = _of_this_step(infos, terminated | truncated)
            if not many:
                rewards = infos["agent_rewards"] if agents is None else scalars[:, np.newaxis]
                if running.all():
                    returns += rewards
                else:
                    returns[running] += rewards[running]
            if agents is not None:
                for measure, values in envs.unwrapped.measure().items():
                    measures[measure] = measures.get(measure, 0.0) + np.where(running, values, 0.0)
            lengths += running
            if record:
                seen.append(np.where(running[:, None], _last(observations, infos), 0))
                taken.append(actions)
            if (record or many or keep_outcomes) and "outcome" in infos:
                outcomes.append(np.where(running[:, None], infos["outcome"], 0.0))
            running &= ~(terminated | truncated)
        if many:
            for row, n_steps in enumerate(lengths):
                episode = np.stack([step[row] for step in outcomes[:n_steps]])
                returns[row] = envs.population.total_rewards(episode)
    finally:
        envs.close()
    _check_returns(returns, names, rows_of)
    means = {name: total / np.maximum(lengths, 1) for name, total in measures.items()}
    kept = [
        np.stack(parts) if wanted and parts else np.zeros(0)
        for parts, wanted in (
            (seen, record),
            (taken, record),
            (outcomes, record or keep_outcomes),
        )
    ]
    return Played(returns, lengths, kept[0], kept[1], kept[2], means)


_OF_AGENTS = ("outcome", "agent_rewards")


def _make(task: Task, n_envs: int, many: bool) -> Any:
    """Copies of a task's world."""
    if isinstance(task, OnlineTask) and not task.is_native:
        return task.make(n_envs)
    keywords = task.env_kwargs | ({"agent_rewards": False} if many else {})
    return gym.make_vec(task.env_id, num_envs=n_envs, **keywords)


def _of_this_step(infos: dict[str, Any], over: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos; of rows whose next episode has begun already, those of the step that ended one."""
    if "final_info" not in infos:
        return infos
    ended = infos["final_info"]
    return infos | {n: np.where(over[:, None], ended[n], infos[n]) for n in _OF_AGENTS}


def _last(observations: NDArray[Any], infos: Mapping[str, Any]) -> NDArray[Any]:
    """Observations (B, d); where the next episode has begun already, those before it."""
    if "final_obs" not in infos:
        return observations
    last = observations.copy()
    for row in np.flatnonzero(infos["_final_obs"]):
        last[row] = infos["final_obs"][row]
    return last


def _act(
    space: gym.Space[Any],
    policies: Sequence[Policy],
    names: Sequence[str],
    rows_of: Sequence[slice],
    observations: NDArray[Any],
    running: NDArray[np.bool_],
) -> NDArray[Any]:
    """Checked actions of all policies; rows whose episode is over get a harmless one."""
    actions = np.zeros((len(observations), *(space.shape or ())), space.dtype)
    if isinstance(space, gym.spaces.Discrete):
        actions[:] = space.start
    elif isinstance(space, gym.spaces.Box):
        actions[:] = np.clip(actions, space.low, space.high)
    for policy, name, rows in zip(policies, names, rows_of, strict=True):
        if not running[rows].any():
            continue
        given = np.asarray(call(name, "act", policy.act, observations[rows]))
        _check_actions(space, name, given, rows.stop - rows.start, running[rows])
        actions[rows][running[rows]] = given[running[rows]]
    return actions


def _check_actions(
    space: gym.Space[Any],
    name: str,
    actions: NDArray[Any],
    n_episodes: int,
    running: NDArray[np.bool_],
) -> None:
    """Refuse actions of the wrong shape, dtype or range, and NaN."""
    discrete = isinstance(space, gym.spaces.Discrete)
    expected = (n_episodes, *(space.shape or ()))
    if actions.shape != expected:
        raise ValueError(f"{name} gives actions of shape {actions.shape}, expected {expected}")
    if actions.dtype.kind not in ("iu" if discrete else "iuf"):
        wanted = "integers" if discrete else "real numbers"
        raise ValueError(f"{name} gives actions of dtype {actions.dtype}, expected {wanted}")
    if isinstance(space, gym.spaces.Discrete):
        low, high = np.asarray(space.start), np.asarray(space.start + space.n - 1)
    else:
        assert isinstance(space, gym.spaces.Box), space
        low, high = space.low, space.high
    outside = ~((actions >= low) & (actions <= high) & np.isfinite(actions))
    outside[~running] = False
    if outside.any():
        index = tuple(np.argwhere(outside)[0].tolist())
        component = index[1:]
        where = f"component {component[0]} of its action" if component else "its action"
        raise ValueError(
            f"{name}: {where} is {actions[index]} in episode {index[0]}, expected "
            f"{low[component]} to {high[component]}; a policy clips its own actions"
        )


def _check_returns(
    returns: NDArray[np.float64], names: Sequence[str], rows_of: Sequence[slice]
) -> None:
    """Refuse returns (B, n) that are NaN or infinite: no score follows from them."""
    for name, rows in zip(names, rows_of, strict=True):
        bad = np.argwhere(~np.isfinite(returns[rows]))
        if len(bad):
            episode, agent = bad[0].tolist()
            raise ValueError(
                f"{name}: the return of agent {agent} is {returns[rows][episode, agent]} in "
                f"episode {episode}, expected a finite number"
            )


def call(name: str, method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what a solver has made; what it raises becomes a ValueError with its name.

    Args:
        name: of the policy, or whatever it is.
        method: that is called.
        function: the method itself.
        arguments: its own.
    """
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # its failure must not end the caller's process
        raise ValueError(f"{name} fails in {method}(): {type(error).__name__}: {error}") from error


def check_episodes(
    task: Task, n_episodes: int, seed: int, *, n_policies: int | None = None
) -> None:
    """Refuse a number of episodes, or a seed, that are not for evaluation.

    Args:
        task: to be scored.
        n_episodes: of each policy; offline, of each scored agent.
        seed: of the first episode.
        n_policies: that play at the same time; None: those of one solution.

    Raises:
        ValueError: names the value, and how many episodes can be.
    """
    if n_policies is None:
        n_policies = (
            task.n_representatives if isinstance(task, OnlineTask) else len(task.eval_agents)
        )
    most = max(1, _most_episodes(task) // n_policies)
    if not 1 <= n_episodes <= most:
        raise ValueError(
            f"the number of evaluation episodes is {n_episodes}, expected 1 to {most} for "
            f"{n_policies} policies of {task.id}"
        )
    if not EVALUATION_SEED <= seed < 2**62:
        raise ValueError(
            f"the evaluation seed is {seed}, expected {EVALUATION_SEED} or more: smaller seeds are "
            f"for training"
        )


def _most_episodes(task: Task) -> int:
    """That can be played at the same time, of all policies together."""
    n_returns = task.n_agents if isinstance(task, OnlineTask) else 1
    return min(MAX_ENVS, MAX_RETURNS // n_returns)
