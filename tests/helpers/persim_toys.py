"""Small data and models of PerSim."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import member_generators, member_keys
from baselines.offline.persim.model import FactoredConfig, FactoredModel
from baselines.offline.persim.simulator import PersonalSimulator
from rmdp_bench.evaluation.offline import OfflineSolution, heldout_episodes
from rmdp_bench.runs import RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.solution import load_solution, save_solution
from rmdp_bench.tasks import OfflineTask, get_offline_task

ODD: dict[str, Any] = {"state_layers": (13,), "rank": 3, "batch_size": 35, "n_models": 2}


def make_data(
    n_agents: int = 6, n_steps: int = 20, d: int = 3, n_actions: int | None = 2, seed: int = 0
) -> LoggedData:
    """Trajectories of noise."""
    generator = torch.Generator().manual_seed(seed)
    n_rows = n_agents * n_steps
    actions = (
        torch.rand(n_rows, 2, generator=generator)
        if n_actions is None
        else torch.randint(n_actions, (n_rows,), generator=generator)
    )
    return LoggedData(
        observations=torch.randn(n_rows, d, generator=generator) + 1.0,
        actions=actions,
        rewards=torch.zeros(n_rows),
        next_observations=torch.randn(n_rows, d, generator=generator),
        terminated=torch.zeros(n_rows, dtype=torch.bool),
        agents=torch.arange(n_agents).repeat_interleave(n_steps),
        starts=torch.arange(n_agents + 1) * n_steps,
    )


def make_model(
    data: LoggedData, n_actions: int | None, **settings: Any
) -> tuple[FactoredModel, FactoredConfig]:
    config = FactoredConfig(**(ODD | settings))
    model = FactoredModel(
        config, data, n_actions, member_generators(member_keys([0], config.n_models), 0)
    )
    model.agent_network.weights[0].data.mul_(10.0)  # agents who differ
    return model.requires_grad_(False), config


def assert_close(first: Mapping[str, Any], second: Mapping[str, Any], tolerance: float) -> None:
    assert set(first) == set(second)
    for name, array in first.items():
        scale = float(np.abs(array).max())
        np.testing.assert_allclose(second[name], array, atol=tolerance * scale, err_msg=name)


TASK = get_offline_task("CartPoleHet-n500-pure-v1")


def make_log(n_actions: int | None) -> LoggedData:
    """Three trajectories of CartPole's size, whose actions tell where they stand in the log."""
    generator = torch.Generator().manual_seed(0)
    n, d = 60, 4
    actions = torch.arange(n) % 2
    if n_actions is None:
        actions = torch.rand(n, 2, generator=generator) * 2 - 1
    observations = torch.rand(n, d, generator=generator) * 0.2 - 0.1
    return LoggedData(
        observations=observations,
        actions=actions,
        rewards=torch.ones(n),
        next_observations=observations.roll(-1, 0),
        terminated=torch.zeros(n, dtype=torch.bool),
        agents=torch.arange(3).repeat_interleave(20),
        starts=torch.arange(4) * 20,
    )


def make_simulator(log: LoggedData, n_actions: int | None) -> PersonalSimulator:
    """Of agent 1, with changes that are small."""
    layers = (7,) if n_actions is None else ()
    config = FactoredConfig(n_models=2, rank=3, state_layers=(9,), action_layers=layers)
    model = FactoredModel(
        config, log, n_actions, member_generators(member_keys([0], 2), 0)
    ).requires_grad_(False)
    for part in (model.state_network.weights[-1], model.state_network.biases[-1]):
        part.mul_(0.3)
    return PersonalSimulator(model, model.agent_factors()[:, 1])


def weights(solution: OfflineSolution) -> list[np.ndarray[Any, Any]]:
    """Of all policies."""
    return [
        parameter.detach().numpy()
        for policy in solution.policies
        for parameter in policy.network.parameters()  # type: ignore[attr-defined]
    ]


def assert_same(first: OfflineSolution, second: OfflineSolution) -> None:
    for own, other in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(own, other)


class StopAfter(RunLog):
    """Asks the solver to stop at the given report."""

    def __init__(self, folders: list[Path], n_reports: int) -> None:
        stop = threading.Event()
        resume_at = max(list_checkpoints(folders[0]), default=None)
        super().__init__(TASK, [0, 1], folders, stop=stop, resume_at=resume_at)
        self.left, self.stop, self.reports = n_reports, stop, list[str]()

    def progress(self, *arguments: Any, **keywords: Any) -> None:
        super().progress(*arguments, **keywords)
        self.reports.extend(arguments[1])
        self.left -= 1
        if not self.left:
            self.stop.set()


def check_all_that_is_offered(solution: OfflineSolution, task: OfflineTask, folder: Path) -> None:
    """Policies are saved and draw nothing; predictions and adapted policies are repeated."""
    observations = np.random.default_rng(0).normal(0.0, 0.5, (40, 4)).astype(np.float32)
    save_solution(solution, folder)
    loaded = load_solution(folder)
    for ours, theirs in zip(solution.policies, loaded.policies, strict=True):
        actions = ours.act(observations)
        np.testing.assert_array_equal(actions, theirs.act(observations))
        np.testing.assert_array_equal(actions, ours.act(observations))  # nothing is drawn
    assert solution.predict is not None and solution.adapt is not None
    foreseen = solution.predict(2, np.zeros((3, 11, 4), np.float32), np.ones((3, 60), np.int64))
    assert foreseen.shape == (3, 50, 4)
    episodes = heldout_episodes(task)[:2]
    adapted = [solution.adapt(episodes) for _ in range(2)]
    assert adapted[0].assignment.tolist() == np.eye(2).tolist()
    moves = [[p.act(observations).tolist() for p in own.policies] for own in adapted]
    assert moves[0] == moves[1]


def half_cheetah_log() -> LoggedData:
    """Noise of HalfCheetah's size: six trajectories."""
    generator = torch.Generator().manual_seed(0)
    n, d = 120, 18
    return LoggedData(
        observations=torch.randn(n, d, generator=generator),
        actions=torch.rand(n, 6, generator=generator) * 2 - 1,
        rewards=torch.zeros(n),
        next_observations=torch.randn(n, d, generator=generator),
        terminated=torch.zeros(n, dtype=torch.bool),
        agents=torch.arange(6).repeat_interleave(20),
        starts=torch.arange(7) * 20,
    )
