"""Weights with which returns are no percentages are said, once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import rmdp_bench
from rmdp_bench.tasks import OnlineTask, list_tasks

GRID, CART = "ResourceGathering-n25-v0", "Minecart-n100-v0"
EVEN = np.full((3, 25), 0.04)


def of(weights: Any) -> rmdp_bench.LinearPopulation:
    return rmdp_bench.LinearPopulation(np.asarray(weights, np.float64))


@pytest.mark.parametrize(
    ("env_id", "weights", "said"),
    [
        (GRID, 3 * np.eye(25) - 1, "agent 0 has a negative weight"),
        (GRID, [*EVEN, 2 * EVEN[0]], "agent 3 has weights of sum 2"),
        (GRID, [EVEN[0], 0 * EVEN[0]], "agent 1 has weights of sum 0"),
        (CART, np.eye(3), "agent 0 has weights of sum 1: .* whose sum is 66.67"),
    ],
)
def test_weights_without_the_scale_are_warned_of(env_id: str, weights: Any, said: str) -> None:
    with pytest.warns(UserWarning, match=said) as caught:
        rmdp_bench.get_task(env_id, 1, population=of(weights))
    assert len(caught) == 1 and caught[0].filename == __file__


def test_it_is_said_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            rmdp_bench.get_task(GRID, 1, population=of(2 * EVEN))
    assert len(caught) == 1


def test_weights_with_the_scale_are_not() -> None:
    worlds = {task.env_id for task in list_tasks() if isinstance(task, OnlineTask)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rmdp_bench.get_task(GRID, 1, population=of(np.random.default_rng(0).dirichlet(EVEN[0], 9)))
        for weights in ([[1.0, 2.0, 0.0]], [[0.2, 0.3, 0.5]]):
            users = rmdp_bench.weigh_objectives(CART, weights)
            rmdp_bench.get_task(CART, 1, population=users)
        for env_id in sorted(worlds):
            agents = rmdp_bench.get_population(env_id)
            if isinstance(agents, rmdp_bench.Population):
                rmdp_bench.get_task(env_id, 1, population=agents)
