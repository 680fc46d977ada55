"""Learned factors are packed with as many bits as a picture shows."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rmdp_bench.evaluation.prediction import factor_correlation
from rmdp_bench.runs import find_results
from rmdp_bench.submission.packing import _shortened, run_directories, write_submission
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.submission.schema import read_submission
from rmdp_bench.tasks import get_offline_task
from tests.helpers.checkout import SUBMISSIONS, needs_submissions

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
ROW = Path(TASK.id) / "persim"
Array = npt.NDArray[np.float64]


def made_factors(seed: int = 0) -> Array:
    """Factors (500, 4) from which hidden parameters follow, of different sizes."""
    rng = np.random.default_rng(seed)
    parameters = TASK.hidden_population.parameters[: TASK.n_agents]
    mixed = parameters @ rng.normal(size=(parameters.shape[1], 4))
    noisy = mixed + 0.3 * mixed.std(axis=0) * rng.normal(size=mixed.shape)
    factors: Array = noisy * [1e-4, 1.0, 50.0, 1.0] + [0.0, -3.0, 0.0, 900.0]
    return factors


@pytest.mark.parametrize("seed", range(3))
def test_factors_are_short_and_say_the_same(seed: int) -> None:
    factors = made_factors(seed)
    short = _shortened(factors, TASK.id)
    assert short.dtype == np.float32
    assert (np.abs(short - factors) <= np.ptp(factors, axis=0) / 1000).all()
    single = factors.astype(np.float32)
    assert len(zlib.compress(short.tobytes())) < 0.75 * len(zlib.compress(single.tobytes()))
    before, after = (factor_correlation(TASK, each) for each in (factors, short))
    assert before == pytest.approx(after, abs=0.01)
    np.testing.assert_array_equal(_shortened(short, TASK.id), short)


def test_spreads_of_a_power_of_two_are_rounded_once() -> None:
    factors = made_factors()
    for spread in (2.0, 2.0 - 2.0**-12, 2.0 + 2.0**-9):
        factors[:, 3] = np.linspace(0.0, spread, len(factors))
        short = _shortened(factors, TASK.id)
        np.testing.assert_array_equal(_shortened(short, TASK.id), short)


def test_factors_that_need_all_their_bits_keep_them() -> None:
    """What differs between two columns that are nearly the same."""
    parameters = TASK.hidden_population.parameters[: TASK.n_agents]
    common = np.random.default_rng(0).normal(size=(TASK.n_agents, 1))
    factors = np.concatenate((common, common + 1e-6 * parameters), axis=1)
    assert _shortened(factors, TASK.id) is factors


@pytest.mark.parametrize("damaged", [np.full((500, 2), np.nan), np.zeros(3), np.ones((900, 1))])
def test_factors_that_the_check_refuses_stay_as_they_are(damaged: Array) -> None:
    assert _shortened(damaged, TASK.id) is damaged


@needs_submissions
def test_packing_makes_them_short(tmp_path: Path) -> None:
    """A row whose factors are short already, given bits that it had not: the same bytes again."""
    source, target = SUBMISSIONS / "reference-planning", tmp_path / "packed"
    with run_directories([source / ROW]) as directories:
        changed = tmp_path / "runs"
        shutil.copytree(directories[0], changed)
    for path in changed.rglob("returns.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        assert arrays["factors"].dtype == np.float32
        arrays["factors"] = arrays["factors"] + 1e-6 * np.ptp(arrays["factors"], axis=0)
        np.savez_compressed(path, **arrays)
    write_submission(target, read_submission(source), find_results([changed]))
    packed, stored = RowFiles(target / ROW), RowFiles(source / ROW)
    for seed in range(len(stored.seeds)):
        for name in stored.array_names(seed):
            assert packed.array_bytes(seed, name) == stored.array_bytes(seed, name)
