"""Every policy in every agent's world."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench import Solution, evaluate
from rmdp_bench.evaluation import EVALUATION_SEED, PairRollout, pairs, roll_out, roll_out_pairs
from rmdp_bench.evaluation.pairs import percent
from rmdp_bench.tasks import get_online_task, get_task, heterogeneous_task

GLUCOSE = heterogeneous_task("rmdp/Glucose-n100-v0", 2, n_agents=3, n_eval_episodes=2)
POLES = heterogeneous_task("rmdp/CartPoleHet-n500-v0", 2, n_agents=4)


class Fixed:
    """The same action always."""

    def __init__(self, *action: float) -> None:
        self.action = np.asarray(action, np.float32)

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: Any) -> Any:
        return np.tile(self.action, (len(observations), 1))


class Lean:
    """Pushes the cart to where the pole leans, and later than it could."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: Any) -> Any:
        return (observations[:, 2] + self.gain * observations[:, 3] > 0.0).astype(np.int64)


def assert_equal_rollouts(one: PairRollout, other: PairRollout) -> None:
    assert one.returns.tolist() == other.returns.tolist()
    assert one.lengths.tolist() == other.lengths.tolist()
    for name in one.measures:
        assert one.measures[name].tolist() == other.measures[name].tolist()


@pytest.mark.parametrize("batch", [1, 4_000])
def test_each_pair_has_what_it_has_alone(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """However many play side by side; episodes of different lengths."""
    monkeypatch.setattr(pairs, "BATCH", batch)
    policies = [Lean(0.0), Lean(0.5)]
    found = roll_out_pairs(POLES, policies, n_episodes=3)
    assert found.returns.shape == found.lengths.shape == (4, 2, 3) and not found.measures
    for agent in range(4):
        for j, policy in enumerate(policies):
            for episode in range(3):
                env = gym.make(POLES.env_id)
                observation, _ = env.reset(seed=EVALUATION_SEED + episode, options={"agent": agent})
                total, n_steps, ended = 0.0, 0, False
                while not ended:
                    (action,) = policy.act(observation[np.newaxis])
                    observation, reward, terminated, truncated, _ = env.step(action)
                    total, n_steps = total + float(reward), n_steps + 1
                    ended = terminated or truncated
                assert found.returns[agent, j, episode] == total
                assert found.lengths[agent, j, episode] == n_steps
    assert len(np.unique(found.lengths)) > 3


def test_measures_are_means_over_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    policies = [Fixed(0.8, 0.0), Fixed(1.5, 0.02)]
    found = roll_out_pairs(GLUCOSE, policies, n_episodes=1, agents=[7, 130])
    monkeypatch.setattr(pairs, "BATCH", 1)
    assert_equal_rollouts(found, roll_out_pairs(GLUCOSE, policies, n_episodes=1, agents=[7, 130]))
    env: Any = gym.make(GLUCOSE.env_id).unwrapped
    env.reset(seed=EVALUATION_SEED, options={"agent": 130})
    totals: dict[str, float] = dict.fromkeys(found.measures, 0.0)
    risk = 0.0
    for _ in range(864):
        risk -= env.step(np.array([1.5, 0.02], np.float32))[1]
        for name, values in env.world.measure(np.zeros(1, np.int64)).items():
            totals[name] += values[0]
    assert found.lengths.tolist() == [[[864], [864]]] * 2
    assert found.mean_risk[1, 1] == pytest.approx(risk / 864)
    assert set(totals) == {
        "unweighted_risk",
        *(f"time_{w}_range" for w in ("in", "below", "above")),
    }
    for name, total in totals.items():
        assert found.measures[name][1, 1, 0] == pytest.approx(total / 864)


def test_a_solution_is_evaluated_on_pairs() -> None:
    """V[i, j] in percent between one for all and everyone's own, where both are known."""
    solution = Solution([Fixed(0.8, 0.0), Fixed(1.5, 0.0)], np.eye(2)[[0, 1, 1]])
    evaluation = evaluate(GLUCOSE, solution)
    assert evaluation.episode_lengths.tolist() == [[864] * 2] * 2
    raw = roll_out_pairs(GLUCOSE, solution.policies, n_episodes=2)
    assert evaluation.episode_returns.shape == (3, 2, 2)
    assert evaluation.episode_returns.tolist() == percent(GLUCOSE, raw.returns).tolist()
    np.testing.assert_allclose(
        evaluation.welfare_matrix, evaluation.episode_returns.mean(axis=2), rtol=1e-12
    )


def test_percent_is_linear_between_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.array([[-6_000.0, -4_500.0], [-3_000.0, -7_500.0]])
    monkeypatch.setattr(pairs, "single_and_own", lambda env_id: (-6_000.0, -3_000.0))
    assert percent(GLUCOSE, returns).tolist() == [[0.0, 50.0], [100.0, -50.0]]
    monkeypatch.setattr(pairs, "single_and_own", lambda env_id: None)
    assert percent(GLUCOSE, returns) is returns


def test_what_is_refused() -> None:
    represented = get_online_task("ResourceGathering-n25-k3-v0")
    with pytest.raises(ValueError, match="share the dynamics: use roll_out"):
        roll_out_pairs(represented, [], n_episodes=1)
    with pytest.raises(ValueError, match="not recorded"):
        roll_out(GLUCOSE, [Fixed(1.0, 0.0)], n_episodes=1, record=True)
    with pytest.raises(ValueError, match="policy 1: component 0 of its action is 7.0"):
        roll_out_pairs(GLUCOSE, [Fixed(1.0, 0.0), Fixed(7.0, 0.0)], n_episodes=1)


@pytest.mark.parametrize(
    ("env_id", "k", "keywords", "message"),
    [
        ("rmdp/ResourceGathering-n25-v0", 2, {}, "share the dynamics"),
        (
            "rmdp/Glucose-n100-v0",
            0,
            {},
            "n_representatives is 0, expected an integer from 1 to 100",
        ),
        ("rmdp/Glucose-n100-v0", 4, {"n_agents": 3}, "n_representatives is 4, .* from 1 to 3"),
        ("rmdp/Glucose-n100-v0", 2, {"n_agents": 101}, "n_agents is 101, .* from 1 to 100"),
        ("rmdp/Glucose-n100-v0", 2, {"n_eval_episodes": 0}, "n_eval_episodes is 0"),
        ("rmdp/Nothing-v0", 2, {}, "there is no environment 'rmdp/Nothing-v0'"),
    ],
)
def test_bad_tasks(env_id: str, k: int, keywords: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heterogeneous_task(env_id, k, **keywords)


@pytest.mark.parametrize(
    ("policies", "changes", "message"),
    [
        ([], {}, r"policies is \[\], expected at least one"),
        ([Lean(0.0)], {"n_episodes": 0}, "n_episodes is 0, expected an integer from 1"),
        ([Lean(0.0)], {"agents": []}, r"agents is \[\], expected at least one"),
    ],
)
def test_nothing_to_play(policies: list[Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roll_out_pairs(POLES, policies, **{"n_episodes": 1} | changes)


def test_a_task_has_one_id() -> None:
    """However it is named; whatever makes it another one is in its id."""
    env_id = "rmdp/Glucose-n100-v0"
    assert heterogeneous_task(env_id, 2) == get_online_task("Glucose-n100-k2-v0")
    assert heterogeneous_task(env_id, 4) == get_task("Glucose-n100-v0", 4)
    others = [
        heterogeneous_task(env_id, 2, n_agents=n, n_eval_episodes=e)
        for n, e in ((3, 2), (3, 3), (4, 2))
    ]
    assert len({task.id for task in others}) == 3 and GLUCOSE == others[0]
    assert all(task.id.startswith("Glucose-n100-v0-custom-") and task.unranked for task in others)


def test_populations_of_both_kinds() -> None:
    with pytest.raises(AttributeError, match="differ in dynamics .* use hidden_population"):
        _ = GLUCOSE.population
    assert GLUCOSE.hidden_population.n_agents == 100
    with pytest.raises(AttributeError, match="share the dynamics: use population"):
        _ = get_online_task("ResourceGathering-n25-k3-v0").hidden_population
