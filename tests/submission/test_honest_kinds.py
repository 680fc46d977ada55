"""Honest submissions of many shapes pass the quick check and the full one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import make_request, run
from rmdp_bench.submission import behaviour
from rmdp_bench.submission.packing import pack
from rmdp_bench.submission.sandbox import checker, children, player
from tests.helpers.checkout import ROOT
from tests.helpers.submission_toys import mark_of

SOLVER = ROOT / "tests/helpers/kinds_solver.py"
ABOUT: dict[str, Any] = {
    "authors": ["Zoë Ångström", "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"],
    "method": "policies of many shapes",
    "licence": "MIT",
    "n_online_evaluations": 0,
}


@dataclass(frozen=True)
class Kind:
    """One of them.

    Attributes:
        task: id.
        n_seeds: number of seeds.
        settings: of `kinds_solver`.
        transitions: None: the task's, in the closed division; else the open one.
    """

    task: str
    n_seeds: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    transitions: int | None = None


KINDS = {
    "one graph for all policies": Kind("ResourceGathering-n25-k3-v0", 1, {"kind": "shared"}),
    "k = 1, five seeds": Kind("ResourceGathering-n25-k1-v0", 5, {"kind": "linear"}),
    "k = n": Kind("ResourceGathering-n25-k25-v0", 1, {"kind": "linear"}),
    "agents with several policies": Kind(
        "ResourceGathering-n25-k3-v0", 2, {"kind": "linear", "mixed": True}
    ),
    "actions as if drawn": Kind("ResourceGathering-n25-k1-v0", 2, {"kind": "drawn"}),
    "continuous actions, open division": Kind(
        "HopperVel-n100-k2-v0", 2, {"kind": "linear"}, transitions=20_000
    ),
    "a module of torch": Kind("HopperVel-n100-k1-v0", 1, {"kind": "normalised"}),
    "a model of Stable-Baselines3": Kind(
        "HopperVel-n100-k1-v0", 2, {"kind": "PPO"}, transitions=20_000
    ),
    "another model of Stable-Baselines3": Kind("ResourceGathering-n25-k1-v0", 1, {"kind": "DQN"}),
    "offline, one policy for all": Kind(
        "CartPoleHet-n500-pure-v1", 2, {"kind": "controller", "n_policies": 1}
    ),
    "offline, a policy for each agent, five seeds": Kind(
        "CartPoleHet-n500-random-v1", 5, {"kind": "controller"}
    ),
    "offline, two policies": Kind(
        "MountainCarHet-n500-pure-eps20-v1", 1, {"kind": "controller", "n_policies": 2}
    ),
    "offline, a recurrent network in a policy": Kind(
        "CartPoleHet-n500-pure-v1", 1, {"kind": "recurrent", "n_policies": 1}
    ),
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What plays is the same here and in a process of its own, which takes a second to start."""
    modules: dict[str, Any] = {
        "sandbox.checker": checker.check_job,
        "behaviour": behaviour.compare_job,
        "sandbox.player": player.answer,
    }
    for module in (checker, behaviour, children):
        monkeypatch.setattr(
            module, "run_in_sandbox", lambda name, job, **_: modules[name](dict(job))
        )


@pytest.mark.parametrize("name", KINDS)
def test_it_passes(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    request = make_request(
        str(SOLVER),
        kind.task,
        seeds=range(kind.n_seeds),
        out=tmp_path / "runs",
        transitions=kind.transitions,
        settings=[f"{key}={value}" for key, value in kind.settings.items()],
    )
    run(request)
    differences = None if kind.transitions is None else ["fewer transitions"]
    about = ABOUT | {"differences": differences}
    folder = pack([tmp_path / "runs"], "honest", tmp_path / "submissions", about)
    assert main(["verify", str(folder)]) == 0
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    mark = mark_of(folder, kind.task, SOLVER.stem)
    assert mark is not None
    assert mark.kind == "verified"
    assert len(mark.seeds) == kind.n_seeds
    assert abs(mark.claimed - mark.measured) <= mark.allowed


def test_there_are_ten() -> None:
    assert len(KINDS) >= 10
