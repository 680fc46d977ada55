"""The benchmarks run and give what they say; how fast is not tested."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest
import torch

from benchmarks import common, environments, training
from rmdp_bench import get_task
from tests.helpers.checkout import ROOT

AS_COMMAND = "environments"


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Benchmarks choose their own."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("environments", ["--robots", "half_cheetah", "--num-envs", "2"], 1),
        ("peers", ["--only", "gymnasium"], 5),
        ("stable_baselines", ["--num-envs", "2"], 5),
        ("training", ["--tasks", "ResourceGathering-n25-k5-v0", "--seeds", "1"], 2),
        ("planning", ["--num-envs", "2"], 3),
        ("persim", [], 2),
        ("offline_learners", ["--learners", "bcq", "cql", "cadm"], 3),
        ("leaderboard", [], 3),
        ("full_check", [], 1),
        ("sweeps", [], 3),
        ("agents", ["--task", "HopperVel-n100-k2-v0"], 4),
    ],
)
def test_benchmark_writes_its_table(
    name: str, arguments: list[str], rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them as a command; the others here, where libraries are loaded already."""
    words = ["--quick", "--out", str(tmp_path), *arguments]
    if name == AS_COMMAND:
        command = [sys.executable, "-m", f"benchmarks.{name}", *words]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    else:
        module = importlib.import_module(f"benchmarks.{name}")
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *words])
        module.main()
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["machine"]["cores"] >= 1
    assert len(record["results"]) == rows
    about, _, header, _, *table = (tmp_path / f"{name}.md").read_text().splitlines()
    assert about.startswith(
        f"`{' '.join(['python -m', f'benchmarks.{name}', '--quick', *arguments])}`"
    )
    assert len(table) == rows
    assert all(line.count("|") == header.count("|") for line in table)


def test_environments_benchmark_compares_with_every_alternative() -> None:
    result = environments.measure("hopper", 2, transitions=20, repetitions=1)
    assert set(result["native_ratio"]) == {"bare", "sync", "async"}
    assert all(ratio > 0 for ratio in result["native_ratio"].values())


def test_training_benchmark_reports_all_phases() -> None:
    result = training.measure(
        "ResourceGathering-n25-k5-v0", 1, "compiled", repetitions=2, least_seconds=0.0
    )
    assert {name: len(row) for name, row in result["seconds"].items()} == {
        "collection": 2,
        "update": 2,
        "floor": 2,
        "products": 2,
        "alone": 2,
    }
    row = training.summarize(result)
    assert row["speed"] == pytest.approx(
        result["transitions"] / (row["collection"] + row["update"]), rel=0.5
    )
    assert 0 < row["of_floor"] < row["of_both"] < 1
    assert row["of_alone"] > 0
    assert 0 < row["curve"] <= row["long_curve"] < 1


def test_a_record_has_no_path_of_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["peers", "--only", "paper", "--paper-code", str(tmp_path / "code")]
    monkeypatch.setattr(sys, "argv", words)
    common.report("peers", tmp_path, ("a",), [({"a": 1}, ("1",))])
    command = json.loads((tmp_path / "peers.json").read_text())["command"]
    assert command == "python -m benchmarks.peers --only paper --paper-code PAPER_CODE"


def test_the_floor_closes_what_it_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make_vec = gym.make_vec

    def make(*arguments: Any, **keywords: Any) -> Any:
        made.append(make_vec(*arguments, **keywords))
        return made[-1]

    monkeypatch.setattr(gym, "make_vec", make)
    collector = SimpleNamespace(envs=SimpleNamespace(num_envs=2), actions=None)
    learner: Any = SimpleNamespace(collector=collector, task=get_task(training.TASKS[-1]))
    with pytest.raises(ValueError, match="stopped"), training.open_floor(learner):
        raise ValueError("stopped")
    assert [envs.closed for envs in made] == [True]
