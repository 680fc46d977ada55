"""BCQ, CQL and behaviour cloning on worlds small enough to know the answer."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.offline.common import policies
from baselines.offline.common.data import LoggedData, join
from baselines.offline.common.networks import member_generators, member_keys
from baselines.offline.common.policies import ReplayLearner
from baselines.offline.common.replay import MemberRows, Replay
from baselines.offline.common.training import train
from baselines.offline.model_free import bcq, behaviour, cql
from baselines.offline.model_free.bcq import ContinuousBCQ, DiscreteBCQ, _best_allowed
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.solution import load_solution, save_solution
from rmdp_bench.tasks import get_offline_task, get_online_task

pytestmark = pytest.mark.arithmetic

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
GAMMA = 0.5
SMALL: dict[str, Any] = {"hidden_dims": (32, 32), "learning_rate": 1e-2}
LEARNERS = ["discrete bcq", "continuous bcq", "discrete cql", "continuous cql"]
CLONES = ["discrete", "continuous"]
KINDS = [*LEARNERS, *CLONES]
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def make_data(
    observations: Any, actions: Any, rewards: Any, *, terminated: Any = True, after: Any = None
) -> LoggedData:
    """Data of one agent; observations (N, d), `after` the next ones, by default the same."""
    n = len(observations)
    before = torch.as_tensor(observations, dtype=torch.float32)
    return LoggedData(
        observations=before,
        actions=torch.as_tensor(actions),
        rewards=torch.as_tensor(rewards, dtype=torch.float32),
        next_observations=before if after is None else torch.as_tensor(after).float(),
        terminated=torch.as_tensor(terminated).expand(n).clone(),
        agents=torch.zeros(n, dtype=torch.int64),
        starts=torch.tensor([0, n]),
    )


def random_data(seed: int, n: int, *, discrete: bool, d: int = 4) -> LoggedData:
    """Anything."""
    generator = torch.Generator().manual_seed(seed)
    observations = torch.randn(n, d, generator=generator)
    actions: Tensor = torch.randint(0, 2, (n,), generator=generator)
    if not discrete:
        actions = torch.rand(n, 2, generator=generator) * 2 - 1
    rewards = torch.randn(n, generator=generator)
    after = torch.randn(n, d, generator=generator)
    ended = torch.rand(n, generator=generator) < 0.1
    return make_data(observations, actions, rewards, terminated=ended, after=after)


def make_replay(
    datasets: Sequence[LoggedData],
    keys: Sequence[tuple[int, int]],
    batch_size: int,
    device: str = "cpu",
    *,
    normalize: bool = True,
) -> Replay:
    """A member for each of the data sets."""
    rows = MemberRows.of_agents(join([[own] for own in datasets]), range(len(datasets)))
    return Replay(rows, keys, batch_size, device, normalize=normalize)


def make_learner(
    kind: str,
    datasets: Sequence[LoggedData],
    keys: Sequence[tuple[int, int]] = ((0, 0),),
    *,
    n_actions: int = 2,
    batch_size: int = 64,
    normalize: bool = False,
    device: str = "cpu",
    **settings: Any,
) -> Any:
    settings = SMALL | settings
    replay = make_replay(datasets, keys, batch_size, device, normalize=normalize)
    match kind:
        case "discrete bcq":
            bcq_config = bcq.Config(batch_size=batch_size, **settings)
            return DiscreteBCQ(replay, bcq_config, GAMMA, n_actions)
        case "continuous bcq":
            wide = {"autoencoder_hidden_dims": (32, 32)} | settings
            return ContinuousBCQ(replay, bcq.Config(batch_size=batch_size, **wide), GAMMA)
        case "discrete cql":
            config = cql.Config(batch_size=batch_size, **settings)
            return cql.DiscreteCQL(replay, config, GAMMA, n_actions)
        case "continuous cql":
            return cql.ContinuousCQL(replay, cql.Config(batch_size=batch_size, **settings), GAMMA)
    cloning = behaviour.Config(batch_size=batch_size, **settings)
    return behaviour.Cloning(replay, cloning, n_actions if kind == "discrete" else None)


def make_updates(learner: ReplayLearner, n_updates: int) -> None:
    for n_done in range(n_updates):
        learner.update(n_done)


def act(learner: ReplayLearner, observations: Any, member: int = 0) -> Any:
    return learner.policy(member).act(np.asarray(observations, np.float32))


def bandit() -> LoggedData:
    """Action 0 costs 2, action 1 costs 1, action 2 is never taken."""
    actions = torch.arange(60) % 2
    return make_data(torch.ones(60, 1), actions, actions.float() - 2)


def test_seeds_draw_different_numbers_whatever_their_distance() -> None:
    """A generator of torch on the CPU starts from the low 32 bits of its seed alone."""

    def draw(seed: int) -> float:
        return float(torch.rand(1, generator=member_generators(member_keys([seed], 2), 3)[1]))

    seeds = [0, 1, 1023, 1024, 1025, 2048, 3072, 2**31 - 1024, 2**31 - 1]
    assert len({draw(seed) for seed in seeds}) == len(seeds)


def test_a_threshold_of_one_leaves_the_likeliest_action() -> None:
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    assert (_best_allowed(values, logits, 1.0) == logits.argmax(-1)).all()
    assert (_best_allowed(values, logits, 0.0) == values.argmax(-1)).all()


def test_discrete_bcq_stays_in_the_support_of_the_data() -> None:
    learner = make_learner("discrete bcq", [bandit()], n_actions=3)
    make_updates(learner, 200)
    values = learner.q(torch.ones(1, 1, 1))[0, 0].tolist()
    np.testing.assert_allclose(values[:2], [-2, -1], atol=0.1)
    assert values[2] > -0.8  # without the constraint it would be chosen
    assert act(learner, [[1.0]]).tolist() == [1]
    # The same in the target: action 1 is the best that is allowed, and judged by the copy.
    batch = learner.replay.batch(0)
    batch = dataclasses.replace(batch, continues=torch.ones_like(batch.continues))
    judged = learner._target.network(torch.ones(1, 1, 1))[0, 0, 1]
    torch.testing.assert_close(learner.targets(batch), batch.rewards + GAMMA * judged)


def test_discrete_cql_pushes_unseen_actions_down() -> None:
    values = {}
    for weight in (0.0, 1.0):
        learner = make_learner("discrete cql", [bandit()], n_actions=3, conservative_weight=weight)
        make_updates(learner, 300)
        values[weight] = learner.q(torch.ones(1, 1, 1))[0, 0].tolist()
        assert act(learner, [[1.0]]).tolist() == [1 if weight else 2]
    np.testing.assert_allclose(values[0.0][:2], [-2, -1], atol=0.1)
    assert values[1.0][2] < values[1.0][1] - 1 < values[0.0][2] - 1


@pytest.mark.parametrize("kind", LEARNERS)
def test_only_termination_stops_the_bootstrap(kind: str) -> None:
    """Both states repeat with reward 1: the one that ends is worth 1, the other 1 / (1 - gamma)."""
    states = torch.tensor([[-1.0], [1.0]]).repeat(20, 1)
    discrete = kind.startswith("discrete")
    actions = torch.zeros(40, dtype=torch.int64) if discrete else torch.zeros(40, 1)
    data = make_data(states, actions, torch.ones(40), terminated=states[:, 0] < 0)
    settings: dict[str, Any] = {"target_rate": 0.05}
    if kind.endswith("cql"):
        settings["conservative_weight"] = 0.0
    learner = make_learner(kind, [data], **settings)
    make_updates(learner, 250)
    rows = torch.tensor([[[-1.0], [1.0]]])
    if discrete:
        values = learner.q(rows)[0, :, 0]
    else:
        values = learner.critics(torch.cat((rows, torch.zeros_like(rows)), -1).expand(2, -1, -1))
        values = values.mean(0)[:, 0]
    np.testing.assert_allclose(values.tolist(), [1, 2], atol=0.15)


def test_clones_do_what_the_data_do() -> None:
    observations = torch.linspace(-1, 1, 80).unsqueeze(1)
    data = make_data(observations, (observations[:, 0] > 0).long(), torch.zeros(80))
    learner = make_learner("discrete", [data])
    make_updates(learner, 200)
    assert act(learner, [[-0.5], [-0.2], [0.2], [0.5]]).tolist() == [0, 0, 1, 1]
    learner = make_learner("continuous", [make_data(observations, observations / 2, [0.0] * 80)])
    make_updates(learner, 300)
    np.testing.assert_allclose(act(learner, [[-0.8], [0.4]]), [[-0.4], [0.2]], atol=0.05)


def linear_bandit() -> LoggedData:
    """The reward is the action, and all actions are between -0.5 and 0.5."""
    actions = torch.linspace(-0.5, 0.5, 200).unsqueeze(1)
    return make_data(torch.zeros(200, 1), actions, actions[:, 0])


def test_continuous_bcq_takes_the_best_of_the_support() -> None:
    actions = torch.tensor([[-0.9], [0.5]]).repeat(40, 1)
    data = make_data(torch.zeros(80, 1), actions, actions[:, 0] > 0)
    learner = make_learner("continuous bcq", [data], learning_rate=3e-3, perturbation=0.05)
    make_updates(learner, 300)
    ((action,),) = act(learner, [[0.0]])
    assert 0.4 < action < 0.56
    values = learner.critics(torch.tensor([[[0.0, 0.5], [0.0, 1.0]]]).expand(2, -1, -1))
    assert (values[:, 1] > values[:, 0]).all()  # without the constraint it would go to 1


def test_continuous_cql_pushes_unseen_actions_down() -> None:
    rows = torch.tensor([[[0.0, 0.4], [0.0, 1.0]]]).expand(2, -1, -1)
    for weight, conservative in ((0.0, False), (5.0, True)):
        learner = make_learner(
            "continuous cql",
            [linear_bandit()],
            conservative_weight=weight,
            policy_learning_rate=1e-2,
        )
        make_updates(learner, 300)
        inside, outside = learner.critics(rows)[..., 0].unbind(1)
        assert ((inside > outside) == conservative).all()
        ((action,),) = act(learner, [[0.0]])
        assert action < 0.6 if conservative else action > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_members_train_alone_as_they_train_together(kind: str) -> None:
    """To rounding: with several threads, how a product is divided depends on its size."""
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    discrete = kind.startswith("discrete")
    datasets = [random_data(seed, 30 + 7 * seed, discrete=discrete) for seed in range(3)]
    keys = [(5, 0), (5, 1), (9, 0)]
    together = make_learner(kind, datasets, keys, batch_size=32, normalize=True)
    make_updates(together, 4)
    for m in (0, 2):
        own = slice(m, m + 1)
        alone = make_learner(kind, datasets[own], keys[own], batch_size=32, normalize=True)
        make_updates(alone, 4)
        observations = datasets[0].observations.numpy()
        close(act(alone, observations), act(together, observations, m))
        theirs = together.tensors()
        for name, tensor in alone.tensors().items():
            close(tensor, theirs[name].unflatten(0, (3, -1))[m], err_msg=name)


def test_members_see_their_own_data_only() -> None:
    rewards = [torch.zeros(3), torch.ones(500)]
    datasets = [make_data(r.unsqueeze(1), r.long(), r) for r in rewards]
    replay = make_replay([*datasets, datasets[0]], [(0, 0), (0, 1), (1, 0)], 64)
    batch = replay.batch(700)
    assert batch.rewards.unique(dim=1).tolist() == [[0.0], [1.0], [0.0]]
    wide = make_data(
        torch.randn(100, 2, generator=torch.Generator().manual_seed(1)) * 9 + 5,
        torch.zeros(100, dtype=torch.int64),
        torch.zeros(100),
    )
    normalized = make_replay([wide], [(0, 0)], 4000).batch(0).observations
    np.testing.assert_allclose(normalized.mean((0, 1)), [0, 0], atol=0.1)
    np.testing.assert_allclose(normalized.std((0, 1)), [1, 1], atol=0.1)


class StopAt(RunLog):
    """Asks to stop at the given update; writes a checkpoint then."""

    def __init__(self, folders: list[Path], update: int | None) -> None:
        stop = threading.Event()
        start = max(set(list_checkpoints(folders[0])), default=None)
        super().__init__(TASK, [0, 1], folders, stop=stop, resume_at=start)
        self.update, self.stop = update, stop

    def progress(self, transitions: int, scalars: Any = None, *, total: int | None = None) -> None:
        super().progress(transitions, scalars, total=total)
        if transitions == self.update:
            self.stop.set()


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_it_continues_to_the_same_numbers(kind: str, tmp_path: Path) -> None:
    datasets = [random_data(seed, 40, discrete=kind.startswith("discrete")) for seed in range(4)]
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]

    def make() -> ReplayLearner:
        learner: ReplayLearner = make_learner(kind, datasets, keys, batch_size=32, n_updates=7)
        return learner

    whole = make()
    train(whole, RunLog(TASK, [0, 1]))
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(Interrupted):
        train(make(), StopAt(folders, 3))
    resumed = make()
    train(resumed, StopAt(folders, None))
    expected = whole.get_state()[0]
    for name, array in resumed.get_state()[0].items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    finished = make()  # the checkpoint at the end: nothing is left to train
    train(finished, StopAt(folders, None))
    assert all((a == expected[name]).all() for name, a in finished.get_state()[0].items())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_state_and_policies_leave_their_device(kind: str, device: str) -> None:
    data = random_data(0, 50, discrete=kind.startswith("discrete"))
    learner = make_learner(kind, [data], normalize=True, device=device)
    untrained = learner.get_state()[0]
    make_updates(learner, 2)
    state, _ = learner.get_state()
    assert all((array != untrained[name]).any() for name, array in state.items())
    assert all(np.isfinite(array).all() for array in state.values())
    copied = make_learner(kind, [data], normalize=True)
    copied.set_state(state, [{"done": 2}])
    observations = data.observations.numpy()
    np.testing.assert_array_equal(act(learner, observations), act(copied, observations))


@pytest.mark.parametrize("kind", KINDS)
def test_saved_policies_act_the_same(kind: str, tmp_path: Path) -> None:
    data = random_data(0, 50, discrete=kind.startswith("discrete"))
    learner = make_learner(kind, [data], normalize=True)
    make_updates(learner, 3)
    solution = policies.scoped_solutions([learner.policy(0)], 1, 5)[0]
    save_solution(solution, tmp_path / "solution")
    (loaded,) = load_solution(tmp_path / "solution").policies
    observations = np.random.default_rng(0).normal(size=(30, 4))
    expected = solution.policies[0].act(observations)
    actions = loaded.act(observations)
    assert actions.dtype == (np.int64 if kind.startswith("discrete") else np.float32)
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert abs(actions).max() <= 1


def six_agents(rewards_of_the_last: float) -> LoggedData:
    """Five test agents, whose data stay the same, and another."""
    parts = [random_data(agent, 20, discrete=True) for agent in range(6)]
    parts[5] = dataclasses.replace(
        parts[5],
        rewards=parts[5].rewards + rewards_of_the_last,
        actions=torch.full_like(parts[5].actions, rewards_of_the_last > 0),
    )
    joined = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in LoggedData.__annotations__
    }
    joined["agents"] = torch.arange(6).repeat_interleave(20)
    joined["starts"] = torch.arange(7) * 20
    return LoggedData(**joined)


@pytest.mark.parametrize("name", ["bcq", "cql", "behaviour"])
def test_scopes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = importlib.import_module(f"baselines.offline.model_free.{name}")
    observations = np.random.default_rng(0).normal(size=(200, 4))

    def solve(scope: str, other: float) -> OfflineSolution:
        for module in (policies, behaviour):
            monkeypatch.setattr(module, "load_data", lambda task, n_agents: six_agents(other))
        config = solver.Config(scope=scope, n_updates=30, **SMALL)
        solutions = solver.solve(TASK, config, [3, 4], "cpu", RunLog(TASK, [3, 4]))
        assert len(solutions) == 2
        first: OfflineSolution = solutions[0]
        return first

    def actions(solution: OfflineSolution) -> list[list[int]]:
        return [policy.act(observations).tolist() for policy in solution.policies]

    own = [solve("agent", other) for other in (0.0, 5.0)]
    assert actions(own[0]) == actions(own[1])
    assert own[0].assignment.tolist() == np.eye(5).tolist() and own[0].adapt is None
    assert len({str(a) for a in actions(own[0])}) == 5
    shared = [solve("population", other) for other in (0.0, 5.0)]
    assert actions(shared[0]) != actions(shared[1])
    assert shared[0].assignment.tolist() == [[1.0]] * 5
    assert shared[0].adapt is not None
    episodes: Any = [None, None]  # nobody looks
    adapted = shared[0].adapt(episodes)
    assert adapted.assignment.tolist() == [[1.0]] * 2
    assert adapted.policies[0] is shared[0].policies[0]


@pytest.mark.parametrize("name", ["bcq", "cql", "behaviour"])
def test_wrong_tasks_are_refused(name: str) -> None:
    solver = importlib.import_module(f"baselines.offline.model_free.{name}")
    with pytest.raises(ValueError, match="online task"):
        solver.check(get_online_task("HopperVel-n100-k2-v0"), solver.Config())
    with pytest.raises(ValueError, match="datasets build"):
        solver.check(get_offline_task("MountainCarHet-n500-pure-v1"), solver.Config())
    solver.check(TASK, solver.Config())  # its data are in the package
    with pytest.raises(ValueError, match="n_updates is 0"):
        solver.Config(n_updates=0)


def test_settings_follow_the_actions() -> None:
    cheetah = get_offline_task("HalfCheetahHet-n500-pure-v1")
    assert bcq.config_for(cheetah).hidden_dims == (400, 300)
    assert bcq.config_for(TASK) == bcq.Config()
    assert cql.config_for(cheetah).batch_size == 256
    assert cql.config_for(TASK) == cql.Config()


def test_returns_of_the_data() -> None:
    data = six_agents(1.0)
    returns = behaviour.data_returns(data)
    np.testing.assert_allclose(returns[2], data.rewards[40:60].sum(), rtol=1e-6)
    assert returns.shape == (6,)
