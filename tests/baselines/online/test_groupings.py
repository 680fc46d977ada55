"""How `parameter_cover` and `affinity_grouping` find their groups."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from baselines.online import affinity_grouping, parameter_cover
from baselines.online.affinity_grouping import (
    adapt,
    estimate_affinities,
    group_by_affinity,
    policy_gradients,
)
from baselines.online.parameter_cover import cover_groups, greedy_cover, least_radius
from baselines.online.ppo.learner import PPOLearner
from baselines.online.ppo.networks import forward
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import get_online_task
from tests.helpers.online_settings import SETTINGS
from tests.helpers.online_settings import SMALL as SIZES
from tests.helpers.point_world import point_task

SMALL: dict[str, Any] = {**SIZES}
LINE = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 3.0])[:, None]


def test_balls_hold_as_many_as_they_can() -> None:
    centres, held = greedy_cover(LINE, 2, 0.1)
    np.testing.assert_allclose(centres, [[0.1], [1.1]])  # its lower end is at an agent
    assert held == 5
    assert greedy_cover(LINE, 3, 0.1)[1] == 6
    centres, held = greedy_cover(LINE, 2, 3.0)
    assert held == 6 and (centres == centres[0]).all(), "nobody is left for the second"
    square = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0], [5.0, 5.5]])
    centres, held = greedy_cover(square, 1, 0.5)
    np.testing.assert_array_equal(centres, [[5.0, 5.5]])
    assert held == 3 and greedy_cover(square, 2, 1.0)[1] == 5


def test_the_radius_is_the_least_that_holds_the_share() -> None:
    assert least_radius(LINE, 2, 5 / 6) == pytest.approx(0.1)
    assert least_radius(LINE, 3, 1.0) == pytest.approx(0.1)
    assert least_radius(LINE, 1, 1.0) == pytest.approx(1.5)
    assert least_radius(LINE, 6, 1.0) == 0.0
    targets = get_online_task("HalfCheetahVel-n100-k5-v0").population.preferences
    whole, most = (least_radius(targets, 5, share) for share in (1.0, 0.8))
    assert most < whole < np.ptp(targets) / 5
    assert greedy_cover(targets, 5, whole)[1] == 100 > greedy_cover(targets, 5, most)[1] >= 80


def test_everybody_joins_the_nearest_ball_and_ties_are_even() -> None:
    config = parameter_cover.Config(coverage=5 / 6)
    groups = cover_groups(LINE, 2, config, np.random.default_rng(0))
    np.testing.assert_array_equal(groups, [0, 0, 0, 1, 1, 1])
    fixed = cover_groups(LINE, 2, parameter_cover.Config(radius=3.0), np.random.default_rng(0))
    assert np.bincount(fixed, minlength=2).tolist() == [3, 3], "both balls hold all"
    tiles = np.eye(25)
    draws = [cover_groups(tiles, 3, config, np.random.default_rng(seed)) for seed in (0, 1)]
    assert all(sorted(np.bincount(own).tolist()) == [8, 8, 9] for own in draws)
    assert (draws[0] != draws[1]).any()


@pytest.mark.parametrize(
    ("settings", "message"), [({"coverage": 0.0}, "coverage is 0.0"), ({"radius": -1.0}, "radius")]
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameter_cover.Config(**settings)


def toy_batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (M, d) and advantages (M, 8) of two kinds of agents who want opposite things."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((400, 3))
    wanted = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])[[0, 1, 0, 1, 0, 1, 0, 1]]
    advantages = features @ wanted.T + 0.5 * generator.standard_normal((400, 8))
    return features, advantages


def test_an_adaptation_follows_the_advantages() -> None:
    features, advantages = toy_batch()
    change = adapt(features, advantages[:, 0], 1e-3)
    assert change[0] > 0.5 > np.abs(change[1:]).max()
    assert adapt(features, -advantages[:, 0], 1e-3)[0] < -0.5
    weak = adapt(features, advantages[:, 0], 1.0)
    assert 0.0 < np.linalg.norm(weak) < np.linalg.norm(change)
    for nothing in (np.zeros(400), np.ones(400)):  # nothing tells transitions apart
        np.testing.assert_array_equal(adapt(features, nothing, 1e-3), np.zeros(3))


def test_agents_who_gain_together_are_grouped() -> None:
    config = affinity_grouping.Config(n_subsets=60, subset_share=0.4)
    affinities = estimate_affinities(*toy_batch(), config, np.random.default_rng(0))
    assert affinities[0, 2] > affinities[0, 1] and affinities[1, 3] > affinities[1, 0]
    groups = group_by_affinity(affinities, 2, seed=0)
    assert groups[0] != groups[1]
    np.testing.assert_array_equal(groups, groups[[0, 1, 0, 1, 0, 1, 0, 1]])


def test_agents_who_were_never_together_have_their_own_mean() -> None:
    config = affinity_grouping.Config(n_subsets=1, subset_share=0.25)
    affinities = estimate_affinities(*toy_batch(), config, np.random.default_rng(0))
    seen = np.flatnonzero(np.diag(affinities))
    assert len(seen) == 2
    for i in range(8):
        assert (affinities[i] == affinities[i, i]).all()
        assert (affinities[i, i] != 0) == (i in seen)


@pytest.mark.parametrize("task_id", ["point", "ResourceGathering-n25-k2-v0"])
def test_gradients_are_those_of_autograd(task_id: str) -> None:
    """Of continuous actions and of discrete ones, each transition's alone."""
    task = point_task(2_560, 1)
    if task_id != "point":
        task = dataclasses.replace(get_online_task(task_id), n_representatives=1)
    config = affinity_grouping.Config(**SMALL)
    learner = PPOLearner(task, config, [0, 1], "cpu")
    batch = learner.collect()
    gradients = policy_gradients(learner, batch, 1)
    assert gradients.shape == (256, learner.actor.flat.numel() // 2)
    own = {name: array[1:].clone().requires_grad_() for name, array in _parameters(learner)}
    rows, actions = (part[1:].flatten(1, 2)[:, [7]] for part in (batch.observations, batch.actions))
    outputs = forward(own, rows)
    learner.collector.actions.log_probs(outputs, own.get("log_std"), actions)[0].sum().backward()
    alone = torch.cat([leaf.grad.flatten() for leaf in own.values() if leaf.grad is not None])
    torch.testing.assert_close(gradients[7], alone)
    learner.close()


def _parameters(learner: PPOLearner) -> list[tuple[str, torch.Tensor]]:
    return list(learner.actor.parameters.items())


def test_the_meta_policy_is_paid_for() -> None:
    task = point_task(10 * SMALL["batch_size"])
    settings = SMALL | SETTINGS["affinity_grouping"]
    for share, spent in ((0.4, 4), (0.05, 1)):  # the least is the batch that groups are read from
        log = RunLog(task, [0])
        config = affinity_grouping.Config(**(settings | {"pretraining": share}))
        affinity_grouping.solve(task, config, [0], "cpu", log)
        k = task.n_representatives
        own = int(10 - spent / k) * SMALL["batch_size"]
        assert log.steps_counted is not None
        assert log.steps_counted == k * own + spent * SMALL["batch_size"]
        assert (log.steps_counted or 0) <= k * task.transitions


def test_the_outcome_critic_is_refused() -> None:
    with pytest.raises(ValueError, match="critic is 'outcome'; expected 'agents'"):
        affinity_grouping.check(
            get_online_task("HalfCheetahVel-n100-k5-v0"),
            affinity_grouping.Config(critic="outcome"),
        )
