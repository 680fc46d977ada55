"""Gymnasium's wrappers that need extras: NumpyToTorch (torch-wrappers) and RecordVideo (video)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench  # noqa: F401

GRID = "rmdp/ResourceGathering-n25-v0"


def test_observations_and_actions_of_torch() -> None:
    pytest.importorskip("array_api_compat", reason="needs the extra torch-wrappers")
    torch = pytest.importorskip("torch")
    plain, env = gym.make(GRID), gym.wrappers.NumpyToTorch(gym.make(GRID))
    observation, _ = env.reset(seed=0)
    assert isinstance(observation, torch.Tensor)
    np.testing.assert_array_equal(observation.numpy(), plain.reset(seed=0)[0])
    observation, reward, _, _, info = env.step(torch.tensor(1))
    expected = plain.step(1)
    np.testing.assert_array_equal(observation.numpy(), expected[0])
    assert reward == pytest.approx(expected[1])
    assert info["agent_rewards"].shape == (25,)
    envs: Any = gym.wrappers.vector.NumpyToTorch(gym.make_vec(GRID, num_envs=3))
    envs.reset(seed=0)
    assert envs.step(torch.zeros(3, dtype=torch.int64))[0].shape[0] == 3


def test_a_video_is_recorded(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="needs the extra video")
    env: Any = gym.wrappers.RecordVideo(gym.make(GRID, render_mode="rgb_array"), str(tmp_path))
    env.reset(seed=0)
    for action in (1, 0, 1, 0):
        if any(env.step(action)[2:4]):
            break
    env.close()
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 0
