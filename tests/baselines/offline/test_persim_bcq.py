"""BCQ on augmented data: what is generated, what is kept, and the solver from end to end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.offline.common.data import LoggedData
from baselines.offline.persim import ensembles, persim_bcq
from baselines.offline.persim.augmentation import GeneratingPolicy, GenerationConfig, generate
from baselines.offline.planning.dynamics import Objective, objective_for
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.tasks import get_offline_task, get_online_task
from tests.helpers.persim_toys import (
    TASK,
    StopAfter,
    assert_same,
    check_all_that_is_offered,
    half_cheetah_log,
    make_log,
    make_simulator,
    weights,
)

pytestmark = pytest.mark.arithmetic

GENERATION = GenerationConfig(
    n_trajectories=40, trajectory_length=8, first_share=0.5, exploration=0.5, longest_hold=4.0
)
SMALL: dict[str, Any] = {
    "n_agents": 6,
    "n_models": 2,
    "n_epochs": 10,
    "batch_size": 256,
    "state_layers": (16,),
    "n_planned": 2,
    "n_sequences": 8,
    "horizon": 4,
    "n_trajectories": 10,
    "trajectory_length": 5,
    "policy_updates": 20,
    "policy_hidden_dims": (32, 32),
}


@pytest.mark.parametrize("n_actions", [2, None])
def test_generated_rows_obey_the_simulator(n_actions: int | None) -> None:
    log, simulator = make_log(n_actions), make_simulator(make_log(n_actions), n_actions)
    objective = Objective(
        reward=lambda before, actions, after: after[..., 1] - before[..., 0],
        terminated=lambda before, actions, after: after[..., 0].abs() > 0.1,
    )
    made = generate(simulator, objective, log, n_actions, GENERATION, (3, 1))
    assert made.n_agents == 40 and len(made.rewards) > 150
    members = made.observations.expand(2, -1, -1)
    following = simulator.step(members, made.actions, made.agents).mean(0)
    torch.testing.assert_close(made.next_observations, following)
    transitions = made.observations, made.actions, made.next_observations
    torch.testing.assert_close(made.rewards, objective.reward(*transitions))
    assert (made.terminated == objective.terminated(*transitions)).all()
    assert made.terminated.any() and not made.terminated.all()
    for index in range(40):  # an end is the last of its trajectory
        assert not made.trajectory(index).terminated[:-1].any()
    again = generate(simulator, objective, log, n_actions, GENERATION, (3, 1))
    torch.testing.assert_close(again.observations, made.observations, rtol=0, atol=0)
    other = generate(simulator, objective, log, n_actions, GENERATION, (4, 1))
    assert other.observations.shape != made.observations.shape or bool(
        (other.observations != made.observations).any()
    )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_trajectories_start_in_the_log(share: float) -> None:
    log, objective = make_log(2), objective_for(TASK.env_id)
    settings = dataclasses.replace(
        GENERATION, n_trajectories=60, trajectory_length=1, exploration=0.0, first_share=share
    )
    made = generate(make_simulator(log, 2), objective, log, 2, settings, (0, 0))
    places = (made.observations[:, None] == log.observations).all(-1).int().argmax(1)
    torch.testing.assert_close(made.observations, log.observations[places])
    torch.testing.assert_close(made.actions, log.actions[places])  # and do what was done there
    assert bool((places % 20 == 0).all()) == (share == 1.0)
    assert set((places // 20).tolist()) == {0, 1, 2}


def test_transitions_that_run_away_are_left_out() -> None:
    log, objective = make_log(2), objective_for(TASK.env_id)
    simulator = make_simulator(log, 2)
    never_ends = dataclasses.replace(objective, terminated=lambda s, a, n: torch.zeros(len(s)) > 0)
    settings = dataclasses.replace(GENERATION, trajectory_length=50)
    made = generate(simulator, never_ends, log, 2, settings, (0, 0))
    assert 0 < len(made.rewards) < 40 * 50
    low, high = log.observations.amin(0), log.observations.amax(0)
    assert ((made.next_observations - low) / (high - low)).abs().max() <= 2
    assert made.starts.tolist() == [0, *np.bincount(made.agents, minlength=40).cumsum().tolist()]


def play(
    log: LoggedData, rows: np.ndarray[Any, Any], n_actions: int | None, **settings: Any
) -> np.ndarray[Any, Any]:
    """Actions (E, 12, ...)."""
    config = dataclasses.replace(GENERATION, **settings)
    policy = GeneratingPolicy(log, rows, config, n_actions, np.random.default_rng(0))
    policy.reset(len(rows))
    observations = np.zeros((len(rows), 4))
    return np.stack([policy.act(observations) for _ in range(12)], 1)


@pytest.mark.parametrize("n_actions", [2, None])
def test_logged_actions_are_repeated_to_their_end(n_actions: int | None) -> None:
    log = make_log(n_actions)
    expected = log.actions.numpy()
    repeated = play(log, np.array([0, 17, 59]), n_actions, exploration=0.0)
    assert repeated.dtype == expected.dtype and np.abs(repeated).max() <= 1
    np.testing.assert_array_equal(repeated[0], expected[:12])
    np.testing.assert_array_equal(repeated[1, :3], expected[17:20])
    assert (repeated[1, 3:] != expected[20:29]).any()
    some = play(log, np.zeros(200, np.int64), n_actions, exploration=0.3)
    same = (some == expected[:12]).reshape(200, -1).all(1).mean()
    assert 0.6 < same < 0.8


@pytest.mark.parametrize("n_actions", [2, None])
def test_exploring_trajectories_keep_their_actions_for_a_while(n_actions: int | None) -> None:
    log, rows = make_log(n_actions), np.zeros(500, np.int64)

    def changes(longest_hold: float) -> np.ndarray[Any, Any]:
        actions = play(log, rows, n_actions, exploration=1.0, longest_hold=longest_hold)
        assert actions.min() < 0.3 and actions.max() > 0.7
        moves = actions[:, 1:] != actions[:, :-1]
        shares: np.ndarray[Any, Any] = moves.reshape(500, 11, -1).all(2).mean(1)
        return shares

    often, seldom = changes(1.0), changes(100.0)
    expected = 1.0 if n_actions is None else 0.5
    np.testing.assert_allclose(often.mean(), expected, atol=0.05)
    assert seldom.mean() < 0.4 * expected  # the mean of 100**-x over x in [0, 1] is 0.21
    assert seldom.min() == 0.0 and seldom.max() > 0.7 * expected


def test_own_transitions_are_kept_and_others_follow() -> None:
    log, objective = make_log(2), objective_for(TASK.env_id)
    simulators, keys = [make_simulator(log, 2)] * 2, [(0, 0), (0, 2)]
    own = [log.trajectory(agent) for agent in (0, 2)]

    def augment(n_planned: int) -> LoggedData:
        config = persim_bcq.Config(**SMALL | {"n_planned": n_planned})
        agents = ensembles.SimulatedAgents(log, own, simulators, keys)
        return persim_bcq.augment(TASK, config, agents)

    generated, planned_too = augment(0), augment(2)
    for index, logged in enumerate(own):
        rows, more = generated.trajectory(index), planned_too.trajectory(index)
        n = len(logged.rewards)
        assert n < len(rows.rewards) <= n + 50
        for name in ("observations", "actions", "rewards", "next_observations", "terminated"):
            torch.testing.assert_close(getattr(rows, name)[:n], getattr(logged, name))
        planned = slice(len(rows.rewards), None)
        assert len(more.rewards[planned]) > 2
        first = more.observations[planned][0]
        assert (log.observations[log.starts[:-1]] == first).all(1).any()
        members = more.observations[planned].expand(2, -1, -1)
        following = simulators[0].step(members, more.actions[planned], members[0, :, 0].long())
        torch.testing.assert_close(more.next_observations[planned], following.mean(0))
        ends = objective.terminated(more.observations, more.actions, more.next_observations)
        assert (more.terminated[planned] == ends[planned]).all()


def solve(seeds: list[int], log: RunLog | None = None, **settings: Any) -> list[OfflineSolution]:
    config = dataclasses.replace(persim_bcq.config_for(TASK), **SMALL | settings)
    return persim_bcq.solve(TASK, config, seeds, "cpu", log or RunLog(TASK, seeds))


@pytest.fixture(scope="module")
def together() -> list[OfflineSolution]:
    """Two seeds; not to be changed."""
    return solve([0, 1])


def test_seeds_are_trained_together_and_for_themselves(together: list[OfflineSolution]) -> None:
    assert_same(solve([1])[0], together[1])
    assert (weights(together[0])[0] != weights(together[1])[0]).any()
    for solution in together:
        assert len(solution.policies) == 5 and solution.assignment.tolist() == np.eye(5).tolist()
        assert solution.factors is not None and solution.factors.shape == (6, 5)
        first = [own[:8] for own in weights(solution)]
        assert (first[0] != first[len(first) // 5]).any()  # agents differ


def test_all_that_a_solution_offers(together: list[OfflineSolution], tmp_path: Path) -> None:
    check_all_that_is_offered(together[0], TASK, tmp_path / "solution")


def test_a_stopped_run_continues_bit_for_bit(
    together: list[OfflineSolution], tmp_path: Path
) -> None:
    """Stopped in the model's training, at its end, and in the policies' training."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for n_reports in (1, 1, 7):
        with pytest.raises(Interrupted):
            solve([0, 1], StopAfter(folders, n_reports))
    last = StopAfter(folders, 1000)
    continued = solve([0, 1], last)
    assert set(last.reports) >= {"loss", "policy_loss"} and "model_loss" not in last.reports
    assert 1000 - last.left == 20 - 7  # the model was not trained again, nor were 7 updates made
    for first, second in zip(together, continued, strict=True):
        assert_same(first, second)
    finished = StopAfter(folders, 1)
    assert_same(together[0], solve([0, 1], finished)[0])
    assert not finished.reports


def test_continuous_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """On logged noise of HalfCheetah's size."""
    cheetah = get_offline_task("HalfCheetahHet-n500-random-v1")
    log = half_cheetah_log()
    monkeypatch.setattr(ensembles, "load_data", lambda task, n_agents: log)
    config = persim_bcq.config_for(cheetah)
    assert config.policy_hidden_dims == (400, 300) and config.batch_size == 1024
    assert config.n_planned == 0
    with pytest.raises(ValueError, match="n_elites is 50; expected at most n_sequences, 9"):
        few = dataclasses.replace(config, n_planned=1, n_sequences=9)
        monkeypatch.setattr(persim_bcq, "check_factored", lambda task, config: None)
        persim_bcq.check(cheetah, few)
    config = dataclasses.replace(
        config, **SMALL | {"n_planned": 0, "policy_updates": 3, "action_layers": (8,), "rank": 3}
    )
    config = dataclasses.replace(config, autoencoder_hidden_dims=(32, 32))
    (solution,) = persim_bcq.solve(cheetah, config, [0], "cpu", RunLog(cheetah, [0]))
    actions = solution.policies[4].act(np.zeros((3, 18), np.float32))
    assert actions.shape == (3, 6) and np.abs(actions).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_planned": -1}, "n_planned is -1"),
        ({"n_sequences": 0}, "n_sequences is 0"),
        ({"n_trajectories": 0}, "n_trajectories is 0"),
        ({"trajectory_length": 0}, "trajectory_length is 0"),
        ({"longest_hold": 0.5}, "longest_hold is 0.5; expected at least 1"),
        ({"policy_target_rate": 0.0}, "policy_target_rate is 0"),
        ({"exploration": 1.5}, "exploration is 1.5; expected 0 to 1"),
        ({"first_share": -0.1}, "first_share is -0.1"),
        ({"policy_updates": 0}, "policy_updates is 0"),
        ({"policy_learning_rate": 0.0}, "policy_learning_rate is 0"),
        ({"policy_hidden_dims": (0,)}, "policy_hidden_dims"),
        ({"rank": 0}, "rank is 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        persim_bcq.Config(**settings)


def test_wrong_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="online task"):
        persim_bcq.check(get_online_task("HopperVel-n100-k2-v0"), persim_bcq.Config())
    with pytest.raises(ValueError, match="datasets build"):
        persim_bcq.check(get_offline_task("MountainCarHet-n500-pure-v1"), persim_bcq.Config())
    with pytest.raises(ValueError, match=r"action_layers is \[5\]; expected \[\]"):
        persim_bcq.check(TASK, persim_bcq.Config(action_layers=(5,)))
    persim_bcq.check(TASK, persim_bcq.Config())
