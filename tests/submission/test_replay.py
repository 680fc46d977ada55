"""Rows of a batch are independent: policies that cheat by the batch are found, others are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rmdp_bench.evaluation import evaluate, play
from rmdp_bench.evaluation.offline import evaluate_offline, normalise
from rmdp_bench.solution import OnnxPolicy, Solution
from rmdp_bench.solution.policies import OpenGraph
from rmdp_bench.submission import replay
from rmdp_bench.submission.replay import BATCH_SIZES, play_shuffled
from rmdp_bench.tasks import get_offline_task, get_online_task, heterogeneous_task
from tests.helpers.hostile_toys import graph, put
from tests.helpers.submission_toys import ROW, copy_of, refused
from tests.helpers.toys import ScriptedPolicy, constant, linear_graph, make_graph

GRID = get_online_task("ResourceGathering-n25-k3-v0")
CART_POLE = get_offline_task("CartPoleHet-n500-pure-v1")
HOPPER = get_online_task("HopperVel-n100-k1-v0")
KNOWN, HELD_OUT = 2**31, 2**40
EPISODES = {"known": (KNOWN, 20), "held_out": (HELD_OUT, 45)}
WEIGHTS = np.random.default_rng(0).normal(size=(27, 4))
Array = NDArray[Any]
Act = Callable[[Array, Array], Array]
"""Observations (E, d), honest actions (E,) -> actions."""


class BatchPolicy:
    """Acts by a function of the whole batch."""

    def __init__(self, act: Act, seed: int = 0) -> None:
        self._act, self._weights = act, np.random.default_rng(seed).normal(size=(27, 4))

    def reset(self, n_envs: int) -> None: ...

    def act(self, observations: Array) -> Array:
        best = (observations @ self._weights).argmax(axis=1)
        return self._act(observations, best)


def where(condition: Any, best: Array) -> Array:
    """Not the honest action where the condition holds."""
    return np.where(condition, (best + 1) % 4, best)


class ByBatchSize:
    """Pushes left in small batches, right in others."""

    def reset(self, n_envs: int) -> None: ...

    def act(self, observations: Array) -> Array:
        return np.full(len(observations), int(len(observations) > 16))


class Forgetful:
    """Another action each time it is asked the same."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, observations: Array, best: Array) -> Array:
        self.calls += 1
        return where(self.calls % 7 == 0, best)


def row(observations: Array) -> Array:
    return np.arange(len(observations))


def copies(observations: Array) -> Array:
    _, place, count = np.unique(observations, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[np.ravel(place)])


CHEATS: dict[str, Act] = {
    "by size and place": lambda o, best: where((len(o) == 40) & (row(o) < 28), best),
    "by size": lambda o, best: where(len(o) > 30, best),
    "by an exact size": lambda o, best: where(len(o) == 1, best),
    "by an even size": lambda o, best: where(len(o) % 2 == 0, best),
    "by place": lambda o, best: where(row(o) >= 20, best),
    "the last row": lambda o, best: where(row(o) == len(o) - 1, best),
    "the first row": lambda o, best: where(row(o) == 0, best),
    "every third row": lambda o, best: where(row(o) % 3 == 0, best),
    "the row before": lambda o, best: np.roll(best, 1),
    "what most rows do": lambda o, best: np.full(len(o), np.bincount(best).argmax()),
    "by the mean of the batch": lambda o, best: where(o[:, 1] > o[:, 1].mean(), best),
    "by its greatest entry": lambda o, best: where((o == o.max(axis=0)).all(axis=1), best),
    "by rows that are there twice": lambda o, best: where(copies(o) > 1, best),
    "by rows that are there once": lambda o, best: where(copies(o) == 1, best),
    "by who else is there": lambda o, best: where((o[:, 0] > 0).any() & (o[:, 1] > 0).any(), best),
    "in some order": lambda o, best: where(np.lexsort(o.T)[0] == 0, best),
    "by chance": Forgetful(),
}


def solution_of(act: Act) -> Solution:
    policies = [BatchPolicy(act, seed) for seed in range(3)]
    return Solution(policies, np.eye(3)[np.arange(25) % 3])


@pytest.mark.parametrize("case", CHEATS)
def test_a_policy_that_acts_by_the_batch_is_refused(case: str) -> None:
    with pytest.raises(ValueError, match="policy . acts by more than the observation"):
        play_shuffled(GRID, solution_of(CHEATS[case]), EPISODES, np.random.default_rng(0))


def test_honest_policies_get_what_scoring_gives_them() -> None:
    solution = solution_of(lambda observations, best: best)
    played = play_shuffled(GRID, solution, EPISODES, np.random.default_rng(0))
    for name, (seed, number) in EPISODES.items():
        returns = evaluate(GRID, solution, n_episodes=number, seed=seed).episode_returns
        np.testing.assert_allclose(played[name].entries, returns.mean(axis=2).ravel())
        welfare = np.einsum("nke,nk->e", returns, solution.assignment) / 25
        np.testing.assert_allclose(played[name].welfare, welfare)


def test_offline_every_agent_has_its_policy() -> None:
    solution = Solution([ScriptedPolicy([0]), ScriptedPolicy([1])], np.eye(2)[[0, 1, 1, 0, 1]])
    played = play_shuffled(CART_POLE, solution, EPISODES, np.random.default_rng(0))
    agents = CART_POLE.eval_agents
    for name, (seed, number) in EPISODES.items():
        returns = evaluate_offline(CART_POLE, solution, n_episodes=number, seed=seed).returns
        percent = np.array([normalise(CART_POLE, agents, episode) for episode in returns.T])
        np.testing.assert_allclose(played[name].entries, percent.mean(axis=0))
        np.testing.assert_allclose(played[name].welfare, percent.mean(axis=1))


def test_agents_who_differ_live_with_every_policy_in_the_known_episodes() -> None:
    task = heterogeneous_task("rmdp/CartPoleHet-n500-v0", 2, n_agents=4)
    assignment = np.eye(2)[[0, 1, 1, 1]]
    solution = Solution([ScriptedPolicy([0]), ScriptedPolicy([1])], assignment)
    groups = {"known": (KNOWN, 7), "held_out": (HELD_OUT, 20)}
    rng = np.random.default_rng(0)
    played = play_shuffled(task, solution, groups, rng, welfare_only=["held_out"])
    for name, (seed, number) in groups.items():
        returns = evaluate(task, solution, n_episodes=number, seed=seed).episode_returns
        welfare = np.einsum("nke,nk->e", returns, assignment) / 4
        np.testing.assert_allclose(played[name].welfare, welfare)
        expected = returns.mean(axis=2) * (assignment if name == "held_out" else 1.0)
        np.testing.assert_allclose(played[name].entries, expected.ravel())
    assert len(set(played["held_out"].welfare)) > 1


def test_a_policy_that_acts_by_the_batch_is_refused_in_every_agents_world() -> None:
    task = heterogeneous_task("rmdp/CartPoleHet-n500-v0", 1, n_agents=4)
    solution = Solution([ByBatchSize()], np.ones((4, 1)))
    with pytest.raises(ValueError, match="policy 0 acts by more than the observation"):
        play_shuffled(task, solution, EPISODES, np.random.default_rng(0), welfare_only=["held_out"])


def test_known_and_held_out_episodes_share_batches_of_changing_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[list[list[int]]] = []

    def spy(task: Any, policies: Any, n_rows: Any, seeds: Any, **keywords: Any) -> Any:
        ends = np.cumsum(n_rows)[:-1]
        batches.append([list(part) for part in np.split(np.asarray(seeds), ends)])
        return play(task, policies, n_rows, seeds, **keywords)

    monkeypatch.setattr(replay, "play", spy)
    solution, sizes = solution_of(lambda observations, best: best), set()
    for entropy in range(4):
        batches.clear()
        play_shuffled(GRID, solution, EPISODES, np.random.default_rng(entropy))
        wanted = sorted([*range(KNOWN, KNOWN + 20), *range(HELD_OUT, HELD_OUT + 45)])
        for policy in range(3):
            assert sorted(seed for batch in batches for seed in batch[policy]) == wanted
        first = batches[0]
        assert first[0] != first[1]  # each policy's rows have an order of their own
        assert min(first[0]) < HELD_OUT <= max(first[0])
        assert first[0] != sorted(first[0])
        sizes |= {len(batch[0]) for batch in batches}
        assert max(sizes) <= BATCH_SIZES[1]
    assert len(sizes) > 3


def asked(policy: Any, observations: Array) -> None:
    one = replay._Asked(policy, policy, "policy 0", np.zeros(len(observations), bool),
                        np.random.default_rng(0))  # fmt: skip
    one.act(observations)
    one.ask_again()


class Rounding:
    """Compares a sum with a threshold; the sum's last bits depend on the size of the batch."""

    def act(self, observations: Array) -> Array:
        sums = observations.sum(axis=1) * (1.0 + 1e-8 * (len(observations) % 2))
        return np.where(sums > 3.0, 1, 0)


def test_the_last_bits_may_turn_a_choice_but_not_many() -> None:
    observations = np.random.default_rng(0).uniform(2.0, 4.0, size=(400, 1))
    asked(Rounding(), observations)
    observations[0] = 3.0
    asked(Rounding(), observations)
    observations[:40] = 3.0
    with pytest.raises(ValueError, match="acts by more than the observation"):
        asked(Rounding(), observations)


class Deep:
    """Decides by what its layers add up, which is larger than what it sees, and rounds with it."""

    def act(self, observations: Array) -> Array:
        size = 50.0 * 1e-7 * (len(observations) == 1)
        return np.where(observations.sum(axis=1) > size, 1, 0)


def test_rounding_inside_of_a_network_is_rounding() -> None:
    """The last bits of a small observation explain less than those of a large activation."""
    observations = np.random.default_rng(0).normal(size=(60, 1))
    observations[0] = 2e-6
    asked(Deep(), observations)
    observations[:30] = 2e-6
    with pytest.raises(ValueError, match="acts by more than the observation"):
        asked(Deep(), observations)


class Valued(OnnxPolicy):
    """Compares two large values; alone, the last bit of one of their weights is another."""

    def __init__(self, weight: float, last_bit: float) -> None:
        self.alone = self._open([weight, last_bit])
        super().__init__(self._open([last_bit, weight]), None, "values")

    def _open(self, first: list[float]) -> OpenGraph:
        nodes = [
            helper.make_node("MatMul", ["observation", "weights"], ["values"]),
            helper.make_node("ArgMax", ["values"], ["action"], axis=1, keepdims=0),
        ]
        tensors = [constant("weights", [first, [0.1, -0.1]])]
        outputs: dict[str, tuple[int, list[Any]]] = {"action": (TensorProto.INT64, ["E"])}
        return OpenGraph(make_graph(nodes, tensors=tensors, outputs=outputs), "values")

    def act(self, observations: Array) -> Array:
        if len(observations) > 1:
            return super().act(observations)
        return OnnxPolicy(self.alone, None, "alone").act(observations)


def test_rounding_of_large_values_is_rounding() -> None:
    """They differ by little, and what is seen explains nothing: the weights round."""
    weight = np.float32(70.1)
    policy = Valued(float(weight), float(np.nextafter(weight, np.float32(100.0))))
    observations = np.ones((60, 2), np.float32)
    observations[:, 1] = np.random.default_rng(0).uniform(0.5, 1.0, size=60)
    observations[0, 1] = 0.0
    asked(policy, observations)
    observations[:30, 1] = 0.0
    with pytest.raises(ValueError, match="acts by more than the observation"):
        asked(policy, observations)


def test_nudged_episodes_have_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_nudge", lambda observations, *_: observations)
    weights = 3.0 * np.random.default_rng(1).normal(size=(11, 3))
    policy = OnnxPolicy(OpenGraph(linear_graph(weights), "linear"), None, "linear")
    solution = Solution([policy], np.ones((100, 1)))
    groups = {"plain": (KNOWN, 4), "nudged": (KNOWN, 4)}
    played = play_shuffled(HOPPER, solution, groups, np.random.default_rng(0), ["nudged"])
    changes = np.abs(played["nudged"].welfare - played["plain"].welfare)
    assert changes.max() > 0.0


@pytest.mark.parametrize(("difference", "passes"), [(5e-5, True), (5e-4, False)])
def test_actions_agree_to_a_tolerance(difference: float, passes: bool) -> None:
    class Off:
        def act(self, observations: Array) -> Array:
            return np.tanh(observations) + difference * (len(observations) == 1)

    if passes:
        asked(Off(), np.linspace(-1, 1, 50)[:, None])
        return
    with pytest.raises(ValueError, match="when asked about a batch of 1"):
        asked(Off(), np.linspace(-1, 1, 50)[:, None])


def test_nudged_episodes_change_where_physics_is_chaotic() -> None:
    class Swing:
        def reset(self, n_envs: int) -> None: ...

        def act(self, observations: Array) -> Array:
            return np.tanh(3.0 * observations @ np.random.default_rng(1).normal(size=(11, 3)))

    solution = Solution([Swing()], np.ones((100, 1)))
    groups = {"plain": (KNOWN, 4), "again": (KNOWN, 4), "nudged": (KNOWN, 4)}
    played = play_shuffled(HOPPER, solution, groups, np.random.default_rng(0), ["nudged"])
    assert np.abs(played["nudged"].entries - played["plain"].entries).max() > 0.0
    honest = solution_of(lambda observations, best: best)
    played = play_shuffled(GRID, honest, groups, np.random.default_rng(0), ["nudged"])
    np.testing.assert_array_equal(played["nudged"].welfare, played["plain"].welfare)


def batch_graph(size: int, n_rows: int) -> bytes:
    """action = Where(E == size and row < n_rows, 0, good)."""
    nodes = [
        helper.make_node("MatMul", ["observation", "weights"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["good"], axis=1, keepdims=0),
        helper.make_node("Shape", ["observation"], ["shape"], end=1),
        helper.make_node("Squeeze", ["shape"], ["rows"]),
        helper.make_node("Range", ["zero", "rows", "one"], ["row"]),
        helper.make_node("Less", ["row", "limit"], ["early"]),
        helper.make_node("Equal", ["rows", "size"], ["exact"]),
        helper.make_node("And", ["early", "exact"], ["now"]),
        helper.make_node("Where", ["now", "zero", "good"], ["action"]),
    ]
    tensors = [constant("weights", WEIGHTS)]
    numbers = {"zero": 0, "one": 1, "limit": n_rows, "size": size}
    tensors += [constant(name, value, np.int64) for name, value in numbers.items()]
    return graph(*nodes, tensors=tensors, outputs={"action": (TensorProto.INT64, ["E"])})


def test_a_graph_that_sees_the_batch_is_refused(
    honest_submission: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever sizes the held-out episodes are played in, one of the questions has its size."""
    folder = copy_of(honest_submission, tmp_path)
    put(f"{ROW}/seed-0/solution/policy-1.onnx", batch_graph(40, 28))(folder)
    message = refused(capsys, "verify", str(folder), "--full")
    where = f"{ROW}/seed-0: policy 1"
    assert f"{where} acts by more than the observation" in message
