"""Specialists: the learner for one agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.online.ppo.settings import PPOConfig
from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.solution import load_policy
from scripts import specialists
from scripts.specialists import Specialist, SpecialistEnv, measure, train_specialist
from scripts.train_specialists import list_specialists

CART_POLE, SPEED = "rmdp/CartPoleHet-n500-v0", "rmdp/HalfCheetahVel-n100-v0"
POLE = Specialist(CART_POLE, agent=603)
CONFIG = PPOConfig(n_envs=4, batch_size=512, minibatch_size=64, learning_rate=1e-3)


@pytest.mark.parametrize("keywords", [{}, {"agent": 1, "target": 2.0}])
def test_a_specialist_is_for_one_agent(keywords: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one of agent, parameters and target"):
        Specialist(CART_POLE, **keywords)  # type: ignore[arg-type]


def test_the_agent_lives_in_every_episode() -> None:
    envs = SpecialistEnv(CART_POLE, agent=601, num_envs=3)
    envs.reset(seed=0)
    n_ends = 0
    for _ in range(40):
        observations, rewards, terminated, _, info = envs.step(np.ones(3, np.int64))
        np.testing.assert_array_equal(info["outcome"][:, 0], rewards)
        assert (envs._envs.world.agents == 601).all()
        if terminated.any():
            n_ends += int(terminated.sum())
            assert (abs(info["final_obs"][terminated, 2]) > 0.2).all()
            assert (abs(observations[terminated]) <= 0.05).all()
    assert n_ends > 6


def test_who_wants_a_speed_is_rewarded_for_it() -> None:
    envs = SpecialistEnv(SPEED, target=2.0, num_envs=2)
    envs.reset(seed=0)
    _, rewards, *_, info = envs.step(np.zeros((2, 6), np.float32))
    np.testing.assert_allclose(rewards, envs.population.rewards(info["outcome"])[:, 0])
    assert envs.population.n_agents == 1


def test_training_balances_the_pole_and_is_done_once(tmp_path: Path) -> None:
    record = train_specialist(POLE, 10_240, [0, 1], tmp_path, config=CONFIG, say=lambda _: None)
    assert min(record["returns"]) > 100.0  # uniform actions: 24
    policy = load_policy(tmp_path / "policy-1.onnx")
    again = measure(POLE, policy, specialists.N_EPISODES, EVALUATION_SEED)
    assert again.mean() == pytest.approx(record["returns"][1])
    assert train_specialist(POLE, 10**9, [0, 1], tmp_path) == record
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "policy-0.onnx",
        "policy-1.onnx",
        "specialist.json",
    ]


def test_an_interrupted_training_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specialists, "CHECKPOINT_SECONDS", 0.0)
    whole = train_specialist(POLE, 3072, [0], tmp_path / "a", config=CONFIG, say=lambda _: None)

    def stop(text: str) -> None:
        if text.startswith("1536"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_specialist(POLE, 3072, [0], tmp_path / "b", config=CONFIG, say=stop)
    assert (tmp_path / "b" / "checkpoint.npz").is_file()
    rest = train_specialist(POLE, 3072, [0], tmp_path / "b", config=CONFIG, say=lambda _: None)
    assert rest["returns"] == whole["returns"]
    for name in ("policy-0.onnx",):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_whom_the_command_trains_for() -> None:
    agents = list_specialists("agents", "rmdp/HalfCheetahHet-n500-v1", 11)
    assert len(agents) == 14 and agents["agent-600"].agent == 600
    targets = list_specialists("targets", SPEED, 11)
    speeds = [own.target for own in targets.values()]
    assert len(speeds) == 11 and np.ptp(np.diff(np.array(speeds, float))) < 1e-9
    with pytest.raises(ValueError, match="nobody in .* wants a speed"):
        list_specialists("targets", CART_POLE, 11)
    with pytest.raises(ValueError, match="do not differ in dynamics"):
        list_specialists("agents", SPEED, 11)
