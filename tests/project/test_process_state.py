"""Library calls leave the caller's process as it was."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numba
import numpy as np
import pytest
import threadpoolctl
import torch

import rmdp_bench
from rmdp_bench import (
    RunLog,
    Task,
    get_offline_task,
    get_online_task,
    load_solution,
    save_solution,
)
from rmdp_bench.datasets import build_datasets, get_dataset
from rmdp_bench.evaluation.offline import heldout_episodes
from rmdp_bench.evaluation.prediction import N_FORCED, N_OPEN_LOOP
from rmdp_bench.plotting import plot_learning_curves, plot_paths, plot_preferences
from rmdp_bench.population import LinearPopulation
from rmdp_bench.runs import make_request, run
from rmdp_bench.runs.solver_loading import OWN_WORLDS, SOLVERS
from rmdp_bench.tasks import heterogeneous_task
from tests.helpers.checkout import ROOT
from tests.helpers.dataset_toys import small
from tests.helpers.point_world import point_task

N_THREADS = 3
"""Neither one nor the machine's own number: whoever sets either is seen."""

LEARNER: dict[str, Any] = {"batch_size": 256, "minibatch_size": 32, "n_envs": 8}
ENSEMBLE: dict[str, Any] = {
    "n_agents": 6,
    "n_models": 2,
    "n_epochs": 2,
    "batch_size": 256,
    "state_layers": (8,),
    "n_sequences": 8,
    "horizon": 3,
}
CLONING: dict[str, Any] = {"n_agents": 6, "n_updates": 3, "hidden_dims": (8,)}
CONTEXT: dict[str, Any] = {
    "n_agents": 6,
    "n_updates": 3,
    "hidden_sizes": (8, 8),
    "weight_decays": (0.0, 0.0, 0.0),
    "encoder_sizes": (8,),
    "encoder_weight_decays": (0.0, 0.0),
    "n_sequences": 8,
    "horizon": 3,
}
GROUPS: dict[str, Any] = {
    **{"n_points": 2, "n_copies": 2, "segment": 864, "n_epochs": 1, "hidden_size": 4},
    **{"n_minibatches": 1, "tuning_share": 0.5},
}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("em", "em_plus", "end_to_end", "clustering", "random_assignment"), LEARNER),
    "parameter_cover": LEARNER,
    "affinity_grouping": LEARNER | {"n_subsets": 5, "n_projected": 8},
    "oracle": LEARNER,
    "universal": LEARNER
    | {"hidden_size": 8, "segment": 10, "n_candidates": 21, "n_proposals": 10}
    | {"total_transitions": 3_000},
    "basal_bolus": {"n_points": 2},
    "constant_basal": {"n_points": 2},
    "tuned_ppo": GROUPS,
    "persim_em": {
        **{"n_points": 2, "n_rounds": 1, "n_gradient_steps": 1, "n_episodes": 2},
        **{"eval_days": 1, "eval_episodes": 1, "hidden_size": 4},
    },
    "factor_clustering": {"n_updates": 1, "batch_size": 4, "hidden_dims": (4,)},
    "clinic_gains": {},
    "morel": {
        **{"n_agents": 6, "model_hidden_size": 8, "min_model_updates": 3, "max_model_updates": 3},
        **{"cloning_updates": 2, "policy_hidden_size": 8, "iterations": 1, "n_paths": 4},
    },
    "true_env_mpc": {"n_sequences": 8, "horizon": 3},
    **dict.fromkeys(("bcq", "cql", "behaviour"), CLONING),
    "cadm": CONTEXT,
    "pe_cadm": CONTEXT | {"ensemble_size": 2, "n_particles": 4},
    "persim": ENSEMBLE,
    "persim_bcq": ENSEMBLE
    | {"n_planned": 0, "n_trajectories": 2, "trajectory_length": 3}
    | {"policy_updates": 3, "policy_hidden_dims": (8,)},
    "persim_policy": {
        **{name: ENSEMBLE[name] for name in ENSEMBLE if name not in ("n_sequences", "horizon")},
        **{"cloning_updates": 2, "policy_hidden_size": 8, "iterations": 1, "n_paths": 4},
        **{"path_length": 3},
    },
}


CLINIC = ("persim_em", "factor_clustering", "clinic_gains")
"""Solvers that learn from patients' records."""


def process_state() -> dict[str, Any]:
    """All that a library could change for others, as far as one can compare it."""
    return {
        "threads of torch": torch.get_num_threads(),
        "threads of torch between operations": torch.get_num_interop_threads(),
        "threads of numba": numba.get_num_threads(),
        "threads of pools": {
            pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()
        },
        "threads that run": sorted(thread.name for thread in threading.enumerate()),
        "children": len(multiprocessing.active_children()),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "torch's generator": torch.get_rng_state().tolist(),
        "torch's seed": torch.initial_seed(),
        "torch's dtype": torch.get_default_dtype(),
        "torch's gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "torch's precision": torch.get_float32_matmul_precision(),
        "NumPy's generator": repr(np.random.get_state()),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": np.get_printoptions(),
        "Python's generator": random.getstate(),
        "recursion": sys.getrecursionlimit(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.gettrace(), sys.getprofile()),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": [tuple(map(repr, row)) for row in warnings.filters],
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "logging": {
            name: (logger.level, list(logger.handlers), logger.propagate, logger.disabled)
            for name, logger in [("", logging.root), *logging.Logger.manager.loggerDict.items()]
            if isinstance(logger, logging.Logger)
        },
        "gymnasium's logger": gym.logger.min_level,
        "matplotlib's backend": matplotlib.get_backend(auto_select=False),
        # Not by the mapping's own way, which would choose a backend.
        "matplotlib's settings": dict(dict.items(matplotlib.rcParams)),
    }


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Into which the packaged data set is installed once."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _some_threads(data_folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MINARI_DATASETS_PATH", data_folder)
    numba.get_num_threads()  # asked for the first time, it sets OpenMP's, which are torch's
    before = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    yield
    torch.set_num_threads(before)


def check_unchanged(call: Callable[[], Any]) -> Any:
    """The second call changes nothing: the first may import what it needs."""
    call()
    before = copy.copy(process_state())
    result = call()
    after = process_state()
    assert before["threads of torch"] == N_THREADS
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert not changed
    return result


def use_offline(task: Task, solution: Any) -> None:
    """A step, two held-out agents, and two predictions."""
    solution.policies[0].reset(2)
    solution.policies[0].act(np.zeros((2, 4), np.float32))
    if solution.adapt is not None:
        (policy, *_) = solution.adapt(heldout_episodes(task)[:2]).policies
        policy.reset(1)
        policy.act(np.zeros((1, 4), np.float32))
    if solution.predict is not None:
        actions = np.zeros((2, N_FORCED + N_OPEN_LOOP), np.int64)
        solution.predict(0, np.zeros((2, N_FORCED + 1, 4), np.float32), actions)


def test_every_solver_is_called() -> None:
    assert set(SETTINGS) == set(SOLVERS)


@pytest.mark.parametrize("name", SETTINGS)
def test_solvers_leave_no_trace(name: str, tmp_path: Path) -> None:
    """They train, their policies act, they adapt, predict, and are saved.

    In two calls, of which the first may import what it needs.
    """
    solver = importlib.import_module(SOLVERS[name])
    offline = ".offline." in SOLVERS[name]
    task: Task
    if offline:
        task = get_offline_task("CartPoleHet-n500-pure-v1")
    elif name in ("oracle", "parameter_cover"):  # which ask the suite who the agents are
        task = get_online_task("ResourceGathering-n25-k2-v0")
    elif name in CLINIC:
        build_datasets([small(get_dataset("rmdp/glucose-het/clinic-v0"))])
        task = get_offline_task("Glucose-n100-k3-clinic-v0")
        few: dict[str, Any] = {"n_agents": 4, "n_representatives": 2, "eval_agents": (0, 1, 2, 3)}
        task = dataclasses.replace(task, **few)
    elif ".heterogeneous." in SOLVERS[name]:
        task = heterogeneous_task("rmdp/Glucose-n100-v0", 2, n_agents=2, n_eval_episodes=1)
        task = dataclasses.replace(task, transitions=8_000)
    else:
        task = point_task(2_560)
    if name in ("oracle", "parameter_cover"):
        task = dataclasses.replace(task, transitions=512)
    config = solver.Config(**SETTINGS[name])
    torch_threads = []

    def solve_and_use() -> None:
        (solution,) = solver.solve(task, config, [0], "cpu", RunLog(task, [0]))
        torch_threads.append(torch.get_num_threads())
        if offline:
            use_offline(task, solution)
        elif name in CLINIC:
            solution.policies[0].act(np.ones((2, 7), np.float32))
            if solution.predict is not None:
                solution.predict(0, np.ones((2, 73, 7)), np.ones((2, 84, 2)))
        else:
            rmdp_bench.evaluate(task, solution, n_episodes=1)
        if name in ("em", "universal", "behaviour"):
            save_solution(solution, tmp_path / "solution")
            load_solution(tmp_path / "solution").policies[0].act(np.zeros((2, 4 if offline else 1)))

    check_unchanged(solve_and_use)
    assert torch_threads == [N_THREADS] * 2


@pytest.mark.parametrize(
    ("name", "settings"), [("em", {}), ("universal", {"selection_share": 0.3, "n_copies": 8})]
)
def test_solvers_for_agents_with_own_worlds_leave_no_trace(
    name: str, settings: dict[str, Any]
) -> None:
    solver = importlib.import_module(OWN_WORLDS[name])
    task = heterogeneous_task("rmdp/Glucose-n100-v0", 2, n_agents=2)
    task = dataclasses.replace(task, transitions=12_000)
    config = solver.Config(**GROUPS | settings)
    check_unchanged(lambda: solver.solve(task, config, [0], "cpu", RunLog(task, [0])))


def test_a_solver_that_fails_leaves_no_trace() -> None:
    class Failing(RunLog):
        def progress(self, *arguments: Any, **keywords: Any) -> None:
            raise OSError("the disk is full")

    em = importlib.import_module(SOLVERS["em"])
    task = point_task(2_560)

    def solve() -> None:
        with pytest.raises(OSError, match="the disk is full"):
            em.solve(task, em.Config(**LEARNER), [0], "cpu", Failing(task, [0]))

    check_unchanged(solve)


def test_a_run_of_a_file_leaves_no_trace(tmp_path: Path) -> None:
    task_id, numbers = "ResourceGathering-n25-k2-v0", iter(range(2))

    def run_once() -> None:
        out = tmp_path / str(next(numbers))
        solver = str(ROOT / "examples" / "my_solver.py")
        run(make_request(solver, task_id, seeds=[0], out=out, transitions=2_000, n_episodes=1))

    check_unchanged(run_once)


def test_plots_data_and_worlds_leave_no_trace(tmp_path: Path) -> None:
    tours = [[(4, 2), (3, 2), (4, 2)]] * 2
    groups, curves = np.eye(2)[np.arange(25) % 2], {"em": [([0, 1000], [0.0, 20.0])]}

    def use() -> None:
        plot_paths(tours, groups, tmp_path / "paths.png")
        plot_preferences(LinearPopulation.tiles(), {"em": groups}, tmp_path / "preferences.svg")
        plot_learning_curves(curves, 30.0, tmp_path / "curves.pdf")
        rmdp_bench.load_dataset("rmdp/cartpole-het/pure-v0")
        for entry in rmdp_bench.ENVIRONMENTS:
            env = gym.make(entry.id)
            env.reset(seed=0)
            env.step(env.action_space.sample())
            env.close()
            envs = gym.make_vec(entry.id, num_envs=2)
            envs.reset(seed=0)
            envs.step(envs.action_space.sample())
            envs.close()

    check_unchanged(use)
