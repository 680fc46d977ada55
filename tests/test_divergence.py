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
from baselines.offline.cadm import training as context_training
from baselines.offline.cadm.model import ContextConfig
from baselines.offline.common import training
from baselines.offline.morel import learner as morel_learner
from baselines.offline.morel.learner import Learner as MorelLearner
from baselines.offline.persim import training as factored_training
from baselines.offline.persim.model import FactoredConfig
from baselines.online.ppo.learner import PPOLearner
from baselines.online.universal.learner import ConditionedLearner
from rmdp_bench.results import RunLog, SolverError, make_request, run
from rmdp_bench.tasks import get_task
from tests import test_bcq_cql, test_cadm, test_morel, test_persim
from tests.point_world import point_task
from tests.test_online_solvers import SETTINGS, SMALL
from tests.test_universal import SMALL as SMALL_UNIVERSAL

OFFLINE = get_task("CartPoleHet-n500-pure-v1")
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


def log_in(folder: Path) -> RunLog:
    return RunLog(OFFLINE, [0], [folder], checkpoint_seconds=0.0)


@pytest.mark.parametrize("kind", test_bcq_cql.KINDS)
def test_policies_on_logged_data(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = test_bcq_cql.random_data(0, 40, discrete=kind.startswith("discrete"))
    learner = test_bcq_cql.make_learner(kind, [data], batch_size=32)

    def first(self: Any) -> Tensor:
        part = next(iter(self.parts.values()))
        tensor: Tensor = next(iter(part.tensors().values()))
        return tensor

    break_after(monkeypatch, type(learner), "update", first)
    with pytest.raises(FloatingPointError, match=DIVERGED):
        training.train(learner, 1000, log_in(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))  # from which the run would diverge again


def test_pessimistic_models_and_policies_in_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = test_morel.rows_of(test_morel.walk_data([40]), [0])
    learner = MorelLearner(rows, test_morel.walk_world(12), test_morel.TINY, [0])
    break_after(
        monkeypatch, MorelLearner, "advance", lambda self: next(iter(self.part_tensors().values()))
    )
    with pytest.raises(FloatingPointError, match=DIVERGED):
        morel_learner.train(learner, log_in(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))


def test_models_with_a_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = test_cadm.toy_data(test_cadm.GAINS[:6], 20, seed=0)
    trainer = test_cadm.make_trainer(ContextConfig(**test_cadm.TINY), data)
    break_after(
        monkeypatch,
        context_training.Trainer,
        "update",
        lambda self: next(iter(self.tensors().values())),
    )
    with pytest.raises(FloatingPointError, match=DIVERGED):
        context_training.train(trainer, log_in(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("compiled", [True, False])
def test_factored_models(compiled: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = FactoredConfig(**test_persim.ODD, n_epochs=12, compiled=compiled)
    own = factored_training.Training(config, test_persim.make_data(), 2, [0], "cpu")
    break_after(
        monkeypatch,
        factored_training.Training,
        "run",
        lambda self: next(iter(self.model.parameters())).detach(),
    )
    with pytest.raises(FloatingPointError, match=DIVERGED):
        factored_training.train(own, log_in(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))


def test_the_run_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all no welfare of 0."""
    break_after(monkeypatch, PPOLearner, "collect", lambda self: self.actor.flat)
    with pytest.raises(SolverError, match=f"FloatingPointError: {DIVERGED}"):
        run(make_request("em", ONLINE, transitions=4096))
    assert not list(Path("runs").rglob("result.json"))
