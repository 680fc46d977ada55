"""Policies trained inside simulators: the worlds they see, and the solver from end to end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.offline.morel.learner import MorelConfig
from baselines.offline.persim import ensembles, persim_policy
from baselines.offline.persim.simulated_worlds import SimulatedWorlds
from baselines.offline.planning.dynamics import Objective
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.tasks import get_offline_task, get_online_task
from tests.helpers.persim_toys import (
    StopAfter,
    assert_same,
    check_all_that_is_offered,
    half_cheetah_log,
    make_log,
    make_simulator,
    weights,
)

pytestmark = pytest.mark.arithmetic

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
SMALL: dict[str, Any] = {
    "n_agents": 6,
    "n_models": 2,
    "n_epochs": 10,
    "batch_size": 256,
    "state_layers": (16,),
    "cloning_updates": 4,
    "policy_hidden_size": 32,
    "iterations": 6,
    "n_paths": 8,
    "path_length": 10,
}


@pytest.fixture(scope="module", autouse=True)
def _few_inner_steps() -> Iterator[None]:
    """What MOReL's learner does in each iteration, and is tested there, is nearly all the time."""
    few = partial(MorelConfig, conjugate_gradient_iterations=5, baseline_updates=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(persim_policy, "MorelConfig", few)
        yield


def sum_of_actions(before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
    return actions.float()


def never(before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
    return torch.zeros(before.shape[:-1], dtype=torch.bool)


def make_worlds(n_actions: int | None, pessimism: float = 1.0) -> SimulatedWorlds:
    log, simulator = make_log(n_actions), make_simulator(make_log(n_actions), n_actions)
    objective = Objective(sum_of_actions, never)
    return SimulatedWorlds([simulator] * 2, log, objective, pessimism=pessimism, halt_penalty=0.5)


@pytest.mark.parametrize("n_actions", [2, None])
def test_a_path_keeps_to_one_member(n_actions: int | None) -> None:
    log, worlds = make_log(n_actions), make_worlds(n_actions)
    rows = torch.tensor([[3, 3, 8, 8], [20, 21, 22, 23]])
    following, unknown = worlds.step(log.observations[rows], log.actions[rows])
    simulator = worlds.simulators[0]
    members = torch.arange(4) % 2
    for agent in range(2):
        observations = log.observations[rows[agent]].expand(2, -1, -1)
        envs = torch.zeros(4, dtype=torch.int64)
        predictions = simulator.step(observations, log.actions[rows[agent]], envs)
        expected = predictions[members, torch.arange(4)]
        torch.testing.assert_close(following[agent], expected, rtol=0, atol=1e-6)
    assert not torch.equal(following[0, 0], following[0, 1]) or n_actions is None
    assert unknown.shape == (2, 4)


def test_contradictions_and_numbers_that_are_none_halt_a_path() -> None:
    """Nothing in the log is beyond the threshold, half of which something is; nor what runs off."""
    log = make_log(2)
    rows = torch.arange(60).expand(2, -1)
    calm, strict = make_worlds(2), make_worlds(2, pessimism=1.5)
    calm.threshold = calm.threshold * (1 + 1e-5)  # blocks of another size are rounded otherwise
    assert not calm.step(log.observations[rows], log.actions[rows])[1].any()
    unknown = strict.step(log.observations[rows], log.actions[rows])[1]
    assert unknown.any() and not unknown.all()
    far = torch.full((2, 60, 4), 1e4)
    assert calm.step(far, log.actions[rows])[1].all()
    assert calm.step(far * torch.nan, log.actions[rows])[1].all()
    assert calm.halt_reward.tolist() == [0.5, 0.5]  # all rewards of the log are 1


def solve(seeds: list[int], log: RunLog | None = None, **settings: Any) -> list[OfflineSolution]:
    config = dataclasses.replace(persim_policy.config_for(TASK), **SMALL | settings)
    return persim_policy.solve(TASK, config, seeds, "cpu", log or RunLog(TASK, seeds))


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
        first = weights(solution)
        assert (first[0] != first[len(first) // 5]).any()  # agents differ


def test_all_that_a_solution_offers(together: list[OfflineSolution], tmp_path: Path) -> None:
    check_all_that_is_offered(together[0], TASK, tmp_path / "solution")


def test_a_stopped_run_continues_bit_for_bit(
    together: list[OfflineSolution], tmp_path: Path
) -> None:
    """Stopped in the model's training, at its end, and between the policies' iterations."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for n_reports in (1, 1, 2):
        with pytest.raises(Interrupted):
            solve([0, 1], StopAfter(folders, n_reports))
    last = StopAfter(folders, 1000)
    continued = solve([0, 1], last)
    assert "policy_model_return" in last.reports and "model_loss" not in last.reports
    assert 1000 - last.left == 6 - 2  # no iteration was made again
    for first, second in zip(together, continued, strict=True):
        assert_same(first, second)
    finished = StopAfter(folders, 1)
    assert_same(together[0], solve([0, 1], finished)[0])
    assert not finished.reports


def test_iterations_raise_the_return_in_the_simulators() -> None:
    """From a policy that acts at random, in worlds whose members agree to within reason.

    Of four seeds the last returns were 1.7 to 2.1 times the first.
    """
    reports: list[float] = []

    class Returns(RunLog):
        def progress(self, transitions: int, scalars: Any = None, **keywords: Any) -> None:
            super().progress(transitions, scalars, **keywords)
            if "policy_model_return" in scalars:
                reports.extend(scalars["policy_model_return"])

    more = {"iterations": 12, "n_paths": 20, "path_length": 60, "cloning_updates": 0}
    solve([0], Returns(TASK, [0]), **more, n_epochs=60)
    assert np.mean(reports[-5:]) > 1.3 * np.mean(reports[:2])


def test_continuous_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """On logged noise of HalfCheetah's size."""
    cheetah = get_offline_task("HalfCheetahHet-n500-random-v1")
    log = half_cheetah_log()
    monkeypatch.setattr(ensembles, "load_data", lambda task, n_agents: log)
    config = persim_policy.config_for(cheetah)
    assert config.path_length == 50 and config.batch_size == 1024
    small = SMALL | {"iterations": 1, "action_layers": (8,), "rank": 3}
    config = dataclasses.replace(config, **small)
    (solution,) = persim_policy.solve(cheetah, config, [0], "cpu", RunLog(cheetah, [0]))
    actions = solution.policies[4].act(np.zeros((3, 18), np.float32))
    assert actions.shape == (3, 6) and np.abs(actions).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pessimism": 0.0}, "pessimism is 0"),
        ({"halt_penalty": -1.0}, "halt_penalty is -1"),
        ({"cloning_updates": -1}, "cloning_updates is -1"),
        ({"policy_hidden_size": 0}, "policy_hidden_size is 0"),
        ({"iterations": -1}, "iterations is -1"),
        ({"n_paths": 0}, "n_paths is 0"),
        ({"path_length": 0}, "path_length is 0"),
        ({"buffer_fraction": 1.5}, "buffer_fraction is 1.5; expected 0"),
        ({"discount": 1.5}, "discount is 1.5; expected 0"),
        ({"step_size": 0.0}, "step_size is 0"),
        ({"rank": 0}, "rank is 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        persim_policy.Config(**settings)


def test_wrong_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="online task"):
        persim_policy.check(get_online_task("HopperVel-n100-k2-v0"), persim_policy.Config())
    with pytest.raises(ValueError, match=r"action_layers is \[5\]; expected \[\]"):
        persim_policy.check(TASK, persim_policy.Config(action_layers=(5,)))
    persim_policy.check(TASK, persim_policy.Config())
