"""What runs beside each other's work is closed again."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from baselines.common.threads import flushes_denormals
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


D3RLPY = """
from types import SimpleNamespace as Names

class Learner:
    def fit(self, dataset, n_steps, n_steps_per_epoch, show_progress, logger_adapter):
        print("an answer that is none")

def seed(number): assert number == 0
def config(**settings): return Names(create=lambda device: Learner())
ActionSpace = Names(DISCRETE=1)
dataset = Names(MDPDataset=lambda *arrays, action_space, action_size: len(arrays[0]))
models = Names(encoders=Names(VectorEncoderFactory=list))
algos = Names(DiscreteBCQConfig=config, DiscreteCQLConfig=config)
logging = Names(NoopAdapterFactory=object)
"""


@pytest.mark.parametrize("name", ["bcq", "cql"])
def test_updates_beside_d3rlpy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's library in its place: what its worker is asked and answers."""
    (tmp_path / "d3rlpy.py").write_text(D3RLPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with peers.run_updates(name) as ours, peers.run_d3rlpy(sys.executable, name) as theirs:
        assert ours(2) > 0.0 and theirs(2) >= 0.0
        assert theirs(1) < 60.0
    assert not flushes_denormals()
