"""One policy for every preference: PPO whose actor and critic read a condition beside the state.

A condition is a preference: the target of a `TargetPopulation`, or a group's mean weights over the
outcomes of a `LinearPopulation` (`conditions`). Each copy of the world follows a condition of its
own, drawn anew at the end of an episode and, for targets, every `segment` steps: the switch counts
as a time limit, after which the value under the old condition is what would have followed. Because
dynamics are shared, nothing but the reward tells conditions apart.

One seed is one learner: it gets the same numbers whichever seeds are trained beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common.divergence import check_finite
from baselines.online.ppo import updates_numba
from baselines.online.ppo.actions import make_actions
from baselines.online.ppo.losses import StepSettings, Transitions, make_step
from baselines.online.ppo.networks import HeadedNetwork
from baselines.online.ppo.policies import Actors
from baselines.online.ppo.settings import anneal
from baselines.online.universal.elites import Elites
from baselines.online.universal.settings import ConditionedConfig
from baselines.online.universal.worlds import ConditionedWorlds
from rmdp_bench.tasks import OnlineTask

FloatArray = npt.NDArray[np.floating[Any]]


class ConditionedLearner:
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
        config: ConditionedConfig,
        total: int,
        seed: int,
        device: str,
        budgets: Sequence[int] = (),
    ) -> None:
        """Make the worlds, the networks and the random generators.

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
        shared: dict[str, Any] = {
            "generators": [torch.Generator().manual_seed(seed)],
            "device": device,
            "n_hidden_layers": 2,
            "inputs_first": True,
        }
        sizes = (1, self.worlds.input_size, config.hidden_size)
        log_std = config.log_std if self.actions.has_log_std else None
        self.actor = HeadedNetwork(
            *sizes, self.actions.n_outputs, head_gain=0.01, log_std=log_std, **shared
        )
        self.critic = HeadedNetwork(*sizes, 1, head_gain=1.0, **shared)
        self.networks = {"actor": self.actor, "critic": self.critic}
        self.compiled = device == "cpu"

    def collect(self) -> Transitions:
        """Act for batch_size transitions."""
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
            outputs[t] = self._evaluate(self.actor, inputs[t])
            actions[t] = self.actions.sample(outputs[t], noise[t], std)
            step = worlds.step(self.actions.for_envs(actions[t]), shaping)
            rewards[t], ended[t] = step.rewards * config.reward_scale, step.ended
            total += step.rewards.sum()
            outcomes.append(step.outcomes)
            if step.cut.size:
                values = self._evaluate(self.critic, step.cut_inputs)[:, 0]
                rewards[t, step.cut] += self.task.gamma * values
        last = worlds.inputs(worlds.observations, worlds.current)
        if config.normalize_observations:
            worlds.statistics.update(raw.reshape(1, -1, raw.shape[-1]))
        self.mean_reward = total / config.batch_size
        self.transitions += config.batch_size
        values = self._evaluate(self.critic, np.concatenate([inputs, last[None]]))[..., 0]
        advantages = self._advantages(rewards, ended, values.astype(np.float64))
        log_probs = self.actions.log_probs_of_samples(
            self._tensor(outputs), log_std, self._tensor(actions), self._tensor(noise)
        )
        spread = advantages.std() + config.advantage_offset
        batch = Transitions(
            observations=self._tensor(inputs).view(1, -1, worlds.input_size),
            actions=self._tensor(actions).view(1, -1, self.actions.width),
            log_probs=log_probs.view(1, -1),
            advantages=self._tensor((advantages - advantages.mean()) / spread).view(1, -1),
            targets=self._tensor(advantages + values[:-1]).view(1, -1, 1),
        )
        elites = worlds.conditions.elites
        if elites is None or config.focus + config.imitation == 0:
            return batch
        elites.record(raw, actions, np.stack(outcomes), ended)
        elites.plan(self.random)
        return self._with_elites(batch, elites, spread) if elites.conditions else batch

    def _with_elites(self, batch: Transitions, elites: Elites, spread: float) -> Transitions:
        """Add steps of the best episodes for planned conditions, as if they were made just now."""
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
        inputs, actions, returns = (self._tensor(rows).unsqueeze(0) for rows in rows_of)
        values = self.critic.evaluate(inputs)
        log_std = self.actor.parameters.get("log_std")
        log_probs, _ = self.actions.log_probs(self.actor.evaluate(inputs), log_std, actions)
        gains = (returns - values[..., 0]).clamp(min=0.0)
        own = Transitions(inputs, actions, log_probs, gains / spread, values + gains.unsqueeze(-1))
        return Transitions(*(torch.cat(pair, 1) for pair in zip(batch, own, strict=True)))

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

    def _evaluate(
        self, network: HeadedNetwork, inputs: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Outputs (..., o) of inputs (..., d + f)."""
        rows = self._tensor(inputs).view(1, -1, inputs.shape[-1])
        outputs: npt.NDArray[np.float32] = network.evaluate(rows).cpu().numpy()
        return outputs.reshape(*inputs.shape[:-1], -1)

    def update(self, batch: Transitions) -> None:
        """Make the epochs of PPO on a batch.

        Raises:
            FloatingPointError: training has diverged.
        """
        config = self.config
        settings = StepSettings(
            self._anneal(config.learning_rate, config.final_learning_rate),
            self._anneal(config.entropy_coefficient, config.final_entropy_coefficient),
            config.clip,
            config.max_gradient_norm,
        )
        n_rows = batch.log_probs.shape[1]
        order = np.stack([self.random.permutation(n_rows) for _ in range(config.n_epochs)])
        order = order.reshape(1, -1, config.minibatch_size)
        networks = (self.actor, self.critic)
        if self.compiled:
            updates_numba.train(*networks, batch, self.actions, order, settings, bounds_sum=True)
        else:
            learns = torch.ones(1, 1, 1, dtype=torch.bool, device=self.device)
            for indices in torch.from_numpy(order[0]).to(self.device):
                rows = Transitions(*(part[:, indices] for part in batch))
                make_step(*networks, rows, self.actions, settings, learns)
        check_finite([network.flat for network in networks], f"{self.transitions:,} transitions")

    def freeze(self, conditions: FloatArray) -> Actors:
        """The actor as it is, under each of the conditions (k, p).

        With its condition fixed, what it reads of that is a constant, which goes into the first
        layer's bias.
        """
        own = {name: a[0].copy() for name, a in self.actor.split(self.actor.flat).items()}
        worlds = self.worlds
        size = worlds.observations.shape[1]
        weight, features = own["hidden_weight"][0], worlds.conditions.features(conditions)
        own["hidden_weight"] = weight[None, :size]
        own["hidden_bias"] = own["hidden_bias"] + features @ weight[size:]
        return Actors.from_network(
            own,
            worlds.statistics,
            0,
            self.config.observation_clip if self.config.normalize_observations else None,
            discrete=not self.actions.has_log_std,
            conditioned=True,
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
        """Restore what `get_state` returned."""
        self.transitions = int(state["transitions"])
        self.random.bit_generator.state = state["random"]
        self.worlds.set_state(arrays)
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and Adam's state of both networks, by name."""
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            parts = {"step": network.steps} | network.tensors
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
            tensors[name] = tensors.pop(f"{name}.parameters")
        return tensors

    def _anneal(self, start: float, end: float, *, linear: bool = False) -> float:
        return anneal(start, end, min(1.0, self.transitions / self.total), linear=linear)
