"""A stop is a stop, in whoever's code it is raised: nothing takes it for a failure of theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from rmdp_bench.evaluation import before_each_step, evaluate
from rmdp_bench.evaluation.offline import OfflineSolution, evaluate_offline, heldout_episodes
from rmdp_bench.runs import Interrupted, make_request, run
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import get_offline_task, get_online_task
from tests.helpers.toys import ScriptedPolicy

OFFLINE = get_offline_task("CartPoleHet-n500-pure-v1")
ONLINE = get_online_task("ResourceGathering-n25-k1-v0")


class Stopping(ScriptedPolicy):
    """Stops in one of its methods, as a planner whose simulations ask whether to go on."""

    def __init__(self, method: str) -> None:
        super().__init__([0])
        setattr(self, method, stop)


def stop(*arguments: Any) -> NoReturn:
    raise Interrupted


def offline(policy: ScriptedPolicy, **options: Any) -> OfflineSolution:
    return OfflineSolution([policy], np.ones((len(OFFLINE.eval_agents or ()), 1)), **options)


@pytest.mark.parametrize(
    "solution",
    [
        offline(Stopping("reset")),
        offline(Stopping("act")),
        offline(Stopping("join_policies")),
        offline(ScriptedPolicy([0]), adapt=stop),
        offline(ScriptedPolicy([0]), predict=stop),
    ],
    ids=["reset", "act", "join_policies", "adapt", "predict"],
)
def test_in_what_a_solver_has_made(solution: OfflineSolution) -> None:
    with pytest.raises(Interrupted):
        evaluate_offline(OFFLINE, solution, n_episodes=1)


def test_of_episodes_that_a_solver_plays() -> None:
    """The solver is asked before each of their steps."""
    is_serving = False

    def ask() -> None:
        if is_serving:
            stop()

    def adapt(episodes: Any) -> Solution:
        nonlocal is_serving
        is_serving = True
        evaluate(ONLINE, Solution([ScriptedPolicy([0])], np.ones((25, 1))), n_episodes=1)
        raise AssertionError("it was played to the end")

    with before_each_step(ask), pytest.raises(Interrupted):
        evaluate_offline(OFFLINE, offline(ScriptedPolicy([0]), adapt=adapt), n_episodes=1)


def test_while_the_episodes_of_held_out_agents_are_collected() -> None:
    heldout_episodes.cache_clear()
    with before_each_step(stop), pytest.raises(Interrupted):
        heldout_episodes(OFFLINE)
    assert len(heldout_episodes(OFFLINE)) == len(OFFLINE.heldout_agents)  # nothing half is kept


def solver(body: str) -> str:
    return (
        "from dataclasses import dataclass\nfrom rmdp_bench import Interrupted\n"
        "@dataclass(frozen=True)\nclass Config: ...\n"
        f"def solve(task, config, seeds, device, log):\n{body}"
    )


@pytest.mark.parametrize(
    "body",
    [
        "    raise Interrupted\n",
        "    try:\n        raise Interrupted\n    except Exception:\n        pass\n    return []\n",
    ],
    ids=["raised", "among what a solver catches"],
)
def test_in_the_training_of_a_solver(body: str) -> None:
    Path("mine.py").write_text(solver(body))
    with pytest.raises(Interrupted, match="the same command starts again"):
        run(make_request("mine.py", ONLINE.id), stop=threading.Event())
    assert not list(Path("runs").rglob("error.txt"))


def test_in_the_forward_pass_of_a_model() -> None:
    torch = pytest.importorskip("torch")
    from gymnasium.spaces import Box, Discrete

    from rmdp_bench import export_policy

    class Model(torch.nn.Module):  # type: ignore[misc,name-defined]
        forward: Callable[..., Any] = stop

    with pytest.raises(Interrupted):
        export_policy(Model(), Box(-1.0, 1.0, (3,)), Discrete(2))
