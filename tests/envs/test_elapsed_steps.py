"""Vector forms keep one clock for all rows: episodes are cut in time, whatever began them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

LIMIT = 7


def make(mode: str = "DISABLED") -> Any:
    """Cars, none of which reaches the flag in so few steps."""
    return gym.make_vec(
        "rmdp/MountainCarHet-n500-v0", 3, max_episode_steps=LIMIT, autoreset_mode=mode
    )


def test_the_masks_of_infos_are_the_callers() -> None:
    envs = make()
    for infos in (envs.reset(seed=0)[1], envs.step(np.ones(3, np.int64))[-1]):
        infos["_agent"][:] = False
    assert envs.step(np.ones(3, np.int64))[-1]["_agent"].all()


def test_rows_are_cut_by_their_own_starts() -> None:
    envs = make()
    envs.reset(seed=0)
    elapsed = np.zeros(3, np.int64)
    rng = np.random.default_rng(0)
    n_cut = 0
    for _ in range(60):
        truncations = envs.step(np.ones(3, np.int64))[3]
        elapsed += 1
        assert truncations.tolist() == (elapsed >= LIMIT).tolist()
        assert envs.get_state()["elapsed_steps"].tolist() == elapsed.tolist()
        n_cut += truncations.sum()
        again = truncations | (rng.random(3) < 0.1)
        if again.any():
            envs.reset(options={"reset_mask": again})
            elapsed[again] = 0
    assert n_cut > 10


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_a_restored_state_is_cut_when_it_would_have_been(mode: str) -> None:
    envs = make(mode)
    envs.reset(seed=0)
    for _ in range(4):
        envs.step(np.ones(3, np.int64))
    state = envs.get_state()
    state["elapsed_steps"] = np.array([6, 4, 2])
    for other in (envs, make(mode)):  # which has another clock
        other.set_state(state)
        cuts = [other.step(np.ones(3, np.int64))[3].tolist() for _ in range(5)]
        assert [row.index(True) for row in zip(*cuts, strict=True)] == [0, 2, 4]
        assert (other.get_state()["elapsed_steps"] < LIMIT + 1).all()


def test_a_refused_action_takes_no_time() -> None:
    envs = make()
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        envs.step(np.full(3, 3))
    assert envs.get_state()["elapsed_steps"].tolist() == [0, 0, 0]
