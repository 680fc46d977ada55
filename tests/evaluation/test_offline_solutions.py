"""Offline solutions: who plays whom, held-out agents, prediction, factors, records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from baselines.offline.common.data import OfflineConfig, check_offline, load_data
from rmdp_bench import RunLog, Solution, load_dataset
from rmdp_bench.cli import main
from rmdp_bench.datasets import HIDDEN_PARAMETERS, Episode, collect, get_dataset
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.evaluation.offline import (
    OfflineSolution,
    evaluate_offline,
    heldout_episodes,
    normalise,
    normalise_mean,
)
from rmdp_bench.evaluation.prediction import (
    DIVERGED,
    N_FORCED,
    factor_correlation,
    play_test_trajectories,
    score_predictions,
)
from rmdp_bench.references import references
from rmdp_bench.runs import load_solver, make_config, make_request, read_result, run
from rmdp_bench.runs.solver_loading import check_config
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import get_offline_task, get_online_task
from tests.helpers.checkout import TOY_OFFLINE_SOLVER
from tests.helpers.toy_offline_solver import serve, stand_still
from tests.helpers.toys import ScriptedPolicy

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
CAR = get_offline_task("MountainCarHet-n500-random-v1")
TOY = str(TOY_OFFLINE_SOLVER)
SWING = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0]


def returns_of(agent: int, actions: Sequence[int], n_episodes: int) -> list[float]:
    """Played in a single environment, one episode after the other."""
    env = gym.make(TASK.env_id)
    returns = []
    for episode in range(n_episodes):
        env.reset(seed=EVALUATION_SEED + episode, options={"agent": agent})
        returns.append(0.0)
        ended, step = False, 0
        while not ended:
            action = actions[min(step, len(actions) - 1)]
            _, reward, terminated, truncated, _ = env.step(action)
            returns[-1] += float(reward)
            ended, step = terminated or truncated, step + 1
    return returns


class Joined:
    """Several policies' rows, one policy's after the other's."""

    n_made = 0

    def __init__(self, policies: Sequence[Policy], n_rows: Sequence[int]) -> None:
        self.policies, self.n_rows = policies, n_rows
        Joined.n_made += 1

    def reset(self, n_envs: int) -> None:
        assert n_envs == sum(self.n_rows)
        for policy, size in zip(self.policies, self.n_rows, strict=True):
            policy.reset(size)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        parts = np.split(observations, np.cumsum(self.n_rows)[:-1])
        return np.concatenate(
            [policy.act(part) for policy, part in zip(self.policies, parts, strict=True)]
        )


class JoinableScript(ScriptedPolicy):
    """Asks for `Joined`, but not where it is alone."""

    def join_policies(self, policies: Sequence[Policy], n_rows: Sequence[int]) -> Policy | None:
        return Joined(policies, n_rows) if len(policies) > 1 else None


@pytest.mark.parametrize("kind", [ScriptedPolicy, JoinableScript])
def test_every_agent_is_played_by_its_own_policy(kind: type[ScriptedPolicy]) -> None:
    scripts = [[0], SWING, [1]]
    owner = [1, 0, 1, 2, 0]
    solution = Solution([kind(script) for script in scripts], np.eye(3)[owner])
    before = Joined.n_made
    evaluate_offline(TASK, Solution([kind([0])], np.ones((5, 1))), n_episodes=1)
    assert Joined.n_made == before
    evaluation = evaluate_offline(TASK, solution, n_episodes=3)
    expected = [returns_of(agent, scripts[j], 3) for agent, j in enumerate(owner)]
    np.testing.assert_array_equal(evaluation.returns, expected)
    np.testing.assert_array_equal(evaluation.lengths, expected)  # a reward of 1 in every step
    assert len(np.unique(expected)) > 3
    assert Joined.n_made == before + (kind is JoinableScript)
    assert evaluation.heldout_returns is None and evaluation.prediction is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (np.ones((500, 1)), "500 rows, expected 5"),
        (np.full((5, 2), 0.5), r"row 0 of the assignment is \[0.5, 0.5\], expected one policy"),
    ],
)
def test_assignments_are_of_scored_agents_and_one_hot(
    assignment: NDArray[np.float64], message: str
) -> None:
    solution = Solution([ScriptedPolicy([0])] * assignment.shape[1], assignment)
    with pytest.raises(ValueError, match=message):
        evaluate_offline(TASK, solution, n_episodes=1)


def test_heldout_agents_have_an_episode_as_those_in_the_data() -> None:
    episodes = heldout_episodes(TASK)
    assert [episode.metadata["agent"] for episode in episodes] == list(TASK.heldout_agents)
    assert all(HIDDEN_PARAMETERS not in episode.metadata for episode in episodes)
    entry = get_dataset(TASK.dataset_id)
    logged = list(load_dataset(TASK).iterate_episodes([7, 3]))
    for again, before in zip(collect(entry, agents=[7, 3]), logged, strict=True):
        np.testing.assert_array_equal(again.observations, before.observations)
        np.testing.assert_array_equal(again.actions, before.actions)


def test_heldout_agents_are_scored_apart() -> None:
    given: list[int] = []

    def adapt(episodes: Sequence[Episode]) -> Solution:
        given.extend(episode.metadata["agent"] for episode in episodes)
        return serve(Solution([ScriptedPolicy(SWING)], np.ones((1, 1))), episodes)

    solution = OfflineSolution([ScriptedPolicy([0])], np.ones((5, 1)), adapt=adapt)
    evaluation = evaluate_offline(TASK, solution, n_episodes=8)
    assert given == list(TASK.heldout_agents)
    assert evaluation.heldout_returns is not None
    expected = [returns_of(agent, SWING, 2) for agent in TASK.heldout_agents]
    np.testing.assert_array_equal(evaluation.heldout_returns, expected)


def test_predictions_are_compared_with_what_happened() -> None:
    test = play_test_trajectories(CAR)
    assert test.actions.shape == (5, 200, 60) and test.observations.shape == (5, 200, 61, 2)

    def foresee(agent: int, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        np.testing.assert_array_equal(observations, test.observations[agent, :, : N_FORCED + 1])
        np.testing.assert_array_equal(actions, test.actions[agent])
        return test.observations[agent, :, N_FORCED + 1 :] + offset

    offset = 0.0
    exact = score_predictions(CAR, foresee)
    assert exact.rmse.shape == exact.r2.shape == (5, 200)
    assert exact.rmse.max() == 0.0 and exact.r2.min() == 1.0
    offset = 0.25
    off = score_predictions(CAR, foresee)
    np.testing.assert_allclose(off.rmse, 0.25, rtol=1e-6)
    assert off.r2.max() < 1.0
    still = score_predictions(CAR, stand_still)
    own = test.observations[2, 11].astype(np.float64)
    errors = own[N_FORCED + 1 :] - own[N_FORCED]
    assert still.rmse[2, 11] == pytest.approx(np.sqrt((errors**2).mean()))
    spread = ((own[N_FORCED + 1 :] - own[N_FORCED + 1 :].mean(axis=0)) ** 2).sum()
    assert still.r2[2, 11] == pytest.approx(1.0 - (errors**2).sum() / spread)


def test_predictions_end_with_the_episode() -> None:
    test = play_test_trajectories(TASK)
    ended = test.lengths < 60
    assert ended.any() and not ended.all()

    def foresee(agent: int, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        long = test.lengths[agent] > N_FORCED + 1
        lengths = test.lengths[agent, long]
        truth = test.observations[agent, long, N_FORCED + 1 :].copy()
        for row, length in zip(truth, lengths, strict=True):
            row[length - N_FORCED :] = 1e9  # after the end: not compared
        return truth

    scores = score_predictions(TASK, foresee)
    assert np.nanmax(scores.rmse) == 0.0
    np.testing.assert_array_equal(np.isnan(scores.rmse), test.lengths <= N_FORCED + 1)


def test_predictions_that_run_away_count_as_bad() -> None:
    def explode(agent: int, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        prediction = stand_still(agent, observations, actions)
        prediction[:, 25:] = np.nan if agent else np.inf
        return prediction

    scores = score_predictions(CAR, explode)
    assert np.isfinite(scores.rmse).all() and scores.rmse.min() > DIVERGED / 2
    with pytest.raises(ValueError, match=r"shape \(200, 49, 2\), expected \(200, 50, 2\)"):
        score_predictions(CAR, lambda a, o, u: stand_still(a, o, u)[:, 1:])


def test_factor_correlation() -> None:
    population = TASK.hidden_population
    parameters = population.parameters[:500]
    rotated = parameters @ np.array([[0.3, -1.0], [2.0, 0.5]]) + 7.0
    assert min(factor_correlation(TASK, rotated).values()) > 0.9999
    noise = np.random.default_rng(0).normal(size=(500, 3))
    assert max(map(abs, factor_correlation(TASK, noise).values())) < 0.2
    half = factor_correlation(TASK, np.column_stack((parameters[:, 0] ** 3, noise)))
    assert half["force"] > 0.9 and abs(half["half_length"]) < 0.2
    with pytest.raises(ValueError, match=r"shape \(4, 2\)"):
        factor_correlation(TASK, np.ones((4, 2)))


def test_returns_are_normalised_for_each_agent() -> None:
    rows = references(TASK.env_id)
    assert set(rows) == {*TASK.eval_agents, *TASK.heldout_agents}
    random, best = np.array([rows[agent] for agent in (3, 1)]).T
    np.testing.assert_allclose(normalise(TASK, (3, 1), random), 0.0, atol=1e-12)
    np.testing.assert_allclose(normalise(TASK, (3, 1), best), 100.0)
    np.testing.assert_allclose(normalise(TASK, (3, 1), (random + best) / 2), 50.0)
    two = np.array([random[0], best[1]])
    expected = 100 * (two.mean() - random.mean()) / (best.mean() - random.mean())
    assert normalise_mean(TASK, (3, 1), two) == pytest.approx(expected)
    assert 0.0 < expected < 100.0 and abs(expected - 50.0) > 0.01
    with pytest.raises(ValueError, match="is not known yet for agent 250"):
        normalise(TASK, [250], np.zeros(1))


def test_run_records_an_offline_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = make_request(TOY, TASK.id, seeds=[0, 1], out=tmp_path, n_episodes=4)
    results = run(request)
    result = results[1]
    own = [np.mean(returns_of(agent, [1], 4)) for agent in range(5)]
    assert result.offline is not None
    assert result.offline.returns == pytest.approx(own)
    assert result.offline.mean_return == pytest.approx(np.mean(own))
    assert result.agent_returns == pytest.approx(normalise(TASK, range(5), np.array(own)))
    assert result.social_welfare == pytest.approx(np.mean(result.agent_returns))
    assert result.welfare_matrix is None and result.assignment_regret is None
    assert (result.transitions, result.evaluation.n_episodes) == (0, 4)
    heldout = [np.mean(returns_of(agent, [1], 1)) for agent in TASK.heldout_agents]
    assert result.offline.unseen_returns == pytest.approx(heldout[:5])
    assert result.offline.extrapolating_returns == pytest.approx(heldout[5:])
    assert result.offline.prediction is not None and result.offline.prediction.rmse_mean > 0
    assert set(result.offline.factor_correlation or {}) == {"force", "half_length"}
    with np.load(request.directory(1) / "returns.npz", allow_pickle=False) as arrays:
        assert arrays["episode_returns"].mean(axis=1) == pytest.approx(own)
        assert arrays["factors"].shape == (500, 2)
        assert arrays["prediction_rmse"].shape == (5, 200)

    assert main(["evaluate", str(request.directory(1)), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    twenty = [np.mean(returns_of(agent, [1], 20)) for agent in range(5)]
    assert again["offline"]["returns"] == pytest.approx(twenty)
    assert main(["score", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["offline"]["mean_return"] == pytest.approx(
        np.mean([r.offline.mean_return for r in results if r.offline is not None])
    )
    assert row["transitions_per_second"] is None
    assert main(["score", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "normalised" in table and "of ceiling" not in table
    arguments = ["leaderboard", "show", "--runs", str(tmp_path), "--task", TASK.id]
    assert main([*arguments, "--root", str(tmp_path)]) == 0
    assert "toy_offline_solver" in capsys.readouterr().out
    out = tmp_path / "figures"
    assert main(["plot", str(tmp_path), "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {f"returns-{TASK.id}.png", f"factors-{TASK.id}-toy_offline_solver.png"}
    for left in (b"", b"PK\x03\x04 cut off"):
        (request.directory(0) / "returns.npz").write_bytes(left)
        assert main(["plot", str(tmp_path), "--out", str(out)]) == 2
        assert "returns.npz" in capsys.readouterr().err


def test_how_far_training_is_counts_updates() -> None:
    log = RunLog(TASK, [0, 1])
    log.progress(5, {}, total=12_000)
    log.save_checkpoint(5, {}, [{}, {}])
    assert log.reached == "5 of 12,000 updates"


def test_an_offline_task_has_no_curve() -> None:
    log = RunLog(TASK, [0])
    assert not log.evaluation_due(1_000_000)
    with pytest.raises(ValueError, match="is an offline task: it has no learning curve"):
        log.evaluate(1, [Solution([ScriptedPolicy([0])], np.ones((5, 1)))])


def test_what_a_solution_says_of_other_agents_must_fit() -> None:
    policies, assignment = [ScriptedPolicy([0])], np.ones((5, 1))
    nothing: Any = None
    wrong = OfflineSolution(policies, assignment, adapt=lambda episodes: nothing)
    with pytest.raises(ValueError, match="adapt gives a NoneType, expected a Solution"):
        evaluate_offline(TASK, wrong, n_episodes=1)
    for n_agents in (4, 501):
        with pytest.raises(ValueError, match=rf"\({n_agents}, 2\), expected .* n from 5 to 500"):
            factor_correlation(TASK, np.ones((n_agents, 2)))


def test_a_record_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    request = make_request(TOY, TASK.id, out=tmp_path, n_episodes=1, settings=["bare=true"])
    (result,) = run(request)
    assert result.offline is not None and result.offline.prediction is None
    path = request.directory(0) / "result.json"
    document = json.loads(path.read_text())
    document["offline"]["returns"][2] += 1.0
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="do not agree with offline.returns"):
        read_result(path)
    path.write_text(json.dumps(document | {"offline": None}))
    with pytest.raises(ValueError, match="offline: expected scores"):
        read_result(path)


def test_requests_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="offline task: its data are fixed"):
        make_request(TOY, TASK.id, transitions=1000, out=tmp_path)
    with pytest.raises(ValueError, match="number of evaluation episodes is 0"):
        make_request(TOY, TASK.id, n_episodes=0, out=tmp_path)
    with pytest.raises(ValueError, match="is an offline task, expected an online one"):
        make_request("em", TASK.id, out=tmp_path)
    run(make_request(TOY, TASK.id, out=tmp_path, n_episodes=1))
    with pytest.raises(ValueError, match="n_episodes 1 instead of 20"):
        make_request(TOY, TASK.id, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [TASK.id]


def test_solvers_refuse_tasks_without_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = OfflineConfig()
    with pytest.raises(ValueError, match="is an online task, expected an offline one"):
        check_offline(get_online_task("HopperVel-n100-k1-v0"), config)
    elsewhere = dataclasses.replace(TASK, env_id="rmdp/CartPoleHet-n500-v1")
    with pytest.raises(ValueError, match="was collected in rmdp/CartPoleHet-n500-v0, expected"):
        check_offline(elsewhere, config)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(ValueError, match="datasets build rmdp/mountaincar-het/random-v0"):
        check_offline(CAR, config)


def test_data_are_the_episodes_in_order() -> None:
    data = load_data(TASK, 12)
    episodes = list(load_dataset(TASK).iterate_episodes(range(12)))
    assert data.n_agents == 12 and len(data.rewards) == sum(len(e.rewards) for e in episodes)
    for agent, episode in enumerate(episodes):
        own = data.trajectory(agent)
        np.testing.assert_array_equal(own.observations.numpy(), episode.observations[:-1])
        np.testing.assert_array_equal(own.next_observations.numpy(), episode.observations[1:])
        np.testing.assert_array_equal(own.actions.numpy(), episode.actions)
        np.testing.assert_array_equal(own.terminated.numpy(), episode.terminations)
        assert (data.agents == agent).sum() == len(own.rewards)
    with pytest.raises(ValueError, match="n_agents is 4; expected 5 to 500"):
        OfflineConfig(n_agents=4)


@pytest.mark.parametrize(
    "name", ["em", "oracle", "clustering", "end_to_end", "random_assignment", "universal"]
)
def test_online_solvers_refuse_offline_tasks(name: str) -> None:
    solver = load_solver(name)
    with pytest.raises(ValueError, match="offline task"):
        check_config(solver, TASK, make_config(solver, TASK))
