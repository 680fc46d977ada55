"""Playing policies so that nothing tells them which episodes count.

A policy is a function of one observation.  A graph sees a batch of them, though, and could act by
where a row stands, by how many there are, or by what else is in the batch.  So

  - the episodes that everybody knows and those that nobody could know are shuffled together and
    played in batches of changing sizes, each policy's rows in an order of their own;
  - at steps that are chosen by chance the policy is asked again about the observations it has just
    acted on: the same batch twice, in another order, parts of it, with other company, each row
    alone, and batches of every size.  All answers must be the same action.

Compared are actions on identical observations, never returns: physics makes large differences of
small ones.  Two ways to add up the same numbers differ in their last bits, which may turn a choice
between two actions that are worth the same; that is told from the rest by asking policies whose
weights differ in their last bits about observations that do (`_is_rounding`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation import play
from rmdp_bench.evaluation.offline import check_one_policy_each, normalise
from rmdp_bench.evaluation.pairs import percent, plays_pairs
from rmdp_bench.evaluation.playing import check_episodes
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.solution.policies import nudge_policies
from rmdp_bench.tasks import OnlineTask, Task

FloatArray = NDArray[np.float64]

ACTION_TOLERANCE = 1e-4
"""Between two actions of the same policy for the same observation."""
NUDGE = 1e-5
"""Change that stands for the rounding of another processor or batch: of every number of an
observation, of its own size and that of what others see in its place, and of every weight.  It is
eighty times the spacing of float32: a network rounds in every layer, and what follows from a nudge
must not be less than that.  Of the board's policies, those that choose by values (bcq, cql) round
most, for these are large and differ by little: nudging moves them three times as far.  Nudged
observations alone would move them half as far."""
BATCH_SIZES = (24, 64)
"""Least and greatest number of episodes that a policy plays side by side, for each agent who has it
offline; the last batch of a round may be smaller."""
PAIR_BATCH_SIZES = (4, 12)
"""The same where every policy plays in the world of each of n agents."""
QUESTION_STEPS = 24
"""Steps of a batch that are asked about again, beside the first."""
MAX_ALONE = 64
"""Rows of a step that are asked about alone."""
_ROUNDING_SHARE = 1e-3
"""Of all answers may be another action for no reason but rounding."""
_N_NUDGES = (16, 4)
"""Of the weights, and of the observation for each of these."""


@dataclass(frozen=True)
class EpisodeReturns:
    """What some episodes of one solution gave, in percent.

    Attributes:
        welfare: (E,) social welfare of each episode: every agent with the policy it is assigned to.
        entries: (m,) mean over episodes, of every agent under every policy, m = n k; offline of the
            scored agents, m = A. Of groups in `welfare_only`, 0 for pairs that were not played.
    """

    welfare: FloatArray
    entries: FloatArray


@dataclass(frozen=True)
class _Cell:
    """What is played in an episode: a policy, and the agent who lives in it if their worlds differ.

    Attributes:
        counts: whether the welfare depends on it.
    """

    policy: int
    agent: int | None
    counts: bool = True


def play_shuffled(
    task: Task,
    solution: Solution,
    episodes: Mapping[str, tuple[int, int]],
    rng: np.random.Generator,
    nudged: Collection[str] = (),
    welfare_only: Collection[str] = (),
) -> dict[str, EpisodeReturns]:
    """Play groups of episodes, mixed, and ask the policies again about what they have seen.

    Args:
        task: what the solution is for.
        solution: policies without memory.
        episodes: name of a group -> seed of its first episode, number of episodes.
        rng: shuffles; nothing else depends on it.
        nudged: groups in which observations and weights are changed by `NUDGE`; policies are not
            asked again about them.
        welfare_only: groups in which pairs of an agent and a policy that nobody assigned to
            them are left out where each pair has its own episodes. No policy sees who else plays.

    Raises:
        ValueError: the solution does not fit the task, a policy fails, or it acts by more than the
            observation; the message names the policy.
    """
    for first, number in episodes.values():
        check_episodes(task, number, first)
    cells, weights = _cells(task, solution)
    all_episodes = [
        (name, first + e) for name, (first, number) in episodes.items() for e in range(number)
    ]
    welfare = np.empty(len(all_episodes))
    totals = {name: np.zeros(len(weights)) for name in episodes}
    sizes = PAIR_BATCH_SIZES if plays_pairs(task) else BATCH_SIZES
    for batch in _cut(rng.permutation(len(all_episodes)), sizes, rng):
        own = [all_episodes[place] for place in batch]
        returns = _play_batch(task, solution, cells, own, nudged, welfare_only, rng)
        welfare[batch] = returns @ weights
        for (name, _), row in zip(own, returns, strict=True):
            totals[name] += row
    played, start = {}, 0
    for name, (_, number) in episodes.items():
        played[name] = EpisodeReturns(welfare[start : start + number], totals[name] / number)
        start += number
    return played


def _cells(task: Task, solution: Solution) -> tuple[list[_Cell], FloatArray]:
    """What is played in every episode, and the weight (m,) of every entry in the welfare."""
    if isinstance(task, OnlineTask):
        shape = (task.n_agents, task.n_representatives)
        if solution.assignment.shape != shape:
            raise ValueError(
                f"the assignment has shape {solution.assignment.shape}, expected {shape}"
            )
        weights = solution.assignment.ravel() / task.n_agents
        if not task.heterogeneous:
            return [_Cell(j, None) for j in range(task.n_representatives)], weights
        pairs = np.ndindex(shape)
        return [_Cell(j, i, w > 0.0) for (i, j), w in zip(pairs, weights, strict=True)], weights
    agents = task.eval_agents
    check_one_policy_each(solution, agents)
    policies = solution.assignment.argmax(axis=1).tolist()
    cells = [_Cell(j, agent) for j, agent in zip(policies, agents, strict=True)]
    return cells, np.full(len(agents), 1.0 / len(agents))


def _cut(
    order: NDArray[np.int64], sizes: tuple[int, int], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Batches of changing sizes."""
    batches, start = [], 0
    least, greatest = sizes
    while start < len(order):
        size = int(rng.integers(least, greatest + 1))
        batches.append(order[start : start + size])
        start += size
    return batches


def _play_batch(
    task: Task,
    solution: Solution,
    cells: Sequence[_Cell],
    episodes: Sequence[tuple[str, int]],
    nudged: Collection[str],
    welfare_only: Collection[str],
    rng: np.random.Generator,
) -> FloatArray:
    """Returns (episodes, m) of episodes side by side; policies are asked again afterwards."""
    rows_of: dict[int, list[tuple[int, int]]] = {}
    for c, cell in enumerate(cells):
        for e, (group, _) in enumerate(episodes):
            if cell.counts or group not in welfare_only:
                rows_of.setdefault(cell.policy, []).append((c, e))
    used = sorted(rows_of)
    policies = [solution.policies[j] for j in used]
    others = nudge_policies(policies, NUDGE, rng) if nudged else policies
    asked, rows = [], []
    for j, policy, other in zip(used, policies, others, strict=True):
        own = [rows_of[j][place] for place in rng.permutation(len(rows_of[j]))]
        mask = np.array([episodes[e][0] in nudged for _, e in own])
        asked.append(_Asked(policy, other, f"policy {j}", mask, rng))
        rows.append(own)
    flat = [row for own in rows for row in own]
    agents = [agent for c, _ in flat if (agent := cells[c].agent) is not None]
    played = play(
        task,
        asked,
        [len(own) for own in rows],
        [episodes[e][1] for _, e in flat],
        agents=agents or None,
        names=[questioned.name for questioned in asked],
    )
    for questioned in asked:
        questioned.ask_again()
    returns = np.zeros((len(episodes), len(cells), played.returns.shape[1]))
    scored = percent(task, played.returns) if plays_pairs(task) else played.returns
    for (c, e), values in zip(flat, scored, strict=True):
        returns[e, c] = values
    if isinstance(task, OnlineTask):
        return returns.swapaxes(1, 2).reshape(len(episodes), -1)  # agent by agent, as a matrix
    return np.array([normalise(task, task.eval_agents, episode) for episode in returns[:, :, 0]])


class _Asked:
    """A policy that remembers some of what it has seen and done, to be asked again."""

    def __init__(
        self,
        policy: Policy,
        other: Policy,
        name: str,
        nudged: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> None:
        self.name = name
        self._policy = policy
        self._other = other  # acts in the episodes that are nudged
        self._nudged = nudged
        self._rng = rng
        self._n_steps = 0
        self._first: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._kept: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._n_answers = self._n_rounded = 0
        self._typical: FloatArray = np.zeros(0)

    def reset(self, n_envs: int) -> None:
        self._policy.reset(n_envs)
        self._other.reset(n_envs)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        if not self._nudged.any():
            actions = self._policy.act(observations)
            self._keep(observations, actions)
            return actions
        nudged = _nudge(observations, _typical(observations), self._rng)
        if self._nudged.all():
            return self._other.act(nudged)
        plain = ~self._nudged
        actions = np.array(self._policy.act(observations))
        self._keep(observations[plain], actions[plain])
        actions[self._nudged] = self._other.act(nudged)[self._nudged]
        return actions

    def _keep(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """Keep the first step, and of the others each with the same chance."""
        step, self._n_steps = self._n_steps, self._n_steps + 1
        place = step - 1 if step <= QUESTION_STEPS else int(self._rng.integers(step))
        if 0 < step and place >= QUESTION_STEPS:
            return
        pair = (np.array(observations), np.array(actions))
        if step == 0:
            self._first = pair
        elif place < len(self._kept):
            self._kept[place] = pair
        else:
            self._kept.append(pair)

    def ask_again(self) -> None:
        """Ask about what was kept, in other ways.

        Raises:
            ValueError: the answers are not the actions that were taken.
        """
        rng, seen = self._rng, [*([self._first] if self._first else []), *self._kept]
        if not seen:
            return
        company, taken = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        self._typical = _typical(company)
        for size in range(1, BATCH_SIZES[1] + 1):
            rows = rng.integers(len(company), size=size)
            self._compare(f"a batch of {size}", company, taken, rows)
        for observations, actions in seen:
            everybody = np.arange(len(observations))
            self._compare("the same batch again", observations, actions, everybody)
            shuffled = rng.permutation(everybody)
            self._compare("its rows in another order", observations, actions, shuffled)
            cuts = np.sort(rng.integers(len(everybody) + 1, size=3))
            for part in np.split(rng.permutation(everybody), cuts):
                if len(part):
                    self._compare(f"{len(part)} of its rows", observations, actions, part)
            n_others = int(rng.integers(1, len(company) + 1))
            others = company[rng.integers(len(company), size=n_others)]
            self._compare("other company", observations, actions, shuffled, others)
            for row in shuffled[:MAX_ALONE]:
                self._compare("the row alone", observations, actions, np.array([row]))

    def _compare(
        self,
        way: str,
        observations: NDArray[Any],
        actions: NDArray[Any],
        rows: NDArray[np.int64],
        others: NDArray[Any] | None = None,
    ) -> None:
        """Ask about some rows, with others behind them, and compare with what was done."""
        batch = (
            observations[rows] if others is None else np.concatenate((observations[rows], others))
        )
        answers = np.asarray(self._act(batch))
        if answers.shape != (len(batch), *actions.shape[1:]):
            raise ValueError(
                f"{self.name} gives actions of shape {answers.shape} for {len(batch)} observations"
            )
        self._n_answers += len(rows)
        for place in np.flatnonzero(~_same(actions[rows], answers[: len(rows)])):
            observation, action = observations[rows[place]], actions[rows[place]]
            self._n_rounded += 1
            rounded = self._is_rounding(observation, action, answers[place])
            if not rounded or self._n_rounded > 1 + _ROUNDING_SHARE * self._n_answers:
                raise ValueError(
                    f"{self.name} acts by more than the observation: on the same one it gave "
                    f"{_short(action)} first and {_short(answers[place])} when asked about {way}; "
                    f"rows of a batch must be independent"
                )

    def _is_rounding(
        self, observation: NDArray[Any], one: NDArray[Any], other: NDArray[Any]
    ) -> bool:
        """Whether both actions are given, row by row, by what rounds to this policy and row."""
        n_policies, n_rows = _N_NUDGES
        copies = np.repeat(observation[np.newaxis], n_rows, axis=0)
        parts = []
        for _ in range(n_policies):
            (policy,) = nudge_policies([self._policy], NUDGE, self._rng)
            nudged = _nudge(copies, self._typical, self._rng)
            parts += [np.asarray(self._act(row[np.newaxis], policy)) for row in nudged]
        answers = np.concatenate(parts)
        if answers.dtype.kind in "iu":
            return bool((answers == one).any() and (answers == other).any())
        low, high = answers.min(axis=0) - ACTION_TOLERANCE, answers.max(axis=0) + ACTION_TOLERANCE
        return all(bool(((a >= low) & (a <= high)).all()) for a in (one, other))

    def _act(self, observations: NDArray[Any], policy: Policy | None = None) -> NDArray[Any]:
        try:
            return (policy or self._policy).act(observations)
        except Exception as error:
            raise ValueError(f"{self.name} fails when it is asked again: {error}") from error


def _typical(observations: NDArray[Any]) -> FloatArray:
    """Mean size (d,) of each number of observations (E, d), of those that are finite."""
    sizes: FloatArray = np.abs(np.where(np.isfinite(observations), observations, 0.0)).mean(axis=0)
    return sizes


def _nudge(
    observations: NDArray[Any], typical: FloatArray, rng: np.random.Generator
) -> NDArray[Any]:
    sizes = np.abs(observations) + typical
    changes = NUDGE * sizes * rng.uniform(-1.0, 1.0, size=observations.shape)
    nudged: NDArray[Any] = (observations + changes).astype(observations.dtype)
    return nudged


def _same(taken: NDArray[Any], answers: NDArray[Any]) -> NDArray[np.bool_]:
    """For each row (B,) whether both are the same choice, or numbers within the tolerance.

    Rows whose episode is over may hold anything, NaN too.
    """
    if taken.dtype.kind in "iu":
        equal = taken == answers
    else:
        equal = (np.abs(taken - answers) <= ACTION_TOLERANCE) | (
            np.isnan(taken) & np.isnan(answers)
        )
    same: NDArray[np.bool_] = equal.reshape(len(taken), -1).all(axis=1)
    return same


def _short(action: NDArray[Any]) -> str:
    return ", ".join(f"{value:.6g}" for value in np.ravel(action)[:4])
