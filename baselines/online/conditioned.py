"""One policy for every preference: PPO whose actor and critic read a condition beside the state.

A condition is a preference: the target of a `TargetPopulation`, or a group's mean weights over the
outcomes of a `LinearPopulation`. Each copy of the world follows a condition of its own, drawn anew
at the end of an episode and, for targets, every `segment` steps: the switch counts as a time limit,
after which the value under the old condition is what would have followed. Because dynamics are
shared, nothing but the reward tells conditions apart.

Actor and critic are two tanh layers, with gradients in closed form. One seed is one `Learner`: it
gets the same numbers whichever seeds are trained beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.online.actions import clipped_surrogate, make_actions
from baselines.online.collection import RunningStatistics
from baselines.online.conditioned_policies import FrozenActor
from baselines.online.conditioned_settings import TrainingConfig
from baselines.online.preferences import make_conditions
from rmdp_bench import Task

_ROWS = ("observations", "targets", "left", "smoothed")
_STATISTICS = ("mean", "variance", "count")

FloatArray = npt.NDArray[np.floating[Any]]


class TwoLayerNetwork:
    """Two tanh layers and a linear one, gradients in closed form.

    All parameters live in one flat tensor, so that Adam and its state are one tensor each.

    Attributes:
        flat: all parameters (P,).
        parameters, gradients: name -> view; log_std (1, 1, o) only where it was asked for.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        *,
        head_gain: float,
        generator: torch.Generator,
        device: str,
        log_std: float | None = None,
    ) -> None:
        """Initialises the layers orthogonally, biases at zero.

        Args:
            sizes: inputs d, hidden units h, outputs o.
            head_gain: scale of the last layer; sqrt(2) for the others.
            generator: of the CPU.
            device: where the parameters live.
            log_std: initial log standard deviations; None for a network without.
        """
        d, h, o = sizes
        shapes: dict[str, tuple[int, ...]] = {
            "weight_1": (d, h),
            "bias_1": (h,),
            "weight_2": (h, h),
            "bias_2": (h,),
            "weight_3": (h, o),
            "bias_3": (o,),
        }
        if log_std is not None:
            shapes["log_std"] = (1, 1, o)
        self.flat = torch.zeros(sum(math.prod(s) for s in shapes.values()), device=device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters = _views(self.flat, shapes)
        self.gradients = _views(self.flat.grad, shapes)
        for layer, gain in ((1, 2**0.5), (2, 2**0.5), (3, head_gain)):
            weight = torch.empty(shapes[f"weight_{layer}"])
            torch.nn.init.orthogonal_(weight, gain=gain, generator=generator)
            self.parameters[f"weight_{layer}"].copy_(weight)
        if log_std is not None:
            self.parameters["log_std"].fill_(log_std)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (B, o) of inputs (B, d), and the two hidden layers that `backward` needs."""
        p = self.parameters
        first = torch.addmm(p["bias_1"], inputs, p["weight_1"]).tanh_()
        second = torch.addmm(p["bias_2"], first, p["weight_2"]).tanh_()
        return torch.addmm(p["bias_3"], second, p["weight_3"]), first, second

    def backward(self, inputs: Tensor, first: Tensor, second: Tensor, slope: Tensor) -> None:
        """Writes the gradient of a loss whose slope by the outputs is (B, o), but for log_std."""
        p, g = self.parameters, self.gradients
        for layer, below in ((3, second), (2, first), (1, inputs)):
            torch.mm(below.T, slope, out=g[f"weight_{layer}"])
            torch.sum(slope, 0, out=g[f"bias_{layer}"])
            if layer > 1:
                slope = slope @ p[f"weight_{layer}"].T
                slope.addcmul_(slope * below, below, value=-1.0)  # tanh' is 1 - tanh^2


@dataclass
class Batch:
    """Transitions of one iteration, M = T E of them."""

    inputs: Tensor
    """(M, d + f) normalised observations and features."""
    actions: Tensor
    """(M, a)"""
    log_probs: Tensor
    """(M,) when the actions were taken."""
    advantages: Tensor
    """(M,) standardised."""
    targets: Tensor
    """(M,) of the critic."""


class Learner:
    """A conditioned policy in training, for one seed.

    Attributes:
        conditions: what the policy is conditioned on.
        actor, critic: the networks.
        statistics: of the raw observations.
        transitions: made so far, in all copies of the world.
        mean_reward: training reward per step of the last batch.
    """

    def __init__(
        self,
        task: Task,
        config: TrainingConfig,
        total: int,
        seed: int,
        device: str,
    ) -> None:
        """Makes the worlds, the networks and the random generators.

        Args:
            task: names the world and the discount.
            config: settings.
            total: transitions over which the schedules run.
            seed: 0 to 2**31 - 1.
            device: "cpu" or "cuda"; the worlds and all random numbers stay on the CPU.
        """
        self.task, self.config, self.total, self.device = task, config, total, device
        self.transitions = 0
        envs: Any = gym.make_vec(
            task.env_id, num_envs=config.n_envs, autoreset_mode="SameStep", agent_rewards=False
        )
        self.envs = envs
        self.conditions = conditions = make_conditions(envs.population, config)
        self.actions = make_actions(envs.single_action_space)
        self.size = int(envs.single_observation_space.shape[0])
        self.random = np.random.default_rng([seed, 1])
        env_seeds = np.random.SeedSequence([seed, 3]).generate_state(config.n_envs) >> 1
        self.observations = np.asarray(envs.reset(seed=[int(s) for s in env_seeds])[0])
        self.targets = conditions.draw(config.n_envs, self.random)
        # Copies switch at different times, so that a batch sees all conditions.
        self.left = self.random.integers(1, max(conditions.segment, 1) + 1, config.n_envs)
        self.smoothed = np.zeros((config.n_envs, envs.population.outcome_size))
        self.statistics = RunningStatistics(1, self.size)
        generator = torch.Generator().manual_seed(seed)
        inputs, hidden = self.size + conditions.n_features, config.hidden_size
        self.actor = TwoLayerNetwork(
            (inputs, hidden, self.actions.n_outputs),
            head_gain=0.01,
            generator=generator,
            device=device,
            log_std=config.log_std if self.actions.has_log_std else None,
        )
        self.critic = TwoLayerNetwork(
            (inputs, hidden, 1), head_gain=1.0, generator=generator, device=device
        )
        self.optimizers = {
            name: torch.optim.Adam([network.flat], eps=1e-5, fused=True)
            for name, network in (("actor", self.actor), ("critic", self.critic))
        }
        self.mean_reward = 0.0

    def inputs(self, observations: FloatArray, conditions: FloatArray) -> Tensor:
        """What the networks read: (B, d + f) from raw observations (B, d), conditions (B, p)."""
        if self.config.normalize_observations:
            observations = (observations - self.statistics.mean[0]) * self.statistics.scale()[0]
            bound = self.config.observation_clip
            observations = observations.clip(-bound, bound)
        parts = (observations.astype(np.float32), self.conditions.features(conditions))
        return torch.from_numpy(np.concatenate(parts, axis=1)).to(self.device)

    def collect(self) -> Batch:
        """Acts for batch_size transitions."""
        config, n_envs = self.config, self.config.n_envs
        n_steps = config.batch_size // n_envs
        raw = np.empty((n_steps, n_envs, self.size))
        inputs = torch.empty(
            n_steps, n_envs, self.size + self.conditions.n_features, device=self.device
        )
        outputs = torch.empty(n_steps, n_envs, self.actions.n_outputs, device=self.device)
        actions = np.empty((n_steps, n_envs, self.actions.width), np.float32)
        rewards = np.empty((n_steps, n_envs))
        ended = np.zeros((n_steps, n_envs), bool)
        noise = self.actions.draw_noise((n_steps, n_envs), self.random)
        std = (
            self.actor.parameters["log_std"].exp().cpu().numpy()
            if self.actions.has_log_std
            else None
        )
        smoothing = 1.0 / config.smoothing
        done = min(1.0, self.transitions / self.total)
        shaping = config.shaping + (config.final_shaping - config.shaping) * done
        cut_where: list[tuple[int, npt.NDArray[np.intp]]] = []
        cut_inputs: list[Tensor] = []
        for t in range(n_steps):
            raw[t] = self.observations
            inputs[t] = self.inputs(self.observations, self.targets)
            outputs[t] = self.actor.forward(inputs[t])[0]
            actions[t] = self.actions.sample(outputs[t].cpu().numpy(), noise[t], std)
            step = self.envs.step(self.actions.for_envs(actions[t]))
            self.observations, _, terminated, truncated, info = step
            over = terminated | truncated
            outcome, following = info["outcome"], self.observations
            if over.any():
                outcome = np.where(over[:, None], info["final_info"]["outcome"], outcome)
                following = following.copy()
                for row in np.flatnonzero(over):
                    following[row] = info["final_obs"][row]
            self.smoothed += (outcome - self.smoothed) * smoothing
            rewards[t] = self.conditions.rewards(outcome, self.smoothed, self.targets, shaping)
            self.smoothed[over] = 0.0
            self.left -= 1
            switched = over | (self.left == 0)
            ended[t] = switched
            cut = np.flatnonzero((switched & ~over) | (truncated & ~terminated))
            if not config.bootstrap_time_limits:
                cut = cut[~over[cut]]
            if cut.size:
                cut_where.append((t, cut))
                cut_inputs.append(self.inputs(following[cut], self.targets[cut]))
            new = np.flatnonzero(switched)
            if new.size:
                self.targets[new] = self.conditions.draw(new.size, self.random)
                self.left[new] = self.conditions.segment
        self.mean_reward = float(rewards.mean())
        rewards *= config.reward_scale
        for (t, rows), own in zip(cut_where, cut_inputs, strict=True):
            values = self.critic.forward(own)[0][:, 0].cpu().numpy()
            rewards[t, rows] += self.task.gamma * values
        last = self.inputs(self.observations, self.targets)
        if config.normalize_observations:
            self.statistics.update(raw.reshape(1, -1, self.size))
        self.transitions += config.batch_size
        return self._batch(inputs, outputs, actions, noise, rewards, ended, last)

    def _batch(
        self,
        inputs: Tensor,
        outputs: Tensor,
        actions: npt.NDArray[np.float32],
        noise: npt.NDArray[np.float32],
        rewards: FloatArray,
        ended: npt.NDArray[np.bool_],
        last: Tensor,
    ) -> Batch:
        """Generalised advantage estimation over (T, E)."""
        n_steps, n_envs = rewards.shape
        flat = inputs.view(-1, inputs.shape[-1])
        values = self.critic.forward(flat)[0].view(n_steps, n_envs).cpu().numpy().astype(np.float64)
        following = self.critic.forward(last)[0][:, 0].cpu().numpy().astype(np.float64)
        advantages = np.empty_like(rewards)
        carried = np.zeros(n_envs)
        for t in reversed(range(n_steps)):
            discount = self.task.gamma * ~ended[t]
            carried = (
                rewards[t]
                + discount * following
                - values[t]
                + discount * self.config.gae_lambda * carried
            )
            advantages[t] = carried
            following = values[t]
        targets = torch.from_numpy((advantages + values).reshape(-1).astype(np.float32))
        spread = advantages.std() + self.config.advantage_offset
        standard = ((advantages - advantages.mean()) / spread).reshape(-1).astype(np.float32)
        tensors = [torch.from_numpy(array).to(self.device) for array in (actions, noise)]
        log_probs = self.actions.log_probs_of_samples(
            self.actor, outputs[None], tensors[0][None], tensors[1][None]
        )
        return Batch(
            inputs=flat,
            actions=tensors[0].view(-1, actions.shape[-1]),
            log_probs=log_probs.reshape(-1),
            advantages=torch.from_numpy(standard).to(self.device),
            targets=targets.to(self.device),
        )

    def update(self, batch: Batch) -> None:
        """The epochs of PPO on a batch."""
        config = self.config
        rate = self._anneal(config.learning_rate, config.final_learning_rate)
        entropy = self._anneal(config.entropy_coefficient, config.final_entropy_coefficient)
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = rate
        n_rows = len(batch.targets)
        for _ in range(config.n_epochs):
            order = torch.from_numpy(self.random.permutation(n_rows)).to(self.device)
            for rows in order.split(config.minibatch_size):
                self._step(batch, rows, entropy)

    def _step(self, batch: Batch, rows: Tensor, entropy: float) -> None:
        """One gradient step of actor and critic."""
        inputs = batch.inputs[rows]
        outputs, first, second = self.actor.forward(inputs)
        log_probs, pullback = self.actions.log_probs(
            self.actor, outputs[None], batch.actions[rows][None]
        )
        _, slope = clipped_surrogate(
            log_probs, batch.log_probs[rows][None], batch.advantages[rows][None], self.config.clip
        )
        slope = pullback(slope.unsqueeze(-1) / -len(rows), entropy)
        self.actor.backward(inputs, first, second, slope[0])
        values, first, second = self.critic.forward(inputs)
        error = values - batch.targets[rows][:, None]
        self.critic.backward(inputs, first, second, error * (2.0 / len(rows)))
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            gradient = network.flat.grad
            assert gradient is not None
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_((self.config.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0))
            self.optimizers[name].step()

    def freeze(self, conditions: FloatArray) -> FrozenActor:
        """The actor as it is, under each of the conditions (k, p)."""
        p = {name: tensor.cpu().numpy().copy() for name, tensor in self.actor.parameters.items()}
        weight = p["weight_1"]
        normalized = self.config.normalize_observations
        return FrozenActor(
            weight_1=weight[: self.size],
            bias_1=p["bias_1"] + self.conditions.features(conditions) @ weight[self.size :],
            weight_2=p["weight_2"],
            bias_2=p["bias_2"],
            weight_3=p["weight_3"],
            bias_3=p["bias_3"],
            mean=self.statistics.mean[0].astype(np.float32),
            scale=self.statistics.scale()[0].astype(np.float32),
            clip=self.config.observation_clip if normalized else None,
            discrete=not self.actions.has_log_std,
        )

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Everything that training needs to continue bit for bit: arrays, and JSON."""
        arrays = {f"env.{name}": array for name, array in self.envs.get_state().items()}
        arrays |= {name: getattr(self.statistics, name)[0] for name in _STATISTICS}
        arrays |= {name: getattr(self, name).copy() for name in _ROWS}
        for name, tensor in self._tensors().items():
            arrays[name] = tensor.cpu().numpy().copy()
        state = {
            "transitions": self.transitions,
            "random": self.random.bit_generator.state,
        }
        return arrays, state

    def set_state(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self.transitions = int(state["transitions"])
        self.random.bit_generator.state = state["random"]
        self.envs.set_state({name: arrays[f"env.{name}"] for name in self.envs.get_state()})
        for name in _STATISTICS:
            setattr(self.statistics, name, arrays[name][None].copy())
        for name in _ROWS:
            setattr(self, name, arrays[name].copy())
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and Adam's state of both networks, by name."""
        tensors = {}
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            adam = self.optimizers[name].state[network.flat]
            if not adam:  # before the first step
                adam["step"] = torch.zeros((), device=self.device)
                adam["exp_avg"] = torch.zeros_like(network.flat)
                adam["exp_avg_sq"] = torch.zeros_like(network.flat)
            tensors |= {f"{name}.{part}": adam[part] for part in adam} | {name: network.flat}
        return tensors

    def close(self) -> None:
        """Closes the worlds."""
        self.envs.close()

    def _anneal(self, start: float, end: float) -> float:
        """Geometric schedule over the total; linear where an end is zero."""
        fraction = min(1.0, self.transitions / self.total)
        if start <= 0 or end <= 0:
            return start + (end - start) * fraction
        return float(start * (end / start) ** fraction)


def _views(flat: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Cuts a flat tensor into consecutive tensors of the given shapes."""
    views, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = flat[start : start + size].view(shape)
        start += size
    return views
