"""Agents who differ in dynamics: every policy in every agent's world.

Here an episode informs about one agent, so that V[i, j] takes episodes of its own for each pair:

    returns (n, P, E)  --mean over episodes-->  V (n, P)  --`percent`-->  welfare matrix (n, k)

Episode e of every pair starts from the same seed, so that policies meet the same meals, say. All
pairs play side by side, in batches that fit into a processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.core.checks import check_integer
from rmdp_bench.evaluation.playing import EVALUATION_SEED, play
from rmdp_bench.references import single_and_own
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import OnlineTask, Task

BATCH = 4_000
"""About how many episodes are played at a time; one episode of each policy at least."""


@dataclass(frozen=True)
class PairRollout:
    """E episodes of each of P policies in the worlds of each of n agents.

    Attributes:
        returns: (n, P, E) undiscounted, in units of the reward.
        lengths: (n, P, E) steps.
        measures: name -> (n, P, E), mean over the steps of what the world measures beside the
            reward: for patients time in, below and above range, as shares, and the unweighted risk.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    measures: Mapping[str, NDArray[np.float64]]

    @property
    def mean_risk(self) -> NDArray[np.float64]:
        """(n, P) minus the mean reward of a step: where rewards are risks, the mean risk."""
        return np.asarray((-self.returns / self.lengths).mean(axis=2))


def roll_out_pairs(
    task: OnlineTask,
    policies: Sequence[Policy],
    *,
    n_episodes: int,
    seed: int = EVALUATION_SEED,
    agents: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    is_counted: bool = True,
) -> PairRollout:
    """Play `n_episodes` episodes of every policy in every agent's world.

    Args:
        task: a heterogeneous one.
        policies: P >= 1 of them, as many as you like.
        n_episodes: E >= 1 for each pair.
        seed: of the first episode; evaluation seeds begin at 2**31. Episode e has seed + e.
        agents: n indices of `hidden_population.parameters`; None: all agents of the task.
        names: what messages call the policies; by default "policy 0" and so on.
        is_counted: whether these steps are among `steps_made`.

    Raises:
        ValueError: the agents share the dynamics, there are no policies, agents or episodes, a
            policy fails, or it gives actions that are not in the action space; the message names
            policy and value.
    """
    if not task.heterogeneous:
        raise ValueError(f"the agents of {task.id} share the dynamics: use roll_out")
    chosen = list(range(task.n_agents) if agents is None else agents)
    check_integer("n_episodes", n_episodes, 1, 10**6)
    for name, given in (("policies", policies), ("agents", chosen)):
        if not len(given):
            raise ValueError(f"{name} is {given!r}, expected at least one")
    size = max(1, BATCH // (len(policies) * n_episodes))
    parts = []
    for first in range(0, len(chosen), size):
        group = chosen[first : first + size]
        n_rows = len(group) * n_episodes
        played = play(
            task,
            policies,
            [n_rows] * len(policies),
            [seed + episode for _ in policies for _ in group for episode in range(n_episodes)],
            agents=[agent for _ in policies for agent in group for _ in range(n_episodes)],
            names=names,
            is_counted=is_counted,
        )
        values = {"returns": played.returns[:, 0], "lengths": played.lengths, **played.measures}
        shape = (len(policies), len(group), n_episodes)
        parts.append({name: a.reshape(shape).swapaxes(0, 1) for name, a in values.items()})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return PairRollout(joined.pop("returns"), joined.pop("lengths"), joined)


def plays_pairs(task: Task) -> TypeGuard[OnlineTask]:
    """Whether each policy plays in the world of each agent, in episodes of their own."""
    return isinstance(task, OnlineTask) and task.heterogeneous


def percent(task: Task, returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (...) of a heterogeneous task as its welfare.

    100 (V - V1) / (Vown - V1), where V1 is the mean return of one policy for all and Vown that of
    everybody's own, both for the whole population (`single_and_own`): 0 is one for all, 100 is
    everyone's own, and a mean over agents is what it should be, as the same numbers serve all. In
    environments for which they are not measured, the returns themselves.
    """
    known = single_and_own(task.env_id)
    if known is None:
        return returns
    single, own = known
    return np.asarray(100.0 * (returns - single) / (own - single))
