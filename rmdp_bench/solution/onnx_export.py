"""Export of policies to ONNX, the form in which solutions are saved; needs torch.

    model = PPO("MlpPolicy", envs).learn(100_000)                 # of Stable-Baselines3
    policy = rmdp_bench.export_policy(model, env.observation_space, env.action_space)
    rmdp_bench.Solution([policy], np.ones((n_agents, 1)))

The same works for any network of torch.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from rmdp_bench.solution.onnx_rules import check_graph, first_line
from rmdp_bench.solution.policies import OnnxPolicy, OpenGraph
from rmdp_bench.warning_filters import ignored_warnings

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "to export a policy, the modules torch and onnxscript are needed: "
        "pip install 'rmdp_bench[baselines]'",
        name=error.name,
    ) from error


def export_policy(
    model: Any, observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> OnnxPolicy:
    """Give the deterministic policy of a model as one that can be saved and submitted.

    The model stays as it is, its mode and its device too.

    Args:
        model: one of

            - a torch module that gives, for observations (E, d) float32, actions (E, a), which are
              clipped to the space, or where actions are discrete a score of each (E, n), of which
              the greatest acts, or the actions (E,) themselves as integers;
            - a model of Stable-Baselines3 (PPO, A2C, SAC, TD3, DDPG, DQN) or its policy: what
              `model.predict(observations, deterministic=True)` gives. Where it is trained on a
              `VecNormalize`, it is given observations as they are, and normalises them itself.

        observation_space: Box (d,) of one environment.
        action_space: Box (a,) or Discrete.

    Raises:
        ValueError: spaces of another kind, a model for other spaces or of another kind, or one
            that is random, has a memory, has NaN among its parameters, or does what ONNX cannot.
    """
    _check_spaces(observation_space, action_space)
    deterministic, device = _deterministic_module(model, observation_space, action_space)
    _check_numbers(deterministic, type(model).__name__)
    example = torch.zeros(2, *(observation_space.shape or ()), device=device)
    with _evaluation_mode(deterministic):
        try:
            with torch.no_grad():
                actions = deterministic(example)
        except Exception as error:  # the model is anybody's
            raise ValueError(
                f"{type(model).__name__} fails on observations of shape {tuple(example.shape)}: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        _check_actions(actions, action_space, type(model).__name__)
        try:
            graph = export_module(deterministic, {"observation": example})
        except Exception as error:  # the exporter raises what it finds
            raise ValueError(
                f"{type(model).__name__} cannot be exported to ONNX: {first_line(error)}"
            ) from error
    name = f"the policy of {type(model).__name__}"
    check_graph(graph, name, shared=False)
    return OnnxPolicy(OpenGraph(graph, name), None, name)


def export_module(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
    """Give one ONNX model with the output "action" for any number of rows.

    Args:
        module: its `forward` takes the inputs by these names and gives the actions.
        inputs: examples, each with a first axis of two rows.
    """
    rows = torch.export.Dim("rows")
    logger = logging.getLogger("torch.onnx")
    with ignored_warnings():  # where threads take turns, so that each finds the level as it was
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=["action"],
                dynamic_shapes={name: {0: rows} for name in inputs},
                external_data=False,
            )
        finally:
            logger.setLevel(level)
    assert program is not None  # the exporter returns a program unless it is given a file
    model: Any = program.model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        # Where in the source it comes from, with the paths of this machine.
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return bytes(model.SerializeToString())


class _Deterministic(nn.Module):
    """What a module's outputs mean as actions of a space."""

    def __init__(self, module: nn.Module, space: gym.Space[Any], device: Any) -> None:
        super().__init__()
        self.module, self.start, self.n_actions = module, None, 0
        if isinstance(space, gym.spaces.Discrete):
            self.start, self.n_actions = int(space.start), int(space.n)
        elif isinstance(space, gym.spaces.Box):
            self.register_buffer("low", torch.as_tensor(space.low, device=device))
            self.register_buffer("high", torch.as_tensor(space.high, device=device))

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (E, a) in the space, or (E,) int64, at observations (E, d)."""
        outputs: Tensor = self.module(observation)
        if self.start is None:
            buffers = dict(self.named_buffers(recurse=False))
            return outputs.clamp(buffers["low"], buffers["high"]).to(buffers["low"].dtype)
        if outputs.is_floating_point():
            if outputs.shape[1:] != (self.n_actions,):
                raise ValueError(
                    f"it gives {tuple(outputs.shape[1:])} scores, expected ({self.n_actions},)"
                )
            return outputs.argmax(-1) + self.start
        return outputs.to(torch.int64)


class _StableBaselines(nn.Module):
    """`predict(deterministic=True)` of a policy of Stable-Baselines3, in torch."""

    def __init__(self, policy: Any, statistics: Any) -> None:
        super().__init__()
        self.policy, self.statistics = policy, statistics is not None
        low, high = policy.action_space, policy.action_space
        self.scales = bool(policy.squash_output) and isinstance(low, gym.spaces.Box)
        if self.scales:
            self.register_buffer("least", torch.as_tensor(low.low, device=policy.device))
            self.register_buffer("greatest", torch.as_tensor(high.high, device=policy.device))
        if statistics is not None:
            self.clip = float(statistics.clip_obs)
            scale = np.sqrt(statistics.obs_rms.var + statistics.epsilon)
            self.register_buffer("mean", torch.as_tensor(statistics.obs_rms.mean).to(policy.device))
            self.register_buffer("scale", torch.as_tensor(scale).to(policy.device))

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (E, a), or (E,) int64, at observations (E, d)."""
        buffers = dict(self.named_buffers(recurse=False))
        if self.statistics:
            normal = (observation.double() - buffers["mean"]) / buffers["scale"]
            observation = normal.clamp(-self.clip, self.clip).float()
        actions: Tensor = self.policy._predict(observation, deterministic=True)
        if self.scales:  # from [-1, 1], as `BasePolicy.unscale_action`
            low, high = buffers["least"], buffers["greatest"]
            actions = low + 0.5 * (actions + 1.0) * (high - low)
        return actions


def _deterministic_module(
    model: Any, observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> tuple[nn.Module, Any]:
    """The module to be exported, and its device."""
    if "stable_baselines3" in sys.modules:  # whoever has a model of it has imported it
        from stable_baselines3.common.base_class import BaseAlgorithm
        from stable_baselines3.common.policies import BasePolicy

        policy = model.policy if isinstance(model, BaseAlgorithm) else model
        if isinstance(policy, BasePolicy):
            own = (policy.observation_space.shape, policy.action_space)
            if own[0] != observation_space.shape or own[1] != action_space:
                raise ValueError(
                    f"{type(model).__name__} is for observations of shape {own[0]} and actions in "
                    f"{own[1]}, expected {observation_space.shape} and {action_space}"
                )
            envs = model.get_vec_normalize_env() if policy is not model else None
            statistics = envs if envs is not None and envs.norm_obs else None
            module = _StableBaselines(policy, statistics)
            return _Deterministic(module, action_space, policy.device), policy.device
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"the model is a {type(model).__name__}, expected a torch module or a model of "
            "Stable-Baselines3"
        )
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    return _Deterministic(model, action_space, device), device


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Without dropout, and without checks of distributions, which cannot be traced."""
    modes = [(part, part.training) for part in module.modules()]
    distribution: Any = torch.distributions.Distribution
    checks = distribution._validate_args
    module.eval()
    distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        distribution.set_default_validate_args(checks)
        for part, mode in modes:
            part.training = mode


def _check_spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    box, discrete = gym.spaces.Box, gym.spaces.Discrete
    if not isinstance(observation_space, box) or len(observation_space.shape) != 1:
        raise ValueError(f"observation_space is {observation_space}, expected a Box of one axis")
    is_vector = isinstance(action_space, box) and len(action_space.shape) == 1
    if not is_vector and not isinstance(action_space, discrete):
        raise ValueError(
            f"action_space is {action_space}, expected a Box of one axis or a Discrete; a vector "
            "environment has it as single_action_space"
        )


def _check_numbers(module: nn.Module, name: str) -> None:
    """Refuse NaN: the greatest of scores that are NaN is a valid action, and means nothing."""
    for part, tensor in module.state_dict().items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise ValueError(f"{name} has NaN in {part}: its training has diverged")


def _check_actions(actions: Tensor, space: gym.Space[Any], name: str) -> None:
    expected = (2, *(space.shape or ()))
    if tuple(actions.shape) != expected:
        raise ValueError(
            f"{name} gives actions of shape {tuple(actions.shape)} for 2 observations, expected "
            f"{expected} in {space}"
        )
