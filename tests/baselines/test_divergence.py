"""Training that has diverged ends with an error, whatever the solver, and is not checkpointed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.common.divergence import check_finite
from baselines.offline.cadm.model import ContextConfig
from baselines.offline.common.training import MemberLearner, train
from baselines.offline.persim.model import FactoredConfig
from baselines.offline.persim.training import FactoredLearner
from baselines.online.ppo.learner import PPOLearner
from baselines.online.universal.learner import ConditionedLearner
from rmdp_bench.runs import RunLog, SolverError, make_request, run
from rmdp_bench.tasks import get_offline_task
from tests.baselines.offline import test_bcq_cql, test_cadm, test_morel
from tests.helpers.online_settings import SETTINGS, SMALL, SMALL_UNIVERSAL
from tests.helpers.persim_toys import ODD, make_data
from tests.helpers.point_world import point_task

OFFLINE = get_offline_task("CartPoleHet-n500-pure-v1")
ONLINE = "ResourceGathering-n25-k3-v0"
DIVERGED = "training has diverged: after .* a parameter is NaN or infinite"


def test_numbers_that_are_not_finite_are_found() -> None:
    good = [torch.ones(3), torch.full((2,), 3e38)]  # whose sum is no float32
    check_finite(good, "10 updates")
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(FloatingPointError, match="after 10 updates a parameter"):
            check_finite([*good, torch.tensor([0.0, bad])], "10 updates")


def break_after(
    monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, get: Callable[[Any], Tensor]
) -> None:
    """Let a method leave a NaN in a tensor of its object."""
    original = getattr(owner, method)

    def wrapped(self: Any, *arguments: Any) -> Any:
        result = original(self, *arguments)
        with torch.no_grad():
            get(self).view(-1)[0] = float("nan")
        return result

    monkeypatch.setattr(owner, method, wrapped)


@pytest.mark.parametrize("name", [*SETTINGS, "universal"])
@pytest.mark.parametrize("network", ["actor", "critic"])
def test_online(name: str, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = importlib.import_module(f"baselines.online.{name}")
    settings = SMALL_UNIVERSAL if name == "universal" else SMALL | SETTINGS[name]
    kind = ConditionedLearner if name == "universal" else PPOLearner
    break_after(monkeypatch, kind, "collect", lambda self: getattr(self, network).flat)
    task = point_task(2_560)
    with pytest.raises(FloatingPointError, match=DIVERGED):
        solver.solve(task, solver.Config(**settings), [0], "cpu", RunLog(task, [0]))


def make_offline(kind: str) -> MemberLearner:
    """A learner of each kind, which has little to do."""
    if kind == "morel":
        return test_morel.make_learner(test_morel.walk_data([40]), [0])
    if kind == "cadm":
        data = test_cadm.toy_data(test_cadm.GAINS[:6], 20, seed=0)
        return test_cadm.make_learner(ContextConfig(**test_cadm.TINY), data)
    if kind.startswith("persim"):
        compiled = kind == "persim compiled"
        config = FactoredConfig(**ODD, n_epochs=12, compiled=compiled)
        return FactoredLearner(config, make_data(), 2, [0], "cpu")
    data = test_bcq_cql.random_data(0, 40, discrete=kind.startswith("discrete"))
    learner: MemberLearner = test_bcq_cql.make_learner(kind, [data], batch_size=32)
    return learner


@pytest.mark.parametrize(
    "kind", [*test_bcq_cql.KINDS, "morel", "cadm", "persim compiled", "persim in torch"]
)
def test_offline(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    learner = make_offline(kind)
    break_after(
        monkeypatch, type(learner), "advance", lambda self: next(iter(self.tensors().values()))
    )
    log = RunLog(OFFLINE, [0], [tmp_path], checkpoint_seconds=0.0)
    with pytest.raises(FloatingPointError, match=DIVERGED):
        train(learner, log)
    assert not list(tmp_path.rglob("*.npz"))  # from which the run would diverge again


def test_the_run_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all no welfare of 0."""
    break_after(monkeypatch, PPOLearner, "collect", lambda self: self.actor.flat)
    with pytest.raises(SolverError, match=f"FloatingPointError: {DIVERGED}"):
        run(make_request("em", ONLINE, transitions=4096))
    assert not list(Path("runs").rglob("result.json"))
