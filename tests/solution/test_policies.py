"""Policies of torch and Stable-Baselines3 become files; loaded ones travel between processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

import rmdp_bench
from rmdp_bench import (
    Solution,
    export_policy,
    get_online_task,
    load_solution,
    save_solution,
)
from rmdp_bench.datasets.behaviour import load_behaviour_policies
from rmdp_bench.solution.storage import check_saved_solution, read_saved_solution

GRID = "rmdp/ResourceGathering-n25-v0"
ROUNDING = 1e-3
"""Of networks whose actions are spread over some units."""


class Wide(gym.Env[Any, Any]):
    """Actions in a box that is neither [-1, 1] nor symmetric."""

    observation_space = gym.spaces.Box(-5.0, 5.0, (3,), np.float64)
    action_space = gym.spaces.Box(
        np.array([-2.0, 0.5], np.float32), np.array([1.0, 4.0], np.float32)
    )

    def reset(self, **keywords: Any) -> Any:
        super().reset(seed=keywords.get("seed"))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


class Chosen(Wide):
    """Four actions."""

    action_space: Any = gym.spaces.Discrete(4)


@pytest.fixture(autouse=True)
def _repeat() -> None:
    torch.manual_seed(0)


def observations_of(env: Any, n: int = 200) -> NDArray[Any]:
    env.observation_space.seed(0)
    return np.stack([env.observation_space.sample() for _ in range(n)])


def perturb(policy: Any) -> None:
    """A new network's actions are all near zero: make them reach the ends of the space."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


@pytest.mark.parametrize(
    ("algorithm", "env", "settings"),
    [
        ("PPO", Wide, {}),
        ("PPO", Chosen, {}),
        ("PPO", Wide, {"use_sde": True}),
        ("PPO", Wide, {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
        ("A2C", Wide, {}),
        ("A2C", Chosen, {}),
        ("SAC", Wide, {}),
        ("TD3", Wide, {}),
        ("DDPG", Wide, {}),
        ("DQN", Chosen, {}),
    ],
)
def test_exported_models_act_as_predict_does(
    algorithm: str, env: type[Wide], settings: dict[str, Any], tmp_path: Path
) -> None:
    made = env()
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", made, **settings, device="cpu")
    perturb(model.policy)
    seen = observations_of(made)
    expected, _ = model.predict(seen, deterministic=True)
    assert len(np.unique(expected.round(3), axis=0)) > 2
    policy = export_policy(model, made.observation_space, made.action_space)
    actions = policy.act(seen)
    if env is Wide:
        assert actions.dtype == np.float32
        np.testing.assert_allclose(actions, expected, atol=ROUNDING)
        assert all(made.action_space.contains(action) for action in actions)
    else:
        assert actions.dtype == np.int64
        assert (actions == expected).mean() > 0.98  # but where two are as good, to rounding
    save_solution(Solution([policy], np.ones((5, 1))), tmp_path / "saved")
    files = read_saved_solution(tmp_path / "saved")
    check_saved_solution(files, "saved", 3, 2 if env is Wide else None)
    (loaded,) = load_solution(tmp_path / "saved").policies
    np.testing.assert_array_equal(loaded.act(seen), actions)


def test_a_normalised_model_reads_the_worlds_own_observations() -> None:
    envs = VecNormalize(DummyVecEnv([Wide]), clip_obs=1.5)
    model = stable_baselines3.PPO("MlpPolicy", envs, n_steps=64, batch_size=64, device="cpu")
    model.learn(64)
    perturb(model.policy)
    statistics: Any = envs.obs_rms
    statistics.mean[:] = (1.0, -2.0, 0.0)
    seen = observations_of(Wide())
    expected, _ = model.predict(envs.normalize_obs(seen), deterministic=True)
    unlike, _ = model.predict(seen, deterministic=True)
    policy = export_policy(model, Wide.observation_space, Wide.action_space)
    np.testing.assert_allclose(policy.act(seen), expected, atol=ROUNDING)
    alone = export_policy(model.policy, Wide.observation_space, Wide.action_space)
    np.testing.assert_allclose(alone.act(seen), unlike, atol=ROUNDING)
    assert abs(unlike - expected).max() > 0.1


def test_a_model_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 2))
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    checks = torch.distributions.Distribution._validate_args
    generator = torch.get_rng_state()
    export_policy(network, Wide.observation_space, Wide.action_space)
    assert network.training and not network[1].training and network[2].training
    assert all((before[name] == value).all() for name, value in network.state_dict().items())
    assert torch.distributions.Distribution._validate_args == checks
    assert torch.equal(torch.get_rng_state(), generator)


def test_modules_act_as_they_are_read() -> None:
    seen = observations_of(Wide())
    rows = torch.from_numpy(seen.astype(np.float32))
    network = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 2))
    last: Any = network[3]
    last.weight.data *= 20.0
    policy = export_policy(network, Wide.observation_space, Wide.action_space)
    low, high = Wide.action_space.low, Wide.action_space.high
    with torch.no_grad():
        expected = network.eval()(rows).numpy().clip(low, high)
    np.testing.assert_allclose(policy.act(seen), expected, atol=ROUNDING)
    assert (expected == low).any() and (expected == high).any()

    scores = nn.Linear(3, 4)
    policy = export_policy(scores, Wide.observation_space, gym.spaces.Discrete(4, start=-1))
    best = scores(rows).argmax(1).numpy()
    assert (policy.act(seen) == best - 1).mean() > 0.98
    assert len(set(best)) > 1

    class Sign(nn.Module):
        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return (observation[:, 0] > 0).int()

    policy = export_policy(Sign(), Wide.observation_space, gym.spaces.Discrete(2))
    np.testing.assert_array_equal(policy.act(seen), seen[:, 0] > 0)


class Random(nn.Module):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :2] + torch.randn(len(observation), 2)


@pytest.mark.parametrize(
    ("model", "spaces", "message"),
    [
        (nn.Linear(4, 2), {}, r"Linear fails on observations of shape \(2, 3\): "),
        (nn.Linear(3, 5), {}, r"gives actions of shape \(2, 5\).*expected \(2, 2\)|fails on"),
        (
            nn.Linear(3, 5),
            {"action_space": gym.spaces.Discrete(4)},
            r"gives \(5,\) scores, expected \(4,\)",
        ),
        (Random(), {}, "operator RandomNormalLike is random|operator RandomNormal is random"),
        (object(), {}, "the model is a object, expected a torch module or"),
        (
            nn.Linear(3, 2),
            {"action_space": gym.spaces.Box(-1.0, 1.0, (8, 2))},
            "single_action_space",
        ),
        (
            nn.Linear(3, 2),
            {"observation_space": gym.spaces.Discrete(3)},
            r"observation_space is Discrete\(3\), expected a Box",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_clear_error(
    model: Any, spaces: dict[str, Any], message: str
) -> None:
    given = {"observation_space": Wide.observation_space, "action_space": Wide.action_space}
    with pytest.raises(ValueError, match=message):
        export_policy(model, **given | spaces)


def test_a_model_for_other_spaces_is_refused() -> None:
    model = stable_baselines3.DQN("MlpPolicy", Chosen(), device="cpu", buffer_size=10)
    with pytest.raises(ValueError, match=r"DQN is for .* Discrete\(4\), expected .* Discrete\(5\)"):
        export_policy(model, Wide.observation_space, gym.spaces.Discrete(5))


@pytest.mark.parametrize("kind", ["module", "stable-baselines3"])
def test_a_model_that_has_diverged_is_refused(kind: str) -> None:
    """Of scores that are NaN the first action would be the greatest."""
    env = gym.make("CartPole-v1")
    model: Any = nn.Linear(4, 2)
    if kind == "stable-baselines3":
        model = stable_baselines3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu")
    module = model if kind == "module" else model.policy
    with torch.no_grad():
        next(module.parameters())[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^(Linear|PPO) has NaN in .*weight: its training has "):
        export_policy(model, env.observation_space, env.action_space)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, rmdp_bench; assert 'export_policy' in dir(rmdp_bench); "
    code += "assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# What is loaded travels.


def act(solution: Solution, observations: NDArray[Any]) -> list[NDArray[Any]]:
    return [policy.act(observations) for policy in solution.policies]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Solution:
    """A loaded solution of two policies in one graph."""
    from baselines.online import random_assignment
    from tests.helpers.point_world import point_task

    task = point_task(512)
    config = random_assignment.Config(batch_size=256, minibatch_size=32, n_envs=8)
    log = rmdp_bench.RunLog(task, [0])
    (solution,) = random_assignment.solve(task, config, [0], "cpu", log)
    folder = tmp_path_factory.mktemp("shared") / "solution"
    save_solution(solution, folder)
    return load_solution(folder)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Solution:
    """A loaded solution with a graph for each policy."""
    torch.manual_seed(0)
    spaces = gym.spaces.Box(-2.0, 2.0, (1,)), gym.spaces.Box(-1.0, 1.0, (1,))
    policies = [export_policy(nn.Linear(1, 1), *spaces) for _ in range(2)]
    folder = tmp_path_factory.mktemp("single") / "solution"
    save_solution(Solution(policies, np.eye(2)[np.arange(8) % 2]), folder)
    return load_solution(folder)


@pytest.mark.parametrize("kind", ["shared", "single"])
def test_loaded_solutions_travel(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    solution: Solution = request.getfixturevalue(kind)
    observations = np.linspace(-1, 1, 9)[:, None]
    expected = act(solution, observations)
    assert abs(expected[0] - expected[1]).max() > 1e-3
    copies = [
        copy.copy(solution),
        copy.deepcopy(solution),
        pickle.loads(pickle.dumps(solution)),
    ]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        for one, other in zip(
            expected, executor.submit(act, solution, observations).result(), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        copies.append(executor.submit(copy.copy, solution).result())
    save_solution(solution, tmp_path / "again")
    copies.append(load_solution(tmp_path / "again"))
    for other_solution in copies:
        np.testing.assert_array_equal(other_solution.assignment, solution.assignment)
        assert not other_solution.assignment.flags.writeable
        for one, other in zip(expected, act(other_solution, observations), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(pickle.dumps(solution)) < 2.5 * sum(
        len(path.read_bytes()) for path in (tmp_path / "again").iterdir()
    )  # the graph of several policies is in it once, or twice with its export


def test_policies_of_a_shared_graph_can_be_saved_alone(shared: Solution, tmp_path: Path) -> None:
    swapped = Solution(shared.policies[::-1], np.ones((3, 1)) * [0.5, 0.5])
    save_solution(swapped, tmp_path / "swapped")
    assert (tmp_path / "swapped" / "policy-1.onnx").is_file()
    for n_rows in (1, 7):
        observations = np.linspace(-1, 1, n_rows)[:, None]
        loaded = act(load_solution(tmp_path / "swapped"), observations)
        for one, other in zip(act(shared, observations)[::-1], loaded, strict=True):
            np.testing.assert_allclose(one, other, atol=ROUNDING)


def test_behaviour_policies_travel() -> None:
    for policy in load_behaviour_policies("rmdp/CartPoleHet-n500-v0"):
        observations = np.random.default_rng(0).normal(size=(5, 4))
        again = pickle.loads(pickle.dumps(policy))
        np.testing.assert_array_equal(policy.act(observations), again.act(observations))


def test_a_model_of_stable_baselines_is_a_solution(tmp_path: Path) -> None:
    """Trained, exported, saved, loaded and scored, as the README says."""
    task, env = get_online_task("ResourceGathering-n25-k1-v0"), gym.make(GRID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu")
        model.learn(64)
    policy = export_policy(model, env.observation_space, env.action_space)
    save_solution(Solution([policy], np.ones((25, 1))), tmp_path / "solution")
    evaluation = rmdp_bench.evaluate(task, load_solution(tmp_path / "solution"), n_episodes=2)
    assert evaluation.welfare_matrix.shape == (25, 1)
