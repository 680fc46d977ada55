"""PerSim: its model, its training, its simulators, and what it knows of agents."""

from __future__ import annotations

import copy
import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.offline.common.data import LoggedData, load_data
from baselines.offline.common.networks import take_members
from baselines.offline.common.training import train
from baselines.offline.persim import solver as persim
from baselines.offline.persim.agent_factors import embed_agents, fit_factors, regress_factors
from baselines.offline.persim.ensembles import Ensemble, predictor
from baselines.offline.persim.model import FactoredConfig
from baselines.offline.persim.simulator import PersonalSimulator, simulate
from baselines.offline.persim.training import FactoredLearner
from baselines.offline.planning.dynamics import Dynamics, Objective, objective_for
from baselines.offline.planning.planner import PlannerConfig, PlannerPolicy, make_policy
from rmdp_bench import RunLog
from rmdp_bench.evaluation import before_each_step
from rmdp_bench.evaluation.offline import heldout_episodes
from rmdp_bench.evaluation.prediction import N_FORCED, factor_correlation, score_predictions
from rmdp_bench.runs import Interrupted
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import get_offline_task
from tests.helpers.persim_toys import ODD, assert_close, make_data, make_model

pytestmark = pytest.mark.arithmetic

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
CAR = get_offline_task("MountainCarHet-n500-pure-v1")


@pytest.mark.parametrize("n_actions", [2, 3])
def test_gradients_are_those_of_autograd(n_actions: int) -> None:
    """Adam's first moment after one step is a tenth of the gradient."""
    data = make_data(n_actions=n_actions)
    config = FactoredConfig(**ODD | {"batch_size": 120})
    training = FactoredLearner(config, data, n_actions, [0], "cpu")
    assert training.is_compiled
    model = training.model
    inputs, agents, actions = (
        part.expand(2, *part.shape) for part in (data.observations, data.agents, data.actions)
    )
    changes = data.next_observations - data.observations
    loss = (model(inputs, agents, actions) - changes).square().mean((1, 2)).sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = [gradient.flatten(1) for gradient in gradients]
    training.run(1)
    given = training.get_rows()["first"]
    np.testing.assert_allclose(given, 0.1 * torch.cat(expected, 1).numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_compiled_training_is_that_of_torch(normalize: bool) -> None:
    """With mini-batches that do not divide the data, and a step size that is halved on the way."""
    config = FactoredConfig(**ODD, normalize=normalize, halving_epochs=2)
    rows = []
    for compiled in (True, False):
        own = dataclasses.replace(config, compiled=compiled)
        training = FactoredLearner(own, make_data(), 2, [3, 4], "cpu")
        assert training.is_compiled == compiled
        training.run(5)
        rows.append(training.get_rows() | {"losses": training.losses.numpy()})
        assert training.done == 5 * 4
    assert_close(rows[0], rows[1], 1e-4)


@pytest.mark.parametrize("compiled", [True, False])
def test_training_repeats_itself(compiled: bool) -> None:
    config = FactoredConfig(**ODD, compiled=compiled)
    runs = []
    for _ in range(2):
        training = FactoredLearner(config, make_data(), 2, [3], "cpu")
        training.run(2)
        runs.append(training.get_rows()["parameters"])
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="denormal numbers are kept")
def test_compiled_training_takes_denormal_moments_for_zero() -> None:
    """As they are in the end where a unit has died, with which a step takes longer."""
    training = FactoredLearner(FactoredConfig(**ODD), make_data(), 2, [3], "cpu")
    training.model.state_network.biases[0].data.fill_(-1e3)
    rows = training.get_rows()
    rows["first"].fill(1e-39)
    training.set_rows(rows)
    training.run(1)
    moments = np.abs(training.get_rows()["first"])
    assert (moments == 0.0).any()
    assert moments[moments > 0.0].min() >= np.finfo(np.float32).tiny


def test_members_are_what_they_are_alone() -> None:
    """Bit for bit, whichever seeds and however many members are trained together."""
    rows = {}
    for seeds, n_models in (((3, 4), 2), ((4,), 2), ((4,), 1)):
        config = FactoredConfig(**ODD | {"n_models": n_models})
        training = FactoredLearner(config, make_data(), 2, seeds, "cpu")
        training.run(2)
        rows[seeds, n_models] = training.get_rows()["parameters"][-n_models:]
    np.testing.assert_array_equal(rows[(3, 4), 2], rows[(4,), 2])
    np.testing.assert_array_equal(rows[(3, 4), 2][:1], rows[(4,), 1])
    assert (rows[(4,), 2][0] != rows[(4,), 2][1]).any()


def low_rank_world(rank: int) -> tuple[LoggedData, tuple[Tensor, ...]]:
    """A tensor of known rank, with states linear; and what agents do whom nobody saw do it.

    Agent i never takes action i mod 4 in the data, and only that one in the test.
    """
    n, n_actions, d, n_steps = 20, 4, 3, 60
    rng = np.random.default_rng(0)
    u, w = rng.normal(size=(n, rank)), rng.normal(size=(n_actions, rank))
    v = rng.normal(size=(d + 1, d, rank)) / d**0.5

    def sample(n_each: int) -> tuple[Tensor, Tensor, Tensor]:
        agents = np.repeat(np.arange(n), n_each)
        states = rng.normal(size=(len(agents), d))
        actions = rng.integers(0, n_actions - 1, len(agents))
        actions = np.where(actions >= agents % n_actions, actions + 1, actions)
        if n_each != n_steps:
            actions = agents % n_actions
        features = np.c_[states, np.ones(len(states))]
        changes = np.einsum("bi,idr,br,br->bd", features, v, w[actions], u[agents])
        return torch.tensor(states).float(), torch.tensor(actions), torch.tensor(changes).float()

    states, actions, changes = sample(n_steps)
    agents = torch.arange(n)
    data = LoggedData(
        states,
        actions,
        torch.zeros(len(states)),
        states + changes,
        torch.zeros(len(states), dtype=torch.bool),
        agents.repeat_interleave(n_steps),
        torch.arange(n + 1) * n_steps,
    )
    return data, (*sample(5), agents.repeat_interleave(5))


@pytest.mark.parametrize(("rank", "recovered"), [(2, True), (1, False)])
def test_a_low_rank_tensor_is_recovered(rank: int, recovered: bool) -> None:
    """To the precision of float32, for pairs of agent and action that are not in the data."""
    data, (states, actions, changes, agents) = low_rank_world(2)
    config = FactoredConfig(
        rank=rank,
        n_models=2,
        state_layers=(),
        learning_rate=0.02,
        halving_epochs=12,
        batch_size=60,
    )
    training = FactoredLearner(config, data, 4, [0], "cpu")
    training.run(150)
    with torch.no_grad():
        rows = [part.expand(2, *part.shape) for part in (states, agents, actions)]
        errors = (training.model(*rows) - changes).square().mean((1, 2)).sqrt() / changes.std()
    assert bool((errors < 2e-6).all()) == recovered
    assert recovered or bool((errors > 0.1).all())


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("n_actions", [None, 3])
def test_folded_factors_give_the_model(n_actions: int | None, normalize: bool) -> None:
    data = make_data(n_actions=n_actions)
    layers = {"action_layers": (7, 6)} if n_actions is None else {}
    model, _ = make_model(
        data, n_actions, normalize=normalize, n_models=4, state_layers=(9, 8), **layers
    )
    members, agent = slice(1, 3), 5
    own = take_members(model, members)
    simulator = PersonalSimulator(own, own.agent_factors()[:, agent])
    states = torch.randn(4, 120, 3, generator=torch.Generator().manual_seed(1))
    actions = data.actions.expand(4, *data.actions.shape)
    inputs, agents = model.normalize(states), torch.full((4, 120), agent)
    changes = model(inputs, agents, actions) * model.scales["output_scale"]
    expected = (states + changes + model.scales["output_mean"])[members]
    given = simulator.step(states[members], data.actions, torch.zeros(120, dtype=torch.int64))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("env_id", "d", "n_actions"),
    [(TASK.env_id, 4, 2), (CAR.env_id, 2, 3), ("rmdp/HalfCheetahHet-n500-v0", 18, None)],
)
def test_plans_rolled_out_at_once_are_those_of_single_steps(
    env_id: str, d: int, n_actions: int | None, normalize: bool
) -> None:
    """Some plans end on the way, and some lead to numbers that are none."""
    data = make_data(d=d, n_actions=n_actions)
    data.observations.mul_(0.1)
    model, _ = make_model(data, n_actions, normalize=normalize)
    own = model.agent_factors()[:, 2]
    generator = torch.Generator().manual_seed(5)
    if n_actions is None:
        plans = 2 * torch.rand((3, 150, 8, 2), generator=generator) - 1
        data.observations[0, 0] = 24.995  # m/s: the model makes some faster than the limit
    else:
        plans = torch.randint(n_actions, (3, 150, 8), generator=generator)
    starts, envs = data.observations[:3].clone(), torch.arange(3)
    starts[2, 0] = torch.nan
    objective = objective_for(env_id)
    simulator = PersonalSimulator(model, own)
    expected = Dynamics._roll(simulator, objective, starts, plans, envs, None)
    for compiled in (True, False):
        simulator = PersonalSimulator(model, own, compiled=compiled)
        simulator._n_selected = 5 if compiled else 1  # many are what a GPU selects
        simulator.begin(3, 0)
        given = simulator.evaluate(objective, starts, plans, envs)
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    assert len(expected[:2].unique()) > 1
    endless = Objective(objective.reward, lambda *transition: transition[2][..., 0] > 1e9)
    on = Dynamics._roll(simulator, endless, starts, plans, envs, None)
    assert not normalize or bool((on != expected)[:2].any())
    assert env_id != CAR.env_id or bool((expected[2] == -torch.inf).all())


@pytest.mark.parametrize("n_selected", [1, 3])
def test_agents_plan_together_as_each_does_alone(n_selected: int) -> None:
    """With other numbers of episodes, one of which fails, and one agent whose only one does."""
    env_id = "rmdp/HalfCheetahHet-n500-v0"
    data = make_data(d=18, n_actions=None)
    data = dataclasses.replace(data, actions=data.actions.repeat(1, 3))
    model, _ = make_model(data, None)
    config = PlannerConfig(n_sequences=20, horizon=4, n_elites=5, n_iterations=2)
    n_rows = [2, 1, 3]
    seen = 0.1 * torch.randn(3, 6, 18, generator=torch.Generator().manual_seed(2)).numpy()
    seen[1, [1, 2], 0] = 30.0

    def make_policies() -> list[PlannerPolicy]:
        return [
            make_policy(
                env_id,
                PersonalSimulator(model, model.agent_factors()[:, agent]),
                config,
                seed=0,
                agent=agent,
            )
            for agent in (1, 3, 4)
        ]

    joined = PlannerPolicy.join_policies(make_policies(), n_rows)
    assert joined is not None and isinstance(joined._dynamics, PersonalSimulator)
    joined._dynamics._n_selected = n_selected
    joined.reset(6)
    together = np.stack([joined.act(observations) for observations in seen])
    alone = []
    rows_of = np.split(np.arange(6), np.cumsum(n_rows)[:-1])
    for policy, rows in zip(make_policies(), rows_of, strict=True):
        policy.reset(len(rows))
        alone.append(np.stack([policy.act(observations[rows]) for observations in seen]))
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), atol=1e-4)
    assert (together[1:, [1, 2]] == 0.0).all() and (together[:, [0, 3, 4, 5]] != 0.0).all()


@pytest.mark.parametrize("n_policies", [1, 2])
def test_a_plan_asks_whether_to_go_on(n_policies: int) -> None:
    """In each of its turns: one may take minutes."""
    data = make_data(d=18, n_actions=None)
    model, _ = make_model(dataclasses.replace(data, actions=data.actions.repeat(1, 3)), None)
    simulator = PersonalSimulator(model, model.agent_factors()[:, 0])
    config = PlannerConfig(n_sequences=20, horizon=4, n_elites=5, n_iterations=2)
    one = make_policy("rmdp/HalfCheetahHet-n500-v0", simulator, config, seed=0, agent=0)
    asked: list[None] = []

    def ask() -> None:
        asked.append(None)
        if len(asked) == 5:
            raise Interrupted

    joined = PlannerPolicy.join_policies([one] * n_policies, [1] * n_policies)
    policy: Any = one if n_policies == 1 else joined
    policy.reset(n_policies)
    observations = np.zeros((n_policies, 18))
    with before_each_step(ask):
        policy.act(observations)
        assert len(asked) == 3  # plans, and twice refined ones
        with pytest.raises(Interrupted):
            policy.act(observations)
    assert len(asked) == 5


def test_only_simulators_of_one_model_plan_together() -> None:
    half_cheetah = "rmdp/HalfCheetahHet-n500-v0"
    config = PlannerConfig(n_sequences=20, horizon=4, n_elites=5)
    models = [make_model(make_data(d=18, n_actions=None), None)[0] for _ in range(2)]
    discrete = make_model(make_data(d=4), 2)[0]

    def policy(model: Any, env_id: str = half_cheetah) -> Policy:
        simulator = PersonalSimulator(model, model.agent_factors()[:, 0])
        return make_policy(env_id, simulator, config, seed=0, agent=0)

    first = policy(models[0])
    assert PlannerPolicy.join_policies([first, policy(models[0])], [1, 1]) is not None
    others = [policy(models[1]), policy(take_members(models[0], slice(0, 1))), Always()]
    config = dataclasses.replace(config, horizon=3)
    others.append(policy(models[0]))
    for other in others:
        assert PlannerPolicy.join_policies([first, other], [1, 1]) is None
    assert PlannerPolicy.join_policies([policy(discrete, TASK.env_id)] * 2, [1, 1]) is None


def test_factors_of_a_new_agent_are_found_from_its_own_steps() -> None:
    """The agent is drawn from the model itself; of one who never moved, the mean is kept."""
    data = make_data(n_agents=30)
    model, _ = make_model(data, 2)
    new = make_data(n_agents=2, n_steps=40, seed=7)
    generator = torch.Generator().manual_seed(3)
    known = model.agent_factors()
    factors = known.mean(1, keepdim=True) + torch.randn(2, 2, 3, generator=generator)
    rows = [part.expand(2, *part.shape) for part in (new.observations, new.actions)]
    changes = (model.parts(*rows) * factors[:, new.agents].unsqueeze(-2)).sum(-1)
    for member in range(2):  # who see different worlds
        own = dataclasses.replace(new, next_observations=new.observations + changes[member])
        alone = take_members(model, slice(member, member + 1))
        found = fit_factors(alone, np.full(1, 1e-8), own)
        torch.testing.assert_close(found[0], factors[member], rtol=1e-3, atol=1e-3)
    noise = fit_factors(model, np.full(2, 1e8), new)
    torch.testing.assert_close(noise, known.mean(1, keepdim=True).expand(-1, 2, -1))


def test_factors_follow_from_parameters() -> None:
    data = make_data(n_agents=100)
    model, _ = make_model(data, 2)
    rng = np.random.default_rng(0)
    known, wanted = rng.uniform(1.0, 3.0, (100, 2)), rng.uniform(0.9, 3.1, (5, 2))

    def factors_of(parameters: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x, y = parameters.T
        return np.stack([x * y - 1, x**3 - y, y**2 * x], axis=1)

    model.agent_network.weights[0].copy_(torch.as_tensor(factors_of(known)))
    model.agent_network.biases[0].zero_()
    found = regress_factors(take_members(model, slice(1, 2)), known, wanted)
    np.testing.assert_allclose(found[0].numpy(), factors_of(wanted), rtol=1e-2, atol=1e-2)


def test_embedded_agents_do_not_depend_on_the_factors_coordinates() -> None:
    """u A and v A^-1 are the same model; distances of agents are those of predictions."""
    data = make_data(n_agents=10)
    model, _ = make_model(data, 2, n_models=1)
    before = embed_agents(model, data)
    assert before is not None and before.shape == (10, 3)
    stretch = torch.tensor([0.1, 5.0, -2.0])
    for part in (model.agent_network.weights[0], model.agent_network.biases[0]):
        part.mul_(stretch)
    for part in (model.action_network.weights[0], model.action_network.biases[0]):
        part.div_(stretch)
    after = embed_agents(model, data)
    assert after is not None
    np.testing.assert_allclose(np.abs(after), np.abs(before), rtol=1e-3, atol=1e-5)
    inputs, actions = data.observations[None], data.actions[None]
    first, second = (model(inputs, torch.full((1, 200), a), actions) for a in (2, 7))
    scale = (data.next_observations - data.observations).std(0, correction=0)
    expected = ((first - second) / scale).square().sum(-1).mean().sqrt()
    assert np.linalg.norm(before[2] - before[7]) == pytest.approx(float(expected), rel=1e-4)


class StopAfter(RunLog):
    """Asks the solver to stop at the given report."""

    def __init__(self, folders: list[Path], n_reports: int) -> None:
        stop = threading.Event()
        resume_at = max(list_checkpoints(folders[0]), default=None)
        super().__init__(TASK, [0, 1], folders, stop=stop, resume_at=resume_at)
        self.left, self.stop = n_reports, stop

    def progress(self, *arguments: Any, **keywords: Any) -> None:
        super().progress(*arguments, **keywords)
        self.left -= 1
        if not self.left:
            self.stop.set()


@pytest.mark.parametrize("compiled", [True, False])
def test_stopped_training_continues_bit_for_bit(compiled: bool, tmp_path: Path) -> None:
    config = FactoredConfig(**ODD, n_epochs=12, halving_epochs=7, compiled=compiled)
    data = make_data()
    expected = FactoredLearner(config, data, 2, [0, 1], "cpu")
    train(expected, RunLog(TASK, [0, 1]))
    folders = [tmp_path / "0", tmp_path / "1"]
    for epoch in (5, 10, 12):
        training = FactoredLearner(config, data, 2, [0, 1], "cpu")
        with pytest.raises(Interrupted):
            train(training, StopAfter(folders, 1))
        assert training.epoch == epoch
    training = FactoredLearner(config, data, 2, [0, 1], "cpu")
    train(training, StopAfter(folders, 1))  # has nothing left to do
    np.testing.assert_array_equal(
        training.get_rows()["parameters"], expected.get_rows()["parameters"]
    )
    np.testing.assert_array_equal(training.losses, expected.losses)


class Always:
    """One action."""

    def reset(self, n_envs: int) -> None:
        pass

    def act(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.ones(len(observations), np.int64)


def test_simulated_trajectories_are_those_of_the_model() -> None:
    data = make_data(d=4)
    data.observations.mul_(0.05)
    model, _ = make_model(data, 2)
    model.state_network.weights[-1].mul_(0.15)
    model.state_network.biases[-1].mul_(0.15)
    simulator = PersonalSimulator(model, model.agent_factors()[:, 1])
    policy: Policy = Always()
    starts = data.observations[:5]
    made = simulate(simulator, objective_for(TASK.env_id), policy, starts, 40)
    lengths = made.starts.diff()
    assert made.n_agents == 5 and len(set(lengths.tolist())) > 1
    torch.testing.assert_close(made.observations[made.starts[:-1]], starts)
    for agent in range(5):
        own = made.trajectory(agent)
        torch.testing.assert_close(own.observations[1:], own.next_observations[:-1])
        assert not own.terminated[:-1].any()
        assert own.terminated[-1] or len(own.agents) == 40
    members = made.observations.expand(2, -1, -1)
    following = simulator.step(members, made.actions, made.agents).mean(0)
    torch.testing.assert_close(made.next_observations, following)


@pytest.fixture(scope="module")
def trained() -> Any:
    """A small run on the real data, which the tests below share."""
    config = dataclasses.replace(
        persim.config_for(TASK),
        n_agents=120,
        n_models=2,
        n_epochs=30,
        halving_epochs=10,
        n_sequences=30,
        horizon=10,
    )
    (solution,) = persim.solve(TASK, config, [0], "cpu", RunLog(TASK, [0]))
    return config, solution


def test_predictions_beat_no_change_by_far(trained: Any) -> None:
    _, solution = trained
    own = score_predictions(TASK, solution.predict)

    def stand_still(agent: int, observations: Any, actions: Any) -> Any:
        return np.repeat(observations[:, -1:], actions.shape[1] - N_FORCED, axis=1)

    still = score_predictions(TASK, stand_still)
    ours, theirs = np.nanmedian(own.rmse), np.nanmedian(still.rmse)
    assert ours < 0.4 * theirs
    assert np.nanmedian(own.r2) > 0.8


def test_factors_tell_the_agents_apart(trained: Any) -> None:
    _, solution = trained
    assert solution.factors.shape == (120, 5)
    assert factor_correlation(TASK, solution.factors)["force"] > 0.8


@pytest.mark.parametrize("heldout", ["trajectory", "parameters"])
def test_planners_act_for_everybody(trained: Any, heldout: str) -> None:
    config, solution = trained
    episodes = heldout_episodes(TASK)
    _, ensemble = solution.adapt.args
    wanted = dataclasses.replace(ensemble, config=dataclasses.replace(config, heldout=heldout))
    adapted = solution.adapt.func(0, wanted, episodes)
    assert adapted.assignment.shape == (len(episodes), len(episodes))
    observations = np.random.default_rng(0).normal(0.0, 0.02, (6, 4)).astype(np.float32)
    for policies in (solution.policies, adapted.policies):
        for policy in policies[:5]:
            policy.reset(6)
            actions = policy.act(observations)
            assert actions.shape == (6,) and set(actions) <= {0, 1}
            policy.reset(6)
            np.testing.assert_array_equal(policy.act(observations), actions)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"state_layers": (0,)}, "state_layers"),
        ({"horizon": 0}, "horizon is 0"),
        ({"n_agents": 3}, "n_agents is 3"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        persim.Config(**settings)


def test_fewer_plans_than_elites_are_refused_before_any_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(persim, "check_factored", lambda task, config: None)  # needs the data
    task = get_offline_task("HalfCheetahHet-n500-pure-v1")
    with pytest.raises(ValueError, match="n_elites is 50; expected at most n_sequences, 20"):
        persim.check(task, dataclasses.replace(persim.config_for(task), n_sequences=20))


def test_a_model_that_has_diverged_is_scored_as_such(trained: Any) -> None:
    """It must not take the other seeds of the run with it."""
    config, solution = trained
    _, ensemble = solution.adapt.args
    model = copy.deepcopy(ensemble.model)
    model.state_network.weights[0][0, 0, 0] = torch.nan
    broken = Ensemble(TASK, config, model, ensemble.losses)
    data = load_data(TASK, config.n_agents)
    assert embed_agents(ensemble.model, data) is not None
    assert embed_agents(broken.model, data) is None
    assert score_predictions(TASK, predictor(broken.simulators())).r2.max() < -1.0
    adapted = solution.adapt.func(0, broken, heldout_episodes(TASK))
    planners = [
        make_policy(TASK.env_id, simulator, config, seed=0, agent=agent)
        for agent, simulator in enumerate(broken.simulators())
    ]
    for policy in (*planners, *adapted.policies):
        policy.reset(1)
        assert policy.act(np.zeros((1, 4), np.float32))[0] in (0, 1)


def test_compiled_loops_can_be_left_out(trained: Any) -> None:
    config, solution = trained
    _, ensemble = solution.adapt.args
    for compiled in (True, False):
        settings = dataclasses.replace(config, compiled=compiled)
        own = Ensemble(TASK, settings, ensemble.model, ensemble.losses)
        assert all((each._tables is not None) == compiled for each in own.simulators())


def test_layers_for_discrete_actions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"action_layers is \[5\]; expected \[\]"):
        persim.check(TASK, dataclasses.replace(persim.config_for(TASK), action_layers=(5,)))
