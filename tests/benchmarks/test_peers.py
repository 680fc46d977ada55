"""What runs beside each other's work is closed again."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from baselines.online.ppo.learner import PPOLearner
from benchmarks import peers


def count_closings(kind: type, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What of this class is closed from now on."""
    closed: list[Any] = []
    close = kind.close  # type: ignore[attr-defined]

    def noted(self: Any, *arguments: Any, **keywords: Any) -> None:
        closed.append(self)
        close(self, *arguments, **keywords)

    monkeypatch.setattr(kind, "close", noted)
    return closed


@pytest.mark.parametrize("n_envs", [0, 2])
def test_worlds_are_closed(n_envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = count_closings(gym.Wrapper if n_envs == 0 else gym.vector.VectorEnv, monkeypatch)
    with peers.run_world(peers.CART, n_envs, time.process_time) as run:
        assert run(3) >= 0.0 and not closed
    assert closed


def test_learners_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (count_closings(kind, monkeypatch) for kind in (PPOLearner, DummyVecEnv))
    with peers.run_training("ResourceGathering-n25-k1-v0") as (_, transitions):
        assert transitions > 0 and not ours
    with peers.run_stable_baselines("CartPole-v1", 1):
        assert not theirs
    assert len(ours) == len(theirs) == 1
