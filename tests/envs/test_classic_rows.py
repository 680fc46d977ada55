"""Classic worlds step in three ways, one by one, at once and compiled, which give the same bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rmdp_bench.envs import classic_rows
from rmdp_bench.envs.classic_rows import (
    COMPILED_FROM,
    LEFT_END,
    RIGHT_END,
    TOP_SPEED,
    accelerate_car,
    push_cart,
)
from tests.helpers.checkout import ROOT

ENV_IDS = ("rmdp/CartPoleHet-n500-v0", "rmdp/MountainCarHet-n500-v0")
N_STATES = 4000


def compiled_loops() -> classic_rows.CompiledLoops:
    pytest.importorskip("numba")
    loops = classic_rows.compile_loops()
    assert loops is not None
    return loops


def cart_case(rng: np.random.Generator) -> tuple[Any, ...]:
    """States beyond both limits are among them, upright poles at rest and signed zeros too."""
    states = rng.normal(size=(N_STATES, 4)) * [3.0, 5.0, 0.4, 9.0]
    states[:8] = np.array([0.0, -0.0])[np.indices((2, 2, 2)).reshape(3, -1).T[:, [0, 1, 2, 0]]]
    parameters = rng.uniform([2.0, 0.15], [18.0, 0.85], (N_STATES, 2))
    angles = states[:, 2]
    return states, (np.cos(angles), np.sin(angles)), parameters, rng.integers(2, size=N_STATES)


def car_case(rng: np.random.Generator) -> tuple[Any, ...]:
    """Cars at the wall, at the right end, at the flag and at top speed are among them."""
    states = rng.uniform([LEFT_END, -TOP_SPEED], [RIGHT_END, TOP_SPEED], (N_STATES, 2))
    ends = [LEFT_END, LEFT_END + 0.01, RIGHT_END, 0.5]
    corners = np.array([(p, v) for p in ends for v in (-TOP_SPEED, TOP_SPEED, 0.0, -0.0, 1e-4)])
    states[: 50 * len(corners)] = np.tile(corners, (50, 1))
    parameters = rng.uniform(1e-4, 3.5e-3, (N_STATES, 1))
    slopes, actions = np.cos(3 * states[:, 0]), rng.integers(3, size=N_STATES)
    states[-300:, 1] = -rng.uniform(0.001, TOP_SPEED, 300)  # they arrive at the wall, exactly
    states[-300:, 0] = LEFT_END - states[-300:, 1]
    slopes[-300:], actions[-300:] = 0.0, 1
    return states, (slopes,), parameters, actions


def push_alone(state: list[float], waves: list[float], own: list[float], action: int) -> Any:
    return push_cart(*state, *waves, own[0] if action == 1 else -own[0], own[1])  # type: ignore[call-arg]


def accelerate_alone(state: list[float], waves: list[float], own: list[float], action: int) -> Any:
    return accelerate_car(*state, *waves, *own, action)  # type: ignore[arg-type,call-arg]


@pytest.mark.parametrize(
    ("name", "make_case", "alone"),
    [
        ("push_carts", cart_case, push_alone),
        ("accelerate_cars", car_case, accelerate_alone),
    ],
)
def test_all_ways_of_a_step_give_the_same_bits(
    name: str,
    make_case: Callable[[np.random.Generator], tuple[Any, ...]],
    alone: Callable[..., tuple[float, ...]],
) -> None:
    states, waves, parameters, actions = make_case(np.random.default_rng(0))
    rows = np.flatnonzero(np.arange(N_STATES) % 3)  # the others stay as they are
    given = *(wave[rows] for wave in waves), parameters, rows, actions[rows]
    expected = states.copy()
    for row in rows.tolist():
        numbers = [wave[row].item() for wave in waves]
        expected[row] = alone(
            states[row].tolist(), numbers, parameters[row].tolist(), actions[row].item()
        )
    assert (expected[rows] != states[rows]).any(axis=1).mean() > 0.9
    for step in (
        getattr(classic_rows.AT_ONCE, name),
        getattr(classic_rows, name),  # the loop that is compiled, as Python runs it
        getattr(compiled_loops(), name),
    ):
        stepped = states.copy()
        step(stepped, *given)
        assert stepped.tobytes() == expected.tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 500, 3 * 2**29, 2**31])
def test_compiled_draws_are_numpys(n: int) -> None:
    """Also where many draws are refused, and half a draw is left over for the next integer."""
    loops = compiled_loops()
    generators = [np.random.default_rng(seed) for seed in range(300)]
    others = [np.random.default_rng(seed) for seed in range(300)]
    for _ in range(3):
        integers, doubles = np.empty(300, np.int64), np.empty((300, 3))
        addresses = loops.addresses_of(others)
        loops.draw_integers(addresses, n, integers)
        loops.draw_doubles(addresses, doubles)
        assert integers.tolist() == [generator.integers(n) for generator in generators]
        assert doubles.tolist() == [generator.random(3).tolist() for generator in generators]
    states = [[g.bit_generator.state for g in both] for both in (generators, others)]
    assert states[0] == states[1]


def roll(envs: Any, n_steps: int = 150) -> str:
    """Hash of everything that an environment gives in some episodes of random actions."""
    digest = hashlib.sha256()
    observations, infos = envs.reset(seed=5)
    envs.action_space.seed(5)
    for _ in range(n_steps):
        for array in (observations, infos["agent"]):
            digest.update(array.tobytes())
        observations, *rest, infos = envs.step(envs.action_space.sample())
        for array in rest:
            digest.update(array.tobytes())
    envs.close()
    return digest.hexdigest()


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("numba", "numba.extending"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(classic_rows, "compile_loops", classic_rows.compile_loops.__wrapped__)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_compiled_plain_and_single_forms_agree(
    env_id: str, mode: str, request: pytest.FixtureRequest
) -> None:
    compiled_loops()
    how: dict[str, Any] = {
        "num_envs": COMPILED_FROM,
        "max_episode_steps": 60,
        "autoreset_mode": mode,
    }
    compiled: Any = gym.make_vec(env_id, **how)
    assert compiled.world._compiled is not None
    expected = roll(compiled)
    single = [lambda: gym.make(env_id, max_episode_steps=60)] * COMPILED_FROM
    assert roll(SyncVectorEnv(single, autoreset_mode=AutoresetMode[mode])) == expected
    request.getfixturevalue("without_numba")
    plain: Any = gym.make_vec(env_id, **how)
    assert plain.world._compiled is None
    assert roll(plain) == expected


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_few_copies_and_single_forms_need_no_numba(env_id: str) -> None:
    """Its import takes longer than they save."""
    code = f"""
import sys, gymnasium as gym, rmdp_bench
for env in (gym.make({env_id!r}), gym.make_vec({env_id!r}, {COMPILED_FROM - 1})):
    env.reset(seed=0)
    env.step(env.action_space.sample())
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_compiled_loops_run_in_forked_children() -> None:
    compiled_loops()
    code = f"""
import os, gymnasium as gym, rmdp_bench
from tests.envs.test_classic_rows import roll
envs = gym.make_vec({ENV_IDS[0]!r}, {COMPILED_FROM})
before = roll(envs, 20)
child = os.fork()
if not child:
    os._exit(0 if roll(envs, 20) == before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_single_forms_take_every_integer_and_nothing_else(env_id: str) -> None:
    env = gym.make(env_id, disable_env_checker=True).unwrapped
    seen: list[NDArray[Any]] = []
    good: list[Any] = [1, np.int64(1), np.int32(1), np.uint8(1), np.array(1)]
    for action in good:
        env.reset(seed=0)
        seen.append(env.step(action)[0])
    assert all((observation == seen[0]).all() for observation in seen)
    assert all(observation.dtype == np.float32 for observation in seen)
    bad: list[Any] = [True, np.True_, 1.0, np.float64(1.0), -1, 3, np.int64(3), 2**70, "1", None]
    state = env.get_state()  # type: ignore[attr-defined]
    for action in [*bad, [1], np.array([1]), np.nan]:
        with pytest.raises(ValueError, match="action"):
            env.step(action)
    after = env.get_state()  # type: ignore[attr-defined]
    assert all((after[name] == state[name]).all() for name in state)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_step_gives_pythons_numbers_and_new_arrays(env_id: str) -> None:
    env: Any = gym.make(env_id).unwrapped
    first, _ = env.reset(seed=0)
    kept = first.copy()
    observation, reward, terminated, truncated, info = env.step(1)
    env.step(0)
    assert (first == kept).all() and observation is not first
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert type(info["agent"]) is np.int64 and list(info) == ["agent"]


def test_loops_compile_where_no_file_may_grow(tmp_path: Path) -> None:
    """As in the process that plays strangers' policies: what is compiled cannot be kept there."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
import gymnasium, numpy, rmdp_bench
envs = gymnasium.make_vec("rmdp/CartPoleHet-n500-v0", num_envs=64)
envs.reset(seed=0)
envs.step(numpy.ones(64, numpy.int64))
"""
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
