"""Children made by fork: their parent's environments work there, or raise an error; none hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rmdp_bench
from rmdp_bench.envs import ENVIRONMENTS, EnvironmentEntry

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

CASES = """
import gc, json, os, signal, sys, warnings
import gymnasium as gym
import rmdp_bench
warnings.simplefilter("ignore")  # that the process has threads

def make(env_id, form, keywords):
    if form == "single":
        return gym.make(env_id, **keywords)
    if form == "vector":
        return gym.make_vec(env_id, 4, **keywords)
    if rmdp_bench.get_environment(env_id).heterogeneous:
        return rmdp_bench.heterogeneous_parallel_env(env_id, [0, 1, 2, 3], **keywords)
    return rmdp_bench.parallel_env(env_id, 4, **keywords)

def step(env, form):  # by actions 0, after which no episode ends
    if form == "parallel":
        env.step({name: 0 * env.action_space(name).sample() for name in env.agents})
    else:
        env.step(0 * env.action_space.sample())

for env_id, form, what, keywords in json.loads(sys.argv[1]):
    env = make(env_id, form, keywords)
    env.reset(seed=0)
    step(env, form)
    if what == "render":
        try:
            env.render()
        except gym.error.DependencyNotInstalled:
            print("cannot draw", flush=True)
            continue
    child = os.fork()
    if not child:
        signal.alarm(600)  # one that waits for ever is ended
        try:
            if what == "step":
                step(env, form)
            elif what == "reset":
                env.reset(seed=1)
            elif what in ("render", "draw"):  # after the parent has drawn, or not
                env.render()
            elif what == "forget":
                env.close()
                del env
                gc.collect()
            print("works")
        except RuntimeError as error:
            print("refused" if "'spawn'" in str(error) else repr(error))
        sys.exit()  # which frees what the process still has
    assert os.waitpid(child, 0)[1] == 0
    env.reset(seed=0)  # the parent goes on
    step(env, form)
"""

Case = tuple[str, str, str, dict[str, Any]]


def run(cases: list[Case]) -> list[str]:
    """What the child of each case says, in a process that is killed if one hangs."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONPATH"] = str(Path(rmdp_bench.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", CASES, json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n")[:-1]


def has_threads(entry: EnvironmentEntry) -> bool:
    return entry.entry_point.split(":")[0].endswith(("velocity", "half_cheetah_het"))


@pytest.mark.parametrize("form", ["single", "vector", "parallel"])
def test_forked_children_step_or_say_why_not(form: str) -> None:
    cases: list[Case] = []
    expected = []
    for entry in ENVIRONMENTS:
        threads = form != "single" and has_threads(entry)
        cases.append((entry.id, form, "step", {"n_threads": 2} if threads else {}))
        expected.append("refused" if threads else "works")
    assert run(cases) == expected


def test_forked_children_of_simulations_on_threads() -> None:
    cases: list[Case] = []
    for env_id in ("rmdp/HopperVel-n100-v0", "rmdp/HalfCheetahHet-n500-v0"):
        for what in ("reset", "forget", "exit"):
            cases.append((env_id, "vector", what, {"n_threads": 2}))
        cases.append((env_id, "vector", "step", {"n_threads": 1}))
    assert run(cases) == 2 * ["refused", "works", "works", "works"]


def test_forked_children_cannot_draw_simulations_on_threads() -> None:
    """What they are told names 'spawn', also where there is no OpenGL."""
    keywords = {"render_mode": "rgb_array", "n_threads": 2}
    ids = ("rmdp/HopperVel-n100-v0", "rmdp/HalfCheetahHet-n500-v0")
    assert run([(env_id, "vector", "draw", keywords) for env_id in ids]) == 2 * ["refused"]


def test_forked_children_cannot_draw() -> None:
    (output,) = run([("rmdp/HopperVel-n100-v0", "single", "render", {"render_mode": "rgb_array"})])
    if output == "cannot draw":
        pytest.skip("there is no OpenGL")
    assert output == "refused"
