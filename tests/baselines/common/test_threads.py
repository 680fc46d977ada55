"""Whoever trains has one thread and no denormal numbers; whoever called has their own again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from baselines.common.threads import denormals_as_zeros, flushes_denormals
from baselines.offline.common.training import MemberLearner, train
from rmdp_bench.runs import RunLog
from rmdp_bench.tasks import get_offline_task

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor keeps denormal numbers"
)


@pytest.fixture(autouse=True)
def _own() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("before", [False, True])
def test_the_caller_has_denormal_numbers_as_before(before: bool) -> None:
    torch.set_flush_denormal(before)
    with pytest.raises(KeyError), denormals_as_zeros():
        assert flushes_denormals()
        raise KeyError
    assert flushes_denormals() == before


class Halving(MemberLearner):
    """One number, which is halved until only a denormal one is left."""

    n_seeds, total, parts = 1, 130, {}

    def __init__(self) -> None:
        """Start with 1; what is left is 2 ** -130."""
        self.number = torch.ones(1)

    def tensors(self) -> dict[str, Tensor]:
        return {"number": self.number}

    def advance(self) -> dict[str, Tensor]:
        self.number *= 0.5
        self.done += 1
        return {}


def test_training_takes_denormal_numbers_for_zero() -> None:
    learner = Halving()
    train(learner, RunLog(get_offline_task("CartPoleHet-n500-pure-v1"), [0]))
    assert learner.number.item() == 0.0
    assert not flushes_denormals()
    learner.number.fill_(1.0)
    for _ in range(learner.total):
        learner.advance()
    assert learner.number.item() == 2.0**-130
