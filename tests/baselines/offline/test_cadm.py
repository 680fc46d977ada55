"""CaDM on a toy family, where what its context must hold is known, and in the planner."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.offline.cadm import solutions as context_solutions
from baselines.offline.cadm.cadm import SquaredError
from baselines.offline.cadm.model import ContextConfig, ContextModel, ForwardHead, Scales
from baselines.offline.cadm.pe_cadm import GaussianLikelihood, ParticleDynamics
from baselines.offline.cadm.solutions import ContextDynamics, mean_contexts, member_models
from baselines.offline.cadm.training import ContextLearner, Histories
from baselines.offline.common.data import LoggedData, load_data
from baselines.offline.common.training import train
from rmdp_bench.evaluation.offline import OfflineSolution, heldout_episodes
from rmdp_bench.evaluation.prediction import N_FORCED, N_OPEN_LOOP
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.tasks import get_offline_task, get_online_task

pytestmark = pytest.mark.arithmetic

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
CHEETAH_TASK = get_offline_task("HalfCheetahHet-n500-pure-v1")
SMALL: dict[str, Any] = {
    "n_updates": 800,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "final_learning_rate": 5e-4,
    "hidden_sizes": (32, 32),
    "weight_decays": (0.0, 0.0, 0.0),
    "encoder_sizes": (32,),
    "encoder_weight_decays": (0.0, 0.0),
    "context_size": 4,
    "history_length": 5,
    "future_length": 5,
}
TINY = SMALL | {"n_updates": 40}


def toy_data(gains: Sequence[float], n_steps: int, seed: int) -> LoggedData:
    """Agents whose push moves a point by `gain`, in a noisy linear system with two actions."""
    rng = np.random.default_rng(seed)
    rows = len(gains) * n_steps
    data = LoggedData(
        observations=torch.zeros(rows, 2),
        actions=torch.from_numpy(rng.integers(2, size=rows)),
        rewards=torch.zeros(rows),
        next_observations=torch.zeros(rows, 2),
        terminated=torch.zeros(rows, dtype=torch.bool),
        agents=torch.arange(len(gains)).repeat_interleave(n_steps),
        starts=torch.arange(len(gains) + 1) * n_steps,
    )
    for i, gain in enumerate(gains):
        state = torch.from_numpy(rng.normal(size=2)).float()
        for t in range(i * n_steps, (i + 1) * n_steps):
            push = gain * (2.0 * float(data.actions[t]) - 1.0)
            data.observations[t] = state
            state = torch.stack([0.9 * state[0] + 0.1 * state[1], 0.9 * state[1] + push])
            state += torch.from_numpy(rng.normal(scale=0.03, size=2))
            data.next_observations[t] = state
    return data


def make_learner(
    config: ContextConfig,
    data: LoggedData,
    *,
    seeds: Sequence[int] = (0,),
    ensemble_size: int = 1,
    head: ForwardHead | None = None,
) -> ContextLearner:
    model = ContextModel(
        config, Scales.from_data(data, 2), 2, head or SquaredError(), seeds, ensemble_size
    )
    return ContextLearner(model, data, config, seeds, ensemble_size)


GAINS = np.linspace(0.2, 2.0, 40).tolist()
NEW_GAINS = np.linspace(0.3, 1.9, 9).tolist()


@pytest.fixture(scope="module", params=["cadm", "pe_cadm"])
def trained(request: pytest.FixtureRequest) -> ContextLearner:
    """Trained on the toy family, one member or an ensemble of two."""
    data, config = toy_data(GAINS, 30, seed=1), ContextConfig(**SMALL)
    if request.param == "cadm":
        learner = make_learner(config, data)
    else:
        learner = make_learner(config, data, ensemble_size=2, head=GaussianLikelihood(2, 2))
    train(learner, RunLog(TASK, [0]))
    return learner


@torch.no_grad()
def prediction_error(learner: ContextLearner, data: LoggedData, histories: Histories) -> float:
    """Root mean square error of one-step predictions with complete histories."""
    rows = (histories.positions >= learner.model.history_length).nonzero()[:, 0]
    n_members = learner.model.n_members
    contexts = learner.model.encode(histories.before(rows).expand(n_members, -1, -1, -1))
    observations = data.observations[rows].expand(n_members, -1, -1)
    predicted = learner.model.predict(observations, data.actions[rows], contexts)
    return float(((predicted - data.next_observations[rows]) ** 2).mean().sqrt())


def test_contexts_of_unknown_agents_tell_their_parameter(trained: ContextLearner) -> None:
    factors = mean_contexts(trained.model, trained.data)
    unknown = mean_contexts(trained.model, toy_data(NEW_GAINS, 30, seed=2))
    assert factors.shape == (len(GAINS), 4 * trained.model.n_members)
    inputs = np.c_[factors, np.ones(len(factors))]
    weights = np.linalg.lstsq(inputs, np.array(GAINS), rcond=1e-4)[0]
    told = np.c_[unknown, np.ones(len(unknown))] @ weights
    assert np.corrcoef(told, NEW_GAINS)[0, 1] > 0.95
    # The trajectory whose mean context is nearest is that of one of the most similar agents.
    nearest = ((unknown[:, None] - factors) ** 2).sum(2).argmin(1)
    assert np.abs(np.array(GAINS)[nearest] - NEW_GAINS).mean() < 0.15


def test_predictions_are_better_with_the_context_than_without(trained: ContextLearner) -> None:
    blind = make_learner(ContextConfig(**SMALL), trained.data)
    blind.histories._pairs.zero_()
    train(blind, RunLog(TASK, [0]))
    data = toy_data(NEW_GAINS, 30, seed=3)
    histories = Histories(trained.model, data)
    with_context = prediction_error(trained, data, histories)
    histories._pairs.zero_()
    assert with_context < 0.4 * prediction_error(blind, data, histories)


def test_encoder_learns_from_both_losses() -> None:
    learner = make_learner(ContextConfig(**TINY), toy_data(GAINS[:5], 20, seed=0))
    data, rows = learner.data, torch.arange(10, 18)[None]
    losses = learner.model.losses(
        learner.histories.before(rows),
        data.observations[rows],
        data.actions[rows],
        data.next_observations[rows],
    )
    weights = list(learner.model.encoder.weights)
    forward, backward = (
        torch.autograd.grad(loss.sum(), weights, retain_graph=True) for loss in losses
    )
    assert all(slope.abs().sum() > 0 for slope in (*forward, *backward))
    # And the backward model only from its own.
    unused = torch.autograd.grad(
        losses[0].sum(), list(learner.model.backward_model.weights), allow_unused=True
    )
    assert [slope is None for slope in unused] == [True, True, True]


@pytest.mark.parametrize("ensemble_size", [1, 3])
def test_members_trained_together_equal_members_alone(ensemble_size: int) -> None:
    data, config = toy_data(GAINS[:6], 20, seed=0), ContextConfig(**TINY)

    def parameters(seeds: Sequence[int]) -> list[dict[str, Tensor]]:
        head = GaussianLikelihood(len(seeds) * ensemble_size, 2)
        learner = make_learner(config, data, seeds=seeds, ensemble_size=ensemble_size, head=head)
        train(learner, RunLog(TASK, seeds))
        models = member_models(learner.model, len(seeds))
        return [dict(model.named_parameters()) for model in models]

    alone, together = parameters([4])[0], parameters([3, 4])
    assert all(torch.equal(alone[name], together[1][name]) for name in alone)
    assert not torch.equal(alone["encoder.weights.0"], together[0]["encoder.weights.0"])
    first, second = alone["forward_model.weights.0"][[0, -1]]
    assert torch.equal(first, second) == (ensemble_size == 1)


def test_histories_hold_the_last_steps_of_the_same_episode() -> None:
    learner = make_learner(ContextConfig(**TINY), toy_data(GAINS[:4], 7, seed=0))
    data, model, histories = learner.data, learner.model, learner.histories
    pairs = model.pairs(data.observations, data.actions, data.next_observations)
    assert pairs.shape == (28, 4)
    difference = data.next_observations - data.observations
    torch.testing.assert_close(pairs[:, :2] * difference.std(0, correction=0), difference)
    assert torch.equal(pairs[:, 2:].argmax(1), data.actions)
    for agent in range(4):
        assert histories.before(data.starts[agent]).abs().sum() == 0
        third = histories.before(data.starts[agent] + 2)
        assert third[:3].abs().sum() == 0
        assert torch.equal(third[3:], pairs[7 * agent : 7 * agent + 2])
        assert torch.equal(histories.before(data.starts[agent] + 6), pairs[7 * agent + 1 :][:5])


def test_batches_pair_a_transition_with_one_of_the_histories_before_it() -> None:
    data = toy_data(GAINS[:4], 7, seed=0)
    learner = make_learner(ContextConfig(**TINY), data, ensemble_size=2)
    transitions, origins = learner._draw(200)
    assert transitions.shape == (200, 2, 64)
    assert torch.equal(data.agents[transitions], data.agents[origins])
    steps = transitions - origins
    assert sorted(set(steps.flatten().tolist())) == [0, 1, 2, 3, 4]
    # A bootstrap sample lacks about 1 / e of the transitions, each member others.
    seen = [set(transitions[:, member].flatten().tolist()) for member in range(2)]
    assert seen[0] != seen[1] and all(10 <= len(rows) <= 25 for rows in seen)
    single = make_learner(ContextConfig(**TINY), data)._draw(200)[0]
    assert set(single.flatten().tolist()) == set(range(28))


def test_dynamics_keep_the_history_of_every_environment(trained: ContextLearner) -> None:
    data, model = trained.data, trained.model
    dynamics = ContextDynamics(model)
    dynamics.begin(2, seed=0)
    fresh = dynamics.contexts.clone()
    assert torch.equal(fresh[:, 0], fresh[:, 1])
    for t in range(8):
        rows = torch.tensor([t, 39 * 30 + t])  # agents 0 and 39
        torch.testing.assert_close(
            dynamics.contexts,
            model.encode(trained.histories.before(rows).expand(model.n_members, -1, -1, -1)),
        )
        dynamics.observe(data.observations[rows], data.actions[rows], data.next_observations[rows])
    envs = torch.tensor([0, 1])
    states = torch.zeros(model.n_members, 2, 2)
    one, other = dynamics.step(states, torch.tensor([1, 1]), envs)[0]
    assert (one - other).abs().max() > 0.5  # their gains differ by 1.8
    dynamics.begin(2, seed=0)
    assert torch.equal(dynamics.contexts, fresh)


def test_log_variances_are_bounded() -> None:
    head = GaussianLikelihood(2, 3)
    outputs = torch.linspace(-1e4, 1e4, 2 * 50 * 6).reshape(2, 50, 6)
    means, log_variances = head.distribution(outputs)
    assert torch.equal(means, outputs[..., :3])
    assert log_variances.min() >= -10.0 and log_variances.max() <= 0.5 + math.exp(-10.0)
    assert log_variances.min() < -9.99 and log_variances.max() > 0.49


def test_gaussian_loss_is_the_likelihood() -> None:
    head = GaussianLikelihood(1, 3)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1, 20, 6, generator=generator)
    targets = torch.randn(1, 20, 3, generator=generator)
    means, log_variances = head.distribution(outputs)
    normal = torch.distributions.Normal(means, torch.exp(log_variances / 2))
    likelihood = -2 * normal.log_prob(targets).mean() - math.log(2 * math.pi)
    loss = head.loss(outputs, targets)
    torch.testing.assert_close(loss[0], likelihood + 0.01 * 3 * 10.5)
    loss.sum().backward()
    assert all(bound.grad is not None for bound in head.parameters())


def test_particles_stay_with_their_member() -> None:
    data = toy_data(GAINS[:4], 7, seed=0)
    learner = make_learner(
        ContextConfig(**TINY), data, ensemble_size=2, head=GaussianLikelihood(2, 2)
    )
    model = member_models(learner.model, 1)[0]
    particles, means = ParticleDynamics(model, 6), ContextDynamics(model)
    states = torch.arange(12.0).reshape(6, 1, 2).expand(6, 4, 2)
    actions, envs = torch.tensor([0, 1, 1, 0]), torch.zeros(4, dtype=torch.int64)
    expected = torch.stack(
        [means.step(states[p].expand(2, 4, 2), actions, envs)[p // 3] for p in range(6)]
    )
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [particles.step(states, actions, envs, generator) for _ in range(400)]
    ).double()
    deviation = drawn.std(0)
    assert deviation.min() > 0.01
    assert ((drawn.mean(0) - expected).abs() < 5 * deviation / 400**0.5).all()
    # Without noise they are where their member expects them.
    head = model.head
    assert isinstance(head, GaussianLikelihood)
    head.least.fill_(-100.0)
    head.greatest.fill_(-99.0)
    torch.testing.assert_close(particles.step(states, actions, envs, generator), expected)


class StoppingLog(RunLog):
    """Asks to stop once some updates are made."""

    stop_at: int | None = None

    def progress(
        self,
        transitions: int,
        scalars: Mapping[str, Sequence[float]] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        super().progress(transitions, scalars, total=total)
        if transitions == self.stop_at:
            self._stop.set()


def test_training_continues_bit_for_bit(tmp_path: Path) -> None:
    data, config, seeds = toy_data(GAINS[:6], 20, seed=0), ContextConfig(**TINY), [2, 5]

    def make() -> ContextLearner:
        head = GaussianLikelihood(4, 2)
        return make_learner(config, data, seeds=seeds, ensemble_size=2, head=head)

    directories = [tmp_path / f"seed-{seed}" for seed in seeds]
    for directory in directories:
        directory.mkdir()
    log = StoppingLog(TASK, seeds, directories, stop=threading.Event())
    log.stop_at = 20
    with pytest.raises(Interrupted):
        train(make(), log)
    resumed, whole, again = make(), make(), make()
    train(resumed, RunLog(TASK, seeds, directories, resume_at=1))
    train(whole, RunLog(TASK, seeds))
    train(again, RunLog(TASK, seeds, directories, resume_at=2))  # all done: nothing to train
    for other in (resumed, again):
        for name, tensor in whole.tensors().items():
            assert torch.equal(tensor, other.tensors()[name]), name


def test_continuous_actions_are_normalised() -> None:
    data = toy_data(GAINS[:3], 10, seed=0)
    actions = torch.stack([data.actions.float(), 3.0 * data.observations[:, 0] + 1.0], 1)
    data = LoggedData(**(vars(data) | {"actions": actions}))
    model = ContextModel(
        ContextConfig(**TINY), Scales.from_data(data, None), None, SquaredError(), [0], 1
    )
    rows = model.inputs(data.observations[None], actions[None], torch.zeros(1, 30, 4))[0, :, :4]
    torch.testing.assert_close(rows.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(4))


@pytest.mark.parametrize("name", ["cadm", "pe_cadm"])
def test_solver_plans_predicts_and_serves_unknown_agents(name: str) -> None:
    solver = importlib.import_module(f"baselines.offline.cadm.{name}")
    config = solver.Config(**TINY, n_agents=6, n_sequences=12, horizon=4)
    solver.check(TASK, config)
    one, other = solver.solve(TASK, config, [0, 1], "cpu", RunLog(TASK, [0, 1]))
    assert isinstance(one, OfflineSolution) and one.adapt and one.predict
    assert one.assignment.shape == (5, 1)
    rng = np.random.default_rng(0)
    observations = rng.uniform(-0.05, 0.05, (N_FORCED + N_OPEN_LOOP + 1, 3, 4)).astype(np.float32)
    chosen = []
    for solution in (one, one, other):
        policy = solution.policies[0]
        policy.reset(3)
        chosen.append([policy.act(observations[t]).tolist() for t in range(12)])
    assert chosen[0] == chosen[1] != chosen[2]
    assert np.shape(chosen) == (3, 12, 3) and set(np.ravel(chosen)) == {0, 1}
    adapted = one.adapt(heldout_episodes(TASK)[:2])
    assert adapted.assignment.tolist() == [[1.0], [1.0]]
    seen = observations[: N_FORCED + 1].swapaxes(0, 1)
    actions = rng.integers(2, size=(3, N_FORCED + N_OPEN_LOOP))
    predictions = one.predict(0, seen, actions)
    assert predictions.shape == (3, N_OPEN_LOOP, 4)
    late = actions.copy()
    late[:, -1] = 1 - late[:, -1]
    assert (one.predict(0, seen, late)[:, :-1] == predictions[:, :-1]).all()
    assert one.factors is not None and len(one.factors) == 6
    assert len(load_data(TASK, 6).starts) == 7


@pytest.mark.parametrize("name", ["cadm", "pe_cadm"])
def test_solver_plans_with_continuous_actions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(61, 18, generator=generator)
    data = toy_data(GAINS[:5], 12, seed=0)
    data = LoggedData(
        **vars(data)
        | {
            "observations": observations[:-1],
            "next_observations": observations[1:],
            "actions": torch.rand(60, 6, generator=generator),
        }
    )
    monkeypatch.setattr(context_solutions, "load_data", lambda task, n_agents: data)
    solver, task = importlib.import_module(f"baselines.offline.cadm.{name}"), CHEETAH_TASK
    config = solver.Config(**TINY, n_sequences=8, n_elites=3, n_iterations=1, horizon=3)
    (solution,) = solver.solve(task, config, [0], "cpu", RunLog(task, [0]))
    policy = solution.policies[0]
    policy.reset(2)
    actions = [policy.act(observations[t : t + 2].numpy()) for t in range(3)]
    assert np.shape(actions) == (3, 2, 6) and np.abs(actions).max() <= 1.0
    assert len(np.unique(actions)) > 30


def test_settings_are_checked() -> None:
    cadm, pe_cadm = (
        importlib.import_module(f"baselines.offline.cadm.{name}") for name in ("cadm", "pe_cadm")
    )
    with pytest.raises(
        ValueError, match=r"n_particles is 12; expected a multiple of ensemble_size, 5"
    ):
        pe_cadm.Config(n_particles=12)
    with pytest.raises(ValueError, match=r"weight_decays is \(0.1,\); expected 5 numbers from 0"):
        cadm.Config(weight_decays=(0.1,))
    with pytest.raises(ValueError, match="history_length is 0; expected 1 to 1000"):
        cadm.Config(history_length=0)
    with pytest.raises(ValueError, match="horizon is 0"):
        cadm.Config(horizon=0)
    with pytest.raises(ValueError, match="is an online task"):
        cadm.check(get_online_task("HalfCheetahVel-n100-k5-v0"), cadm.Config())
    assert cadm.config_for(CHEETAH_TASK).horizon == 30
