"""One policy for every preference: PPO whose actor and critic read a condition beside the state.

A condition is a preference: the target of a `TargetPopulation`, or a group's mean weights over the
outcomes of a `LinearPopulation` (`conditions`). Each copy of the world follows a condition of its
own, drawn anew at the end of an episode and, for targets, every `segment` steps: the switch counts
as a time limit, after which the value under the old condition is what would have followed. Because
dynamics are shared, nothing but the reward tells conditions apart.

One seed is one `Learner`: it gets the same numbers whichever seeds are trained beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common.divergence import check_finite
from baselines.online.ppo.actions import clipped_surrogate, make_actions
from baselines.online.universal.elites import Elites
from baselines.online.universal.network import TwoLayerNetwork
from baselines.online.universal.policies import FrozenActor
from baselines.online.universal.settings import TrainingConfig
from baselines.online.universal.updates_numba import ADAM_EPSILON, Batch, train
from baselines.online.universal.worlds import ConditionedWorlds
from rmdp_bench import OnlineTask

FloatArray = npt.NDArray[np.floating[Any]]


class Learner:
    """A conditioned policy in training, for one seed.

    Attributes:
        worlds: in which it acts.
        actor, critic: the networks.
        transitions: made so far, in all copies of the world.
        compiled: whether updates run in compiled loops, which a CPU does; the same to rounding.
        mean_reward: training reward per step of the last batch.
    """

    def __init__(
        self,
        task: OnlineTask,
        config: TrainingConfig,
        total: int,
        seed: int,
        device: str,
        budgets: Sequence[int] = (),
    ) -> None:
        """Makes the worlds, the networks and the random generators.

        Args:
            task: names the world and the discount.
            config: settings.
            total: transitions over which the schedules run.
            seed: 0 to 2**31 - 1.
            device: "cpu" or "cuda"; the worlds and all random numbers stay on the CPU.
            budgets: numbers of conditions that will be chosen; none: the task's.
        """
        self.task, self.config, self.total, self.device = task, config, total, device
        self.transitions, self.mean_reward = 0, 0.0
        self.worlds = ConditionedWorlds(task, config, seed, budgets or (task.n_representatives,))
        self.random = self.worlds.random
        self.actions = make_actions(self.worlds.envs.single_action_space)
        generator = torch.Generator().manual_seed(seed)
        inputs, hidden = self.worlds.input_size, config.hidden_size
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
        self.networks = {"actor": self.actor, "critic": self.critic}
        self.compiled = device == "cpu"
        self.optimizers = {
            name: torch.optim.Adam([network.flat], eps=ADAM_EPSILON, fused=True)
            for name, network in self.networks.items()
        }

    def collect(self) -> Batch:
        """Acts for batch_size transitions."""
        config, worlds, size = self.config, self.worlds, self.config.n_envs
        n_steps = config.batch_size // size
        raw = np.empty((n_steps, *worlds.observations.shape))
        inputs = np.empty((n_steps, size, worlds.input_size), np.float32)
        outputs = np.empty((n_steps, size, self.actions.n_outputs), np.float32)
        actions = np.empty((n_steps, size, self.actions.width), np.float32)
        rewards, ended = np.empty((n_steps, size)), np.empty((n_steps, size), bool)
        noise = self.actions.draw_noise((n_steps, size), self.random)
        log_std = self.actor.parameters.get("log_std")
        std = None if log_std is None else log_std.exp().cpu().numpy()
        shaping = self._anneal(config.shaping, config.final_shaping, linear=True)
        outcomes: list[FloatArray] = []
        total = 0.0
        for t in range(n_steps):
            raw[t] = worlds.observations
            inputs[t] = worlds.inputs(worlds.observations, worlds.current)
            outputs[t] = self.actor.evaluate(self._tensor(inputs[t]))
            actions[t] = self.actions.sample(outputs[t], noise[t], std)
            step = worlds.step(self.actions.for_envs(actions[t]), shaping)
            rewards[t], ended[t] = step.rewards * config.reward_scale, step.ended
            total += step.rewards.sum()
            outcomes.append(step.outcomes)
            if step.cut.size:
                values = self.critic.evaluate(self._tensor(step.cut_inputs))[:, 0]
                rewards[t, step.cut] += self.task.gamma * values
        last = worlds.inputs(worlds.observations, worlds.current)
        if config.normalize_observations:
            worlds.statistics.update(raw.reshape(1, -1, raw.shape[-1]))
        self.mean_reward = total / config.batch_size
        self.transitions += config.batch_size
        values = self.critic.evaluate(self._tensor(np.concatenate([inputs, last[None]])))[..., 0]
        advantages = self._advantages(rewards, ended, values.astype(np.float64))
        log_probs = self.actions.log_probs_of_samples(
            self.actor, *(self._tensor(array[None]) for array in (outputs, actions, noise))
        )
        spread = advantages.std() + config.advantage_offset
        batch = Batch(
            inputs=self._tensor(inputs).flatten(0, 1),
            actions=self._tensor(actions).flatten(0, 1),
            log_probs=log_probs.flatten(),
            advantages=self._tensor((advantages - advantages.mean()) / spread).flatten(),
            targets=self._tensor(advantages + values[:-1]).flatten(),
        )
        elites = worlds.conditions.elites
        if elites is None or config.focus + config.imitation == 0:
            return batch
        elites.record(raw, actions, np.stack(outcomes), ended)
        elites.plan(self.random)
        return self._with_elites(batch, elites, spread) if elites.conditions else batch

    def _with_elites(self, batch: Batch, elites: Elites, spread: float) -> Batch:
        """Adds steps of the best episodes for planned conditions, as if they were made just now."""
        config = self.config
        n_rows = int(config.imitation * config.batch_size) // config.minibatch_size
        n_rows *= config.minibatch_size
        if n_rows == 0:
            return batch
        parts, found = [], 0
        while found < n_rows:
            for condition in elites.draw(config.n_envs, self.random):
                episode = elites.best(condition)
                repeated = np.repeat(condition[None], len(episode.actions), axis=0)
                own_inputs = self.worlds.inputs(episode.observations, repeated)
                own_returns = elites.returns_to_go(episode, condition, self.task.gamma)
                parts.append((own_inputs, episode.actions, own_returns * config.reward_scale))
                found += len(repeated)
        rows_of = (np.concatenate(part)[:n_rows] for part in zip(*parts, strict=True))
        inputs, actions, returns = map(self._tensor, rows_of)
        values = self._tensor(self.critic.evaluate(inputs)[:, 0])
        outputs = self.actor.forward(inputs)[0]
        log_probs, _ = self.actions.log_probs(self.actor, outputs[None], actions[None])
        gains = (returns - values).clamp(min=0.0)
        own = Batch(inputs, actions, log_probs[0], gains / spread, values + gains)
        return Batch(*(torch.cat(pair) for pair in zip(batch, own, strict=True)))

    def _advantages(
        self, rewards: FloatArray, ended: npt.NDArray[np.bool_], values: FloatArray
    ) -> FloatArray:
        """Generalised advantage estimates (T, E); `values` are (T + 1, E)."""
        advantages = np.zeros_like(values)
        for t in reversed(range(len(rewards))):
            discount = self.task.gamma * ~ended[t]
            following = values[t + 1] + self.config.gae_lambda * advantages[t + 1]
            advantages[t] = rewards[t] + discount * following - values[t]
        return advantages[:-1]

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.astype(np.float32, copy=False)).to(self.device)

    def update(self, batch: Batch) -> None:
        """The epochs of PPO on a batch.

        Raises:
            FloatingPointError: training has diverged.
        """
        config = self.config
        rate = self._anneal(config.learning_rate, config.final_learning_rate)
        entropy = self._anneal(config.entropy_coefficient, config.final_entropy_coefficient)
        n_rows = len(batch.targets)
        order = np.stack([self.random.permutation(n_rows) for _ in range(config.n_epochs)])
        order = order.reshape(-1, config.minibatch_size)
        if self.compiled:
            train(
                self._tensors(),
                batch,
                order,
                config,
                self.actions,
                learning_rate=rate,
                entropy=entropy,
            )
        else:
            for optimizer in self.optimizers.values():
                optimizer.param_groups[0]["lr"] = rate
            for rows in torch.from_numpy(order).to(self.device):
                self._step(batch, rows, entropy)
        networks = [network.flat for network in self.networks.values()]
        check_finite(networks, f"{self.transitions:,} transitions")

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
        for name, network in self.networks.items():
            gradient = network.flat.grad
            assert gradient is not None
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_((self.config.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0))
            self.optimizers[name].step()

    def freeze(self, conditions: FloatArray) -> FrozenActor:
        """The actor as it is, under each of the conditions (k, p)."""
        p = {name: tensor.cpu().numpy().copy() for name, tensor in self.actor.parameters.items()}
        worlds, weight = self.worlds, p["weight_1"]
        size = worlds.observations.shape[1]
        normalized = self.config.normalize_observations
        return FrozenActor(
            weight_1=weight[:size],
            bias_1=p["bias_1"] + worlds.conditions.features(conditions) @ weight[size:],
            weight_2=p["weight_2"],
            bias_2=p["bias_2"],
            weight_3=p["weight_3"],
            bias_3=p["bias_3"],
            mean=worlds.statistics.mean[0].astype(np.float32),
            scale=worlds.statistics.scale()[0].astype(np.float32),
            clip=self.config.observation_clip if normalized else None,
            discrete=not self.actions.has_log_std,
        )

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Everything that training needs to continue bit for bit: arrays, and JSON."""
        arrays = self.worlds.get_state()
        arrays |= {name: tensor.cpu().numpy().copy() for name, tensor in self._tensors().items()}
        return arrays, {
            "transitions": self.transitions,
            "random": self.random.bit_generator.state,
        }

    def set_state(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self.transitions = int(state["transitions"])
        self.random.bit_generator.state = state["random"]
        self.worlds.set_state(arrays)
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and Adam's state of both networks, by name."""
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            adam = self.optimizers[name].state[network.flat]
            if not adam:  # before the first step
                adam["step"] = torch.zeros((), device=self.device)
                adam["exp_avg"] = torch.zeros_like(network.flat)
                adam["exp_avg_sq"] = torch.zeros_like(network.flat)
            tensors |= {f"{name}.{part}": adam[part] for part in adam} | {name: network.flat}
        return tensors

    def _anneal(self, start: float, end: float, *, linear: bool = False) -> float:
        """Geometric schedule over the total; linear on demand, and where an end is zero."""
        fraction = min(1.0, self.transitions / self.total)
        if linear or start <= 0 or end <= 0:
            return start + (end - start) * fraction
        return float(start * (end / start) ** fraction)
