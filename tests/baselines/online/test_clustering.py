"""When the clustering solver's universal policy has converged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from baselines.online import clustering
from baselines.online.clustering import Config, UniversalRule, is_level
from baselines.online.ppo.learner import PPOLearner, train
from rmdp_bench.runs import RunLog
from tests.helpers.online_settings import SMALL as SIZES
from tests.helpers.point_world import point_task

SMALL: dict[str, Any] = {**SIZES}


def test_a_level_curve_has_converged() -> None:
    rising = np.arange(1.0, 21.0)
    assert not is_level(rising, 5, 0.01)
    level = np.concatenate([rising, np.full(10, 20.0)])
    assert is_level(level, 5, 0.01) and not is_level(level[:25], 5, 0.01)
    assert is_level(level[:25], 5, 0.2)  # 18 on average, then 20
    assert is_level(level[::-1], 5, 0.0), "one that falls has converged"
    assert not is_level(np.zeros(50), 5, 0.01), "nothing is learned yet"
    assert not is_level(level[-9:], 5, 0.01), "too short to tell"


def prepare(seeds: list[int], **settings: Any) -> tuple[UniversalRule, PPOLearner]:
    """The pre-training alone, of at most 40 iterations."""
    task = point_task(40 * SMALL["batch_size"], n_representatives=1)
    config = Config(**SMALL, pretraining=1.0, **settings)
    learner = PPOLearner(task, config, seeds, "cpu")
    rule = UniversalRule(learner, config, 2, seeds)
    train(learner, rule, RunLog(task, seeds), prepared=rule.has_clusters)
    return rule, learner


def test_pretraining_ends_by_each_seeds_own_curve() -> None:
    seeds = [0, 1, 2]
    together, learner = prepare(seeds, tolerance=0.05)
    ends = []
    for r, seed in enumerate(seeds):
        alone, own = prepare([seed], tolerance=0.05)
        np.testing.assert_array_equal(together.clusters[r], alone.clusters[0])
        curve = alone.curve[0, : own.iteration]
        assert own.iteration < 40 and is_level(curve, 4, 0.05)
        assert not any(is_level(curve[:t], 4, 0.05) for t in range(own.iteration))
        ends.append(own.iteration)
    assert learner.iteration == max(ends) > min(ends)


def test_pretraining_has_a_cap() -> None:
    rule, learner = prepare([0], tolerance=0.0, window=0.5)
    assert rule.window == 20 and learner.iteration <= 40
    rule, learner = prepare([0], window=0.6)  # two windows never fit
    assert learner.iteration == 40 and rule.has_clusters()


def test_the_cap_is_a_share_of_the_tasks_transitions(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = []

    def remember(universal: Any, *others: Any) -> Any:
        budgets.append((universal.n_representatives, universal.transitions))
        raise InterruptedError

    monkeypatch.setattr(clustering, "clusters", remember)
    task = point_task(10_000)
    for share in (0.5, 0.001):
        with pytest.raises(InterruptedError):
            config = Config(**SMALL, pretraining=share)
            clustering.solve(task, config, [0], "cpu", RunLog(task, [0]))
    assert budgets == [(1, 5_000), (1, SMALL["batch_size"])]


def test_the_policies_pay_for_the_pretraining() -> None:
    task = point_task(10 * SMALL["batch_size"])
    log = RunLog(task, [0])
    clustering.solve(task, Config(**SMALL, pretraining=0.4), [0], "cpu", log)
    k = task.n_representatives
    own = (log.steps_counted or 0) / k
    assert own <= task.transitions, "with the pre-training"
    assert log.transitions <= task.transitions
    assert own > 0.8 * task.transitions - SMALL["batch_size"]
