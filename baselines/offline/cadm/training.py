"""Training of CaDM's networks, all members of all seeds as one batch.

A row of a batch is a transition and a context that must explain it: made from the history before
that step or before one of the M - 1 steps before it. As in the official code, predictions start
from true observations, never from predicted ones.

Departures from the official code, whose rows are all pairs of a step and one of the M that follow
it, in shuffled epochs: the transition is drawn with replacement, all alike, and then the context,
alike among those of its trajectory. No data are held out to stop early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common import streams
from baselines.common.divergence import check_finite
from baselines.offline.cadm.model import ContextConfig, ContextModel
from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import make_generators
from rmdp_bench.results import Interrupted, RunLog

UPDATES_BETWEEN_REPORTS = 20


class Histories:
    """The last H pairs before every transition of logged data.

    Pairs lie agent after agent, each agent's after H rows of zeros, so that a history is H
    consecutive rows:

        0 ... 0  pair 0  pair 1 ... pair T-1  0 ... 0  pair 0 ...
        |-- H -| history of transition 0
           |-- H -----| history of transition 1
    """

    def __init__(self, model: ContextModel, data: LoggedData) -> None:
        """Lays the pairs out; `data` and the model are on the same device."""
        length = model.history_length
        n, device = len(data.observations), data.observations.device
        pairs = model.pairs(data.observations, data.actions, data.next_observations)
        self.firsts = torch.arange(n, device=device) + length * data.agents
        self.positions = torch.arange(n, device=device) - data.starts[data.agents]
        self._pairs = pairs.new_zeros(n + length * data.n_agents, pairs.shape[1])
        self._pairs[self.firsts + length] = pairs
        self._rows = torch.arange(length, device=device)

    def before(self, transitions: Tensor) -> Tensor:
        """Histories (..., H, d + a) of transitions (...), given by their rows in the data."""
        return self._pairs[self.firsts[transitions].unsqueeze(-1) + self._rows]


class Trainer:
    """The networks of R seeds, each an ensemble of E members, in training.

    Attributes:
        n_updates: made so far.
    """

    def __init__(
        self,
        model: ContextModel,
        data: LoggedData,
        config: ContextConfig,
        seeds: Sequence[int],
        ensemble_size: int,
    ) -> None:
        """Draws each member's bootstrap sample; an ensemble of one has the data themselves."""
        self.model, self.data, self.config = model, data, config
        self.histories = Histories(model, data)
        self.shape = (len(seeds), ensemble_size)
        n, self.n_updates = len(data.observations), 0
        self._samples = torch.arange(n, dtype=torch.int32).expand(len(seeds) * ensemble_size, n)
        if ensemble_size > 1:
            generators = _generators(seeds, streams.CaDM.BOOTSTRAP, ensemble_size)
            drawn = [torch.randint(n, (n,), generator=g, dtype=torch.int32) for g in generators]
            self._samples = torch.stack(drawn)
        self._samples = self._samples.to(data.observations.device)
        self._generators = _generators(seeds, streams.CaDM.MINIBATCHES, ensemble_size)
        self._adam = _make_adam(model, config)

    def _draw(self, n_batches: int) -> tuple[Tensor, Tensor]:
        """Transitions (n_batches, K, B), and those before which their histories end."""
        device, size = self.data.observations.device, (n_batches, self.config.batch_size)
        # Each member's numbers are its own: they do not depend on who is trained beside it.
        uniform = torch.stack(
            [torch.rand(2, *size, generator=g, dtype=torch.float64) for g in self._generators], 2
        ).to(device)
        picked = (uniform[0] * self._samples.shape[1]).long()  # (n_batches, K, B)
        members = torch.arange(len(self._samples), device=device)[:, None]
        transitions = self._samples[members, picked].long()
        steps = (self.histories.positions[transitions] + 1).clamp_max(self.config.future_length)
        return transitions, transitions - (uniform[1] * steps).long()

    def update(self, n_updates: int) -> tuple[Tensor, Tensor]:
        """Makes some updates; returns the last forward and backward losses (K,)."""
        data, config = self.data, self.config
        transitions, origins = self._draw(n_updates)
        for rows, history_rows in zip(transitions, origins, strict=True):
            progress = self.n_updates / config.n_updates
            factor = (config.final_learning_rate / config.learning_rate) ** progress
            for group in self._adam.param_groups:
                group["lr"] = config.learning_rate * factor
            forward, backward = self.model.losses(
                self.histories.before(history_rows),
                data.observations[rows],
                data.actions[rows],
                data.next_observations[rows],
            )
            self._adam.zero_grad()
            loss = (forward + config.backward_coefficient * backward).sum()
            torch.autograd.backward(loss)
            self._adam.step()
            self.n_updates += 1
        return forward.detach(), backward.detach()

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and Adam's moments, each (K, ...)."""
        tensors = {}
        for name, parameter in self.model.named_parameters():
            tensors[name] = parameter.data
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{name}.{moment}"] = self._adam.state[parameter][moment]
        return tensors

    def get_state(self) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
        """Everything that training continues from bit for bit: arrays (R, ...), and JSON."""
        tensors = self.tensors()
        tensors["generators"] = torch.stack([g.get_state() for g in self._generators])
        arrays = {
            name: tensor.unflatten(0, self.shape).cpu().numpy().copy()
            for name, tensor in tensors.items()
        }
        return arrays, [{"n_updates": self.n_updates}] * self.shape[0]

    def set_state(
        self, arrays: Mapping[str, NDArray[Any]], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restores what `get_state` returned."""
        self.n_updates = int(states[0]["n_updates"])
        for name, tensor in self.tensors().items():
            tensor.copy_(torch.from_numpy(arrays[name]).flatten(0, 1))
        for generator, state in zip(
            self._generators, torch.from_numpy(arrays["generators"]).flatten(0, 1), strict=True
        ):
            generator.set_state(state.clone())
        for state in self._adam.state.values():
            state["step"].fill_(self.n_updates)


def _generators(seeds: Sequence[int], purpose: int, n_members: int) -> list[torch.Generator]:
    return [g for seed in seeds for g in make_generators(seed, purpose, n_members)]


def _make_adam(model: ContextModel, config: ContextConfig) -> torch.optim.Adam:
    """Adam with each layer's penalty, whose state is there from the start."""
    decay_of = {
        weight: decay
        for network, decays in (
            (model.encoder, config.encoder_weight_decays),
            (model.forward_model, config.weight_decays),
            (model.backward_model, config.weight_decays),
        )
        for weight, decay in zip(network.weights, decays, strict=True)
    }
    groups: dict[float, list[Tensor]] = {}
    for parameter in model.parameters():
        groups.setdefault(decay_of.get(parameter, 0.0), []).append(parameter)
    # Not fused: that rounds the last few numbers of a tensor otherwise, so that a member's would
    # depend on how many members there are.
    adam = torch.optim.Adam(
        [{"params": group, "weight_decay": decay} for decay, group in groups.items()],
        lr=config.learning_rate,
        foreach=True,
    )
    for parameter in model.parameters():
        state = adam.state[parameter]
        state["step"] = torch.zeros(())  # on the CPU, where Adam reads it
        state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
    return adam


def train(trainer: Trainer, log: RunLog) -> None:
    """Trains to the end, from a checkpoint if there is one, with checkpoints on the way.

    Raises:
        FloatingPointError: training has diverged.
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    resumed = log.load_checkpoint()
    if resumed is not None:
        trainer.set_state(*resumed)
    total = trainer.config.n_updates
    while trainer.n_updates < total:
        n_updates = min(UPDATES_BETWEEN_REPORTS, total - trainer.n_updates)
        losses = trainer.update(n_updates)
        check_finite(trainer.tensors().values(), f"{trainer.n_updates:,} updates")
        forward, backward = (x.unflatten(0, trainer.shape).mean(1).tolist() for x in losses)
        scalars = {"loss": forward, "backward_loss": backward}
        log.progress(trainer.n_updates, scalars, total=total)
        if log.checkpoint_due() or trainer.n_updates == total:
            log.save_checkpoint(trainer.n_updates, *trainer.get_state())
            if log.stop_requested:
                raise Interrupted
