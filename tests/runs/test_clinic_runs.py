"""Offline tasks with a budget of policies: from records of patients to a run's record."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import minari
import numpy as np
import pytest
import torch

from baselines.heterogeneous import clinic_gains, factor_clustering, persim_em
from baselines.heterogeneous.clinic_records import group
from baselines.offline.common.policies import NetworkPolicy, PolicyNetwork, in_units_of
from baselines.offline.common.spaces import action_scale
from baselines.offline.model_free import behaviour, cql
from rmdp_bench import RunLog, Solution, load_solution, save_solution
from rmdp_bench.cli import main
from rmdp_bench.datasets import build_datasets, get_dataset
from rmdp_bench.datasets.clinic import ClinicController, load_clinic_controllers, tuned_gains
from rmdp_bench.envs import get_population
from rmdp_bench.evaluation.offline import (
    OfflineSolution,
    evaluate_offline,
    heldout_episodes,
    normalise,
    normalise_mean,
)
from rmdp_bench.evaluation.prediction import FORECASTS, score_forecasts
from rmdp_bench.files import read_json
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.references import single_and_own
from rmdp_bench.runs.records import read_result
from rmdp_bench.solution.onnx_graphs import PolicyGraph
from rmdp_bench.tasks import OfflineTask, get_offline_task
from scripts import store_clinic_runs

DATA = "rmdp/glucose-het/clinic-v0"
TASK = get_offline_task("Glucose-n100-k3-clinic-v0")
N = 6
FEW = dataclasses.replace(
    TASK,
    n_agents=N,
    n_representatives=2,
    eval_agents=tuple(range(N)),
    heldout_agents=(100, 120),
    n_eval_episodes=1,
)
"""The same with so many patients that tests are fast."""
QUICK = persim_em.Config(
    n_points=3, n_rounds=1, n_gradient_steps=2, n_episodes=4, eval_days=1, eval_episodes=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of a few patients, in the place of 30 of 100."""
    made, entry = tmp_path_factory.mktemp("clinic"), get_dataset(DATA)
    days = {**entry.env_kwargs, "days": 2, "max_episode_steps": 2 * 288}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(made))
        build_datasets([dataclasses.replace(entry, n_episodes=N, env_kwargs=days)])
    return made


@pytest.fixture(autouse=True)
def short_records(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what is installed; held-out patients have as many days."""
    entry = get_dataset(DATA)
    days = {**entry.env_kwargs, "days": 2, "max_episode_steps": 2 * 288}
    short = dataclasses.replace(entry, n_episodes=N, env_kwargs=days)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    monkeypatch.setattr("rmdp_bench.datasets.table.DATASETS", (short,))
    heldout_episodes.cache_clear()


def test_the_tasks_are_what_they_say() -> None:
    for k in (1, 3, 100):
        task = get_offline_task(f"Glucose-n100-k{k}-clinic-v0")
        assert task.n_representatives == k and task.dataset_id == DATA
        assert task.eval_agents == tuple(range(100)) and task.has_common_scale
        assert len(task.heldout_agents) == 40 and task.unranked is None
    assert not get_offline_task("CartPoleHet-n500-pure-v1").has_common_scale


def test_controllers_are_everybodys_own_and_not_perfect() -> None:
    controllers, gains = load_clinic_controllers(), tuned_gains()
    population = get_population(TASK.env_id)
    assert isinstance(population, DynamicsPopulation)
    assert len(controllers) == len(gains) == len(population.parameters) == 140
    own = np.array([(c.basal, c.carbohydrate_ratio) for c in controllers])
    errors = np.log(own / gains)
    np.testing.assert_allclose(errors.std(axis=0), [0.15 * 0.88, 0.25 * 0.88], rtol=0.2)
    assert (np.abs(errors) <= [0.301, 0.501]).all()
    assert controllers == load_clinic_controllers()


def test_a_controller_follows_the_clock() -> None:
    seen = np.array([[200.0, 0.0, 1.0, 40.0, 360.0, 0.0, 1.0]] * 2)
    seen[1, [4, 6]] = 10.0, -1.0
    controller = ClinicController(1.0, 10.0, basal_waves=(0.2, 0.0), ratio_waves=(0.3, 0.0))
    given = controller.act(seen)
    np.testing.assert_allclose(given[:, 0], np.exp([0.2, -0.2]), rtol=1e-6)
    grams = np.array([40.0 + 60.0 / 3.6, 40.0])  # no correction so soon after a meal
    np.testing.assert_allclose(given[:, 1], grams / (10.0 * np.exp([0.3, -0.3])), rtol=1e-6)
    assert not controller.act(seen * [1, 1, 1, 0, 1, 1, 1])[:, 1].any()


def test_the_record_is_as_its_row_says() -> None:
    entry = get_dataset(DATA)
    dataset = minari.load_dataset(DATA)
    controllers = load_clinic_controllers()
    for number, episode in enumerate(dataset):
        assert (episode.infos["agent"] == number).all() and episode.truncations[-1]
        expected = controllers[number].act(episode.observations[:-1])
        np.testing.assert_allclose(episode.actions, expected, rtol=1e-6)
    assert entry.own_policies and entry.max_episode_steps == 576
    full = dataset.spec.env_spec
    assert full is not None and full.kwargs["missed"] == 0.1


def test_the_logged_controllers_are_read_from_the_record() -> None:
    """Those of n groups have the means of the patients' own gains; of fewer, those of a group."""
    everybody = dataclasses.replace(FEW, n_representatives=N)
    (solution,) = clinic_gains.solve(everybody, clinic_gains.Config(), [0], "cpu", RunLog(FEW, [0]))
    own = np.array([(p.basal, p.carbohydrate_ratio) for p in solution.policies])  # type: ignore[attr-defined]
    true = np.array([(c.basal, c.carbohydrate_ratio) for c in load_clinic_controllers()[:N]])
    np.testing.assert_allclose(own[:, 0], true[:, 0], rtol=0.02)
    np.testing.assert_allclose(own[:, 1], true[:, 1], rtol=0.4)  # at meals, not over the day
    (two,) = clinic_gains.solve(FEW, clinic_gains.Config(), [0], "cpu", RunLog(FEW, [0]))
    assert two.assignment.shape == (N, 2) and (two.assignment.sum(axis=0) > 0).all()


def test_no_group_is_empty() -> None:
    values = np.random.default_rng(0).standard_normal((20, 3))
    for k in (1, 2, 7, 20):
        assert len(np.unique(group(values, k, 3))) == k
    with pytest.raises(ValueError, match="fewer than 4 groups"):
        group(np.array([[0.0], [0.0], [1.0], [1.0], [1.0]]), 4, 0)


def test_simulators_and_em(tmp_path: Path) -> None:
    """Within the budget; new patients get one of the same policies; forecasts beat a wild guess."""
    (solution,) = persim_em.solve(FEW, QUICK, [0], "cpu", RunLog(FEW, [0]))
    assert isinstance(solution, OfflineSolution)
    assert len(solution.policies) == 2 and solution.assignment.shape == (N, 2)
    evaluation = evaluate_offline(FEW, solution)
    assert evaluation.returns.shape == (N, 1) and (evaluation.lengths == 864).all()
    assert evaluation.heldout_returns is not None and evaluation.heldout_returns.shape == (2, 1)
    shares = sum(evaluation.measures[f"time_{where}_range"] for where in ("in", "below", "above"))
    np.testing.assert_allclose(shares, 1.0)
    errors = {minutes: found.rmse.mean() for minutes, found in evaluation.forecasts.items()}
    assert list(errors) == [30, 60] and 5.0 < errors[30] < errors[60] < 150.0
    assert evaluation.prediction is not None
    assert evaluation.prediction.rmse.mean() == errors[60]


def test_forecasts_are_scored_minutes_ahead() -> None:
    """What stays as it is misses by the change; what is perfect by nothing."""
    plan, truth = FORECASTS[TASK.env_id], {}

    def stay(agent: int, known: np.ndarray, actions: np.ndarray) -> np.ndarray:
        assert known.shape[1:] == (plan.n_forced + 1, 7)
        assert actions.shape[1:] == (plan.n_forced + plan.n_ahead, 2)
        truth[agent] = known
        return np.repeat(known[:, -1:], plan.n_ahead, axis=1)

    found = score_forecasts(FEW, stay)
    for a in range(N):
        # Points are an hour apart: the reading of now is the truth of an hour before.
        now = truth[a][:, -1, 0].reshape(plan.n_episodes, -1).astype(np.float64)
        expected = np.sqrt(((now[:, 1:] - now[:, :-1]) ** 2).mean(axis=1))
        np.testing.assert_allclose(found[60].rmse[a], expected, rtol=0.15)
    assert (found[30].rmse.mean() < found[60].rmse.mean()) and (found[60].r2.mean() < 1.0)
    with pytest.raises(ValueError, match="predict gives shape"):
        score_forecasts(FEW, lambda agent, known, actions: known)


@pytest.mark.parametrize("learner", ["cql", "bcq"])
def test_groups_by_factors(learner: str) -> None:
    config = factor_clustering.Config(
        learner=learner,  # type: ignore[arg-type]
        n_updates=2,
        batch_size=8,
        hidden_dims=(8,),
    )
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = factor_clustering.solve(FEW, config, [0, 1], "cpu", RunLog(FEW, [0, 1]))
    assert torch.equal(torch.get_rng_state(), before)
    for solution in (first, second):
        assert len(solution.policies) == 2 and solution.assignment.shape == (N, 2)
    evaluation = evaluate_offline(FEW, first)
    assert np.isfinite(evaluation.returns).all()


class Echo(PolicyNetwork):
    """The first two numbers of the observation are the action."""

    action_size = 2

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :2]

    def write(self, graph: PolicyGraph, observation: str) -> str:
        ends = (graph.constant([number]) for number in (0, 2, -1))
        return graph.add("Slice", observation, *ends)


def test_doses_and_the_learners_units_are_inverse(tmp_path: Path) -> None:
    """In memory and in the file; small doses are within a network's reach, none is out of it."""
    scale = action_scale(TASK.env_id)
    assert scale is not None and action_scale("rmdp/HalfCheetahHet-n500-v1") is None
    assert action_scale("rmdp/CartPoleHet-n500-v0") is None
    doses = torch.tensor([[0.0, 0.0], [1.0, 0.02], [2.5, 7.0], [6.0, 20.0]])
    unit = scale.to_unit(doses)
    assert unit[0].tolist() == [-1.0, -1.0] and unit[3].tolist() == [1.0, 1.0]
    assert unit[1, 1] > -0.85  # where a hyperbolic tangent is not flat yet
    (policy,) = in_units_of(TASK.env_id, [NetworkPolicy(Echo(), 7)])
    seen = np.zeros((5, 7), np.float32)
    seen[:4, :2] = unit
    seen[4, :2] = 3.0, -3.0
    given = policy.act(seen)
    np.testing.assert_allclose(given[:4], doses, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given[4], [6.0, 0.0])
    save_solution(Solution([policy], np.ones((1, 1))), tmp_path / "solution")
    (loaded,) = load_solution(tmp_path / "solution").policies
    np.testing.assert_allclose(loaded.act(seen), given, rtol=1e-5, atol=1e-6)


def test_offline_policies_act_in_units_of_the_pump() -> None:
    """The logged doses are in reach, and what is saved does what is in memory."""
    config = behaviour.Config(n_updates=300, batch_size=64, hidden_dims=(32,), learning_rate=3e-3)
    (solution,) = behaviour.solve(FEW, config, [0], "cpu", RunLog(FEW, [0]))
    episode = next(iter(minari.load_dataset(DATA).iterate_episodes([0])))
    given = solution.policies[0].act(episode.observations[:-1])
    assert (given >= 0.0).all() and (given <= [6.0, 20.0]).all()
    assert abs(given[:, 0].mean() - episode.actions[:, 0].mean()) < 1.0
    at_meals = episode.observations[:-1, 3] > 0.0
    assert given[at_meals, 1].mean() > given[~at_meals, 1].mean()


def test_a_budget_is_kept() -> None:
    controllers = load_clinic_controllers()[:N]
    with pytest.raises(ValueError, match="the solution has 6 policies, expected at most 2"):
        evaluate_offline(FEW, Solution(controllers, np.eye(N)))
    config = cql.Config(scope="agent", n_updates=1, batch_size=2, hidden_dims=(4,))
    with pytest.raises(ValueError, match="scope=agent gives 6 policies, expected at most 2"):
        cql.check(FEW, config)


def test_percent_is_of_the_population(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.array([-3000.0, -6000.0])
    monkeypatch.setattr("rmdp_bench.evaluation.pairs.single_and_own", lambda env_id: None)
    np.testing.assert_array_equal(normalise(FEW, (0, 1), returns), returns)  # not measured
    monkeypatch.setattr("rmdp_bench.evaluation.pairs.single_and_own", lambda env_id: (-6e3, -2e3))
    np.testing.assert_allclose(normalise(FEW, (0, 1), returns), [75.0, 0.0])
    assert normalise_mean(FEW, (0, 1), returns) == pytest.approx(37.5)


@pytest.mark.parametrize("solver", ["persim", "cadm", "morel", "true_env_mpc"])
def test_solvers_that_plan_need_a_known_reward(
    solver: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", solver, TASK.id, "--out", str(tmp_path)]) == 2
    message = capfd.readouterr().err
    assert "reward" in message and message.count("\n") == 1


def test_other_tasks_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for task in ("CartPoleHet-n500-pure-v1", "Glucose-n100-k3-v0"):
        assert main(["run", "persim_em", task, "--out", str(tmp_path)]) == 2
        assert "has no logged records of rmdp/Glucose-n100-v0" in capfd.readouterr().err


def test_a_run_has_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, with the table's task but few patients."""
    monkeypatch.setattr("rmdp_bench.tasks._listed_task", lambda task_id: FEW)
    arguments = ["run", "clinic_gains", TASK.id, "--out", str(tmp_path)]
    assert main(arguments) == 0
    result = read_result(tmp_path / TASK.id / "clinic_gains" / "seed-0" / "result.json")
    assert result.measures is not None and 0.0 < result.measures["time_in_range"] < 1.0
    with np.load(tmp_path / TASK.id / "clinic_gains" / "seed-0" / "returns.npz") as arrays:
        inside = arrays["measure_time_in_range"]
    assert inside.shape == (N,) and inside.mean() == result.measures["time_in_range"]
    known = single_and_own(FEW.env_id)
    assert result.offline is not None and known is not None
    share = (result.offline.mean_return - known[0]) / (known[1] - known[0])
    assert result.social_welfare == pytest.approx(100.0 * share)
    assert isinstance(FEW, OfflineTask) and len(result.agent_returns) == N


def test_runs_are_scored_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rmdp_bench.tasks._listed_task", lambda task_id: FEW)
    runs = str(tmp_path / "runs")
    assert main(["run", "clinic_gains", TASK.id, "--out", runs]) == 0
    capfd.readouterr()
    assert main(["score", runs]) == 0
    assert "In the clinic's tasks 0 is" in " ".join(capfd.readouterr().out.split())
    assert main(["plot", runs, "--out", str(tmp_path / "figures")]) == 0
    assert [path.name for path in (tmp_path / "figures").iterdir()] == [f"returns-{TASK.id}.png"]
    out = tmp_path / "stored.json"
    store_clinic_runs.main([runs, "--out", str(out)])
    (row,) = read_json(out)["rows"]
    assert row["changed"] == {} and row["seeds"] == [0] and row["solver"] == "clinic_gains"
    scores = row["scores"]
    shares = [scores[f"time_{where}_range"] for where in ("in", "below", "above")]
    assert sum(shares) == pytest.approx(1.0) and scores["mean risk"] <= scores["worst tenth"]
