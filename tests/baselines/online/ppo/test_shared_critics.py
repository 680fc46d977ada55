"""Threads that train one seed's critics together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from baselines.online.ppo import kernels, updates_numba
from tests.helpers.learner_toys import TASKS, even_rule, make_pair, random_batch

K, N, D, H, ROWS, N_BATCHES = 5, 7, 3, 8, 16, 40
N_SHARED = (D + 1) * H
SIZE = N_SHARED + K * N * (H + 1)


def train(n_threads: int, max_norm: float, max_norm_of_all: float) -> npt.NDArray[np.float32]:
    """Parameters and moments (3, P) after training that `n_threads` began at the same moment."""
    random = np.random.default_rng(0)
    state = np.zeros((3, SIZE), np.float32)
    state[0] = random.normal(size=SIZE)
    observations = random.normal(size=(K, 100, D)).astype(np.float32)
    targets = random.normal(size=(K, 100, N)).astype(np.float32)
    order = random.integers(100, size=(N_BATCHES, ROWS))
    data = (H, 1, observations, targets, order, 0, 1e-2, 1e-5, max_norm, max_norm_of_all)
    scratch = [np.full(shape, np.nan, np.float32) for shape in (SIZE, (K, N_SHARED), K)]
    progress = np.zeros(kernels.N_COUNTERS, np.int64)
    arguments: list[Any] = [*state, *data, *scratch, progress]
    start = threading.Barrier(n_threads)

    def work(_: int) -> None:
        start.wait()
        kernels.train_critics(*arguments)

    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(work, range(n_threads)))
    assert progress[kernels.PUBLISHED] == N_BATCHES
    assert progress[kernels.FINISHED] == N_BATCHES * K
    return state


@pytest.mark.parametrize("bounds", [(0.1, np.inf), (np.inf, 0.1)])
def test_any_number_of_threads_gives_the_same_bits(bounds: tuple[float, float]) -> None:
    expected = train(1, *bounds)
    assert np.isfinite(expected).all() and expected[1].all()
    for n_threads in (2, 3, K + 2):
        for _ in range(5):
            np.testing.assert_array_equal(train(n_threads, *bounds), expected)


def test_the_bound_on_all_is_on_their_sum() -> None:
    """Adam's first moments show the gradient's size, its parameters do not."""
    alone, together, free = (
        np.linalg.norm(train(2, *bounds)[1])
        for bounds in ((0.01, np.inf), (np.inf, 0.01), (np.inf, np.inf))
    )
    assert together < 0.011 < alone < free


def noted(function: Callable[..., None], begun: list[str]) -> Callable[..., None]:
    """The function, which first writes down that it begins."""

    def call(*arguments: Any) -> None:
        begun.append(function.__name__)
        function(*arguments)

    return call


@pytest.mark.parametrize(("cores", "seeds", "calls"), [(1, 1, 1), (2, 1, 2), (9, 1, 3), (2, 3, 6)])
def test_cores_without_a_job_of_their_own_help(
    monkeypatch: pytest.MonkeyPatch, cores: int, seeds: int, calls: int
) -> None:
    """No more of them than a seed has heads, three, and after all other jobs have begun."""
    monkeypatch.setattr(updates_numba, "usable_cores", lambda: cores)
    monkeypatch.setattr(updates_numba, "SHARED_HEAD_SIZE", 1)
    begun: list[str] = []
    for name in ("train_critics", "train_actors"):
        monkeypatch.setattr(kernels, name, noted(getattr(kernels, name), begun))
    learner = make_pair(TASKS[0], tuple(range(seeds)))[1]
    learner.update(random_batch(learner), even_rule(learner.task, range(seeds)))
    assert begun.count("train_critics") == calls and begun.count("train_actors") == seeds
    if cores == 1:
        assert begun == ["train_critics"] * seeds + ["train_actors"] * seeds


def test_heads_of_a_thousand_agents_are_shared_and_those_of_a_hundred_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(updates_numba, "usable_cores", lambda: 4)
    counted = [updates_numba.count_helpers(k, 64 * n) for k, n in ((50, 1000), (2, 1000), (5, 100))]
    assert counted == [3, 1, 0]
