"""MOReL on a walk along a line: what is unknown, what halting costs, and the planner."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.offline.common import policies
from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import member_generators, member_keys
from baselines.offline.common.policies import NetworkPolicy
from baselines.offline.common.replay import MemberRows
from baselines.offline.morel import solver as morel
from baselines.offline.morel.actors import Actor
from baselines.offline.morel.learner import MorelConfig, MorelLearner
from baselines.offline.morel.model import (
    Paths,
    PessimisticModel,
    roll_out,
)
from baselines.offline.morel.natural_policy_gradient import (
    draw_visited,
    fisher_product,
    flatten,
    natural_gradient,
    unflatten,
)
from baselines.offline.planning.dynamics import Objective
from rmdp_bench.evaluation.prediction import N_FORCED, N_OPEN_LOOP
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.solution import Policy, load_solution, save_solution
from rmdp_bench.tasks import get_offline_task, get_online_task

pytestmark = pytest.mark.arithmetic

STEP = 0.1
TINY = MorelConfig(
    model_hidden_size=16,
    min_model_updates=20,
    max_model_updates=20,
    batch_size=32,
    cloning_updates=5,
    policy_hidden_size=8,
    iterations=3,
    n_paths=6,
    fisher_rows=32,
    baseline_updates=2,
)


def walk_reward(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    """The position on the line: the farther to the right, the better."""
    return following[..., 0]


def walk_terminated(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    """Never."""
    return torch.zeros_like(following[..., 0], dtype=torch.bool)


WALK = Objective(walk_reward, walk_terminated)


def walk(observations: Tensor, actions: Tensor) -> Tensor:
    """Action 0, 1, 2 goes left, stays, goes right; so does a vector by its first component."""
    moves = STEP * (actions - 1.0) if actions.dtype == torch.int64 else STEP * actions[..., 0]
    return torch.stack((observations[..., 0] + moves, 0.9 * observations[..., 1]), -1)


def walk_data(lengths: Sequence[int], *, continuous: bool = False) -> LoggedData:
    """Trajectories of random states within [-1, 1] and random actions."""
    generator = torch.Generator().manual_seed(0)
    n = sum(lengths)
    observations = torch.rand(n, 2, generator=generator) * 2 - 1
    actions = torch.randint(3, (n,), generator=generator)
    if continuous:
        actions = torch.rand(n, 2, generator=generator) * 2 - 1
    following = walk(observations, actions)
    return LoggedData(
        observations,
        actions,
        following[:, 0].clone(),
        following,
        torch.zeros(n, dtype=torch.bool),
        torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        torch.tensor([0, *np.cumsum(lengths)]),
    )


def make_learner(
    data: LoggedData,
    agents: Sequence[int],
    config: MorelConfig = TINY,
    seeds: Sequence[int] = (0,),
    horizon: int = 12,
) -> MorelLearner:
    """A member for each seed and agent."""
    rows = MemberRows.of_agents(data, [*agents] * len(seeds))
    n_actions = 3 if data.actions.ndim == 1 else None
    keys = member_keys(seeds, len(agents))
    return MorelLearner(rows, WALK, config, n_actions, horizon, keys)


def parameters_of(learner: MorelLearner) -> list[Tensor]:
    return [
        tensor
        for name, tensor in learner.tensors().items()
        if not name.endswith(("exp_avg", "exp_avg_sq"))
    ]


def advance_to(learner: MorelLearner, done: int) -> MorelLearner:
    while learner.done < done:
        learner.advance()
    return learner


@pytest.fixture(scope="module")
def trained() -> PessimisticModel:
    """An ensemble that knows the line within [-1, 1]."""
    config = dataclasses.replace(
        TINY, model_hidden_size=32, min_model_updates=400, max_model_updates=400, pessimism=1.0
    )
    learner = make_learner(walk_data([500]), [0], config)
    return advance_to(learner, learner.model_updates).model


@torch.no_grad()
def test_pairs_far_from_the_data_are_unknown_and_those_in_it_are_not(
    trained: PessimisticModel,
) -> None:
    data = trained.rows.data
    following, unknown = trained.step(data.observations[None], data.actions[None])
    assert not unknown.any()  # pessimism 1: the threshold is the largest disagreement there
    assert (following - data.next_observations).abs().max() < STEP
    far = 10 * torch.nn.functional.normalize(data.observations[None], dim=-1)
    assert trained.step(far, data.actions[None])[1].float().mean() > 0.95


def test_a_larger_pessimism_lowers_the_threshold(trained: PessimisticModel) -> None:
    before = trained.threshold.clone()
    trained.measure_threshold(4.0)
    lowered = trained.threshold.clone()
    trained.measure_threshold(1.0)
    assert torch.equal(trained.threshold, before)
    torch.testing.assert_close(lowered, before / 4)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_a_path_that_leaves_the_known_region_halts_with_the_penalty(
    trained: PessimisticModel, gamma: float
) -> None:
    horizon = 60

    def right(observations: Tensor, noise: Tensor) -> Tensor:
        return torch.full(observations.shape[:2], 2)

    starts, noise = torch.zeros(1, 4, 2), torch.zeros(horizon, 1, 4, 3)
    paths = roll_out(trained, right, starts, noise, gamma)
    assert paths.halted.all()
    lowest = float(trained.rows.data.rewards.min()) - TINY.halt_penalty
    for p in range(4):
        last = int(paths.lengths[0, p]) - 1
        assert 5 < last < horizon - 1  # ten steps to the right are in the data
        # HALT is absorbing: it pays its reward in all the steps that are left.
        expected = lowest * sum(gamma**k for k in range(horizon - last))
        assert paths.rewards[0, p, last].item() == pytest.approx(expected, rel=1e-4)
        assert not paths.rewards[0, p, last + 1 :].any()
        earned = paths.rewards[0, p, :last].sum()
        assert paths.returns[0, p].item() == pytest.approx(float(earned), rel=1e-4, abs=1e-4)


def test_a_path_that_stays_in_the_known_region_does_not_halt(trained: PessimisticModel) -> None:
    def stay(observations: Tensor, noise: Tensor) -> Tensor:
        return torch.ones(observations.shape[:2], dtype=torch.int64)

    paths = roll_out(trained, stay, torch.zeros(1, 4, 2), torch.zeros(10, 1, 4, 3), 1.0)
    assert not paths.halted.any()
    assert (paths.lengths == 10).all()


class KnownLine:
    """The line itself; it ends beyond 0.55 if it terminates at all."""

    def __init__(self, objective: Objective, n_members: int) -> None:
        self.objective, self.halt_reward = objective, torch.full((n_members,), -5.0)

    def step(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        following = walk(observations, actions)
        return following, torch.zeros(following.shape[:2], dtype=torch.bool)


def test_termination_ends_a_path_with_its_reward() -> None:
    def beyond(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return following[..., 0] > 0.55

    def right(observations: Tensor, noise: Tensor) -> Tensor:
        return torch.full(observations.shape[:2], 2)

    line = KnownLine(Objective(walk_reward, beyond), 1)
    paths = roll_out(line, right, torch.zeros(1, 2, 2), torch.zeros(20, 1, 2, 3), 1)
    assert (paths.lengths == 6).all()
    assert not paths.halted.any()
    torch.testing.assert_close(paths.rewards[0, 0, :6], STEP * torch.arange(1.0, 7.0))
    assert not paths.rewards[:, :, 6:].any()


@pytest.mark.parametrize("continuous", [False, True])
def test_planning_improves_the_return_in_a_known_model(
    continuous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    horizon = 15
    config = dataclasses.replace(
        TINY,
        iterations=30,
        n_paths=20,
        buffer_fraction=0.0,
        fisher_rows=200,
        cloning_updates=0,
        baseline_updates=20,
        step_size=0.05,
    )
    data = walk_data([50, 50], continuous=continuous)
    learner = make_learner(data, [0, 1], config, horizon=horizon)
    monkeypatch.setattr(learner, "model", KnownLine(WALK, 2))
    learner.done = learner.model_updates
    before = learner.roll_out().rewards.sum(2).mean(1)
    advance_to(learner, learner.total)
    after = learner.roll_out().rewards.sum(2).mean(1)
    best = STEP * horizon * (horizon + 1) / 2  # from 0, always to the right
    assert (after - before > 0.3 * best).all()


def tiny_actor(n_members: int, *, discrete: bool) -> Actor:
    return Actor(
        torch.zeros(n_members, 1, 2),
        torch.ones(n_members, 1, 2),
        3,
        (4,),
        member_generators(member_keys([0], n_members), 1),
        log_std=None if discrete else -0.3,
    )


@pytest.mark.parametrize("discrete", [True, False])
def test_the_natural_gradient_is_that_of_a_dense_solve(discrete: bool) -> None:
    damping = 1e-2
    actor = tiny_actor(2, discrete=discrete).double()
    actor.mean, actor.scale = actor.mean.double(), actor.scale.double()
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(2, 7, 2, generator=generator, dtype=torch.float64)
    like = dict(actor.named_parameters())
    flat = flatten([tensor.detach() for tensor in like.values()])
    gradient = torch.randn(flat.shape, generator=generator, dtype=torch.float64)
    found = natural_gradient(actor, observations, gradient, damping, 200)

    def divergence(parameters: Tensor) -> Tensor:
        """Mean KL of the policies as they are from those of `parameters`."""
        new = unflatten(parameters, like)
        outputs: Tensor = torch.func.functional_call(actor, new, (observations,))
        old = actor(observations).detach()
        if discrete:
            terms = old.softmax(-1) * (old.log_softmax(-1) - outputs.log_softmax(-1))
        else:
            old_log = like["log_std"].detach()
            ratio = (2 * (old_log - new["log_std"])).exp()
            squares = (old - outputs).square() / (2 * new["log_std"]).exp()
            terms = new["log_std"] - old_log + 0.5 * (ratio + squares - 1)
        total: Tensor = terms.sum(-1).mean(1).sum()
        return total

    hessian = torch.autograd.functional.hessian(divergence, flat)
    for m in range(2):
        dense = hessian[m, :, m] + damping * torch.eye(flat.shape[1])
        torch.testing.assert_close(
            found[m], torch.linalg.solve(dense, gradient[m]), rtol=1e-3, atol=1e-3
        )


def test_a_fisher_product_keeps_members_apart() -> None:
    actor = tiny_actor(2, discrete=True)
    observations = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    vector = torch.ones_like(flatten(list(actor.parameters())).detach())
    vector[1] = 0
    product = fisher_product(actor, observations)(vector)
    assert product[0].any()
    assert not product[1].any()


def test_visited_rows_are_those_before_the_end() -> None:
    lengths = torch.tensor([[1, 3], [4, 2]])
    rewards = torch.zeros(2, 2, 5)
    paths = Paths(rewards[..., None], rewards, rewards, lengths, lengths > 9, rewards[..., 0])
    rows = draw_visited(paths, 400, member_generators(member_keys([0], 2), 0))
    assert rows[0].unique().tolist() == [0, 5, 6, 7]
    assert rows[1].unique().tolist() == [0, 1, 2, 3, 5, 6]


@pytest.mark.parametrize("agents", [[1], [1, 2]])
@pytest.mark.parametrize("continuous", [False, True])
def test_a_member_learns_the_same_alone(continuous: bool, agents: list[int]) -> None:
    data = walk_data([40, 70, 90], continuous=continuous)
    together, alone = (make_learner(data, agents, TINY, seeds) for seeds in ([3, 4], [4]))
    for learner in (together, alone):
        advance_to(learner, learner.total)
    for batch, own in zip(parameters_of(together), parameters_of(alone), strict=True):
        assert torch.equal(batch[len(own) :], own)


@pytest.mark.parametrize("stop", [10, 22, 27])
def test_training_continues_bit_for_bit(stop: int) -> None:
    def learner() -> MorelLearner:
        return make_learner(walk_data([40, 70]), [0, 1], TINY, [5])

    whole = advance_to(learner(), 28)
    before, after = advance_to(learner(), stop), learner()
    after.set_state(*before.get_state())
    advance_to(after, 28)
    for expected, found in zip(parameters_of(whole), parameters_of(after), strict=True):
        assert torch.equal(expected, found)


def cart_pole_data(n_agents: int) -> LoggedData:
    generator = torch.Generator().manual_seed(0)
    n = 30 * n_agents
    observations = torch.randn(n, 4, generator=generator) * 0.1
    actions = torch.randint(2, (n,), generator=generator)
    following = observations + 0.02 * (actions[:, None] - 0.5)
    starts = torch.arange(n_agents + 1) * 30
    ends = torch.zeros(n, dtype=torch.bool)
    return LoggedData(
        observations, actions, torch.ones(n), following, ends, torch.arange(n) // 30, starts
    )


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data in the place of the dataset."""
    monkeypatch.setattr(policies, "load_data", lambda task, n: cart_pole_data(n))


def small_config(scope: Any) -> morel.Config:
    return morel.Config(**vars(TINY) | {"n_agents": 6}, scope=scope)


@pytest.mark.parametrize("scope", ["population", "agent"])
def test_solutions_serve_the_test_agents(logged: None, scope: str, tmp_path: Path) -> None:
    task = get_offline_task("CartPoleHet-n500-random-v1")
    log = RunLog(task, [0, 1])
    solutions = morel.solve(task, small_config(scope), [0, 1], "cpu", log)
    solution = solutions[1]
    n_policies = 1 if scope == "population" else 5
    assert solution.assignment.shape == (5, n_policies)
    save_solution(solution, tmp_path / "saved")
    loaded = load_solution(tmp_path / "saved")
    observations = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    for own, stored in zip(solution.policies, loaded.policies, strict=True):
        actions = own.act(observations)
        assert actions.dtype == np.int64
        np.testing.assert_array_equal(actions, stored.act(observations))
    assert solution.predict is not None
    histories = np.zeros((3, N_FORCED + 1, 4), np.float32)
    moves = np.zeros((3, N_FORCED + N_OPEN_LOOP), np.int64)
    foreseen = solution.predict(4, histories, moves)
    assert foreseen.shape == (3, N_OPEN_LOOP, 4)
    assert np.isfinite(foreseen).all()
    assert (solution.adapt is None) == (scope == "agent")


def test_continuous_policies_clip_their_means() -> None:
    actor = tiny_actor(3, discrete=False)
    observations = 50 * np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    with torch.no_grad():
        means = actor(torch.from_numpy(observations).expand(3, 20, 2))[2].clamp(-1, 1)
    np.testing.assert_allclose(actor.policy(2).act(observations), means, atol=1e-5)


def network_of(policy: Policy) -> torch.nn.Module:
    assert isinstance(policy, NetworkPolicy)
    return policy.network


def test_an_interrupted_run_ends_as_a_whole_one(logged: None, tmp_path: Path) -> None:
    task = get_offline_task("CartPoleHet-n500-random-v1")
    config = small_config("agent")
    (whole,) = morel.solve(task, config, [0], "cpu", RunLog(task, [0]))
    directories, stop = [tmp_path / "seed-0"], threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        morel.solve(task, config, [0], "cpu", RunLog(task, [0], directories, stop=stop))
    number = max(list_checkpoints(directories[0]))
    log = RunLog(task, [0], directories, resume_at=number)
    (resumed,) = morel.solve(task, config, [0], "cpu", log)
    for pair in zip(whole.policies, resumed.policies, strict=True):
        expected, found = (network_of(policy) for policy in pair)
        for own, other in zip(expected.parameters(), found.parameters(), strict=True):
            assert torch.equal(own, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_models", 1), ("pessimism", 0.0), ("buffer_fraction", 1.5), ("max_model_updates", 10)],
)
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        dataclasses.replace(TINY, **{name: value})


def test_online_tasks_are_refused() -> None:
    task = get_online_task("ResourceGathering-n25-k3-v0")
    with pytest.raises(ValueError, match="online task"):
        morel.check(task, morel.config_for(task))
