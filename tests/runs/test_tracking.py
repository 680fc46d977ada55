"""`--track wandb`: what the tracker is told, without one."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rmdp_bench.runs import make_request, run
from rmdp_bench.runs.requests import Request
from tests.helpers.checkout import TOY_SOLVER


def toy_request(track: str) -> Request:
    return make_request(
        str(TOY_SOLVER),
        "ResourceGathering-n25-k3-v0",
        seeds=[0, 1],
        transitions=20_000,
        track=track,
    )


class Tracked:
    """A run of the stand-in, which keeps what it is told."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.metrics: list[tuple[str, str]] = []
        self.points: list[dict[str, float]] = []
        self.summary: dict[str, Any] = {}
        self.finished = False

    def define_metric(self, name: str, step_metric: str) -> None:
        self.metrics.append((name, step_metric))

    def log(self, point: dict[str, float]) -> None:
        assert not self.finished
        self.points.append(point)

    def finish(self) -> None:
        self.finished = True


class Refusal(Exception):
    """The tracker's own kind of error."""


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[Tracked]:
    """The runs that a stand-in for the package has begun."""
    runs: list[Tracked] = []

    def init(**arguments: Any) -> Tracked:
        runs.append(Tracked(arguments))
        return runs[-1]

    module = ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    own = {"init": init, "Settings": dict, "errors": SimpleNamespace(Error=Refusal)}
    for name, value in own.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return runs


def test_each_seed_is_a_run_with_the_scalars(tracked: list[Tracked]) -> None:
    request = toy_request(track="wandb")
    run(request)
    assert len(tracked) == len(request.seeds) == 2
    for seed, own in zip(request.seeds, tracked, strict=True):
        place = request.directory(seed).resolve()
        assert own.arguments["name"] == "/".join(place.parts[-3:])
        assert own.arguments["project"] == "rmdp_bench"
        assert Path(own.arguments["dir"]).resolve() == place
        assert own.metrics == [("*", "transitions")]
        assert own.finished
        welfare = [point for point in own.points if "eval/social_welfare" in point]
        assert [point["transitions"] for point in welfare] == [2000 * i for i in range(1, 11)]
        assert welfare[0]["eval/social_welfare"] == pytest.approx(99 / 25)
        assert any("train/loss" in point for point in own.points)


def test_the_project_is_a_variable(tracked: list[Tracked], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run(toy_request(track="wandb"))
    assert {own.arguments["project"] for own in tracked} == {"mine"}


def test_a_tracker_that_refuses_is_one_line(
    tracked: list[Tracked], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**arguments: Any) -> None:
        raise Refusal("no API key")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(ValueError, match="wandb refuses: no API key; .*WANDB_MODE=offline"):
        run(toy_request(track="wandb"))


def test_what_is_not_there_is_said_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown tracker 'mlflow', expected wandb"):
        toy_request(track="mlflow")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name)
    )
    with pytest.raises(ValueError, match=r"pip install 'rmdp_bench\[wandb\]'"):
        toy_request(track="wandb")


def test_the_package_itself_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    request = toy_request(track="wandb")
    run(request)
    for seed in request.seeds:
        (stored,) = request.directory(seed).glob("wandb/offline-run-*/run-*.wandb")
        assert b"eval/social_welfare" in stored.read_bytes()
