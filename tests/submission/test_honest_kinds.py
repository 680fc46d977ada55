"""Honest submissions of many shapes pass the quick check and the full one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs import make_request, run
from rmdp_bench.submission import behaviour, read_submission
from rmdp_bench.submission.packing import pack
from rmdp_bench.submission.rows import ASSIGNMENT, RowFiles
from rmdp_bench.submission.sandbox import checker, children, player
from rmdp_bench.tasks import get_task
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


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the submission of a kind, which is made once."""

    @functools.cache
    def make(name: str) -> Path:
        kind, out = KINDS[name], tmp_path_factory.mktemp("kind")
        request = make_request(
            str(SOLVER),
            kind.task,
            seeds=range(kind.n_seeds),
            out=out / "runs",
            transitions=kind.transitions,
            settings=[f"{key}={value}" for key, value in kind.settings.items()],
        )
        run(request)
        differences = None if kind.transitions is None else ["fewer transitions"]
        about = ABOUT | {"differences": differences}
        return pack([out / "runs"], "honest", out / "submissions", about)

    return make


@pytest.mark.parametrize("name", KINDS)
def test_it_passes(name: str, packed: Callable[[str], Path]) -> None:
    kind, folder = KINDS[name], packed(name)
    assert main(["verify", str(folder)]) == 0
    assert main(["verify", str(folder), "--full", "--record"]) == 0
    mark = mark_of(folder, kind.task, SOLVER.stem)
    assert mark is not None
    assert mark.kind == "verified"
    assert len(mark.seeds) == kind.n_seeds
    assert abs(mark.claimed - mark.measured) <= mark.allowed


def shape_of(folder: Path) -> tuple[Any, ...]:
    """What a submission looks like to the verifier: nothing that only its name or task says."""
    submission = read_submission(folder)
    (row,) = submission.rows
    files = RowFiles(folder / row.task / row.solver)
    assignment = files.array(0, ASSIGNMENT, (None, None))
    policies = files.solution(0)
    del policies[f"{ASSIGNMENT}.npy"]
    graphs = [onnx.load_model_from_string(data).graph for data in policies.values()]
    is_shared = len(policies) < assignment.shape[1]
    operators = frozenset(node.op_type for graph in graphs for node in graph.node)
    is_soft = bool(((assignment != 0) & (assignment != 1)).any())
    track, sizes = get_task(row.task).track, assignment.shape
    return track, submission.division, is_shared, is_soft, sizes, len(row.seeds), operators


def test_ten_of_them_differ(packed: Callable[[str], Path]) -> None:
    shapes = {name: shape_of(packed(name)) for name in KINDS}
    assert len(set(shapes.values())) == len(KINDS) >= 10, shapes
    tracks, divisions, shared, soft, *_ = (set(part) for part in zip(*shapes.values(), strict=True))
    assert tracks == {"online", "offline"} and divisions == {"closed", "open"}
    assert shared == soft == {True, False}
