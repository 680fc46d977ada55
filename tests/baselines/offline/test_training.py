"""The one loop of offline training, on a learner whose numbers are known."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.offline.common.networks import member_generators, member_keys
from baselines.offline.common.training import MemberLearner, Stages, train
from rmdp_bench.runs import Interrupted, RunLog
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.tasks import get_offline_task

TASK = get_offline_task("CartPoleHet-n500-pure-v1")
SEEDS = [3, 4]


class Sum:
    """What is learned: a number for each member."""

    def __init__(self, n_members: int) -> None:
        self.values, self.n_steps = torch.zeros(n_members, 1), 0

    def tensors(self) -> dict[str, Tensor]:
        return {"values": self.values}

    def set_steps(self, n_steps: int) -> None:
        self.n_steps = n_steps


class Adding(MemberLearner):
    """Two members of each seed, who add random numbers; every second update is reported."""

    def __init__(self, total: int) -> None:
        self.n_seeds, self.total = len(SEEDS), total
        self.sum = Sum(4)
        self.parts = {"sum": self.sum}
        self.generators = {"numbers": member_generators(member_keys(SEEDS, 2), 0)}

    def advance(self) -> dict[str, Tensor]:
        drawn = [torch.rand(1, generator=g) for g in self.generators["numbers"]]
        self.sum.values += torch.stack(drawn)
        self.done += 1
        return {} if self.done % 2 else {"loss": self.sum.values[:, 0]}


class Log(RunLog):
    """Keeps what is reported, and asks to stop after the update `stop_at`."""

    def __init__(self, folders: Sequence[Path] | None = None, stop_at: int | None = None) -> None:
        self.stop, self.stop_at = threading.Event(), stop_at
        self.reports: list[tuple[int, Mapping[str, Sequence[float]], int | None]] = []
        number = max(list_checkpoints(folders[0]), default=None) if folders else None
        super().__init__(TASK, SEEDS, folders, stop=self.stop, resume_at=number)

    def progress(
        self,
        transitions: int,
        scalars: Mapping[str, Sequence[float]] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        super().progress(transitions, scalars, total=total)
        self.reports.append((transitions, scalars or {}, total))
        if transitions == self.stop_at:
            self.stop.set()


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / str(seed) for seed in SEEDS]
    for folder in made:
        folder.mkdir()
    return made


def test_what_is_reported_are_means_of_each_seed() -> None:
    learner, log = Adding(5), Log()
    train(learner, log)
    assert learner.done == 5 and [(n, total) for n, _, total in log.reports] == [(2, 5), (4, 5)]
    other = Adding(4)
    train(other, Log())
    expected = other.sum.values.reshape(2, 2).mean(1).tolist()
    assert log.reports[-1][1] == {"loss": expected}


def test_a_stop_is_obeyed_at_once_and_goes_on_bit_for_bit(folders: list[Path]) -> None:
    whole = Adding(7)
    train(whole, Log())
    with pytest.raises(Interrupted):
        train(Adding(7), Log(folders, stop_at=4))
    resumed, log = Adding(7), Log(folders)
    train(resumed, log)
    assert [n for n, _, _ in log.reports] == [6] and resumed.sum.n_steps == 4
    assert torch.equal(resumed.sum.values, whole.sum.values)
    finished, log = Adding(7), Log(folders)
    train(finished, log)
    assert not log.reports and torch.equal(finished.sum.values, whole.sum.values)


def test_stages_share_one_sequence_of_checkpoints(folders: list[Path]) -> None:
    def run(log: Log) -> tuple[Adding, Adding]:
        stages, first, second = Stages(log), Adding(3), Adding(9)
        train(first, stages.stage("model"))
        train(second, stages.stage("policy"))
        return first, second

    whole = run(Log())
    with pytest.raises(Interrupted):
        run(Log(folders, stop_at=6))
    log = Log(folders)
    resumed = run(log)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one.sum.values, other.sum.values)
    assert [n for n, _, _ in log.reports] == [8]
    assert set(log.reports[0][1]) == {"loss", "policy_loss"}


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    state: Any = {"sum.values": torch.zeros(2, 2, 1).numpy()}
    with pytest.raises(KeyError, match="done"):
        Adding(3).set_state(state, [{"epoch": 1}, {"epoch": 1}])
